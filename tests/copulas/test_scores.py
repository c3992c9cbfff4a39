"""Normal scores: the same density and draws as through the tails, and conditional means. Copies side by side."""

import pytest
import torch

from cm2.book.checks import check
from cm2.copulas.conditional_mean import conditional_mean
from cm2.numerics.normal import normal_tails

from .conftest import FAMILIES, MIXED, ROTATED, strong

CASES = [(name, dim) for name in (*FAMILIES, *MIXED, "vine") for dim in (2, 3)] + [(name, 2) for name in ROTATED]


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_density_of_scores_is_that_of_the_tails(name, dim):
    law = strong(name, dim)()
    x = torch.cat([torch.randn(50, dim), 30 * torch.randn(20, dim)])
    present = torch.rand(len(x), dim) < 0.8
    torch.testing.assert_close(law.log_prob_scores(x), law.log_prob_tails(*normal_tails(x)), rtol=1e-8, atol=1e-8)
    masked = torch.where(present, x, torch.nan)
    torch.testing.assert_close(
        law.log_prob_scores(masked, present), law.log_prob_tails(*normal_tails(masked), present), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_conditional_mean_of_scores_is_that_of_draws(name, dim):
    law, n = strong(name, dim)(), 4_000
    x = torch.tensor([[0.7], [-1.5], [2.5]]).expand(3, dim)
    present = torch.arange(dim) == dim - 1
    with torch.no_grad():
        mean, error = law.conditional_mean_scores(torch.where(present, x, torch.nan), present.expand(x.shape))
        many = x.expand(n, *x.shape)
        draws = law.conditional_sample_scores(many, present.expand(many.shape))
    torch.testing.assert_close(mean[..., -1], x[..., -1], rtol=0, atol=0)
    assert error.max() < 1e-3  # the density of Joe's copula has a pole
    check("conditional means", mean[..., :-1], near=draws.mean(0)[..., :-1], standard_error=draws.std(0)[..., :-1] / n**0.5, within=1e-4)


@pytest.mark.parametrize(("name", "dim"), [(name, dim) for name, dim in CASES if name.split()[0] in ("gaussian", "independence")])
def test_closed_forms_agree_with_the_quadrature(name, dim):
    law = strong(name, dim)()
    x, present = torch.randn(20, dim), torch.rand(20, dim) < 0.6
    torch.testing.assert_close(
        law.conditional_mean_scores(x, present)[0], conditional_mean(law.log_prob_scores, x, present)[0], rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_side_by_side_has_one_copy_in_each_place(name, dim):
    copula = strong(name, dim)
    copies = copula.side_by_side(3)
    x = torch.randn(5, 3, dim)
    torch.testing.assert_close(copies().log_prob_scores(x), copula().log_prob_scores(x))
    parameters = list(copies.parameters())
    assert all(p.shape[0] == 3 for p in parameters)
    if parameters:
        assert copies().batch_shape == (3,)
        with torch.no_grad():
            parameters[0][1] += 0.1
        changed = (copies().log_prob_scores(x) - copula().log_prob_scores(x)).abs().sum(0)
        assert changed[1] > 0 and changed[0] < 1e-9 and changed[2] < 1e-9
        assert all((p == q).all() for p, q in zip(copula.parameters(), strong(name, dim).parameters(), strict=True))
