"""Tables kept in the repository, tables of the reader's own cohort, and how a chapter shows either."""

import json
import random
from contextlib import suppress
from dataclasses import replace

import pytest
from matplotlib import pyplot as plt

from cm2.plots import differences as forest
from cm2.tables import as_printed, differences, kept_predictions, kept_table, notes, read, table, tally, values, verdict_grid, verdicts
from cm2.tables.predictions import read_predictions
from cm2.tables.verdicts import standing
from tests.mutations import mutated
from tests.tables.conftest import FAST


@pytest.fixture(scope="module")
def families(tiny, store, tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    (root / "pyproject.toml").touch()
    return table(6, tiny, "smoke", seeds=2, settings=FAST, store=store, out=root / "results" / "tiny"), root


def test_a_kept_table_is_read_by_the_cohorts_name(families, monkeypatch):
    result, root = families
    monkeypatch.chdir(root)
    assert kept_table(6, "tiny") == result
    with pytest.raises(ValueError, match=r"no table 6 for 'tinny' \(it has one for: tiny\).*table 6 --cohort DIR --out results/tinny"):
        kept_table(6, "tinny")
    with pytest.raises(ValueError, match="it has one for: none"):
        kept_table(2, "tiny")


@pytest.mark.parametrize(("number", "printed"), [(2, True), (4, False), (11, False)])
def test_the_papers_interval_is_told_where_one_is_printed(number, printed):
    result = kept_table(number, "physionet2012")
    assert any("low" in (cell.printed or {}) for cell in result.cells) == printed == ("bootstrap interval over the test" in notes(result))


def test_the_standing_of_a_row_names_places(families):
    result, _ = families
    found = verdicts(result).query("metric == 'auroc'")
    frank = found[found["row"] == "Frank"]
    words = standing(frank)
    assert all(f"{line.task}, {line.section}" in words and line.verdict in words for line in frank.itertuples())
    one = frank[frank["task"] == "death"].assign(verdict=["above", "undecided"])
    assert standing(one) == "above (partially matched), undecided (totally matched)"
    assert standing(one.assign(verdict="below")) == "below (partially matched; totally matched)"


def test_predictions_of_a_kept_table_are_found_and_of_a_computed_one_there_are_none(families, tiny, store, monkeypatch):
    result, root = families
    monkeypatch.chdir(root)
    path = kept_predictions(kept_table(6, "tiny"))
    assert path is not None and read_predictions(path, result.cells[0].runs)
    computed = kept_table(6, tiny.path, "smoke")
    assert computed.provenance["cohort"] == tiny.name, "the same name as the kept one's"
    assert kept_predictions(computed) is None
    monkeypatch.chdir(root.parent)
    assert kept_predictions(result) is None, "outside a checkout nothing is kept"


def test_parts_of_a_table_and_its_differences_are_shown(families):
    result, _ = families
    assert "Frank" in values(result, "death") and "#" not in values(result)
    assert "Holm" in differences(result) and "|" not in notes(result)
    with pytest.raises(ValueError, match="no task 'birth'; it has death"):
        values(result, "birth")
    figure = forest(result.frame(), "aupr", result.reference)
    assert len(figure.axes) == 4 and figure.axes[-1].get_xlabel() == "AUPR minus that of Gumbel"
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["Frank", "Gaussian"]
    plt.close(figure)
    with pytest.raises(ValueError, match="no row of the table was compared"):
        forest(result.frame().drop(columns="difference_estimate"))


def test_the_papers_tables_and_ours_can_stand_under_each_other(families):
    result, _ = families
    ours = replace(result, cells=tuple(replace(cell, printed={"cohort": "mimic4", "value": 0.7}) for cell in result.cells))
    assert "paper" in values(ours) and "paper" not in values(ours, paper=False)
    text = as_printed(2)
    assert "| MMTM | 0.776 [0.728, 0.819] | 0.347 [0.268, 0.447] |" in text
    assert text.index("**MIMIC-III**") < text.index("**MIMIC-IV**") and len(text.splitlines()) == 2 + 2 * (1 + 6)
    with pytest.raises(ValueError, match="Table 1 prints no AUROC"):
        as_printed(1)


def test_verdicts_say_where_the_reference_stands(families):
    result, _ = families
    found = verdicts(result)
    assert len(found) == 16 and set(found["row"]) == {"Frank", "Gaussian"}
    cells = [cell for cell in result.cells if cell.difference]
    told = iter((-0.1, 0.001, 0.1))
    changed = []
    for cell in cells[:3]:
        estimate = next(told)
        p, seeds = (0.2, (-1.0, 1.0)) if abs(estimate) < 0.01 else (0.01, (estimate - 0.01, estimate + 0.01))
        d = {**cell.difference, "estimate": estimate, "p_holm": p, "seeds_low": seeds[0], "seeds_high": seeds[1]}
        changed.append(replace(cell, difference=d))
    three = replace(result, cells=tuple(changed))
    found = verdicts(three)
    assert found["verdict"].tolist() == ["above", "undecided", "below"] and found["seeds"].tolist() == [True, False, True]
    assert tally(found) == "above in 1 of 3 comparisons, below in 1, undecided in 1"
    assert "| above / undecided |" in verdict_grid(three)
    once = [replace(c, difference={k: v for k, v in c.difference.items() if k != "se_seeds"}) for c in changed]
    assert set(verdicts(replace(result, cells=tuple(once)))["verdict"]) == {"undecided"}, "one seed decides nothing"
    alone = replace(result, cells=tuple(replace(cell, difference=None) for cell in result.cells))
    with pytest.raises(ValueError, match="compares nothing"):
        verdicts(alone)


def test_a_mutated_result_is_read_or_refused_in_one_line(families, tmp_path):
    """With a fixed seed, in both formats; what is read can be shown."""
    dice, path = random.Random(0), tmp_path / "table-6.json"
    tree = json.loads((families[1] / "results" / "tiny" / "table-6.json").read_text())
    tree["cells"] = tree["cells"][:4]
    refused = 0
    for _ in range(300):
        path.write_text(json.dumps(mutated(tree, dice)))
        try:
            result = read(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error), error
            continue
        result.frame()
        with suppress(ValueError):  # a table of another kind, or one that compares nothing
            assert "<script>" not in values(result) and "\x1b" not in values(result)
    assert refused > 100
