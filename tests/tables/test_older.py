"""Tables stored in format 1 are read with both kinds of chance in their intervals and tests."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_ind

from cm2.metrics import holm
from cm2.tables import markdown, read, recompute
from cm2.tables.older import WIDTH

PLACE = {"section": "matched", "task": "IHM", "metric": "auroc"}
SOURCE = {"cohort": "made", "cohort_checksum": "0" * 64, "cm2": "0", "date": "today", "device": "none", "profile": "open", "seeds": 3}


def cell(row, seeds, width=0.04, positives=100, **fields):
    mean = sum(seeds) / len(seeds)
    bounds = [[s - width / 2, s + width / 2] for s in seeds]
    known = {"value": mean, "low": mean - 0.1, "high": mean + 0.1, "seeds": seeds, "bootstrap": bounds, "n": 1000, "positives": positives}
    return {**PLACE, "row": row, **known, "runs": ["a", "b", "c"][: len(seeds)], **fields}


def difference(estimate, half=0.01, **fields):
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half, "p": 0.01, "p_holm": 0.02, **fields}


def stored(tmp_path, *cells):
    path = tmp_path / "table-2.json"
    tree = {"format": 1, "name": "2", "title": "made", "kind": "results", "reference": "CM2", "provenance": SOURCE, "key": "k"}
    path.write_text(json.dumps({**tree, "cells": cells}))
    return read(path)


def test_a_difference_gets_both_parts(tmp_path):
    own, base = [0.80, 0.81, 0.85], [0.84, 0.85, 0.86]
    rows = cell("Other", own, difference=difference(-0.03)), cell("Trees", [0.82] * 3, difference=difference(-0.03)), cell("CM2", base)
    other, trees, reference = stored(tmp_path, *rows).cells
    d = other.difference
    welch = ttest_ind(own, base, equal_var=False)
    assert d["se_stays"] == pytest.approx(0.02 / WIDTH) == pytest.approx(0.02 / (2 * norm.ppf(0.975)))
    assert (d["stays_low"], d["stays_high"]) == pytest.approx((-0.04, -0.02))
    assert d["seeds_high"] - d["seeds_low"] == pytest.approx(np.ptp(welch.confidence_interval()))
    assert d["se_seeds"] == pytest.approx(np.hypot(np.std(own, ddof=1), np.std(base, ddof=1)) / 3**0.5)
    assert d["p"] > 0.01 and d["high"] - d["low"] > 0.02
    assert [c.difference["p_holm"] for c in (other, trees)] == holm([c.difference["p"] for c in (other, trees)])
    assert trees.deterministic and trees.seeds == (0.82,) and trees.sd == 0 and len(trees.runs) == 3
    assert trees.low < 0.82 < trees.high
    assert reference.difference is None
    assert math.hypot(reference.se_stays, reference.sd / 3**0.5) > reference.se_stays == pytest.approx(0.04 / WIDTH)


def test_one_seed_keeps_its_interval_and_decides_nothing(tmp_path):
    result = stored(tmp_path, cell("Other", [0.80], difference=difference(-0.03)), cell("CM2", [0.83]))
    d = result.cells[0].difference
    assert (d["low"], d["high"], d["p"], d["p_holm"]) == pytest.approx((-0.04, -0.02, 0.01, 0.01)) and "se_seeds" not in d
    assert "from the stays alone, as one seed cannot say what another would" in markdown(result)


def test_too_few_positives_lose_their_numbers(tmp_path):
    result = stored(tmp_path, cell("Other", [0.8, 0.9], positives=9, difference=difference(-0.03)), cell("CM2", [0.8, 0.9], positives=9))
    assert all(c.value is None and c.difference is None and c.positives == 9 for c in result.cells)
    assert "| Other | too few |" in markdown(result) and "| **matched** | 1,000 stays, 9 positive |" in markdown(result)


def test_it_cannot_be_computed_again(tmp_path):
    with pytest.raises(ValueError, match="table 2 was stored without predictions and cannot be computed again; run `cm2 table` anew"):
        recompute(stored(tmp_path, cell("CM2", [0.8, 0.9])), tmp_path)
