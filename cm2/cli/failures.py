"""What a command says when it fails: one line for what the user can mend, and for a fault of this package a log of where it is."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
import traceback
from pathlib import Path
from typing import Any

import typer

from cm2.cli.about import version_line
from cm2.environment.extras import explain
from cm2.errors import InputError, of_the_system, out_of_memory
from cm2.escape import one_line, terminal
from cm2.results import home

USERS, OURS = 2, 70
"""Exit codes: the user can mend it, or it is a fault of this package (EX_SOFTWARE)."""
DEBUG = "--debug"
_PACKAGES = tuple(str(Path(__file__).resolve().parents[2] / name) + os.sep for name in ("cm2", "data_prep"))
_CLICK: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


def report(error: BaseException, arguments: list[str], debug: bool) -> int:
    """Says on stderr what is wrong, and returns the exit code.

    Args:
        error: what ended the command.
        arguments: the words of the command line.
        debug: whether the traceback is shown, of the user's errors too.
    """
    if type(error).__name__ == "NoArgsIsHelpError" and isinstance(error, _CLICK):
        typer.echo(error.format_message(), err=True)
        return USERS
    if isinstance(error, typer.Abort) and error.__cause__ is not None:  # click takes the end of any file for that of the input
        error = error.__cause__
    if debug:
        traceback.print_exception(error)
    if (message := in_one_line(error)) is not None:
        _say(message)
        return USERS
    where = _write_log(error, arguments)
    _say(f"this is a fault of cm2, not of what you gave: {type(error).__name__} {_place(error)}. {_what_to_do(where, debug)}")
    return OURS


def in_one_line(error: BaseException) -> str | None:
    """The message of an error that the user can mend; None for any other."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, _CLICK):
        context = getattr(error, "ctx", None)
        return f"{error.format_message().rstrip('.')}; see `{context.command_path if context else 'cm2'} --help`"
    if isinstance(error, ImportError):
        return explain(error)
    return (of_the_system(error) if isinstance(error, OSError) else None) or out_of_memory(error)


def _say(message: str) -> None:
    typer.secho(f"cm2: {one_line(_guarded(message))}", err=True, fg=typer.colors.RED)


def _guarded(text: str) -> str:
    """The text without what names a single record of MIMIC."""
    # importing it takes seconds, and an error before anybody imported it is about no cohort
    disclosure = sys.modules.get("cm2.cohorts.disclosure")
    return text if disclosure is None else disclosure.guard_text(text)


def _what_to_do(log: Path | None, debug: bool) -> str:
    ask = "Please report it as SECURITY.md and the form for bugs say: a log may quote your data"
    return f"{f'The log is {log}' if log else 'No log could be written'}{'' if debug else f', {DEBUG} shows it here'}. {ask}"


def _place(error: BaseException) -> str:
    """The innermost line of this package that was being executed; never the message, which may quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if os.path.realpath(frame.filename).startswith(_PACKAGES)]
    if not frames:
        return ""
    last = (own or frames)[-1]
    return f"in {'/'.join(Path(last.filename).parts[-3:])}, line {last.lineno}"


def _write_log(error: BaseException, arguments: list[str]) -> Path | None:
    """Writes a private file named after the traceback, so that the same fault has the same log; None where no file can be written."""
    text = _guarded("".join(traceback.format_exception(error)))
    folder = home() / "errors"
    path = folder / f"{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:12]}.log"
    words = [version_line(), platform.platform(), f"cm2 {shlex.join(arguments)}", "", text]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text("\n".join(words), encoding="utf-8", errors="replace")
    except OSError:
        return None
    return path


def say(text: object, err: bool = False) -> None:
    """Prints a result, or on stderr a warning. Names and paths in it cannot steer the terminal."""
    typer.echo(terminal(text), err=err)


def without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The words of a command line without ``--debug``, which may stand anywhere, and whether it was among them or ``CM2_DEBUG`` is set."""
    rest = [word for word in arguments if word != DEBUG]
    return rest, len(rest) < len(arguments) or bool(os.environ.get("CM2_DEBUG"))


def command_line() -> list[str]:
    """The words after the program's name; bytes that are no UTF-8 are shown as codes."""
    return [word.encode(errors="surrogateescape").decode(errors="backslashreplace") for word in sys.argv[1:]]
