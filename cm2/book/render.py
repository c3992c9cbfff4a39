"""Stage executed chapters in a folder that mirrors the repository, and render that folder."""

import errno
import hashlib
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cm2.book.cache import Execution
from cm2.book.chapters import Chapter, documents
from cm2.book.failure import Failure
from cm2.book.pages import fenced, missing_results, reader_notebook, stopped_page, with_notice
from cm2.book.spread import spreads, with_digits_that_hold

_PROCESS = Path(__file__).with_name("sphinx_process.py")
_NO_SPACE = os.strerror(errno.ENOSPC)
_LINK = re.compile(r'(\b(?:href|src|action|data-content_root)=")([^"]*)(")')


class RenderError(RuntimeError):
    """Sphinx could not render the staged book, or warned; the message carries its output."""


def stage(
    root: Path, folder: Path, chapters: Mapping[str, Chapter], executions: Mapping[str, Execution], failures: Mapping[str, Failure]
) -> None:
    """Fill ``folder`` with the input of Sphinx: configuration, pages, executed notebooks, results.

    A file is rewritten only if its content changed. A failed chapter is staged as far as it was executed, with a box where it stopped.
    Chapters with neither an execution nor a failure are left out, also of the table of contents.
    """
    wanted: dict[str, bytes] = {"_config.yml": (root / "_config.yml").read_bytes()}
    left_out = {chapter.document for name, chapter in chapters.items() if name not in executions and name not in failures}
    wanted["_toc.yml"] = _reduced_toc(root, left_out)
    pages = sorted((root / "book").rglob("*"))
    wanted |= {path.relative_to(root).as_posix(): path.read_bytes() for path in pages if _is_source(path, root)}
    for folder_name in ("results", "figures"):
        for path in sorted((root / folder_name).glob("*")):
            if path.suffix in {".json", ".svg", ".png", ".csv", ".md"}:
                wanted[f"{folder_name}/{path.name}"] = path.read_bytes()
    for name, execution in executions.items():
        parameters = dict(chapters[name].defaults) | execution.meta["parameters"]
        moved = spreads(root, parameters.get("profile"))
        wanted[f"{chapters[name].document}.ipynb"] = _dump(_executed(execution, chapters[name], moved.get(name, {})))
        wanted |= {f"_provenance/{name}.spread.json": _dump(moved[name])} if name in moved else {}
        source = {key: execution.meta[key] for key in ("commit", "machine") if execution.meta.get(key)}
        wanted[f"_provenance/{name}.json"] = _dump(source | {"parameters": parameters})
        for path in execution.results.glob("*.json"):
            wanted[f"_results/{path.name}"] = path.read_bytes()
    for name, failure in failures.items():
        wanted[f"{chapters[name].document}.ipynb"] = _dump(_stopped(failure, chapters[name]))
    wanted["_provenance/stopped.json"] = _dump(sorted(failures))
    _synchronise(folder, wanted)


def _executed(execution: Execution, chapter: Chapter, moved: Mapping[str, float]) -> dict[str, Any]:
    content = with_digits_that_hold(reader_notebook(execution.notebook, chapter), moved)
    if without := execution.meta.get("without"):
        text = f"This chapter reads results that are missing: {missing_results(without)}"
        content = with_notice(content, "warning", "Results of another chapter are missing", text)
    return content


def _stopped(failure: Failure, chapter: Chapter) -> dict[str, Any]:
    if failure.notebook.endswith(".ipynb"):
        content = json.loads(Path(failure.notebook).read_text(encoding="utf-8"))
        return stopped_page(content, failure.position, failure.where, failure.what, failure.predecessors)
    source = json.loads(chapter.path.read_text(encoding="utf-8"))
    return with_notice(source, "danger", "This chapter was not executed", f"```text\n{fenced(failure.what)}\n```")


def _is_source(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.is_file() and path.suffix not in {".ipynb", ".pyc"} and not hidden


def _dump(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _reduced_toc(root: Path, left_out: set[str]) -> bytes:
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    if toc.get("root") in left_out:
        toc["root"] = next(document for document in documents(root) if document not in left_out)
        left_out = left_out | {toc["root"]}

    def keep(entry: Any) -> Any:
        if isinstance(entry, list):
            return [keep(child) for child in entry if not (isinstance(child, dict) and child.get("file") in left_out)]
        return {key: keep(value) for key, value in entry.items()} if isinstance(entry, dict) else entry

    toc = keep(toc)
    toc["parts"] = [part for part in toc.get("parts", []) if part.get("chapters")]
    return yaml.safe_dump(toc, sort_keys=False, allow_unicode=True).encode()


def _synchronise(folder: Path, wanted: Mapping[str, bytes]) -> None:
    """Make the folder hold exactly the wanted files. Unchanged files are not touched: Sphinx then reads only the changed ones."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def render(stage_folder: Path, html: Path, strict: bool = True) -> Path:
    """Render the staged book; returns its index page.

    Args:
        stage_folder: see ``stage``.
        html: receives the pages once all are finished; until then, and after an error, the previously rendered book stays there.
        strict: whether any warning, including unresolved references, is an error.

    Raises:
        RenderError: Sphinx failed or, if strict, warned. The next build then starts from scratch, since Sphinx does not repeat the
            warnings of pages it has already read.
    """
    doctrees, pages = html.parent / ".doctrees", html.parent / ".pages"
    setup = _setup_digest(stage_folder)
    stamp = doctrees / "setup"
    if not stamp.is_file() or stamp.read_text() != setup:
        shutil.rmtree(doctrees, ignore_errors=True)
        shutil.rmtree(pages, ignore_errors=True)
    stamp.unlink(missing_ok=True)  # a page that a killed Sphinx has written half would pass for finished
    command = [sys.executable, "-P", str(_PROCESS), str(stage_folder), str(pages), str(doctrees), "strict" if strict else "lenient"]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        shutil.rmtree(doctrees, ignore_errors=True)
        if _NO_SPACE in run.stdout + run.stderr:
            raise RenderError(f"the book was not rendered: no space left on the device of {html.parent}; free some and call again")
        raise RenderError(f"the book was not rendered without a warning; Sphinx said:\n{_tail(run.stderr or run.stdout)}")
    stamp.write_text(setup)
    _write_index(stage_folder, pages)
    _replace(html, pages)
    return html / "index.html"


def _replace(html: Path, pages: Path) -> None:
    """Replace the old pages by a copy of the finished ones. The original stays: Sphinx updates it incrementally in the next build."""
    new, old = html.with_name(f".{html.name}.new"), html.with_name(f".{html.name}.old")
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(pages, new)  # copied beside first: the renames that follow leave no half-copied book
    if html.exists():
        html.rename(old)
    new.rename(html)
    shutil.rmtree(old, ignore_errors=True)


def _setup_digest(stage_folder: Path) -> str:
    """Digest of everything that affects all pages: configuration, table of contents, extensions, interpreter, and the failed chapters."""
    files = [
        stage_folder / "_config.yml",
        stage_folder / "_toc.yml",
        stage_folder / "_provenance" / "stopped.json",
        *sorted((stage_folder / "book" / "_ext").glob("*.py")),
    ]
    return hashlib.sha256(b"\0".join([sys.executable.encode(), *(path.read_bytes() for path in files)])).hexdigest()


def _tail(text: str, lines: int = 40) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def _write_index(stage_folder: Path, html: Path) -> None:
    """``index.html``: a copy of the first page with its links relative to the top folder."""
    import yaml

    first = yaml.safe_load((stage_folder / "_toc.yml").read_text(encoding="utf-8"))["root"]
    index = html / "index.html"
    if first != "index":
        folder = posixpath.dirname(first)
        text = (html / f"{first}.html").read_text(encoding="utf-8")
        index.write_text(_LINK.sub(lambda match: match[1] + _from_top(match[2], folder) + match[3], text), encoding="utf-8")


def _from_top(link: str, folder: str) -> str:
    if not link or link.startswith("#") or re.match(r"[a-z]+:", link):
        return link
    path, *rest = re.split(r"([?#])", link, maxsplit=1)
    moved = posixpath.normpath(posixpath.join(folder, path))
    return "".join(["./" if moved == "." else moved, *rest])


def unexecuted(chapters: Mapping[str, Chapter], tried: Iterable[str]) -> list[str]:
    """Names of the chapters that were never executed."""
    return [name for name in chapters if name not in set(tried)]
