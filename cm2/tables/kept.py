"""Tables that a chapter shows: kept in the repository, or made on the reader's own cohort."""

from __future__ import annotations

from pathlib import Path

from cm2.cohorts import load_cohort
from cm2.results import kept
from cm2.tables.result import TableResult, read
from cm2.tables.run import table
from cm2.tables.spec import load_table


def kept_table(name: str | int, cohort: str | Path, profile: str = "quick", seeds: int = 2, jobs: int = 1) -> TableResult:
    """The table kept under ``results/COHORT`` where ``cohort`` is the name of a folder there, else ``table`` on a prepared cohort.

    Args:
        name: see ``cm2.tables.load_table``.
        cohort: ``physionet2012``, for example, or the folder of a prepared cohort.
        profile: of a table that is made; a kept one has its own, which its provenance names.
        seeds: of a table that is made.
        jobs: runs at the same time.

    Raises:
        ValueError: neither; or what ``table`` raises.
    """
    stem, folder = load_table(name).file, kept()
    if folder is not None and (path := folder / str(cohort) / f"{stem}.json").is_file():
        return read(path)
    if (Path(cohort) / "manifest.json").is_file():
        return table(name, load_cohort(cohort), profile, seeds, jobs, progress=False)
    known = sorted(path.parent.name for path in folder.glob(f"*/{stem}.json")) if folder is not None else []
    raise ValueError(
        f"table {name} is not kept for {str(cohort)!r} (kept for: {', '.join(known) or 'none'}), which is no folder of a prepared cohort"
        f" either; make it with `cm2 table {name} --cohort DIR --out results/{Path(cohort).name}`, or give the folder"
    )
