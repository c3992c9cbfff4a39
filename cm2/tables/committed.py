"""Tables that are committed under ``results``, and what lies beside them: predictions and scores of single stays."""

from __future__ import annotations

from pathlib import Path

from numpy.typing import NDArray

from cm2.cohorts import load_cohort
from cm2.cohorts.format import MANIFEST
from cm2.errors import InputError
from cm2.results import kept
from cm2.tables.for_pages import for_page
from cm2.tables.loading import load_table
from cm2.tables.recomputation import keeps_predictions
from cm2.tables.result import TableResult, read
from cm2.tables.run import table
from cm2.tables.scores import SCORES, read_scores


def kept_table(name: str | int, cohort: str | Path, profile: str = "quick", seeds: int = 2, jobs: int = 1) -> TableResult:
    """The table committed under ``results/COHORT`` if ``cohort`` is the name of a folder there, else ``table`` on a prepared cohort.

    Of a computed table the groups of too few stays are left out; where that is all, it is the committed table of PhysioNet 2012, and
    `notes` says so: see `cm2.tables.for_pages.for_page`.

    Args:
        name: see ``cm2.tables.load_table``.
        cohort: ``physionet2012``, for example, or the folder of a prepared cohort.
        profile: used if the table is computed; a committed table's profile is in its provenance.
        seeds: number of seeds, used if the table is computed.
        jobs: number of runs trained in parallel.

    Raises:
        ValueError: no committed table and no prepared cohort; or an error of ``table``.
    """
    stem, folder = load_table(name).file, kept()
    if folder is not None and (path := folder / str(cohort) / f"{stem}.json").is_file():
        return read(path)
    if (Path(cohort) / MANIFEST).is_file():
        return for_page(table(name, load_cohort(cohort), profile, seeds, jobs, progress=False), stem, folder)
    known = sorted(path.parent.name for path in folder.glob(f"*/{stem}.json")) if folder is not None else []
    raise InputError(
        f"results/ has no table {name} for {str(cohort)!r} (it has one for: {', '.join(known) or 'none'}), which is not the folder of a"
        f" prepared cohort either; compute it with `cm2 table {name} --cohort DIR --out results/{Path(cohort).name}`, or give the folder"
    )


def kept_predictions(result: TableResult) -> Path | None:
    """File with the predictions of the runs of a committed table, for `changes` and `compared_with`.

    None for a table that was computed for the page, without a folder to store it in, or that was stored without predictions.

    Args:
        result: of ``kept_table``.
    """
    return _beside(result, result.provenance["predictions"]) if keeps_predictions(result) else None


def kept_scores(result: TableResult) -> dict[str, NDArray]:
    """Scores of single stays behind a committed table of embeddings, by name, for `score_difference`.

    Empty for a table that was computed for the page, or that was stored without scores.

    Args:
        result: of ``kept_table``.
    """
    path = _beside(result, result.provenance.get(SCORES, ""))
    return read_scores(path) if path is not None and path.is_file() else {}


def _beside(result: TableResult, name: str) -> Path | None:
    """A file in the folder of a committed table."""
    folder = kept()
    return folder / result.provenance["cohort"] / Path(name).name if folder is not None and name else None
