"""Tables of alignment and imputation: made of the runs' embeddings, beside chance, with what cannot be done named."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from cm2 import Run
from cm2.evaluation.embeddings import Embedded, cannot_embed, cannot_score, embed_stays, law_of
from cm2.evaluation.imputation import WAYS
from cm2.evaluation.retrieval import cosine_standings, standings
from cm2.joint.diagnostics import describe
from cm2.methods import METHODS, build_method, tokenised
from cm2.metrics import auroc
from cm2.tables import Cell, TableResult, load_table, markdown, notes, plan, read, recompute, table, verify_tables
from cm2.tables.embeddings import DIAGNOSTICS, _over
from cm2.tables.embeddings import _evaluate as real
from cm2.tables.predictions import predicted
from cm2.tables.scores import read_scores, rounded, write_scores
from cm2.uncertainty import over_seeds
from tests.tables.conftest import FAST

LINEAR, THIRD = "Linear (canonical analysis)", "CM2, version 3"


@pytest.fixture(scope="module")
def aligned(tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("figures")
    only = ["CM2", "MedFuse", "MMTM"]
    return table("alignment", tiny, "smoke", seeds=2, settings=FAST, only=only, store=store, out=out), out


@pytest.fixture(scope="module")
def imputed(tiny, store):
    return table("imputation", tiny, "smoke", seeds=1, settings=FAST, only=["CM2", "MedFuse", LINEAR, THIRD], store=store)


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


def test_intervals_count_stays_and_seeds(aligned, tiny, store):
    """Also of a median, which has no derivative."""
    result, _ = aligned
    for metric in ("recall_5", "median_rank"):
        cell = result.cell("MedFuse, cosine", metric, "death", "laboratory to bedside, of all")
        measured = []
        for key in cell.runs:
            run = Run(store.root / key)
            embedded = embed_stays(run.load_method(tiny), run.config, tiny.split("test", "death"))
            z = embedded.z[embedded.present.all(dim=1)]
            given = torch.tensor([False, True]).expand(len(z), 2)
            measured.append(cosine_standings(z, given, z[:, 0], 0).measured()[metric])
        over = over_seeds(measured)
        assert cell.value == pytest.approx(over.estimate) and cell.se_stays == pytest.approx(over.se_stays)
        assert (cell.low, cell.high) == pytest.approx(over.interval(share=metric != "median_rank"))
        assert len(cell.stays) == 2 and over.se > 0
    assert f", sd {cell.sd:.2g}" in markdown(result) and f"| {cell.n} stays |" in markdown(result)


def test_what_no_seed_changes_is_one_number(tiny, store, monkeypatch):
    found: dict[str, list] = {}
    monkeypatch.setattr("cm2.tables.embeddings._evaluate", lambda kind, run, *rest: found.setdefault(rest[1], real(kind, run, *rest)))
    result = table("imputation", tiny, "smoke", seeds=2, settings=FAST, only=["CM2"], tasks=["death"], store=store)
    assert result.cells and all(cell.deterministic and len(cell.seeds) == 1 for cell in result.cells)
    assert ", deterministic |" in markdown(result)


def test_fewer_than_ten_stays_are_too_few(tiny, store, monkeypatch):
    monkeypatch.setattr("cm2.evaluation.embeddings.Embedded.stays", lambda *_: torch.arange(9))
    for credentialed, n in ((False, 9), (True, None)):
        monkeypatch.setitem(tiny.manifest, "credentialed", credentialed)
        for name in ("alignment", "imputation"):
            result = table(name, tiny, "smoke", seeds=1, settings=FAST, only=["CM2"], tasks=["death"], store=store)
            assert {(cell.value, cell.n) for cell in result.cells} == {(None, n)}
            assert "| too few |" in markdown(result) and "Too few: fewer than 10 test stays." in markdown(result)


def test_both_directions_every_score_and_what_cannot_be_done(aligned):
    result, out = aligned
    assert {c.section for c in result.cells} == {"bedside to laboratory, of all", "laboratory to bedside, of all"}
    rows = {c.row for c in result.cells}
    assert rows == {"chance", "CM2, density", "CM2, dependence", "CM2, cosine", "MedFuse, cosine"}
    assert result.provenance["cannot"] == {"MMTM": "has no vector of one width for each modality"}
    text = markdown(result)
    assert "Not in the table: MMTM (has no vector of one width" in text and "| chance |  |" in text and "median rank" in text
    assert "|  | score | death recall at 1 |" in text and "| CM2 | dependence |" in text and "| MedFuse | cosine |" in text
    frame = result.frame().set_index("row")
    assert frame.loc["CM2, density", "score"].unique().tolist() == ["density"]
    assert frame.loc["CM2, density", "method"].unique().tolist() == ["CM2"]
    assert frame.loc["chance", ["method", "score"]].drop_duplicates().to_numpy().tolist() == [["chance", ""]]
    assert read(out / "alignment-cm2-medfuse-mmtm.json") == result
    assert json.loads((out / "alignment-cm2-medfuse-mmtm.json").read_text())["provenance"]["seeds"] == 2


def test_a_second_call_computes_nothing(aligned, tiny, store, monkeypatch):
    result, out = aligned
    monkeypatch.setattr("cm2.tables.embeddings._evaluate", lambda *_: pytest.fail("computed again"))
    only = ["CM2", "MedFuse", "MMTM"]
    assert table("alignment", tiny, "smoke", seeds=2, settings=FAST, only=only, store=store, out=out) == result


def test_every_interval_is_computed_again_from_the_scores_of_the_stays(aligned, imputed, tiny, store, tmp_path):
    for result, out in (aligned, (imputed, tmp_path)):
        if out is tmp_path:
            only = list(dict.fromkeys(cell.method for cell in imputed.cells))
            result = table("imputation", tiny, "smoke", seeds=1, settings=FAST, only=only, store=store, out=out)
        assert recompute(result, out) == list(result.cells)
        ((stem, wrong),) = verify_tables(out)
        assert stem.endswith("every interval and p-value recomputed from its scores") and not wrong
        assert (out / result.provenance["scores"]).is_file()


def test_scores_that_are_missing_or_do_not_match_are_named(aligned, tiny, store, tmp_path):
    result, out = aligned
    path = tmp_path / result.provenance["scores"]
    with pytest.raises(ValueError, match=r"there is no file .* with the scores of this table; compute the table again"):
        recompute(result, tmp_path)
    scores = read_scores(out / path.name)
    first = next(name for name in scores if name.endswith("better") and "cosine" in name and "to bedside" in name)
    write_scores(path, {**scores, first: scores[first] + 1})
    with pytest.raises(ValueError, match=r"does not match its scores: another .* of .*, cosine, laboratory to bedside, of all"):
        recompute(result, tmp_path)
    write_scores(path, {name: values for name, values in scores.items() if name.split(" | ")[0] != first.split(" | ")[0]})
    with pytest.raises(ValueError, match=r"the scores of .* are missing; compute the table again"):
        recompute(result, tmp_path)
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="is not a file of scores"):
        recompute(result, tmp_path)
    only = ["CM2", "MedFuse", "MMTM"]
    for source in out.iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    path.unlink()
    assert table("alignment", tiny, "smoke", seeds=2, settings=FAST, only=only, store=store, out=tmp_path) == result
    assert path.is_file(), "a file of scores that was lost is written again"


def test_scores_are_rounded_to_eleven_bits_at_any_size(tmp_path):
    exact = np.concatenate([np.random.default_rng(0).normal(size=500) * 10.0**power for power in (-20, 0, 3, 20)])
    kept = rounded(exact)
    np.testing.assert_allclose(kept, exact, rtol=2.0**-11)
    assert np.array_equal(rounded(kept), kept) and np.array_equal(rounded(np.arange(2049)), np.arange(2049))
    with pytest.raises(ValueError, match="a score of a stay is not finite"):
        rounded([1.0, np.nan])
    path = tmp_path / "scores.parquet"
    write_scores(path, {"a": kept, "b": kept, "c": kept[:3]})
    assert {name: values.tolist() for name, values in read_scores(path).items()} == {
        "a": kept.tolist(),
        "b": kept.tolist(),
        "c": kept[:3].tolist(),
    }
    assert path.stat().st_size < 2 * len(kept) * 2


def test_imputation_has_every_way_and_score(imputed):
    assert {c.row for c in imputed.cells} == {f"{method}, {how}" for method in ("CM2", LINEAR, THIRD) for how in WAYS}
    assert {(c.method, c.score) for c in imputed.cells} == {(method, how) for method in ("CM2", LINEAR, THIRD) for how in WAYS}
    assert {c.section for c in imputed.cells} == {"bedside, 0% of the others hidden", "laboratory, 0% of the others hidden"}
    for cell in (c for c in imputed.cells if c.metric not in DIAGNOSTICS):
        digit = 1e-12 * abs(cell.value)  # the mean of equal numbers, in two orders
        assert cell.low - digit <= cell.value <= cell.high + digit
    assert {c.score for c in imputed.cells if c.metric == "log_likelihood"} == {"conditional", "marginal"}
    assert imputed.provenance["cannot"] == {"MedFuse": "has no law of its embeddings"}
    text = markdown(imputed)
    assert "hidden and filled in" in text and "|  | filled in by |" in text and f"| {THIRD} | conditional mean |" in text
    assert all(c.value > 0 for c in imputed.cells if c.metric == "unit")


def test_what_a_law_says_of_itself_stands_beside_what_it_reaches(imputed, tiny, store):
    """Of every law, one that follows gradient steps included, on test stays."""
    for method in ("CM2", LINEAR, THIRD):
        cells = [c for c in imputed.cells if c.metric in DIAGNOSTICS and c.method == method]
        assert {c.row for c in cells} == {f"{method}, conditional"}
        assert {c.section for c in cells} == {c.section for c in imputed.cells}
        assert {c.metric for c in cells} == set(DIAGNOSTICS)
        run, cells = Run(store.root / cells[0].runs[0]), [cell for cell in cells if cell.runs == cells[0].runs]
        own = run.load_method(tiny)
        embedded = embed_stays(own, run.config, tiny.split("test", run.config.task, seed=run.config.seed, matched=run.config.matched))
        expected = describe(own.embedding_law(), embedded.z, embedded.present)
        for cell in cells:
            assert cell.value == pytest.approx(expected[cell.metric], rel=1e-3, abs=1e-4), (method, cell.metric)
    heading = markdown(imputed).splitlines()[2]
    assert all(f"| death {name} |" in heading for name in DIAGNOSTICS.values())
    assert "nats per test stay of dependence that it sees" in markdown(imputed)


def made(*cells):
    source = dict.fromkeys(("cohort", "cohort_checksum", "cm2", "date", "device"), "made up")
    return TableResult("imputation", "made up", "imputation", "CM2", cells, source)


def cell(method, score, metric, value, section="bedside"):
    return Cell(section, f"{method}, {score}", "death", metric, value, seeds=(value,), score=score)


def test_families_that_a_fit_chose_stand_in_the_rows():
    found = _over(
        [{"law_nats": 0.5, "family_gaussian": 5.0, "family_frank": 3.0}, {"law_nats": 0.4, "family_gaussian": 6.0, "family_frank": 2.0}]
    )
    assert found == {"law_nats": (0.5, 0.4), "family_gaussian": (5.0, 6.0), "family_frank": (3.0, 2.0)}
    text = markdown(made(*(cell("CM2", "conditional", name, sum(values) / 2) for name, values in found.items())))
    assert "| death frank, directions |" in text and "number of directions with each" in text and "| 2.5 | 5.5 |" in text
    assert "number of directions" not in markdown(made(cell("CM2", "conditional", "law_nats", 0.5)))


def test_a_law_beside_the_embeddings_is_named_below_the_table():
    broken = made(
        cell("A, b", "conditional", "error", 1.06),
        cell("A, b", "marginal", "error", 2.313, "laboratory"),
        cell("A, b", "zero", "error", 7.0),
        cell("A, b", "conditional", "law_distance", 0.41),
        cell("C", "conditional", "law_distance", 0.2),
        cell("C", "conditional", "error", 1.05),
        cell("C", "conditional mean", "error", 1.2),
    )
    found = [line for line in notes(broken).splitlines() if line.startswith("**Warning.**")]
    assert len(found) == 2
    assert found[0].endswith("where its mean lies more than 0.2 standard deviations from theirs: A, b (0.41).")
    assert found[1].endswith(": A, b (conditional, marginal: up to 2.31); C (conditional mean: up to 1.2).")
    sound = made(cell("C", "conditional", "error", 1.05), cell("C", "conditional", "law_distance", 0.2))
    assert "Warning" not in notes(sound)


def test_results_stored_without_scores_are_read(aligned, tmp_path):
    result, out = aligned
    tree = json.loads((out / "alignment-cm2-medfuse-mmtm.json").read_text())
    for stored in tree["cells"]:
        stored.pop("score", None)
    few = {"section": "s", "row": "CM2, cosine alignment", "task": "death", "metric": "recall_1", "n": 1}
    tree["cells"].append(few)
    (tmp_path / "old.json").write_text(json.dumps(tree))
    old = read(tmp_path / "old.json")
    assert old.cells[:-1] == result.cells
    assert (old.cells[-1].method, old.cells[-1].score) == ("CM2, cosine alignment", "")


def test_the_kept_tables_are_read_and_shown(repository):
    for path in sorted(repository.glob("results/*/*.json")):
        if path.stem in ("alignment", "imputation"):
            result = read(path)
            assert {c.score for c in result.cells if c.method != "chance" and c.value is not None} - {""}
            shown = markdown(result)
            assert f"| {result.cells[-1].method} | {result.cells[-1].score} |" in shown


def test_a_table_computed_in_another_way_is_computed_again(tiny, store):
    from cm2.tables.contract import kind_of
    from cm2.tables.planning import resolve

    plan = resolve(load_table("imputation"), tiny, store, "smoke", 1, FAST, only=["CM2"])
    able = kind_of("imputation").able(plan)
    assert able.version == 5 and able.key != plan.key
    assert replace(able, version=1).key == plan.key


def test_the_two_tables_share_runs(aligned, imputed):
    of = lambda result: {run for cell in result.cells if cell.method == "CM2" for run in cell.runs}
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


def test_the_auroc_stands_in_one_row_of_each_method(aligned, store):
    result, _ = aligned
    cells = [c for c in result.cells if c.metric == "auroc"]
    assert {(c.method, c.score) for c in cells} == {("CM2", "dependence"), ("MedFuse", "cosine")}
    for cell in cells:
        kept = [predicted(Run(store.root / run)) for run in cell.runs]
        assert cell.value is None or cell.seeds == pytest.approx([auroc(one.label, one.prediction) for one in kept])


def test_gains_are_the_differences_of_the_means(imputed):
    rows = {(c.section, c.method, c.score, c.task, c.metric): c for c in imputed.cells}
    gains = [key for key in rows if key[-1].endswith("_gain")]
    assert {key[2] for key in gains} == {"conditional"} and len(gains) == 2 * len(
        {key[:2] + key[3:4] for key in rows if key[1] != "chance"}
    )
    for section, method, _, task, metric in gains:
        name, sign = ("energy", -1) if metric == "energy_gain" else ("log_likelihood", 1)
        own, alone = (rows[section, method, score, task, name].value for score in ("conditional", "marginal"))
        cell = rows[section, method, "conditional", task, metric]
        assert cell.value == pytest.approx(sign * (own - alone), abs=1e-5)
        assert cell.low < cell.value < cell.high
