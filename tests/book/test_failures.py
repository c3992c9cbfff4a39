"""One bad chapter costs one page: what is executed all the same, what the pages and the command say, and what the next call does."""

import json
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from cm2.book import ChapterError, build, read_chapters
from cm2.book.cache import Cache
from cm2.book.failure import Failures
from cm2.book.launch import Launcher
from cm2.book.pages import place, reader_notebook, stopped_page
from cm2.book.process import child_environment
from cm2.book.runner import execute
from cm2.environment.machine import describe
from tests.book import html_checks, minibook

TOC = """\
format: jb-book
root: book/preface
parts:
  - caption: I Theory
    chapters: [{file: book/tails}, {file: book/dying}, {file: book/endless}, {file: book/sound}]
  - caption: Back
    chapters: [{file: book/notation}, {file: book/references}]
"""
PARAMETERS = 'profile = "quick"\nseed = 0\nn = 500'


def chapter(title: str, *sources: str, **own: object) -> nbformat.NotebookNode:
    """A heading, a parameters cell, and these code cells."""
    cells = [minibook.markdown(f"# {title}"), minibook.code(PARAMETERS, tags=["parameters"])]
    return minibook.notebook([*cells, *map(minibook.code, sources)], **own)


def tails() -> nbformat.NotebookNode:
    """The small book's chapter with a check that does not hold in its second solution."""
    content = minibook.tails()
    (broken,) = [cell for cell in content.cells if "draws the same" in cell.source]
    broken.source = broken.source.replace("equals=u", "equals=u + 1")
    return content


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A book with four bad chapters of five, the error of its build, what was said, and the same of a second call."""
    root = minibook.write(
        tmp_path_factory.mktemp("broken"),
        tails=tails(),
        dying=chapter("Dying", 'print("alive")', "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
        endless=chapter("Endless", "import time\nwhile True:\n    time.sleep(0.1)"),
        sound=chapter("Sound", "n + 1"),
    )
    (root / "_toc.yml").write_text(TOC, encoding="utf-8")
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cm2.book.cache.source_digest", lambda root: "unchanged")
        patch.setattr("cm2.book.runner._seconds", lambda limit, chapter, profile: 12.0 if chapter.name == "endless" else 300.0)
        for _ in range(2):
            said: list[str] = []
            with pytest.raises(ChapterError) as error:
                build(root=root, report=said.append)
            calls.append((error.value, said))
        yield root, *calls


def page(root: Path, name: str) -> str:
    return (root / "_build" / "html" / "book" / f"{name}.html").read_text(encoding="utf-8")


def test_every_failure_is_named_with_heading_cell_and_line(broken):
    _, (error, _), _ = broken
    assert {failure.chapter for failure in error.failures} == {"tails", "dying", "endless", "preface"}
    text = str(error)
    where = r'chapter tails, under "Exercises" \(solution of ex-tails-2\), In \[6\], line 2: CheckError: the same seed draws the same: '
    assert re.search(where, text), text
    assert "1000 of 1000 values are not as expected; the first, at [0, 0], is 0." in text and describe().split(",")[0] in text, (
        "the values and the machine"
    )
    assert re.search(r'chapter dying, under "Dying", In \[3\]: the kernel died', text)
    assert re.search(r'chapter endless, under "Endless"(, In \[2\])?: not (finished|started) after 0.2 min, the limit', text)


def test_a_chapter_that_reads_the_results_says_whose_are_missing(broken):
    root, (error, _), _ = broken
    assert "(without the results of tails): InputError: chapter 'tails' has no result 'correlation'" in str(error)
    assert re.search(r"It lacked the results of .*Tails of a copula", page(root, "preface"))
    assert "<h1>Preface" in page(root, "preface") and 'title="tails stopped before it computed this">missing<' in page(root, "preface")


def test_every_page_is_rendered_and_says_that_the_book_is_incomplete(broken):
    root, (error, _), _ = broken
    assert error.page == root / "_build" / "html" / "index.html"
    for name in ("preface", "tails", "dying", "endless", "sound", "notation"):
        assert "This copy of the book is incomplete: it has 4 chapters" in page(root, name)
    assert "501" in page(root, "sound") and "danger" not in page(root, "sound")
    problems = [problem for problem in html_checks.problems(error.page.parent) if "image" in problem or "loads" in problem]
    assert not problems


def test_the_failing_page_shows_what_executed_and_a_red_box_where_it_stopped(broken):
    root, _, _ = broken
    text = page(root, "tails")
    assert "This chapter was not executed to its end" in text
    box = text.index("Execution stopped here")
    assert "danger" in text[box - 400 : box] and "CheckError: the same seed draws the same" in text[box : box + 2500]
    assert "Points spread evenly over the unit square." in text[:box], "the figure before it is there"
    assert "alive" in page(root, "dying")


def test_the_next_call_executes_only_what_failed(broken):
    _, (_, first), (error, again) = broken
    assert first[0] == "5 chapters, profile quick: 0 unchanged, 5 to execute: tails, preface, dying, endless, sound"
    assert again[0] == "5 chapters, profile quick: 2 unchanged, 3 to execute: tails, dying, endless"
    assert not [line for line in again if line.startswith(("sound:", "preface:"))], "what reads from a failed chapter is not tried twice"
    assert len(error.failures) == 4


def test_a_mended_chapter_takes_its_readers_along(broken):
    root, _, _ = broken
    chapters = read_chapters(root)
    nbformat.write(minibook.tails(), chapters["tails"].path)
    said: list[str] = []
    done, failures = execute(["preface"], None, "quick", 2, root, said.append)
    assert {"tails", "preface"} <= set(done) and set(failures) == {"dying", "endless"}
    assert not (root / "_build" / "failed" / "tails.ipynb").exists()


def test_strict_stops_at_once_and_renders_nothing(tmp_path):
    bad = chapter("Bad", "x = 1\nassert x == 2")
    root = minibook.write(tmp_path, tails=bad, preface=chapter("Preface", "1", after=["tails"]))
    with pytest.raises(ChapterError, match=r"In \[2\], line 2: AssertionError: assert x == 2") as error:
        build(root=root, strict=True)
    assert error.value.page is None and not (root / "_build" / "html").exists()
    assert not list((root / "_build" / "cache").glob("preface-*")) and not list((root / "_build" / "cache").glob(".*-*"))


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"cells": 3, "metadata": {}}', '{"cells": [{"cell_type": "code"}], "metadata": {}}'])
def test_what_is_no_notebook_is_one_line(tmp_path, content):
    root = minibook.write(tmp_path)
    (root / "book" / "tails.ipynb").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"tails\.ipynb is not a notebook") as refusal:
        build(root=root)
    assert len(str(refusal.value).splitlines()) == 1 and not (root / "_build").exists()


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_that_is_none_is_refused(book, limit):
    with pytest.raises(ValueError, match="more than 0"):
        build(root=book, limit=limit)


def test_no_space_is_said_in_one_line(tmp_path, book):
    work = tmp_path / "work"
    work.mkdir()
    (work / "log.txt").write_text("Traceback\n  ...\nOSError: [Errno 28] No space left on device\n", encoding="utf-8")
    failure = Failures(tmp_path / "failed").explain(read_chapters(book)["tails"], "key", work, 1)
    assert "chapter tails: no space left on device" in str(failure)


def test_a_forked_kernel_computes_and_shows_what_a_fresh_one_does(tmp_path, monkeypatch):
    source = "import pandas as pd\nimport torch\nimport numpy as np\nfrom matplotlib import pyplot as plt"
    frame = "print(torch.get_num_threads())\npd.DataFrame(np.random.default_rng(seed).normal(size=(3, 15))).add_prefix('a long name ')"
    plot = 'figure, axes = plt.subplots()\naxes.plot([1, 2], [float(torch.tensor(0.1).exp()), 3])\nprint(__name__, "cm2" in dir())'
    plot += "\nimport sys\nprint(__import__('os').getpid(), file=sys.stderr)"  # a warning names the kernel's process
    outputs = []
    for warm in (1, 99):
        monkeypatch.setattr("cm2.book.launch.WARM_FROM", warm)
        root = minibook.write(tmp_path / str(warm), tails=chapter("T", source, frame, plot), preface=chapter("P"))
        done, failures = execute([], None, "quick", 1, root, lambda line: None)
        assert not failures
        outputs.append(reader_notebook(done["tails"].notebook, read_chapters(root)["tails"]))
    assert outputs[0] == outputs[1]


def test_the_name_of_an_object_on_a_page_is_noticed(tmp_path):
    for name, text in {"index": "&lt;IPython.core.display.Markdown object&gt;", "other": "a &lt; b, the object &gt; c"}.items():
        (tmp_path / f"{name}.html").write_text(f"<html><body><p>{text}</p></body></html>", encoding="utf-8")
    assert [problem for problem in html_checks.problems(tmp_path) if "name of an object" in problem] == [
        "index.html: shows the name of an object in the place of what it holds"
    ]


def test_a_sentence_inside_a_table_is_noticed(tmp_path):
    """Notes that follow a Markdown table without a blank line become its last row."""
    row = "<tr><td>Ours: the mean of five seeds with its interval, and so on.</td><td></td></tr>"
    for name, rows in {
        "index": row,
        "other": row.replace("<td></td>", "<td>0.84</td>") + "<tr><td>partially matched.</td><td></td></tr>",
    }.items():
        (tmp_path / f"{name}.html").write_text(f"<html><body><table>{rows}</table></body></html>", encoding="utf-8")
    found = [problem for problem in html_checks.problems(tmp_path) if "inside a table" in problem]
    assert found == ["index.html: has a sentence inside a table (Ours: the mean of five seeds with its in...)"]


def test_a_page_shows_nothing_where_there_is_nothing_to_say(tmp_path):
    source = "from IPython.display import Markdown"
    root = minibook.write(tmp_path, tails=chapter("T", source, 'Markdown("")', 'Markdown("said")'), preface=chapter("P"))
    done, failures = execute([], None, "quick", 1, root, lambda line: None)
    assert not failures
    cells = reader_notebook(done["tails"].notebook, read_chapters(root)["tails"])["cells"]
    shown = {"".join(cell["source"]): cell["outputs"] for cell in cells if cell["cell_type"] == "code"}
    assert shown['Markdown("")'] == [] and len(shown['Markdown("said")']) == 1


def test_no_process_is_left_where_no_chapter_finishes(tmp_path, monkeypatch):
    """That which finds out about the machine is read when a chapter has finished."""
    started = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr("cm2.book.runner.subprocess.Popen", Recorded)
    root = minibook.write(tmp_path, tails=chapter("T", "1 / 0"), preface=chapter("P", "1 / 0"))
    done, failures = execute([], None, "quick", 1, root, lambda line: None)
    assert failures and not done
    assert started and all(process.returncode is not None for process in started)
    assert all(process.stdout is None or process.stdout.closed for process in started)


def test_a_warm_process_that_is_killed_is_replaced(tmp_path, book, monkeypatch):
    monkeypatch.setattr("cm2.book.launch.WARM_FROM", 1)
    with Launcher(child_environment(tmp_path, 1), tmp_path, 1) as launcher:
        if launcher._warm is None:
            pytest.skip("processes are forked on Linux alone")
        launcher._warm.kill()
        launcher._warm.wait()
        notebook = minibook.notebook([minibook.code("6 * 7")])
        nbformat.write(notebook, tmp_path / "in.ipynb")
        wanted = {"input": str(tmp_path / "in.ipynb"), "output": str(tmp_path / "out.ipynb"), "parameters": {}, "cwd": str(tmp_path)}
        (tmp_path / "work.json").write_text(json.dumps(wanted | {"sockets": str(tmp_path / "s")}))
        handle = launcher.start(tmp_path / "work.json", {}, tmp_path / "log.txt")
        while handle.poll() is None:
            pass
    assert handle.poll() == 0 and "42" in (tmp_path / "out.ipynb").read_text()


def test_the_box_stands_outside_a_folded_solution():
    content = minibook.tails()
    position = next(n for n, cell in enumerate(content.cells) if "tau" in cell.source and "solution" in cell.metadata.get("tags", []))
    shown = stopped_page(json.loads(nbformat.writes(content)), position, place(content.cells, position), "CheckError: ``` no")
    sources = ["".join(cell["source"]) for cell in shown["cells"]]
    box = next(n for n, source in enumerate(sources) if "stopped here" in source)
    assert "solution-end" in sources[box - 1] and "''' no" in sources[box]


def test_an_unfinished_execution_is_not_shown_as_the_last_one(book):
    minibook.pretend(book, "tails")
    cache, chapter_read = Cache(book / "_build" / "cache"), read_chapters(book)["tails"]
    assert cache.newest(chapter_read, "quick") is not None
    meta = next(cache.folder.glob("tails-*/meta.json"))
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"without": ["other"]}))
    assert cache.newest(chapter_read, "quick") is None
