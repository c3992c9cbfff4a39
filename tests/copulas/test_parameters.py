"""Laws check the parameters they are built with: outside their range, NaN or no tensor is one clear error."""

import pytest
import torch

from cm2.copulas import make
from cm2.copulas.families.clayton import ClaytonDistribution
from cm2.copulas.families.frank import FrankDistribution
from cm2.copulas.families.gaussian import GaussianDistribution
from cm2.copulas.families.gumbel import GumbelDistribution
from cm2.copulas.families.joe import JoeDistribution
from cm2.copulas.families.student import StudentDistribution
from cm2.copulas.inference.selection import selectable

ROOT = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]])
NAN = torch.tensor(torch.nan)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GumbelDistribution(torch.tensor(0.5), 2, True), r"GumbelDistribution: alpha is 0\.5; it must be at least 1"),
        (lambda: JoeDistribution(torch.tensor([2.0, 0.5]), 2, True), r"JoeDistribution: alpha is 0\.5; it must be at least 1"),
        (lambda: JoeDistribution(NAN, 2, True), r"JoeDistribution: alpha is nan; it must be at least 1"),
        (lambda: ClaytonDistribution(torch.tensor(-0.5), 2, True), r"ClaytonDistribution: alpha is -0\.5; it must be 0 or more"),
        (lambda: FrankDistribution(NAN, 2, True), r"FrankDistribution: alpha is nan; it must be a number"),
        (lambda: FrankDistribution(torch.tensor(-2.0), 3, True), r"FrankDistribution: alpha is -2; it must be 0 or more"),
        (lambda: StudentDistribution(ROOT, torch.tensor(-1.0), True), r"StudentDistribution: nu is -1; it must be above 0"),
        (lambda: GaussianDistribution(ROOT @ ROOT.mT, validate_args=True), r"cholesky has the row .*linalg\.cholesky\(R\)"),
        (lambda: GaussianDistribution(2 * ROOT, validate_args=True), r"rows of norm 1"),
        (lambda: JoeDistribution(2.0, 2), r"alpha is a float; give a tensor, for example torch\.tensor\(2\.0\)"),
        (lambda: ClaytonDistribution(2, 2), r"ClaytonDistribution: alpha is a int; give a tensor"),
        (lambda: GaussianDistribution([[1.0]]), r"GaussianDistribution: cholesky is a list; give a tensor"),
        (lambda: StudentDistribution(ROOT, 4.0), r"StudentDistribution: nu is a float; give a tensor"),
    ],
)
def test_parameters_outside_their_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message) as refused:
        build()
    assert "\n" not in str(refused.value)


def test_without_validation_nothing_is_checked():
    assert GumbelDistribution(torch.tensor(0.5), 2, False).alpha == 0.5


@pytest.mark.parametrize("name", selectable(2))
@pytest.mark.parametrize("dim", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_family_accepts_its_own_parameters(name, dim, dtype):
    """Also those that a fit may reach, in margins, expansions and copies."""
    copula = make(name, dim).to(dtype)
    for raw in (-4.0, 0.0, 4.0):
        with torch.no_grad():
            for value in copula.parameters():
                value.fill_(raw)
        law = copula(validate_args=True)
        assert law.expand((3,)).batch_shape == (3,)
        law.marginalise(torch.tensor([True, True] + [False] * (dim - 2)))
        assert all(f"{parameter}:" in repr(law) for parameter in law.arg_constraints), "what it was built with is shown"
