"""Chapters of the book: file, place in ``_toc.yml``, declared parameters, and the chapters whose results they read."""

import ast
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cm2.config.names import choose
from cm2.errors import InputError
from cm2.escape import one_line


@dataclass(frozen=True)
class Chapter:
    """One notebook of the book.

    Attributes:
        name: the file's name without its suffix, as in ``cm2 book --only NAME``.
        path: the notebook, without outputs.
        document: the name in ``_toc.yml``, relative to the root and without suffix (``book/preface``).
        defaults: the names assigned in the cell tagged ``parameters`` and their values (``None`` where the value is not a literal).
        after: chapters that must have been executed before this one, from the notebook's metadata ``{"cm2": {"after": [...]}}``.
        seconds: the author's estimate of the execution time per profile, from ``{"cm2": {"seconds": {"quick": 90}}}``;
            used before a first execution has been timed.
    """

    name: str
    path: Path
    document: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, document: str) -> "Chapter":
        """The chapter in a notebook file.

        Raises:
            ValueError: the file is not a notebook, or its parameters cell is not Python.
        """
        try:
            notebook = json.loads(path.read_text(encoding="utf-8"))
            own = notebook["metadata"].get("cm2", {})
            cells = [{"metadata": cell["metadata"], "source": "".join(cell["source"])} for cell in notebook["cells"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is not a notebook ({error!r}); restore it or take it out of _toc.yml") from error
        sources = [cell["source"] for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        try:
            defaults = assignments(sources)
        except SyntaxError as error:
            raise InputError(f"the parameters cell of {path} does not parse: {error}") from error
        return cls(path.stem, path, document, defaults, tuple(own.get("after", ())), dict(own.get("seconds", {})))


def assignments(sources: Iterable[str]) -> dict[str, Any]:
    """Names assigned at the top level of the given cells, with their literal values."""
    found: dict[str, Any] = {}
    for statement in (node for source in sources for node in ast.parse(source).body):
        if isinstance(statement, ast.AnnAssign):
            targets: Sequence[ast.expr] = [statement.target]
        elif isinstance(statement, ast.Assign):
            targets = statement.targets
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                found[target.id] = _literal(statement.value)
    return found


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None


def find_root(start: Path | None = None) -> Path:
    """The folder with ``_toc.yml`` and ``_config.yml``: the nearest above ``start``, else the checkout that contains this package.

    Args:
        start: where to begin; by default the working folder.

    Raises:
        ValueError: neither holds a table of contents.
    """
    here = (start or Path.cwd()).resolve()
    candidates = [here, *here.parents, Path(__file__).resolve().parents[2]]
    for folder in candidates:
        if (folder / "_toc.yml").is_file() and (folder / "_config.yml").is_file():
            return folder
    raise InputError(f"no _toc.yml and _config.yml in {here} or above it; call this from a checkout of the repository")


def documents(root: Path) -> list[str]:
    """Every document of ``_toc.yml`` in reading order, relative to the root and without suffix."""
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return list(_walk({"file": toc.get("root"), **toc}))


def _walk(entry: Mapping[str, Any]) -> Iterable[str]:
    if entry.get("file"):
        yield entry["file"]
    for key in ("parts", "chapters", "sections"):
        for child in entry.get(key, ()):
            yield from _walk(child)


def read_chapters(root: Path) -> dict[str, Chapter]:
    """The book's notebooks by name, in reading order.

    Raises:
        ValueError: a document of ``_toc.yml`` has no file, two chapters share a name, a chapter waits for an unknown one,
            or chapters wait for each other.
    """
    found: dict[str, Chapter] = {}
    for document in documents(root):
        notebook = root / f"{document}.ipynb"
        if notebook.is_file():
            if notebook.stem in found:
                raise InputError(f"two chapters of _toc.yml are named {notebook.stem}; rename one of them")
            found[notebook.stem] = Chapter.read(notebook, document)
        elif not (root / f"{document}.md").is_file():
            raise InputError(
                f"_toc.yml lists {document}, but neither {document}.ipynb nor {document}.md exists; write it or take it out of _toc.yml"
            )
    execution_order(found)
    return found


def execution_order(chapters: Mapping[str, Chapter]) -> list[str]:
    """Names in an order in which every chapter comes after those it waits for, and otherwise in reading order.

    Raises:
        ValueError: an ``after`` names an unknown chapter, or chapters wait for each other in a circle.
    """
    order: list[str] = []

    def visit(name: str, waiting: tuple[str, ...]) -> None:
        if name in waiting:
            raise InputError(
                f"chapters wait for each other: {' -> '.join((*waiting, name))}; take one name out of their cm2.after metadata"
            )
        if name not in chapters:
            raise InputError(f"chapter {waiting[-1]} declares to come after {name}, which is not in the book; {choose(name, chapters)}")
        if name not in order:
            for earlier in chapters[name].after:
                visit(earlier, (*waiting, name))
            order.append(name)

    for name in chapters:
        visit(name, ())
    return order


def with_predecessors(chapters: Mapping[str, Chapter], name: str) -> set[str]:
    """A chapter and all those whose results it reads, directly or indirectly."""
    return {name}.union(*(with_predecessors(chapters, earlier) for earlier in chapters[name].after))


def resolve_parameters(
    chapters: Mapping[str, Chapter], parameters: Mapping[str, Any] | None = None, profile: str = "quick", only: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """The parameters each chapter is executed with: the profile, and those of the given parameters that it declares.

    Args:
        chapters: the book's chapters.
        parameters: values by name; strings are read as YAML scalars, so ``"3"`` is the integer 3.
        profile: the profile for every chapter that declares ``profile``; ``parameters["profile"]`` overrides it.
        only: the chapters the parameters are meant for; then each of them must declare all, and the others keep their defaults.

    Raises:
        ValueError: an unknown chapter, a parameter that no chapter (or not each of ``only``) declares, a value of another type than
            its default.
    """
    for name in only:
        if name not in chapters:
            raise InputError(f"there is no chapter {name!r}; {choose(name, chapters)}")
    known = sorted(path.stem for path in (Path(__file__).parents[1] / "config" / "profiles").glob("*.toml"))
    given = {"profile": profile} | {name: _scalar(name, value) for name, value in (parameters or {}).items()}
    if given["profile"] not in known:
        raise InputError(f"there is no profile {given['profile']!r}; {choose(str(given['profile']), known)}")
    for name in parameters or ():
        _refuse_unknown(name, chapters, only)
    resolved: dict[str, dict[str, Any]] = {}
    for name, chapter in chapters.items():
        mine = given if name in only or not only else {"profile": given["profile"]}
        resolved[name] = {key: _checked(key, value, chapter) for key, value in mine.items() if key in chapter.defaults}
    return resolved


def _refuse_unknown(parameter: str, chapters: Mapping[str, Chapter], only: Sequence[str]) -> None:
    for name in only:
        if parameter not in (known := list(chapters[name].defaults)):
            raise InputError(f"{parameter!r} is not a parameter of chapter {name}; {_known(parameter, known)}")
    if parameter not in (known := sorted({name for chapter in chapters.values() for name in chapter.defaults})):
        raise InputError(f"{parameter!r} is not a parameter of any chapter; {_known(parameter, known)}")


def _known(parameter: str, known: Sequence[str]) -> str:
    return choose(parameter, known) if known else "there is none"


def _scalar(name: str, value: Any) -> Any:
    import yaml

    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date with a month 13
        raise InputError(f"parameter {name}: {value!r:.60} is no YAML scalar ({one_line(error):.80}); quote it, or give another") from None


def _checked(name: str, value: Any, chapter: Chapter) -> Any:
    default = chapter.defaults[name]
    if isinstance(default, str):
        return str(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and type(value) is not type(default):
        kind = type(default).__name__
        raise InputError(f"parameter {name} of chapter {chapter.name} is of type {kind} (default {default!r}), got {value!r}; give one")
    return value
