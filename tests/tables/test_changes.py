"""Changes of a row between sections and tables: the arithmetic is that of a table's own differences."""

from dataclasses import replace

import numpy as np
import pytest

from cm2.metrics import holm
from cm2.tables import changes, table
from tests.tables.conftest import FAST


@pytest.fixture(scope="module")
def kept(tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    result = table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out)
    return result, out / result.provenance["predictions"]


@pytest.fixture(scope="module")
def masked(tiny, store, tmp_path_factory):
    """A table in which a seed decides what is masked, for every row alike, so that its seeds are pairs."""
    out, some = tmp_path_factory.mktemp("masked"), {"absent.laboratory": 0.3, "absent_test.laboratory": 0.3}
    result = table(6, tiny, "smoke", seeds=2, settings=FAST | some, store=store, out=out, tasks=["death"])
    return result, out / result.provenance["predictions"]


def pairs_of(result):
    """Every reference cell and the others of its block, as if the reference had changed into them."""
    base = {(c.section, c.task, c.metric): c for c in result.cells if c.row == result.reference}
    return [(base[c.section, c.task, c.metric], c) for c in result.cells if c.row != result.reference]


def margin_of(result, metric):
    return result.provenance.get("margins", {}).get(metric, result.provenance["margin"])


@pytest.mark.parametrize("paired", [False, True])
def test_a_change_is_what_a_table_says_of_two_of_its_rows(paired, kept, masked):
    result, predictions = masked if paired else kept
    assert set(result.provenance["masked"]) == ({cell.section for cell in result.cells} if paired else set())
    pairs = pairs_of(result)
    found = changes(pairs, predictions, paired)
    assert list(found["row"]) == [after.row for _, after in pairs]
    for name in ("low", "high", "p"):
        assert list(found[name]) == pytest.approx([after.difference[name] for _, after in pairs])
    assert list(found["change"]) == pytest.approx([after.difference["estimate"] for _, after in pairs])
    assert list(found["p_holm"]) == pytest.approx(list(holm(found["p"].to_numpy())))
    for metric in dict.fromkeys(after.metric for _, after in pairs):  # the margin of a table may differ from metric to metric
        of = [pair for pair in pairs if pair[1].metric == metric]
        within = changes(of, predictions, paired, margin_of(result, metric))
        assert list(within["p_equivalent"]) == pytest.approx([after.difference["p_equivalent"] for _, after in of])
        assert list(within["p_equivalent_holm"]) == pytest.approx(list(holm(within["p_equivalent"].to_numpy())))
    assert list(changes(pairs, predictions, not paired)["low"]) != pytest.approx(list(found["low"])), "it makes a difference"


def test_backwards_it_has_the_opposite_sign(kept):
    result, predictions = kept
    pairs = pairs_of(result)
    there, back = changes(pairs, predictions), changes([(after, before) for before, after in pairs], predictions)
    np.testing.assert_allclose(there[["change", "low", "high"]], -back[["change", "high", "low"]].to_numpy(), atol=1e-12)
    np.testing.assert_allclose(there["p"], back["p"])


def test_without_predictions_or_values_there_is_no_interval(kept):
    result, predictions = kept
    pairs = pairs_of(result)
    bare = changes(pairs)
    assert list(bare["change"]) == pytest.approx([after.value - before.value for before, after in pairs])
    assert bare[["low", "high", "p", "p_holm", "p_equivalent_holm"]].isna().all(axis=None)
    before, after = pairs[0]
    found = changes([(before, replace(after, value=None)), *pairs[1:]], predictions)
    assert np.isnan(found.loc[0, ["change", "p", "p_holm"]].to_numpy(dtype=float)).all()
    assert list(found["p_holm"][1:]) == pytest.approx(list(holm(found["p"][1:].to_numpy()))), "what was not tested is not counted"
    assert changes([]).empty


def test_cells_that_do_not_belong_together_are_refused(kept, tmp_path):
    result, predictions = kept
    before, after = pairs_of(result)[0]
    with pytest.raises(ValueError, match="has metric 'auroc' before and 'brier' after; compare cells that agree in it"):
        changes([(before, replace(after, metric="brier"))], predictions)
    with pytest.raises(ValueError, match="there is no file"):
        changes([(before, after)], tmp_path / "predictions.parquet")
    other = next(c for c in result.cells if c.task != before.task and c.metric == before.metric)
    with pytest.raises(ValueError, match="has task"):
        changes([(before, other)], predictions)
