"""Kinds of table: a new one is one class, which loading, computing and printing then know."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cm2 import RunStore
from cm2.tables import TABLE_KINDS, Cell, TableKind, TablePlan, load_table, markdown, read, table
from cm2.tables.contract import kind_of
from cm2.tables.predictions import known_runs, read_predictions, write_predictions
from tests.tables.conftest import FAST


@pytest.fixture
def stays_of_runs(monkeypatch):
    """A kind of table that needs runs and shows how many test stays each has."""
    monkeypatch.setattr("cm2.tables.contract.TABLE_KINDS", known := dict(TABLE_KINDS))

    class Stays(TableKind):
        name = "stays"
        headings = {"n": "Stays"}  # noqa: RUF012

        def cells(self, plan: TablePlan, jobs: int = 1) -> list[Cell]:
            sizes = {digest: int(run.metrics["test"]["n"]) for digest, run in plan.runs.items()}
            return [Cell(e.section.label, e.row.label, e.task, "n", sizes[e.configs[0].digest()]) for e in plan.entries]

        def show(self, cell: Cell) -> str:
            return f"{cell.value} of them"

    assert known["stays"] is Stays
    return known


def test_a_kind_of_table_is_one_class(stays_of_runs, tiny, store, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\nkind = "stays"\n[[row]]\nlabel = "CM2"\n[[section]]\nlabel = "all"\nsetting = "matched"\n')
    result = table(path, tiny, "smoke", 1, settings=FAST, store=store, out=tmp_path, tasks=["death"], progress=False)
    stays = tiny.split("test", "death", matched=True)
    assert result.cell("CM2", "n").value == len(stays.label)
    assert result.provenance["profile"] == "smoke" and len(result.provenance["configurations"]) == 1
    text = markdown(result)
    assert f"| CM2 | {len(stays.label)} of them |" in text and "death Stays" in text and "Source: cohort tiny" in text
    assert read(tmp_path / "mine.json") == result


def test_every_kind_has_a_table_and_a_name_of_its_own():
    from cm2.tables import table_names

    assert {load_table(name).kind for name in table_names()} == set(TABLE_KINDS)
    with pytest.raises(ValueError, match=r"kind 'result' is unknown; choose one of alignment, .*did you mean 'results'"):
        kind_of("result")
    with pytest.raises(ValueError, match=r"kind of table 'tests' is cm2.tables.kinds.results.Tests already"):
        type("Others", (TableKind,), {"name": "tests"})


def test_a_law_beside_its_embeddings_is_a_warning_in_every_table_of_results(tiny, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.tables.kinds.results.FAR", 1e-9)
    path = tmp_path / "mine.toml"
    rows = '[[row]]\nlabel = "CM2"\n[[row]]\nlabel = "none"\nset = { "model.lambda_copula" = 0.0, "model.impute" = "zero" }\n'
    rows += '[[row]]\nlabel = "fitted"\nset = { recipe = "v3", "model.directions" = 2 }\n'
    path.write_text(f'title = "mine"\n{rows}[[section]]\nlabel = "all"\nsetting = "matched"\n')
    result = table(path, tiny, "smoke", 1, settings=FAST, store=store, tasks=["death"], out=tmp_path, progress=False)
    # a law that is fitted, and one by gradient steps; not one that the loss does not read
    assert set(result.provenance["far_laws"]) == {"CM2", "fitted"}
    assert "standard deviations from that of the embeddings of the network that was kept: " in markdown(result)
    assert read(tmp_path / "mine.json") == result
    # it travels with the predictions, to a table that trains nothing; of runs that were never measured the table says so
    again = table(path, tiny, "smoke", 1, settings=FAST, store=RunStore(tmp_path / "none"), tasks=["death"], out=tmp_path, progress=False)
    (tmp_path / "mine.json").unlink()
    grown = table(path, tiny, "smoke", 1, settings=FAST, store=RunStore(tmp_path / "none"), tasks=["death"], progress=False, out=tmp_path)
    assert again.provenance["far_laws"] == grown.provenance["far_laws"] == result.provenance["far_laws"]
    assert not {"unmeasured_laws"} & (again.provenance.keys() | grown.provenance.keys() | result.provenance.keys())
    (kept,) = tmp_path.glob("predictions-*.parquet")
    known = read_predictions(kept, known_runs(kept))
    assert sum(math.isnan(one.law_distance) for one in known.values()) == 1
    write_predictions(kept, {key: replace(one, law_distance=None) for key, one in known.items()})
    (tmp_path / "mine.json").unlink()
    older = table(path, tiny, "smoke", 1, settings=FAST, store=RunStore(tmp_path / "none"), tasks=["death"], progress=False, out=tmp_path)
    assert "far_laws" not in older.provenance
    assert "Not measured for all runs: how far the law lies from the embeddings in CM2; none; fitted." in markdown(older)
    monkeypatch.setattr("cm2.tables.kinds.results.FAR", 1e9)
    assert "Warning" not in markdown(table(path, tiny, "smoke", 1, settings=FAST, store=store, tasks=["death"], progress=False))
