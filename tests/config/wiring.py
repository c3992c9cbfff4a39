"""What each field of a configuration changes, and everything that it could change, computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from cm2 import Config, RunStore, load_cohort
from cm2.batch import Batch
from cm2.cohorts import Cohort, Stays
from cm2.kinds import KINDS, kind
from cm2.methods import Method, build_method, tokenised
from cm2.methods.contract import FitsStays
from cm2.networks.encoders.text import _random_bert
from cm2.runs.batches import Batches, EpochSampler, loader_of, sampler_of
from cm2.runs.loops import PretrainingLoop, TrainingLoop
from cm2.runs.speed import quicken, slacken
from cm2.runs.trainer import train
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

N = 48


@dataclass(frozen=True)
class Case:
    """A field's other value, and what follows from it.

    Args:
        value: another value than that of the base.
        changes: the aspects of `Observer.observe` that differ; all others have to be equal.
        base: what the base overrides of the profile ``smoke``; a series and a vector without it.
        keyed: whether the run's key differs, as it does unless only the speed depends on the field.
    """

    value: Any
    changes: str
    base: Mapping[str, Any] = field(default_factory=dict)
    keyed: bool = True


def leaves(config: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields of a configuration that are values."""
    for each in fields(config):
        value = getattr(config, each.name)
        yield from leaves(value, f"{prefix}{each.name}.") if is_dataclass(value) else (f"{prefix}{each.name}",)


def made_up_cohort(out: Any) -> Cohort:
    """One modality of each kind, two tasks, and stays that lack one."""
    rng = np.random.default_rng(0)
    present = {name: rng.random(N) < 0.8 for name in sorted(KINDS)}
    present["series"][:] = True
    modalities = {name: PreparedModality(name, kind(name).example(N, rng), here) for name, here in present.items()}
    split = np.array(["train", "train", "valid", "test"])[np.arange(N) % 4]
    labels = {"death": (rng.random(N) < 0.5).astype(int), "in_hospital_mortality": (rng.random(N) < 0.5).astype(int)}
    stays = pd.DataFrame({"stay_id": np.arange(N), "split": split, **labels})
    tasks = dict.fromkeys(labels, "made up")
    made = PreparedCohort("mine", "made up", "1", {}, stays, modalities, tasks, [], {}, credentialed=False)
    return load_cohort(write_cohort(out, made))


class Stop(Exception):
    """Ends a run where what was to be seen has been seen."""


class Observer:
    """Everything that a configuration could change, as plain values that can be compared.

    Args:
        cohort: that runs are on.
        monkeypatch: of the test.
        folder: for files of runs.
    """

    def __init__(self, cohort: Cohort, monkeypatch: pytest.MonkeyPatch, folder: Any) -> None:
        self.cohort, self.patch, self.folder = cohort, monkeypatch, folder

    def observe(self, config: Config) -> dict[str, Any]:
        """Aspects by name."""
        asked = self._downloads(config)
        cohort = tokenised(self.cohort, config)
        method = build_method(config, cohort)
        stays = cohort.split("train", config.task)
        batch = stays.batch(range(len(stays)))
        seen: dict[str, Any] = {
            "key": RunStore(self.folder).key(config, self.cohort),
            "class": type(method).__name__,
            "shapes": {name: tuple(value.shape) for name, value in method.state_dict().items()},
            "start": plain(method.state_dict()),
            "tokens": {name: plain(value) for name, value in batch.values.items() if isinstance(value, dict)},
            "loader": self._loader(config, stays),
            "downloads": asked,
            "layout": self._layout(method, config),
            "augmented": plain(self._augmented(method, config, batch)),
            **self._splits(config),
        }
        if isinstance(method, FitsStays):
            return seen | {
                "history": method.fit_stays(stays, cohort.split("valid", config.task)),
                "prediction": self._predict(method, batch),
            }
        seen["prediction"] = self._predict(method, batch)
        seen["pretraining"] = self._pretraining(method, config, batch)
        return seen | self._trained(method, config, batch) | {"trainer": self._trainer(config, stays)}

    @staticmethod
    def _predict(method: Method, batch: Batch) -> Any:
        torch.manual_seed(1)
        with torch.no_grad():
            return plain(method.eval().predictive(batch))

    @staticmethod
    def _pretraining(method: Method, config: Config, batch: Batch) -> Any:
        torch.manual_seed(1)
        if (stage := method.pretraining()) is None:
            return None
        (group,) = PretrainingLoop(method, stage, config, EpochSampler(1, 1)).configure_optimizers().param_groups
        return plain(stage.objective(batch)["loss"]), {k: len(v) if k == "params" else v for k, v in group.items()}

    def _trained(self, method: Method, config: Config, batch: Batch) -> dict[str, Any]:
        """The first step of an epoch that is not the first: loss, its terms, gradients; groups of the optimiser."""
        torch.manual_seed(config.seed)
        method.initialise(batch)
        method.epoch = 2
        torch.manual_seed(1)
        terms = method.train().loss(batch)
        terms["loss"].backward()
        groups = TrainingLoop(method, config).configure_optimizers().param_groups
        return {
            "loss": plain(terms["loss"]),
            "terms": plain({name: value for name, value in terms.items() if name != "loss"}),
            "gradient": plain({name: p.grad for name, p in method.named_parameters() if p.grad is not None}),
            "optimiser": [{k: len(v) if k == "params" else v for k, v in group.items()} for group in groups],
        }

    def _trainer(self, config: Config, stays: Stays) -> dict[str, Any]:
        told: dict[str, Any] = {}

        def refuse(**options: Any) -> None:
            told.update({k: v for k, v in options.items() if k not in ("callbacks", "plugins")})
            told["callbacks"] = [(type(c).__name__, vars(c).get("patience")) for c in options["callbacks"]]
            raise Stop

        self.patch.setattr("cm2.runs.trainer.Trainer", refuse)
        with pytest.raises(Stop):
            train(build_method(config, tokenised(self.cohort, config)), config, stays, stays, self.folder, progress=False)
        return told

    def _layout(self, method: Method, config: Config) -> list[str]:
        """The modules that are compiled for training, and those whose weights have their channels last."""
        self.patch.setattr("cm2.runs.speed.COMPILER", {"backend": "eager"})
        self.patch.setattr("cm2.runs.speed.why_not_compiled", lambda device: "")
        quicken(method, config.train, torch.device("cpu"))
        compiled = [name for name, module in method.named_modules() if module._compiled_call_impl is not None]
        last = [name for name, p in method.named_parameters() if p.ndim == 4 and not p.is_contiguous()]
        slacken(method)
        return compiled + last

    @staticmethod
    def _augmented(method: Method, config: Config, batch: Batch) -> Any:
        """The images as a training step reads them."""
        loop, seen = TrainingLoop(method, config), []
        loop._trainer = SimpleNamespace(current_epoch=0)
        method.loss = lambda given: seen.append(given) or {"loss": torch.zeros(())}
        loop.training_step(batch, 0)
        del method.loss
        return seen[0].values.get("image")

    def _loader(self, config: Config, stays: Stays) -> tuple[int, int, list[int]]:
        made = loader_of(Batches(stays), config.train, sampler_of(stays, config.train, config.seed))
        return made.num_workers, len(made), [index for batch in made.sampler for index in batch]

    def _splits(self, config: Config) -> dict[str, Any]:
        """The stays, the modalities left to them and the labels that a run trains, validates and tests on."""
        seen: dict[str, Any] = {}

        def note(method: Method, config: Config, train: Stays, valid: Stays, *_: Any, **__: Any) -> None:
            seen.update(train=self._stays(train), valid=self._stays(valid))

        def predicted(method: Method, config: Config, stays: Stays, **_: Any) -> pd.DataFrame:
            if "predicted" in seen:  # the validation stays come first
                seen["test"] = self._stays(stays)
                raise Stop
            seen["predicted"] = self._stays(stays)
            return pd.DataFrame()

        with self.patch.context() as patch, pytest.raises(Stop):
            patch.setattr("cm2.runs.trainer.train", note)
            patch.setattr("cm2.runs.trainer.predictions", predicted)
            RunStore(self.folder / config.digest()).fit(config, self.cohort, progress=False)
        assert same(seen.pop("predicted"), seen["valid"])
        return seen

    @staticmethod
    def _stays(stays: Stays) -> dict[str, Any]:
        names = [m.name for m in stays.modalities]
        return {"id": stays.stay_id.tolist(), "names": names, "present": stays.present.tolist(), "label": stays.label.tolist()}

    def _downloads(self, config: Config) -> list[str]:
        asked: list[str] = []

        def start_at_random(name: str, vocabulary: int, max_length: int, dropout: float) -> Any:
            asked.append(name)
            c = config.encoder.text
            return _random_bert(vocabulary, c.hidden, c.layers, c.heads, c.intermediate, max_length, dropout)

        self.patch.setattr("cm2.networks.encoders.image.load_imagenet", lambda network, name, *_, **__: asked.append(name))
        self.patch.setattr("cm2.networks.encoders.text._pretrained_bert", start_at_random)
        self.patch.setattr("cm2.runs.store.starts_from", lambda config, cohort: {})
        self.patch.setattr("cm2.networks.encoders.libraries.imagenet_weights", lambda name: asked.append(name) or {})
        self.patch.setattr("cm2.networks.encoders.libraries._fill", lambda *_: None)
        self.patch.setattr("cm2.methods.pretrained_tokenizer", lambda name: asked.append(f"tokenizer {name}"))
        return asked


def plain(value: Any) -> Any:
    """Tensors as arrays of their own, at any depth."""
    if isinstance(value, Tensor):
        return value.detach().numpy().copy()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def same(a: Any, b: Any) -> bool:
    """Whether two aspects agree but for rounding: numbers that are equal on paper come out a few units of the last place apart."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype.kind == b.dtype.kind == "f":
        return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-4, atol=1e-5 * float(np.abs(a).max(initial=0.0))))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)
