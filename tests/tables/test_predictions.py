"""Predictions beside tables: small, rounded as the tables saw them, and enough to compute every number again."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from cm2.cli import app
from cm2.metrics import aupr, auroc
from cm2.runs.run import Run
from cm2.tables import compared_with, markdown, read, recompute, table, verify_tables
from cm2.tables.predictions import Predicted, read_predictions, write_predictions
from cm2.tables.result import write
from tests.tables.conftest import FAST


@pytest.fixture(scope="module")
def kept(tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    return table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out), out


@pytest.fixture
def copied(kept, tmp_path):
    """A folder that a test may break."""
    for path in kept[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return kept[0], tmp_path


def made(n=500, seed=0, task="death", first=0):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.2).astype(np.int8)
    return Predicted(task, first + np.arange(n), label, rng.normal(2 * label - 2).astype(np.float16))


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "predictions.parquet"
    found = {"a": made(), "b": made(seed=1, task="long_stay"), "c": made(300, seed=2, first=400), "d": made()}
    found["c"] = replace(found["c"], label=np.concatenate([found["a"].label[400:], found["c"].label[100:]]))
    found["e"] = replace(found["a"], compact=np.array([np.inf, -np.inf, *found["a"].compact[2:]], dtype=np.float16))
    write_predictions(path, found)
    for key, one in read_predictions(path, found).items():
        assert one.same(found[key]) and np.array_equal(one.label, found[key].label)
    assert read_predictions(path, ["e"])["e"].prediction[:2].tolist() == [1, 0]
    write_predictions(path, {"f": made(seed=6)}, keep={"b"})
    assert set(read_predictions(path, ["b", "f"])) == {"b", "f"}
    with pytest.raises(ValueError, match="lacks the predictions of 1 runs, such as a; compute the table again"):
        read_predictions(path, ["a", "b"])
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing temporary is left"


def test_seeds_that_changed_nothing_are_written_once(tmp_path):
    one, many = tmp_path / "one.parquet", tmp_path / "many.parquet"
    write_predictions(one, {"a": made(4000)})
    write_predictions(many, {key: made(4000) for key in "abcdefgh"})
    assert many.stat().st_size < one.stat().st_size + 1000
    assert one.stat().st_size < 4000 * (2 + 8 + 1)


@pytest.mark.parametrize("scale", [1, 4])
def test_rounding_is_not_seen_in_a_table(scale):
    """Also of confident predictions, which a rounded probability would tie."""
    for seed in range(5):
        exact = scale * np.random.default_rng(seed).normal(size=4000)
        label = (exact + 2 * scale * np.random.default_rng(-seed % 100).normal(size=4000) > 2 * scale).astype(int)
        rounded = expit(exact.astype(np.float16).astype(float))
        assert auroc(label, rounded) == pytest.approx(auroc(label, expit(exact)), abs=5e-5)
        assert aupr(label, rounded) == pytest.approx(aupr(label, expit(exact)), abs=1e-3)


def test_every_number_of_a_table_is_computed_again(kept):
    result, out = kept
    assert recompute(result, out) == list(result.cells) == recompute(read(out / "table-6.json"), out)
    assert list(verify_tables(out)) == [("table-6: every interval and p-value recomputed from its predictions", "")]


def test_a_table_of_choices_reads_validation_stays(kept, tiny, store, tmp_path):
    """Its numbers are those of the runs on validation stays, whose predictions are kept beside those of tests."""
    path = tmp_path / "choices.toml"
    path.write_text('title = "Choices"\nsplit = "valid"\n[[row]]\nlabel = "CM2"\n[[section]]\nlabel = "all"\nsetting = "matched"\n')
    options = {"seeds": 2, "settings": FAST, "store": store, "tasks": ["death"], "out": tmp_path, "progress": False}
    table(6, tiny, "smoke", **options)
    chosen = table(path, tiny, "smoke", **options)
    cell = chosen.cell("CM2", "auroc")
    runs = [Run(store.root / column.removesuffix(" valid")) for column in cell.runs]
    assert cell.seeds == pytest.approx([run.metrics["valid"]["auroc"] for run in runs], abs=2e-3)
    assert (cell.n, cell.positives) == (runs[0].metrics["valid"]["n"], runs[0].metrics["valid"]["positives"])
    assert "over the validation stays" in markdown(table(path, tiny, "smoke", **options | {"seeds": 1, "out": None}))
    assert recompute(read(tmp_path / "choices.json"), tmp_path) == list(chosen.cells)
    assert all(problem == "" for _, problem in verify_tables(tmp_path))


def test_a_table_of_brier_scores(tiny, store, tmp_path):
    path = tmp_path / "calibrated.toml"
    text = 'title = "Calibrated"\nmetrics = ["brier"]\n[[row]]\nlabel = "CM2"\n[[section]]\nlabel = "all"\nsetting = "matched"\n'
    path.write_text(text)
    result = table(path, tiny, "smoke", seeds=2, settings=FAST, store=store, tasks=["death"], out=tmp_path, progress=False)
    (cell,) = result.cells
    assert cell.seeds == pytest.approx([Run(store.root / run).metrics["test"]["brier"] for run in cell.runs], abs=1e-3)
    assert "death Brier score" in markdown(result) and recompute(read(tmp_path / "calibrated.json"), tmp_path) == list(result.cells)


def test_every_kept_table_is_computed_again(repository):
    folders = sorted({path.parent for path in repository.glob("results/*/*.md")})
    assert len(folders) > 1
    for folder in folders:
        for line, problem in verify_tables(folder):
            assert not problem, problem
            assert line.endswith((": read", "recomputed from its predictions", "recomputed from its scores")), line


def test_a_table_without_its_predictions_gets_them_again(copied, tiny, store):
    result, out = copied
    (path,) = out.glob("predictions-*.parquet")
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ValueError, match=r"there is no file .* with the predictions of this table; compute the table again"):
        recompute(result, out)
    assert table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out) == result
    assert path.read_bytes() == content


def test_predictions_of_tables_that_are_gone_are_removed(copied, tiny, store):
    result, out = copied
    second = table("figure-5", tiny, "smoke", seeds=2, settings=FAST, store=store, out=out, only=["K = 1"])
    assert recompute(result, out) and recompute(second, out)
    for path in out.glob("table-6.*"):
        path.unlink()
    (out / "figure-5-k-1.md").unlink()
    old = out / "predictions-00000000.parquet"
    old.write_bytes(b"of a cohort that no table uses")
    table("figure-5", tiny, "smoke", seeds=2, settings=FAST, store=store, out=out, only=["K = 1"])
    assert not old.exists() and recompute(second, out)
    (path,) = out.glob("predictions-*.parquet")
    with pytest.raises(ValueError, match="lacks the predictions of"):
        read_predictions(path, sorted({run for c in result.cells for run in c.runs}))


def broken(result, out, **fields):
    cells = (replace(result.cells[0], **fields), *result.cells[1:])
    changed = replace(result, cells=cells)
    write(changed, markdown(changed), out, "table-6")
    return changed


@pytest.mark.parametrize("name", ["low", "value", "se_stays"])
def test_predictions_that_do_not_match_are_one_clear_line(copied, name):
    result, out = copied
    changed = broken(result, out, **{name: getattr(result.cells[0], name) + 1e-6})
    with pytest.raises(ValueError, match=rf"does not match its predictions: another {name} of Gumbel, partially.*compute the table again"):
        recompute(changed, out)
    ((stem, problem),) = verify_tables(out)
    assert stem == "table-6" and "does not match" in problem and "\n" not in problem
    ran = CliRunner().invoke(app, ["verify", str(out)])
    assert ran.exit_code == 1 and "WRONG  table-6: " in ran.stdout


def test_the_command_verifies_tables(kept):
    ran = CliRunner().invoke(app, ["verify", str(kept[1])])
    assert ran.exit_code == 0 and ran.stdout == "ok     table-6: every interval and p-value recomputed from its predictions\n"


@pytest.mark.parametrize("content", [b"nonsense", None])
def test_a_strange_file_of_predictions_stops_before_training(content, copied, tiny, store, monkeypatch):
    _, out = copied
    (path,) = out.glob("predictions-*.parquet")
    if content is None:
        monkeypatch.setattr("cm2.tables.predictions.FORMAT", 9)
    else:
        path.write_bytes(content)
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"predictions-.*(is not a file of predictions|format 1, this version of cm2 reads and writes 9)"):
        table(6, tiny, "smoke", seeds=9, settings=FAST, store=store, out=out)


def test_of_a_credentialed_cohort_no_predictions_leave_the_store(tiny, store, tmp_path, monkeypatch):
    monkeypatch.setitem(tiny.manifest, "credentialed", True)
    result = table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"table-6.csv", "table-6.json", "table-6.md"}
    with pytest.raises(ValueError, match="stored without predictions and cannot be computed again"):
        recompute(result, tmp_path)
    assert list(verify_tables(tmp_path)) == [("table-6: kept without predictions, cannot be recomputed", "")]


def test_a_folder_without_tables_says_so(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"cells": []}))
    with pytest.raises(ValueError, match=r"holds no table; write one with `cm2 table --out"):
        list(verify_tables(tmp_path))


def test_a_stored_table_is_compared_with_another_row(kept):
    result, folder = kept
    predictions = folder / result.provenance["predictions"]
    rows = list(dict.fromkeys(cell.row for cell in result.cells))
    other = next(row for row in rows if row != result.reference)
    turned = compared_with(result, other, predictions)
    assert turned.reference == other
    at = {(cell.section, cell.row, cell.task, cell.metric): cell.difference for cell in result.cells}
    for cell in turned.cells:
        was = at[cell.section, cell.row, cell.task, cell.metric]
        if cell.row == other:
            assert cell.difference is None
        if cell.row == result.reference and (back := at[cell.section, other, cell.task, cell.metric]):
            assert cell.difference["estimate"] == pytest.approx(-back["estimate"])
            assert cell.difference["p"] == pytest.approx(back["p"])
        assert was is None or cell.row == other or cell.difference is not None


def test_a_table_is_compared_only_with_its_rows_and_with_predictions(kept, tmp_path):
    result, folder = kept
    with pytest.raises(ValueError, match="has no row 'Clayten'"):
        compared_with(result, "Clayten", folder / result.provenance["predictions"])
    with pytest.raises(ValueError, match="there is no file"):
        compared_with(result, result.reference, tmp_path / "predictions.parquet")
