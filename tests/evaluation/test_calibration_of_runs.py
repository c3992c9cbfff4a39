"""The calibration of runs: by missing pattern, after recalibration, on the command line, and what may be shown of it."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from cm2 import Config, RunStore, cli, fit, load_cohort
from cm2.calibration import Recalibration, calibration
from cm2.calibration.recalibration import ANY_LINE, REVERSED, TOO_FEW
from cm2.cli.calibration import text
from cm2.cohorts.disclosure import SMALLEST, Disclosure, Group, few
from cm2.errors import InputError
from cm2.evaluation.calibration import EVERYONE, calibration_of, patterns, report, shown_groups
from cm2.methods import METHODS
from cm2.tasks import Binary
from data_prep.writer import write_cohort
from tests.methods.test_every_task import MODALITIES, batch_of, build
from tests.tasks.cases import TASKS
from tests.tasks.cohort import prepared

OPEN, GUARDED = Disclosure(credentialed=False), Disclosure()
every_task = pytest.mark.parametrize("kind", TASKS)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """The same stays, open and as if under an agreement."""
    folder = tmp_path_factory.mktemp("cohorts")
    given = {name: replace(prepared(n=480), credentialed=name == "guarded", fabricated=name == "guarded") for name in ("open", "guarded")}
    return {name: load_cohort(write_cohort(folder / name, one)) for name, one in given.items()}


@pytest.fixture(scope="module")
def runs(cohorts, tmp_path_factory):
    store, made = RunStore(tmp_path_factory.mktemp("runs")), {}

    def run(kind, name):
        if (kind, name) not in made:
            config = Config.from_profile("smoke", {"method": "late_fusion", "task": TASKS[kind].name, "train.epochs": 1})
            made[kind, name] = fit(config, cohorts[name], store, progress=False)
        return made[kind, name]

    return run


@every_task
def test_a_run_of_every_task_has_a_report(kind, runs, cohorts):
    run, cohort = runs(kind, "open"), cohorts["open"]
    before = sorted(path for path in run.path.parent.rglob("*"))
    found = calibration_of(run, cohort)
    assert sorted(path for path in run.path.parent.rglob("*")) == before, "nothing is written"
    names = list(dict.fromkeys(found.summary["of"]))
    assert set(found.summary["observed modalities"]) == {EVERYONE, "series + vector", "series"}
    task, frame = run.task, run.predictions[run.predictions["split"] == "test"]
    exact = {name: calibration(one) for name, one in task.forecasts(*task.of_frame(frame)).items()}
    assert names == list(exact) and set(found.curve["of"]) == set(names)
    for _, line in found.summary[found.summary["observed modalities"] == EVERYONE].iterrows():
        one = exact[line["of"]]
        assert line["n"] == one.n and line["predicted"] == pytest.approx(one.predicted, abs=1e-5)
        assert one.large is None or line["large"] == pytest.approx(one.large.value, abs=1e-4)
    parts = found.summary[found.summary["observed modalities"] != EVERYONE].groupby("of")["n"].sum()
    assert all(parts[name] == exact[name].n for name in names)
    shown = text(found)
    assert "| series + vector |" in shown and ("cannot be judged" in shown) == (kind == "regression")
    assert found.told or set(found.lacking.values()) <= {TOO_FEW, ANY_LINE, REVERSED}


@pytest.mark.parametrize("kind", ["multiclass", "survival"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_predictions_of_every_method_have_one(name, kind):
    if kind in METHODS[name].unable:
        pytest.skip("a method that has no such task says so when it is built")
    batch, task = batch_of(kind, 90), TASKS[kind]
    prediction = build(name, kind).eval().predictive(batch)[0].detach().double().numpy()
    label, of = batch.label.double().numpy(), patterns(batch.present.numpy(), [m.name for m in MODALITIES])
    found = report(task, label, prediction, of, task.recalibration(label, prediction), OPEN)
    assert len(found.summary) == len(task.forecasts(label, prediction)) * (1 + len(of))


def opposite(n=4000, seed=0):
    """Predictions that are right on average, too low where the second modality is observed, and too high where it is not."""
    rng = np.random.default_rng(seed)
    has = rng.random(n) < 0.5
    line = rng.normal(-1, 1, n)
    label = (rng.random(n) < expit(line)).astype(float)
    return label, expit(line + np.where(has, -0.8, 0.8)), np.stack([np.ones(n, dtype=bool), has], axis=1)


def test_the_whole_hides_opposite_errors_of_the_patterns():
    label, prediction, present = opposite()
    found = report(Binary(), label, prediction, patterns(present, ["a", "b"]), Recalibration.none("none asked"), OPEN).summary
    found = found.set_index("observed modalities")
    assert abs(found.loc[EVERYONE, "large"]) < 0.15 < found.loc["a + b", "large_low"] and found.loc["a", "large_high"] < -0.15
    assert "after_large" not in found


@every_task
def test_recalibration_is_that_of_the_validation_stays(kind, runs, cohorts):
    run, cohort = runs(kind, "open"), cohorts["open"]
    frame = run.predictions[run.predictions["split"] == "valid"]
    exact, found = run.task.recalibration(*run.task.of_frame(frame)), calibration_of(run, cohort)
    assert found.lacking == exact.lacking and found.told.keys() == exact.told.keys()
    assert all(found.told[name] == pytest.approx(numbers, rel=1e-3) for name, numbers in exact.told.items())
    with pytest.raises(InputError, match="validation stays, which would judge themselves; give split='test'"):
        calibration_of(run, cohort, "valid")


def test_a_task_without_claims_is_refused_before_anything_is_predicted(runs, cohorts, monkeypatch):
    run = runs("survival", "open")
    monkeypatch.setattr(type(run.task), "uncalibrated", "a relative risk orders stays and is no probability")
    monkeypatch.setattr("cm2.runs.store.predict", lambda *_: pytest.fail("predicted"))
    with pytest.raises(InputError, match="relapse: no calibration of a survival task: a relative risk orders stays and is no probability"):
        calibration_of(run, cohorts["open"])


def counts_in(shown):
    """Numbers of the columns ``n`` and ``positives`` in tables of Markdown."""
    found, columns = [], []
    for line in shown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "n" in cells:
            columns = [cells.index(name) for name in ("n", "positives") if name in cells]
        elif line.startswith("|") and columns:
            found += [int(cells[at].replace(",", "")) for at in columns if re.fullmatch(r"[\d,]+", cells[at])]
    return found


@every_task
def test_of_a_credentialed_cohort_only_what_may_be_shown(kind, runs, cohorts, monkeypatch, capsys):
    run, cohort = runs(kind, "guarded"), cohorts["guarded"]
    monkeypatch.setattr("sys.argv", ["cm2", "evaluate", str(run.path), "--cohort", str(cohort.path), "--calibration"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and "Fabricated data" in shown and EVERYONE in shown
    assert counts_in(shown) and not any(few(count) for count in counts_in(shown))
    digits = [number.replace(".", "").lstrip("0") for number in re.findall(r"(?<![\w.])\d+\.\d+", shown)]
    assert digits and max(map(len, digits)) <= 3
    found = calibration_of(run, cohort)
    exact = calibration_of(runs(kind, "open"), cohorts["open"])
    assert len(found.summary) == len(exact.summary) and len(found.curve) <= len(exact.curve)
    numbers = found.summary[found.summary["few"]].drop(columns=["observed modalities", "of", "n", "positives", "few", "hidden"])
    assert numbers.isna().all(axis=None)


def test_stays_whose_outcome_is_unknown_hide_no_few():
    """Forty stays had the event, four were seen to the horizon without it, and of the others nobody knows: no number is shown."""
    label = np.stack([np.repeat([1.0, 2.5, 0.5], [40, 4, 156]), np.repeat([1.0, 0.0, 0.0], [40, 4, 156])], axis=1)
    prediction = np.repeat([[0.9, 0.8, 0.7]], 200, axis=0)
    task = TASKS["survival"]
    found = report(task, label, prediction, {"a": np.ones(200, dtype=bool)}, task.recalibration(label, prediction), GUARDED)
    assert found.summary["hidden"].all() and found.summary["few"].all() and found.curve["hidden"].all()
    assert {"predicted", "observed", "observed_low"} <= set(found.curve) and found.curve["observed"].isna().all()


def test_no_few_follow_from_groups_and_claims():
    """Any single number that is hidden leaves ten or more stays to be guessed, over groups and over classes."""
    dice = random.Random(0)
    for _ in range(300):
        table = [[dice.choice((0, dice.randrange(1, 14), dice.randrange(1, 300))) for _ in range(3)] for _ in range(3)]
        whole = [sum(column) for column in zip(*table, strict=True)]
        exact = {
            (row, name): Group(sum(line), line[k])
            for row, line in zip((EVERYONE, "a", "b", "c"), [whole, *table], strict=True)
            for k, name in enumerate("xyz")
        }
        shown = shown_groups(exact, GUARDED, exclusive="xyz")
        for key, one in shown.items():
            assert not any(few(number) for number in one if number is not None)
            assert one.positives is None or not few(exact[key].n - one.positives)
        for keys in [*([(row, name) for row in "abc"] for name in "xyz"), *([(row, name) for name in "xyz"] for row in "abc")]:
            hidden = [exact[key].positives for key in keys if shown[key].positives is None]
            whole_shown = keys[0][0] == keys[1][0] or shown[EVERYONE, keys[0][1]].positives is not None
            assert not hidden or not whole_shown or not any(hidden) or (len(hidden) > 1 and sum(hidden) >= SMALLEST) or len(hidden) == 3


def test_patterns_are_named_by_what_is_observed():
    present = np.array([[True, False], [True, True], [True, True], [False, True]])
    found = patterns(present, ["series", "note"])
    assert list(found) == ["series + note", "note", "series"] and found["series + note"].tolist() == [False, True, True, False]
