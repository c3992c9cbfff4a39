"""A book of two tiny chapters that follow the template: what the runner, the rendering and the browser are tested with."""

import shutil
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from cm2.book import read_chapters
from cm2.book.cache import Cache, chapter_keys
from cm2.book.chapters import execution_order, resolve_parameters

REPOSITORY = Path(__file__).resolve().parents[2]

TOC = """\
format: jb-book
root: book/preface
parts:
  - caption: I Theory
    numbered: true
    chapters:
      - file: book/tails
  - caption: Back
    chapters:
      - file: book/notation
      - file: book/references
"""

FIGURE = {
    "mystnb": {
        "figure": {"caption": "Draws from the independence copula.", "name": "fig-draws"},
        "image": {"alt": "Points spread evenly over the unit square."},
    },
    "tags": ["hide-input"],
}


def markdown(text: str) -> nbformat.NotebookNode:
    """A markdown cell."""
    return new_markdown_cell(text.strip())


def code(text: str, **metadata: object) -> nbformat.NotebookNode:
    """A code cell."""
    return new_code_cell(text.strip(), metadata=metadata)


def notebook(cells: list[nbformat.NotebookNode], **own: object) -> nbformat.NotebookNode:
    """A notebook with this book's metadata and repeatable cell ids."""
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "cm2": own})


def exercise(number: int, task: str, solution: str) -> list[nbformat.NotebookNode]:
    """An exercise and its tested solution: a code cell between the two gates."""
    return [
        markdown(f"```{{exercise}}\n:label: ex-tails-{number}\n\n{task}\n```"),
        markdown(f"````{{solution-start}} ex-tails-{number}\n:label: sol-tails-{number}\n:class: dropdown\n````"),
        code(solution, tags=["solution"]),
        markdown("````{solution-end}\n````"),
    ]


def tails() -> nbformat.NotebookNode:
    """The chapter with everything a chapter may hold."""
    cells = [
        markdown("# Tails of a copula\n\n**Claim.** Dependence in the tail is not correlation."),
        markdown("## What you need first\n\nUniform random variables."),
        markdown("## Time\n\nOne second on two cores with every profile."),
        code('profile = "quick"\nseed = 0\nn = 500', tags=["parameters"]),
        code(
            "import numpy as np\nfrom matplotlib import pyplot as plt\nfrom myst_nb import glue\n\n"
            "from cm2.book.checks import check\nfrom cm2.results import record"
        ),
        markdown(
            "## Definitions\n\n"
            "```{prf:definition} Copula\n:label: def-copula-mini\n\nA law on $[0, 1]^2$ with uniform margins.\n```\n\n"
            "```{prf:theorem} Sklar\n:label: thm-sklar-mini\n\nEvery $F$ is $C(F_1, F_2)$ {cite:p}`nelsen2006`.\n```\n\n"
            "```{prf:proof}\nBy {prf:ref}`def-copula-mini`.\n```\n\n"
            "$$\n\\lambda_U = \\lim_{t \\to 1} P(U_1 > t \\mid U_2 > t).\n$$ (eq-upper-mini)\n\n"
            "Equation {eq}`eq-upper-mini` is a limit; see {numref}`fig-draws`.\n\n"
            ":::{note}\nA note in the text.\n:::\n\n"
            "```{margin}\nA note in the margin.\n```"
        ),
        markdown("## Experiment"),
        code(
            "u = np.random.default_rng(seed).uniform(size=(n, 2))\ntau = np.corrcoef(u.T)[0, 1]\n"
            'glue("mini-correlation", float(tau), display=False)\n'
            'record("tails", "correlation", tau, format=".2f", provenance={"cohort": "draws", "profile": profile, "seeds": [seed]})'
        ),
        code('figure, axes = plt.subplots(figsize=(3, 3))\naxes.plot(*u.T, ".")\nplt.show()', **FIGURE),
        markdown("The correlation of {numref}`fig-draws` is {glue:text}`mini-correlation:.2f`."),
        markdown(
            '```{raw} html\n<div class="cm2-explorer" data-family="gumbel" data-alpha="2.5">This explorer needs JavaScript.</div>\n```'
        ),
        markdown(
            "## What the paper prints / what its code does / what we compute\n\n"
            "| paper | code | here |\n|---|---|---|\n| 0 | 0 | {res}`tails:correlation` |"
        ),
        markdown("## Summary\n\n{prf:ref}`thm-sklar-mini` splits a law into margins and copula."),
        markdown("## Exercises"),
        *exercise(1, "Show that $\\tau = 0$ under independence.", 'check("tau", tau, near=0, standard_error=1 / np.sqrt(n))'),
        *exercise(
            2,
            "Draw again.",
            'again = np.random.default_rng(seed).uniform(size=(n, 2))\ncheck("the same seed draws the same", again, equals=u)',
        ),
        *exercise(3, "Are the margins uniform?", 'check("mean", u.mean(), near=0.5, standard_error=(24 * n) ** -0.5)'),
    ]
    return notebook(cells, seconds={"quick": 3})


def preface() -> nbformat.NotebookNode:
    """A first page that reads what the other chapter computed."""
    cells = [
        markdown(
            "# Preface\n\nA small book about copulas. Its one number is {res}`tails:correlation|.1f`; see [the chapter](tails.ipynb)."
        ),
        code('profile = "quick"\nseed = 0', tags=["parameters"]),
        code(
            "from cm2.book.checks import check\nfrom cm2.results import read\n\n"
            'check("a correlation", abs(read("tails", "correlation")), below=1)'
        ),
    ]
    return notebook(cells, after=["tails"])


def write(root: Path, **chapters: nbformat.NotebookNode) -> Path:
    """Write a book with this repository's configuration and the given chapters (by default those above) into a folder."""
    shutil.copytree(REPOSITORY / "book", root / "book", ignore=shutil.ignore_patterns("*.ipynb", "api.md", "__pycache__"))
    shutil.copy(REPOSITORY / "_config.yml", root)
    (root / "_toc.yml").write_text(TOC, encoding="utf-8")
    for name, content in ({"preface": preface(), "tails": tails()} | chapters).items():
        nbformat.write(content, root / "book" / f"{name}.ipynb")
    return root


def pretend(root: Path, *names: str) -> None:
    """Put chapters into the cache as if executed, for tests of the rendering alone."""
    chapters = read_chapters(root)
    keys = chapter_keys(root, chapters, execution_order(chapters), resolve_parameters(chapters))
    cache = Cache(root / "_build" / "cache")
    for name in names:
        work = cache.folder / f".{name}"
        (work / "results").mkdir(parents=True)
        shutil.copy(chapters[name].path, work / "notebook.ipynb")
        profile = {"profile": "quick"} if "profile" in chapters[name].defaults else {}
        cache.store(chapters[name], keys[name], work, {"parameters": profile, "seconds": 1.0, "commit": ""})
