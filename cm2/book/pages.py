"""Notebooks as the reader sees them: an executed one without traces of the machine, and a failed one with the place and the cause."""

import copy
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cm2.book.chapters import Chapter, assignments

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# with IPython's colour codes
_COUNT = re.compile(r"(Cell(?:\x1b\[[0-9;]*m|\s)*In\s?)\[(\d+)\]")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
_FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1`*\s*$", re.MULTILINE | re.DOTALL)
_GATE = re.compile(r"\{solution-start\}\s*(\S+)")


def reader_notebook(path: Path, chapter: Chapter) -> dict[str, Any]:
    """An executed notebook without paths, times and papermill's insertions, its cells numbered as the reader counts them.

    The cell of injected parameters stays if it changes a default.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metadata"].pop("papermill", None)
    content["cells"] = [cell for cell in content["cells"] if _belongs(cell, chapter)]
    counts: dict[str, int] = {}
    for number, cell in enumerate((cell for cell in content["cells"] if cell["cell_type"] == "code"), 1):
        if cell.get("execution_count") is not None:
            counts[str(cell["execution_count"])] = number
            cell["execution_count"] = number
    for cell in content["cells"]:
        for name in ("papermill", "execution"):
            cell["metadata"].pop(name, None)
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if _is_shown(output)]
        for output in cell.get("outputs", ()):
            if "execution_count" in output:
                output["execution_count"] = cell["execution_count"]
            if output.get("output_type") == "error":
                output["traceback"] = [_COUNT.sub(lambda m: f"{m[1]}[{counts.get(m[2], m[2])}]", line) for line in output["traceback"]]
    return content


def _is_shown(output: Mapping[str, Any]) -> bool:
    """Not warnings, which name temporary files of this machine; and not an empty Markdown, of which a page would show the name."""
    text = output.get("data", {}).get("text/markdown")
    return output.get("name") != "stderr" and (text is None or bool("".join(text).strip()))


def _belongs(cell: Mapping[str, Any], chapter: Chapter) -> bool:
    tags = set(cell["metadata"].get("tags", []))
    if "papermill-error-cell-tag" in tags:
        return False
    return "injected-parameters" not in tags or not _repeats_defaults(cell, chapter)


def _repeats_defaults(cell: Mapping[str, Any], chapter: Chapter) -> bool:
    injected = assignments(["".join(cell["source"])])
    return all(chapter.defaults.get(name) == value for name, value in injected.items())


def stopped_at(path: Path, chapter: Chapter) -> int:
    """Position, in the reader's notebook, of the cell that raised, else of the last one that was started."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    raised = [position for position, cell in enumerate(cells) if error_of(cell)]
    begun = [p for p, cell in enumerate(cells) if cell["cell_type"] == "code" and cell["metadata"].get("papermill", {}).get("start_time")]
    last = raised[0] if raised else max(begun, default=0)
    return sum(_belongs(cell, chapter) for cell in cells[:last])


def error_of(cell: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The output of the exception that a cell raised: ``ename``, ``evalue``, ``traceback``."""
    return next((output for output in cell.get("outputs", ()) if output.get("output_type") == "error"), None)


def place(cells: Sequence[Mapping[str, Any]], position: int) -> str:
    """The place of a cell in the reader's notebook: ``under "Exercises" (solution of ex-tails-1), In [9], line 2``."""
    heading, solution = "", ""
    for cell in cells[:position]:
        if cell["cell_type"] != "markdown":
            continue
        source = "".join(cell["source"])
        heading = next(iter(reversed(_HEADING.findall(_FENCED.sub("", source)))), heading)
        solution = "" if "{solution-end}" in source else next(iter(reversed(_GATE.findall(source))), solution)
    words = [f'under "{heading}"' + (f" (solution of {solution})" if solution else "")] if heading else []
    words.append(f"In [{count(cells, position)}]")
    return ", ".join([*words, *(f"line {line}" for line in _lines(cells, position)[:1])])


def exception(cells: Sequence[Mapping[str, Any]], position: int) -> str:
    """The exception of a cell: name and message, or the source line if it has no message, as with a bare ``assert``."""
    error = error_of(cells[position])
    if error is None:
        return ""
    source = "".join(cells[position]["source"]).splitlines()
    lines = [source[int(line) - 1].strip() for line in _lines(cells, position)[:1] if int(line) <= len(source)]
    return f"{error['ename']}: {error['evalue'] or ' '.join(lines)}"


def _lines(cells: Sequence[Mapping[str, Any]], position: int) -> list[str]:
    error = error_of(cells[position])
    return _line_numbers(error["traceback"], count(cells, position)) if error else []


def count(cells: Sequence[Mapping[str, Any]], position: int) -> int:
    """The number the reader sees beside a code cell."""
    return sum(cell["cell_type"] == "code" for cell in cells[: position + 1])


def _line_numbers(traceback: Sequence[str], number: int) -> list[str]:
    """Lines of the cell ``In [number]`` in a traceback, outermost first, including that of a syntax error."""
    text = _ANSI.sub("", "\n".join(traceback))
    return re.findall(rf"Cell In\s?\[{number}\], line (\d+)", text)


def stopped_page(content: Mapping[str, Any], position: int, where: str, what: str, predecessors: Sequence[str] = ()) -> dict[str, Any]:
    """A half-executed notebook as a page: a box at the top states where it stopped, a red one at that place states the cause."""
    page = copy.deepcopy(dict(content))
    cells = page["cells"]
    stopped = cells[position]
    tags = set(stopped["metadata"].get("tags", ())) - {"remove-cell", "remove-input", "remove-output", "hide-cell", "hide-output"}
    stopped["metadata"] = {**stopped["metadata"], "tags": sorted(tags)}
    box = box_cell("danger", "Execution stopped here", f"```text\n{fenced(what)}\n```\n\nNothing below this box was executed.")
    cells.insert(_outside_gates(cells, position) + 1, box)
    notice = f"It stopped {where}; a red box marks the place. What stands below it was not executed, and its numbers are missing."
    notice += f" It lacked {missing_results(predecessors)}" if predecessors else ""
    return with_notice(page, "danger", "This chapter was not executed to its end", notice)


def missing_results(names: Sequence[str]) -> str:
    """The results that a chapter lacks, in markdown."""
    return f"the results of {', '.join(f'[]({name}.ipynb)' for name in names)}, which stopped before the end."


def _outside_gates(cells: Sequence[Mapping[str, Any]], position: int) -> int:
    """Position of the cell, or of the gate that closes the folded solution around it."""
    gates = [("".join(cell["source"]), place) for place, cell in enumerate(cells) if cell["cell_type"] == "markdown"]
    inside = False
    for source, at in gates:
        if at > position:
            return at if inside and "{solution-end}" in source else position
        inside = "{solution-start}" in source or (inside and "{solution-end}" not in source)
    return position


def with_notice(content: Mapping[str, Any], kind: str, title: str, text: str) -> dict[str, Any]:
    """The notebook with a box below its title."""
    page = copy.deepcopy(dict(content))
    first = next((position for position, cell in enumerate(page["cells"]) if cell["cell_type"] == "markdown"), 0)
    page["cells"].insert(first + 1, box_cell(kind, title, text))
    return page


def box_cell(kind: str, title: str, text: str) -> dict[str, Any]:
    """A markdown cell with an admonition; ``kind`` is ``danger`` or ``warning``."""
    source = f"````{{admonition}} {title}\n:class: {kind} cm2-stopped\n\n{text}\n````"
    return {"cell_type": "markdown", "id": f"cm2-{kind}", "metadata": {}, "source": source}


def fenced(text: str) -> str:
    """Text that cannot close the code fence around it."""
    return _ANSI.sub("", text).replace("```", "'''")
