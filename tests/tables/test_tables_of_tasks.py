"""Tables of results of every type of task: computed, written, read, computed again; and what is refused before any training."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from cm2 import RunStore, load_cohort
from cm2.metrics import holm
from cm2.runs.run import Run
from cm2.tables import markdown, publish, read, recompute, table, values, verdicts, verify_tables
from cm2.tables.predictions import predicted, read_predictions, write_predictions
from cm2.tables.ranks import mean_ranks
from cm2.tables.recomputation import check_folder
from cm2.tasks import Regression, metric_named
from cm2.uncertainty import difference
from data_prep.writer import write_cohort
from tests.tables.conftest import FAST
from tests.tasks.cases import TASKS, labels
from tests.tasks.cohort import N, prepared

TABLE = """
title = "Every task"
reference = "Late fusion"
margin = 0.05
margins = { rmse = 0.5 }
row = [{ label = "Late fusion", method = "late_fusion" }, { label = "Logistic", method = "logistic" }]
section = [{ label = "as it is", setting = "partial" }]
"""
every_task = pytest.mark.parametrize("kind", TASKS)


def learnable(**changes):
    """Labels are in columns of a modality, with noise, so that methods find some of it."""
    given, rng = prepared(**changes), np.random.default_rng(1)
    vector = given.modalities["vector"]
    for at, kind in enumerate(("multiclass", "regression", "survival")):
        vector.data[:, at] = np.nan_to_num(labels(kind, N, unknown=12).reshape(N, -1)[:, 0]) + rng.normal(size=N)
    return given


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return load_cohort(write_cohort(tmp_path_factory.mktemp("cohorts") / "many", learnable()))


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("specs") / "every.toml"
    path.write_text(TABLE)
    return path


@pytest.fixture(scope="module")
def kept(cohort, spec, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    return table(spec, cohort, "smoke", seeds=2, settings=FAST, store=store, out=out, progress=False), out


@every_task
def test_its_metrics_are_shown(kind, kept):
    task, (result, out) = TASKS[kind], kept
    cells = [cell for cell in result.cells if cell.task == task.name]
    assert {cell.metric for cell in cells} == set(task.shown) and len(cells) == 4
    for cell in cells:
        assert len(cell.runs) == 2 and cell.low < cell.value < cell.high and cell.n == 47
        assert (cell.positives is None) == (cell.smallest is not None) == (kind != "binary")
        assert f"{task.name} {task.metrics[cell.metric].heading} |" in (out / "every.md").read_text()
    assert len([cell for cell in cells if cell.difference]) == 2
    frame = pd.read_csv(out / "every.csv")
    np.testing.assert_allclose(frame[frame["task"] == task.name]["value"], [cell.value for cell in cells], rtol=1e-5)
    assert verdicts(result).query("task == @task.name")["verdict"].isin(("above", "below", "undecided")).all()


def test_every_number_is_computed_again(kept):
    result, out = kept
    assert read(out / "every.json") == result and recompute(result, out) == list(result.cells)
    assert list(verify_tables(out)) == [("every: every interval and p-value recomputed from its predictions", "")]
    assert result.tasks == {task.name: task for kind, task in TASKS.items() if kind != "binary"}
    assert markdown(result) == (out / "every.md").read_text() and "stay RMSE (d)" in values(result, "stay")
    with pytest.raises(ValueError, match="does not match its predictions: another value of Late fusion"):
        recompute(replace(result, cells=(replace(result.cells[0], value=0.3), *result.cells[1:])), out)


@every_task
def test_numbers_are_those_of_the_runs(kind, kept, store):
    """But for rounding of the predictions."""
    task, (result, _) = TASKS[kind], kept
    for cell in (cell for cell in result.cells if cell.task == task.name):
        of_runs = [Run(store.root / key).metrics["test"][cell.metric] for key in cell.runs]
        assert cell.seeds == pytest.approx(of_runs[: len(cell.seeds)], rel=0.02)
        exact = [task.metrics[cell.metric].measure(one.label, one.prediction).value for one in of_each(cell, store)]
        assert cell.seeds == tuple(exact[: len(cell.seeds)])


@every_task
def test_intervals_agree_with_resamples_in_a_loop(kind, kept, store):
    """Both parts: stays drawn with replacement, the seeds' own values from their spread (a slow oracle)."""
    task, (result, _) = TASKS[kind], kept
    rng = np.random.default_rng(0)
    for metric in task.shown:
        row, base = (result.cell(name, metric, task.name) for name in ("Logistic", "Late fusion"))
        drawn: list[list[float]] = []
        runs = [of_each(cell, store) for cell in (row, base)]
        measure = task.metrics[metric].measure
        for _ in range(300):
            at = rng.integers(0, row.n, row.n)
            drawn.append([np.mean([measure(one.label[at], one.prediction[at]).value for one in each]) for each in runs])
        means = np.array(drawn)
        for cell, own in ((row, means[:, 0]), (base, means[:, 1])):
            of_seeds = np.var(cell.seeds, ddof=1) / 2 if len(cell.seeds) > 1 else 0.0
            assert np.hypot(cell.se_stays, np.sqrt(of_seeds)) == pytest.approx(max(own.std(), np.sqrt(of_seeds)), rel=0.35)
        d = row.difference
        both = difference(*[[task.metrics[metric].measure(one.label, one.prediction) for one in each] for each in runs])
        assert (d["estimate"], d["p"]) == pytest.approx((both.estimate, both.p_value))
        assert np.hypot(d["se_stays"], d["se_seeds"]) >= 0.7 * (means[:, 0] - means[:, 1]).std()


def of_each(cell, store):
    return [predicted(Run(store.root / key)) for key in cell.runs]


def test_corrections_are_over_all_tasks(kept):
    found = [cell.difference for cell in kept[0].cells if cell.difference]
    assert len(found) == 10 and [d["p_holm"] for d in found] == holm([d["p"] for d in found])


def test_equivalence_has_margins_of_the_metrics_own_scale(kept):
    result, out = kept
    tested = {cell.metric for cell in result.cells if "p_equivalent" in (cell.difference or {})}
    assert tested == {"auroc", "aupr", "macro_auroc", "macro_aupr", "concordance", "rmse"}
    assert "a difference of less than 0.05, 0.5 (RMSE) in either direction" in (out / "every.md").read_text()
    assert result.provenance["margins"] == {"rmse": 0.5}


def test_ranks_know_what_is_better(kept):
    cells = kept[0].cells
    for metric in ("rmse", "concordance"):
        best = mean_ranks(kept[0], metric)[0].index[0]
        own = {cell.row: metric_named(metric).gain(cell.value) for cell in cells if cell.metric == metric}
        assert own[best] == max(own.values())


def test_predictions_of_all_types_share_a_file(kept, tmp_path):
    result, out = kept
    keys = sorted({key for cell in result.cells for key in cell.runs})
    (path,) = out.glob("predictions-*.parquet")
    found = read_predictions(path, keys)
    assert {one.of for one in found.values()} == set(TASKS.values()) - {TASKS["binary"]} | {found[result.cells[0].runs[0]].of}
    write_predictions(again := tmp_path / "again.parquet", found)
    for key, one in read_predictions(again, keys).items():
        assert one.same(found[key]) and np.array_equal(one.label, found[key].label, equal_nan=True) and one.of == found[key].of
    for a, b in combinations(keys, 2):
        assert not found[a].same(found[b]) or found[a].task == found[b].task


def test_tasks_and_metrics_that_were_asked_for(cohort, store, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(TABLE.replace("margin = 0.05", 'metrics = ["r2", "accuracy", "brier"]').replace("margins = { rmse = 0.5 }", ""))
    result = table(
        path, cohort, "smoke", seeds=1, settings=FAST, store=store, progress=False, tasks=["stay", "ward", "findings", "relapse"]
    )
    shown = {(cell.task, cell.metric) for cell in result.cells}
    both = {("relapse", "concordance"), ("relapse", "log_loss")}  # has none of those asked for
    assert shown == {("stay", "r2"), ("ward", "accuracy"), ("findings", "brier")} | both
    assert "one seed with its 95 % interval" in markdown(result)


@pytest.mark.parametrize(
    ("change", "tasks", "said"),
    [
        (("margin = 0.05", 'metrics = ["rmsd"]'), ["stay"], "metric 'rmsd' is unknown.*rmse"),
        (("margin = 0.05", 'metrics = ["concordance"]'), ["stay"], "no task has the metric 'concordance'; choose one of rmse, mae, r2"),
        (("rmse = 0.5", "rmse = 0.0"), ["stay"], "margin 0 is not above 0"),
        (("logistic", "boosted_trees"), ["relapse"], "row Logistic, task relapse: boosted_trees has trees of scikit-learn"),
        (("rmse", "rmse"), ["stays"], "the cohort many tasks has no task 'stays'"),
        (('setting = "partial"', "set = { labels = 0.004 }"), ["stay"], r"labels: 0.004 of \d+ stays with an outcome is none"),
        (
            ('setting = "partial"', "set = { labels = 0.02 }"),
            ["stay"],
            "outcomes stay of the valid stays, 0.02 of them labelled, do not differ",
        ),
    ],
)
def test_what_a_table_cannot_do_is_said_before_training(change, tasks, said, cohort, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    path = tmp_path / "own.toml"
    path.write_text(TABLE.replace(*change))
    with pytest.raises(ValueError, match=said):
        table(path, cohort, "smoke", seeds=1, store=RunStore(tmp_path / "runs"), tasks=tasks, progress=False)


def test_a_split_of_which_nothing_can_be_computed_is_said_before_training(spec, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    given = learnable(kinds=("regression",))
    stays = given.stays.assign(stay=given.stays["stay"].where(given.stays.index % 4 != 3, 2.5))
    cohort = load_cohort(write_cohort(tmp_path / "c", replace(given, stays=stays)))
    with pytest.raises(
        ValueError, match=r"many tasks: the known outcomes stay of the test stays do not differ; a method needs different ones"
    ):
        table(spec, cohort, "smoke", seeds=1, store=RunStore(tmp_path / "runs"), progress=False)


def test_a_folder_with_another_task_of_the_name_is_refused(kept, spec, store, tmp_path):
    _, out = kept
    tasks = {task.name: task for task in TASKS.values()} | {"stay": Regression("stay", "length of stay", unit="d", mean=1.0, scale=2.0)}
    other = load_cohort(write_cohort(tmp_path / "c", learnable(tasks=tasks)))
    check_folder(out, other.checksum)
    with pytest.raises(
        ValueError, match=r"has tables of another task stay, a regression task with other settings; write elsewhere with out="
    ):
        table(spec, other, "smoke", seeds=2, settings=FAST, store=store, out=out, progress=False, tasks=["stay"])


def test_of_a_credentialed_cohort_groups_below_ten_are_hidden(spec, store, tmp_path):
    stays = prepared().stays
    stays["findings.mass"] = ((np.arange(N) % 4 == 3) & (np.arange(N) < 24)).astype(int)  # six of the test stays
    cohort = load_cohort(write_cohort(tmp_path / "c", learnable(stays=stays, credentialed=True)))
    options = {"settings": FAST, "store": store, "progress": False}
    (result,) = publish(spec, [cohort], tmp_path / "out", profile="smoke", seeds=2, tasks=["findings", "stay"], **options)
    hidden, shown = ([cell for cell in result.cells if cell.task == name] for name in ("findings", "stay"))
    assert all(cell.value is None and cell.difference is None and cell.smallest is None for cell in hidden)
    assert all(cell.value == float(f"{cell.value:.3g}") and cell.smallest is None for cell in shown)
    written = json.loads((tmp_path / "out" / "many tasks" / "every.json").read_text())
    assert "predictions" not in written["provenance"] and "fewer than 10 stays with or without" in markdown(result)


def test_few_labels_and_alignment_take_every_task(cohort, store, tmp_path):
    own = {"settings": FAST, "store": store, "progress": False}
    path = tmp_path / "fewer.toml"
    path.write_text(TABLE.replace('setting = "partial"', 'setting = "partial", set = { labels = 0.5 }'))
    result = table(path, cohort, "smoke", seeds=2, tasks=["stay", "relapse"], **own)
    assert all(cell.value is not None for cell in result.cells) and result.provenance["masked"] == ["as it is"]
    result = table("alignment-pair", cohort, "smoke", seeds=1, only=["CM2"], tasks=["ward"], **own)
    assert "auroc" not in {cell.metric for cell in result.cells} and "ward: not a binary outcome" in markdown(result)


def test_every_kind_of_table_takes_every_task(cohort, store, tmp_path):
    """Counts, and the tables that no other test of this file computes."""
    own = {"settings": FAST, "store": store, "progress": False, "seeds": 1, "out": tmp_path}
    result = table("8", cohort, "smoke", **own)
    counted = {cell.task for cell in result.cells if cell.metric == "positives"}
    assert counted == {"death"} and {cell.task for cell in result.cells} == set(cohort.tasks)
    assert all(cell.value is not None for cell in result.cells) and "hidden" not in (tmp_path / "table-8.md").read_text()
    result = table("missing-at-test", cohort, "smoke", only=["Late fusion"], **own)
    shown = {(cell.task, cell.metric) for cell in result.cells}
    assert {("death", "brier"), ("findings", "brier"), ("relapse", "concordance"), ("stay", "rmse"), ("ward", "macro_auroc")} <= shown
    result = table("imputation-pair", cohort, "smoke", only=["CM2"], tasks=["ward", "stay", "relapse", "findings"], **own)
    assert {cell.task for cell in result.cells if cell.metric == "energy" and cell.value is not None} == set(cohort.tasks) - {"death"}
