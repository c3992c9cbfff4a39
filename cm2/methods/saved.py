"""A model in a folder of its own, as it travels: what describes it, its weights, and how raw values become its batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality, Value
from cm2.cohorts.text import tokenise
from cm2.config import Config
from cm2.config.files import read_json
from cm2.config.names import choose
from cm2.config.schema import Schema
from cm2.durable import file_sha256
from cm2.environment.hub import hub_errors
from cm2.errors import InputError
from cm2.escape import one_line
from cm2.kinds import ArrayKind, kind
from cm2.parts import check_same
from cm2.tasks import Task, task_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 1
"""Of the folder; a reader refuses any other."""
DESCRIPTION, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"
FILES = (DESCRIPTION, WEIGHTS, TOKENIZER, CARD)
"""All that a saved model consists of; the tokenizer only where it reads texts."""
REMEDY = "save the model again"
LOADER = "cm2.methods.Method.from_pretrained"
"""What loads it."""
SCHEMA: Schema = {
    "format": int,
    "cm2": str,
    "method": str,
    "method_version": str,
    "config": dict,
    "weights_sha256": str,
    "modalities": [{"name": str, "kind": str, "shape": [int], "vocabulary": int, "masks": [int], "features": [str], "normalisation": dict}],
    "task": {"name": str, "description": str},
    "tokenizer?": ({"origin": str, "max_length": int, "special": {"*": str}}, None),
    "parts": {"*": str},
    "architectures": dict,
}
"""What describes a saved model; further entries are for people. See `cm2.config.schema`."""


@dataclass(frozen=True)
class Inputs:
    """Turns values in their own units into batches for a saved model.

    Args:
        modalities: of the model, in its order.
        features: names of the columns of series and vectors, by modality.
        normalisation: ``features``, ``mean`` and ``std`` by modality, of the columns that were standardised.
        tokenizer: of the texts.
        max_length: tokens of a document.
        label_shape: of a label, see `cm2.batch.Batch`.
    """

    modalities: tuple[Modality, ...]
    features: Mapping[str, Sequence[str]]
    normalisation: Mapping[str, Mapping[str, Any]]
    tokenizer: PreTrainedTokenizerBase | None = None
    max_length: int = 512
    label_shape: tuple[int, ...] = field(default=())

    def batch(self, values: Mapping[str, Any], standardise: bool = True) -> Batch:
        """Stays, their outcomes unknown.

        Args:
            values: by modality, the same number of stays in each: arrays ``(n, ...)`` in the units of the features, images as integers from
                0 to 255, texts as a list of strings. None in a list, or a stay of NaN alone, is a missing modality; so is, for all stays, a
                modality that is left out.
            standardise: whether to subtract the training stays' means and divide by their deviations; False: the values are standardised.

        Raises:
            InputError: an unknown modality, another shape or number of stays, a value that is not finite, an image of
                anything but whole numbers from 0 to 255, or a stay without any modality.
        """
        if unknown := sorted(values.keys() - {m.name for m in self.modalities}):
            raise InputError(f"the model reads no {unknown[0]!r}; {choose(unknown[0], [m.name for m in self.modalities])}")
        sizes = {name: len(given) for name, given in values.items()}
        if not sizes or len(set(sizes.values())) > 1:
            raise InputError(f"expected the same number of stays of every modality, got {sizes or 'none'}")
        n = next(iter(sizes.values()))
        parts = {m.name: self._read(m, values.get(m.name), n, standardise) for m in self.modalities}
        present = torch.stack([there for _, there in parts.values()], dim=1)
        label = torch.full((n, *self.label_shape), torch.nan)
        return Batch({name: value for name, (value, _) in parts.items()}, present, label, torch.arange(n))

    def _read(self, modality: Modality, given: Any, n: int, standardise: bool) -> tuple[Value, Tensor]:
        if modality.vocabulary:
            return self._text(list(given) if given is not None else [None] * n)
        own = kind(modality.kind)
        if not isinstance(own, ArrayKind):
            raise InputError(f"{modality.name}: a {own.name} is no array; make the batch yourself, see cm2.batch.Batch")
        if given is None:
            array, there = np.zeros((n, *modality.shape), own.dtype), np.zeros(n, dtype=bool)
        else:
            array, there = _stacked(modality, given, own.dtype)
        if np.issubdtype(own.dtype, np.integer) and (fault := own.fault(array, there)) is not None:
            raise InputError(f"{modality.name}: {'' if fault[0] is None else f'stay {fault[0]} '}{fault[1]}")
        array[~there] = 0
        if standardise:
            array = self._standardised(modality.name, array, there)
        return own.scaled(torch.from_numpy(np.ascontiguousarray(array.astype(own.dtype)))), torch.from_numpy(there)

    def _standardised(self, name: str, array: np.ndarray, there: np.ndarray) -> np.ndarray:
        if not (statistics := self.normalisation.get(name)):
            return array
        columns = [list(self.features[name]).index(feature) for feature in statistics["features"]]
        scaled = array.astype(np.float64)
        scaled[..., columns] = (scaled[..., columns] - np.array(statistics["mean"])) / np.array(statistics["std"])
        scaled[~there] = 0
        return scaled

    def _text(self, texts: list[str | None]) -> tuple[Value, Tensor]:
        if self.tokenizer is None:
            raise InputError(f"the model has no tokenizer; {REMEDY}")
        if wrong := [row for row, text in enumerate(texts) if not isinstance(text, str | None)]:
            raise InputError(f"row {wrong[0]}: expected a text or None, got {texts[wrong[0]]!r:.60}")
        tokens, _ = tokenise(texts, self.tokenizer, self.max_length)
        there = torch.tensor([text is not None for text in texts])
        mask = tokens["attention_mask"].long() * there.view(-1, *[1] * (tokens["attention_mask"].ndim - 1))
        ids = tokens["input_ids"].long().masked_fill(mask == 0, int(self.tokenizer.pad_token_id))
        return {"input_ids": ids, "attention_mask": mask}, there


def _stacked(modality: Modality, given: Any, dtype: type[np.generic]) -> tuple[np.ndarray, np.ndarray]:
    """Values ``(n, *shape)``, and which stays ``(n,)`` have one: None and nothing but NaN are none."""
    some = np.array([value is not None for value in given], dtype=bool)
    blank = np.zeros(modality.shape, dtype)
    try:
        array = np.array(given if some.all() else [blank if value is None else value for value in given])
        array = array if array.dtype.kind in "biuf" else array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{modality.name}: expected numbers of shape {modality.shape} for each stay, or None") from None
    if array.shape != (len(some), *modality.shape):
        expected = (len(some), *modality.shape)
        raise InputError(f"{modality.name}: expected {expected}, got {array.shape}; give the shape that the model was trained on")
    unmeasured = np.isnan(array).reshape(len(some), -1).all(axis=1) if array.dtype.kind == "f" else ~some
    return array, some & ~unmeasured


@dataclass(frozen=True)
class SavedModel:
    """A folder with a saved model; get one from `open_saved`."""

    path: Path

    @cached_property
    def description(self) -> dict[str, Any]:
        """What describes the model, checked."""
        found = read_json(self.path / DESCRIPTION, SCHEMA, REMEDY)
        if found["format"] != FORMAT:
            raise InputError(f"{self.path / DESCRIPTION}: format {found['format']} is not supported, this version reads {FORMAT}; {REMEDY}")
        return found

    @cached_property
    def config(self) -> Config:
        """Of the run, without paths of the machine it was trained on."""
        return Config.from_dict(self.description["config"])

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """What the model reads."""
        entries = self.description["modalities"]
        return tuple(Modality(e["name"], e["kind"], tuple(e["shape"]), e["vocabulary"], tuple(e["masks"])) for e in entries)

    @cached_property
    def task(self) -> Task:
        """What the model predicts."""
        entry = self.description["task"]
        return task_of(entry["name"], entry)

    def inputs(self) -> Inputs:
        """How values become the model's batches."""
        entries, text = self.description["modalities"], self.description.get("tokenizer")
        features, normalisation = ({e["name"]: e[part] for e in entries} for part in ("features", "normalisation"))
        made = Inputs(self.modalities, features, normalisation, label_shape=self.task.label_shape)
        return made if text is None else replace(made, tokenizer=self._tokenizer(text), max_length=text["max_length"])

    def _tokenizer(self, text: Mapping[str, Any]) -> PreTrainedTokenizerBase:
        from transformers import PreTrainedTokenizerFast

        try:
            return PreTrainedTokenizerFast(tokenizer_file=str(self.path / TOKENIZER), **text["special"])
        except Exception as error:  # of the tokenizers' own reader
            raise InputError(f"{self.path / TOKENIZER}: not a tokenizer ({one_line(error):.80}); {REMEDY}") from None

    def check_parts(self, here: Mapping[str, str]) -> None:
        """Compares the parts from outside with those that this process knows of, see `cm2.methods.outside.identities`.

        Raises:
            InputError: one is not installed, or has another version or other code.
        """
        check_same(self.description["parts"], here, self.path)

    def load_weights(self, method: nn.Module) -> None:
        """Loads the weights. Raises InputError for a damaged file, and for one that does not fit the method in this version."""
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        file, fits = self.path / WEIGHTS, f"the weights do not fit {self.config.method} in this version"
        if not file.is_file() or file_sha256(file) != self.description["weights_sha256"]:
            raise InputError(f"{file} is missing or damaged (wrong checksum); {REMEDY}")
        try:
            missing, unexpected = load_model(method, file, strict=False)
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise InputError(
                f"{file}: the weights do not fit {self.config.method} in this version ({one_line(error):.80}); {REMEDY}"
            ) from None
        if wrong := [name for name in (*missing, *unexpected) if not name.endswith("num_batches_tracked")]:
            raise InputError(f"{file}: {fits} ({wrong[0]}); {REMEDY}")


def open_saved(source: str | Path, revision: str | None = None) -> SavedModel:
    """A saved model from a folder, or from the model hub, which then keeps a copy on this machine.

    Args:
        source: a folder that `cm2.runs.run.Run.save_pretrained` wrote, or a name on the hub such as ``me/model``.
        revision: branch, tag or commit on the hub.

    Raises:
        InputError: neither, or the hub cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / DESCRIPTION).is_file():
            raise InputError(f"{path} holds no saved model: it has no {DESCRIPTION}; give a folder written by save_pretrained")
        return SavedModel(path)
    from huggingface_hub import snapshot_download

    try:
        found = SavedModel(Path(snapshot_download(str(source), revision=revision, allow_patterns=list(FILES))))
    except hub_errors() as error:
        raise InputError(f"{source} is no folder, and is not found on the model hub ({one_line(error):.120})") from None
    if not (found.path / DESCRIPTION).is_file():
        raise InputError(f"{source} on the hub holds no model of cm2: it has no {DESCRIPTION}")
    return found
