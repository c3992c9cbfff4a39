"""A line under each chapter: which commit, profile, seed and parameters its numbers come from."""

import json
from html import escape
from pathlib import Path
from typing import Any

from cm2_results import stopped
from sphinx.application import Sphinx

from cm2.environment.machine import describe


def _record(app: Sphinx, page: str) -> Path:
    return Path(app.srcdir) / "_provenance" / f"{page.rsplit('/', 1)[-1]}.json"


def _depend(app: Sphinx, page: str, source: list[str]) -> None:
    if (record := _record(app, page)).is_file():
        app.env.note_dependency(str(record))


def _append(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    record = _record(app, page)
    if doctree is None or not record.is_file() or "body" not in context:
        return
    known = json.loads(record.read_text(encoding="utf-8"))
    facts = [f"{name} <code>{escape(str(value))}</code>" for name, value in known["parameters"].items()]
    if known.get("commit"):
        facts.insert(0, f"commit <code>{escape(known['commit'])}</code>")
    if known.get("machine"):
        facts.append(f"on {escape(describe(known['machine']))}")
    context["body"] += (
        f'<aside class="cm2-provenance" aria-label="Provenance">Executed from <code>{escape(page)}.ipynb</code>: {", ".join(facts)}.</aside>'
    )


def _announce(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """A bar on every page of a book in which a chapter stopped: nothing half-made passes for whole."""
    if names := stopped(app.srcdir):
        words = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        stops = "a chapter that was" if len(names) == 1 else f"{len(names)} chapters that were"
        context["theme_announcement"] = f"This copy of the book is incomplete: it has {stops} not executed to the end ({escape(words)})."


def setup(app: Sphinx) -> None:
    """Connect to Sphinx."""
    app.connect("source-read", _depend)
    app.connect("html-page-context", _append)
    app.connect("html-page-context", _announce)
