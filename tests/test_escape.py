"""What comes from elsewhere is shown as it is at every border, and never taken for code."""

from __future__ import annotations

import csv as csv_reader
import io
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest

from cm2 import escape
from cm2.plots.flow import flow_chart
from cm2.tables import differences, values
from cm2.tables.result import Cell, TableResult
from cm2.tables.text import markdown
from data_prep.mimic.flow import draw_flow

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a | b",
    "**bold** _x_ ~~y~~",
    "`code` {res}`x:y` {{ x }} $x^2$",
    "[link](javascript:alert(1)) ![x](y)",
    "line\nline\r\n# heading",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
    "\u202egnp.exe\u2066",
    "&lt;b&gt; \\",
    "=1+1",
    "\ud800",
)


def rendered(text: str) -> str:
    markdown_it = pytest.importorskip("markdown_it")
    return markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough").render(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_a_name_and_nothing_else(text):
    shown = rendered(f"| {escape.markdown(text)} | x |\n| --- | --- |\n| {escape.markdown(text)} | x |\n")
    tree = ET.fromstring(f"<r>{shown}</r>")
    assert {element.tag for element in tree.iter()} <= {"r", "table", "thead", "tbody", "tr", "th", "td"}
    assert [len(row) for row in tree.iter("tr")] == [2, 2]
    assert "".join(next(tree.iter("td")).itertext()) == escape.one_line(text).strip()
    assert not {"$", "{", "`"} & set(escape.markdown(text).replace("\\$", "").replace("\\{", "").replace("\\`", ""))


@pytest.mark.parametrize("text", HOSTILE)
def test_html_and_the_terminal(text):
    assert ET.fromstring(f'<r a="{escape.html(text)}">{escape.html(text)}</r>').text == escape.terminal(text)
    assert escape.terminal(text).replace("\n", "").isprintable() and "\n" not in escape.one_line(text)
    assert escape.terminal("Größe – λ²\tx\n") == "Größe – λ²\tx\n"


def test_a_spreadsheet_takes_no_name_for_a_formula():
    frame = pd.DataFrame({"=1+1": ["=cmd|'/c calc'!A1", "+x", "-1.5", "@x", "\tx", "-1e-3", None, "plain"], "n": range(8)})
    rows = list(csv_reader.reader(io.StringIO(escape.csv(frame).to_csv(index=False))))
    assert rows[0] == ["'=1+1", "n"]
    assert [row[0] for row in rows[1:]] == ["'=cmd|'/c calc'!A1", "'+x", "-1.5", "'@x", "'\tx", "-1e-3", "", "plain"]
    assert list(frame.columns) == ["=1+1", "n"], "the table itself stays"


def hostile_table(text: str) -> TableResult:
    difference = {"estimate": 0.1, "low": 0.0, "high": 0.2, "p": 0.5, "p_holm": 0.5}
    cell = Cell(text, text, text, text, 0.5, 0.4, 0.6, (0.5,), ((0.4, 0.6),), difference=difference, printed={"cohort": text, "value": 0.7})
    source = {"cohort": text, "cohort_checksum": text, "cm2": text, "date": text, "device": text}
    return TableResult("x", text, "results", text, (cell, replace(cell, row="other")), source)


@pytest.mark.parametrize("text", HOSTILE[:-1])  # half a pair of UTF-16 is refused where it is read
def test_a_table_is_safe_on_a_page_and_in_a_file(text):
    result = hostile_table(text)
    for shown in (markdown(result), values(result), differences(result)):
        assert "<script" not in shown and "<img" not in shown and "\x1b" not in shown and "\n# heading" not in shown
        tree = ET.fromstring(f"<r>{rendered(shown)}</r>")
        tags = {element.tag for element in tree.iter()}
        assert not tags & {"script", "img", "a", "code", "del"}, tags
        assert len({len(row) for row in tree.iter("tr")}) == 1
    for row in csv_reader.reader(io.StringIO(escape.csv(result.frame()).to_csv(index=False))):
        assert not any(word.startswith(("=", "@")) for word in row)


@pytest.mark.parametrize("text", HOSTILE)
def test_flow_charts(text, tmp_path):
    steps = [{"step": text, "stays": 20, "dropped": 0, "note": text}, {"step": text, "stays": 12, "dropped": 8}]
    draw_flow(steps, tmp_path / "flow.svg")
    tree = ET.parse(tmp_path / "flow.svg")
    assert {element.tag.rpartition("}")[2] for element in tree.iter()} <= {"svg", "title", "defs", "marker", "path", "rect", "text"}
    flow_chart(steps).savefig(tmp_path / "flow.png")
