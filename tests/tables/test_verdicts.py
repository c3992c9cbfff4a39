"""Sentences about a table hold whatever its numbers are."""

from dataclasses import replace

import pytest

from cm2.tables import Cell, TableResult
from cm2.tables.verdicts import findings, similarity


def result(*differences):
    """A table of one row for each (estimate, corrected p-value), all in one task."""
    cells = [Cell("matched", "CM2", "IHM", "auroc", 0.8)]
    for place, (estimate, p) in enumerate(differences):
        cells.append(
            Cell(
                "matched", f"row {place}", "IHM", "auroc", 0.8 + estimate, difference={"estimate": estimate, "p_holm": p, "se_seeds": 0.001}
            )
        )
    return TableResult("5", "made up", "results", "CM2", tuple(cells))


def test_findings_without_a_small_p_value():
    assert findings(result((0.01, 0.3), (-0.02, 0.06))) == (
        "None of the 2 differences in AUROC to “CM2” has a corrected p-value below 0.05;"
        " the largest is that of “row 1” with -0.020 (IHM, matched)."
    )
    assert findings(result((0.01, 0.3))).startswith("The only difference in AUROC to “CM2” has no corrected p-value below 0.05;")


def test_findings_name_sides_and_count_the_rest():
    assert findings(result((0.01, 0.3), (-0.02, 0.01))) == (
        "1 of the 2 differences in AUROC to “CM2” has a corrected p-value below 0.05: “row 1” below by 0.020 (IHM, matched)."
    )
    several = findings(result((0.01, 0.01), (-0.02, 0.01), (0.03, 0.02)), named=2)
    assert "below 0.05: “row 2” above by 0.030 (IHM, matched), “row 1” below by 0.020 (IHM, matched), and 1 more." in several
    assert several.startswith("3 of the 3 differences in AUROC to “CM2” have corrected p-values")


def test_findings_of_one_seed_decide_nothing():
    once = [replace(c, difference={"estimate": -0.02, "p_holm": 0.01}) if c.difference else c for c in result((0, 0), (0, 0)).cells]
    assert (
        findings(replace(result(), cells=tuple(once))) == "One seed was trained, which decides none of the 2 differences in AUROC to “CM2”."
    )


def test_only_a_test_of_equivalence_shows_similarity():
    assert similarity(result((0.01, 0.3))) == (
        "The table was computed without a test of equivalence, so it does not show that the rows are equally good."
    )
    tested = [{"estimate": 0.001, "p_holm": 1.0, "p_equivalent_holm": p, "se_seeds": 0.001} for p in (0.01, 0.2)]
    cells = [replace(c, difference=d) for c, d in zip(result((0, 0), (0, 0)).cells[1:], tested, strict=True)]
    several = replace(result(), cells=tuple(cells), provenance={"margin": 0.01})
    assert similarity(several) == (
        "By two one-sided tests, corrected, the rows are within 0.01 of the reference in 1 of 2 comparisons, undecided in 1."
    )
    once = [replace(c, difference={name: p for name, p in c.difference.items() if name != "se_seeds"}) for c in cells]
    assert similarity(replace(several, cells=tuple(once))) == "One seed was trained, which shows no two rows to be equally good."


def test_findings_of_nothing():
    with pytest.raises(ValueError, match="compares nothing in aupr"):
        findings(result((0.01, 0.3)), "aupr")
