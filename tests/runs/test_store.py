"""One trainer: deterministic from (seed, epoch), resumable after a kill, never twice the same run."""

import json
import math
import os
import pickle
import re
import shutil
import signal
import socket
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from safetensors.torch import load_file, save_file
from torch import distributed

from cm2 import Config, RunStore, evaluate, fit, load_cohort
from cm2.cohorts import Cohort
from cm2.methods import build_method, tokenised
from cm2.metrics import auroc
from cm2.runs import start
from cm2.runs.batches import EpochSampler
from cm2.runs.recording import record_over_seeds
from cm2.runs.run import Run, kept_epochs
from cm2.runs.store import fit_all
from cm2.runs.trainer import predictions, train
from cm2.uncertainty import measure, over_seeds
from tests.tables.conftest import FAST

SMOKE = {"train.epochs": 3, "train.patience": 3, "modalities": ["series", "note"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return RunStore(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(small_cohort, store):
    return fit(Config.from_profile("smoke", SMOKE), small_cohort, store, progress=False)


def test_a_run_holds_what_it_promises(run, small_cohort):
    assert {p.name for p in run.path.iterdir()} >= {
        "config.json",
        "history.csv",
        "metrics.json",
        "predictions.parquet",
        "model.safetensors",
        "environment.json",
    }
    assert {p.name for p in (run.path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list(run.history["epoch"]) == [0, 1, 2]
    assert {"train_loss", "train_task", "train_mixture", "train_copula", "valid_auroc", "valid_aupr", "alpha", "kendall_tau"} <= set(
        run.history
    )
    assert set(run.metrics) == {"valid", "test"}
    assert {"auroc", "auroc_low", "auroc_high", "aupr", "aupr_low", "aupr_high", "n", "positives"} <= set(run.metrics["test"])
    assert run.environment["cohort_checksum"] == small_cohort.checksum
    assert 0 < run.environment["seconds"] < 600
    assert set(run.predictions["split"]) == {"valid", "test"}
    assert run.predictions["stay_id"].is_unique


def test_a_checkpoint_is_read_without_unpickling(run):
    for name in ("best", "last"):
        assert len(torch.load(run.path / "checkpoints" / f"{name}.ckpt", weights_only=True)["history"]) > 0


def test_the_best_validation_epoch_is_kept(run):
    assert run.metrics["valid"]["auroc"] == pytest.approx(run.history["valid_auroc"].max(), abs=1e-9)


def test_a_second_call_trains_nothing(run, small_cohort, store, monkeypatch):
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained again"))
    again = fit(Config.from_profile("smoke", SMOKE), small_cohort, store, progress=False)
    assert again.path == run.path


TESTED = {"modalities": ["series", "note"], "matched": True, "train.epochs": 2}


@pytest.mark.parametrize("changed", [{"absent_test.note": 0.5, "mechanism": "mnar"}, {"model.impute": "marginal", "absent_test.note": 1.0}])
def test_a_network_is_trained_once_for_all_its_tests(small_cohort, tmp_path, monkeypatch, changed):
    store, other = RunStore(tmp_path / "store"), RunStore(tmp_path / "other")
    first = fit(Config.from_profile("smoke", TESTED), small_cohort, store, progress=False)
    config = Config.from_profile("smoke", TESTED | changed)
    trained = fit(config, small_cohort, other, progress=False)
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained again"))
    tested = fit(config, small_cohort, store, progress=False)
    assert tested.path != first.path and tested.environment["weights"] == first.path.name and "weights" not in trained.environment
    pd.testing.assert_frame_equal(tested.predictions, trained.predictions, check_exact=False, atol=1e-6)
    pd.testing.assert_frame_equal(tested.history, trained.history, check_exact=False, atol=1e-4)
    assert not tested.predictions.query("split == 'test'").equals(first.predictions.query("split == 'test'"))


@pytest.mark.parametrize("content", [None, "{", '{"method": "cm2", "of_a_later_version": 1}', "[]", '{"model": 3}'])
def test_a_run_that_cannot_be_read_stops_no_other(small_cohort, tmp_path, content):
    broken = tmp_path / "0123456789abcdef"
    broken.mkdir()
    if content is not None:
        (broken / "config.json").write_text(content)
    assert RunStore(tmp_path).with_weights_of(Config.from_profile("smoke", TESTED), small_cohort, True) is None


@pytest.mark.parametrize(
    "changed",
    [{"seed": 1}, {"train.epochs": 3}, {"absent.vector": 0.5}, {"model.impute": "token"}, {"labels": 0.5}, {"method": "late_fusion"}],
    ids=str,
)
def test_what_training_reads_gives_other_weights(changed):
    config = Config.from_profile("smoke", TESTED)
    assert Config.from_profile("smoke", TESTED | changed).in_training(True) != config.in_training(True)


def test_with_modalities_missing_in_training_imputation_is_part_of_it():
    configs = [Config.from_profile("smoke", {"absent.vector": 0.5, "mechanism": "mar", "model.impute": how}) for how in ("zero", "mean")]
    assert configs[0].in_training(False) != configs[1].in_training(False)
    assert configs[0].in_training(False).mechanism == "mar"


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_with_one_outcome_is_found_before_training(small_cohort, tmp_path, monkeypatch, split):
    def without_positives(*arguments):
        found = stays_of(*arguments)
        found[split].label.clamp_(max=0)
        return found

    stays_of = start._stays
    monkeypatch.setattr("cm2.runs.start._stays", without_positives)
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    config = Config.from_profile("smoke", TESTED)
    told = rf"synthetic: the known outcomes {config.task} of the {split} stays .*are all 0; a method needs both there"
    with pytest.raises(ValueError, match=told):
        fit(config, small_cohort, RunStore(tmp_path), progress=False)
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")], "nothing is left"


@pytest.mark.parametrize("matched", [True, False])
def test_an_error_about_outcomes_says_what_may_be_the_cause(small_cohort, matched):
    config = Config.from_profile("smoke", {**TESTED, "matched": matched, "labels": 0.5})
    stays = {name: small_cohort.split(name, config.task) for name in ("valid", "test")}
    for name, split in stays.items():
        split.label.clamp_(max=0)
        with pytest.raises(ValueError) as told:
            start.check_outcomes(config, small_cohort, {name: split})
        assert ("(matched = false)" in str(told.value)) == ("with all of" in str(told.value)) == matched
        assert ("a larger share of labels" in str(told.value)) == (name == "valid")


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_a_cohort_that_changes_under_a_run_gives_no_run(small_cohort, tmp_path, monkeypatch, how):
    """Memory maps show what is written later: a result of other data would be found under the right name for ever."""
    shutil.copytree(small_cohort.path, tmp_path / "cohort")
    cohort, file = load_cohort(tmp_path / "cohort"), tmp_path / "cohort" / "series.npy"

    def trained(*arguments, **options):
        content = bytearray(file.read_bytes())
        content[-8:] = bytes(8)
        if how == "written":
            file.write_bytes(content)
        else:
            file.with_suffix(".new").write_bytes(content)
            file.with_suffix(".new").replace(file)
        return train(*arguments, **options)

    monkeypatch.setattr("cm2.runs.trainer.train", trained)
    store = RunStore(tmp_path / "store")
    with pytest.raises(ValueError, match=r"series\.npy was changed after the cohort was opened"):
        fit(Config.from_profile("smoke", TESTED), cohort, store, progress=False)
    assert store.runs() == [] and not list(store.root.glob(".*.partial")), "nor anything to continue from"


def test_the_stored_weights_reproduce_the_stored_predictions(run, small_cohort):
    stays = tokenised(small_cohort, run.config).split("test", run.config.task)
    frame = predictions(run.load_method(small_cohort), run.config, stays)
    stored = run.predictions.query("split == 'test'").reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, stored[list(frame)], check_exact=False, atol=1e-6)


def test_weights_that_two_networks_share_are_read_again(small_cohort, tmp_path):
    setting = {"method": "drfuse", "modalities": ["series", "image"], "matched": True, "train.epochs": 1}
    run = fit(Config.from_profile("smoke", setting), small_cohort, RunStore(tmp_path), progress=False)
    assert evaluate(run, small_cohort)["auroc"] == pytest.approx(run.metrics["test"]["auroc"], abs=1e-6)


def test_weights_of_another_layout_are_refused(run, small_cohort, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "checksums.json").unlink()
    state = load_file(run.path / "model.safetensors")
    name, *others = state
    for wrong, names in ((name, others), ("old", [*state, "old"])):
        save_file({name: state.get(name, torch.ones(1)) for name in names}, tmp_path / "run" / "model.safetensors")
        with pytest.raises(ValueError, match=rf"its weights do not fit cm2 \({re.escape(wrong)}\)"):
            Run(tmp_path / "run").load_method(small_cohort)


def test_weights_of_other_shapes_are_refused_in_one_line(run, small_cohort):
    cohort = small_cohort.with_text(run.config.encoder.text.max_length, run.config.encoder.text.vocabulary)
    few = replace(run.config.encoder.text, vocabulary=60)
    other = Run(run.path)
    other.__dict__["config"] = replace(run.config, encoder=replace(run.config.encoder, text=few))
    with pytest.raises(ValueError, match="do not fit the shapes of synthetic") as refused:
        other.load_method(cohort)
    assert "\n" not in str(refused.value)


def test_evaluate_takes_modalities_away(run, small_cohort):
    full, less = (evaluate(run, small_cohort, absent=absent) for absent in ({}, {"note": 1.0}))
    assert full["auroc"] == pytest.approx(run.metrics["test"]["auroc"], abs=1e-6)
    assert less["brier"] != full["brier"]  # ranks alone may stay as they are
    assert less["n"] == full["n"]


@pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
def test_evaluate_masks_by_the_mechanism_the_seed_and_the_split_it_is_given(mechanism, run, small_cohort, monkeypatch):
    asked = []
    original = Cohort.split
    monkeypatch.setattr(Cohort, "split", lambda self, *given: asked.append(given) or original(self, *given))
    evaluate(run, small_cohort, "valid", {"note": 0.5}, mechanism, seed=3)
    assert asked == [("valid", run.config.task, {"note": 0.5}, mechanism, 3, False)]


def test_a_run_on_matched_stays_of_two_modalities(small_cohort, tmp_path):
    setting = {"modalities": ["series", "image"], "matched": True, "absent_test": {"image": 0.5}, "train.epochs": 1}
    run = fit(Config.from_profile("smoke", setting), small_cohort, RunStore(tmp_path), progress=False)
    image = small_cohort.stays.query("split == 'test' and present_image")
    assert set(run.predictions.query("split == 'test'")["stay_id"]) == set(image["stay_id"])
    assert run.load_method(small_cohort).names == ("series", "image")
    assert np.isfinite(evaluate(run, small_cohort)["auroc"])


def test_configurations_do_not_collide(small_cohort, store, run):
    other = Config.from_profile("smoke", SMOKE | {"seed": 1})
    assert store.key(other, small_cohort) != run.path.name
    assert store.find(other, small_cohort) is None
    assert [r.path.name for r in store.runs()] == [run.path.name]


def _train_until_killed(config, cohort, store):
    """Trains, and is killed in the middle of the second epoch."""
    batches = EpochSampler.__iter__

    def deadly(sampler):
        for i, batch in enumerate(batches(sampler)):
            if sampler.shuffle and sampler.epoch == 1 and i == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    EpochSampler.__iter__ = deadly
    fit(config, cohort, store, progress=False)


def test_killed_and_resumed_equals_unbroken(run, small_cohort, tmp_path, processes, monkeypatch):
    """SIGKILL in the middle of an epoch, then the same call again: the same history, weights and predictions."""
    partial = tmp_path / f".{run.path.name}.partial"
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # another number adds up in another order
    process = processes.Process(target=_train_until_killed, args=(run.config, small_cohort.path, RunStore(tmp_path)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (partial / "checkpoints" / "last.ckpt").is_file()
    assert not (tmp_path / run.path.name).exists()

    resumed = fit(Config.from_profile("smoke", SMOKE), small_cohort, RunStore(tmp_path), progress=False)
    assert not partial.exists()
    pd.testing.assert_frame_equal(resumed.history, run.history, check_exact=False, rtol=1e-5)
    pd.testing.assert_frame_equal(resumed.predictions, run.predictions, check_exact=False, atol=1e-5)


def _train_along(rank, port, place, folder):
    """One of two processes, such as Lightning starts for two accelerators."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2", "NODE_RANK": "0", "LOCAL_RANK": rank}
    config = Config.from_profile("smoke", FAST | {"method": "medfuse", "task": "death", "train.batch_size": 24})
    cohort = load_cohort(place)
    method, valid = build_method(config, cohort), cohort.split("valid", config.task)
    history = train(method, config, cohort.split("train", config.task), valid, folder, progress=False, devices=2)
    distributed.destroy_process_group()
    whole = predictions(method, config, valid)
    assert history["valid_auroc"].max() == pytest.approx(auroc(whole["label"].to_numpy(), whole["probability"].to_numpy()))


@pytest.mark.skipif(torch.accelerator.is_available() and torch.accelerator.device_count() < 2, reason="two processes want two accelerators")
def test_processes_that_train_together_validate_on_every_stay(tiny, tmp_path, processes):
    with socket.create_server(("localhost", 0)) as server:
        port = str(server.getsockname()[1])
    both = [processes.Process(target=_train_along, args=(rank, port, tiny.path, tmp_path), daemon=True) for rank in "01"]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]


@pytest.mark.skipif(torch.accelerator.is_available() and torch.accelerator.device_count() < 2, reason="two processes want two accelerators")
@pytest.mark.parametrize("average", [0.0, 0.2])
def test_two_processes_give_what_one_gives_with_the_same_batches(complete, tmp_path, average):
    """A step of two processes reads the two batches that one process reads as one of twice the size."""
    settings = FAST | {"method": "late_fusion", "task": "death", "train.epochs": 2, "baseline.dropout": 0.0, "train.average": average}
    configs = [Config.from_profile("smoke", settings | {"train.batch_size": size}) for size in (20, 40)]
    two, one = (
        RunStore(tmp_path / str(devices)).fit(config, complete, progress=False, devices=devices)
        for devices, config in zip((2, 1), configs, strict=True)
    )
    pd.testing.assert_frame_equal(two.predictions, one.predictions, check_exact=False, atol=1e-5)
    columns = ["epoch", "valid_auroc", "valid_aupr"]
    pd.testing.assert_frame_equal(two.history[columns], one.history[columns], check_exact=False, rtol=1e-3)
    assert len(RunStore(tmp_path / "2").runs()) == 1


def test_runs_fan_out_to_the_callers_backend(small_cohort, store, run):
    """Processes are tests/tables/test_run.py's; what they would be sent survives the way there and back."""
    with parallel_config(backend="threading"):
        runs = fit_all([run.config, run.config], small_cohort, store, jobs=2)
    assert [r.path for r in runs] == [run.path] * 2
    call, cohort = pickle.loads(pickle.dumps((store.fit, small_cohort)))
    assert call(run.config, cohort).path == run.path


def test_seeds_are_recorded_with_mean_and_interval(small_cohort, store, run, tmp_path):
    other = fit(Config.from_profile("smoke", SMOKE | {"seed": 1}), small_cohort, store, progress=False)
    entries = json.loads(record_over_seeds([run, other], "small", tmp_path).read_text())
    values = [r.metrics["test"]["auroc"] for r in (run, other)]
    assert entries["auroc_mean"]["value"] == pytest.approx(np.mean(values))
    tested = [r.predictions.query("split == 'test'") for r in (run, other)]
    both = over_seeds([measure(frame["label"], frame["probability"]) for frame in tested])  # stays and seeds
    assert (entries["auroc_low"]["value"], entries["auroc_high"]["value"]) == pytest.approx(both.interval(share=True))
    assert entries["auroc_seed_1"]["value"] == values[1]
    assert entries["seeds"]["provenance"]["cohort_checksum"] == small_cohort.checksum
    with pytest.raises(ValueError, match="differ in more than their seed"):
        different = replace(run.config, task="readmission")
        other.__dict__["config"] = different
        record_over_seeds([run, other], "small", tmp_path)


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(10, 4, seed=3, shuffle=True)
    first = list(sampler)
    assert first == list(sampler)
    assert sorted(i for batch in first for i in batch) == list(range(10))
    sampler.epoch = 1
    assert first != list(sampler)
    assert list(EpochSampler(5, 2)) == [[0, 1], [2, 3], [4]]
    assert len(EpochSampler(5, 2)) == len(EpochSampler(5, 2, shuffle=True)) == 3


def test_unknown_method_is_named(small_cohort):
    with pytest.raises(ValueError, match="unknown method 'medfuse3'; choose one of boosted_trees, cm2"):
        build_method(Config.from_profile("smoke", {"method": "medfuse3"}), small_cohort)


def test_mixed_precision_trains(small_cohort, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.02)
    config = Config.from_profile("smoke", {"train.epochs": 2, "train.precision": "bf16-mixed"})
    history = fit(config, small_cohort, RunStore(tmp_path)).history
    assert np.isfinite(history.to_numpy()).all()
    said = capsys.readouterr()
    assert f"training cm2 seed 0: epoch 2 of 2, validation AUROC {history['valid_auroc'][0]:.3f} (" in said.err
    assert not said.out and all(line.startswith("training cm2 seed 0") for line in said.err.splitlines())


def test_metrics_are_plain_numbers(run):
    text = (run.path / "metrics.json").read_text()
    assert json.loads(text)["test"]["n"] == int(run.metrics["test"]["n"])


def test_load_cohort_accepts_what_fit_was_given(small_cohort):
    assert load_cohort(small_cohort.path).checksum == small_cohort.checksum


@pytest.mark.parametrize(
    ("auroc", "kept"), [([0.6, 0.8, 0.7], [1]), ([0.6, 0.8, 0.8], [1, 2]), ([math.nan] * 3, [0, 1, 2]), (None, [2]), ([], [])]
)
def test_the_epoch_that_was_kept(auroc, kept):
    """Rounded, several epochs may be it; hidden, every one; without a validation the last."""
    history = pd.DataFrame({"epoch": range(3)} | ({} if auroc is None else {"valid_auroc": auroc})) if auroc != [] else pd.DataFrame()
    assert kept_epochs(history).index.tolist() == kept
