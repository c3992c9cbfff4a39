"""One contract for every type of task, and the formulas of each against others' programs."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from torch.nn import functional as F

from cm2.tasks import TASKS as TYPES
from cm2.tasks import Binary, Multiclass, Multilabel, Regression, Survival, known_stays, task_of
from cm2.tasks.measures import concordance, explained
from tests.tasks.cases import TASKS, labels, outputs

every_task = pytest.mark.parametrize("kind", TASKS)


def test_every_type_is_tried_here():
    assert set(TASKS) == set(TYPES)


@every_task
def test_losses_count_what_is_known(kind):
    task, label, output = TASKS[kind], torch.from_numpy(labels(kind)).float(), outputs(kind)
    known = known_stays(label)
    loss = task.loss(output, label)
    torch.testing.assert_close(loss, task.loss(output[known], label[known]))
    torch.testing.assert_close(task.errors(output, label)[known].mean(), loss)
    some = torch.arange(len(label)) < 10
    torch.testing.assert_close(task.loss(output, label, some), task.loss(output[:10], label[:10]))
    assert task.loss(output, torch.full_like(label, torch.nan)) == 0
    assert task.losses(output.bfloat16(), label.nan_to_num(1.0)).dtype == torch.float32


@every_task
def test_the_start_is_the_best_constant(kind):
    task, label = TASKS[kind], torch.from_numpy(labels(kind, 400, unknown=40)).float()
    start = task.start(label).requires_grad_()
    assert start.shape == (task.outputs,)
    task.loss(start.expand(len(label), -1), label).backward()
    assert start.grad.abs().max() < 0.02  # half a stay more is all that is missing


@every_task
def test_predictions_and_their_mean(kind):
    task, output = TASKS[kind], outputs(kind, 12).view(4, 3, -1)
    prediction = task.prediction(output)
    assert prediction.shape == (4, 3, *((len(task.predicted),) if task.predicted else ()))
    assert task.plausible(prediction.numpy()).all()
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [True, True, False]])
    seen = present.view(4, 3, *[1] * (prediction.ndim - 2))
    mean = torch.where(seen, prediction, 0).sum(1) / seen.sum(1)
    pooled = task.prediction(task.pooled(output, present))
    torch.testing.assert_close(pooled, mean, rtol=1e-4, atol=1e-5)


@every_task
def test_metrics_of_good_predictions_are_better(kind):
    task, label = TASKS[kind], labels(kind, 120)
    given = torch.from_numpy(np.nan_to_num(label, nan=1.0)).float()
    x = torch.zeros(len(given), task.outputs, requires_grad=True)
    optimiser = torch.optim.Adam([x], lr=0.3)
    for _ in range(20):
        optimiser.zero_grad()
        task.losses(x, given).sum().backward()
        optimiser.step()
    good, bad = (task.prediction(output.detach()).double().numpy() for output in (x, outputs(kind, 120)))
    better, worse = task.summary(label, good), task.summary(label, bad)
    assert task.criterion in better and better["n"] == 117
    for name, metric in task.metrics.items():
        if name in better:
            assert metric.gain(better[name]) > metric.gain(worse[name]), name
        if f"{name}_low" in worse:
            assert worse[f"{name}_low"] <= worse[name] <= worse[f"{name}_high"]
    assert task.values(label, bad).keys() <= task.metrics.keys()


@every_task
def test_deviations_are_those_of_weights(kind):
    """Their squares add up to the variance of the metric over resamples of the stays."""
    task, label, prediction = TASKS[kind], labels(kind, 150, unknown=0), TASKS[kind].prediction(outputs(kind, 150)).double().numpy()
    rng = np.random.default_rng(0)
    for name, metric in task.metrics.items():
        if name == "break_even":  # a step function: tested where it is defined
            continue
        measured = metric.measure(label, prediction)
        drawn = []
        for _ in range(300):
            rows = rng.integers(0, len(label), len(label))
            drawn.append(metric.measure(label[rows], prediction[rows]).value)
        assert np.sqrt(measured.deviations @ measured.deviations) == pytest.approx(np.std(drawn), rel=0.2), name


@every_task
def test_columns_and_manifest_make_the_task_again(kind):
    task, label = TASKS[kind], labels(kind)
    flat = label.reshape(len(label), -1)
    stays = pd.DataFrame(dict(zip(task.columns, np.where(np.isnan(flat), task.unknown, flat).T, strict=True)))
    task.check(stays, str)
    written = pd.DataFrame(task.written(stays))
    task.check(written, str)
    np.testing.assert_array_equal(task.read(written), label)
    split = np.array(["train", "test"])[np.arange(len(label)) % 2]
    entry = task.entry(label, split, ("train", "test"))
    assert task_of(task.name, entry) == task == task.fitted(label)
    assert entry["unknown"] == 3 and entry.get("type", "binary") == kind


@every_task
def test_kept_predictions_are_nearly_the_same(kind):
    task, prediction = TASKS[kind], TASKS[kind].prediction(outputs(kind)).double().numpy()
    compact = task.compact(prediction)
    assert compact.dtype == np.float16 and compact.shape == prediction.shape
    np.testing.assert_allclose(task.expanded(compact), prediction, atol=3e-3)
    np.testing.assert_allclose(task.compact(task.expanded(compact)), compact, rtol=2e-3)  # classes are made to sum to 1 again


@every_task
def test_what_cannot_be_learnt_is_said(kind):
    task, label = TASKS[kind], labels(kind)
    assert task.lacks(label, training=True) == task.lacks(label) == ""
    same = np.repeat(label[:1], 20, axis=0)
    assert "needs" in task.lacks(same) and "needs" in task.lacks(np.full_like(same, np.nan))


@pytest.mark.parametrize(
    ("kind", "column", "value", "said"),
    [
        ("binary", "death", 2, r"death: labels are 0, 1 or -1 \(unknown\), got 2 for row 5"),
        ("multiclass", "ward", 3, r"ward: labels are 0 to 2 or -1 \(unknown\), got 3 for row 5"),
        ("multiclass", "ward", 0.5, "ward: labels are .* got 0.5 for row 5"),
        ("multiclass", "ward", "icu", "ward: labels are .* got 'icu' for row 5; give numbers"),
        ("multilabel", "findings.mass", -2, "findings.mass: labels are .* got -2 for row 5"),
        ("regression", "stay", np.inf, "stay: labels are finite numbers.* got inf for row 5"),
        ("survival", "relapse.time", 0, "relapse.time: labels are a time above 0 .* got 0 for row 5"),
        ("survival", "relapse.event", 2, "relapse.event: labels are .* got 2 for row 5"),
        ("survival", "relapse.time", np.nan, "relapse.time: row 5 has none, though it has relapse.event; give both"),
        ("survival", "relapse.event", -1, "relapse.event: row 5 has none, though it has relapse.time; give both"),
    ],
)
def test_a_label_out_of_range_is_named(kind, column, value, said):
    task, label = TASKS[kind], labels(kind, unknown=0)
    stays = pd.DataFrame(dict(zip(task.columns, label.reshape(len(label), -1).T, strict=True))).astype(object)
    stays.loc[5, column] = value
    with pytest.raises(ValueError, match=said):
        task.check(stays, lambda row: f"row {row}")
    with pytest.raises(ValueError, match=f"the column {column} with the labels is missing"):
        task.check(stays.drop(columns=column), str)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Multiclass("a", classes=("x",)), "a: 1 classes; name two or more"),
        (lambda: Multilabel("a", labels=("x", "x")), "a: labels has 'x' twice"),
        (lambda: Multilabel("a", labels=("x", "<b>")), "a: labels: the name"),
        (lambda: Survival("a", edges=(2.0, 1.0)), r"a: edges \[2.0, 1.0\]; give the ends"),
        (lambda: Survival("a", bins=0), "a: bins 0"),
        (lambda: Regression("a", scale=0.0), "a: mean 0.0 and scale 0.0"),
        (lambda: Survival("a").loss(torch.zeros(2, 16), torch.ones(2, 2)), "a: the task has no edges"),
        (lambda: task_of("a", {"description": "", "type": "binry"}), r"task a: unknown type 'binry'; .*did you mean 'binary'"),
        (lambda: task_of("a", {"description": "", "type": "multiclass"}), "task a: the entry 'classes' is missing"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_binary_and_softmax_losses_are_torchs():
    label, output = torch.from_numpy(labels("binary", unknown=0)).float(), outputs("binary")
    expected = F.binary_cross_entropy_with_logits(output[:, 0], label)
    assert torch.equal(TASKS["binary"].loss(output, label), expected) and torch.equal(Binary().loss(output[:, 0], label), expected)
    classes, scores = torch.from_numpy(labels("multiclass", unknown=0)), outputs("multiclass")
    torch.testing.assert_close(TASKS["multiclass"].loss(scores, classes), F.cross_entropy(scores, classes.long()))


def test_metrics_of_several_classes_and_labels_are_scikit_learns():
    from sklearn.metrics import average_precision_score, log_loss, r2_score, roc_auc_score

    label, p = labels("multiclass", unknown=0), softmax(outputs("multiclass").double().numpy(), axis=1)
    found = TASKS["multiclass"].values(label, p)
    assert found["macro_auroc"] == pytest.approx(roc_auc_score(label, p, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(log_loss(label, p))
    assert found["accuracy"] == pytest.approx((p.argmax(1) == label).mean())
    many, q = labels("multilabel", unknown=0), torch.sigmoid(outputs("multilabel")).double().numpy()
    found = TASKS["multilabel"].values(many, q)
    assert found["macro_auroc"] == pytest.approx(roc_auc_score(many, q, average="macro"))
    assert found["micro_auroc"] == pytest.approx(roc_auc_score(many, q, average="micro"))
    assert found["macro_aupr"] == pytest.approx(average_precision_score(many, q, average="macro"))
    y, guess = labels("regression", unknown=0), 3 + outputs("regression")[:, 0].double().numpy()
    assert explained(y, guess).value == pytest.approx(r2_score(y, guess))


def censored(seed, n=150):
    """Times with ties of every sort, events, and scores that know something of the times."""
    rng = np.random.default_rng(seed)
    time, event = rng.integers(1, 30, n).astype(float), rng.random(n) < 0.6
    return time, event, (time + rng.normal(0, 20, n)).round(-1)


@pytest.mark.parametrize("seed", range(5))
def test_concordance_counts_pairs(seed):
    time, event, score = censored(seed)
    won = pairs = 0.0
    for i, j in permutations(range(len(time)), 2):
        if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
            pairs += 1
            won += (score[i] < score[j]) + 0.5 * (score[i] == score[j])
    found = concordance(np.stack([time, event], axis=1), score)
    assert found.value == pytest.approx(won / pairs, abs=1e-12)
    assert found.deviations.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_concordance_is_that_of_lifelines(seed):
    lifelines = pytest.importorskip("lifelines.utils")
    time, event, score = censored(seed)
    found = concordance(np.stack([time, event], axis=1), score)
    assert found.value == pytest.approx(lifelines.concordance_index(time, score, event), abs=1e-12)


def test_hazards_start_at_the_kaplan_meier_curve():
    lifelines = pytest.importorskip("lifelines")
    rng = np.random.default_rng(0)
    n, edges = 4000, (1.0, 2.0, 3.0, 4.0)
    time, event = np.ceil(rng.exponential(3, n)), (rng.random(n) < 0.7).astype(float)
    task = Survival("x", edges=edges)
    label = torch.from_numpy(np.stack([time, event], axis=1))
    # lifelines counts a stay censored at the end of an interval among those at risk in it, as we do: it survived the interval
    curve = lifelines.KaplanMeierFitter().fit(time, event).survival_function_at_times(edges).to_numpy()
    np.testing.assert_allclose(task.prediction(task.start(label)).numpy(), curve, atol=1e-3)


def test_edges_are_quantiles_of_events_and_hide_single_ones():
    time = np.random.default_rng(0).exponential(5, 95)
    label = np.stack([time, np.ones(95)], axis=1)
    task = Survival("x").fitted(label)
    assert len(task.edges) == 9 and task.edges[-1] >= time.max()
    assert min(np.histogram(time, (0.0, *task.edges))[0]) >= 8
    assert not set(task.edges) & set(time)
    assert Survival("x", horizon=4.0).fitted(label).edges[-1] == 4.0
    assert Survival("x", edges=(1.0,)).fitted(label).edges == (1.0,)


def test_regression_takes_its_scale_from_the_training_stays():
    task = Regression("x").fitted(np.array([1.0, 2.0, 3.0, np.nan]))
    assert (task.mean, task.scale) == (2.0, 0.8165)
    assert replace(task, mean=5.0).fitted(np.array([1.0, 2.0])).mean == 5.0
