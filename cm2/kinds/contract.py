"""Interface of a kind of modality to the package; registry of the kinds by name.

A kind is a subclass of `Kind` with a ``name``, in a separate file beside this one: it defines how values are stored, checked, compared
and batched, how they are summarised in a table of numbers, and which network reads them. Nothing else in the package needs to change.
"""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cm2.batch import Modality, Value
from cm2.config import EncoderConfig
from cm2.durable import new_array
from cm2.errors import InputError
from cm2.networks.encoders import Encoder
from cm2.parts import Registry

KINDS: Registry[type[Kind]] = Registry("kind of modality", "cm2.kinds")
"""Kinds by name; a subclass of `Kind` that sets ``name`` registers itself, as does an entry point of the group ``cm2.kinds``."""
ROWS_AT_ONCE = 1024
"""Number of stays copied or compared at a time, which allows arrays larger than memory."""

Data = np.ndarray | list[str | None]
"""Values of all stays, in their order: an array, or texts."""


class Stored(Protocol):
    """Interface of a prepared cohort to a kind; `cm2.cohorts.Cohort` implements it."""

    @property
    def path(self) -> Path:
        """Folder of the cohort."""
        ...

    @property
    def stays(self) -> pd.DataFrame:
        """Table of the stays, one row each."""
        ...

    @property
    def padding(self) -> int:
        """Id of the padding token."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids of the tokenizer in use."""
        ...

    def array(self, name: str) -> np.ndarray:
        """All stays' values of a modality that is stored as an array."""
        ...

    def texts(self, name: str) -> list[str | None]:
        """All stays' values of a modality that is stored as texts."""
        ...

    def tokens(self, name: str) -> dict[str, Tensor]:
        """All stays' ``input_ids`` and ``attention_mask`` of a text modality."""
        ...


MASK = "mask->"
"""How the name of a feature begins that says where another one was measured."""

Fault = tuple[int | None, str]
"""What is wrong with values that are to be written: the first row where it is, or None for all of them, and a sentence with the remedy."""


class Kind(ABC):
    """A kind of modality. Instances have no state; get one from `kind`."""

    name: ClassVar[str]
    """Name in manifests and tables."""
    tokenised: ClassVar[bool] = False
    """Whether a value is a dictionary of token ids and mask instead of a tensor."""
    named_steps: ClassVar[bool] = False
    """Whether a value is ``(steps, features)`` with named features, of which some may be masks ``mask->name`` of others."""
    sequence: ClassVar[bool] = False
    """Whether an encoder's feature map has several positions, however small the value."""
    standardised: ClassVar[bool] = False
    """Whether a value is numbers whose mean over the training stays is about 0."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        KINDS.enter(cls)

    @abstractmethod
    def example(self, n: int, rng: np.random.Generator) -> Data:
        """Synthetic values of n stays, small enough for a test."""

    @abstractmethod
    def fault(self, data: Data, present: np.ndarray) -> Fault | None:
        """The first thing wrong with the values of n stays that are to be written, ``present`` ``(n,)`` where they are observed."""

    @abstractmethod
    def write(self, folder: Path, name: str, data: Data, present: np.ndarray, stay_id: pd.Series) -> tuple[str, list[int]]:
        """Writes the modality ``name`` of all stays, with placeholders for missing values.

        Returns:
            The file's name and the shape of one stay's value.
        """

    @abstractmethod
    def check(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> None:
        """Raises ValueError if the file does not match the manifest's ``entry``."""

    @abstractmethod
    def misplaced(self, stored: Stored, name: str, present: np.ndarray) -> tuple[str, str]:
        """Checks the placeholders: the rule they should follow, and its violations; the latter is empty if there are none."""

    @abstractmethod
    def modality(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> Modality:
        """Description of the modality for a method: kind, shape, vocabulary."""

    @abstractmethod
    def values(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> Value:
        """Values of some stays for a batch ``(B, ...)``, placeholders where ``present`` ``(B,)`` is False."""

    def raw(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> Value:
        """The same stays' values as they travel to the device, of which `ready` makes what `values` gives; by default they are equal.

        Small types are worth it, such as the bytes of an image. Texts are as wide as the longest of these stays.
        """
        return self.values(stored, name, rows, present)

    def ready(self, value: Value, rows: Tensor, present: Tensor) -> Value:
        """What methods read, of `raw` values on any device; must not wait for it, nor change ``value``.

        Args:
            value: ``(B, ...)``.
            rows: those of the stays in which the modality is observed, whose number is known without asking the device.
            present: ``(B,)`` bool.
        """
        return value

    def lengths(self, value: Value) -> Tensor | None:
        """``(n,)`` number of steps that computations over each stay's `raw` value take; None, the default, if it is always the same."""
        return None

    def cut(self, value: Value, length: int) -> Value:
        """`raw` values cut to the length of the longest."""
        return value

    def augmented(self, value: Value, strength: float) -> Value:
        """Values of a training batch, as methods read them, changed at random without changing what they show; by default they are not.

        Draws from torch's generator on the values' device, and does not wait for it.
        """
        return value

    @abstractmethod
    def alike(self, first: Stored, second: Stored, name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``(len(a),)`` bool: whether row ``a[i]`` of one cohort has the value of row ``b[i]`` of another."""

    @abstractmethod
    def extremity(self, stored: Stored, name: str) -> np.ndarray:
        """``(n,)`` float64: how extreme each stay's value is; missingness that is not completely at random depends on it."""

    @abstractmethod
    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """Builds the network that reads the modality."""

    def starts_from(self, config: EncoderConfig) -> str:
        """Digest of the pretrained weights that the network starts from, which enters a run's key; empty for a random start.

        Raises:
            ValueError: they are neither on this machine nor reachable.
        """
        return ""

    @abstractmethod
    def feature_ndim(self, config: EncoderConfig) -> int:
        """Number of dimensions of that network's feature map, the batch's included."""


class ArrayKind(Kind):
    """A kind whose values are numbers in an array of one shape: ``<name>.npy``, memory-mapped."""

    dtype: ClassVar[type[np.generic]] = np.float32
    """Data type of the file."""
    axes: ClassVar[tuple[str, ...]] = ()
    """Shapes of the array in words, for example ``"n, T, F"``; empty: any."""

    def fault(self, data: Data, present: np.ndarray) -> Fault | None:
        """Values that are no array of numbers of a known shape, not finite, or beyond the range of the file's type."""
        if not isinstance(data, np.ndarray):
            return None, f"a {self.name} is one array {self._expected}, got a {type(data).__name__}; give arrays of one shape, stacked"
        if data.dtype.kind not in "biuf":
            return None, f"expected numbers, got an array of {data.dtype}; convert them"
        if data.ndim < 2 or 0 in data.shape[1:] or (self.axes and data.ndim not in [axes.count(",") + 1 for axes in self.axes]):
            return None, f"a {self.name} has the shape {self._expected}, got {data.shape}; give it that shape, or another kind"
        if data.dtype.kind != "f" and np.can_cast(data.dtype, self.dtype):
            return None  # no value can be wrong, and a pass over images larger than memory takes its time
        for rows in blocks(len(data)):
            block = data[rows][present[rows]]
            if (found := self._fault_of_numbers(block)) is not None:
                return int(np.flatnonzero(present[rows])[found[0]]) + rows.start, found[1]
            forget(data)
        return None

    @property
    def _expected(self) -> str:
        return " or ".join(f"({axes})" for axes in self.axes) or "(n, ...)"

    def _fault_of_numbers(self, block: np.ndarray) -> tuple[int, str] | None:
        """The first row of ``(rows, ...)`` with a number that the file cannot hold."""
        by_row = lambda wrong: wrong.reshape(len(block), -1).any(axis=1)
        if block.dtype.kind == "f" and (bad := by_row(~np.isfinite(block))).any():
            return int(bad.argmax()), "has a value that is not finite; impute it or mark the modality as missing"
        if np.can_cast(block.dtype, self.dtype) or not block.size:
            return None
        whole = np.issubdtype(self.dtype, np.integer)
        file = np.dtype(self.dtype)
        limits: Any = np.iinfo(file) if whole else np.finfo(file)
        outside = (block < limits.min) | (block > limits.max)
        if whole and block.dtype.kind == "f":
            outside |= block != np.floor(block)
        if not (bad := by_row(outside)).any():
            return None
        numbers = "whole numbers" if whole else "numbers"
        return int(bad.argmax()), f"has a value that is not stored: {numbers} from {limits.min:.4g} to {limits.max:.4g} are; rescale them"

    def write(self, folder: Path, name: str, data: Data, present: np.ndarray, stay_id: pd.Series) -> tuple[str, list[int]]:
        """Writes blocks of rows: ``data`` may be a memory map larger than memory."""
        file, array = f"{name}.npy", np.asanyarray(data)
        saved = new_array(folder / file, self.dtype, array.shape)
        for rows in blocks(len(array)):
            saved[rows] = array[rows]
            saved[rows][~present[rows]] = 0
            forget(saved)
            forget(array)
        saved.flush()
        return file, list(array.shape[1:])

    def check(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> None:
        """Compares the array's shape and type."""
        file, expected = stored.path / entry["file"], (len(stored.stays), *entry["shape"])
        try:
            array = stored.array(name)
        except ValueError as error:  # no array, or one of objects, which would have to be unpickled
            raise InputError(f"{file} is not an array of numbers ({error}); prepare the cohort again") from None
        if array.shape != expected:
            raise InputError(f"{file}: expected shape {expected}, got {array.shape}; prepare the cohort again")
        if array.dtype != self.dtype:
            raise InputError(f"{file}: expected {np.dtype(self.dtype)}, got {array.dtype}; prepare the cohort again")

    def misplaced(self, stored: Stored, name: str, present: np.ndarray) -> tuple[str, str]:
        """Missing values are zeros."""
        absent = np.flatnonzero(~present)
        array, filled = stored.array(name), 0
        for rows in np.array_split(absent, max(1, len(absent) // 512)):
            filled += bool(array[rows].any())
            forget(array)
        return f"{name}: zeros where it is missing", "other values" if filled else ""

    def modality(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> Modality:
        """The shape is that of the manifest."""
        return Modality(name, self.name, tuple(entry["shape"]))

    def values(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> Value:
        """One gather from the memory map, then `scaled`; zeros where missing."""
        return self.ready(self.raw(stored, name, rows, present), present.nonzero().flatten(), present)

    def raw(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> Tensor:
        """One gather from the memory map, in the type of the file."""
        array = stored.array(name)
        data = torch.from_numpy(np.asarray(array[rows]))
        forget(array)
        return data

    def ready(self, value: Value, rows: Tensor, present: Tensor) -> Tensor:
        """`scaled`, then zeros where missing."""
        assert isinstance(value, Tensor)
        data = self.scaled(value)
        return data if len(rows) == len(data) else data.masked_fill(~present.view(-1, *[1] * (data.ndim - 1)), 0)

    def scaled(self, data: Tensor) -> Tensor:
        """Converts stored values, on any device, to those that methods read; leaves ``data`` as it is."""
        return data

    @abstractmethod
    def columns(self, value: Tensor) -> Tensor:
        """``(B, ...) -> (B, columns)`` float32: tabular summary of the value."""

    def alike(self, first: Stored, second: Stored, name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Equal in every number; arrays of different shapes differ in every stay."""
        x, y = first.array(name), second.array(name)
        if x.shape[1:] != y.shape[1:]:
            return np.zeros(len(a), dtype=bool)
        axes = tuple(range(1, x.ndim))
        return np.concatenate([(x[a[rows]] == y[b[rows]]).all(axis=axes) for rows in blocks(len(a))] or [np.zeros(0, dtype=bool)])

    def extremity(self, stored: Stored, name: str) -> np.ndarray:
        """Mean square, which is large where standardised values are far from 0."""
        return self.mean_of(stored, name, np.square)

    def mean_of(self, stored: Stored, name: str, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """``(n,)`` float64: mean of ``function`` over the numbers of each stay."""
        array, n = stored.array(name), len(stored.stays)
        means = np.zeros(n)
        for rows in blocks(n):
            part = array[rows].astype(np.float64)
            means[rows] = function(part).reshape(len(part), -1).mean(axis=1)
            forget(array)
        return means


def forget(array: np.ndarray) -> None:
    """Gives back the memory that a process holds of a memory map that it has read or written: the file's own pages stay where they are.

    Otherwise a pass over a cohort ends with all of it in memory, as far as the machine's memory goes.
    """
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def blocks(n: int) -> Iterator[slice]:
    """Slices of ``ROWS_AT_ONCE`` rows that cover ``range(n)``."""
    return (slice(start, min(start + ROWS_AT_ONCE, n)) for start in range(0, n, ROWS_AT_ONCE))
