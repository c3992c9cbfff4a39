"""Tables from runs: what they hold follows from the runs, a second call trains nothing, wrong files stop them before training."""

import json
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_1samp, ttest_ind
from torch import nn
from typer.testing import CliRunner

from cm2 import RunStore
from cm2.cli import app
from cm2.methods import METHODS
from cm2.methods.cm2 import CM2
from cm2.metrics import holm
from cm2.tables import equivalence_tally, equivalences, markdown, read, recompute, table
from cm2.tables.predictions import file_name, predicted
from cm2.tables.statistics import replicate_test
from cm2.uncertainty import difference, measure, over_seeds
from tests.tables.conftest import FAST, write


@pytest.fixture(scope="module")
def families(tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("figures")
    return table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out), out


def runs_of(cell, store):
    from cm2 import Run

    return [Run(store.root / key) for key in cell.runs]


def measured_of(cell, store):
    tests = [predicted(run) for run in runs_of(cell, store)]
    return [measure(one.label, one.prediction, cell.metric) for one in tests]


def test_every_cell_is_the_mean_of_its_runs(families, store):
    result, _ = families
    assert len(result.cells) == 3 * 2 * 2 * 2
    for cell in result.cells:
        runs = runs_of(cell, store)
        # of rounded predictions: of 80 stays, a tie that rounding makes moves an AUROC by half a pair
        assert cell.seeds == pytest.approx([run.metrics["test"][cell.metric] for run in runs], abs=5e-3)
        measured = measured_of(cell, store)
        over = over_seeds(measured)
        assert cell.seeds == tuple(one.value for one in measured) and cell.value == pytest.approx(np.mean(cell.seeds))
        assert (cell.low, cell.high) == pytest.approx(over.interval(share=True)) and 0 < cell.low < cell.high < 1
        assert cell.stays == tuple(over_seeds([one]).interval(share=True) for one in measured)
        assert cell.sd == pytest.approx(np.std(cell.seeds, ddof=1)) and not cell.deterministic
        assert over.se == pytest.approx(np.hypot(cell.se_stays, cell.sd / 2**0.5))
        assert {run.config.task for run in runs} == {cell.task}
        assert (cell.n, cell.positives) == (80, runs[0].metrics["test"]["positives"]) or cell.section == "totally matched"


def test_differences_count_both_kinds_of_chance_and_are_corrected(families, store):
    result, _ = families
    cell, base = (result.cell(row, "auroc", "death", "partially matched") for row in ("Frank", "Gumbel"))
    assert base.difference is None
    expected = difference(measured_of(cell, store), measured_of(base, store))
    d = cell.difference
    assert (d["estimate"], d["p"]) == (expected.estimate, expected.p_value) and (d["low"], d["high"]) == expected.interval()
    assert d["estimate"] == pytest.approx(cell.value - base.value)
    assert (d["se_stays"], d["se_seeds"]) == (expected.se_stays, expected.se_seeds)
    welch = ttest_ind(cell.seeds, base.seeds, equal_var=False)
    assert d["seeds_p"] == pytest.approx(welch.pvalue)
    assert (d["seeds_low"], d["seeds_high"]) == pytest.approx(tuple(welch.confidence_interval()))
    assert d["stays_low"] <= d["estimate"] <= d["stays_high"]
    found = [c.difference for c in result.cells if c.difference]
    assert len(found) == 16
    assert [d["p_holm"] for d in found] == holm([d["p"] for d in found])


def test_seeds_that_mask_alike_are_compared_in_pairs(complete, store):
    masked = FAST | {"absent.laboratory": 0.5, "absent_test.laboratory": 0.5}
    result = table(3, complete, "smoke", seeds=2, settings=masked, store=store, only=["Late fusion"], tasks=["long_stay"])
    cell, base = (result.cell(row, "auroc") for row in ("Late fusion", "CM2"))
    assert result.provenance["masked"] == [cell.section]
    expected = difference(measured_of(cell, store), measured_of(base, store), paired=True)
    assert (cell.difference["estimate"], cell.difference["p"]) == (expected.estimate, expected.p_value)
    paired = ttest_1samp(np.subtract(cell.seeds, base.seeds), 0)
    assert cell.difference["seeds_p"] == pytest.approx(paired.pvalue)


def test_a_method_that_no_seed_changes_shows_one_number(tiny, store):
    result = table(2, tiny, "smoke", seeds=2, settings=FAST, store=store, only=["Boosted trees"], tasks=["death"])
    cell, base = (result.cell(row, "auroc") for row in ("Boosted trees", "CM2"))
    assert cell.deterministic and len(cell.seeds) == len(cell.stays) == 1 and cell.sd == 0
    assert (cell.low, cell.high) == pytest.approx(cell.stays[0])
    assert cell.difference["se_seeds"] == pytest.approx(base.sd / 2**0.5)
    assert f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}], deterministic" in markdown(result)
    assert f", sd {base.sd:.4f}" in markdown(result)


def test_too_few_positives_have_no_number(tiny, store, tmp_path, monkeypatch):
    """A cohort with nine positives among its test stays, eight of them matched."""
    from cm2.tables import planning

    def few(run, split):
        one = predicted(run)
        positives = np.flatnonzero(one.label)[:9]
        return replace(one, label=np.isin(np.arange(len(one.label)), positives).astype(np.int8))

    monkeypatch.setattr(planning, "predicted", few)
    result = table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, tasks=["long_stay"])
    for cell in result.cells:
        assert cell.value is None and cell.difference is None and not cell.seeds and cell.positives == 9
    text = markdown(result)
    assert "| Frank | too few | too few |" in text and "Too few: fewer than 10 positives or negatives among the test stays." in text
    assert "stays, 9 positive |" in text and "[" not in text and "Differences" not in text
    monkeypatch.setitem(tiny.manifest, "credentialed", True)
    hidden = table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, tasks=["long_stay"], out=tmp_path)
    assert all(cell.positives is None for cell in hidden.cells)
    assert "positive |" not in (tmp_path / "table-6.md").read_text()
    assert pd.read_csv(tmp_path / "table-6.csv")["positives"].isna().all()


def test_a_table_grows_by_seeds_and_tasks_without_the_store_it_began_with(families, tiny, store, tmp_path, monkeypatch):
    """What its folder keeps is not trained again, on whatever machine it goes on; the numbers are those of one call."""
    whole, _ = families
    begun = table(6, tiny, "smoke", seeds=1, settings=FAST, store=store, only=(), tasks=["death"], out=tmp_path)
    assert "earlier" not in begun.provenance
    trained = []
    fit = RunStore.fit
    monkeypatch.setattr(RunStore, "fit", lambda self, config, cohort: trained.append(config) or fit(self, config, cohort))
    elsewhere = RunStore(tmp_path / "elsewhere")
    grown = table(6, tiny, "smoke", seeds=2, settings=FAST, store=elsewhere, out=tmp_path)
    kept = {run for cell in begun.cells for run in cell.runs}
    assert set(grown.provenance["earlier"]) == kept and {c.digest() for c in trained}.isdisjoint(
        begun.provenance["configurations"].values()
    )
    assert len(trained) == len({run for cell in whole.cells for run in cell.runs}) - len(kept)
    assert [c.value for c in grown.cells] == [c.value for c in whole.cells] and grown.key == whole.key
    assert f"taken from there: {len(kept)} of" in (tmp_path / "table-6.md").read_text()
    recompute(grown, tmp_path)
    trained.clear()
    again = table(6, tiny, "smoke", seeds=2, settings=FAST, store=RunStore(tmp_path / "nowhere"), only=["Frank"], out=tmp_path)
    assert not trained and again.cell("Frank", "auroc", "death", "partially matched").runs in {c.runs for c in grown.cells}
    assert set(again.provenance["earlier"]) > kept & set(again.provenance["earlier"])


def test_the_command_prints_no_number_for_one_positive(tmp_path):
    rare = write(tmp_path / "rare", complete=True, rare=True)
    options = ["--profile", "smoke", "--seeds", "1", "--row", "Late fusion", "--store", str(tmp_path / "runs"), "--out", str(tmp_path)]
    settings = [word for name, value in FAST.items() for word in ("--set", f"{name}={value}")]
    ran = CliRunner().invoke(app, ["table", "2", "--cohort", str(rare.path), *options, *settings])
    assert ran.exit_code == 0, ran.output
    numbers = [line for line in ran.stdout.splitlines() if line.startswith(("| Late fusion", "| CM2"))]
    assert numbers == [f"| {row} | {' | '.join(['too few'] * 4)} |" for row in ("Late fusion", "CM2")]
    assert "| **totally matched** | 80 stays, 1 positive |  | 80 stays, 1 positive |  |" in ran.stdout and "[" not in ran.stdout


def test_equivalence_is_tested_where_a_margin_is_stated(tiny, store, tmp_path):
    path = own_table(tmp_path, {"CM2": "cm2", "Late fusion": "late_fusion"})
    path.write_text("margin = 0.4\n" + path.read_text())
    result = table(path, tiny, "smoke", seeds=2, settings=FAST, store=store, out=tmp_path)
    found = [c.difference for c in result.cells if c.difference]
    assert [d["p_equivalent_holm"] for d in found] == holm([d["p_equivalent"] for d in found])
    assert recompute(result, tmp_path) == list(result.cells)
    lines = equivalences(result)
    assert (lines["margin"] == 0.4).all() and (lines["equivalent"] == (lines["p_equivalent_holm"] < 0.05)).all()
    within = lines["equivalent"].sum()
    assert equivalence_tally(lines) == f"within 0.4 of the reference in {within} of 4 comparisons, undecided in {4 - within}"
    assert ", equivalent " in markdown(result) and "a difference of less than 0.4 in either direction" in markdown(result)
    path.write_text(path.read_text().replace("0.4", "0"))
    with pytest.raises(ValueError, match=r"mine.toml: margin 0 is not above 0"):
        table(path, tiny, "smoke", seeds=2, settings=FAST, store=store)
    with pytest.raises(ValueError, match="tests nothing for equivalence"):
        equivalences(table(2, tiny, "smoke", seeds=2, settings=FAST, store=store))


def test_files_say_the_same_and_where_it_comes_from(families, tiny):
    result, out = families
    assert {p.name for p in out.iterdir()} == {"table-6.csv", "table-6.json", "table-6.md", file_name(tiny.checksum)}
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
    monkeypatch.setattr("cm2.tables.statistics.computed", lambda *_, **__: pytest.fail("computed again"))
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
    monkeypatch.setattr("cm2.tables.run._computed", lambda *a: (None, {}))
    table("figure-5", tiny, "smoke", seeds=2, settings=FAST, store=RunStore(tmp_path), only=["K = 1"])
    assert len(trained) == 2 * 2 * 2  # the reference, K = 3, is the Gumbel row of Table 6
    assert {c.model.components for c in trained} == {1}
    assert [c.seed for c in trained] == sorted(c.seed for c in trained)


class Coin(CM2):
    """Stands for a compared method."""

    version = "coin"


class Picky(nn.Module):
    """Refuses every cohort."""

    version = "picky"

    def __init__(self, config, modalities, task=None):
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
    assert "seeds_low" not in cell.difference and "se_seeds" not in cell.difference
    assert (cell.low, cell.high) == cell.stays[0]
    text = markdown(result)
    assert "as printed" in text and "Holm" in text and "Differences to CM2" in text


def test_the_papers_p_value_is_a_matter_of_replicates():
    rng = np.random.default_rng(0)
    label = (rng.random(300) < 0.2).astype(int)
    a = 1 / (1 + np.exp(-label - rng.normal(size=300)))
    b = 1 / (1 + np.exp(-0.8 * label - rng.normal(size=300)))
    few, many = (replicate_test(label, a, b, "auroc", replicates) for replicates in (100, 10_000))
    honest = difference([measure(label, a)], [measure(label, b)]).p_value
    assert many < few
    assert many < 1e-12 < 1e-3 < honest


@pytest.mark.parametrize("content", ['{"format": 99}', "nonsense", "[]"])
def test_a_file_of_another_version_stops_before_training(content, tiny, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "table-6.json").write_text(content)
    with pytest.raises(ValueError, match=r"table-6.json.*(format 99|not valid JSON|expected a group of entries)"):
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
    from cm2.tables.result import write as write_table

    result, _ = families
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_table(result, "", tmp_path, "table-6")
    assert not list(tmp_path.iterdir())
