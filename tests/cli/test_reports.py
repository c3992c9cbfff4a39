"""What a command says when it fails: the user's errors in one line with exit code 2, faults of the package with a log."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from cm2 import cli
from cm2.errors import InputError, of_the_system, out_of_memory


@pytest.fixture
def fails(monkeypatch, capsys, tmp_path):
    """Runs a command that raises an error; returns exit code, stdout and stderr."""
    monkeypatch.setenv("CM2_HOME", str(tmp_path / "home"))

    def fail(error, *words):
        def refuse(*_, **__):
            raise error

        monkeypatch.setattr("cm2.book.build", refuse)
        return run(monkeypatch, capsys, *(words or ["book"]))

    return fail


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["cm2", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out = capsys.readouterr()
    return stopped.value.code, out.out, out.err


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (InputError("seed: expected int, got 'x'; give a number"), "cm2: seed: expected int, got 'x'; give a number"),
        (InputError("two\nlines \x1b[2J"), "cm2: two; lines \\x1b[2J"),
        (OSError(errno.ENOSPC, "x", "folder"), "cm2: folder: no space left on the device; free some"),
        (OSError(errno.EACCES, "x", "folder"), "cm2: folder: permission denied; change"),
        (OSError(errno.EROFS, "x"), "cm2: the file system can only be read"),
        (OSError(errno.ENOENT, "x", b"file"), "cm2: file: there is no such file"),
        (MemoryError(), "cm2: out of memory; lower"),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), "cm2: out of memory; lower"),
    ],
)
def test_what_the_user_can_mend_is_one_line(fails, error, shown, tmp_path):
    code, _, err = fails(error)
    assert code == 2 and err.startswith(shown) and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "home").exists(), "no log"


@pytest.mark.parametrize(
    "error",
    [ValueError("of a library: stay 30012345"), KeyError("x"), RuntimeError("y"), OSError("no number"), EOFError(), RecursionError()],
)
def test_any_other_error_is_a_fault_of_ours(fails, error, tmp_path):
    code, _, err = fails(error)
    (log,) = (tmp_path / "home" / "errors").iterdir()
    assert code == 70 and len(err.strip().splitlines()) == 1
    assert err.strip().startswith(
        f"cm2: this is a fault of cm2, not of what you gave: {type(error).__name__} in cm2/cli/__init__.py, line "
    )
    assert str(log) in err and "--debug" in err and "SECURITY.md" in err
    assert "30012345" not in err, "a message may quote data"
    text = log.read_text()
    assert "Traceback" in text and "cm2 book" in text and text.startswith("cm2 ")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    fails(type(error)(*error.args))
    assert len(list(log.parent.iterdir())) == 1, "the same fault has the same log"


@pytest.mark.parametrize("words", [["--debug", "book"], ["book", "--debug"], ["book", "--jobs", "1", "--debug"]])
@pytest.mark.parametrize("error", [InputError("x; y"), KeyError("x")])
def test_debug_shows_where(fails, error, words):
    code, _, err = fails(error, *words)
    assert code == (2 if isinstance(error, InputError) else 70)
    assert "Traceback" in err and "cm2: " in err.splitlines()[-1]


def test_a_log_that_cannot_be_written_is_no_second_error(fails, monkeypatch):
    monkeypatch.setenv("CM2_HOME", os.devnull)
    code, _, err = fails(KeyError("x"))
    assert code == 70 and "No log could be written" in err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["train"], "Missing option '--cohort'"),
        (["trian"], "No such command 'trian'"),
        (["train", "--cohort", "x", "--seed", "a"], "valid integer"),
        (["train", "--cohort", "x", "--sed", "1"], "No such option: --sed"),
        (["runs", "\x1b[2J"], "unexpected extra argument"),
    ],
)
def test_a_wrong_command_line_is_one_line(words, shown, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2 and shown in err and "--help`" in err
    assert len(err.strip().splitlines()) == 1 and "\x1b" not in err


def test_a_closed_pipe_ends_quietly(tmp_path):
    import subprocess

    command = f"{sys.executable} -m cm2 --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr


def test_what_is_printed_cannot_steer_the_terminal(monkeypatch, capsys, tmp_path):
    code, out, err = run(monkeypatch, capsys, "verify", tmp_path / "\x1b[2J")
    assert code == 2 and "\x1b" not in out + err and "\\x1b[2J" in err


def test_errors_of_the_system_and_of_the_memory_are_told_apart():
    assert of_the_system(OSError("no number")) is None and of_the_system(OSError(errno.EBADF, "x")) is None
    assert out_of_memory(RuntimeError("shapes differ")) is None and out_of_memory(KeyError()) is None


def test_every_command_prints_through_one_function():
    """Which escapes; ``typer.echo`` would not."""
    sources = {path: path.read_text(encoding="utf-8") for path in Path(cli.__file__).parent.glob("*.py")}
    assert {path.name for path, text in sources.items() if "typer.echo(" in text} == {"about.py", "failures.py"}
