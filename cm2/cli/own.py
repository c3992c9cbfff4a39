"""Commands that prepare cohorts of one's own: ``cm2 prepare own`` and ``cm2 prepare meds``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cm2.cli.data import Out, prepare, report
from cm2.cli.known import listed, task_types
from cm2.cli.options import pairs, separate
from cm2.errors import InputError

Files = list[str]
FILE = "[NAME=]PATH"
Tables = Annotated[Files, typer.Option("--table", metavar=FILE, help="Table with one row for each id (repeat for more).")]
SeriesFiles = Annotated[
    Files,
    typer.Option("--series", metavar=FILE, help="Long table with ids and times, or an array (n, T, F) (repeat for more)."),
]
TextFiles = Annotated[
    Files, typer.Option("--text", metavar=FILE, help="Table of ids and texts, one row for each document (repeat for more).")
]
ImageFiles = Annotated[
    Files,
    typer.Option("--images", metavar=FILE, help="Folder of images called ID.png, table of ids and paths, or an array (repeat for more)."),
]
Labels = Annotated[Path, typer.Option(help="Table with one row for each stay; every other column is a task.")]
Id = Annotated[str | None, typer.Option(help="Column with the ids; without it all files have their rows in the order of the labels.")]
Types = Annotated[
    list[str],
    typer.Option(
        "--task",
        metavar="NAME[=TYPE]",
        help=f"Only these columns of labels are tasks, of a type ({listed(task_types(), 'or')}) or told by their values.",
    ),
]
Open = Annotated[
    bool, typer.Option("--open", help="Anybody may have the data: show all counts, and ids and values in errors. Not for data of patients.")
]
Drop = Annotated[bool, typer.Option("--drop-unmatched", help="Drop and count rows without a label, and stays without any modality.")]
Split = Annotated[str | None, typer.Option(help="Column of the labels with train, valid and test, or shares such as 0.7,0.15,0.15.")]
Groups = Annotated[str | None, typer.Option(help="Column of the labels with the subjects, whose stays are all in one split.")]
Seed = Annotated[int, typer.Option(help="Random seed of the splits.")]


@prepare.command()
def own(
    labels: Labels,
    out: Out,
    table: Tables = [],  # noqa: B006 - typer reads the default
    series: SeriesFiles = [],  # noqa: B006
    text: TextFiles = [],  # noqa: B006
    images: ImageFiles = [],  # noqa: B006
    id: Id = None,
    task: Types = [],  # noqa: B006
    split: Split = None,
    groups: Groups = None,
    time: Annotated[str, typer.Option(help="Column of the times of series, and of texts that have one.")] = "time",
    every: Annotated[float | None, typer.Option(help="Put series on a regular grid with steps of this width.")] = None,
    steps: Annotated[int | None, typer.Option(help="Largest number of steps of a series.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize images to this many pixels a side.")] = None,
    open_data: Open = False,
    drop_unmatched: Drop = False,
    seed: Seed = 0,
) -> None:
    """Prepare data of your own: tables, series, texts and images, matched by id.

    Files are CSV, TSV, Parquet or NumPy (.npy). Data are protected unless you say --open.

    Example: cm2 prepare own --table labs.parquet --series vitals.csv --text notes.csv --labels labels.csv --id patient --out cohorts/mine
    """
    from cm2.cohorts import from_files

    options: dict[str, Any] = {"split": _split(split), "groups": groups, "tasks": _tasks(task), "credentialed": not open_data, "seed": seed}
    options["unmatched"] = "drop" if drop_unmatched else "error"
    cohort = from_files(
        labels, out, tables=table, series=series, texts=text, images=images, id=id, time=time, every=every, steps=steps,
        size=image_size, **options,
    )  # fmt: skip
    report(cohort.path)


@prepare.command()
def meds(
    data: Annotated[Path, typer.Option(help="Folder of a MEDS data set, or of its files.")],
    labels: Annotated[Path, typer.Option(help="File or folder of labels: subject_id, prediction_time and a value.")],
    out: Out,
    task: Annotated[str, typer.Option(help="Name of the outcome.")] = "label",
    hours: Annotated[float, typer.Option(help="Hours before the prediction time that are read.")] = 48.0,
    every: Annotated[float, typer.Option(help="Width of a step in hours.")] = 2.0,
    codes: Annotated[int, typer.Option(help="Most codes of each modality.")] = 64,
    open_data: Open = False,
    seed: Seed = 0,
) -> None:
    """Prepare events and labels in the layout of the Medical Event Data Standard (MEDS).

    Example: cm2 prepare meds --data meds/mimic-iv-demo --labels meds/labels/mortality.parquet --task mortality --out cohorts/meds
    """
    from cm2.cohorts import from_meds

    cohort = from_meds(
        data, labels, out=out, task=task, hours=hours, every=every, codes=codes, credentialed=not open_data, seed=seed
    )  # fmt: skip
    report(cohort.path)


def _split(given: str | None) -> str | tuple[float, ...] | None:
    """A column, or three shares."""
    if given is None or "," not in given:
        return given
    try:
        return tuple(float(share) for share in given.split(","))
    except ValueError:
        raise InputError(f"--split: {given!r} is neither a column nor three shares; give for example 0.7,0.15,0.15") from None


def _tasks(words: list[str]) -> dict[str, str | None] | None:
    """Types by name; None where a column's values tell."""
    if not words:
        return None
    given = separate(words)
    return {word: None for word in given if "=" not in word} | pairs([word for word in given if "=" in word], convert=str)
