"""An average of the parameters over steps: validated, stored and predicted with, for every method; and a law fitted to it."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from cm2 import Config, RunStore
from cm2.methods import build_method, tokenised
from cm2.methods.cm2 import CM2
from cm2.runs.trainer import predictions, train

SMOKE = {"train.epochs": 2, "modalities": ["series", "note"], "train.average": 0.3}
PROFILE = {"link": "vector", "directions": 2, "family": "gaussian", "law": "profile", "normalisation": "batch"}


@pytest.mark.parametrize("method", ["cm2", "late_fusion"])
def test_the_stored_parameters_are_the_average_of_the_steps(method, small_cohort, tmp_path, monkeypatch):
    config = Config.from_profile("smoke", SMOKE | {"method": method, "train.patience": 2})
    cohort = tokenised(small_cohort.with_modalities(config.modalities), config)
    model, steps = build_method(config, cohort), []
    original = torch.optim.Adam.step

    def step(self, *arguments, **options):
        result = original(self, *arguments, **options)
        steps.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    stays = [cohort.split(split, config.task) for split in ("train", "valid")]
    train(model, config, *stays, tmp_path, progress=False)
    average = steps[0]
    history = [average]
    for now in steps[1:]:
        average = {name: 0.7 * average[name] + 0.3 * value for name, value in now.items()}
        history.append(average)
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in history[-1].items():
        torch.testing.assert_close(last[f"method.{name}"], value, rtol=1e-4, atol=1e-6)
    ends = [history[len(steps) // 2 - 1], history[-1]]  # of the two epochs, the better one is loaded
    assert any(all(torch.allclose(p, end[name], rtol=1e-4, atol=1e-6) for name, p in model.named_parameters()) for end in ends)


def test_a_fitted_law_is_stored_with_the_encoders_it_was_fitted_to(small_cohort, tmp_path):
    config = Config.from_profile("smoke", SMOKE | {f"model.{name}": value for name, value in PROFILE.items()})
    run = RunStore(tmp_path).fit(config, small_cohort, progress=False)
    assert {"law_nats", "gaussian_nats", "effective_rank", "law_distance"} <= set(run.history)
    assert (run.history["law_distance"] < 0.2).all()
    method = run.load_method(small_cohort).eval()
    cohort = tokenised(small_cohort.with_modalities(config.modalities), config)
    stays = cohort.split("train", config.task)
    before = {name: p.clone() for name, p in method.joint.state_dict().items()}
    batches = [stays.batch(range(start, min(start + 512, len(stays)))) for start in range(0, len(stays), 512)]
    method.refit(batches)
    for name, value in method.joint.state_dict().items():
        torch.testing.assert_close(before[name].double(), value.double(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("average", [0.0, 0.3])
def test_describing_a_law_by_gradient_changes_nothing(average, small_cohort, tmp_path, monkeypatch):
    """Neither weights nor predictions, nor what else the history says."""
    settings = {"train.average": average, "model.impute": "conditional", "model.dropout": 0.3, "train.patience": 3}
    config = Config.from_profile("smoke", SMOKE | settings)
    described = RunStore(tmp_path / "with").fit(config, small_cohort, progress=False)
    monkeypatch.setattr(CM2, "describe_law", lambda self, batches: None)
    plain = RunStore(tmp_path / "without").fit(config, small_cohort, progress=False)
    added = ["effective_rank", "law_distance", "law_nats", "gaussian_nats"]
    assert described.path.name == plain.path.name and set(described.history) - set(plain.history) == set(added)
    assert described.history[added].notna().all(axis=None) and len(described.history) == config.train.epochs
    pd.testing.assert_frame_equal(described.history[list(plain.history)], plain.history, check_exact=True)
    pd.testing.assert_frame_equal(described.predictions, plain.predictions, check_exact=True)
    assert (described.path / "model.safetensors").read_bytes() == (plain.path / "model.safetensors").read_bytes()


def test_a_bounded_number_of_stays_is_described(small_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.runs.trainer.DESCRIBED", 7)
    seen = []
    monkeypatch.setattr(CM2, "describe_law", lambda self, batches: seen.append([n for batch in batches for n in batch.stay_id.tolist()]))
    config = Config.from_profile("smoke", SMOKE)
    RunStore(tmp_path).fit(config, small_cohort, progress=False)
    stays = small_cohort.with_modalities(config.modalities).split("train", config.task).stay_id.tolist()
    assert len(seen) == config.train.epochs and all(one == seen[0] for one in seen)
    assert len(seen[0]) == 7 and seen[0][0] == stays[0] and seen[0][-1] == stays[-1] and seen[0] == sorted(seen[0], key=stays.index)


@pytest.mark.parametrize("average", [0.0, 0.3])
def test_chosen_families_are_stored_and_resumed(average, small_cohort, tmp_path):
    settings = PROFILE | {"family": "auto", "impute": "conditional_mean"}
    overrides = SMOKE | {f"model.{k}": v for k, v in settings.items()} | {"train.average": average, "train.patience": 3}
    config = Config.from_profile("smoke", overrides | {"train.epochs": 3})
    run = RunStore(tmp_path / "runs").fit(config, small_cohort, progress=False)
    method = run.load_method(small_cohort)
    families = [copula.family for copula in method.joint.copula]
    row = run.history.iloc[run.history["valid_auroc"].idxmax()]
    assert {name: families.count(name) for name in set(families)} == {
        name.removeprefix("family_"): count for name, count in row.items() if name.startswith("family_") and count
    }
    cohort = tokenised(small_cohort.with_modalities(config.modalities), config)
    stays = [cohort.split(split, config.task) for split in ("train", "valid")]
    for epochs in (2, 3):
        model = build_method(config, cohort)
        shorter = replace(config, train=replace(config.train, epochs=epochs))
        history = train(model, shorter, *stays, tmp_path, progress=False)
    pd.testing.assert_frame_equal(history, run.history, check_exact=False, rtol=1e-3, atol=1e-4)
    assert [copula.family for copula in model.joint.copula] == families


@pytest.mark.parametrize("average", [0.0, 0.3])
def test_a_law_is_fitted_before_the_first_step_that_reads_it(average, small_cohort, tmp_path, monkeypatch):
    settings = PROFILE | {"impute": "conditional_mean"}
    config = Config.from_profile("smoke", SMOKE | {f"model.{k}": v for k, v in settings.items()} | {"train.average": average})
    cohort = tokenised(small_cohort.with_modalities(config.modalities), config)
    model, called = build_method(config, cohort), []
    original = {name: getattr(type(model), name) for name in ("initialise", "loss", "refit")}
    for name, function in original.items():
        monkeypatch.setattr(type(model), name, lambda *given, _name=name, _call=function: (called.append(_name), _call(*given))[1])
    stays = [cohort.split(split, config.task, absent={"note": 0.5}) for split in ("train", "valid")]
    train(model, config, *stays, tmp_path, progress=False)
    assert called[:3] == ["initialise", "refit", "loss"] and called.count("refit") == 1 + config.train.epochs
    longer = replace(config, train=replace(config.train, epochs=3, patience=3))
    called.clear()
    train(model, longer, *stays, tmp_path, progress=False)
    assert called[0] == "loss" and called.count("refit") == 1, "a resumed training has its fitted law"


def test_bad_input():
    with pytest.raises(ValueError, match=r"train\.average"):
        Config.from_profile("smoke", {"train.average": 1.0})


@pytest.mark.parametrize("method", ["cm2", "unified"])
def test_a_stored_run_predicts_what_it_predicted(method, small_cohort, tmp_path):
    """A text encoder's positions are whole numbers, which no average may cut."""
    overrides = SMOKE | {"method": method, "train.average": 0.05, "train.batch_size": 4}
    config = Config.from_profile("smoke", overrides)
    run = RunStore(tmp_path).fit(config, small_cohort, progress=False)
    cohort = tokenised(small_cohort.with_modalities(config.modalities), config)
    stays = cohort.split("test", config.task)
    again = predictions(run.load_method(small_cohort), config, stays).set_index("stay_id")["probability"]
    stored = run.predictions.query("split == 'test'").set_index("stay_id")["probability"]
    pd.testing.assert_series_equal(again, stored.loc[again.index], rtol=1e-4, atol=1e-5, check_dtype=False)
