"""Tables of alignment and imputation: made of the runs' embeddings, beside chance, with what cannot be done named."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch

from cm2 import Run
from cm2.evaluation.embeddings import Embedded, cannot_embed, cannot_score, embed_stays, law_of
from cm2.evaluation.imputation import WAYS
from cm2.evaluation.retrieval import cosine_standings, standings
from cm2.methods import METHODS, build_method, tokenised
from cm2.tables import load_table, markdown, plan, read, table
from tests.tables.conftest import FAST


@pytest.fixture(scope="module")
def aligned(tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("figures")
    only = ["CM2", "MedFuse", "MMTM"]
    return table("alignment", tiny, "smoke", seeds=2, settings=FAST, only=only, store=store, out=out), out


@pytest.fixture(scope="module")
def imputed(tiny, store):
    return table("imputation", tiny, "smoke", seeds=1, settings=FAST, only=["CM2", "MedFuse"], store=store)


def test_alignment_is_that_of_the_runs(aligned, tiny, store):
    result, _ = aligned
    section = "laboratory to bedside, of all"
    cell = result.cell("CM2, dependence", "recall_5", "death", section)
    for key, value in zip(cell.runs, cell.seeds, strict=True):
        run = Run(store.root / key)
        method = run.load_method(tokenised(tiny, run.config))
        split = tokenised(tiny, run.config).split("test", "death")
        embedded = embed_stays(method, run.config, split)
        both = embedded.present.all(dim=1)
        z = embedded.z[both]
        assert cell.n == len(z) == int(split.present.all(dim=1).sum())
        given = torch.tensor([False, True]).expand(len(z), 2)
        assert standings(law_of(method), z, given, z[:, 0], 0)["dependence"].recall(5).mean() == pytest.approx(value)
    chance = result.cell("chance", "recall_5", "death", section)
    assert chance.value == pytest.approx(5 / cell.n) and chance.low is None


def test_both_directions_every_score_and_what_cannot_be_done(aligned):
    result, out = aligned
    assert {c.section for c in result.cells} == {"bedside to laboratory, of all", "laboratory to bedside, of all"}
    rows = {c.row for c in result.cells}
    assert rows == {"chance", "CM2, density", "CM2, dependence", "CM2, cosine", "MedFuse, cosine"}
    assert result.provenance["cannot"] == {"MMTM": "has no vector of one width for each modality"}
    text = markdown(result)
    assert "Not in the table: MMTM (has no vector of one width" in text and "| chance |" in text and "median rank" in text
    assert read(out / "alignment-cm2-medfuse-mmtm.json") == result
    assert json.loads((out / "alignment-cm2-medfuse-mmtm.json").read_text())["provenance"]["seeds"] == 2


def test_a_second_call_computes_nothing(aligned, tiny, store, monkeypatch):
    result, out = aligned
    monkeypatch.setattr("cm2.tables.embeddings._findings", lambda *_: pytest.fail("computed again"))
    only = ["CM2", "MedFuse", "MMTM"]
    assert table("alignment", tiny, "smoke", seeds=2, settings=FAST, only=only, store=store, out=out) == result


def test_imputation_has_every_way_and_score(imputed):
    assert {c.row for c in imputed.cells} == {f"CM2, {how}" for how in WAYS}
    assert {c.section for c in imputed.cells} == {"bedside, 0% of the others hidden", "laboratory, 0% of the others hidden"}
    for cell in imputed.cells:
        digit = 1e-12 * abs(cell.value)  # the mean of equal numbers, in two orders
        assert cell.low - digit <= cell.value <= cell.high + digit
    assert not [c for c in imputed.cells if c.metric == "log_likelihood" and c.row in ("CM2, mean", "CM2, zero")]
    assert imputed.provenance["cannot"] == {"MedFuse": "has no law of its embeddings"}
    assert "hidden and filled in" in markdown(imputed)
    assert all(c.value > 0 for c in imputed.cells if c.metric == "unit")


def test_the_two_tables_share_runs(aligned, imputed):
    of = lambda result: {run for cell in result.cells if cell.row.startswith("CM2,") for run in cell.runs}
    assert of(imputed) < of(aligned[0])


def test_a_table_that_no_row_can_have_says_so_before_training(tiny, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.runs.trainer.train", lambda *_, **__: pytest.fail("trained"))
    path = tmp_path / "mine.toml"
    path.write_text(
        'title = "mine"\nkind = "imputation"\nreference = "A"\n[[row]]\nlabel = "A"\nmethod = "mmtm"\n[[section]]\nlabel = "all"\n'
    )
    with pytest.raises(ValueError, match="no row can be evaluated: A has no vector"):
        table(path, tiny, "smoke", 1, settings=FAST, store=store)


REFUSED = {
    "no law": {"method": "medfuse"},
    "no density": {"model.link": "paper", "model.impute": "marginal"},
    "predicted": {"model.weights": "predicted"},
    "no part": {"model.alignment": "cosine", "model.impute": "zero"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_only_a_fitted_law_is_asked_for_densities(reason, tiny):
    from cm2 import Config

    config = Config.from_profile("smoke", FAST | {"task": "death"} | REFUSED[reason])
    method = build_method(config, tiny)
    assert reason in cannot_score(method) and not cannot_embed(method)
    with pytest.raises(ValueError, match=reason):
        law_of(method)


@pytest.mark.parametrize("name", ["alignment", "imputation"])
def test_rows_are_methods_that_there_are(name, tiny):
    assert {row.method for row in load_table(name).row} <= set(METHODS), "a method may have no row yet, a row needs a method"
    assert {c.modalities for e in plan(load_table(name), tiny, "smoke", only=["CM2"]) for c in e.configs} == {("bedside", "laboratory")}


def test_hiding_is_nested_keeps_one_and_hides_the_target():
    present = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) < 0.8
    embedded = Embedded(torch.zeros(500, 4, 2), present, torch.arange(500), ("a", "b", "c", "d"))
    others = present & torch.tensor([True, False, True, True])
    left = [embedded.hide(1, rate) for rate in (0.0, 0.25, 0.5, 0.75)]
    assert torch.equal(left[0], others)
    for more, fewer in pairwise(left):
        assert not (fewer & ~more).any()
    assert torch.equal(left[-1].any(dim=1), others.any(dim=1))
    assert len(embedded.stays(present[:, 0], 50)) == 50
    assert torch.equal(embedded.stays(present[:, 0], 50), embedded.stays(present[:, 0], 50))


def test_cosine_of_the_true_direction_finds_it():
    z = torch.randn(60, 1, 8).expand(60, 3, 8) + 0.01 * torch.randn(60, 3, 8)
    given = torch.rand(60, 3) < 0.5
    given[:, 0] = True
    assert cosine_standings(z, given, z[:, 2], 2).recall(1).mean() == 1
