"""Tables from runs: what they hold follows from the runs, a second call trains nothing, wrong files stop them before training."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cm2 import RunStore
from cm2.methods import METHODS
from cm2.methods.cm2 import CM2
from cm2.metrics import holm, mean_over_seeds, paired_bootstrap
from cm2.tables import markdown, read, table
from cm2.tables.statistics import PER_TEST, REPLICATES, replicate_test
from tests.tables.conftest import FAST


@pytest.fixture(scope="module")
def families(tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("figures")
    return table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out), out


def runs_of(cell, store):
    from cm2 import Run

    return [Run(store.root / key) for key in cell.runs]


def test_every_cell_is_the_mean_of_its_runs(families, store):
    result, _ = families
    assert len(result.cells) == 3 * 2 * 2 * 2
    for cell in result.cells:
        tests = [run.metrics["test"] for run in runs_of(cell, store)]
        assert cell.seeds == tuple(t[cell.metric] for t in tests)
        over = mean_over_seeds(cell.seeds)
        assert (cell.value, cell.low, cell.high) == (over.estimate, over.low, over.high)
        assert cell.bootstrap == tuple((t[f"{cell.metric}_low"], t[f"{cell.metric}_high"]) for t in tests)
        assert {run.config.task for run in runs_of(cell, store)} == {cell.task}


def test_differences_are_paired_and_corrected(families, store):
    result, _ = families
    cell, base = (result.cell(row, "auroc", "death", "partially matched") for row in ("Frank", "Gumbel"))
    assert base.difference is None
    frames = [[r.predictions.query("split == 'test'").sort_values("stay_id") for r in runs_of(c, store)] for c in (cell, base)]
    stacked = [np.stack([f["probability"] for f in of]) for of in frames]
    expected = paired_bootstrap(frames[0][0]["label"], *stacked, "auroc", REPLICATES)
    d = cell.difference
    assert (d["estimate"], d["low"], d["high"], d["p"]) == (expected.estimate, expected.low, expected.high, expected.p_value)
    assert d["estimate"] == pytest.approx(cell.value - base.value)
    over = mean_over_seeds([a - b for a, b in zip(cell.seeds, base.seeds, strict=True)])
    assert (d["seeds_low"], d["seeds_high"]) == (over.low, over.high)
    tested = [c.difference for c in result.cells if c.difference]
    assert len(tested) == 16
    assert [d["p_holm"] for d in tested] == holm([d["p"] for d in tested])


def test_files_say_the_same_and_where_it_comes_from(families, tiny):
    result, out = families
    assert {p.name for p in out.iterdir()} == {f"table-6.{ending}" for ending in ("csv", "json", "md")}
    assert read(out / "table-6.json") == result
    tree = json.loads((out / "table-6.json").read_text())
    source = tree["provenance"]
    assert source["cohort_checksum"] == tiny.checksum and source["profile"] == "smoke" and source["seeds"] == 2
    assert {"cm2", "commit", "device", "date", "torch"} <= set(source)
    keys = {run for cell in result.cells for run in cell.runs}
    assert set(source["configurations"]) == keys and len(keys) == 24
    frame = pd.read_csv(out / "table-6.csv")
    assert len(frame) == len(result.cells)
    np.testing.assert_allclose(frame["value"], [cell.value for cell in result.cells], rtol=1e-5)
    assert (out / "table-6.md").read_text() == markdown(result)


def test_a_second_call_trains_and_computes_nothing(families, tiny, store, monkeypatch):
    result, out = families
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr("cm2.tables.statistics.paired_bootstraps", lambda *_, **__: pytest.fail("computed again"))
    assert table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out) == result
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before
    (out / "table-6.md").unlink()
    table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out)
    assert (out / "table-6.md").read_text() == markdown(result)


def test_a_table_uses_the_runs_of_another(families, tiny, store, monkeypatch, tmp_path):
    for run in {key for cell in families[0].cells for key in cell.runs}:
        (tmp_path / run).symlink_to(store.root / run)
    trained = []
    monkeypatch.setattr("cm2.tables.run._fit", lambda _, config, *__: trained.append(config))
    monkeypatch.setattr("cm2.tables.run._computed", lambda *a: None)
    table("figure-5", tiny, "smoke", seeds=2, settings=FAST, store=RunStore(tmp_path), only=["K = 1"])
    assert len(trained) == 2 * 2 * 2  # the reference, K = 3, is the Gumbel row of Table 6
    assert {c.model.components for c in trained} == {1}
    assert [c.seed for c in trained] == sorted(c.seed for c in trained)


def test_a_large_table_can_still_find_something():
    for tests in (1, 16, 112, 1000):
        replicates = max(REPLICATES, PER_TEST * tests)
        assert tests * 2 / (replicates + 1) < 0.05


class Coin(CM2):
    """Stands for a compared method."""

    version = "coin"


class Picky(nn.Module):
    """Refuses every cohort."""

    version = "picky"

    def __init__(self, config, modalities):
        super().__init__()
        raise ValueError("picky needs a modality of kind image; use a cohort that has one")


def own_table(tmp_path, methods, kind="results"):
    path = tmp_path / "mine.toml"
    rows = "".join(f'[[row]]\nlabel = "{label}"\nmethod = "{method}"\n' for label, method in methods.items())
    path.write_text(f'title = "mine"\nkind = "{kind}"\n{rows}[[section]]\nlabel = "all"\nsetting = "matched"\n')
    return path


def test_a_table_of_tests_restates_the_paper(tiny, store, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "coin", Coin)
    result = table(own_table(tmp_path, {"Coin": "coin", "CM2": "cm2"}, "tests"), tiny, "smoke", 1, settings=FAST, store=store)
    cell = result.cell("Coin", "auroc", "death")
    assert 0 <= cell.difference["p_replicates"] <= 1
    assert "seeds_low" not in cell.difference
    assert (cell.low, cell.high) == cell.bootstrap[0]
    text = markdown(result)
    assert "as printed" in text and "Holm" in text and "Differences to CM2" in text


def test_the_papers_p_value_is_a_matter_of_replicates():
    rng = np.random.default_rng(0)
    label = (rng.random(300) < 0.2).astype(int)
    a = 1 / (1 + np.exp(-label - rng.normal(size=300)))
    b = 1 / (1 + np.exp(-0.8 * label - rng.normal(size=300)))
    few, many = (replicate_test(label, a, b, "auroc", replicates) for replicates in (100, 10_000))
    honest = paired_bootstrap(label, a, b, "auroc").p_value
    assert many < few
    assert many < 1e-12 < 1e-3 < honest


@pytest.mark.parametrize("content", ['{"format": 99}', "nonsense", "[]"])
def test_a_file_of_another_version_stops_before_training(content, tiny, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "table-6.json").write_text(content)
    with pytest.raises(ValueError, match=r"table-6.json.*(format 99|format None|not a table)"):
        table(6, tiny, "smoke", seeds=9, settings=FAST, store=store, out=tmp_path)
    assert (tmp_path / "table-6.json").read_text() == content


def test_a_method_that_does_not_fit_stops_before_training(tiny, store, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "picky", Picky)
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(ValueError, match="row Picky: picky needs a modality of kind image"):
        table(own_table(tmp_path, {"CM2": "cm2", "Picky": "picky"}), tiny, "smoke", 1, settings=FAST | {"model.dropout": 0.5}, store=store)


def test_two_processes_give_what_one_gives(tiny, store, tmp_path, monkeypatch, capfd):
    path = own_table(tmp_path, {"CM2": "cm2"})
    one = table(path, tiny, "smoke", seeds=2, settings=FAST, store=store)
    capfd.readouterr()
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.05)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # another number of threads adds up in another order
    two = table(path, tiny, "smoke", seeds=2, jobs=2, settings=FAST, store=RunStore(tmp_path / "runs"))
    assert one.cells == two.cells
    said = capfd.readouterr()
    assert not said.out and all(line.startswith("table mine") for line in said.err.splitlines())
    assert "table mine: 0 of 4 runs" in said.err and "CM2 death, training cm2 seed 0" in said.err


def test_counts_are_those_of_the_cohort(tiny, tmp_path):
    result = table(8, tiny, out=tmp_path)
    stays = tiny.stays
    both = stays["present_bedside"] & stays["present_laboratory"]
    assert result.cell("bedside | laboratory", "total", "death").value == both.sum()
    assert result.cell("bedside | laboratory", "positives", "death").value == stays.loc[both, "death"].sum()
    assert result.cell("all", "test", "long_stay").value == (stays["split"] == "test").sum()
    text = (tmp_path / "table-8.md").read_text()
    assert f"| all | {(stays['split'] == 'train').sum()} |" in text
    assert table(1, tiny).cell("laboratory", "total").value == stays["present_laboratory"].sum()


def test_small_counts_of_credentialed_stays_are_not_shown(tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(tiny.manifest, "credentialed", True)
    small = tiny.stays.copy()
    small.loc[small.index[5:], "split"] = "train"
    monkeypatch.setattr(tiny, "stays", small)
    result = table(1, tiny, out=tmp_path)
    assert result.cell("all", "test").value is None and "hidden" in markdown(result)
    assert read(tmp_path / "table-1.json") == result


def test_a_paper_row_stands_below_ours(families):
    result, _ = families
    assert "MIMIC" not in markdown(result)  # the tiny cohort is none of the paper's
    cells = tuple(replace(c, printed={"cohort": "mimic4", "value": 0.5, "low": 0.4, "high": 0.6}) for c in result.cells)
    assert "| *paper, MIMIC-IV* | 0.500 [0.400, 0.600] |" in markdown(replace(result, cells=cells))


def test_nothing_is_left_of_a_write_that_failed(families, tmp_path, monkeypatch):
    from cm2.tables.result import write

    result, _ = families
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(result, "", tmp_path, "table-6")
    assert not list(tmp_path.iterdir())
