"""Prepare cohorts, train and compare methods, reproduce the paper's tables and figures, build the book."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cm2.cli.about import show_version
from cm2.cli.data import fabricate, prepare_sets, say_if_fabricated, verify
from cm2.cli.failures import command_line, report, say, without_debug
from cm2.cli.known import chapters, figures, one_of, tables
from cm2.cli.models import export, finished_run
from cm2.cli.options import (
    Absent,
    Backend,
    BookProfile,
    CohortPath,
    CohortPaths,
    FigureNumber,
    Mechanism,
    Method,
    Profile,
    Scheduler,
    Settings,
    Split,
    Store,
    StoreOrOut,
    TableName,
    Task,
    Tasks,
    TestSets,
    TrainSets,
    below,
    one_or_more,
    pairs,
    refuse,
)
from cm2.cli.own import prepare
from cm2.environment.extras import require_extra
from cm2.errors import InputError, in_the_words_of
from cm2.escape import one_line, terminal
from cm2.progress import quiet_libraries

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, rich_markup_mode=None)
app.add_typer(prepare, name="prepare")
app.add_typer(fabricate, name="fabricate")
app.command()(verify)
app.command()(export)


def main() -> None:
    """Runs the command line. What the user can mend gives one line on stderr and exit code 2; see `cm2.cli.failures`."""
    quiet_libraries()
    arguments, debug = without_debug(command_line())
    try:
        # shell completion is registered under this name, also for `python -m cm2`
        with in_the_words_of("command line"):
            code = app(_papermill_style(arguments), prog_name="cm2", standalone_mode=False)
    except Exception as error:
        code = report(error, arguments, debug)
    raise SystemExit(code if isinstance(code, int) else 0)


@app.callback()
def versions(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the versions and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Options of ``cm2`` itself."""


@app.command()
def train(
    cohort: CohortPath,
    method: Method = "cm2",
    task: Task = "in_hospital_mortality",
    profile: Profile = "quick",
    seed: Annotated[int, typer.Option(help="Random seed: initialisation, order of the stays, sampling.")] = 0,
    settings: Settings = [],  # noqa: B006
    seeds: Annotated[int, typer.Option(callback=one_or_more, help="Number of seeds, counting up from --seed.")] = 1,
    jobs: Annotated[int, typer.Option(help="Seeds trained in parallel.")] = 1,
    devices: Annotated[int, typer.Option(callback=one_or_more, help="Accelerators per run.")] = 1,
    record: Annotated[str, typer.Option(metavar="NAME", help="Write mean and interval over the seeds to results/NAME.json.")] = "",
    store: StoreOrOut = None,
    backend: Backend = "local",
    scheduler: Scheduler = "",
) -> None:
    """Train a method, or reuse the run if it exists.

    Example: cm2 train --cohort cohorts/physionet2012 --profile open --seed 0 --set model.link=scalar
    """
    from cm2.runs.cluster import backend as on
    from cm2.runs.recording import record_over_seeds
    from cm2.runs.store import RunStore, fit_all

    if record and seeds < 2:
        raise InputError(f"--record: one seed has no interval; give --seeds 2 or more, got {seeds}")
    configs = [_config(profile, settings, method=method, task=task, seed=number) for number in range(seed, seed + seeds)]
    stays = _cohort_with(task, cohort)
    with on(backend, scheduler, jobs) as at_once:
        runs = fit_all(configs, stays, RunStore(store), at_once, progress=True, devices=devices)
    say_if_fabricated(stays.disclosure)
    for run in runs:
        say(run.path)
        for split, metrics in run.metrics.items():
            say(f"{split:>5}  {_metrics_line(metrics)}")
    if record:
        say(record_over_seeds(runs, record, Path("results")))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or its key in the store.")],
    cohort: CohortPath,
    split: Split = "test",
    absent: Absent = [],  # noqa: B006
    mechanism: Mechanism = "mcar",
    seed: Annotated[int, typer.Option(help="Random seed of the masking.")] = 0,
    calibration: Annotated[
        bool, typer.Option("--calibration", help="In place of metrics: calibration by missing pattern, recalibrated on validation stays.")
    ] = False,
    store: Store = None,
) -> None:
    """Evaluate a finished run, optionally with modalities masked.

    Example: cm2 evaluate .cm2/runs/0123456789abcdef --cohort cohorts/physionet2012 --absent laboratory=0.5
    """
    from cm2.cohorts import load_cohort
    from cm2.runs.store import evaluate as evaluate_run

    found = finished_run(run, store)
    stays = load_cohort(cohort)
    if calibration:
        from cm2.cli.calibration import text
        from cm2.evaluation.calibration import calibration_of

        report = calibration_of(found, stays, split, pairs(absent), mechanism, seed, progress=True)
        say_if_fabricated(stays.disclosure)
        say(text(report))
        return
    metrics = evaluate_run(found, stays, split, pairs(absent), mechanism, seed, progress=True)
    say_if_fabricated(stays.disclosure)
    say(f"{split:>5}  {_metrics_line(metrics)}")


@app.command()
def runs(store: Store = None) -> None:
    """List the finished runs of the store, and what those with one name differ in.

    Example: cm2 runs
    """
    from cm2.runs.listing import told_apart
    from cm2.runs.saving import stored_description
    from cm2.runs.store import RunStore

    readable = []
    for run in RunStore(store).runs():
        try:
            readable.append((run, run.config, run.environment, run.metrics, stored_description(run.path))[0])
        except InputError as error:  # one of many: the others are listed
            say(f"{run.path.name}  cannot be read: {one_line(error)}")
    for run, (name, differs) in zip(readable, told_apart(readable), strict=True):
        line = f"{run.path.name}  {run.environment['date']}  {name}  test {_metrics_line(run.metrics['test'])}"
        say(f"{line}  {differs}".rstrip())


@app.command(epilog=below("Tables", tables()))
def table(
    name: TableName,
    cohort: CohortPaths,
    profile: Profile = "quick",
    seeds: Annotated[int, typer.Option(callback=one_or_more, help="Number of seeds, counting up from 0.")] = 2,
    jobs: Annotated[int, typer.Option(help="Runs trained in parallel.")] = 1,
    settings: Settings = [],  # noqa: B006
    rows: Annotated[
        list[str], typer.Option("--row", metavar="LABEL", help="Only this row and the row it is compared with (repeat for more).")
    ] = [],  # noqa: B006
    tasks: Tasks = [],  # noqa: B006
    store: Store = None,
    out: Annotated[Path | None, typer.Option(help="Folder that receives .csv, .json and .md; default figures.")] = None,
    publish_to: Annotated[
        Path | None,
        typer.Option(
            "--publish",
            metavar="DIR",
            help="In place of --out: write what may leave this machine to DIR/COHORT/, and the cohorts side by side to DIR.",
        ),
    ] = None,
    backend: Backend = "local",
    scheduler: Scheduler = "",
) -> None:
    """Reproduce a table of the paper, training the runs that are missing.

    Example: cm2 table 2 --cohort cohorts/synthetic --profile quick --seeds 2 --jobs 2

    For others to see: cm2 table 2 --cohort cohorts/physionet2012 --cohort cohorts/mimic4 --publish results
    """
    from cm2.runs.cluster import backend as on
    from cm2.runs.store import RunStore
    from cm2.tables import markdown, publish
    from cm2.tables import table as make_table

    if len(cohort) > 1 and publish_to is None:
        raise InputError("the files of several cohorts have the same names; give --publish DIR, with a folder for each, or one --cohort")
    if out is not None and publish_to is not None:
        raise InputError("--publish DIR and --out DIR both say where the table goes; give one of them")
    options: dict[str, Any] = {"profile": profile, "seeds": seeds, "settings": pairs(settings, convert=str)}
    options |= {"only": rows, "tasks": tasks, "store": RunStore(store)}
    with on(backend, scheduler, jobs) as at_once:
        if publish_to is None:
            made = [make_table(name, cohort[0], jobs=at_once, out=out or Path("figures"), **options)]
        else:
            made = publish(name, cohort, publish_to, jobs=at_once, **options)
    for result in made:
        say(markdown(result))


@app.command()
def confirm(
    plan: Annotated[Path, typer.Argument(help="TOML file of statements, committed before it is run; see plans/.")],
    out: Annotated[Path, typer.Option(help="Folder that receives the decisions and the test predictions.")],
    cohort: Annotated[Path | None, typer.Option(help="Folder of a prepared cohort; or give --raw.")] = None,
    raw: Annotated[Path | None, typer.Option(help="Folder of PhysioNet 2012, prepared first into OUT/cohort.")] = None,
    train_sets: TrainSets = ["a", "b"],  # noqa: B006
    test_sets: TestSets = ["c"],  # noqa: B006
    jobs: Annotated[int, typer.Option(help="Runs trained in parallel.")] = 1,
    store: Store = None,
) -> None:
    """Run a confirmatory plan once, on stays that nobody has looked at, and decide its statements.

    Example: cm2 confirm plans/version-3.toml --raw raw/physionet2012 --train-sets a --train-sets b --test-sets c --out results/confirmed
    """
    from cm2.cohorts import load_cohort
    from cm2.runs.store import RunStore
    from cm2.tables.confirmation import confirm as decide
    from cm2.tables.confirmation import text
    from cm2.tables.confirmatory_plan import read_plan

    if (cohort is None) == (raw is None):
        raise InputError("give either --cohort, the folder of a prepared cohort, or --raw, that of PhysioNet 2012")
    read_plan(plan)  # what is wrong with it is said before the stays are prepared
    if cohort is None:
        cohort = prepare_sets(raw, out / "cohort", train_sets, test_sets)
    say(text(decide(plan, load_cohort(cohort), out, jobs, RunStore(store))))


@app.command(epilog=below("Figures", figures()))
def figure(
    context: typer.Context,
    number: FigureNumber,
    cohort: Annotated[Path | None, typer.Option(help="Folder of the prepared cohort; optional for Figures 1, 2 and 5.")] = None,
    profile: Profile = "quick",
    seeds: Annotated[int, typer.Option(callback=one_or_more, help="Number of seeds (Figure 5).")] = 2,
    jobs: Annotated[int, typer.Option(help="Runs trained in parallel (Figure 5).")] = 1,
    settings: Settings = [],  # noqa: B006
    store: Store = None,
    out: Annotated[Path, typer.Option(help="Folder that receives .svg, .pdf, .png, .csv and .json.")] = Path("figures"),
) -> None:
    """Reproduce a figure of the paper, with its data and provenance.

    Example: cm2 figure 3 --cohort cohorts/synthetic --profile quick
    """
    from cm2.figures import regenerate
    from cm2.runs.store import RunStore

    if number == "1":
        refuse(context, ["profile", "seeds", "jobs", "settings", "store"], "Figure 1 shows no run")
    elif cohort is None and number in ("2", "5"):
        refuse(context, ["profile", "seeds", "jobs", "settings", "store"], f"without --cohort nothing is trained for Figure {number}")
    elif number != "5":
        refuse(context, ["seeds", "jobs"], f"Figure {number} shows one seed")
    for path in regenerate(int(number), cohort, profile, out, seeds, jobs, pairs(settings, convert=str), RunStore(store)):
        say(path)


@app.command()
def search(
    cohort: CohortPath,
    method: Method = "cm2",
    task: Task = "in_hospital_mortality",
    profile: Profile = "quick",
    trials: Annotated[int, typer.Option(callback=one_or_more, help="Number of distinct grid cells to try, earlier calls included.")] = 50,
    jobs: Annotated[int, typer.Option(help="Runs trained in parallel.")] = 1,
    seeds: Annotated[int, typer.Option(callback=one_or_more, help="Seeds to average over in each cell.")] = 1,
    settings: Settings = [],  # noqa: B006
    grid: Annotated[Path | None, typer.Option(help="TOML file with another grid; default: the paper's, extended to larger λ.")] = None,
    store: Store = None,
    out: Annotated[Path, typer.Option(help="Folder that receives .csv and .json.")] = Path("figures"),
    backend: Backend = "local",
    scheduler: Scheduler = "",
) -> None:
    """Search hyper-parameters on the validation stays. To continue, call again with more trials.

    Example: cm2 search --cohort cohorts/physionet2012 --profile open --trials 100 --jobs 2
    """
    require_extra("search")
    from cm2.runs import search as searching
    from cm2.runs.cluster import backend as on
    from cm2.runs.store import RunStore

    stays = _cohort_with(task, cohort)
    with on(backend, scheduler, jobs) as at_once:
        found = searching.search(
            stays,
            method,
            task,
            profile,
            trials,
            at_once,
            settings=pairs(settings, convert=str),
            seeds=seeds,
            grid=grid or searching.GRID,
            store=RunStore(store),
        )
    say_if_fabricated(stays.disclosure)
    say(found.trials.drop(columns=["runs"]).head(5).to_string(index=False))
    say(f"{len(found.trials)} of {found.cells} cells; best: " + " ".join(f"--set {k}={v}" for k, v in found.settings.items()))
    for path in searching.write(found, out):
        say(path)


@app.command()
def book(
    parameter: Annotated[
        list[str], typer.Option("-p", metavar="NAME VALUE", help="Set a papermill parameter of the chapters (repeat for more).")
    ] = [],  # noqa: B006
    only: Annotated[
        list[str],
        typer.Option(help="Execute only this chapter and those it reads results from (repeat for more).", autocompletion=chapters),
    ] = [],  # noqa: B006
    profile: BookProfile = "quick",
    jobs: Annotated[int, typer.Option(callback=one_or_more, help="Chapters executed in parallel.")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first chapter that fails, and render nothing.")] = False,
    limit: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Time limit of a chapter; default 15, or 20 times its author's estimate if that is more; none for open and paper.",
        ),
    ] = None,
) -> None:
    """Execute the chapters that changed and render the book. A chapter that fails costs only its own page; the exit code is then 1.

    Example: cm2 book --only training_cm2 -p seed 3
    """
    from cm2.book import ChapterError, RenderError, build

    given = pairs(parameter, convert=str)
    try:
        page = build(only or None, given, profile, jobs, report=say, strict=strict, limit=limit)
    except ChapterError as error:
        if error.page is not None:
            say(error.page)
        typer.secho(terminal(f"cm2: chapters that failed: {len(error.failures)}\n{error}"), err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None
    except RenderError as error:
        typer.secho(terminal(f"cm2: {error}"), err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from None
    say(page)


def _papermill_style(arguments: list[str]) -> list[str]:
    """Joins papermill's spelling, ``-p NAME VALUE``, into the single word that a list option can hold."""
    joined: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        joined.append(argument)
        if argument == "-p" and (name := next(rest, None)) is not None:
            joined.append(name if "=" in name else f"{name}={next(rest, '')}")
    return joined


def _cohort_with(task: str, folder: Path) -> Any:
    from cm2.cohorts import load_cohort

    cohort = load_cohort(folder)
    one_of("task", lambda: cohort.tasks)(task)
    return cohort


def _config(profile: str, settings: list[str], **fields: Any) -> Any:
    from cm2.config import Config

    return Config.from_profile(profile, fields | pairs(settings, convert=str))


def _metrics_line(metrics: dict[str, Any]) -> str:
    counts = ["hidden" if metrics[name] is None else str(int(metrics[name])) for name in ("n", "positives") if name in metrics]
    told = ", ".join([f"n {counts[0]}", *(f"{positives} positive" for positives in counts[1:])])
    names = [name for name in metrics if f"{name}_low" in metrics]  # what has an interval
    if any(metrics[name] is None for name in names):
        return f"too few {'positive or negative ' if 'positives' in metrics else ''}stays for a number that may be shown  {told}"
    numbers = ((name, (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))) for name in names)
    shown = ("{} {:.3f} [{:.3f}, {:.3f}]".format(_heading(name), *values) for name, values in numbers)
    return "  ".join([*shown, told])


def _heading(metric: str) -> str:
    from cm2.tasks import metric_named

    known = metric_named(metric)
    return metric if known is None else known.heading
