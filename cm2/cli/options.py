"""What several commands have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cm2.cli.known import figures, listed, mechanisms, methods, one_of, profiles, splits, tables, tasks

CohortPath = Annotated[Path, typer.Option("--cohort", help="Folder of a prepared cohort.")]
Method = Annotated[
    str,
    typer.Option(help=f"Method: {listed(methods(), 'or')}.", callback=one_of("method", methods), autocompletion=methods),
]
Task = Annotated[str, typer.Option(help=f"Label to predict: {listed(tasks())}, or another one of the cohort.", autocompletion=tasks)]
Tasks = Annotated[
    list[str],
    typer.Option("--task", metavar="TASK", help=f"Only {listed(tasks())}, or another (repeat for more).", autocompletion=tasks),
]
TableName = Annotated[
    str,
    typer.Argument(
        help="One of those below, or a TOML file.",
        callback=one_of("table", tables, own="the path of a TOML file"),
        autocompletion=lambda: list(tables().items()),
    ),
]
FigureNumber = Annotated[
    str,
    typer.Argument(help="One of those below.", callback=one_of("figure", figures), autocompletion=lambda: list(figures().items())),
]
Profile = Annotated[
    str,
    typer.Option(
        help=f"{listed(profiles())}, or a TOML file.",
        callback=one_of("profile", profiles, own="the path of a TOML file"),
        autocompletion=profiles,
    ),
]
BookProfile = Annotated[
    str,
    typer.Option(help=f"Of every chapter: {listed(profiles(), 'or')}.", callback=one_of("profile", profiles), autocompletion=profiles),
]
Split = Annotated[str, typer.Option(help=f"{listed(splits(), 'or')}.", callback=one_of("split", splits), autocompletion=splits)]
Mechanism = Annotated[
    str,
    typer.Option(
        help=f"How stays lose it: {listed(mechanisms(), 'or')}.", callback=one_of("mechanism", mechanisms), autocompletion=mechanisms
    ),
]
Settings = Annotated[list[str], typer.Option("--set", metavar="NAME=VALUE", help="Override a field, for example model.link=scalar.")]
Store = Annotated[Path | None, typer.Option(help="Run store; default .cm2/runs.")]
Absent = Annotated[list[str], typer.Option("--absent", metavar="MODALITY=FRACTION", help="Take a modality away from a fraction of stays.")]


def below(heading: str, entries: Mapping[str, str]) -> str:
    """A list at the end of a help page that keeps its lines."""
    width = max(map(len, entries))
    return "\n".join(["\b", f"{heading}:", *(f"  {name:<{width}}  {text}" for name, text in entries.items())])


def pairs(settings: list[str], convert: Callable[[str], Any] = float) -> dict[str, Any]:
    """Words ``NAME=VALUE`` as a dictionary.

    Raises:
        ValueError: a word without ``=``, or a value that is not what ``convert`` reads.
    """
    found = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"expected NAME=VALUE, got {setting!r}")
        try:
            found[name] = convert(value)
        except ValueError as error:
            raise ValueError(f"{name}: {f'expected a number, got {value!r}' if convert is float else error}") from None
    return found
