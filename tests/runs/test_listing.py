"""What tells the runs of a store apart."""

from cm2 import Config, RunStore, fit_all
from cm2.cli import runs
from cm2.runs.listing import distinguishing, told_apart
from tests.runs.test_store import TESTED


def test_only_what_differs_is_said():
    settings = [{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1, "b": 2, "c": "x"}]
    assert distinguishing(settings) == [{"b": 2}, {"b": 3}, {"b": 2, "c": "x"}]
    assert distinguishing(settings[:1]) == [{}]
    assert distinguishing([]) == []


def test_runs_of_one_name_are_told_apart(small_cohort, tmp_path):
    every = ({"model.link": "scalar"}, {"model.link": "component"}, {"model.link": "scalar", "seed": 1})
    store = RunStore(tmp_path)
    runs = fit_all([Config.from_profile("smoke", {**TESTED, **each}) for each in every], small_cohort, store)
    name = "cm2 synthetic in_hospital_mortality seed"
    assert told_apart(runs) == [(f"{name} 0", "model.link=scalar"), (f"{name} 0", "model.link=component"), (f"{name} 1", "")]


def test_one_damaged_run_hides_no_other(small_cohort, tmp_path, capsys):
    store = RunStore(tmp_path)
    broken, whole = fit_all([Config.from_profile("smoke", {**TESTED, "seed": seed}) for seed in (0, 1)], small_cohort, store)
    (broken.path / "model.json").write_text("{")
    runs(tmp_path)
    said = capsys.readouterr().out
    assert f"{broken.path.name}  cannot be read: " in said
    assert "seed 1" in said and whole.path.name in said
