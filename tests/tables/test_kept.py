"""Tables kept in the repository, tables of the reader's own cohort, and how a chapter shows either."""

import pytest
from matplotlib import pyplot as plt

from cm2.plots import differences as forest
from cm2.tables import differences, kept_table, notes, table, values
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
    with pytest.raises(ValueError, match=r"not kept for 'tinny' \(kept for: tiny\).*table 6 --cohort DIR --out results/tinny"):
        kept_table(6, "tinny")
    with pytest.raises(ValueError, match="kept for: none"):
        kept_table(2, "tiny")


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
