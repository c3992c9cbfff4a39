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
