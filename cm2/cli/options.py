"""Options and helpers shared by several commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cm2.cli.known import (
    all_methods,
    backends,
    figures,
    listed,
    mechanisms,
    methods,
    one_of,
    profiles,
    splits,
    tables,
    tasks,
    tasks_typed,
)
from cm2.environment.extras import require_extra
from cm2.errors import InputError


def _backend(given: str) -> str:
    """A known backend whose libraries are there: said before anything else is done."""
    one_of("backend", backends)(given)
    if given == "dask":
        require_extra("cluster")
    return given


def one_or_more(parameter: typer.CallbackParam, count: int) -> int:
    """A count that is one or more, as the callback of an option. Raises InputError for another."""
    if count < 1:
        raise InputError(f"--{parameter.name}: expected 1 or more, got {count}")
    return count


def refuse(context: typer.Context, names: list[str], why: str) -> None:
    """Refuses options that would change nothing. Raises InputError with the first of them on the command line."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name) if parameter.name in names else None
        if source is not None and source.name == "COMMANDLINE":  # by name: the class is click's, or typer's own copy of it
            raise InputError(f"{parameter.opts[0]} changes nothing: {why}; leave it out")


CohortPath = Annotated[Path, typer.Option("--cohort", help="Folder of a prepared cohort.")]
CohortPaths = Annotated[
    list[Path], typer.Option("--cohort", help="Folder of a prepared cohort (with --publish, repeat for several side by side).")
]
Method = Annotated[
    str,
    typer.Option(
        help=f"Method: {listed(methods())}, or one of a plug-in.",
        callback=one_of("method", all_methods),
        autocompletion=all_methods,
    ),
]
Task = Annotated[
    str, typer.Option(help=f"Label to predict: {listed(tasks())}, or another label of the cohort.", autocompletion=tasks_typed)
]
Tasks = Annotated[
    list[str],
    typer.Option(
        "--task",
        metavar="TASK",
        help=f"Only this task (repeat for more): {listed(tasks())}, or another label of the cohort.",
        autocompletion=tasks_typed,
    ),
]
TableName = Annotated[
    str,
    typer.Argument(
        help="One of the tables below, or a TOML file.",
        callback=one_of("table", tables, own="the path of a TOML file"),
        autocompletion=lambda: list(tables().items()),
    ),
]
FigureNumber = Annotated[
    str,
    typer.Argument(help="One of the figures below.", callback=one_of("figure", figures), autocompletion=lambda: list(figures().items())),
]
Profile = Annotated[
    str,
    typer.Option(
        help=f"Configuration: {listed(profiles())}, or a TOML file.",
        callback=one_of("profile", profiles, own="the path of a TOML file"),
        autocompletion=profiles,
    ),
]
BookProfile = Annotated[
    str,
    typer.Option(
        help=f"Profile of every chapter: {listed(profiles(), 'or')}.", callback=one_of("profile", profiles), autocompletion=profiles
    ),
]
Split = Annotated[str, typer.Option(help=f"Split: {listed(splits(), 'or')}.", callback=one_of("split", splits), autocompletion=splits)]
Mechanism = Annotated[
    str,
    typer.Option(
        help=f"Missingness mechanism: {listed(mechanisms(), 'or')}.", callback=one_of("mechanism", mechanisms), autocompletion=mechanisms
    ),
]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="NAME=VALUE", help="Override a field of the configuration, for example model.link=scalar (repeat for more)."
    ),
]
_STORE = "Folder of the run store; default .cm2/runs."
Store = Annotated[Path | None, typer.Option(help=_STORE)]
StoreOrOut = Annotated[Path | None, typer.Option("--store", "--out", help=_STORE)]
"""Of a command whose result is the run."""
Backend = Annotated[
    str,
    typer.Option(help=f"Where runs are trained: {listed(backends(), 'or')}.", callback=_backend, autocompletion=backends),
]
Scheduler = Annotated[str, typer.Option(metavar="ADDRESS", help="Address of Dask's scheduler; its workers share this file system.")]
Absent = Annotated[
    list[str],
    typer.Option("--absent", metavar="MODALITY=FRACTION", help="Mask a modality in this fraction of the stays with it (repeat for more)."),
]

TrainSets = Annotated[
    list[str],
    typer.Option(help="Sets of the challenge to train on (repeat for more, or a,c); 15 % of their stays are used for validation."),
]
TestSets = Annotated[list[str], typer.Option(help="Sets to test on (repeat for more).")]


def separate(words: list[str]) -> tuple[str, ...]:
    """The names in words that may hold several, separated by commas."""
    return tuple(name for word in words for name in word.split(","))


def below(heading: str, entries: Mapping[str, str]) -> str:
    """A list for the end of a help page; the leading backspace keeps click from rewrapping its lines."""
    width = max(map(len, entries))
    return "\n".join(["\b", f"{heading}:", *(f"  {name:<{width}}  {text}" for name, text in entries.items())])


def pairs(settings: list[str], convert: Callable[[str], Any] = float) -> dict[str, Any]:
    """Parses words ``NAME=VALUE`` into a dictionary.

    Raises:
        ValueError: a word without ``=``, or a value that ``convert`` rejects.
    """
    found = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            raise InputError(f"expected NAME=VALUE, got {setting!r}")
        try:
            found[name] = convert(value)
        except ValueError as error:
            raise InputError(f"{name}: {f'expected a number, got {value!r}' if convert is float else error}") from None
    return found
