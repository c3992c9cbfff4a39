"""The mark of a fabricated raw folder, by which a preparation knows it and the cohort says so wherever it is shown."""

from __future__ import annotations

from pathlib import Path

from cm2.cohorts.disclosure import FABRICATED

MARK = "FABRICATED.txt"
TRUTH = "truth/truth.json"
"""What folders have that were fabricated before there was a mark."""


def mark(folder: Path) -> list[str]:
    """Marks a raw folder and the folders in it, each of which may be used without the others; returns the files written."""
    marked = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    for place in marked:
        (place / MARK).write_text(FABRICATED + "\n", encoding="utf-8")
    return [(place / MARK).relative_to(folder).as_posix() for place in marked]


def is_made_up(*folders: Path) -> bool:
    """Whether any of the folders, or the one that holds it, is marked: a cohort of real and of fabricated parts is not real."""
    places = {place for folder in folders for place in (folder, folder.resolve().parent)}
    return any((place / MARK).is_file() or (place / TRUTH).is_file() for place in places)
