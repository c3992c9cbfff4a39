"""The levers of speed: what only the speed depends on leaves the result alone, and whatever changes it depends on the seed only."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from cm2 import Config, RunStore, fit
from cm2.methods import build_method, tokenised
from cm2.networks.encoders import LSTMEncoder, TextEncoder
from cm2.runs import speed
from cm2.runs.batches import EpochSampler
from tests.config.wiring import made_up_cohort

ALL = ("series", "image", "text")
SMALL = {"modalities": ALL, "task": "death", "train.epochs": 2, "train.batch_size": 8, "model.lambda_mix": 0.1, "model.lambda_copula": 0.1}


def config_of(overrides=()):
    return Config.from_profile("smoke", SMALL | dict(overrides))


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """A stay or two without each kind of modality."""
    return made_up_cohort(tmp_path_factory.mktemp("cohorts") / "every")


@pytest.fixture
def quick_compiler(monkeypatch):
    """Graphs are taken from the networks and run as they are: torch's own compiler takes minutes."""
    monkeypatch.setattr(speed, "COMPILER", {"backend": "eager"})
    speed.why_not_compiled.cache_clear()
    yield
    speed.why_not_compiled.cache_clear()
    torch.compiler.reset()


def steps(every, overrides, prepare, times=2):
    """Losses of the first steps, and the gradient after them."""
    config = config_of(overrides)
    cohort = tokenised(every, config)
    method, stays = build_method(config, cohort), cohort.split("train", "death")
    method.initialise(stays.batch(range(16)))
    prepare(method.train(), config)
    losses = []
    for step in range(times):  # batches of other sizes and lengths, one with a single image
        torch.manual_seed(step)
        loss = method.loss(stays.batch(range(8 * step, 8 * step + 8 - step)))["loss"]
        loss.backward()
        losses.append(loss.detach())
    gradient = torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])
    return method, torch.stack(losses), gradient


METHODS = ("cm2", "drfuse", "mmtm")
PAIR = {"modalities": ("series", "image")}


@pytest.mark.parametrize("method", [*METHODS, "late_fusion", "daft"])
def test_channels_last_is_a_matter_of_rounding(every, method):
    base = {"method": method} | (PAIR if method in ("drfuse", "lsmt", "daft", "mmtm") else {})
    plain, losses, gradient = steps(every, base, lambda *_: None)
    laid, same, also = steps(every, base | {"train.channels_last": True}, lambda m, c: speed.quicken(m, c.train, torch.device("cpu")))
    weights = [(n, p) for n, p in laid.named_parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
    assert weights and all(p.is_contiguous(memory_format=torch.channels_last) for _, p in weights)
    torch.testing.assert_close(same, losses, rtol=1e-4, atol=1e-5)
    assert (also - gradient).norm() < 1e-3 * gradient.norm()
    speed.slacken(laid)
    assert all(p.is_contiguous() for p in laid.parameters())
    assert {n: p.stride() for n, p in laid.named_parameters()} == {n: p.stride() for n, p in plain.named_parameters()}


@pytest.mark.parametrize("overrides", [{}, PAIR | {"method": "mmtm"}, PAIR | {"encoder.image.kind": "vit", "encoder.image.vit": "small"}])
def test_compiled_networks_give_the_same_loss_and_gradient(every, overrides, quick_compiler):
    _, losses, gradient = steps(every, overrides, lambda *_: None)

    def prepare(method, config):
        speed.quicken(method, config.train, torch.device("cpu"))
        parts = list(speed._compilable(method))
        assert parts and all(part._compiled_call_impl is not None for part in parts)
        lstm = [m for m in method.modules() if isinstance(m, LSTMEncoder)]
        assert all(m._compiled_call_impl is None for each in lstm for m in each.modules())

    method, same, also = steps(every, overrides | {"train.compile": True}, prepare)
    torch.testing.assert_close(same, losses, rtol=1e-4, atol=1e-5)
    assert (also - gradient).norm() < 1e-3 * gradient.norm()
    speed.slacken(method)
    assert all(part._compiled_call_impl is None for part in method.modules())


def test_where_torch_cannot_compile_a_warning_says_why(every, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no compiler\nanywhere")

    monkeypatch.setattr(speed, "COMPILER", {"backend": backend})
    speed.why_not_compiled.cache_clear()
    method = build_method(config_of(), tokenised(every, config_of()))
    with pytest.warns(UserWarning, match=r"train.compile: torch cannot compile here \(.*no compiler.*\); the networks run as they are"):
        speed.quicken(method, config_of({"train.compile": True}).train, torch.device("cpu"))
    assert all(part._compiled_call_impl is None for part in method.modules())
    speed.why_not_compiled.cache_clear()


ROUNDING = {"train.resident": 0.0, "train.compile": 1e-5, "train.channels_last": 0.05}
"""How far a history of two epochs may be off: equal numbers, equal operations, operations that add up in another order."""


@pytest.mark.parametrize("lever", ROUNDING)
def test_a_run_is_the_same_run_however_fast(every, tmp_path, monkeypatch, quick_compiler, lever):
    """With averaged parameters, of which Lightning keeps a copy of the networks."""
    base = {"train.average": 0.2} | (PAIR if lever != "train.resident" else {})
    plain = fit(config_of(base), every, RunStore(tmp_path / "plain"), progress=False)
    monkeypatch.setattr("cm2.runs.trainer.fit_in", lambda splits, share: share == 0.5)
    config = config_of(base | {lever: 0.5 if lever == "train.resident" else True})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "train.compile")
        quick = fit(config, every, RunStore(tmp_path / "quick"), progress=False)
    assert quick.path.name == plain.path.name and RunStore(tmp_path / "plain").find(config, every) is not None
    assert quick.config == config != plain.config and config.in_training(False) == plain.config.in_training(False)
    loss, usual = quick.history["train_loss"].to_numpy(), plain.history["train_loss"].to_numpy()
    assert abs(loss - usual).max() <= ROUNDING[lever] * abs(usual).max()
    assert abs(quick.predictions["probability"] - plain.predictions["probability"]).max() <= ROUNDING[lever]
    assert load_file(quick.path / "model.safetensors").keys() == load_file(plain.path / "model.safetensors").keys()


def test_a_network_that_cannot_be_compiled_runs_as_it_is(every, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no such operation")

    config, cohort = config_of({"train.compile": True}), tokenised(every, config_of())
    method, batch = build_method(config, cohort), cohort.split("train", "death").batch(range(8))
    monkeypatch.setattr(speed, "why_not_compiled", lambda device: "")
    monkeypatch.setattr(speed, "COMPILER", {"backend": backend})
    torch.manual_seed(0)
    plain = method.loss(batch)["loss"]
    speed.quicken(method, config.train, torch.device("cpu"))
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"train.compile: (ResNet|BertModel) runs as it is \(.*no such operation"):
        torch.testing.assert_close(method.loss(batch)["loss"], plain)
    assert all(part._compiled_call_impl is None for part in method.modules())
    torch.compiler.reset()


class Killed(BaseException):
    """Ends a training in the middle of an epoch."""


def test_a_training_goes_on_in_the_order_it_had(every, tmp_path, monkeypatch):
    config = config_of({"modalities": ("series", "image", "text"), "train.augment": 0.3, "train.bucket": 2, "train.epochs": 3})
    unbroken = fit(config, every, RunStore(tmp_path / "unbroken"), progress=False)
    batches, orders = EpochSampler.__iter__, []

    def deadly(sampler):
        found = list(batches(sampler))
        if sampler.shuffle and sampler.epoch == 1:
            orders.append(found)
        for i, batch in enumerate(found):
            if orders == [found] and i == 1:
                raise Killed
            yield batch

    monkeypatch.setattr(EpochSampler, "__iter__", deadly)
    with pytest.raises(Killed):
        fit(config, every, RunStore(tmp_path / "broken"), progress=False)
    resumed = fit(config, every, RunStore(tmp_path / "broken"), progress=False)
    assert len(orders) == 2 and orders[0] == orders[1]
    pd.testing.assert_frame_equal(resumed.history, unbroken.history, check_exact=False, rtol=1e-5)
    pd.testing.assert_frame_equal(resumed.predictions, unbroken.predictions, check_exact=False, atol=1e-5)


def test_parts_to_compile_are_those_of_images_and_texts(every):
    method = build_method(config_of(), tokenised(every, config_of()))
    found = list(speed._compilable(method))
    assert len(found) == 2 and any(part is m.bert for part in found for m in method.modules() if isinstance(m, TextEncoder))


def test_compiling_leaves_the_checks_of_distributions_on():
    """torch turns them off when it first compiles, for all of the process."""
    with speed.checks_kept():
        torch.distributions.Distribution.set_default_validate_args(False)
    assert torch.distributions.Distribution._validate_args
    speed.why_not_compiled.__wrapped__(torch.device("cpu"))
    assert torch.distributions.Distribution._validate_args
