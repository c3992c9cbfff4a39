"""A training that diverges stops with the epoch, the term and the setting to lower, and stores nothing."""

import pytest
import torch

from cm2 import Config, RunStore, load_cohort
from cm2.errors import DivergedError
from cm2.methods.cm2 import CM2
from data_prep.writer import write_cohort
from tests.tasks.cases import TASKS
from tests.tasks.cohort import prepared

SMOKE = {"train.epochs": 3, "modalities": ["series", "note"]}


@pytest.mark.parametrize(("term", "setting"), [("copula", r"model\.lambda_copula"), ("task", r"train\.learning_rate")])
def test_the_error_names_epoch_term_and_setting(term, setting, small_cohort, tmp_path, monkeypatch):
    original = CM2.loss

    def diverging(self, batch):
        terms = original(self, batch)
        return terms | {term: torch.tensor(torch.nan)} if self.epoch == 1 else terms

    monkeypatch.setattr(CM2, "loss", diverging)
    with pytest.raises(ValueError, match=rf"training diverged in epoch 2 \(cm2, seed 0\): the term {term} is nan; lower {setting}"):
        RunStore(tmp_path).fit(Config.from_profile("smoke", SMOKE), small_cohort, progress=False)
    assert RunStore(tmp_path).runs() == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.learning_rate": 1e6}, r"in epoch 1 .*the term \w+ is .*; lower train.learning_rate = 1e\+06"),
        ({"train.learning_rate": 100.0}, r"in epoch 1 .*lower train.learning_rate = 100"),
        ({"model.lambda_copula": 1e25}, r"in epoch 1 .*the term loss is .*; lower model.lambda_copula = 1e\+25"),
    ],
)
def test_a_training_that_leads_nowhere_stores_nothing(settings, message, small_cohort, tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(DivergedError, match=message):
        store.fit(Config.from_profile("smoke", SMOKE | settings), small_cohort, progress=False)
    assert store.runs() == [] and not list(tmp_path.glob(".*.partial"))


def test_the_same_prediction_for_every_stay_is_no_result(small_cohort, tmp_path, monkeypatch):
    from cm2.runs import trainer

    predictions = trainer.predictions
    monkeypatch.setattr(trainer, "predictions", lambda *a, **k: predictions(*a, **k).assign(probability=0.25))
    with pytest.raises(DivergedError, match=r"the predicted probability of every validation stay is 0\.25; lower train\.learning_rate"):
        RunStore(tmp_path).fit(Config.from_profile("smoke", SMOKE), small_cohort, progress=False)
    assert RunStore(tmp_path).runs() == []


@pytest.fixture(scope="module")
def many_tasks(tmp_path_factory):
    return load_cohort(write_cohort(tmp_path_factory.mktemp("many") / "cohort", prepared()))


@pytest.mark.parametrize("kind", TASKS)
def test_every_type_of_task_says_what_diverged(kind, many_tasks, tmp_path, monkeypatch):
    """A loss that explodes; the same prediction for every stay, in the words of the task."""
    from cm2.runs import trainer

    task, store = TASKS[kind], RunStore(tmp_path)
    settings = {"task": task.name, "method": "late_fusion", "modalities": ["series", "vector"], "train.epochs": 2}
    with pytest.raises(
        DivergedError, match=r"diverged in epoch \d \(late_fusion, seed 0\): the .* is .*; lower train\.learning_rate = 1e\+06"
    ):
        store.fit(Config.from_profile("smoke", settings | {"train.learning_rate": 1e6}), many_tasks, progress=False)
    predictions = trainer.predictions

    def alike(*args, **options):
        frame = predictions(*args, **options)
        return frame.assign(**{column: frame[column].iloc[0] for column in task.prediction_columns})

    monkeypatch.setattr(trainer, "predictions", alike)
    with pytest.raises(DivergedError, match=rf"the predicted {task.quantity} of every validation stay is .*; lower train\.learning_rate"):
        store.fit(Config.from_profile("smoke", settings), many_tasks, progress=False)
    assert store.runs() == [] and not list(tmp_path.glob(".*.partial"))


def test_texts_that_no_memory_holds_are_refused_before_the_training(small_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.runs.batches.memory", lambda: 10**5)
    with pytest.raises(ValueError, match=r"note: texts of \d+ tokens need .* this machine has 0; lower encoder\.text\.max_length"):
        RunStore(tmp_path).fit(Config.from_profile("smoke"), small_cohort, progress=False)


@pytest.mark.parametrize(("name", "value"), [("train.learning_rate", 1e38), ("train.epochs", 2**31), ("seed", -1), ("seed", 2**70)])
def test_numbers_that_nothing_can_be_computed_with_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected .*, got"):
        Config.from_profile("smoke", {name: value})
