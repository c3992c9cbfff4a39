"""What the style sheet says itself: on a phone it repeats the heads of tables whose rows it draws as cards."""

import re

import nbformat
import pytest

from tests.book.minibook import REPOSITORY

SHEET = (REPOSITORY / "book" / "_static" / "cm2.css").read_text(encoding="utf-8")
_LIST_TABLE = re.compile(r"```\{list-table\}[^\n]*\n(.*?)\n```", re.DOTALL)
_LEDGER = re.compile(r"```\{table\}[^\n]*\n:class: cm2-ledger\n\s*\|([^\n]*)\|\n")


def heads():
    """Name and heads of every table that is drawn as cards."""
    for path in sorted((REPOSITORY / "book").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            for body in _LIST_TABLE.findall(cell.source) if cell.cell_type == "markdown" else ():
                name = re.search(r"^:name: (table-\S+-(?:three|paper))$", body, re.MULTILINE)
                if name:
                    first = body[body.index("* -") + 3 :].split("\n* -", 1)[0]
                    yield name[1], [head.strip() for head in first.split("\n  -")]
            for first in _LEDGER.findall(cell.source):
                yield "ledger", [head.strip() for head in first.split("|")]


def on_cards(name):
    """The heads that the style sheet writes: the rule of the table's name, else that of all."""
    own = re.search(rf"#{name}\b(.*?)\n    (?:&|\}})", SHEET, re.DOTALL)
    rule = own or re.search(r"&\.cm2-ledger \{(.*?)\n    \}" if name == "ledger" else r"&:is\(\[id\$=.*?\{(.*?)\n    \}", SHEET, re.DOTALL)
    return re.findall(r'content: "(.*?): "', rule[1])


def plain(head):
    return re.sub(
        r"^Released (code|program)$", "Released", head.replace("`", "").replace("where in this book", "In this book")
    ).capitalize()


@pytest.mark.parametrize(("name", "printed"), list(heads()))
def test_cards_have_the_heads_of_their_table(name, printed):
    said = [head.capitalize() for head in on_cards(name)]
    assert [plain(head) for head in printed][-len(said) :] == said
    assert len(printed) - len(said) in (0, 1) or len(said) == 1, "every column but that of the labels has a head"


def test_there_are_cards():
    assert len(list(heads())) > 10
