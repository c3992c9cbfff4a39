"""The learnable vine: gradients, batches, state, dtype, fit, errors."""

import pytest
import torch

from cm2.book.checks import check
from cm2.copulas import FAMILIES, Vine, VineDistribution, VineStructure, make, select
from cm2.copulas.inference.estimation import check_sample
from tests.copulas.conftest import check_slopes

REGULAR = VineStructure(4, [[(0, 1), (1, 2), (1, 3)], [(0, 2, [1]), (2, 3, [1])], [(0, 3, [1, 2])]])


def pairs(scale=1.0):
    """Pair copulas of every family and rotation, as a vine of four takes them."""
    gumbel = 1 + torch.as_tensor(scale)
    return [
        [make("gumbel", 2, alpha=gumbel), make("student", 2, rho=-0.5, nu=4.0), make("joe", 2, alpha=1.6, rotation=90)],
        [make("frank", 2, alpha=3.0), make("clayton", 2, alpha=0.8, rotation=180)],
        [make("mixture", 2, copulas=[make("gaussian", 2, rho=0.5), make("clayton", 2, alpha=1.0, rotation=270)], weights=[0.6, 0.4])],
    ]


def vine(structure="d", scale=1.0):
    return make("vine", 4, structure=structure, pair_copulas=pairs(scale))


def points(n):
    return torch.rand(n, 4) * 0.9 + 0.05


GRADIENTS = [*((each, "log_prob") for each in ("c", "d", REGULAR)), (REGULAR, "rosenblatt"), ("d", "inverse_rosenblatt")]


@pytest.mark.parametrize(("structure", "method"), GRADIENTS)
def test_gradients_in_every_pair_parameter_and_the_points(structure, method):
    module, u = vine(structure), points(3)
    names, values = zip(*module.named_parameters(), strict=True)
    assert len(names) == 9

    def value(u, *values):
        return getattr(torch.func.functional_call(module, dict(zip(names, values, strict=True))), method)(u)

    check_slopes(value, u, *(each.expand(3, *each.shape) for each in values), atol=1e-5 if method != "log_prob" else 1e-6)


def test_gradients_of_draws():
    module = vine(REGULAR)

    def mean():
        torch.manual_seed(1)
        u = module(validate_args=False).rsample((300,))
        return (u.prod(-1) + u[:, 0] * u[:, 3]).mean()

    grads = torch.autograd.grad(mean(), [*module.parameters()])
    with torch.no_grad():
        for own, grad in zip(module.parameters(), grads, strict=True):
            own += 1e-5
            above = mean()
            own -= 2e-5
            below = mean()
            own += 1e-5
            assert grad.sum().item() == pytest.approx((above - below).item() / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("structure", ["c", "d", REGULAR])
def test_inverse_rosenblatt_undoes_rosenblatt(structure):
    law, u = vine(structure)(), points(200)
    torch.testing.assert_close(law.inverse_rosenblatt(law.rosenblatt(u)), u, rtol=0, atol=1e-9)
    first = law.structure.order[0]
    torch.testing.assert_close(law.rosenblatt(u)[:, first], u[:, first])
    with pytest.raises(ValueError, match=r"exactly 1; it must lie in \(0, 1\)"):
        law.inverse_rosenblatt(torch.ones(4))


def test_batched_parameters_equal_a_loop():
    scales = torch.tensor([0.3, 1.0, 2.5])
    law, u = vine("d", scales)(), points(6)[:, None].expand(6, 3, 4)
    assert law.batch_shape == (3,)
    present = (torch.rand(6, 4) < 0.7)[:, None].expand(6, 3, 4)
    methods = (lambda law, u, p: law.log_prob(u), lambda law, u, p: law.log_prob(u, p), lambda law, u, p: law.rosenblatt(u))
    for method in methods:
        whole = method(law, u, present)
        for k, scale in enumerate(scales):
            torch.testing.assert_close(whole[:, k], method(vine("d", scale)(), u[:, k], present[:, k]), rtol=0, atol=1e-10)
    assert law.sample((5,)).shape == law.rsample((5,)).shape == (5, 3, 4)


def test_state_goes_there_and_back_and_belongs_to_the_structure():
    module, other = vine(REGULAR), vine(REGULAR, 0.2)
    other.load_state_dict(module.state_dict())
    u = points(20)
    assert torch.equal(other().log_prob(u), module().log_prob(u))
    with pytest.raises(ValueError, match=r"the state is that of a vine with the matrix \[\[.*make it with the structure of the vine"):
        vine("c").load_state_dict(module.state_dict())
    turned = VineStructure(4, [[(1, 0), *REGULAR.trees[0][1:]], *REGULAR.trees[1:]], REGULAR.order)
    assert (turned.matrix == REGULAR.matrix).all()
    with pytest.raises(ValueError, match=r"a vine with the edges, in the order of the pair copulas,"):
        vine(turned).load_state_dict(module.state_dict())


def test_dtype_follows_the_module():
    module, u = vine(), points(50)
    expected = module().log_prob(u)
    law = module.to(torch.float32)()
    assert law.log_prob(u.float()).dtype == law.sample((2,)).dtype == law.kendall_tau.dtype == torch.float32
    torch.testing.assert_close(law.log_prob(u.float()).double(), expected, rtol=1e-3, atol=1e-3)
    empty = make("vine", 3, truncation=0).to(torch.float32)()
    assert empty.sample((2,)).dtype == torch.float32
    assert (empty.log_prob(points(3)[:, :3]) == 0).all()


@pytest.mark.parametrize("structure", ["d", "c", REGULAR])
def test_edges_turned_around(structure):
    """Turning every edge around, with the flipped copula on it, changes nothing."""
    law = vine(structure)()
    turned = VineStructure(4, [[(e.second, e.first, e.given) for e in tree] for tree in law.structure.trees], law.structure.order)
    other, u = VineDistribution(turned, [each.flipped for each in law.laws]), points(30)
    torch.testing.assert_close(other.log_prob(u), law.log_prob(u), rtol=0, atol=1e-10)
    torch.testing.assert_close(other.rosenblatt(u), law.rosenblatt(u), rtol=0, atol=1e-10)


def test_the_start_and_the_pair_of_two():
    assert FAMILIES["vine"] is Vine
    law = make("vine", 3)()
    assert law.kendall_tau[0, 1] > 0.05
    joe, u = make("joe", 2, alpha=2.0, rotation=90), points(9)
    two, pair = make("vine", 2, pair_copulas=[[joe]])(), joe()
    torch.testing.assert_close(two.log_prob(u[:, :2]), pair.log_prob(u[:, :2]))
    torch.testing.assert_close(two.h(u[:, :2]), pair.h(u[:, :2]))
    torch.testing.assert_close(two.h_inverse(u[:, 0], u[:, 1]), pair.h_inverse(u[:, 0], u[:, 1]))
    assert len(make("vine", 4, pair_copulas=pairs()[:1]).structure.trees) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": "e"}, r'structure is \'e\'; give "c", "d", a VineStructure or an R-vine matrix'),
        ({"structure": VineStructure.d_vine(range(3))}, r"structure has 3 coordinates for a vine of dim 4"),
        ({"truncation": 5}, r"truncation is 5; a vine of 4 coordinates has 0 to 3 trees"),
        ({"pair_copulas": [[make("gumbel", 2)]]}, r"trees of \[1\] copulas given, this structure has trees of \[3\] edges"),
        ({"pair_copulas": [[make("gumbel", 2)] * 2 + [make("gumbel", 3)]]}, r"copula of edge \(2, 3\) has dim 3; pair copulas have dim 2"),
        ({"pair_copulas": [[make("gumbel", 2)] * 2 + ["gumbel"]]}, r"copula of edge \(2, 3\) is a str; give modules"),
        ({"pair_family": "gumble"}, r"unknown pair_family 'gumble'; choose one of clayton, frank"),
        ({"alpha": 2.0}, r"no parameter 'alpha'; it takes structure, pair_copulas, truncation"),
        ({"kendall_tau": 0.5}, r"no parameter that Kendall's tau would determine"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make("vine", 4, **options)
    with pytest.raises(ValueError, match=r"1 pair copulas given for a vine of 6 edges"):
        VineDistribution(REGULAR, [make("gumbel", 2)()])


def test_fit_is_the_joint_maximum_beyond_the_sequential_estimate():
    truth = make("vine", 3, pair_copulas=[[make("gumbel", 2, alpha=2.0), make("clayton", 2, alpha=1.5)], [make("frank", 2, alpha=3.0)]])
    u = truth().sample((1500,))
    module = make("vine", 3, pair_copulas=[[make("gumbel", 2), make("clayton", 2)], [make("frank", 2)]])
    module._start_at(check_sample(u, 3, 3))
    sequential = module().log_prob(u).sum().item()
    report = module.fit(u)
    assert report.n_parameters == 3 and report.converged
    assert report.log_likelihood == pytest.approx(module().log_prob(u).sum().item(), abs=1e-6)
    assert report.log_likelihood > max(sequential, truth().log_prob(u).sum().item())
    module().log_prob(u).mean().backward()
    assert all(p.grad.abs() < 1e-5 for p in module.parameters())
    for found, error, exact in zip(report.parameters.values(), report.standard_errors.values(), (2.0, 1.5, 3.0), strict=True):
        check("the estimate", found, near=exact, standard_error=error)
        assert error < 0.25
    with pytest.raises(ValueError, match="no parameter that Kendall's tau would determine"):
        module.fit(u, method="kendall_tau")


def test_a_vine_beside_other_families():
    u = make("vine", 3, pair_copulas=[[make("clayton", 2, alpha=2.0)] * 2])().sample((400,))
    ranking = select(u, ["gaussian", make("vine", 3, pair_copulas=[[make("clayton", 2), make("clayton", 2)]])], criterion="bic")
    assert ranking.candidates[0].name == "vine"
