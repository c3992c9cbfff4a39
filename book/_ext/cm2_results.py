"""The role ``{res}``: a recorded number in the text, its provenance as a tooltip; a missing one fails the build.

``{res}`training_cm2:alpha` `` prints the value with its recorded format, ``{res}`training_cm2:alpha|.1f` `` with another.
Records of the chapters of this build are looked up in ``_results/``, committed ones in ``results/``.
"""

import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from cm2.book.spread import printed

logger = logging.getLogger(__name__)
_FOLDERS = ("_results", "results")


class ResultNode(nodes.Inline, nodes.TextElement):
    """A number and where it comes from."""


class MissingNode(nodes.Inline, nodes.TextElement):
    """A number of a chapter that stopped before it was computed."""


def stopped(folder: str | Path) -> list[str]:
    """Chapters of the staged book that were not executed to their end."""
    path = Path(folder) / "_provenance" / "stopped.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


class ResultRole(SphinxRole):
    """Look a result up and put it into the text."""

    inliner: Inliner

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The node, or a warning (an error in a strict build) and the key in its place."""
        key, _, wanted = self.text.partition("|")
        chapter, _, name = key.partition(":")
        entry, known = self._look_up(chapter, name)
        if entry is None and chapter in stopped(self.env.srcdir):
            return [MissingNode(key, "", nodes.Text("missing"), chapter=chapter)], []
        if entry is None:
            logger.warning(
                "no result %r is recorded; chapter %r has: %s", key, chapter, ", ".join(known) or "none", location=self.get_location()
            )
            return [nodes.literal(text=key)], []
        try:
            text = self._text(chapter, name, entry["value"], wanted or entry.get("format", ""))
        except ValueError as error:
            logger.warning("result %r cannot be printed: %s", self.text, error, location=self.get_location())
            text = str(entry["value"])
        node = ResultNode(key, "", nodes.Text(text))
        node["provenance"] = _sentence(key, entry.get("provenance", {}))
        return [node], []

    def _text(self, chapter: str, name: str, value: float | str, wanted: str) -> str:
        """The value with the digits that hold on every machine, where this is known."""
        path = Path(self.env.srcdir) / "_provenance" / f"{chapter}.spread.json"
        self.env.note_dependency(str(path))
        moved = json.loads(path.read_text(encoding="utf-8")).get(f"{chapter}:{name}", 0.0) if path.is_file() else 0.0
        return format(value, wanted) if isinstance(value, str) else printed(value, wanted, moved)

    def _look_up(self, chapter: str, name: str) -> tuple[dict[str, Any] | None, list[str]]:
        known: list[str] = []
        for folder in _FOLDERS:
            path = Path(self.env.srcdir) / folder / f"{chapter}.json"
            self.env.note_dependency(str(path))
            entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            if name in entries:
                return entries[name], []
            known += entries
        return None, known


def _sentence(key: str, provenance: dict[str, Any]) -> str:
    said = [f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}" for name, value in provenance.items()]
    return f"{key}: {'; '.join(said + ([] if 'machine' in provenance else ['machine not recorded']))}"


def _visit_html(self: Any, node: ResultNode) -> None:
    self.body.append(f'<span class="cm2-res" tabindex="0" title="{escape(node["provenance"], quote=True)}">')


def _depart_html(self: Any, node: nodes.Element) -> None:
    self.body.append("</span>")


def _visit_missing(self: Any, node: MissingNode) -> None:
    chapter = escape(node["chapter"], quote=True)
    self.body.append(f'<span class="cm2-missing" tabindex="0" title="{chapter} stopped before it computed this">')


def _pass(self: Any, node: nodes.Element) -> None:
    """Text builders and LaTeX print the number alone."""


def setup(app: Sphinx) -> None:
    """Register the role and its node."""
    plain = (_pass, _pass)
    app.add_node(ResultNode, html=(_visit_html, _depart_html), latex=plain, text=plain, man=plain, texinfo=plain)
    app.add_node(MissingNode, html=(_visit_missing, _depart_html), latex=plain, text=plain, man=plain, texinfo=plain)
    app.add_role("res", ResultRole())
