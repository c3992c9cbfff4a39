"""Cache of executed chapters, keyed by everything that can change their numbers."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from cm2.book.chapters import Chapter
from cm2.config.files import read_json
from cm2.durable import file_sha256, move, write_json

KEPT = 6
"""Executions kept per chapter; older ones are removed when a new one is stored."""

PORTABILITY = "portability.json"
"""The committed numbers of several environments, from which their spread between machines follows; see ``cm2.book.spread``."""

META = "meta.json"
_WATCHED = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "lightning", "transformers", "matplotlib", "torchvision")


@dataclass(frozen=True)
class Execution:
    """One executed chapter: a folder with ``notebook.ipynb``, ``results/*.json`` and ``meta.json``."""

    folder: Path

    @property
    def notebook(self) -> Path:
        return self.folder / "notebook.ipynb"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @cached_property
    def meta(self) -> dict[str, Any]:
        """``key``, ``parameters``, ``seconds`` (wall time), ``commit``, ``machine``, ``without`` (chapters whose results it lacked)."""
        return read_json(self.folder / META, remedy="execute the chapter again")

    def readable(self) -> bool:
        """Whether its ``meta.json`` can be read."""
        try:
            return isinstance(self.meta, dict)
        except (OSError, ValueError):
            return False

    def sound(self) -> bool:
        """Whether its files are those that were stored."""
        try:
            return self.readable() and all(file_sha256(self.folder / name) == sha for name, sha in self.meta.get("checksums", {}).items())
        except OSError:
            return False


class Cache:
    """The folder of executed chapters.

    Args:
        folder: where executions are kept; created when the first is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, chapter: Chapter, key: str) -> Execution | None:
        """The execution with this key, if it is complete."""
        execution = Execution(self._folder(chapter.name, key))
        if not execution.sound():
            return None
        os.utime(execution.folder / META)  # marks it as used: the least recently used ones are removed first
        return execution

    def newest(self, chapter: Chapter, profile: Any) -> Execution | None:
        """The last used complete execution of a chapter with this profile, whatever its key."""
        whole = (found for found in self._by_age(chapter.name) if found.readable() and not found.meta.get("without"))
        return next((found for found in whole if found.meta["parameters"].get("profile") == profile), None)

    def seconds(self, chapter: Chapter, profile: Any) -> float | None:
        """The wall time of the chapter's last execution with this profile, in seconds; without one, its author's estimate."""
        execution = self.newest(chapter, profile)
        return float(execution.meta["seconds"]) if execution else chapter.seconds.get(profile)

    def store(self, chapter: Chapter, key: str, work: Path, meta: Mapping[str, Any]) -> Execution:
        """Move a finished work folder into the cache by renaming it: under its key there is a complete folder or none."""
        files = sorted(path.relative_to(work).as_posix() for path in (work / "notebook.ipynb", *(work / "results").glob("*.json")))
        write_json(work / META, {**meta, "key": key, "checksums": {name: file_sha256(work / name) for name in files}})
        target = self._folder(chapter.name, key)
        shutil.rmtree(target, ignore_errors=True)
        move(work, target)
        for old in self._by_age(chapter.name)[KEPT:]:
            shutil.rmtree(old.folder, ignore_errors=True)
        return Execution(target)

    def lock_path(self, chapter: Chapter, key: str) -> Path:
        """The lock that prevents two processes from executing the same chapter at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._folder(chapter.name, key).with_suffix(".lock")

    def new_work_folder(self, chapter: Chapter, key: str) -> Path:
        """An empty folder for an execution, under its lock: what a killed one has left there is removed."""
        work = self.folder / f".{chapter.name}-{key[:16]}.partial"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        return work

    def _folder(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key[:16]}"

    def _by_age(self, name: str) -> list[Execution]:
        metas = [path for path in self.folder.glob(f"{name}-*/{META}") if path.parent.name[: -len("-0123456789abcdef")] == name]
        return [Execution(path.parent) for path in sorted(metas, key=lambda path: path.stat().st_mtime, reverse=True)]


def chapter_keys(
    root: Path, chapters: Mapping[str, Chapter], order: Iterable[str], parameters: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """The key of each chapter's execution, by name.

    It covers the notebook, its parameters, the sources of ``cm2`` and ``data_prep``, the versions, the committed results, and the keys of
    the chapters it reads from.
    """
    folder = root / "results"
    files = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.json"))}
    # the numbers of other machines affect only the chapter that shows them
    elsewhere = files.pop(PORTABILITY, "")
    kept = [f"{name} {text}" for name, text in files.items()]
    shared = _digest([source_digest(root), version_digest(root), *kept])
    keys: dict[str, str] = {}
    for name in order:
        chapter = chapters[name]
        mine = {
            "parameters": parameters[name],
            "notebook": _notebook_source(chapter.path),
            "after": [keys[earlier] for earlier in chapter.after],
            "elsewhere": _digest([elsewhere]) if PORTABILITY in chapter.path.read_text(encoding="utf-8") else "",
        }
        keys[name] = _digest([shared, json.dumps(mine, sort_keys=True, default=str)])
    return keys


def key_without(key: str, missing: Iterable[str]) -> str:
    """The key of an execution that lacks the results of some chapters it reads from."""
    return _digest([key, *sorted(missing)])


def _notebook_source(path: Path) -> Any:
    """The parts of a notebook that determine its outputs and its page: cells and this book's metadata, not an editor's."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [[cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {})] for cell in notebook["cells"]]
    return [cells, notebook["metadata"].get("cm2", {})]


def source_digest(root: Path) -> str:
    """Digest of the sources a chapter can call: ``cm2`` (without this runner and the command line) and ``data_prep``."""
    checkout = Path(__file__).resolve().parents[2]
    pieces = []
    for package in ("cm2", "data_prep"):
        folder = root / package if (root / package).is_dir() else checkout / package
        for path in sorted(p for p in folder.rglob("*") if p.suffix in {".py", ".toml", ".json"}):
            relative = path.relative_to(folder).as_posix()
            if package == "cm2" and relative.startswith(("book/", "cli/")):
                continue
            pieces.append(f"{package}/{relative} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return _digest(pieces)


def version_digest(root: Path) -> str:
    """Digest of the versions of Python and of the libraries that compute, and of the lock file."""
    versions = [f"python {platform.python_version()}"]
    for package in _WATCHED:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    lock = root / "requirements.lock"
    return _digest([*versions, lock.read_text(encoding="utf-8") if lock.is_file() else ""])


def commit(root: Path) -> str:
    """The checkout's short commit, followed by ``+`` if tracked files differ from it; empty outside a git checkout."""
    run = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude", "*", "--abbrev=10"]
    try:
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _digest(pieces: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest()
