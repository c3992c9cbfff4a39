"""A plan is checked before anything is trained, decided once, and its p-values are corrected over the whole of it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cm2.metrics import holm
from cm2.tables.confirmation import confirm, outcome, text
from cm2.tables.confirmatory_plan import DIRECTIONS, Statement, read_plan
from cm2.tables.result import Cell
from tests.tables.conftest import FAST

PLAN = """
title = "Made up"
profile = "smoke"
seeds = 2

[[statement]]
says = "Gumbel is above"
table = "6"
section = "totally matched"
task = "death"
row = "Gumbel"

[[statement]]
says = "Frank is no worse than Gaussian"
table = "6"
section = "partially matched"
task = "death"
row = "Frank"
direction = "not_below"
against = ["Gaussian"]

[[statement]]
says = "An AUROC that a method can have"
table = "6"
section = "totally matched"
task = "death"
row = "Gaussian"
direction = "at_least"
value = 0.1
"""


@pytest.fixture
def fast(monkeypatch):
    """Every run of a plan small enough for a test."""
    from cm2.config import Config

    whole = Config.from_profile.__func__
    monkeypatch.setattr(Config, "from_profile", classmethod(lambda cls, profile, given=None: whole(cls, profile, FAST | (given or {}))))


def written(folder: Path, plan: str = PLAN) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plan.toml"
    path.write_text(plan)
    return path


def test_a_plan_is_decided_once(tiny, store, tmp_path, fast, monkeypatch):
    path, out = written(tmp_path), tmp_path / "out"
    result = confirm(path, tiny, out, store=store, progress=False)
    assert [len(one.cells) for one in result.decided] == [3, 2, 1]
    assert [one.cells[0].row for one in result.decided] == ["Gumbel", "Frank", "Gaussian"]
    assert result.decided[2].outcome == "confirmed"
    compared = [cell.difference for one in result.decided for cell in one.cells if cell.difference]
    assert [d["p_holm"] for d in compared] == pytest.approx(holm([d["p"] for d in compared])) and len(compared) == 3
    shown = (out / "confirmation.md").read_text()
    assert shown == text(result) and "An AUROC that a method can have" in shown and "not in a repository" in shown
    assert len(list(out.glob("predictions-*.parquet"))) == 1
    monkeypatch.setattr("cm2.tables.confirmation.fit_entries", lambda *_: pytest.fail("decided again"))
    assert confirm(path, tiny, out, store=store, progress=False) == result
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "confirmation.json").write_text("[1")
    with pytest.raises(ValueError, match=r"confirmation\.json: not valid JSON"):
        confirm(path, tiny, tmp_path / "broken", store=store, progress=False)
    with pytest.raises(ValueError, match="is the decision of another plan"):
        confirm(written(tmp_path / "other", PLAN.replace("0.1", "0.2")), tiny, out, store=store, progress=False)


def test_a_plan_is_frozen_by_its_commit(tiny, store, tmp_path, fast):
    path = written(tmp_path / "repository")
    git = ["git", "-C", str(path.parent), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "plan"]):
        subprocess.run([*git, *command], check=True)
    commit = confirm(path, tiny, tmp_path / "out", store=store, progress=False).commit
    assert len(commit) == 40 and json.loads((tmp_path / "out" / "confirmation.json").read_text())["commit"] == commit
    with pytest.raises(ValueError, match=r"new\.toml was never committed; a plan is frozen"):
        confirm(path.rename(path.with_name("new.toml")), tiny, tmp_path / "other", store=store, progress=False)
    path.write_text(PLAN + "\n# afterthought\n")
    with pytest.raises(ValueError, match=rf"was changed since it was committed \({commit[:12]}\)"):
        confirm(path, tiny, tmp_path / "other", store=store, progress=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('row = "Gumbel"', 'row = "Gumble"', r"plan.toml, statement 1: row 'Gumble' is unknown; .*did you mean 'Gumbel'"),
        ('against = ["Gaussian"]', 'against = ["Gauss"]', r"statement 2: row 'Gauss' is unknown"),
        ('section = "partially matched"', 'section = "matched"', r"statement 2: section 'matched' is unknown"),
        ('table = "6"', 'table = "12"', r"statement 1: there is no table '12'"),
        ('direction = "not_below"', 'direction = "below"', r"statement 2: direction 'below' is unknown"),
        ('direction = "not_below"', 'direction = "equivalent"', r"statement 2: direction equivalent needs a margin"),
        ("value = 0.1", "", r"statement 3: direction at_least needs a value"),
        ("value = 0.1", 'value = "high"', r"statement 3: value: expected float, got 'high'"),
        ('says = "Gumbel is above"', "", r"statement 1: says is missing"),
        ('says = "Gumbel is above"', 'says = "a"\nclaim = "b"', r"statement 1: unknown field claim"),
        ('table = "6"', 'table = "alignment"', r"statement 1: section 'totally matched' is unknown|not computed from test predictions"),
        ('table = "6"', 'table = "version-3"', r"statement 1: table version-3 is not computed from test predictions"),
        ("seeds = 2", "seeds = 1", r"plan.toml: seeds = 1; a plan needs two or more"),
        ("seeds = 2", 'seeds = "many"', r"plan.toml: seeds: expected int, got 'many'"),
        ('title = "Made up"', "title = Made up", r"plan.toml: .*Invalid value"),
    ],
)
def test_what_is_wrong_with_a_plan_is_one_line(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message) as refused:
        read_plan(written(tmp_path, PLAN.replace(old, new, 1)))
    assert "\n" not in str(refused.value)


def test_no_plan_and_no_statement(tmp_path):
    with pytest.raises(ValueError, match="there is no plan"):
        read_plan(tmp_path / "plan.toml")
    with pytest.raises(ValueError, match=r"no statement; add a block \[\[statement\]\]"):
        read_plan(written(tmp_path, PLAN.partition("[[statement]]")[0]))


OWN = Cell("s", "ours", "death", "auroc", value=0.85, seeds=(0.84, 0.86))


def against(estimate, p, **more):
    """A row that ours is compared with; the estimate is its AUROC minus ours."""
    return Cell("s", "other", "death", "auroc", value=0.8, difference={"estimate": estimate, "p_holm": p, "se_seeds": 0.1, **more})


@pytest.mark.parametrize(
    ("direction", "cells", "expected"),
    [
        ("above", [against(-0.02, 0.01)], "confirmed"),
        ("above", [against(-0.02, 0.01), against(-0.02, 0.2)], "not confirmed"),
        ("above", [against(-0.02, 0.01), against(0.02, 0.01)], "contradicted"),
        ("not_below", [against(0.02, 0.2)], "confirmed"),
        ("not_below", [against(0.02, 0.01)], "contradicted"),
        ("equivalent", [against(0.001, 0.9, p_equivalent_holm=0.01)], "confirmed"),
        ("equivalent", [against(0.001, 0.9, p_equivalent_holm=0.2)], "not confirmed"),
        ("at_least", [], "confirmed"),
        ("above", [Cell("s", "other", "death", "auroc")], "cannot be decided"),
        ("above", [Cell("s", "other", "death", "auroc", difference={"estimate": -1, "p_holm": 0})], "cannot be decided"),
    ],
)
def test_the_rule_of_every_direction(direction, cells, expected):
    assert direction in DIRECTIONS
    assert outcome(Statement("", "6", "s", "ours", direction=direction, value=0.84, margin=0.01), [OWN, *cells]) == expected


def test_a_mean_that_is_high_enough_may_vary_too_much():
    statement = Statement("", "6", "s", "ours", direction="at_least", value=0.84, sd=0.004)
    assert outcome(statement, [OWN]) == "not confirmed"
    assert outcome(replace(statement, sd=0.02), [OWN]) == "confirmed"
    assert outcome(replace(statement, value=0.86, sd=None), [OWN]) == "not confirmed"
    assert outcome(statement, [Cell("s", "ours", "death", "auroc")]) == "cannot be decided"


def test_every_plan_of_the_repository_can_be_run(repository):
    paths = list(repository.glob("plans/*.toml"))
    assert paths
    for path in paths:
        assert len(read_plan(path).statement) > 0
