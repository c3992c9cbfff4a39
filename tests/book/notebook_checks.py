"""What every chapter must look like before it is executed: the template, its exercises, its figures."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

LONGEST_CELL = 40
EXERCISES = 3

# the template's sections, in order, each with the words by which its heading (or bold lead) is known
TEMPLATE = (
    ("claim", r"claim"),
    ("what you need first", r"what you need first|prerequisites"),
    ("time", r"\btime\b"),
    ("what the paper prints / what its code does / what we compute", r"what the paper prints"),
    ("summary", r"^summary"),
    ("exercises", r"^exercises"),
)
_HEADING = re.compile(r"^(?:#{1,4}\s+(.*)|\*\*([^*]+)\*\*.*)$", re.MULTILINE)
_EXERCISE = re.compile(r"\{exercise(?:-start)?\}[^\n]*\n(?:\s*:[^\n]*\n)*?\s*:label:\s*(\S+)")
_SOLUTION = re.compile(r"\{solution-start\}\s*(\S+)([^`]*)")
_DRAWS = re.compile(r"plt\.show\(|\.savefig\(|^\s*(?:fig|figure)\s*;?\s*$", re.MULTILINE)


def problems(path: Path) -> list[str]:
    """Everything wrong with a chapter's notebook, one line each."""
    notebook = nbformat.read(path, as_version=4)
    checks = [_clean(notebook), _parameters(notebook), _short_cells(notebook), _figures(notebook), _stray(notebook), _silent(notebook)]
    checks += [_template(notebook), _exercises(notebook)]
    return [problem for check in checks for problem in check]


def _cells(notebook: Any, kind: str) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def _tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def _clean(notebook: Any) -> Iterable[str]:
    """Outputs, execution counts and what papermill writes stay out of the repository."""
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            yield f"cell {number} has outputs or an execution count; clear them"
        if "papermill" in cell.metadata or "execution" in cell.metadata:
            yield f"cell {number} carries metadata of an execution; clear it"
    if "papermill" in notebook.metadata:
        yield "the notebook carries papermill's metadata; clear it"


def _parameters(notebook: Any) -> Iterable[str]:
    tagged = [cell.source for cell in _cells(notebook, "code") if "parameters" in _tags(cell)]
    if len(tagged) != 1:
        yield f"{len(tagged)} cells are tagged parameters; exactly one must be"
        return
    for name in ("profile", "seed"):
        if not re.search(rf"^{name}\s*(:[^=]+)?=", tagged[0], re.MULTILINE):
            yield f"the parameters cell does not set {name}"


def _short_cells(notebook: Any) -> Iterable[str]:
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code" and len(cell.source.splitlines()) > LONGEST_CELL:
            yield f"cell {number} has {len(cell.source.splitlines())} lines of code, at most {LONGEST_CELL}; move the rest into cm2"


def _silent(notebook: Any) -> Iterable[str]:
    """Assertions that say nothing when they fail on another machine."""
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code" and (found := re.search(r"^\s*assert\b.*|^.*testing\.assert_.*", cell.source, re.MULTILINE)):
            yield f"cell {number} asserts without a word ({found[0].strip()[:60]}); use cm2.book.checks.check"


def _template(notebook: Any) -> Iterable[str]:
    text = "\n\n".join(cell.source for cell in _cells(notebook, "markdown"))
    headings = [(match.start(), (match[1] or match[2]).strip().rstrip(".:").lower()) for match in _HEADING.finditer(text)]
    position = -1
    for name, words in TEMPLATE:
        found = next((start for start, heading in headings if start > position and re.search(words, heading)), None)
        if found is None:
            yield f"section '{name}' is missing or out of order"
        else:
            position = found


def _exercises(notebook: Any) -> Iterable[str]:
    text = "\n\n".join(cell.source for cell in _cells(notebook, "markdown"))
    labels = set(_EXERCISE.findall(text))
    if len(labels) < EXERCISES:
        yield f"{len(labels)} labelled exercises, at least {EXERCISES}"
    solved = _solutions(notebook)
    for label in sorted(labels - set(solved)):
        yield f"exercise {label} has no solution between gates"
    for label, (options, cells) in solved.items():
        if label not in labels:
            yield f"the solution of {label} has no exercise"
        if ":class: dropdown" not in options:
            yield f"the solution of {label} is not a dropdown"
        if not any("solution" in _tags(cell) and re.search(r"^\s*check\(", cell.source, re.MULTILINE) for cell in cells):
            yield f"the solution of {label} has no code cell tagged solution that checks something"


def _solutions(notebook: Any) -> dict[str, tuple[str, list[Any]]]:
    """By exercise: the options of the opening gate, and the code cells between the gates."""
    found: dict[str, tuple[str, list[Any]]] = {}
    current = None
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for match in _SOLUTION.finditer(cell.source):
                current = match[1]
                found[current] = (match[2], [])
            if "{solution-end}" in cell.source:
                current = None
        elif cell.cell_type == "code" and current:
            found[current][1].append(cell)
    return found


def _figures(notebook: Any) -> Iterable[str]:
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code" or not _DRAWS.search(cell.source):
            continue
        mystnb = cell.metadata.get("mystnb", {})
        figure, image = mystnb.get("figure", {}), mystnb.get("image", {})
        for name, value in (
            ("figure.caption", figure.get("caption")),
            ("figure.name", figure.get("name")),
            ("image.alt", image.get("alt")),
        ):
            if not value:
                yield f"cell {number} draws a figure without mystnb {name}"


def _stray(notebook: Any) -> Iterable[str]:
    """Imports that pull scripts from other hosts into the page."""
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "code" and (found := re.search(r"tqdm\.auto|tqdm\.notebook|ipywidgets", cell.source)):
            yield f"cell {number} uses {found[0]}, which needs scripts from another host; use plain tqdm"
