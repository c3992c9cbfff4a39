"""Signs of life: plain lines by the clock off a terminal, a bar on one, nothing where nobody asked, and no thread that stays."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
import time
import warnings

import pytest
from joblib import delayed, parallel_config

from cm2.progress import Progress, about, duration, quiet_libraries
from cm2.progress.words import count, listed, time_left


@pytest.fixture(autouse=True)
def outside_a_chapter(monkeypatch):
    for name in ("CM2_RESULTS", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    assert "cm2 progress" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.01)
    monkeypatch.setattr("cm2.progress.display.REFRESH", 0.01)


@pytest.fixture
def heard(capsys):
    """Waits until a line says something, and gives every line up to then; nothing may be on the output of results."""
    said = []

    def wait(pattern=None):
        deadline = time.monotonic() + 60
        while True:
            captured = capsys.readouterr()
            assert not captured.out
            said.extend(captured.err.splitlines())
            if pattern is None or any(re.fullmatch(pattern, line) for line in said):
                return said
            assert time.monotonic() < deadline, f"no line {pattern}: {said[-3:]}"
            time.sleep(0.002)

    return wait


@pytest.mark.parametrize(
    ("seconds", "taken", "expected"),
    [
        (0.04, "0.0 s", "5 s"),
        (7.44, "7.4 s", "5 s"),
        (45.9, "45 s", "45 s"),
        (59.9, "59 s", "1 min"),
        (125, "2 min 5 s", "2 min"),
        (3599, "59 min 59 s", "1 h"),
        (12_000, "3 h 20 min", "3 h 20 min"),
        (93_600, "26 h 0 min", "26 h"),
    ],
)
def test_times_are_said_in_words(seconds, taken, expected):
    assert (duration(seconds), about(seconds)) == (taken, expected)


def test_time_left_follows_from_what_this_call_did():
    assert time_left(0.5, 0, 60) == "; about 1 min left"
    assert time_left(0.75, 0.5, 60) == "; about 1 min left"  # half was done before
    assert time_left(0.5, 0, 60, limit=True) == "; at most 1 min left"
    assert time_left(0, 0, 60) == time_left(0.5, 0.5, 60) == time_left(1, 0, 60) == ""
    assert time_left(0.001, 0, 60) == ""  # the start of the first step says nothing about the others
    assert time_left(0.001, 0, 3600) == "; about 999 h left"


def test_counts_and_lists_in_words():
    assert count(3, 20, "run") == "3 of 20 runs"
    assert count(3, 2000, "batch") == "3 of 2,000 batches"
    assert count(1_250_000, 4_000_000, "B") == "1.2 of 4.0 MB" and count(1_250_000, None, "B") == "1.2 MB"
    assert count(0, 1, "run") == count(3, None, "run") == ""
    assert listed(["a"]) == "a" and listed(["a", "b"]) == "a and b" and listed(["a", "b", "c", "d"]) == "a and b and 2 more"


def test_a_long_job_says_its_count_and_the_time_left(soon, heard):
    with Progress("table 2", 20, "run") as progress:
        progress.advance(3)
        heard(r"table 2: 3 of 20 runs \(.* s\); about .* left")
        progress.advance(16)
        heard(r"table 2: 19 of 20 runs \(.* s\); about .* left")
    assert re.fullmatch(r"table 2: done in .* s", heard()[-1])
    assert sum("done in" in line for line in heard()) == 1


def test_no_more_than_a_line_each_interval(heard, monkeypatch):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.05)
    started = time.monotonic()
    with Progress("work", 3) as progress:
        for _ in progress.each(range(3)):
            heard(r"work.*") if not progress.done else None
    assert len(heard()) <= (time.monotonic() - started) / 0.05 + 1


def test_what_is_soon_done_says_nothing(heard):
    with Progress("table 2", 3, "run") as progress:
        assert list(progress.each("abc")) == ["a", "b", "c"]
    assert not heard()


def test_parts_become_parts_of_the_line(soon, heard):
    with Progress("table 2"), Progress("", 20, "run") as runs:
        runs.advance(3)
        with Progress("training cm2 seed 1") as run:
            with Progress("", 30, "batch", limit=True) as epochs:
                epochs.note = "epoch 7 of 30"
                heard(r"table 2: 3 of 20 runs, training cm2 seed 1, epoch 7 of 30 \(.*\); about .* left")
                assert runs.state().share == pytest.approx(3 / 20)
                epochs.advance(15)
                assert runs.state().share == pytest.approx(3.5 / 20)
            run.advance()
            assert runs.state().share == pytest.approx(4 / 20)
        assert runs.state().words == ("3 of 20 runs",) and runs.state().share == pytest.approx(3 / 20)
    with Progress("training cm2 seed 1"), Progress("", 30, limit=True) as epochs:
        epochs.advance(15)
        heard(r"training cm2 seed 1: 15 of 30 \(.*\); at most .* left")


def test_what_an_earlier_call_did_tells_nothing_about_the_time():
    with Progress("search", 50, "cell", show=False) as progress:
        progress.skip(40)
        progress._started -= 1000
        assert progress.state().share == 0.8 and progress.time_left() == ""
        progress.advance(5)
        assert progress.time_left() == "; about 17 min left"


def test_stages_take_unlike_times(soon, heard):
    with Progress("preparing mimic4", 8, even=False) as progress:
        progress.stage("reading events")
        heard(r"preparing mimic4: reading events \([^;]*")
        progress.stage("films")
        assert progress.done == 1
        with Progress("", 2000, "film") as films:
            films.advance(1200)
            heard(r"preparing mimic4: films, 1,200 of 2,000 films \(.*\); about .* left of this stage")
        with Progress("", 100, "B", measure=lambda: 50.0):
            heard(r"preparing mimic4: films, 0.0 of 0.0 MB \(.*\); about .* left of this stage")


def test_one_long_step_speaks_as_well(soon, heard):
    with Progress("evaluating"):
        assert len(heard(r"evaluating \(.*\)")) >= 1


def test_an_exception_ends_it(soon, heard):
    with pytest.raises(KeyboardInterrupt), Progress("outer"), Progress("inner", 2):
        heard(r"outer: inner, 0 of 2 .*")
        raise KeyboardInterrupt
    assert re.fullmatch(r"outer: stopped after .*", heard()[-1])
    with Progress("next", 2):
        heard(r"next: 0 of 2 .*")


@pytest.mark.parametrize("stream", [None, "closed", "broken"])
def test_no_error_stream_is_no_error(stream, soon, monkeypatch):
    class Broken(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    there = {None: None, "closed": io.StringIO(), "broken": Broken()}[stream]
    if stream == "closed":
        there.close()
    monkeypatch.setattr(sys, "stderr", there)
    with Progress("work", 2) as progress:
        time.sleep(0.05)
        progress.advance()


def test_an_error_stream_that_goes_away(soon, heard, monkeypatch):
    with Progress("work", 2):
        heard(r"work: 0 of 2 .*")
        monkeypatch.setattr(sys, "stderr", None)


@pytest.mark.parametrize("reason", ["chapter", "not asked", "another process of the group"])
def test_nothing_is_said(reason, soon, heard, monkeypatch, tmp_path):
    if reason == "chapter":
        monkeypatch.setenv("CM2_RESULTS", str(tmp_path))
    if reason == "another process of the group":
        monkeypatch.setenv("LOCAL_RANK", "1")
    with Progress("table 2", show=reason != "not asked") as table, Progress("", 3, "run") as runs:
        assert not table.shown and not runs.shown
        assert runs.parallel([delayed(pow)(2, k) for k in range(3)]) == [1, 2, 4]
        time.sleep(0.05)
    assert not heard()


def test_a_part_that_is_not_to_be_shown_is_not(soon, heard):
    with Progress("table 2", 4, "run"), Progress("secret", show=False) as part, Progress("of it"):
        assert not part.shown
        assert not any("secret" in line or "of it" in line for line in heard(r"table 2: 0 of 4 runs .*"))


def trained(gate, seed):
    with Progress(f"training seed {seed}"), Progress("", 4, "batch") as progress:
        progress.note, progress.done = f"epoch {seed} of 4", 2
        assert gate.wait(60)
    return seed


def test_processes_say_what_they_are_at(soon, heard):
    """Threads stand for the processes: what is not called where it comes from leaves notes."""
    gate = threading.Event()
    three = r"table 2: 0 of 3 runs, training seed 3, epoch 3 of 4 and training seed 1, epoch 1 of 4 and 1 more \(.*\); about .* left"
    threading.Thread(target=lambda: (heard(three), gate.set())).start()
    with Progress("table 2"), Progress("", 3, "run") as runs, parallel_config(backend="threading"):
        assert runs.parallel([delayed(trained)(gate, seed) for seed in (3, 1, 2)], jobs=3) == [3, 1, 2]
        assert runs.done == 3


def test_an_error_elsewhere_comes_back():
    with pytest.raises(ZeroDivisionError), Progress("", 2, "run") as runs, parallel_config(backend="threading"):
        runs.parallel([delayed(divmod)(1, 0), delayed(divmod)(1, 1)], jobs=2)


SCRIPT = """
import sys, threading
import cm2.progress.display as display
from cm2.progress import Progress
display.REFRESH = 0.01
with Progress("table 2"), Progress("", 4, "run") as runs:
    runs.advance(3)
    with Progress("training cm2 seed 1") as run:
        sys.stdin.readline()  # until the bar was seen
print("result", *[thread.name for thread in threading.enumerate()])
"""


def test_on_a_terminal_a_bar_is_shown():
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x18\x00\xa0\x00" + bytes(4))  # 24 lines of 160 letters
    environment = {name: value for name, value in os.environ.items() if name not in ("CM2_RESULTS", "LOCAL_RANK")} | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment
    )
    os.close(theirs)
    seen = b""
    while not re.search(rb"table 2:  75%.*3/4 \[.*training cm2 seed 1", seen):
        seen += os.read(ours, 4096)
        assert len(seen) < 1_000_000, seen[-1000:]
    out, _ = process.communicate("\n", timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert out == "result MainThread\n"


def test_warnings_of_other_libraries_that_say_nothing_to_the_user():
    says = "A worker stopped while some jobs were given to the executor. This can be caused by a too short worker timeout."
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quiet_libraries()
        warn = lambda text, module, kind=UserWarning: warnings.warn_explicit(text, kind, "x.py", 1, module=module)
        warn(says, "joblib.externals.loky.process_executor")
        warn("The dataloader does not have many workers", "lightning.pytorch.trainer.connectors.data_connector")
        assert not shown
        warn("something else", "joblib.externals.loky.process_executor")
        warn(says, "cm2.methods.cm2")
        warn("overflow", "numpy", RuntimeWarning)
        assert len(shown) == 3


def test_no_process_at_all_is_refused():
    with pytest.raises(ValueError, match="jobs: expected 1 or more, or -1 for one on each core, got 0"):
        Progress("work").parallel([], 0)
