"""Sentences follow the numbers: with every difference reversed no statement about a side stays as it was."""

import pytest

from cm2.book.runner import execute
from tests.book import minibook, reversed_results

CHAPTERS = ("two_modalities", "three_modalities", "ablations", "components", "other_methods_and_encoders")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Executions of the chapters, with the results as they are and reversed."""
    mirror = reversed_results.checkout(minibook.REPOSITORY, tmp_path_factory.mktemp("reversed") / "checkout")
    found = []
    for root in (minibook.REPOSITORY, mirror):
        done, failures = execute(CHAPTERS, None, "smoke", 1, root, lambda line: None)
        assert not failures, failures
        found.append(done)
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_statement_about_a_side_stays(both, chapter):
    said, reversed_ = (reversed_results.one_sided(each[chapter].notebook) for each in both)
    assert not said & reversed_


def test_the_check_sees_sides(both):
    """Version 3 and most rows differ in the kept table of every method: the chapter does say so."""
    assert reversed_results.one_sided(both[0]["two_modalities"].notebook)
