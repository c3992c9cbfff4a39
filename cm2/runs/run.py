"""A finished run, as it lies in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from pyarrow import parquet
from safetensors import SafetensorError
from safetensors.torch import load_model

from cm2.cohorts import Cohort
from cm2.cohorts.disclosure import Disclosure
from cm2.cohorts.format import SPLITS
from cm2.config import Config
from cm2.config.files import read_json, read_text
from cm2.config.schema import Schema, check, plain_name
from cm2.durable import file_sha256
from cm2.errors import InputError
from cm2.escape import one_line
from cm2.methods import Method, build_method, parts_from_outside, tokenised
from cm2.networks.encoders import without_weights
from cm2.parts import check_same
from cm2.runs.description import describe, tokenizer_file
from cm2.runs.saving import check_public, push, save, stored_description, stored_tokenizer, temporary
from cm2.tasks import Binary, Task, task_of

CHECKSUMS = "checksums.json"
"""SHA-256 of the other files of a run, but for its checkpoints; runs of earlier versions have none."""
BEST, LAST, PRETRAINING = "best.ckpt", "last.ckpt", "pretraining.ckpt"
"""Among a run's checkpoints: the best epoch, the last one, the last one of a pre-training."""
WEIGHTS = "model.safetensors"
_PARTS = ("predictions.parquet", "history.csv", WEIGHTS)
REMEDY = "remove the run and train it again"
PREDICTS = "predicts"
"""Entry of the environment with the task of a run, where it is not binary."""


def _whole(value: Any) -> None:
    """A count, which JSON may hold as 3.0, or None where it is hidden."""
    check(value, (float, None), "a count")
    if isinstance(value, float) and not value.is_integer():
        raise InputError(f"expected a whole number, got {value!r:.60}")


_METRICS = {"n": _whole, "positives?": _whole, "*": (float, None)}
SCHEMAS: Mapping[str, Schema] = {
    "config.json": dict,
    "checksums.json": {"*": str},
    "metrics.json": dict.fromkeys(("valid", "test"), _METRICS),
    "environment.json": {
        "cohort": plain_name,
        "cohort_checksum": str,
        "date": str,
        "device?": str,
        "seconds?": float,
        "weights?": str,
        "parts?": {"*": str},
        f"{PREDICTS}?": {"description": str, "type": str},
    },
}
"""What the JSON files of a run hold; see `cm2.config.schema`."""


@dataclass(frozen=True)
class Run:
    """A finished run, a folder of the store."""

    path: Path

    @cached_property
    def config(self) -> Config:
        """Configuration of the run."""
        tree = self._read("config.json")
        try:
            return Config.from_dict(tree)
        except ValueError as error:
            raise InputError(f"{self.path / 'config.json'}: {error}; {REMEDY}") from None

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch: loss terms, validation metrics, the copula's α and τ."""
        path = self.path / "history.csv"
        try:
            frame = pd.read_csv(StringIO(read_text(path, REMEDY)))
        except pd.errors.EmptyDataError:  # a method that is fitted in one go
            return pd.DataFrame()
        except (ValueError, pd.errors.ParserError) as error:
            raise InputError(f"{path}: not a table of epochs ({one_line(error):.100}); {REMEDY}") from None
        if strange := [str(name) for name in frame if not is_numeric_dtype(frame[name])]:
            raise InputError(f"{path}: column {strange[0]}: expected numbers; {REMEDY}")
        return frame

    @property
    def kept_epochs(self) -> pd.DataFrame:
        """Rows of the history of the epoch whose weights are stored; see the function `kept_epochs`."""
        return kept_epochs(self.history, self.task)

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """By split (``valid``, ``test``): AUROC and AUPR with 95 % bootstrap intervals, Brier score, counts; or the metrics of the task.

        Of a credentialed cohort they are rounded, and None where fewer than ten stays could be told from them.
        """
        shown = Disclosure.of(self.environment)
        found = self._read("metrics.json")
        for split, metrics in found.items():
            where = f"{self.path / 'metrics.json'}: {split}"
            check(metrics, dict.fromkeys(self.task.reported, (float, None)), where)
            for name in self.task.recorded:  # a number is hidden with its interval, or neither is
                if len({metrics[f"{name}{end}"] is None for end in ("", "_low", "_high")}) > 1:
                    raise InputError(f"{where}: {name} has a number without its interval, or an interval without it; {REMEDY}")
        return {split: shown.metrics(metrics) for split, metrics in found.items()}

    @cached_property
    def task(self) -> Task:
        """What the run predicts."""
        entry = self.environment.get(PREDICTS, {"description": ""})
        try:
            return task_of(self.config.task, entry)
        except ValueError as error:
            raise InputError(f"{self.path / 'environment.json'}: {error}; {REMEDY}") from None

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Provenance: cohort and its checksum, versions, commit, device, date, seconds."""
        return self._read("environment.json")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """``split``, ``stay_id``, ``label``, ``probability``, ``variance``; of another type of task see `cm2.tasks.Task.frame`."""
        path = self.path / "predictions.parquet"
        try:
            frame = pd.read_parquet(path)
        except FileNotFoundError:
            raise InputError(f"{path} is missing; {REMEDY}") from None
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: not a file of predictions ({one_line(error):.80}); {REMEDY}") from None
        if wrong := _wrong(frame, self.task):
            raise InputError(f"{path}: {wrong}; {REMEDY}")
        return frame

    def load_method(self, cohort: Cohort) -> Method:
        """The trained method, in evaluation mode.

        Raises:
            ValueError: the stored weights do not fit the configuration's method in this version, or the shapes of this cohort; or a part
                from outside the package that the run was trained with is not here, or has another version or other code.
        """
        check_same(self.environment.get("parts", {}), parts_from_outside(self.config, cohort), self.path)
        # the run's own weights replace those that its networks started from, which need not be on this machine
        known = stored_description(self.path) or {}
        with without_weights(known.get("architectures", {})):
            return self.load_weights(build_method(self.config, tokenised(cohort, self.config)), cohort).eval()

    def save_pretrained(self, out: Path | str, cohort: Cohort | None = None) -> Path:
        """Writes the model into a folder of its own, which travels without the cohort; see `cm2.methods.saved.LOADER`.

        The folder has the weights, the configuration, shapes, names and normalisation of the modalities, the task, the tokenizer if there
        are texts, and a model card, ``README.md``. Of a credentialed cohort it has aggregates alone, and no vocabulary from its texts.

        Args:
            out: a new folder.
            cohort: that the run was trained on; only needed for a run that an earlier version stored.

        Returns:
            ``out``.

        Raises:
            InputError: the vocabulary comes from the texts of a credentialed cohort, the run was stored by an earlier version and no cohort
                is given, or ``out`` holds something.
        """
        description, tokenizer = self._described(cohort)
        return save(self.path, description, tokenizer, self.metrics, self.environment, Path(out))

    def push_to_hub(self, name: str, private: bool = True, token: str | None = None, cohort: Cohort | None = None) -> str:
        """Sends the model to the model hub, as `save_pretrained` writes it.

        Args:
            name: on the hub, such as ``me/model``; an existing model gets a further commit.
            private: whether only you, or your organisation, can see it.
            token: of the hub; by default the one that ``hf auth login`` stored.
            cohort: see `save_pretrained`.

        Returns:
            The address of the model.

        Raises:
            InputError: as `save_pretrained`; a model of a credentialed cohort that is to be public; a hub that refuses.
        """
        description, tokenizer = self._described(cohort)
        check_public(description, private)
        with temporary() as folder:
            out = save(self.path, description, tokenizer, self.metrics, self.environment, Path(folder) / "model")
            return push(out, name, description, private, token)

    def _described(self, cohort: Cohort | None) -> tuple[dict[str, Any], str]:
        """What describes the model, and the text of its tokenizer."""
        if (found := stored_description(self.path)) is not None:
            return found, stored_tokenizer(self.path)
        if cohort is None:
            raise InputError(f"{self.path}: the run was stored by an earlier version and does not describe its model; give its cohort too")
        c = self.config
        method, cohort = self.load_method(cohort), tokenised(cohort, c)
        stays = cohort.split("test", c.task, c.absent_test, c.mechanism, c.seed, c.matched)
        frame = self.predictions[self.predictions["split"] == "test"].set_index("stay_id").loc[stays.stay_id.numpy()]
        found = describe(c, cohort, method, frame, stays)
        return found, tokenizer_file(cohort, found)

    def load_weights(self, method: Method, cohort: Cohort) -> Method:
        """The method with the run's weights. Errors are those of `load_method`."""
        file = self.path / WEIGHTS
        known = self._read(CHECKSUMS) if (self.path / CHECKSUMS).is_file() else {}
        if known.get(WEIGHTS, "") not in ("", file_sha256(file)):
            raise InputError(f"{file} is damaged (wrong checksum); remove the run and train it again")
        try:
            missing, unexpected = load_model(method, file, strict=False)
        except (SafetensorError, OSError, KeyError) as error:
            raise InputError(f"{file} is damaged ({one_line(error):.80}); {REMEDY}") from None
        except RuntimeError as error:  # torch lists every tensor whose shape differs
            trained = self.environment["cohort"]
            raise InputError(
                f"{self.path}: the run was trained on {trained}, and its weights do not fit the shapes of {cohort.name} ({cohort.path}), "
                "such as its vocabulary; give the cohort it was trained on, or train on this one"
            ) from error
        # a batch normalisation under two names is stored once: torch adds the other's count itself, which safetensors then reports
        if wrong := [name for name in (*missing, *unexpected) if not name.endswith("num_batches_tracked")]:
            raise InputError(f"{self.path}: its weights do not fit {self.config.method} ({wrong[0]}); remove the run and train it again")
        return method

    def damage(self) -> str:
        """What is wrong with the files of the run, in a few words; empty if nothing is. The weights are compared when they are loaded."""
        try:
            known = self._read(CHECKSUMS) if (self.path / CHECKSUMS).is_file() else {}
            for name in ("config.json", "metrics.json", "environment.json"):
                self._read(name)
            if missing := [name for name in (*known, *_PARTS) if not (self.path / name).is_file()]:
                return f"{missing[0]} is missing"
            changed = [name for name, given in known.items() if name != WEIGHTS and file_sha256(self.path / name) != given]
            parquet.read_metadata(self.path / _PARTS[0])
        except (OSError, ValueError, AttributeError, pa.ArrowException) as error:
            return str(error).partition(";")[0]
        return f"wrong checksum of {changed[0]}" if changed else ""

    def _read(self, name: str) -> dict[str, Any]:
        return read_json(self.path / name, SCHEMAS[name], REMEDY)


def kept_epochs(history: pd.DataFrame, task: Task | None = None) -> pd.DataFrame:
    """Rows of a history of the epochs whose weights may be the stored ones: the first with the best criterion of the task.

    Of a credentialed cohort the criterion is rounded, so that several epochs may share it, or hidden, and then every epoch may be the one.
    The last row of a history without it.

    Args:
        history: one row for each epoch.
        task: what is predicted; None: a binary outcome, whose criterion is the validation AUROC.
    """
    chooses = (task or Binary()).chooses
    if (column := f"valid_{chooses.name}") not in history:
        return history.tail(1)
    found = history[column]
    return history if found.isna().all() else history[found == (found.max() if chooses.higher else found.min())]


def _wrong(frame: pd.DataFrame, task: Task) -> str:
    """What is wrong with a frame of predictions; empty if nothing is."""
    numbers = [*task.label_columns, *task.prediction_columns, *task.variance_columns]
    if missing := [name for name in ("split", "stay_id", *numbers) if name not in frame]:
        return f"the column {missing[0]} is missing"
    if strange := set(frame["split"].astype(str)) - set(SPLITS):
        return f"column split: unknown split {min(strange)!r:.40}"
    if not is_integer_dtype(frame["stay_id"]):
        return "column stay_id: expected whole numbers"
    if not all(is_numeric_dtype(frame[name]) for name in numbers):
        return f"columns label, {task.quantity} and variance: expected numbers"
    label, predicted = task.of_frame(frame)
    if wrong := task.strange(label):
        return f"column {wrong}"
    return "" if task.plausible(predicted).all() else f"column {task.quantity}: expected {task.range}"
