"""Tests between numbers of tables of embeddings, from the kept scores of single stays."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from cm2.metrics import holm
from cm2.tables import against, kept_scores, kept_table, score_difference, sides
from cm2.tables.kinds.imputation import GAINS
from cm2.tables.scores import name_of
from cm2.uncertainty import Uncertain, combined

TWO = ("CM2, version 3", "Linear (canonical analysis)")


@pytest.fixture
def filled(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return kept_table("imputation-pair", "physionet2012")


def of(table, metric, score, *methods):
    cells = {
        cell.method: cell for cell in table.cells if (cell.metric, cell.score) == (metric, score) and cell.section.startswith("laboratory")
    }
    return [cells[method] for method in methods]


def test_a_number_against_one_that_is_known(filled):
    for cell in filled.cells:
        if cell.metric in GAINS and cell.low is not None:
            found = against(cell)
            assert found.interval() == pytest.approx((cell.low, cell.high), rel=1e-9), "that of the table"
            assert against(cell, cell.value).estimate == 0


def test_equal_seeds_count_as_seeds_that_change_nothing(filled):
    cell = next(cell for cell in filled.cells if cell.low is not None)
    cell = replace(cell, seeds=cell.seeds[:1], deterministic=True)
    assert against(cell).both and against(cell).se_seeds == 0
    assert not against(replace(cell, deterministic=False)).both, "one seed says nothing about another"


def test_a_number_without_an_interval_is_refused(filled):
    cell = next(cell for cell in filled.cells if cell.low is not None)
    with pytest.raises(ValueError, match="has no interval; only a number of enough stays can be tested"):
        against(replace(cell, se_stays=None))


def test_differences_are_those_of_the_stays(filled):
    """Of one seed each the test is the paired one of the stays."""
    scores = kept_scores(filled)
    one, other = (replace(cell, runs=cell.runs[:1]) for cell in of(filled, "energy", "conditional", *TWO))
    found = score_difference(filled, scores, one, other)
    own, rival = (scores[name_of(cell.runs[0], cell.section, "conditional", "energy")].astype(float) for cell in (one, other))
    wanted = ttest_1samp(own - rival, 0.0)
    assert found.estimate == pytest.approx((own - rival).mean(), rel=1e-6)
    assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-6)
    assert found.interval() == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-6)


def test_differences_of_all_seeds_are_those_of_the_table(filled):
    scores = kept_scores(filled)
    one, other = of(filled, "error", "conditional mean", *TWO)
    assert score_difference(filled, scores, one, other).estimate == pytest.approx(one.value - other.value, rel=1e-6)
    same = score_difference(filled, scores, one, one)
    assert same.estimate == 0 and same.p_value == 1


def test_differences_of_squares(filled):
    """The error is the root of a mean of squares, so that its square is a mean, whose test is that of the stays."""
    scores = kept_scores(filled)
    one, other = (replace(cell, runs=cell.runs[:1]) for cell in of(filled, "error", "conditional mean", *TWO))
    squares = score_difference(filled, scores, one, other, power=2)
    own, rival = (scores[name_of(cell.runs[0], cell.section, "conditional mean", "error")].astype(float) for cell in (one, other))
    assert squares.estimate == pytest.approx((own - rival).mean(), rel=1e-5)
    assert squares.se_stays == pytest.approx((own - rival).std(ddof=1) / np.sqrt(len(own)), rel=1e-5)


def test_what_cannot_be_compared_is_refused(filled, monkeypatch, tmp_path):
    scores = kept_scores(filled)
    one, other = of(filled, "energy", "conditional", *TWO)
    with pytest.raises(ValueError, match="metric 'energy' and 'error'; compare cells that agree in it"):
        score_difference(filled, scores, one, replace(other, metric="error"))
    with pytest.raises(ValueError, match=re.escape(f"the scores of {one.row}, {one.section}, are missing")):
        score_difference(filled, {}, one, other)
    with pytest.raises(ValueError, match=r"of the kind 'results', which has no scores; use `cm2\.tables\.compared_with`"):
        score_difference(kept_table(9, "physionet2012"), scores, one, other)
    monkeypatch.chdir(tmp_path)
    assert kept_scores(filled) == {}, "outside a checkout nothing is kept"


def test_sides_are_corrected_and_need_seeds():
    def found(estimate: float, *seeds: float) -> Uncertain:
        return combined(estimate, 0.01, 500, seeds)

    two = [found(0.023, 0.0, 0.001), found(-0.05, 0.0, 0.001), found(0.0, 0.0, 0.001)]
    assert 0.01 < holm([one.p_value for one in two])[0] < 0.05
    assert sides(two) == [1, -1, 0]
    assert sides(two * 2) == [0, -1, 0] * 2, "more tests, a stricter one"
    assert sides([found(1.0, 0.0)]) == [0], "one seed decides nothing"
    assert sides(two, level=0.01) == [0, -1, 0]
    assert sides([]) == []
