"""Reads ``printed.csv`` and ``doubts.toml``.

Wu, Chan, Wang, Yin, Yu (2025), Cross-Modal Alignment via Variational Copula Modelling, ICML, arXiv 2511.03196. ``printed.csv`` has
one row per printed number:

=============  ===================================================================================================================
column         holds
=============  ===================================================================================================================
table, page    where it is printed; the page is that of the paper's PDF
cohort         ``mimic3`` or ``mimic4``; empty where the paper does not say
setting        ``complete``, ``matched`` or ``partial``; empty where the paper does not say
variant        encoders of Table 10, for example ``LSTM+ResNet``
row            the row's label in the table
task           ``IHM``, ``READM`` or empty
column         ``auroc``, ``aupr``, ``auroc_p``, ``aupr_p``, ``train``, ``valid``, ``test``, ``total`` or ``positives``
value          the number
low, high      its printed 95 % interval, where there is one
=============  ===================================================================================================================
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from cm2.config.names import choose
from cm2.errors import InputError

HERE = Path(__file__).parent
TABLES = tuple(range(1, 12))
COHORTS = {"mimic3": "MIMIC-III", "mimic4": "MIMIC-IV", "": "cohort not stated"}
"""Names of the paper's cohorts, as they are printed."""


@dataclass(frozen=True)
class Doubt:
    """Something printed that cannot be right as it stands."""

    where: Mapping[str, Any]
    """The cells concerned: column names of ``printed`` and the values they have there; or a figure, or a page. A ``section`` has a sentence
    about these cells that they do not bear out."""
    why: str
    """One or two sentences."""

    @property
    def place(self) -> str:
        """Where it is, in words: ``Table 2, MIMIC-III, IHM, CM2``."""
        before = {"table": "Table ", "figure": "Figure ", "page": "page ", "section": "Section "}
        named = COHORTS | {"auroc": "AUROC", "aupr": "AUPR", "matched": "totally matched", "partial": "partially matched"}
        return ", ".join(f"{before.get(name, '')}{named.get(value, value)}" for name, value in self.where.items())


def printed(table: int | None = None, **where: str) -> pd.DataFrame:
    """The printed numbers, one row each.

    Args:
        table: 1 to 11; None for all of them.
        where: further columns and their values, for example ``cohort="mimic4", task="IHM"``.

    Returns:
        The columns of this module's docstring; ``value``, ``low`` and ``high`` are float64, NaN where nothing is printed.

    Raises:
        ValueError: a table the paper does not have, or an unknown column.
    """
    frame = _all()
    if table is not None and table not in TABLES:
        raise InputError(f"the paper has no Table {table}; choose 1 to {TABLES[-1]}")
    wanted: dict[str, Any] = where if table is None else {"table": table, **where}
    for name, value in wanted.items():
        if name not in frame:
            raise InputError(f"printed numbers have no column {name!r}; {choose(name, map(str, frame.columns))}")
        frame = frame[frame[name] == value]
    return frame.reset_index(drop=True)


def doubts(table: int | None = None) -> list[Doubt]:
    """Doubts about a table's numbers; without a table, all of them."""
    found = [Doubt(entry["where"], entry["why"]) for entry in tomllib.loads((HERE / "doubts.toml").read_text())["doubt"]]
    return [doubt for doubt in found if table is None or doubt.where.get("table") == table]


@cache
def _all() -> pd.DataFrame:
    words = dict.fromkeys(("cohort", "setting", "variant", "row", "task", "column"), str)
    return pd.read_csv(HERE / "printed.csv", dtype=words, keep_default_na=False, na_values={c: [""] for c in ("value", "low", "high")})
