"""Text from elsewhere at the borders it crosses: one function each for Markdown, HTML, figures, spreadsheets and the terminal.

Names of cohorts, modalities, tasks and rows, and paths, come from files that anyone may have written. They are checked where they are read
(`cm2.config.schema.plain_name`), and escaped where they are written.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_MARKDOWN = re.compile(r"[\\`\[\]|{}$*~]|(?<!\w)_|_(?!\w)")
_FORMULA = tuple("=+-@\t\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?")


def terminal(text: object, lines: bool = True) -> str:
    """Text for a terminal or a log: what would move the cursor, change colours or turn the direction is shown as its code.

    Args:
        text: anything that can be printed.
        lines: whether line breaks and tabs stay.
    """
    kept = "\n\t" if lines else ""
    return "".join(c if c in kept or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _code(c) for c in str(text))


def one_line(text: object) -> str:
    """An error's message in one line for a terminal."""
    return terminal("; ".join(filter(None, (line.strip() for line in str(text).splitlines()))), lines=False)


def markdown(text: object) -> str:
    """A name inside Markdown or MyST: shown as it is, never as markup, HTML, a role, mathematics or the end of a table's cell."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text)).replace("&", "&amp;").replace("<", "&lt;")


def drawn(text: object) -> str:
    """Text in a figure, where a dollar sign would begin a formula."""
    return terminal(text).replace("$", r"\$")


def html(text: object) -> str:
    """Text inside an element or attribute of HTML or SVG."""
    return _html.escape(terminal(text), quote=True)


def cell(text: object) -> object:
    """A value of a CSV file: text that a spreadsheet would take for a formula gets an apostrophe before it; numbers stay."""
    if not isinstance(text, str):
        return text
    text = terminal(text)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def csv(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as it may be written to a CSV file that people open; see `cell`."""
    safe = frame.rename(columns=cell)
    for place, kind in enumerate(frame.dtypes):
        if kind.kind not in "biufMm":
            safe.isetitem(place, frame.iloc[:, place].map(cell, na_action="ignore").array)
    return safe


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
