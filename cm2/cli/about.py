"""``cm2 --version``."""

from __future__ import annotations

import platform
from pathlib import Path

import typer

from cm2.environment.version import version


def version_line() -> str:
    """Versions of this package, Python and torch, with the commit in a checkout: ``cm2 0.1.0, commit 0123abcdef, Python ...``."""
    from importlib import metadata

    commit = _commit(Path(__file__).resolve().parents[2])
    parts = [f"cm2 {version()}", *([f"commit {commit}"] if commit else []), f"Python {platform.python_version()}"]
    return ", ".join([*parts, f"torch {metadata.version('torch')}"])


def show_version(wanted: bool) -> None:
    """Prints the versions and exits, if wanted."""
    if wanted:
        typer.echo(version_line())
        raise typer.Exit


def _commit(root: Path) -> str:
    """Commit of the checkout that contains this package; empty if there is none."""
    if not (root / ".git").exists():  # git would report the commit of any repository further up
        return ""
    from cm2.book.cache import commit

    return commit(root)
