"""Scores of single stays behind the tables of embeddings, from which every interval can be computed again.

A table has one Parquet file, ``scores-NAME.parquet``, with a row for each array of scores and the names under which the table's numbers
refer to it; equal arrays are stored once. Values are rounded to 11 significant bits, as many as a float16 has, and keep the range of a
float32. Tables are computed from the rounded scores, so the same digits come out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pyarrow import parquet

from cm2.durable import replaced
from cm2.errors import InputError

FORMAT = b"1"
SCORES = "scores"
"""Name of the file in a table's provenance."""
DROPPED = 13
"""Bits of a float32's significand that are rounded away."""


def file_name(stem: str) -> str:
    """Name of the file of scores of a table, by the stem of its other files."""
    return f"scores-{stem}.parquet"


def rounded(values: ArrayLike) -> NDArray:
    """Scores as they are stored, float32 ``(n,)``: 11 significant bits, halves away from 0.

    Raises:
        ValueError: a score that is not finite.
    """
    exact = np.asarray(values, dtype=np.float32)
    if not np.isfinite(exact).all():
        raise InputError("a score of a stay is not finite; the embeddings or their law are broken")
    bits = exact.view(np.uint32)
    return ((bits + np.uint32(1 << (DROPPED - 1))) & np.uint32(0xFFFFFFFF << DROPPED & 0xFFFFFFFF)).view(np.float32)


def name_of(run: str, section: str, score: str, part: str) -> str:
    """Name of an array: of a run, a section, a score of the method, and a part of what that score's numbers follow from."""
    return " | ".join((run, section, score, part))


def write_scores(path: Path, found: Mapping[str, NDArray]) -> None:
    """Writes arrays by name; the file is replaced atomically.

    Args:
        path: of the file.
        found: `rounded` scores by `name_of`.
    """
    names: dict[bytes, list[str]] = {}
    for name, values in sorted(found.items()):
        names.setdefault(values.tobytes(), []).append(name)
    table = pa.table({"names": list(names.values()), "values": [np.frombuffer(content, dtype=np.float32) for content in names]})
    with replaced(path) as part:
        parquet.write_table(
            table.replace_schema_metadata({b"cm2": FORMAT}),
            part,
            compression="zstd",
            compression_level=19,
            use_dictionary=["names.list.element"],
            column_encoding={"values.list.element": "BYTE_STREAM_SPLIT"},
        )


def read_scores(path: Path) -> dict[str, NDArray]:
    """Arrays by name.

    Raises:
        ValueError: no such file, or one of another format.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path} with the scores of this table; compute the table again with `cm2 table`")
    try:
        table = parquet.read_table(path)
        if (table.schema.metadata or {}).get(b"cm2") != FORMAT:
            raise InputError("it is of another format")
        columns = table["names"].to_pylist(), table["values"].combine_chunks()
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a file of scores ({error}); compute its table again with `cm2 table`") from None
    return {name: values.values.to_numpy() for names, values in zip(*columns, strict=True) for name in names}
