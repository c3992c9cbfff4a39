"""The joint's density: it integrates to one, and its margins are exactly what the mask says."""

import math
from copy import deepcopy
from functools import cache

import pytest
import torch

from cm2.book.checks import check
from cm2.copulas import make
from cm2.joint import CopulaJoint
from tests.joint.laws import CASES, FAMILIES, LINK_NAMES, POLE, copula, joint, mixture


def _grid(mixtures, n=201):
    """Nodes that reach nine standard deviations beyond every component."""
    nodes = []
    for m in mixtures:
        law = m()
        low, high = (law.mean - 9 * law.scale).min().item(), (law.mean + 9 * law.scale).max().item()
        nodes.append(torch.linspace(low, high, n))
    return nodes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("link", "types"), CASES)
def test_integrates_to_one_by_quadrature(link, types, family):
    model = joint(family, link, 1, types=types)
    x, y = _grid(model.marginals)
    z = torch.stack(torch.meshgrid(x, y, indexing="ij"), -1)[..., None]
    density = model(validate_args=False).log_prob(z).exp().detach()
    total = torch.trapezoid(torch.trapezoid(density, y, dim=1), x).item()
    assert total == pytest.approx(1, abs=5e-3 if family in POLE else 1e-6)


@cache
def _proposal(link, rho):
    """A sample of a mild law, and its log density: the same for every family."""
    law = joint("gaussian", link, 4, tie=make("gaussian", 2, rho=rho))()
    with torch.no_grad():
        z = law.sample((10_000,))
        return z, law.log_prob(z)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("link", "types"), CASES)
def test_integrates_to_one_in_four_dimensions(link, types, family):
    """Importance sampling from a milder law of the same link: the mean of f / q is 1."""
    model = joint(family, link, 4, types=types)
    z, log_q = _proposal(link, 0.35 if family != "independence" else 0.0)
    with torch.no_grad():
        ratio = (model().log_prob(z) - log_q).exp()
    error = (ratio.std() / math.sqrt(len(z))).item()
    assert error < 0.1
    check("the mean of f / q", ratio.mean(), near=1, standard_error=error, within=1e-9)


@pytest.mark.parametrize("family", ["gumbel", "frank", "student", "mixture", "vine"])
@pytest.mark.parametrize(("link", "types"), CASES)
def test_masked_density_is_the_integral_over_the_absent_modality(link, types, family):
    model = joint(family, link, 1, modalities=3, types=types)
    law = model(validate_args=False)
    (absent,) = _grid([model.marginals[1]], 2001)
    z = torch.tensor([[0.3, -0.8], [1.7, 0.2]])[:, None, :].expand(2, len(absent), 2)
    full = torch.stack([z[..., 0], absent.expand(2, -1), z[..., 1]], -1)[..., None]
    integral = torch.trapezoid(law.log_prob(full).exp(), absent)
    present = torch.tensor([[True, False, True]] * 2)
    point = full[:, 0].detach().clone()
    point[:, 1] = math.nan
    torch.testing.assert_close(law.log_prob(point, present).exp(), integral, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("link", "types"), CASES)
def test_alone_a_modality_has_its_mixture(link, types, family):
    law = joint(family, link, 5, modalities=3, types=types)()
    z = torch.randn(7, 3, 5)
    for m in range(3):
        present = torch.zeros(7, 3, dtype=torch.bool)
        present[:, m] = True
        torch.testing.assert_close(law.log_prob(z, present), law.marginal_log_prob(z)[:, m])
        torch.testing.assert_close(law.dependence(z, present), torch.zeros(7))


@pytest.mark.parametrize(("link", "types"), CASES)
def test_terms_add_up_and_no_mask_means_all_present(link, types):
    law = joint("gumbel", link, 4, modalities=3, types=types)()
    z = torch.randn(6, 3, 4)
    marginal, dependence = law.terms(z)
    torch.testing.assert_close(law.log_prob(z), marginal.sum(-1) + dependence)
    torch.testing.assert_close(marginal, law.marginal_log_prob(z))
    torch.testing.assert_close(law.log_prob(z), law.log_prob(z, torch.ones(6, 3, dtype=torch.bool)))


def test_component_link_is_the_printed_sum():
    """Against a loop over the tuples of labels, term by term."""
    model = joint("frank", "component", 3, modalities=3, types="joint")
    law, z = model(), torch.randn(4, 3, 3)
    mixed, copula_law = law.link.mixture, model.copula()
    log_n, v = mixed.component_log_prob(z), mixed.component_tails(z)[0].exp()
    table = law.link.excess + sum(mixed.log_weights[m].view([-1 if a == m else 1 for a in range(3)]) for m in range(3))
    assert table.exp().sum().item() == pytest.approx(1)
    total = torch.zeros(4)
    for labels in torch.cartesian_prod(*[torch.arange(3)] * 3).tolist():
        u = torch.stack([v[:, m, k] for m, k in enumerate(labels)], -1)
        parts = [log_n[:, m, k] for m, k in enumerate(labels)]
        total = total + (table[tuple(labels)] + sum(parts) + copula_law.log_prob(u)).exp()
    torch.testing.assert_close(law.log_prob(z), total.log())


def test_joint_types_keep_the_margins_of_the_table():
    law = joint("gumbel", "component", 2, modalities=3, types="joint")()
    mixed = law.link.mixture
    table = (law.link.excess + sum(mixed.log_weights[m].view([-1 if a == m else 1 for a in range(3)]) for m in range(3))).exp()
    for m in range(3):
        torch.testing.assert_close(table.sum([a for a in range(3) if a != m]), mixed.log_weights[m].exp())


def test_absent_rows_are_never_read():
    for link, types in CASES:
        model = joint("gumbel", link, 3, modalities=3, types=types)
        present = torch.tensor([[True, False, True], [True, True, False]])
        z = torch.randn(2, 3, 3)
        results = []
        for filler in (math.nan, 1e30, 0.0):
            filled = torch.where(present[..., None], z, filler).requires_grad_()
            value = model().log_prob(filled, present)
            (gradient,) = torch.autograd.grad(value.sum(), filled)
            assert (gradient[~present] == 0).all() and gradient[present].isfinite().all()
            results.append(value.detach())
        torch.testing.assert_close(results[0], results[1])
        torch.testing.assert_close(results[0], results[2])


@pytest.mark.parametrize(("link", "types"), CASES)
def test_gradcheck(link, types):
    model = joint("gumbel", link, 3, types=types)
    z = model().sample((3,)).requires_grad_()
    names = [name for name, _ in model.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in model.parameters()]

    def density(z, *values):
        return torch.func.functional_call(_LogProb(model), {f"joint.{n}": v for n, v in zip(names, values, strict=True)}, (z,))

    torch.autograd.gradcheck(density, (z, *values), eps=1e-6, atol=1e-5, rtol=1e-3)


class _LogProb(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.joint = model

    def forward(self, z):
        return self.joint(validate_args=False).log_prob(z)


def test_dimension_link_with_one_copula_per_coordinate():
    alphas = [1.2, 2.0, 3.0]
    marginals = [mixture(3, seed=m) for m in range(2)]
    z = torch.randn(5, 2, 3)
    present = torch.tensor([[True, True]] * 4 + [[True, False]])
    several = CopulaJoint([make("gumbel", 2, alpha=a) for a in alphas], marginals, "dimension")
    batched = CopulaJoint(make("gumbel", 2, alpha=torch.tensor(alphas)), marginals, "dimension")
    torch.testing.assert_close(several().log_prob(z, present), batched().log_prob(z, present))
    torch.testing.assert_close(several().log_prob(z), batched().log_prob(z))
    assert several().rsample((4,)).shape == batched().rsample((4,)).shape == (4, 2, 3)


def test_weights_predicted_per_stay():
    model = joint("gumbel", "component", 3)
    log_weights, z = torch.randn(6, 2, 3).log_softmax(-1), torch.randn(6, 2, 3)
    law = model(log_weights=log_weights)
    torch.testing.assert_close(law.log_prob(z)[4], model(log_weights=log_weights[4]).log_prob(z[4]))
    assert law.rsample((5,)).shape == (5, 6, 2, 3)
    assert law.impute(z, torch.tensor([[True, False]] * 6), 4, how="marginal").shape == (4, 6, 2, 3)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "independence"])
@pytest.mark.parametrize("link", LINK_NAMES)
def test_far_embeddings_in_single_precision(link, family):
    """Unit vectors against scales of 0.02, the released code's start: every tail underflows, value and gradients stay finite."""
    torch.set_default_dtype(torch.float32)
    model = CopulaJoint(copula(family).float(), [mixture(256, seed=m).float() for m in range(2)], link)
    with torch.no_grad():
        for m in model.marginals:
            m.raw_scale.fill_(-4.0)
            m.mean.mul_(0.01)
    z = torch.nn.functional.normalize(torch.randn(8, 2, 256), dim=-1).requires_grad_()
    value = model().log_prob(z)
    value.sum().backward()
    assert value.isfinite().all() and z.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    exact = deepcopy(model).double()().log_prob(z.double())
    torch.testing.assert_close(value.double(), exact, rtol=2e-4, atol=0.1)


def test_five_modalities_six_components():
    model = CopulaJoint(make("gumbel", 5, alpha=1.5), [mixture(4, 6, seed=m) for m in range(5)], types="joint")
    present = torch.rand(4, 5) < 0.7
    present[:, 0] = True
    z = torch.randn(4, 5, 4)
    assert model().log_prob(z, present).isfinite().all()
    assert model().impute(z, present, 3).shape == (3, 4, 5, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: joint("gumbel", "copula", 3), "unknown link"),
        (lambda: joint("gumbel", "component", 3, types="shared"), "unknown types"),
        (lambda: joint("gumbel", "scalar", 3, types="joint"), "component"),
        (lambda: CopulaJoint(copula("gumbel"), [mixture(3), mixture(4)]), "project the embeddings"),
        (lambda: CopulaJoint(copula("gumbel"), [mixture(3)]), "at least two"),
        (lambda: CopulaJoint(copula("gumbel", 3), [mixture(3), mixture(3)]), "dim=2"),
        (lambda: CopulaJoint([copula("gumbel")] * 2, [mixture(3), mixture(3)], "dimension"), "one for each"),
        (lambda: CopulaJoint(make("gumbel", 2, alpha=torch.tensor([1.5, 2.0])), [mixture(3), mixture(3)]), "take several"),
        (lambda: joint("gumbel", "component", 3, types="joint")(log_weights=torch.zeros(2, 3)), "independent"),
        (lambda: joint("gumbel", "component", 3)().log_prob(torch.zeros(4, 2, 5)), r"\(\.\.\., 2, 3\)"),
        (lambda: joint("gumbel", "component", 3)().log_prob(torch.full((4, 2, 3), math.nan)), "NaN"),
        (lambda: joint("gumbel", "component", 3)().log_prob(torch.zeros(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool)), "no modality"),
        (lambda: joint("gumbel", "component", 3)().log_prob(torch.zeros(4, 2, 3), torch.ones(4, 2)), "expected bool"),
        (lambda: joint("gumbel", "component", 3)().impute(torch.zeros(4, 2, 3), torch.ones(4, 2).bool(), how="mean"), "unknown how"),
        (lambda: joint("gumbel", "component", 3)().impute(torch.zeros(4, 2, 3), torch.ones(4, 2).bool(), 0), "n_draws"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
