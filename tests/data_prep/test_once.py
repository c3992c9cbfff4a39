"""The protocol of every preparation: what is there is not made again, a killed or failed one leaves nothing, two make it once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cm2 import load_cohort
from cm2.progress import Progress
from data_prep.once import Asked, prepare_once
from tests.data_prep.test_writer import prepared

SHOWN = Path(__file__).parents[2] / "data_prep"


def asked(out):
    return Asked(out, "tiny", "1", {"seed": 0}, credentialed=False)


def test_a_cohort_is_made_once(tmp_path):
    made, progress = [], Progress("", show=False)

    def make(work):
        (work / "something").write_text("intermediate")
        made.append(work)
        return prepared()

    for _ in range(2):
        with progress:
            assert prepare_once(asked(tmp_path / "c"), make, progress) == tmp_path / "c"
    assert len(made) == 1 and not made[0].exists() and load_cohort(tmp_path / "c").name == "tiny"


def test_two_at_once_make_it_once(tmp_path):
    made, begun = [], threading.Event()

    def make(_):
        made.append(1)
        begun.set()
        waiting.join(0.2)  # until the other stands before the lock
        return prepared()

    def call():
        with Progress("", show=False) as progress:
            prepare_once(asked(tmp_path / "c"), make, progress)

    def second():
        begun.wait(60)
        call()

    waiting = threading.Thread(target=second)
    waiting.start()
    call()
    waiting.join(60)
    assert made == [1] and load_cohort(tmp_path / "c").name == "tiny"


def test_one_that_fails_leaves_nothing_and_ends_what_was_around_it(tmp_path):
    ended = []

    class Around:
        def __enter__(self):
            return self

        def __exit__(self, kind, *_):
            ended.append(kind)

    def make(work):
        (work / "something").write_text("intermediate")
        raise ValueError("no such stay")

    with pytest.raises(ValueError, match="no such stay"):
        prepare_once(asked(tmp_path / "c"), make, Progress("", show=False), around=(Around(),))
    assert ended == [ValueError] and {path.suffix for path in tmp_path.iterdir()} <= {".lock"}


def test_a_folder_that_holds_something_else_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not the tiny cohort"):
        prepare_once(asked(tmp_path / "c"), lambda _: pytest.fail("made"), Progress("", show=False))
    assert (tmp_path / "c" / "mine.txt").read_text() == "mine"


def test_every_preparation_goes_this_way():
    """No other module of the package looks, locks or writes by itself."""
    for word in ("already_prepared(", "write_cohort(", "workplace(out"):
        found = {path.relative_to(SHOWN).as_posix() for path in SHOWN.rglob("*.py") if word in path.read_text()}
        assert found <= {"once.py", *(["mimic/archives.py"] if word == "workplace(out" else [])}, word
