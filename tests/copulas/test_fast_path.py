"""Many points take another way through `log_prob`, `h` and `cdf` than few: the numbers have to be the same."""

import pytest
import torch

from cm2.copulas import make
from cm2.numerics.blocks import BLOCK

FEW = 4000
LAWS = [
    *(("gumbel", {"alpha": a}) for a in (1.0, 1.001, 2.5, 50.0)),
    *(("frank", {"alpha": a}) for a in (1e-6, 0.02, 5.0, -5.0, 99.0, -99.0, 200.0, -200.0)),
    *(("clayton", {"alpha": a}) for a in (1e-6, 0.02, 2.0, 20.0, 60.0)),
    *(("gaussian", {"rho": r}) for r in (0.0, -0.5, 0.9999)),
]


def points():
    """A block and more than half of another, from where blocks are taken; an eighth of the points in the corners."""
    torch.manual_seed(0)
    u = torch.rand(3 * BLOCK // 2 + 100, 2)
    corner = torch.tensor([1e-12, 1e-5, 1 - 1e-5, 1 - 1e-12])
    u[::8, 0] = corner[torch.randint(4, (len(u[::8]),))]
    u[::4, 1] = corner[torch.randint(4, (len(u[::4]),))]
    return u


@pytest.mark.parametrize(("name", "parameters"), LAWS)
def test_many_points_equal_few(name, parameters):
    law, u = make(name, 2, **parameters)(), points()
    few = lambda method: torch.cat([getattr(law, method)(part) for part in u.split(FEW)])
    with torch.no_grad():
        expected = few("log_prob")
        torch.testing.assert_close(law.log_prob(u), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(law.h(u), few("h"), rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(law.cdf(u[:100]), law.cdf(u[:FEW])[:100], rtol=1e-10, atol=0)


RANGE = [
    *(("frank", {"alpha": sign * a}) for a in (1e-8, 1.0, 50.0, 120.0, 300.0, 800.0, 1500.0, 5000.0) for sign in (1.0, -1.0)),
    *(("gumbel", {"alpha": a}) for a in (1.0, 1 + 1e-6, 3.0, 100.0, 1000.0)),
    *(("joe", {"alpha": a}) for a in (1.0, 1 + 1e-6, 3.0, 100.0, 1000.0)),
    *(("clayton", {"alpha": a}) for a in (1e-8, 1.0, 50.0, 500.0, 5000.0)),
    *(("gaussian", {"rho": r}) for r in (0.0, 0.5, -0.999, 1 - 1e-6)),
    *(("student", {"rho": r, "nu": nu}) for r in (0.0, -0.999) for nu in (1.0, 4.0, 1e5)),
]
"""Parameters from next to independence to what a fit may reach, further than anybody's data."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "parameters"), RANGE)
def test_plain_points_give_what_their_tails_give(name, parameters, dtype):
    """`log_prob` and `h` of u have formulas of their own beside those of (log u, log(1 - u))."""
    law = make(name, 2, **{key: torch.tensor(value, dtype=torch.float64) for key, value in parameters.items()}).to(dtype)()
    u = torch.rand(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
    u = torch.cat([u, u[:, :1].expand(-1, 2)]).clamp(1e-5, 1 - 1e-5)  # and the diagonal, where a strong dependence has its mass
    with torch.no_grad():
        tails = torch.log(u), torch.log1p(-u)
        h, expected = law.h(u), torch.exp(law.h_tails(*tails)[0])
        density, slow = law.log_prob(u), law.log_prob_tails(*tails)
    assert h.isfinite().all() and density.isfinite().all()
    # an error of rounding in u moves h by up to the density, and log c by its slope: both grow with the parameter
    size = parameters.get("nu", 0) ** 0.5 + (abs(parameters["alpha"]) if "alpha" in parameters else 1 / (1 - abs(parameters["rho"])))
    room = 400 * torch.finfo(dtype).eps * (1 + size)
    torch.testing.assert_close(h, expected, rtol=0, atol=room)
    torch.testing.assert_close(density, slow, rtol=room, atol=room)


@pytest.mark.parametrize(("name", "parameters"), LAWS)
def test_gradients_of_many_points_equal_those_of_few(name, parameters):
    module, u = make(name, 2, **parameters), points()
    weight = torch.randn(len(u))
    results = []
    for size in (len(u), FEW):
        point = u.clone().requires_grad_()
        value = torch.cat([module().log_prob(part) for part in point.split(size)])
        grads = torch.autograd.grad((value * weight).sum(), (point, *module.parameters()))
        # derivatives are measured on the scale on which u varies
        results.append((grads[0] * torch.minimum(u, 1 - u), *grads[1:]))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-7, atol=1e-7)
