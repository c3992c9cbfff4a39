"""Selection: the truth is found, the report's numbers are those of their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from cm2.book.checks import FALSE_ALARM, check
from cm2.copulas import make
from cm2.copulas.families.mixture import Mixture
from cm2.copulas.inference.estimation import pseudo_observations
from cm2.copulas.inference.selection import candidates, fit_best_pair, rotate, select, vuong
from cm2.copulas.sample_dependence import sample_kendall_tau

TRUTHS = [("gumbel", 0, 0.5), ("clayton", 180, 0.5), ("clayton", 90, 0.5), ("joe", 270, 0.5), ("frank", 0, -0.5), ("gaussian", 0, 0.5)]
TWIN = {
    "clayton": "joe",
    "joe": "clayton",
}  # one turned by 180 degrees is so near the other that thousands of points do not tell them apart


def sample(name, rotation, tau, n):
    return rotate(make(name, 2, kendall_tau=tau)().sample((n,)), rotation)


@pytest.mark.parametrize("criterion", ["aic", "bic"])
@pytest.mark.parametrize(("name", "rotation", "tau"), TRUTHS)
def test_the_best_pair_is_the_truth(name, rotation, tau, criterion):
    """The next best law is six standard errors of the likelihood ratio away."""
    u = sample(name, rotation, tau, 4000)
    families = [each for each in ("independence", "gaussian", "clayton", "gumbel", "frank", "joe") if each != TWIN.get(name)]
    copula, report = fit_best_pair(u, families, criterion)
    assert report.name == name
    assert copula(validate_args=False).log_prob(u).sum().item() == pytest.approx(report.log_likelihood, rel=1e-9)
    error = sample_kendall_tau(u).standard_error
    check("Kendall's tau of the fit", copula().kendall_tau, near=tau if rotation in (0, 180) else -tau, standard_error=error)


def test_held_out_likelihood_finds_the_truth_and_reports_it():
    u = sample("gumbel", 0, 0.6, 2400)
    names = ["independence", "gaussian", "clayton", "gumbel", "frank"]
    report = select(u, names)
    assert report.candidates[0].label == "gumbel" and report.best is report.candidates[0].copula
    assert [each.held_out for each in report.candidates] == sorted((each.held_out for each in report.candidates), reverse=True)
    assert {each.label for each in report.candidates} == {
        "independence",
        "gaussian",
        "clayton",
        "clayton 180°",
        "gumbel",
        "gumbel 180°",
        "frank",
    }
    for each in report.candidates:
        law = each.copula(validate_args=False)
        assert each.fit.log_likelihood == pytest.approx(law.log_prob(u).sum().item(), rel=1e-8, abs=1e-8)
        assert each.held_out <= each.fit.log_likelihood / len(u) + 2e-3
        assert each.behind == pytest.approx(report.candidates[0].held_out - each.held_out, abs=1e-12)
    last = report.candidates[-1]
    assert (last.label, last.test) == ("independence", "likelihood ratio") and last.p_value < 0.01
    assert math.isnan(last.vuong) and report.candidates[-2].vuong < -3 and report.candidates[-2].test == "vuong"
    assert math.isnan(report.candidates[0].vuong)
    table = report.table()
    assert list(table["family"]) == [each.label for each in report.candidates]
    assert table["aic"].tolist() == [each.fit.aic for each in report.candidates]
    text = report.to_markdown().splitlines()
    assert len(text) == 2 + len(report.candidates) and text[2].startswith("| gumbel | alpha = ")
    again = select(u, names)
    assert [each.held_out for each in again.candidates] == [each.held_out for each in report.candidates]


def test_held_out_likelihood_is_that_of_the_folds():
    u = sample("clayton", 0, 0.3, 200)
    (found,) = select(u, ["frank"], folds=4, seed=7).candidates
    fold = torch.randperm(200, generator=torch.Generator().manual_seed(7)) % 4
    terms = torch.empty(200)
    for k in range(4):
        module = make("frank", 2)
        module.fit(u[fold != k])
        terms[fold == k] = module(validate_args=False).log_prob(u[fold == k]).detach()
    assert found.held_out == pytest.approx(terms.mean().item(), rel=1e-9)
    assert found.held_out_error == pytest.approx(stats.sem(terms.numpy()), rel=1e-9)


def test_more_dimensions_have_no_rotations():
    u = make("clayton", 3, alpha=2.0)().sample((400,))
    report = select(u, ["clayton", "gumbel", "frank", "gaussian"], "bic")
    assert report.candidates[0].label == "clayton"
    assert len(report.candidates) == 4
    assert math.isnan(report.candidates[0].held_out)
    assert [each.fit.bic for each in report.candidates] == sorted(each.fit.bic for each in report.candidates)


def test_rotations_follow_the_sign_of_tau():
    turns = lambda u: [turn for _, turn in candidates(u, ["clayton"], True)]
    assert turns(sample("frank", 0, 0.4, 500)) == [0, 180]
    assert turns(sample("frank", 0, -0.4, 500)) == [90, 270]
    u, v = torch.rand(250, 2).unbind(-1)
    even = torch.cat([torch.stack([u, v], -1), torch.stack([u, 1 - v], -1)])  # Kendall's tau is 0
    assert turns(even) == [0, 90, 180, 270]
    assert candidates(even, ["frank", "gaussian", "independence"], True) == [
        ("frank", 0),
        ("gaussian", 0),
        ("independence", 0),
    ]
    assert candidates(even, ["clayton"], False) == [("clayton", 0)]


def test_vuong_against_its_formula():
    a, b = torch.randn(300), torch.randn(300) + 0.2
    m = (a - b).numpy()
    for correction, penalty in (("none", 0), ("akaike", 2), ("schwarz", math.log(300))):
        statistic, p = vuong(a, b, 3, 1, correction)
        expected = (m.sum() - penalty) / (math.sqrt(300) * np.std(m))
        assert statistic == pytest.approx(expected)
        assert p == pytest.approx(2 * stats.norm.sf(abs(expected)))
        assert vuong(b, a, 1, 3, correction)[0] == pytest.approx(-expected)
    assert all(map(math.isnan, vuong(a, a, 3, 1)))


@pytest.mark.parametrize("noise", [1e-2, 1e-3])
def test_two_sensors_that_measure_the_same_have_a_law_that_holds_for_fresh_points(noise):
    """Where ranks coincide the likelihood of the t copula grows without end as nu falls to 0: found, bounded, and ranked behind."""
    x = torch.randn(2, 2200, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    both = torch.stack([x[0], x[0] + noise * x[1]], -1)
    u = torch.cat([pseudo_observations(both[:200]), pseudo_observations(both[200:])])
    student = make("student", 2).double()
    report = student.fit(u[:200], standard_errors=False)
    assert report.at_boundary and student.nu >= 1 and report.doubtful
    fresh = {name: law().log_prob(u[200:]).mean().item() for name, law in (("student", student), ("best", fit_best_pair(u[:200])[0]))}
    assert min(fresh.values()) > math.log(1 / noise) - 1.5, "about the log of the ratio of the scales"
    chosen = select(u[:200], criterion="aic")
    doubtful = [each.fit.doubtful for each in chosen.candidates]
    assert doubtful == sorted(doubtful) and "at the end of its range" in str(chosen)


def test_a_law_is_not_worse_than_one_it_contains():
    u = make("gaussian", 4, correlation=0.5 + 0.5 * torch.eye(4))().sample((442,)).double()
    found = {each.name: each for each in select(u, ["gaussian", "student"]).candidates}
    assert found["student"].fit.log_likelihood >= found["gaussian"].fit.log_likelihood - 1e-3
    behind = next(each for each in found.values() if each.test)
    assert behind.test == "not distinguishable" and math.isnan(behind.vuong) and math.isnan(behind.p_value)


def test_one_law_twice_is_no_difference():
    """A t copula with very many degrees of freedom is the Gaussian one: nothing but the correction is left of the statistic."""
    u = make("gaussian", 2, rho=0.5)().sample((400,))
    found = {each.label: each for each in select(u, ["gaussian", "student", "frank"], "bic").candidates}
    assert found["student"].test != "vuong" and found["frank"].test in ("vuong", "not distinguishable")
    laws = [make("student", 2, rho=0.5, nu=1e6)(), make("gaussian", 2, rho=0.5)()]
    assert all(map(math.isnan, vuong(*(law.log_prob(u) for law in laws), 2, 1)))


def test_modules_are_candidates():
    """A mixture and a law already turned beside names; the given modules stay as they are."""
    parts = [make("gumbel", 2), make("clayton", 2)]
    mixture = Mixture(2, [make("gumbel", 2, alpha=2.5), make("clayton", 2, alpha=3.0)], [0.5, 0.5])
    u = mixture().sample((3000,))
    start, turned = Mixture(2, parts), make("clayton", 2, rotation=180)
    before = [each.clone() for each in start.parameters()]
    report = select(u, ["gumbel", "clayton", start, turned], rotations=False, folds=3)
    assert report.candidates[0].label == "gumbel + clayton"
    assert {each.label for each in report.candidates} == {"gumbel + clayton", "gumbel", "clayton", "clayton 180°"}
    assert all(torch.equal(a, b) for a, b in zip(before, start.parameters(), strict=True))
    assert report.best.weights[0].item() == pytest.approx(0.5, abs=0.2)  # six times the spread over samples
    copula, fit = fit_best_pair(u, [start, "frank"], "bic")
    assert isinstance(copula, Mixture) and fit.n_parameters == 3
    assert {each.label for each in select(u, [turned], "aic").candidates} == {"clayton 180°"}


def test_vuong_has_its_level():
    """Two normal densities equally far from the truth."""
    p = []
    for _ in range(400):
        x = torch.randn(200)
        p.append(vuong(-((x - 0.5) ** 2) / 2, -((x + 0.5) ** 2) / 2, 1, 1)[1])
    check("p-values of equally good laws are uniform", stats.kstest(p, "uniform").pvalue, above=FALSE_ALARM)


def test_rotated_points_stay_inside():
    u = torch.tensor([[1e-300, 0.3]])
    turned = rotate(u, 90)
    assert turned.min() > 0 and turned.max() < 1
    assert rotate(u, 0) is u


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"families": ["tawn"]}, r"families names 'tawn'; choose one of clayton, frank"),
        ({"families": []}, r"families names nothing"),
        ({"criterion": "p"}, r"unknown criterion 'p'; choose one of held_out, aic, bic"),
        ({"correction": "p"}, r"unknown correction 'p'; choose one of none, akaike, schwarz"),
        ({"folds": 1}, r"folds is 1; with 50 points it must lie between 2 and 5"),
        ({"folds": 6}, r"folds is 6"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        select(torch.rand(50, 2), **arguments)


def test_twenty_points_make_two_folds():
    assert select(torch.rand(20, 2), ["independence"], folds=2).best.dim == 2
    with pytest.raises(ValueError, match=r"u has 19 rows; held-out likelihood needs at least 20"):
        select(torch.rand(19, 2), ["independence"], folds=2)


def test_samples_are_checked():
    with pytest.raises(ValueError, match=r"column 0 of u is constant"):
        select(torch.tensor([[0.2, 0.1], [0.2, 0.4]] * 20), criterion="aic")
    with pytest.raises(ValueError, match=r"column 1 of u holds NaN"):
        fit_best_pair(torch.tensor([[0.2, 0.1], [0.3, torch.nan]] * 20))


@pytest.mark.parametrize("criterion", ["held_out", "aic", "bic"])
def test_the_report_is_a_table(criterion):
    report = str(
        select(make("gumbel", 2, alpha=2.5)().sample((200,)).double(), ["gumbel", "frank"], criterion, rotations=False)
    ).splitlines()
    assert len(report) == 4
    assert "ranked by" in report[0]
    assert "nan" not in "".join(report)
    assert report[2].startswith("gumbel")
