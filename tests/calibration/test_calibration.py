"""Calibration: identities of perfect forecasts, other programs' numbers, and what cannot be said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit, softmax
from scipy.stats import binomtest

from cm2.calibration import (
    EventBy,
    Mean,
    Probability,
    calibration,
    error,
    fitted_line,
    in_the_large,
    intercept_and_slope,
    reliability,
    root,
    temperature,
)
from cm2.calibration.forecasts import wilson
from cm2.errors import InputError
from cm2.uncertainty import interval_of, over_seeds


def probability(n=2000, seed=0, slope=1.0, shift=0.0):
    """A forecast whose log-odds are ``slope`` times too extreme, after the shift of the true ones."""
    rng = np.random.default_rng(seed)
    line = rng.normal(-1, 1.2, n)
    return Probability(expit(slope * line), (rng.random(n) < expit(line + shift)).astype(float))


def events(n=2000, seed=0, horizon=3.0, censored=True):
    """Exponential times whose rate is known, in whole days, some censored at the end of a day: so there are ties of every sort."""
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(-1.5, 0.7, n))
    time, end = np.ceil(rng.exponential(1 / rate)), np.ceil(rng.exponential(6, n)) if censored else np.full(n, np.inf)
    label = np.stack([np.minimum(time, end), (time <= end).astype(float)], axis=1)
    return EventBy(1 - np.exp(-rate * horizon), label, horizon)


def mean(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    predicted = rng.normal(5, 2, n)
    return Mean(predicted, predicted + rng.normal(0, 1 + 0.2 * predicted.clip(0), n))


MADE = {"probability": probability, "mean": mean, "event": events}
every = pytest.mark.parametrize("made", MADE.values(), ids=MADE)


def uncensored_time(seed):
    return events(seed=seed, censored=False)


@every
def test_a_calibrated_forecast_has_slope_one_and_no_error(made):
    """Over many samples: no bias, and intervals that cover as often as they say."""
    truth, found = {"large": 0.0, "slope": 1.0, "error": 0.0}, {"large": [], "slope": [], "error": []}
    for seed in range(120):
        one = calibration(made(600, seed))
        for name in found:
            found[name].append(getattr(one, name))
    for name, parts in found.items():
        values = np.array([part.value for part in parts])
        assert abs(values.mean() - truth[name]) < 3.5 * values.std() / len(values) ** 0.5, name
        covered = np.mean([i.low <= truth[name] <= i.high for i in map(interval_of, parts)])
        assert covered > 0.88, name


@every
def test_deviations_are_those_of_weights(made):
    """Their squares add up to the variance over samples."""
    parts = [calibration(made(600, seed)) for seed in range(150)]
    for name in ("large", "slope"):
        measured = [getattr(part, name) for part in parts]
        told = np.mean([part.deviations @ part.deviations for part in measured])
        assert np.sqrt(told) == pytest.approx(np.std([part.value for part in measured]), rel=0.2), name


def test_the_debiased_error_is_unbiased_where_there_is_one():
    """The plain square is too large by a variance; the truth is that of very many stays."""
    truth = error(probability(400_000, 1, slope=1.6)).value
    found = [error(probability(500, seed, slope=1.6)) for seed in range(200)]
    values = np.array([part.value for part in found])
    assert abs(values.mean() - truth) < 3.5 * values.std() / len(values) ** 0.5
    plain = np.array([_plain(probability(500, seed, slope=1.6)) for seed in range(200)])
    assert plain.mean() - truth > 5 * plain.std() / len(plain) ** 0.5
    assert np.mean([i.low <= truth <= i.high for i in map(interval_of, found)]) > 0.9
    spread = np.sqrt(np.mean([part.deviations @ part.deviations for part in found]))
    assert spread == pytest.approx(values.std(), rel=0.2)


def _plain(forecast):
    parts = reliability(forecast)
    return sum(part.n * (part.predicted - part.observed.estimate) ** 2 for part in parts) / forecast.n


def test_too_extreme_predictions_have_a_slope_below_one():
    one = calibration(probability(20_000, slope=2.0, shift=0.7))
    low, high = (interval_of(one.slope).low, interval_of(one.slope).high)
    assert low < 0.5 < high < 0.6
    assert interval_of(one.large).low > 0 and root(one.error).low > 0.05


def test_the_curve_is_scikit_learns():
    from sklearn.calibration import calibration_curve

    forecast = probability()
    observed, predicted = calibration_curve(forecast.outcome, forecast.predicted, n_bins=10, strategy="quantile")
    found = reliability(forecast)
    np.testing.assert_allclose([part.observed.estimate for part in found], observed, atol=1e-12)
    np.testing.assert_allclose([part.predicted for part in found], predicted, atol=1e-12)
    assert {part.n for part in found} == {200} and sum(part.positives for part in found) == forecast.positives


def test_the_line_is_statsmodels_with_its_robust_errors():
    models = pytest.importorskip("statsmodels.api")
    forecast = probability(700, slope=1.4, shift=0.3)
    x = logit(forecast.predicted)
    theirs = models.GLM(forecast.outcome, models.add_constant(x), family=models.families.Binomial()).fit(cov_type="HC1")
    found = intercept_and_slope(forecast)
    np.testing.assert_allclose([part.value for part in found], theirs.params, atol=1e-7)
    errors = [np.sqrt(part.deviations @ part.deviations) for part in found]
    np.testing.assert_allclose(errors, theirs.bse, rtol=2e-3)  # n - 2 in place of n - 1
    offset = models.GLM(forecast.outcome, np.ones((700, 1)), family=models.families.Binomial(), offset=x).fit()
    assert in_the_large(forecast).value == pytest.approx(offset.params[0], abs=1e-7)
    number = mean(500)
    theirs = models.OLS(number.outcome, models.add_constant(number.predicted)).fit(cov_type="HC1")
    found = intercept_and_slope(number)
    np.testing.assert_allclose([part.value for part in found], theirs.params, atol=1e-7)
    np.testing.assert_allclose([np.sqrt(part.deviations @ part.deviations) for part in found], theirs.bse, rtol=2e-3)
    assert in_the_large(number).value == pytest.approx((number.outcome - number.predicted).mean())


def test_the_line_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    forecast = probability(900, 3, slope=0.7)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(forecast.predicted)[:, None], forecast.outcome)
    line = fitted_line(forecast)
    assert (line.intercept, line.slope) == pytest.approx((theirs.intercept_[0], theirs.coef_[0, 0]), abs=1e-5)
    changed = intercept_and_slope(Probability(line(forecast.predicted), forecast.outcome))
    assert [part.value for part in changed] == pytest.approx([0, 1], abs=1e-7)


def test_a_share_has_wilsons_interval():
    theirs = binomtest(7, 40).proportion_ci(0.95, "wilson")
    assert (wilson(7 / 40, 40).low, wilson(7 / 40, 40).high) == pytest.approx((theirs.low, theirs.high))
    assert wilson(0.0, 20).low == 0 and wilson(1.0, 20).high == 1


@pytest.mark.parametrize("seed", range(4))
def test_events_are_those_of_kaplan_and_meier(seed):
    lifelines = pytest.importorskip("lifelines")
    forecast = events(300, seed)
    for part in (forecast, forecast.within(np.arange(300) % 3 == 0)):
        theirs = lifelines.KaplanMeierFitter().fit(*part.outcome.T)
        came = 1 - float(theirs.predict(part.horizon))
        assert part.observed().estimate == pytest.approx(came, abs=1e-12)
        assert (part.weight * part.target).sum() / part.n == pytest.approx(came, abs=1e-12)
        greenwood = theirs.event_table.assign(d=lambda t: t.observed / (t.at_risk * (t.at_risk - t.observed)))
        width = came * (1 - came) / ((1 - came) ** 2 * greenwood.loc[: part.horizon, "d"].sum())
        assert part.observed() == wilson(came, width) or part.observed().low == pytest.approx(wilson(came, width).low)


def test_without_censoring_an_event_is_a_probability():
    forecast = uncensored_time(0)
    came = (forecast.outcome[:, 0] <= forecast.horizon).astype(float)
    same, found = calibration(Probability(forecast.predicted, came)), calibration(forecast)
    assert (found.n, found.positives, found.smaller) == (same.n, same.positives, same.smaller)
    for name in ("large", "slope", "error"):
        one, other = getattr(found, name), getattr(same, name)
        assert one.value == pytest.approx(other.value, abs=1e-9), name
        np.testing.assert_allclose(one.deviations, other.deviations, atol=1e-9)
    for one, other in zip(found.bins, same.bins, strict=True):
        assert [*one.observed.__dict__.values()] == pytest.approx([*other.observed.__dict__.values()])


@every
def test_stays_without_an_outcome_change_nothing(made):
    forecast = made(300)
    gaps = np.full((40, *forecast.outcome.shape[1:]), np.nan)
    wider = type(forecast)(
        np.concatenate([forecast.predicted, np.full(40, 0.5)]), np.concatenate([forecast.outcome, gaps]), *_horizon(forecast)
    )
    one, other = calibration(forecast), calibration(wider)
    assert (one.n, one.bins) == (other.n, other.bins)
    for name in ("large", "slope", "error"):
        assert getattr(other, name).value == pytest.approx(getattr(one, name).value) and len(getattr(other, name).deviations) == 340
        assert not getattr(other, name).deviations[300:].any()


def _horizon(forecast):
    return (forecast.horizon,) if isinstance(forecast, EventBy) else ()


def test_seeds_are_pooled_as_other_metrics_are():
    base = probability(800)
    rng = np.random.default_rng(5)
    seeds = [Probability(expit(logit(base.predicted) + rng.normal(0, 0.3, 800)), base.outcome) for _ in range(4)]
    pooled = over_seeds([intercept_and_slope(one)[1] for one in seeds])
    assert pooled.both and pooled.se > 0 and 0.7 < pooled.estimate < 1.1


def test_what_the_stays_do_not_determine_is_none():
    label = np.repeat([0.0, 1.0], 20)
    assert intercept_and_slope(Probability(np.full(40, 0.3), label)) is None
    assert intercept_and_slope(Probability(np.linspace(0.1, 0.9, 40), label)) is None  # separated: an infinite slope
    assert in_the_large(Probability(np.full(40, 0.3), np.ones(40))) is None
    few = calibration(Probability(np.linspace(0.1, 0.9, 40), (np.arange(40) < 9).astype(float)))
    assert few.large is few.slope is few.error is None and (few.n, few.positives, few.smaller) == (40, 9, 9)
    nothing = calibration(Probability(np.full(5, 0.3), np.full(5, np.nan)))
    assert nothing.n == 0 and nothing.bins == () and np.isnan(nothing.observed.estimate)
    assert fitted_line(Probability(np.full(40, 0.3), label)) == "no line fits best"
    assert fitted_line(Probability(np.linspace(0, 1, 12), np.arange(12) % 2.0)) == "too few outcomes"
    assert fitted_line(Probability(1 - probability().predicted, probability().outcome)) == "outcomes do not rise with predictions"
    late = EventBy(np.full(30, 0.5), np.stack([np.ones(30), np.zeros(30)], axis=1), 2.0)  # all censored before the horizon
    assert calibration(late).large is None and np.isnan(late.observed().high)


def test_certain_predictions_have_a_finite_slope():
    forecast = probability(500)
    forecast.predicted[:3] = 0, 1, 1
    assert np.isfinite(intercept_and_slope(forecast)[1].value)


def test_equal_predictions_share_a_group():
    found = reliability(Probability(np.repeat([0.1, 0.2, 0.7], [95, 1, 104]), np.arange(200) % 2.0))
    assert [part.n for part in found] == [95, 105]
    assert [part.n for part in reliability(Probability(np.repeat([0.1, 0.2], [199, 1]), np.arange(200) % 2.0))] == [200]
    assert len(reliability(probability(45))) == 4 and len(reliability(probability(8))) == 1


def test_a_temperature_is_found_again():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6000, 4))
    label = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((6000, 1))).sum(axis=1).astype(float)
    label[:50] = np.nan
    assert temperature(label, 2.5 * logits) == pytest.approx(2.5, rel=0.05)
    assert temperature(label, -logits) == np.inf


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Probability(np.array([0.1, 1.2]), np.zeros(2)), "the prediction of stay 2 is 1.2; give probabilities"),
        (lambda: Probability(np.array([np.nan, 0.2]), np.zeros(2)), "the prediction of stay 1 is nan; give probabilities"),
        (lambda: Mean(np.array([np.inf]), np.zeros(1)), "the prediction of stay 1 is inf; give finite numbers"),
        (lambda: Probability(np.array([0.1, 0.2]), np.zeros(3)), "predictions of 3 outcomes; give one"),
        (lambda: calibration(probability(50), bins=0), "0 bins; give one or more"),
    ],
)
def test_bad_input_is_named(make, said):
    with pytest.raises(InputError, match=said):
        make()
