"""How a modality of one's own is read: one small object for each kind, for what its type alone does not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, eq=False)
class Declared:
    """A modality and how it is read.

    Args:
        data: the modality of all stays; see the subclasses.
    """

    data: Any


@dataclass(frozen=True, eq=False)
class Table(Declared):
    """Columns of numbers, categories, dates and truth values, one row for each id: a modality of kind ``vector``.

    Args:
        data: a data frame, or an array ``(n,)`` or ``(n, F)``.
        columns: those that are read; None: all but the id.
        units: by column, for example ``{"sodium": "mmol/L"}``.
        standardise: subtract the mean of the training stays and divide by their standard deviation. The manifest keeps both.
        rare: categories of fewer stays are merged as ``(rare)``; None: of fewer than ten in protected data, whose manifest would name
            them, and none in open data. Categories that a column of dtype ``category`` declares are never merged.
    """

    columns: Sequence[str] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    standardise: bool = True
    rare: int | None = None


@dataclass(frozen=True, eq=False)
class TimeSeries(Declared):
    """Steps of features, as many as a stay has: a modality of kind ``series``. `cm2.cohorts.from_frames` describes what is stored.

    Args:
        data: a long data frame, one row for each id and time; an array ``(n, T, F)`` or ``(n, T)``; or n arrays ``(T_i, F)`` of any
            lengths, or n pairs ``(times, values)``, with None for a stay without the series. A mapping gives them by id.
        time: column of the times in a data frame: numbers in a unit of yours, or dates, which become hours since ``start``.
        times: times of an array, ``(T,)`` or ``(n, T)``.
        start: date from which hours are counted, by id; None: the first row of each stay.
        columns: features that are read; None: all but id and time. For arrays, the names of the features.
        units: by column.
        every: width of a step of a regular grid from time 0 on; of several values in a step the last counts. None: steps as given.
        steps: largest number of steps. Of a longer stay the last ones are kept, on a grid the first ones; what is cut is counted.
        standardise: as for `Table`, over what was measured.
        rare: as for `Table`.
    """

    time: str = "time"
    times: Any = None
    start: Any = None
    columns: Sequence[str] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    every: float | None = None
    steps: int | None = None
    standardise: bool = True
    rare: int | None = None


@dataclass(frozen=True, eq=False)
class Images(Declared):
    """Grey or colour images: a modality of kind ``image``.

    Args:
        data: an array ``(n, H, W)``, ``(n, H, W, 3)`` or ``(n, 3, H, W)``; a list of arrays, of images of PIL or of paths, with None for a
            stay without an image; a mapping of any of them by id; a folder whose files are called ``ID.png``, ``ID.jpg`` or the like.
        size: height and width in pixels, or one number for both, to which images are resized (bilinear, antialiased); None: as they are.
        low: value that is black.
        high: value that is white; None: 255 for whole numbers, 1 for other numbers.
        colour: three channels or one; None: three if any image has colours.
    """

    size: int | tuple[int, int] | None = None
    low: float = 0
    high: float | None = None
    colour: bool | None = None


@dataclass(frozen=True, eq=False)
class Texts(Declared):
    """Texts of one or several documents: a modality of kind ``text``.

    Args:
        data: a series or list of strings or of lists of strings, with None for a stay without a text; a mapping by id; or a data frame, of
            which several rows with one id are several documents.
        column: of a data frame; None: its only column beside id and time.
        time: column by which the documents of a stay are ordered; None: they stay in their order.
        documents: largest number of documents of a stay, of which the last are kept; what is cut is counted. None: all.
    """

    column: str | None = None
    time: str | None = None
    documents: int | None = None


@dataclass(frozen=True, eq=False)
class Arrays(Declared):
    """Arrays of one shape that are stored as they are: a modality of a kind of your own, see `cm2.kinds`.

    Args:
        data: an array ``(n, ...)``; a list of n arrays of one shape, with None for a stay without one; or a mapping of them by id. An array
            of nothing but NaN is missing.
        kind: name of a registered kind whose values are arrays.
    """

    kind: str = field(kw_only=True)


Unmatched = Literal["error", "drop"]
