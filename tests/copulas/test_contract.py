"""One contract for every family and dimension."""

import copy

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas.sample_dependence import sample_kendall_tau
from tests.copulas.conftest import ELLIPTICAL, FAMILIES, LEARNABLE, MIXED, ROTATED, make, strong, unfitted, vine

BOTH = [(name, dim) for name in FAMILIES + MIXED for dim in (2, 3, 5)] + [(name, 2) for name in ROTATED] + [("vine", d) for d in (2, 3, 4)]
every_law = pytest.mark.parametrize(("name", "dim"), BOTH)
every_pair = pytest.mark.parametrize("name", [*FAMILIES, *ROTATED, *MIXED, "vine"])
every_learnable = pytest.mark.parametrize(("name", "dim"), [pair for pair in BOTH if pair[0] != "independence"])


def points(n, dim):
    return torch.rand(n, dim) * 0.96 + 0.02


def masks(n, dim):
    return torch.rand(n, dim) < 0.5


@every_law
def test_density_integrates_to_one(name, dim):
    law = strong(name, dim)()
    if dim == 2:
        # trapezoids in u = logistic(x): the corners, where densities are unbounded, are reached smoothly
        x = torch.linspace(-35, 35, 501)
        log_u, log1m_u = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
        pair = lambda t: torch.stack(torch.meshgrid(t, t, indexing="ij"), -1)
        density = torch.exp(law.log_prob_tails(pair(log_u), pair(log1m_u)) + pair(log_u + log1m_u).sum(-1))
        assert (density.sum() * (x[1] - x[0]) ** 2).item() == pytest.approx(1, abs=1e-6)
    else:
        # importance sampling from a flatter member of the family: weights of finite variance
        near = make(name, dim)() if name == "independence" else _flatter(name, dim)
        u = near.sample((40_000,))
        ratio = torch.exp(law.log_prob(u) - near.log_prob(u))
        check("the mean of the density ratio", ratio.mean(), near=1, standard_error=ratio.std() / 200, within=1e-12)
        assert ratio.std() / 200 < 0.05


def _flatter(name, dim):
    if name == "vine":
        return vine(dim, gumbel={"alpha": 1.7}, clayton={"alpha": 0.7}, frank={"alpha": 2.0}, student={"rho": 0.5, "nu": 2.5})()
    if name == "mixture":
        return make(name, dim, copulas=[strong("frank", dim), strong("student", dim)], weights=[0.3, 0.7])()
    if name in ELLIPTICAL:
        return make(name, dim, correlation=0.3 + 0.7 * torch.eye(dim), **{key: 0.6 * value for key, value in ELLIPTICAL[name].items()})()
    return make(name, dim, alpha={"gumbel": 2.2, "frank": 4.0, "clayton": 1.2, "joe": 2.4}[name])()


@every_law
@pytest.mark.parametrize("draw", ["sample", "rsample"])
def test_margins_are_uniform(name, dim, draw):
    u = getattr(strong(name, dim)(), draw)((8000,)).detach()
    assert u.shape == (8000, dim)
    check("margins are uniform", [stats.kstest(column, "uniform").pvalue for column in u.T.numpy()], above=FALSE_ALARM / dim)


@every_pair
def test_mixed_derivative_of_the_cdf_is_the_density(name):
    # elliptical copulas and vines in more dimensions have their CDF by quadrature
    for dim in (2, 3) if name in FAMILIES and name not in ELLIPTICAL else (2,):
        law = strong(name, dim)()
        u = points(50, dim).requires_grad_()
        value = law.cdf(u)
        for j in range(dim):
            (grad,) = torch.autograd.grad(value.sum(), u, create_graph=True)
            value = grad[:, j]
        torch.testing.assert_close(value, torch.exp(law.log_prob(u)), rtol=1e-7, atol=1e-9)


def test_mixed_derivative_of_the_trivariate_gaussian_cdf():
    law = strong("gaussian", 3)()
    low, high = torch.tensor([0.2, 0.3, 0.25]), torch.tensor([0.7, 0.6, 0.8])
    corners = torch.tensor([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    volume = (law.cdf(torch.where(corners == 1, high, low)) * (-1.0) ** (corners.sum(-1) + 1)).sum()
    u = low + (high - low) * torch.quasirandom.SobolEngine(3, scramble=True, seed=1).draw(2**14).double()
    expected = (high - low).prod() * torch.exp(law.log_prob(u.clamp(1e-9, 1 - 1e-9))).mean()
    assert volume.item() == pytest.approx(expected.item(), abs=2e-4)


@every_law
def test_cdf_of_samples(name, dim):
    law = strong(name, dim)()
    u = law.sample((20_000,))
    at = torch.tensor([0.3, 0.6, 0.8])[:, None].expand(3, dim)
    counts = (u[:, None] <= at).all(-1).sum(0)
    p = [stats.binomtest(k, len(u), e).pvalue for k, e in zip(counts.tolist(), law.cdf(at).tolist(), strict=True)]
    check("points below are as many as the cdf says", p, above=FALSE_ALARM / 3)


@every_law
def test_cdf_on_the_boundary_and_between_the_frechet_hoeffding_bounds(name, dim):
    law = strong(name, dim)()
    u = torch.rand(12, dim)
    value = law.cdf(u)
    assert (value <= u.min(-1).values + 1e-9).all()
    assert (value >= (u.sum(-1) - dim + 1).clamp_min(0) - 1e-9).all()
    assert law.cdf(torch.ones(dim)).item() == pytest.approx(1)
    edge = torch.full((dim,), 0.5)
    edge[0] = 0
    assert law.cdf(edge).item() == 0
    alone = torch.ones(dim)
    alone[-1] = 0.37
    assert law.cdf(alone).item() == pytest.approx(0.37, abs=1e-6)


@every_pair
def test_h_is_the_derivative_of_the_cdf_and_has_an_inverse(name):
    law = strong(name, 2)()
    u = points(200, 2).requires_grad_()
    (grad,) = torch.autograd.grad(law.cdf(u).sum(), u)
    h = law.h(u)
    torch.testing.assert_close(h, grad[:, 1], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(law.h_inverse(h.detach(), u[:, 1]), u[:, 0], rtol=1e-9, atol=1e-11)


@every_law
def test_kendall_tau_of_samples(name, dim):
    law = strong(name, dim)()
    tau = law.kendall_tau if dim == 2 or name not in [*ELLIPTICAL, *MIXED, "vine"] else law.kendall_tau[0, 1]
    assert tau.shape == ()
    found = sample_kendall_tau(law.sample((60_000,))[:, :2])
    check("Kendall's tau of a sample", found.value, near=tau, standard_error=found.standard_error)


@every_pair
def test_tail_dependence_is_the_limit_of_the_diagonal(name):
    law = strong(name, 2)()
    lower, upper = law.tail_dependence
    t = torch.tensor(1e-60 if name in ("gumbel", "vine") else 1e-6)  # the vine of dim 2 has a Gumbel pair
    diagonal = law.cdf(torch.stack([t, t])) / t
    t = torch.tensor(1e-6)
    rest = 2 - (1 - law.cdf(torch.stack([1 - t, 1 - t]))) / t
    slack = (
        0.02 if name.startswith("gaussian") or name in ("gumbel 180", "mixture") else 1e-3
    )  # where the limit is reached only at a power of t
    assert diagonal.item() == pytest.approx(lower.item(), abs=slack)
    assert rest.item() == pytest.approx(upper.item(), abs=slack)


@every_law
def test_masks_equal_marginalise_and_ignore_what_is_absent(name, dim):
    module = strong(name, dim)
    law = module()
    u = points(200, dim)
    for pattern in ([True, False] * 3, [False, True, True, True, False], [True] * 5, [False] * 5):
        present = torch.tensor(pattern[:dim])
        given = torch.where(present, u, torch.nan).requires_grad_()
        value = law.log_prob(given, present.expand(200, dim))
        if present.any():
            torch.testing.assert_close(value, law.marginalise(present).log_prob(u[:, present]), rtol=1e-9, atol=1e-10)
        if present.sum() < 2:
            assert (value == 0).all()
        (grad,) = torch.autograd.grad(value.sum(), given, allow_unused=True)
        if grad is not None:
            assert (grad[:, ~present] == 0).all()
            assert grad.isfinite().all()


@every_learnable
def test_marginalise_is_integrating_out(name, dim):
    law = strong(name, dim)()
    n, given = 20_000, torch.tensor([0.3, 0.6, 0.45, 0.7, 0.5])[:dim]
    present = torch.ones(dim, dtype=torch.bool)
    present[-1] = False
    u = given.repeat(n, 1)
    u[:, -1] = (torch.arange(n) + 0.5) / n
    integral = torch.exp(law.log_prob(u)).mean()
    assert integral.item() == pytest.approx(torch.exp(law.marginalise(present).log_prob(given[:-1])).item(), rel=2e-3)


@every_law
def test_conditional_draws_reproduce_the_law(name, dim):
    law = strong(name, dim)()
    n = 4000
    u, fresh = law.sample((n,)), law.sample((n,)).numpy()
    present = masks(n, dim)
    (drawn,) = law.conditional_sample(torch.where(present, u, torch.nan), present, 1)
    assert drawn.shape == (n, dim)
    assert torch.equal(drawn[present], u[present])
    first, second = law.conditional_sample(u[:10], present[:10], 2)
    assert torch.equal(first == second, present[:10])
    draws = drawn.detach().numpy()
    assert ((draws > 0) & (draws < 1)).all()
    # projections that see the dependence: pairwise products, minimum and maximum
    views = (lambda x: x[:, 0] * x[:, -1], lambda x: x.min(1), lambda x: x.max(1), lambda x: x[:, 1] - x[:, 0])
    p = [stats.ks_2samp(view(draws), view(fresh)).pvalue for view in views]
    check("completed points have the law of fresh ones", p, above=FALSE_ALARM / len(views))


@every_law
def test_conditional_draws_given_a_point_follow_the_conditional_density(name, dim):
    law = strong(name, dim)()
    n = 16_000
    given = torch.tensor([0.15, 0.3, 0.2, 0.25, 0.1])[:dim]
    present = torch.ones(dim, dtype=torch.bool)
    present[0] = False
    drawn = law.conditional_sample(given, present, n)[:, 0].detach()
    grid = (torch.arange(4000) + 0.5) / 4000
    at = given.repeat(4000, 1)
    at[:, 0] = grid
    density = torch.exp(law.log_prob(at)).detach()
    cdf = torch.cumsum(density, 0) / density.sum()
    p = stats.kstest(np.interp(drawn.numpy(), grid.numpy(), cdf.numpy()), "uniform").pvalue
    check("draws follow the conditional density", p, above=FALSE_ALARM)


@every_learnable
def test_gradients_in_points_and_parameters(name, dim):
    module = strong(name, dim)
    n = 2 if name == "vine" else 4
    u, present = points(n, dim).requires_grad_(), masks(n, dim)
    present[0] = True
    present[1, :: dim - 1] = False  # two coordinates at least
    names = [key for key, _ in module.named_parameters()]

    def value(u, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True))).log_prob(u, present)

    assert torch.autograd.gradcheck(value, (u, *module.parameters()))


@every_learnable
def test_rsample_gradient_is_that_of_the_expectation(name, dim):
    if name == "mixture" and dim > 2:
        pytest.skip("the component drawn jumps with the parameters, so that equal uniforms say nothing: see test_mixture.py")
    module = strong(name, dim)
    key, theta = next(iter(module.named_parameters()))
    others = dict(list(module.named_parameters())[1:])

    def draw(value):
        torch.manual_seed(1)
        law = torch.func.functional_call(module, {key: value, **others})
        return law.rsample((2_000,))

    test = lambda u: (u.prod(-1) + u[:, 0] * u[:, -1]).mean()
    (grad,) = torch.autograd.grad(test(draw(theta)), theta)
    shift = torch.zeros_like(theta)
    shift.view(-1)[0] = 1e-4
    with torch.no_grad():
        difference = (test(draw(theta + shift)) - test(draw(theta - shift))) / 2e-4
    # the same uniforms on both sides: the finite difference has no Monte Carlo noise of its own
    assert grad.view(-1)[0].item() == pytest.approx(difference.item(), rel=1e-4, abs=1e-7)


@every_learnable
def test_conditional_draws_are_differentiable_in_the_given_point(name, dim):
    law = strong(name, dim)(validate_args=False)
    present = torch.zeros(dim, dtype=torch.bool)
    present[1] = True

    def draw(given):
        torch.manual_seed(2)
        u = torch.where(present, given, 0.5).expand(500, dim)
        return law.conditional_sample(u, present.expand(500, dim), 1)[0].mean(0)

    given = torch.tensor(0.4).requires_grad_()
    (grad,) = torch.autograd.grad(draw(given)[0], given)
    difference = (draw(given + 1e-5)[0] - draw(given - 1e-5)[0]) / 2e-5
    assert abs(grad.item()) > 0.05
    assert grad.item() == pytest.approx(difference.item(), rel=1e-5)


@every_learnable
def test_module_state_dtype_and_start(name, dim):
    module = strong(name, dim)
    other = unfitted(name, dim)
    u = points(20, dim)
    assert other().log_prob(u).abs().max() > 0
    other().log_prob(strong(name, dim)().sample((50,))).sum().backward()
    for value in other.parameters():
        assert (value.grad != 0).all()
    other.load_state_dict(module.state_dict())
    assert torch.equal(other().log_prob(u), module().log_prob(u))
    single = copy.deepcopy(module).float()
    value = single().log_prob(u.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), module().log_prob(u), rtol=1e-3, atol=1e-4)
    assert single().sample((3,)).dtype == single().rsample((3,)).dtype == torch.float32
    assert name in repr(module).lower()
    assert f"dim={dim}" in repr(module)


@every_learnable
def test_batched_parameters_equal_a_loop(name, dim):
    if name.split()[0] in ELLIPTICAL:
        values = [0.5 * torch.eye(dim) + 0.5, 0.8 * torch.eye(dim) + 0.2, torch.eye(dim)]
        others = [{key: value + k for key, value in ELLIPTICAL[name.split()[0]].items()} for k in range(3)]
        modules = [make(name, dim, correlation=value, **other) for value, other in zip(values, others, strict=True)]
        others = {key: torch.tensor([other[key] for other in others]) for key in ELLIPTICAL[name.split()[0]]}
        batched = make(name, dim, correlation=torch.stack(values), **others)
    elif name == "mixture":
        parts = lambda alpha: [make("gumbel", dim, alpha=alpha), make("frank", dim, alpha=2.0)]
        values, weights = [1.3, 2.0, 4.0], [[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]
        modules = [make(name, dim, copulas=parts(value), weights=weight) for value, weight in zip(values, weights, strict=True)]
        batched = make(name, dim, copulas=parts(torch.tensor(values)), weights=torch.tensor(weights))
    elif name == "vine":
        values = [1.3, 2.0, 4.0]
        modules = [vine(dim, gumbel={"alpha": value}) for value in values]
        batched = vine(dim, gumbel={"alpha": torch.tensor(values)})
    else:
        values = [1.3, 2.0, 4.0]
        modules = [make(name, dim, alpha=value) for value in values]
        batched = make(name, dim, alpha=torch.tensor(values))
    law = batched()
    assert law.batch_shape == (3,)
    u, present = points(7, dim)[:, None].repeat(1, 3, 1), masks(7, dim)[:, None].repeat(1, 3, 1)
    both, tau = (law.log_prob(u), law.log_prob(u, present), law.cdf(u[:2])), law.kendall_tau
    for k, module in enumerate(modules):
        one = module()
        alone = (one.log_prob(u[:, k]), one.log_prob(u[:, k], present[:, k]), one.cdf(u[:2, k]))
        for left, right in zip(both, alone, strict=True):
            torch.testing.assert_close(left[:, k], right, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(tau[k], one.kendall_tau)
    assert law.sample((4,)).shape == law.rsample((4,)).shape == (4, 3, dim)
    assert law.conditional_sample(u[:2], present[:2], 2).shape == (2, 2, 3, dim)
    assert law.marginalise(torch.tensor([True, True, False, False, False][:dim])).log_prob(u[..., :2]).shape == (7, 3)
    assert make(name, dim)().expand((3,)).log_prob(u).shape == (7, 3)
    if dim == 2:
        assert law.h(u).shape == law.h_inverse(u[..., 0], u[..., 1]).shape == (7, 3)


@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize(("name", "value"), [("gumbel", 1.0), ("gumbel", 1 + 1e-8), ("frank", 1e-7), ("clayton", 1e-8), ("gaussian", 1e-9)])
def test_independence_limit(name, dim, value):
    parameters = {"correlation": torch.eye(dim) * (1 - value) + value} if name == "gaussian" else {"alpha": value}
    law = make(name, dim, **parameters)()
    u = points(100, dim)
    assert law.log_prob(u).abs().max() < 1e-5
    torch.testing.assert_close(law.cdf(u), u.prod(-1), rtol=1e-3 if name == "gaussian" else 1e-5, atol=1e-4 if name == "gaussian" else 1e-7)
    drawn = law.sample((50,)), law.rsample((50,))
    assert all(draw.isfinite().all() for draw in drawn)


@every_learnable
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("strength", ["start", "strong"])
def test_extreme_tails_stay_finite(name, dim, dtype, strength):
    module = (make(name, dim) if strength == "start" else strong(name, dim)).to(dtype)
    ends = [-1e6, -1e3, -90.0, -1.0]
    low = torch.tensor([[a, *[b] * (dim - 1)] for a in ends for b in ends], dtype=dtype)
    high = torch.log(-torch.expm1(low))
    log_u = torch.cat([low, high, torch.cat([low[:, :1], high[:, 1:]], -1)]).requires_grad_()
    log1m_u = torch.cat([high, low, torch.cat([high[:, :1], low[:, 1:]], -1)]).requires_grad_()
    for present in (None, torch.rand(log_u.shape) < 0.7):
        value = module(validate_args=False).log_prob_tails(log_u, log1m_u, present)
        assert value.isfinite().all()
        grads = torch.autograd.grad(value.sum(), (log_u, log1m_u, *module.parameters()), allow_unused=True)
        assert all(grad.isfinite().all() for grad in grads if grad is not None)
    present = torch.zeros(log_u.shape, dtype=torch.bool)
    present[:, 0] = True
    draws = module(validate_args=False).conditional_sample_tails(log_u, log1m_u, present, 2)
    assert all(draw.isfinite().all() for draw in draws)
    grads = torch.autograd.grad(sum(draw.sum() for draw in draws), (log_u, log1m_u, *module.parameters()), allow_unused=True)
    assert all(grad.isfinite().all() for grad in grads if grad is not None)


@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize(("name", "value"), [("gumbel", 1.02), ("joe", 1.02), ("frank", 0.05), ("clayton", 0.02)])
def test_weak_dependence_on_a_coordinate_next_to_one_or_zero(name, value, dim):
    torch.manual_seed(0)
    tail = torch.tensor([-50.0, -87.0, -90.0, -95.0, -103.0, -300.0])[:, None]  # e^-88 is the end of float32
    near, far = (torch.cat([end, torch.full((len(tail), dim - 1), -0.7)], -1) for end in (tail, -torch.exp(tail)))
    present = torch.zeros(near.shape, dtype=torch.bool)
    present[:, 0] = True
    law = make(name, dim, alpha=value)(validate_args=False)
    for log_u, log1m_u in ((far, near), (near, far)):
        assert all(tails.isfinite().all() for tails in law.conditional_sample_tails(log_u, log1m_u, present, 500))


@pytest.mark.parametrize("name", LEARNABLE)
def test_maximum_likelihood_recovers_the_parameter(name):
    truth, module = strong(name, 3), make(name, 3)
    u = truth().sample((4000,))
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -module(validate_args=False).log_prob(u).mean()
        value.backward()
        return value

    optimiser.step(loss)
    attribute = "correlation" if name in ELLIPTICAL else "alpha"
    # six standard errors or more of each family
    torch.testing.assert_close(getattr(module, attribute), getattr(truth, attribute), rtol=0.1, atol=0.03)


class _Waits(TorchDispatchMode):
    """Notes every operation whose result the host has to wait for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        indexed = func.overloadpacket.__name__ == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if indexed or func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


@every_law
def test_the_training_path_never_waits_for_the_device(name, dim, monkeypatch):
    monkeypatch.setattr("cm2.copulas.vine.patterns._reads", lambda mask, dim: False)  # a vine reads masks that lie on the host
    if (name, dim) == ("vine", 4):
        pytest.skip("two hidden coordinates take so many nodes that formulas on the host look at them; dim 3 goes the same way")
    module, u, present = strong(name, dim), points(8, dim), masks(8, dim)
    with _Waits() as waits:
        law = module(validate_args=False)
        loss = law.log_prob(u).sum() + law.log_prob(u, present).sum() + law.conditional_sample(u, present, 2).sum()
        if name != "independence":
            loss.backward()
    assert waits.seen == []
