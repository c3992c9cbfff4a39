"""The search: the paper's grid, validation alone, resumable, never the same cell twice."""

import json
import sys

import numpy as np
import pytest

from cm2 import Config, Run, RunStore, load_cohort
from cm2.environment.extras import MissingExtraError
from cm2.progress.tree import innermost
from cm2.runs.search import GRID, read_grid, search, write
from cm2.runs.store import fit_all
from data_prep.writer import write_cohort
from tests.tables.conftest import FAST
from tests.tasks.cases import TASKS
from tests.tasks.cohort import prepared

optuna = pytest.importorskip("optuna")

SMALL = """
[[parameter]]
name = "components"
fields = ["model.components"]
values = [1, 2]
methods = ["cm2"]
[[parameter]]
name = "lambda"
fields = ["model.lambda_mix", "model.lambda_copula"]
values = [1e-4, 1e-2]
"""
OPTIONS = {"task": "death", "profile": "smoke", "settings": FAST, "progress": False}


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(SMALL)
    return path


def test_the_grid_is_the_papers_with_larger_lambda():
    grid = {axis.name: axis.values for axis in read_grid()}
    assert grid["dropout"] == (0, 0.1, 0.2, 0.3)
    assert grid["learning_rate"] == (1e-4, 5e-5, 1e-5)
    assert grid["components"] == (1, 2, 3, 4, 5, 6)
    assert grid["temperature"] == (0.001, 0.005, 0.01, 0.05, 0.08)
    assert {1e-5, 5e-6, 1e-6} < set(grid["lambda"]) and max(grid["lambda"]) == 1e-2
    assert [axis.name for axis in read_grid(GRID, "medfuse")] == ["dropout", "learning_rate"]


def test_the_best_cell_is_the_best_on_validation(tiny, store, grid, tmp_path):
    found = search(tiny, trials=9, grid=grid, store=store, folder=tmp_path / "state", **OPTIONS)
    assert found.cells == len(found.trials) == 4
    assert not found.trials.duplicated(["components", "lambda"]).any()
    for row in found.trials.to_dict("records"):
        run = Run(store.root / row["runs"])
        assert row["valid_auroc"] == run.metrics["valid"]["auroc"]
        cell = {"model.components": row["components"]} | dict.fromkeys(("model.lambda_mix", "model.lambda_copula"), row["lambda"])
        assert run.config == Config.from_profile("smoke", FAST | {"task": "death"} | cell)
    assert found.trials["valid_auroc"].is_monotonic_decreasing
    best = Run(store.root / found.trials["runs"][0]).config.model
    assert found.settings == {
        "model.components": best.components,
        "model.lambda_mix": best.lambda_mix,
        "model.lambda_copula": best.lambda_copula,
    }
    paths = write(found, tmp_path / "out")
    assert [p.name for p in paths] == ["search-cm2-death.csv", "search-cm2-death.json"]
    assert json.loads(paths[1].read_text())["settings"] == found.settings


def test_a_second_call_continues(tiny, store, grid, tmp_path, monkeypatch, capsys):
    state, told = tmp_path / "state", []
    first = search(tiny, trials=2, grid=grid, store=store, folder=state, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr("cm2.runs.search.fit_all", lambda *given: told.append(innermost().state().words) or fit_all(*given))
        more = search(tiny, trials=3, grid=grid, store=store, folder=state, **OPTIONS)
    assert told == [("search", "2 of 3 cells")] and not capsys.readouterr().err
    assert len(first.trials) == 2 and len(more.trials) == 3
    assert set(first.trials["runs"]) < set(more.trials["runs"])
    monkeypatch.setattr("cm2.runs.search.fit_all", lambda *_: pytest.fail("trained again"))
    assert search(tiny, trials=3, grid=grid, store=store, folder=state, **OPTIONS).trials.equals(more.trials)


def test_a_resumed_search_draws_other_cells(tiny, store, grid, tmp_path):
    grid.write_text(f'[[parameter]]\nname = "lambda"\nfields = ["model.lambda_mix"]\nvalues = {[cell / 100 for cell in range(100)]}\n')
    for trials in (1, 2):
        search(tiny, trials=trials, grid=grid, store=store, folder=tmp_path / "state", **OPTIONS)
    (log,) = (tmp_path / "state").glob("*.log")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(log)))
    assert len(optuna.load_study(study_name=log.stem, storage=storage).trials) == 2


def test_cells_are_tried_several_at_a_time_each_under_all_seeds(tiny, store, grid, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("cm2.runs.search.fit_all", lambda configs, *_: asked.append(len(configs)) or fit_all(configs, tiny, store))
    found = search(tiny, trials=3, jobs=2, seeds=2, grid=grid, store=store, folder=tmp_path / "state", **OPTIONS)
    assert asked == [4, 2]
    for row in found.trials.to_dict("records"):
        runs = [Run(store.root / name) for name in row["runs"].split()]
        assert [run.config.seed for run in runs] == [0, 1]
        assert {(run.config.model.components, run.config.model.lambda_mix) for run in runs} == {(row["components"], row["lambda"])}
        assert row["valid_auroc"] == np.mean([run.metrics["valid"]["auroc"] for run in runs])


def test_a_killed_search_takes_its_cells_up_again(tiny, store, grid, tmp_path, monkeypatch):
    state, asked = tmp_path / "state", []

    def killed(configs, *_):
        asked.extend(configs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cm2.runs.search.fit_all", killed)
        with pytest.raises(KeyboardInterrupt):
            search(tiny, trials=1, grid=grid, store=store, folder=state, **OPTIONS)
    found = search(tiny, trials=1, grid=grid, store=store, folder=state, **OPTIONS)
    assert Run(store.root / found.trials["runs"][0]).config == asked[0]


def test_no_test_prediction_is_read(tiny, grid, tmp_path, monkeypatch):
    class Blind(dict):
        def __getitem__(self, name):
            assert name == "valid"
            return super().__getitem__(name)

    monkeypatch.setattr(Run, "metrics", property(lambda run: Blind(run._read("metrics.json"))))
    search(tiny, trials=2, grid=grid, store=RunStore(tmp_path / "runs"), folder=tmp_path / "state", **OPTIONS)


def test_what_cannot_be_searched_is_named(tiny, store, grid, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown method 'cm3'"):
        search(tiny, "cm3", trials=1, grid=grid, store=store, folder=tmp_path, **OPTIONS)
    with pytest.raises(ValueError, match="unknown task 'mortality'"):
        search(tiny, trials=1, grid=grid, store=store, folder=tmp_path, **OPTIONS | {"task": "mortality"})
    with pytest.raises(ValueError, match="is not there; a grid is a TOML file"):
        search(tiny, grid=tmp_path / "none.toml", **OPTIONS)
    grid.write_text('[[parameter]]\nname = "x"\nfields = ["model.lamda"]\nvalues = [1]\n')
    with pytest.raises(ValueError, match=r"unknown field model.lamda.*did you mean"):
        search(tiny, grid=grid, **OPTIONS)
    grid.write_text('[[parameter]]\nname = "x"\nfields = ["model.components"]\nvalues = [1, 0]\n')
    with pytest.raises(ValueError, match=r"model.components: expected a positive number, got 0"):
        search(tiny, trials=1, grid=grid, store=store, folder=tmp_path, **OPTIONS)
    grid.write_text('[[parameter]]\nname = "x"\n')
    with pytest.raises(ValueError, match=r"grid\.toml: parameter: item 1: the entry 'fields' is missing"):
        search(tiny, grid=grid, **OPTIONS)
    grid.write_text(SMALL)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install -e '\.\[search\]'"):
        search(tiny, trials=1, grid=grid, store=store, folder=tmp_path, **OPTIONS)


@pytest.mark.parametrize(
    ("kind", "told"), [("binary", "a positive, or a negative, death"), ("multiclass", "some class, label or event of ward")]
)
def test_too_few_of_a_credentialed_cohort_to_choose_by(kind, told, grid, tmp_path):
    """In the words of the task, before anything is trained, without a count."""
    cohort = load_cohort(write_cohort(tmp_path / "c", prepared(("binary", "multiclass"), n=80, credentialed=True)))
    options = {"profile": "smoke", "settings": {"modalities": ["series", "vector"]}, "progress": False}
    with pytest.raises(ValueError, match=f"fewer than 10 of the validation stays have {told}: a search would choose by chance"):
        search(cohort, "late_fusion", task=TASKS[kind].name, trials=1, store=RunStore(tmp_path / "runs"), grid=grid, **options)
    assert RunStore(tmp_path / "runs").runs() == []
