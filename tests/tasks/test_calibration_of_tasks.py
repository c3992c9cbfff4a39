"""One contract for every type of task: what its predictions claim, and how they are calibrated on other stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cm2.calibration import Mean, calibration, in_the_large, intercept_and_slope
from cm2.tasks import Task, known_stays
from tests.tasks.cases import TASKS, labels, outputs

every_task = pytest.mark.parametrize("kind", TASKS)
N = 4000


def drawn(kind, output, seed=0):
    """Labels ``(n, *label_shape)`` that follow the prediction of an output, so that it is calibrated."""
    task, rng, n = TASKS[kind], np.random.default_rng(seed), len(output)
    p = task.prediction(output).double().numpy()
    if kind == "regression":
        return p + rng.normal(size=n)
    if kind == "multiclass":
        return (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).astype(float)
    if kind == "survival":  # censored at the ends of intervals
        ends = np.array([*task.edges, task.edges[-1] + 1])
        fails, stops = (p > rng.random((n, 1))).sum(axis=1), rng.integers(0, len(ends), n)
        return np.stack([ends[np.minimum(fails, stops)], (fails <= stops) & (fails < len(task.edges))], axis=1).astype(float)
    return (rng.random(p.shape) < p).astype(float)


@every_task
def test_what_is_calibrated_is_found_to_be(kind):
    task, output = TASKS[kind], outputs(kind, N)
    label, prediction = drawn(kind, output), task.prediction(output).double().numpy()
    forecasts = task.forecasts(label, prediction)
    assert forecasts and task.uncalibrated == ""
    for name, forecast in forecasts.items():
        one = calibration(forecast)
        assert one.n == N and len(one.bins) == 10 and len(one.large.deviations) == N
        assert abs(one.large.value) < 4 * np.linalg.norm(one.large.deviations), name
        assert name == "confidence" or abs(one.slope.value - 1) < 4 * np.linalg.norm(one.slope.deviations), name
        assert abs(one.error.value) < 0.002, name


@every_task
def test_recalibration_undoes_what_is_too_extreme(kind):
    """Fitted on other stays; one that is calibrated already stays as it is but for chance."""
    task, output = TASKS[kind], outputs(kind, 2 * N)
    label, prediction = drawn(kind, output), task.prediction(2.5 * output).double().numpy()
    valid, test = slice(N), slice(N, None)
    fitted = task.recalibration(label[valid], prediction[valid])
    changed = fitted.apply(prediction[test])
    assert changed.shape == prediction[test].shape and task.plausible(changed).all() and fitted.told and not fitted.lacking
    before, after = (task.forecasts(label[test], p) for p in (prediction[test], changed))
    for name in before:
        assert fitted.changes(name)
        one, other = (intercept_and_slope(each[name])[1].value for each in (before, after))
        assert abs(one - 1) > 0.2 and abs(other - 1) < 0.15, name
        assert abs(in_the_large(after[name]).value) < 0.2, name
    criterion = "log_loss" if "log_loss" in task.metrics else "brier" if "brier" in task.metrics else "rmse"
    measure = task.metrics[criterion].measure
    assert measure(label[test], changed).value < measure(label[test], prediction[test]).value


@every_task
def test_unknown_labels_take_no_part(kind):
    task, prediction = TASKS[kind], TASKS[kind].prediction(outputs(kind, 400)).double().numpy()
    label = labels(kind, 400, unknown=60)
    known = known_stays(label)
    whole, part = (task.forecasts(label[rows], prediction[rows]) for rows in (slice(None), known))
    for name in whole:
        assert calibration(whole[name]).large.value == pytest.approx(calibration(part[name]).large.value)
    one, other = (task.recalibration(label[rows], prediction[rows]) for rows in (slice(None), known))
    assert one.told.keys() == other.told.keys()
    np.testing.assert_allclose(one.apply(prediction), other.apply(prediction))


@every_task
def test_too_few_outcomes_change_nothing(kind):
    task, prediction = TASKS[kind], TASKS[kind].prediction(outputs(kind, 9)).double().numpy()
    found = task.recalibration(labels(kind, 9, unknown=0), prediction)
    assert not found.told and set(found.lacking.values()) == {"too few outcomes"}
    np.testing.assert_array_equal(found.apply(prediction), prediction)
    assert not any(found.changes(name) for name in task.forecasts(labels(kind, 9, unknown=0), prediction))


def test_a_label_with_too_few_outcomes_is_left_as_it_is():
    task, output = TASKS["multilabel"], outputs("multilabel", 400)
    label, prediction = drawn("multilabel", output), task.prediction(output).double().numpy()
    label[8:, 2] = 0
    found = task.recalibration(label, prediction)
    assert set(found.lacking) == {"mass"} and set(found.told) == {"fluid", "air", "fracture"} and not found.changes("mass")
    changed = found.apply(prediction)
    np.testing.assert_array_equal(changed[:, 2], prediction[:, 2])
    assert (changed[:, 0] != prediction[:, 0]).all()


def test_only_a_mean_has_no_distribution_to_judge():
    assert {kind for kind, task in TASKS.items() if task.unjudged} == {"regression"}
    assert isinstance(TASKS["regression"].forecasts(np.zeros(3), np.zeros(3))["mean"], Mean)


def test_horizons_are_quarters_of_the_events():
    assert list(TASKS["survival"].forecasts(np.ones((3, 2)), np.full((3, 3), 0.5))) == ["by 2 d", "by 5 d"]


def test_a_type_that_says_nothing_of_it_says_so():
    """As one from outside the package; its forecasts are none, and its recalibration changes nothing."""
    task, prediction = TASKS["binary"], torch.full((4,), 0.5).numpy()
    assert Task.forecasts(task, prediction, prediction) == {} and "define `forecasts`" in Task.uncalibrated
    assert Task.recalibration(task, prediction, prediction).apply(prediction) is prediction
