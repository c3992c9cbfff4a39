"""The command that saves a run's model in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cm2.cli.failures import say
from cm2.cli.options import Store
from cm2.errors import InputError

if TYPE_CHECKING:
    from cm2.runs.run import Run


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or its key in the store.")],
    out: Annotated[Path, typer.Option(help="New folder for weights, settings, tokenizer and model card.")],
    cohort: Annotated[Path | None, typer.Option(help="The run's cohort; only for a run that an earlier version stored.")] = None,
    push: Annotated[str, typer.Option(metavar="NAME", help="Also send it to the model hub, for example me/model.")] = "",
    public: Annotated[bool, typer.Option("--public", help="On the hub, let everybody see it; refused for credentialed data.")] = False,
    store: Store = None,
) -> None:
    """Save a run's model so that it loads without the cohort. Of credentialed data nothing about a stay is in it.

    Example: cm2 export 0123456789abcdef --out models/ward
    """
    from cm2.cohorts import load_cohort

    given = None if cohort is None else load_cohort(cohort)
    found = finished_run(run, store)
    say(found.save_pretrained(out, given))
    if push:
        say(found.push_to_hub(push, private=not public, cohort=given))


def finished_run(given: Path, store: Path | None = None) -> Run:
    """A finished run by its folder or key. Raises InputError if there is none."""
    from cm2.runs.run import Run
    from cm2.runs.store import RunStore

    found = next((place for place in (given, RunStore(store).root / given) if (place / "metrics.json").is_file()), None)
    if found is None:
        raise InputError(f"{given} is not a finished run; `cm2 runs` lists the finished runs of the store")
    return Run(found)
