"""The integral and the quantiles of a function on the line, however narrow it is and wherever it lies."""

import math

import pytest
import torch

from cm2.copulas.vine.line import Line


def log_normal(x, centre, width):
    return -(((x - centre) / width) ** 2) / 2 - math.log(width * math.sqrt(2 * math.pi))


@pytest.mark.parametrize(("centre", "width"), [(0.0, 1.0), (3.0, 0.1), (-7.0, 0.01), (20.0, 0.3), (2.0, 5.0)])
def test_one_peak(centre, width):
    line = Line(lambda x: 3 + log_normal(x, centre, width), torch.zeros(()))
    assert line.log_integral().item() == pytest.approx(3, abs=1e-7)
    p = torch.tensor([1e-4, 0.01, 0.3, 0.5, 0.9, 0.999])
    torch.testing.assert_close((line.quantile(p) - centre) / width, torch.special.ndtri(p), rtol=0, atol=0.05)


def test_a_narrow_peak_beside_a_wide_one():
    peaks = lambda x: torch.logaddexp(math.log(0.3) + log_normal(x, 5, 0.05), math.log(0.7) + log_normal(x, -2, 1))
    line = Line(peaks, torch.zeros(()))
    assert line.log_integral().item() == pytest.approx(0, abs=0.02)
    assert (line.quantile(torch.tensor([0.69, 0.71])) < 4).tolist() == [True, False]
