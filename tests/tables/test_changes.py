"""Changes of a row between sections and tables: the arithmetic is that of a table's own differences."""

from dataclasses import replace

import numpy as np
import pytest

from cm2.metrics import holm
from cm2.tables import changes, table
from cm2.tables.predictions import read_predictions
from cm2.uncertainty import difference, measure
from tests.tables.conftest import FAST


@pytest.fixture(scope="module")
def kept(tiny, store, tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    result = table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=out)
    return result, out / result.provenance["predictions"]


def pairs_of(result):
    """Every reference cell and the others of its block, as if the reference had changed into them; seeds of masked sections are pairs."""
    base = {(c.section, c.task, c.metric): c for c in result.cells if c.row == result.reference}
    others = (c for c in result.cells if c.row != result.reference and c.section not in result.provenance["masked"])
    return [(base[c.section, c.task, c.metric], c) for c in others]


def test_a_change_is_what_a_table_says_of_two_of_its_rows(kept):
    result, predictions = kept
    pairs = pairs_of(result)
    found = changes(pairs, predictions)
    assert list(found["row"]) == [after.row for _, after in pairs]
    for name in ("low", "high", "p"):
        assert list(found[name]) == pytest.approx([after.difference[name] for _, after in pairs])
    assert list(found["change"]) == pytest.approx([after.difference["estimate"] for _, after in pairs])
    assert list(found["p_holm"]) == pytest.approx(list(holm(found["p"].to_numpy())))


def test_seeds_that_share_a_mask_are_compared_in_pairs(kept):
    result, predictions = kept
    before, after = pairs_of(result)[0]
    found = changes([(before, after)], predictions, paired=True)
    runs = read_predictions(predictions, (*before.runs, *after.runs))
    measured = [[measure(runs[key].label, runs[key].prediction, after.metric) for key in cell.runs] for cell in (after, before)]
    expected = difference(*measured, paired=True)
    assert (found["low"][0], found["high"][0]) == pytest.approx(expected.interval())
    assert found["p"][0] == pytest.approx(expected.p_value)


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
    assert bare[["low", "high", "p", "p_holm"]].isna().all(axis=None)
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
