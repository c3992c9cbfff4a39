"""What the package asks of a kind of modality, and the one list of kinds by name.

A kind is a subclass of `Kind` with a ``name``, in a file of its own beside this one: how its values are stored, checked, compared and
handed to a batch, what stands for them in a table of numbers, and which network reads them. Nothing else in the package has to be told.
"""

from __future__ import annotations

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
from cm2.config.names import enter
from cm2.networks.encoders import Encoder

KINDS: dict[str, type[Kind]] = {}
"""Kinds by name; a subclass of `Kind` that sets ``name`` enters itself."""
ROWS_AT_ONCE = 1024
"""Stays that are copied or compared in one go, so that arrays larger than memory can be."""

Data = np.ndarray | list[str | None]
"""Values of all stays, in their order: an array, or texts."""


class Stored(Protocol):
    """A prepared cohort as a kind sees it; `cm2.cohorts.Cohort` is one."""

    @property
    def path(self) -> Path:
        """Its folder."""
        ...

    @property
    def stays(self) -> pd.DataFrame:
        """A row for each stay."""
        ...

    @property
    def padding(self) -> int:
        """Id of the token that fills a text up."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids of the tokenizer in use."""
        ...

    def array(self, name: str) -> np.ndarray:
        """A modality that is stored as an array, all stays."""
        ...

    def texts(self, name: str) -> list[str | None]:
        """A modality that is stored as texts, all stays."""
        ...

    def tokens(self, name: str) -> dict[str, Tensor]:
        """Its ``input_ids`` and ``attention_mask``, all stays."""
        ...


class Kind(ABC):
    """A kind of modality. Objects have no state: `kind` makes one."""

    name: ClassVar[str]
    """What manifests and tables call it."""
    tokenised: ClassVar[bool] = False
    """Whether a value is a dictionary of token ids and mask, not a tensor."""
    named_steps: ClassVar[bool] = False
    """Whether a value is ``(steps, features)`` with named features, of which some may be masks ``mask->name`` of others."""
    sequence: ClassVar[bool] = False
    """Whether an encoder's feature map has several positions however small the value."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        enter(KINDS, cls, "kind of modality")

    @abstractmethod
    def example(self, n: int, rng: np.random.Generator) -> Data:
        """Made-up values of n stays, small enough for a test."""

    @abstractmethod
    def write(self, folder: Path, name: str, data: Data, present: np.ndarray, stay_id: pd.Series) -> tuple[str, list[int]]:
        """Writes a modality ``name`` of all stays, placeholders where it is absent.

        Returns:
            The file's name and the shape of one stay's value.
        """

    @abstractmethod
    def check(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> None:
        """Raises ValueError where the file is not what the manifest's ``entry`` says."""

    @abstractmethod
    def misplaced(self, stored: Stored, name: str, present: np.ndarray) -> tuple[str, str]:
        """What should hold of the placeholders, and what does not; the second is empty where all is well."""

    @abstractmethod
    def modality(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> Modality:
        """What a method has to know of it."""

    @abstractmethod
    def values(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> Value:
        """The values of some stays for a batch ``(B, ...)``, placeholders where ``present`` ``(B,)`` is False."""

    @abstractmethod
    def alike(self, first: Stored, second: Stored, name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``(len(a),)`` bool: whether row ``a[i]`` of one cohort has the value of row ``b[i]`` of another."""

    @abstractmethod
    def extremity(self, stored: Stored, name: str) -> np.ndarray:
        """``(n,)`` float64: how extreme each stay's value is, which missingness that is not at random depends on."""

    @abstractmethod
    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """The network that reads it."""

    @abstractmethod
    def feature_ndim(self, config: EncoderConfig) -> int:
        """Number of dimensions of that network's feature map, the batch's included."""


class ArrayKind(Kind):
    """A kind whose values are numbers in an array of one shape: ``<name>.npy``, memory-mapped."""

    dtype: ClassVar[type[np.generic]] = np.float32
    """Of the file."""

    def write(self, folder: Path, name: str, data: Data, present: np.ndarray, stay_id: pd.Series) -> tuple[str, list[int]]:
        """Row after row, so that an array larger than memory can be written from a memory map."""
        file, array = f"{name}.npy", np.asanyarray(data)
        saved = np.lib.format.open_memmap(folder / file, mode="w+", dtype=self.dtype, shape=array.shape)
        for rows in blocks(len(array)):
            saved[rows] = array[rows]
            saved[rows][~present[rows]] = 0
        saved.flush()
        return file, list(array.shape[1:])

    def check(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> None:
        """The array's shape."""
        expected, given = (len(stored.stays), *entry["shape"]), stored.array(name).shape
        if given != expected:
            raise ValueError(f"{stored.path / entry['file']}: expected shape {expected}, got {given}; prepare the cohort again")

    def misplaced(self, stored: Stored, name: str, present: np.ndarray) -> tuple[str, str]:
        """Zeros where it is absent."""
        absent = np.flatnonzero(~present)
        filled = sum(bool(stored.array(name)[rows].any()) for rows in np.array_split(absent, max(1, len(absent) // 512)))
        return f"{name}: zeros where it is absent", "other values" if filled else ""

    def modality(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> Modality:
        """Its shape is that of the manifest."""
        return Modality(name, self.name, tuple(entry["shape"]))

    def values(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> Tensor:
        """One gather from the memory map, then `scaled`; zeros where absent."""
        data = self.scaled(torch.from_numpy(np.asarray(stored.array(name)[rows])))
        return data if bool(present.all()) else data.masked_fill_(~present.view(-1, *[1] * (data.ndim - 1)), 0)

    def scaled(self, data: Tensor) -> Tensor:
        """What is stored, as methods read it; may change ``data`` in place."""
        return data

    @abstractmethod
    def columns(self, value: Tensor) -> Tensor:
        """``(B, ...) -> (B, columns)`` float32: the value as numbers in a row of a table."""

    def alike(self, first: Stored, second: Stored, name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Equal in every number; arrays of two shapes are equal nowhere."""
        x, y = first.array(name), second.array(name)
        if x.shape[1:] != y.shape[1:]:
            return np.zeros(len(a), dtype=bool)
        axes = tuple(range(1, x.ndim))
        return np.concatenate([(x[a[rows]] == y[b[rows]]).all(axis=axes) for rows in blocks(len(a))] or [np.zeros(0, dtype=bool)])

    def extremity(self, stored: Stored, name: str) -> np.ndarray:
        """Mean square, which is large where standardised values are far from 0."""
        return self.mean_of(stored, name, np.square)

    def mean_of(self, stored: Stored, name: str, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """``(n,)`` float64: the mean over a stay's numbers of a function of them."""
        array, n = stored.array(name), len(stored.stays)
        parts = np.array_split(np.arange(n), max(1, n // 4096))
        return np.concatenate([function(array[part].astype(np.float64)).reshape(len(part), -1).mean(axis=1) for part in parts])


def blocks(n: int) -> Iterator[slice]:
    """The numbers below n, so many at once."""
    return (slice(start, min(start + ROWS_AT_ONCE, n)) for start in range(0, n, ROWS_AT_ONCE))
