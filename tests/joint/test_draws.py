"""Draws of the joint and imputations: they follow the law they come from, and carry the gradients they promise."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import make
from cm2.copulas.sample_dependence import sample_kendall_tau
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture
from tests.joint.laws import CASES, FAMILIES, LINK_NAMES, copula, joint
from tests.joint.laws import mixture as random_mixture

DRAWS = 20_000


def _projections(z: torch.Tensor) -> torch.Tensor:
    """Twelve random directions across both modalities and four products: what a wrong dependence would move."""
    flat = z.flatten(-2)
    directions = torch.randn(flat.shape[-1], 12, generator=torch.Generator().manual_seed(5))
    products = z[:, 0, :2, None] * z[:, 1, None, :2]
    return torch.cat([flat @ directions, products.flatten(1)], 1)


def _views(z: torch.Tensor, law=None) -> np.ndarray:
    """The projections and, given a law, its dependence term, (views, draws), each in order."""
    columns = _projections(z) if law is None else torch.cat([_projections(z), law.dependence(z)[:, None]], 1)
    return np.sort(columns.T.numpy(force=True))


def _same_law(first: np.ndarray, second: np.ndarray) -> float:
    """Smallest Kolmogorov-Smirnov p-value over the views of two samples; Bonferroni-corrected."""
    values = [stats.ks_2samp(a, b).pvalue for a, b in zip(first, second, strict=True)]
    return min(values) * len(values)


@pytest.mark.parametrize(
    ("link", "types", "family"),
    [
        (*case, family)
        for case in CASES
        for family in (("gumbel", "frank", "clayton", "gaussian") if case[0] == "component" else ("gumbel", "frank"))
    ],
)
def test_redrawing_one_modality_given_the_other_keeps_the_law(link, types, family):
    law = joint(family, link, 2, types=types)()
    with torch.no_grad():
        z, fresh = law.sample((DRAWS,)), law.sample((DRAWS,))
        present = torch.tensor([True, False]).expand(DRAWS, 2)
        redrawn = law.impute(z, present)[0]
    torch.testing.assert_close(redrawn[:, 0], z[:, 0], rtol=0, atol=0)
    assert (redrawn[:, 1] != z[:, 1]).all()
    expected = _views(fresh, law)
    check("what is redrawn has the law it was drawn from", _same_law(_views(redrawn, law), expected), above=FALSE_ALARM)
    shuffled = torch.stack([redrawn[:, 0], redrawn[torch.randperm(DRAWS), 1]], 1)
    check("the test sees a dependence that is not there", _same_law(_views(shuffled, law), expected), below=FALSE_ALARM)


@pytest.mark.parametrize("link", LINK_NAMES)
def test_draws_have_the_mixtures_as_margins(link):
    model = joint("gumbel", link, 3, modalities=3)
    z = model().sample((DRAWS,))
    for m, mixture in enumerate(model.marginals):
        u = mixture().rosenblatt(z[:, m]).numpy(force=True)
        check("margins are uniform", [stats.kstest(column, "uniform").pvalue for column in u.T], above=FALSE_ALARM / 9)


def test_draws_have_the_copula_of_the_link():
    law = joint("gumbel", "scalar", 5)()
    _, log_v, _ = law.link._uniforms(law.sample((DRAWS,)))
    found = sample_kendall_tau(log_v.detach())
    check("Kendall's tau of the link's uniforms", found.value, near=0.6, standard_error=found.standard_error)


@pytest.mark.parametrize("link", LINK_NAMES)
def test_three_modalities_with_a_mask_per_stay(link):
    model = joint("clayton", link, 3, modalities=3)
    law = model()
    with torch.no_grad():
        z, fresh = law.sample((DRAWS,)), law.sample((DRAWS,))
        present = torch.rand(DRAWS, 3) < 0.5
        present[torch.arange(DRAWS), torch.randint(3, (DRAWS,))] = True
        redrawn = law.impute(torch.where(present[..., None], z, math.nan), present)[0]
    assert redrawn.isfinite().all()
    p = [_same_law(*(_views(z[:, list(pair)]) for z in (redrawn, fresh))) for pair in ((0, 1), (1, 2), (0, 2))]
    check("what is redrawn has the law it was drawn from", p, above=FALSE_ALARM / 3)


@pytest.mark.parametrize("link", LINK_NAMES)
def test_marginal_imputation_ignores_the_observed_modality(link):
    law = joint("gumbel", link, 3)()
    with torch.no_grad():
        z = law.sample((DRAWS,))
        drawn = law.impute(z, torch.tensor([True, False]).expand(DRAWS, 2), how="marginal")[0]
        independent = torch.stack([z[:, 0], law.sample((DRAWS,))[:, 1]], 1)
    check("marginal draws are independent of what is observed", _same_law(_views(drawn), _views(independent)), above=FALSE_ALARM)


@pytest.mark.parametrize("how", ["conditional", "marginal"])
@pytest.mark.parametrize(("link", "types"), CASES)
def test_gradients_of_draws_reach_what_they_promise(link, types, how):
    model = joint("gumbel", link, 3, types=types)
    z = model().sample((8,)).requires_grad_()
    present = torch.tensor([[True, False], [False, True]] * 4)
    draws = model().impute(z, present, 2, how)
    draws[:, ~present].square().sum().backward()
    assert all(m.mean.grad.abs().sum() > 0 and m.raw_scale.grad.abs().sum() > 0 for m in model.marginals)
    if how == "conditional":
        assert sum(p.grad.abs().sum() for p in model.copula.parameters()) > 0
        assert z.grad[present].abs().sum() > 0
    assert (z.grad is None) or (z.grad[~present] == 0).all()
    if link in ("scalar", "dimension") or types == "none" or how == "marginal":
        assert all(m.logits.grad.abs().sum() > 0 for m in model.marginals)


@pytest.mark.parametrize("link", LINK_NAMES)
def test_gradient_of_a_conditional_expectation(link):
    """d/dalpha and d/dmean of E[sum Z_2 | z_1] against central differences on the same uniforms, which have no noise of their own.

    One component, so that the component link too is pathwise in everything.
    """
    alpha = torch.tensor(2.0)
    marginals = [GaussianMixture.from_parameters([1.0], torch.tensor([[0.3, -0.2]]), torch.tensor([[0.8, 1.2]])) for _ in range(2)]
    model = CopulaJoint(make("gumbel", 2, alpha=alpha.item()), marginals, link)
    z, present = torch.tensor([[[1.0, 0.5], [0.0, 0.0]]]), torch.tensor([[True, False]])

    def expectation(parameter, change, seed, draws=20_000):
        with torch.no_grad():
            parameter.add_(change)
            torch.manual_seed(seed)  # common random numbers
            value = model(validate_args=False).impute(z, present, draws)[:, 0, 1].sum(-1)
            parameter.sub_(change)
        return value

    (raw,) = model.copula.parameters()
    for parameter, change in ((raw, torch.tensor(1e-3)), (marginals[0].mean, 1e-3 * torch.tensor([[1.0, 0.0]]))):
        differences = (expectation(parameter, change, 1) - expectation(parameter, -change, 1)) / 2e-3
        torch.manual_seed(1)
        value = model(validate_args=False).impute(z, present, 20_000)[:, 0, 1].sum(-1).mean()
        (gradient,) = torch.autograd.grad(value, parameter)
        assert gradient.flatten()[0].item() == pytest.approx(differences.mean().item(), rel=2e-2, abs=1e-3)


def test_seed_decides_the_draws():
    law = joint("gumbel", "component", 3)()
    torch.manual_seed(3)
    first = law.sample((4,))
    torch.manual_seed(3)
    np.testing.assert_array_equal(first.numpy(), law.sample((4,)).numpy())


class _Waits(TorchDispatchMode):
    """Names of the operations that would wait for a device, or whose result's shape depends on values."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        indexed = "aten.index." in name and any(i is not None and i.dtype == torch.bool for i in args[1])
        if indexed or any(part in name for part in ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "masked_select", "equal.")):
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("link", "types"), CASES)
def test_training_path_never_waits_for_the_device(link, types, family, monkeypatch):
    # a vine reads masks that lie on the host; and few components keep it below the number of nodes where formulas look at host values
    monkeypatch.setattr("cm2.copulas.vine.patterns._reads", lambda mask, dim: False)
    model = joint(family, link, 6, modalities=3, types=types, components=2 if family == "vine" else 3)
    z, present = torch.randn(5, 3, 6, requires_grad=True), torch.tensor([[True, False, True], [True, True, False]] * 2 + [[True] * 3])
    with _Waits() as waits:
        law = model(validate_args=False)
        marginal, dependence = law.terms(z, present)
        drawn = law.impute(z, present, 2) + law.impute(z, present, 2, how="marginal") + law.rsample((2, 5))
        (marginal.sum() + dependence.sum() + drawn.sum()).backward()
    assert waits.seen == []


def test_vine_links_and_what_each_takes():
    """A shared vine under every link; one vine, or one set of parameters, per coordinate under "dimension" alone."""
    z, present = torch.randn(5, 3, 4), torch.rand(5, 3) < 0.6
    present[:, 2] |= ~present.any(-1)
    present[0] = torch.tensor([True, False, True])  # what integrates a hidden coordinate out
    marginals = [random_mixture(4, seed=m) for m in range(3)]
    several = [copula("vine", 3) for _ in range(4)]
    alpha = torch.tensor([1.2, 1.5, 2.0, 3.0])
    pairs = lambda a: [[make("gumbel", 2, alpha=a), make("clayton", 2, alpha=1.0)], [make("frank", 2, alpha=2.0)]]
    per_coordinate = make("vine", 3, pair_copulas=pairs(alpha))
    for vines in (several, per_coordinate):
        law = CopulaJoint(vines, marginals, "dimension")()
        value = law.log_prob(z, present)
        assert value.shape == (5,) and value.isfinite().all()
        assert law.impute(z, present, 3).shape == (3, 5, 3, 4)
        assert law.rsample((2,)).shape == (2, 3, 4)
        for link in ("component", "scalar"):
            with pytest.raises(ValueError, match='link="dimension"'):
                CopulaJoint(vines, marginals, link)
    alone = [make("vine", 3, pair_copulas=pairs(a)) for a in alpha]
    expected = CopulaJoint(alone, marginals, "dimension")().log_prob(z, present)
    torch.testing.assert_close(CopulaJoint(per_coordinate, marginals, "dimension")().log_prob(z, present), expected, rtol=1e-7, atol=1e-7)
    with pytest.raises(ValueError, match=r"copula of dim \[3\] for 4 marginals"):
        CopulaJoint(several[0], [*marginals, random_mixture(4, seed=4)], "component")
