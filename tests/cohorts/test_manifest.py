"""Manifests from anywhere: what is wrong with one is one clear error; none leads outside its folder or onto a page as code."""

from __future__ import annotations

import json
import random

import pytest

from cm2.cohorts import load_cohort
from cm2.cohorts.format import MANIFEST
from cm2.config.schema import check, plain_name
from tests.mutations import mutated
from tests.tables.conftest import write

MUTANTS = 400


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write(tmp_path_factory.mktemp("cohorts") / "tiny").path


@pytest.fixture
def folder(prepared, tmp_path):
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_mutated_manifest_is_read_or_refused_in_one_line(folder):
    """With a fixed seed; whatever is read is a cohort that can be used."""
    manifest, dice = json.loads((folder / MANIFEST).read_text()), random.Random(0)
    refused = 0
    for _ in range(MUTANTS):
        (folder / MANIFEST).write_text(json.dumps(mutated(manifest, dice)))
        try:
            cohort = load_cohort(folder, verify=False)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and "again" in str(error) and str(folder) in str(error), error
            continue
        repr(cohort), cohort.modalities, cohort.credentialed, cohort.tasks
    assert refused > MUTANTS / 3


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("modalities", "bedside", "file"), "../bedside.npy", r"bedside: file: expected a file in the folder of the cohort"),
        (("modalities", "bedside", "file"), "/bedside.npy", r"expected a file in the folder of the cohort"),
        (("modalities", "bedside", "file"), "other.npy", r"the file other\.npy has no size or no checksum"),
        (("modalities", "bedside", "shape"), [3, True], r"bedside: shape: item 2: expected a whole number, got True"),
        (("name",), "<script>alert(1)</script>", r"name: .* has the character '<'"),
        (("name",), "=1+1", r"has the character '='"),
        (("name",), "a\nb", r"has the character '\\n'"),
        (("checksum",), "0", r"checksum: expected 64 hexadecimal digits"),
        (("splits", "test"), "many", r"splits: test: expected a whole number, got 'many'"),
        (("sizes", "../x"), 3, r"expected a file in the folder of the cohort, got '\.\./x'"),
        (("counts",), 3, "counts: expected a group of entries, got 3"),
        (("counts",), {"channels": {"Heart Rate": 7}}, "counts: channels: Heart Rate: expected a group of entries, got 7"),
        (("normalisation",), [], r"normalisation: expected a group of entries, got \[\]"),
    ],
)
def test_what_is_wrong_is_named(folder, path, value, message):
    tree = json.loads((folder / MANIFEST).read_text())
    *parents, last = path
    node = tree
    for parent in parents:
        node = node[parent]
    node[last] = value
    (folder / MANIFEST).write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=message):
        load_cohort(folder)


def test_a_name_with_markup_is_refused_where_it_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"manifest\.json: name: the name '<b>' has the character '<'"):
        write(tmp_path / "out", name="<b>")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["bedside", "LOS > 7 d", "w/o copula", "K = 3", "mask->HR", "CM²", "Herzfrequenz 1/min", "λ = 1e-3"])
def test_plain_names(name):
    assert plain_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "<b>", "a\x1b[2J", "`x`", "{{ x }}", "=1+1", "@cmd", "-x", None, 3])
def test_names_that_are_taken_for_code(name):
    with pytest.raises(ValueError, match="name"):
        plain_name(name)


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        ({"a": "1"}, {"a": int}, "here: a: expected a whole number, got '1'"),
        ({"a": True}, {"a": float}, "here: a: expected a number, got True"),
        ({}, {"a": int}, "here: the entry 'a' is missing"),
        ({"b": [1, "x"]}, {"*": [int]}, "here: b: item 2: expected a whole number, got 'x'"),
        ([1], {"a": int}, r"here: expected a group of entries, got \[1\]"),
        ("x", (int, None), "here: expected a whole number, got 'x'"),
    ],
)
def test_a_schema_names_the_entry(value, schema, message):
    with pytest.raises(ValueError, match=message):
        check(value, schema, "here")


def test_a_schema_leaves_other_entries_alone():
    check({"a": 1, "b": object()}, {"a": int, "c?": str}, "here")
    check(None, (int, None), "here")
    check(3, float, "here")
