"""Disclosure control: no number from which fewer than ten stays follow, nothing that names one."""

from __future__ import annotations

import random
import re
from itertools import combinations
from pathlib import Path

import pytest

from cm2.cohorts.disclosure import (
    SMALLEST,
    Disclosure,
    Group,
    few,
    guard,
    guard_counts,
    guard_flow,
    guard_groups,
    guard_manifest,
    guard_metrics,
    guard_text,
)

METRICS = {"auroc": 0.812345, "auroc_low": 0.7512345, "auroc_high": 0.871234, "brier": 0.0912345}


@pytest.fixture
def dice():
    return random.Random(0)


def test_no_few_follow_from_counts_and_their_sum(dice):
    for _ in range(2000):
        parts = {str(i): dice.choice((0, dice.randrange(1, 12), dice.randrange(1, 400))) for i in range(dice.randrange(1, 6))}
        shown = guard(parts)
        assert not any(few(count) for count in shown.values() if count is not None)
        hidden = [parts[name] for name, count in shown.items() if count is None]
        assert not hidden or (len(hidden) > 1 and sum(hidden) >= SMALLEST) or set(shown.values()) <= {None, 0}


def test_no_few_follow_from_groups_that_contain_one_another(dice):
    for _ in range(1000):
        nested, n, positives = {}, dice.randrange(20, 500), dice.randrange(5, 60)
        for i in range(4):
            nested[i] = Group(n, min(positives, n))
            n -= dice.choice((0, dice.randrange(12), dice.randrange(100)))
            positives -= dice.choice((0, dice.randrange(12)))
            n, positives = max(n, 0), max(min(positives, n), 0)
        shown = guard_groups(nested).values()
        for numbers in ([g.n for g in shown], [g.positives for g in shown], [g.n - g.positives for g in shown if None not in g]):
            known = [number for number in numbers if number is not None]
            assert not any(map(few, known)) and not any(few(abs(a - b)) for a, b in combinations(known, 2))


def test_what_stands_beside_counts_as_shown():
    assert guard_groups({"matched": Group(93, 30)}, [Group(100, 50)]) == {"matched": Group(None, 30)}
    assert guard_groups({"matched": Group(80, 30)}, [Group(100, 35)]) == {"matched": Group(80, None)}
    assert guard_groups({"same": Group(100, 35)}, [Group(100, 35)]) == {"same": Group(100, 35)}


@pytest.mark.parametrize(("n", "positives"), [(100, 0), (100, 9), (100, 91), (9, 4)])
def test_metrics_of_few_positives_or_negatives_are_hidden(n, positives):
    shown = guard_metrics({**METRICS, "n": n, "positives": positives})
    assert {shown[name] for name in METRICS} == {None}
    assert shown["n"] == (None if n < SMALLEST else n) and shown["positives"] in (None, 0)
    assert guard_metrics(shown) == shown


def test_other_metrics_are_rounded():
    shown = guard_metrics({**METRICS, "n": 100, "positives": 10})
    assert shown == {"auroc": 0.812, "auroc_low": 0.751, "auroc_high": 0.871, "brier": 0.0912, "n": 100, "positives": 10}
    assert guard_metrics(shown) == shown


def test_nested_counts():
    tree = {"films": {"all": 300, "read": 297, "damaged": {"cut": 3, "missing": 40}}, "row_ids": [100001, 100002], "share": 0.25}
    shown = guard_counts(tree)
    assert shown == {"films": {"all": 300, "read": None, "damaged": {"cut": None, "missing": None}}, "row_ids": None, "share": 0.25}
    assert guard_counts(shown) == shown


def test_a_flow_chart_may_be_guarded_again():
    steps = [("all", 136, 0, ""), ("adults", 133, 3, ""), ("long", 57, 76, ""), ("with note", 51, 6, "the others stay in the cohort")]
    flow = [dict(zip(("step", "stays", "dropped", "note"), step, strict=True)) for step in steps]
    shown = guard_flow(flow)
    assert [(step["stays"], step["dropped"]) for step in shown] == [(136, 0), (57, 79)] and guard_flow(shown) == shown


def test_the_counts_of_a_manifest():
    manifest = {
        "stays": 100,
        "splits": {"train": 81, "valid": 7, "test": 12},
        "modalities": {"series": {"kind": "series", "present": 100}, "note": {"kind": "text", "present": 94}},
        "tasks": {"death": {"description": "died", "positives": 12, "unknown": 3, "positives_by_split": {"train": 9}}},
        "flow": [],
        "counts": {"damaged": 4},
    }
    shown = guard_manifest(manifest)
    assert shown["splits"] == {"train": 81, "valid": None, "test": None} and shown["counts"] == {"damaged": None}
    assert [entry["present"] for entry in shown["modalities"].values()] == [100, None]
    assert shown["tasks"] == {"death": {"description": "died", "positives": 12, "unknown": None}}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("cannot read files/p10/p10003400/s50010000/0a1b2c3d-0a1b2c3d-0a1b2c3d-0a1b2c3d-0a1b2c3d.jpg", "cannot read a record"),
        ("s50010000.txt is missing", "a record is missing"),
        ("subject_id 10003400 at 2180-07-23 14:00:00", "subject_id (hidden) at a time"),
        ("could not convert '2180-07-23'", "could not convert 'a time'"),
        ("the 400 stays of mimic4, run 0123456789abcdef, 2026-01-02", "the 400 stays of mimic4, run 0123456789abcdef, 2026-01-02"),
    ],
)
def test_a_message_names_no_record(text, clean):
    assert guard_text(text) == clean


def test_of_an_open_cohort_everything_is_shown():
    door = Disclosure(credentialed=False)
    exact = {**METRICS, "n": 9, "positives": 1}
    assert door.metrics(exact) == exact and door.parts({"a": 1}) == {"a": 1} and door.count(3) == "3" and door.number(0.12345) == 0.12345
    assert Disclosure.of({}) == Disclosure(credentialed=True, fabricated=False)
    assert Disclosure().count(3) == "fewer than 10" and Disclosure().count(None) == "hidden"


@pytest.mark.parametrize(
    ("sums", "parts", "shown"),
    [
        ({"charted": 500, "stays": 40, "steps": 300}, {"used": 480, "out_of_range": 20}, {}),
        ({"charted": 500, "stays": 40, "steps": 300}, {"used": 496, "out_of_range": 4}, {"used": None, "out_of_range": None}),
        (
            {"charted": 500, "stays": 4, "steps": 30},
            {"used": 60, "out_of_range": 440},
            dict.fromkeys(("stays", "steps", "used", "out_of_range")),
        ),
        ({"charted": 4, "stays": 4, "steps": 4}, {}, dict.fromkeys(("charted", "stays", "steps"))),
    ],
)
def test_the_values_of_a_channel_tell_of_no_few_stays(sums, parts, shown):
    assert Disclosure().channel(sums, parts) == sums | parts | shown
    assert Disclosure(credentialed=False).channel(sums, parts) == sums | parts


def test_only_the_door_hides_numbers():
    """Whatever shows a number asks a cohort's `Disclosure`, which knows whether it may; nothing else calls the guards behind it.

    Messages are another matter: an error has no cohort to ask.
    """
    root = Path(__file__).resolve().parents[2]
    sources = [path for folder in ("cm2", "data_prep") for path in (root / folder).rglob("*.py") if path.name != "disclosure.py"]
    called = {f"{path.relative_to(root)}: {name}" for path in sources for name in re.findall(r"\bguard(?:_\w+)?\b(?=\()", path.read_text())}
    assert len(sources) > 200 and called == {"cm2/cli/failures.py: guard_text"}
