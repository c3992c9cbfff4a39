"""What is handed in, from whatever library, as a data frame, an array or a list; and what an error says of a place in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from torch import Tensor

from cm2.config.names import did_you_mean
from cm2.errors import InputError, spelled

Plain = pd.DataFrame | pd.Series | np.ndarray | list[Any] | Mapping[Any, Any]


def plain(value: Any, what: str) -> Plain:
    """An object of pandas, NumPy, torch, Arrow, polars or Hugging Face's ``datasets`` as one of pandas, NumPy or Python.

    Args:
        value: the object. What is none of these has to have ``to_pandas`` or ``__array__``, or be iterable.
        what: what it is called in an error.

    Raises:
        InputError: an object of another type.
    """
    if isinstance(value, Mapping) and any(hasattr(item, "column_names") for item in value.values()):
        remedy = "join them with datasets.concatenate_datasets, and name the split of each row"
        raise InputError(f"{what}: got data sets by split ({', '.join(map(str, value))}); {remedy}")
    if isinstance(value, pd.DataFrame | pd.Series | np.ndarray | Mapping):
        return value
    if isinstance(value, pd.Index):
        return value.to_numpy()
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if hasattr(value, "to_pandas"):
        return plain(_with_names(value.to_pandas(), getattr(value, "features", None)), what)
    if isinstance(features := getattr(getattr(value, "source", None), "features", None), Mapping):  # a column of a data set
        name = str(getattr(value, "column_name", ""))
        if len(getattr(features.get(name), "names", None) or ()) > 2:
            return _with_names(pd.DataFrame({name: list(value)}), features)[name]
    if isinstance(value, str | bytes):
        raise InputError(f"{what}: expected data, got the text {value!r:.60}; read the file first, or use `cm2 prepare own`")
    if hasattr(value, "__array__"):
        return np.asarray(value)
    if isinstance(value, Iterable):
        return list(value)
    raise InputError(f"{what}: cannot read a {type(value).__name__}; give a data frame, an array, a tensor or a list")


def _with_names(frame: Any, features: Any) -> Any:
    """A frame in which classes of Hugging Face's ``datasets`` have their names; two stay 0 and 1, and -1, which means none, is missing."""
    for name, feature in features.items() if isinstance(features, Mapping) and isinstance(frame, pd.DataFrame) else ():
        names = getattr(feature, "names", None)
        if names and name in frame and pd.api.types.is_numeric_dtype(frame[name].dtype):
            codes = frame[name].fillna(-1).astype(int)
            told = [names[code] if code >= 0 else None for code in codes]
            frame = frame.assign(**{name: pd.Categorical(told, categories=list(names)) if len(names) > 2 else codes.where(codes >= 0)})
    return frame


def is_missing(value: Any) -> bool:
    """Whether an item is None, NaN, or pandas' sign of a missing value."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


@dataclass(frozen=True)
class Place:
    """What an error says of a row of one's data.

    Args:
        name: of the modality, or ``labels``.
        protected: whether the data are protected, so that neither ids nor values may stand in a message.
        ids: of the rows; None: they have none.
    """

    name: str
    protected: bool
    ids: Sequence[str] | None = None

    def row(self, row: int) -> str:
        """``row 7 (id p12)``, counted from 1."""
        called = "" if self.protected or self.ids is None else f" (id {self.ids[row]!s:.40})"
        return f"row {row + 1}{called}"

    def fault(self, said: str, remedy: str, row: int | None = None, column: str | None = None, value: Any = None) -> NoReturn:
        """Raises the error: ``labs, row 7 (id p12), column sodium: 'n/a' is no number; REMEDY``.

        Args:
            said: what is wrong, with ``{}`` for the value.
            remedy: what to do.
            row: from 0 on.
            column: its name.
            value: what stands there.
        """
        where = [self.name, *([] if row is None else [self.row(row)]), *([] if column is None else [f"column {column}"])]
        shown = "its value" if self.protected else f"{value!r:.60}"
        raise InputError(f"{', '.join(where)}: {said.format(shown)}; {remedy}")


def other_split() -> str:
    """What gives other training stays."""
    return spelled("a split", "a split", "another random_state")


def column_of(frame: pd.DataFrame, name: str, what: str) -> pd.Series:
    """A column of a frame, or a level of its index. Raises InputError if there is none of this name."""
    if name in frame.columns:
        column = frame[name]
        if isinstance(column, pd.DataFrame):
            raise InputError(f"{what}: two columns are called {name!r}; rename one")
        return column
    if name in frame.index.names:
        return pd.Series(frame.index.get_level_values(name), index=frame.index)
    known = [str(column) for column in frame.columns]
    raise InputError(f"{what}: no column {name!r}; it has {', '.join(known)[:200] or 'none'}{did_you_mean(name, known)}")


def frame_of(value: Plain, columns: Sequence[str] | None, what: str) -> pd.DataFrame:
    """A frame of a table that may be an array ``(n,)`` or ``(n, F)``, whose columns are called ``f1``, ``f2`` and so on."""
    if isinstance(value, pd.DataFrame):
        return value
    if isinstance(value, pd.Series):
        return value.to_frame(str(value.name) if value.name is not None else "f1")
    if isinstance(value, Mapping):
        if value and all(np.ndim(item) for item in value.values()):  # columns by name
            return pd.DataFrame({str(name): np.asarray(plain(item, what)) for name, item in value.items()})
        return pd.Series(value).to_frame("f1")
    array = np.asarray(value)
    if array.ndim not in (1, 2):
        raise InputError(f"{what}: a table has rows and columns, got shape {array.shape}; give another kind, for example TimeSeries(...)")
    array = array.reshape(len(array), -1)
    names = list(columns) if columns is not None and len(columns) == array.shape[1] else [f"f{i + 1}" for i in range(array.shape[1])]
    return pd.DataFrame(array, columns=names)
