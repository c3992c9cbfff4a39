"""Commands on data: ``prepare``, ``fabricate`` and ``verify``."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cm2.cli.failures import say
from cm2.cli.options import Absent, Mechanism, TestSets, TrainSets, one_or_more, pairs, separate
from cm2.errors import InputError

if TYPE_CHECKING:
    from cm2.cohorts.disclosure import Disclosure

prepare = typer.Typer(no_args_is_help=True, help="Turn raw files into a prepared cohort.")
fabricate = typer.Typer(no_args_is_help=True, help="Fabricate raw files of MIMIC, with known correct answers, and of eICU.")

Out = Annotated[Path, typer.Option(help="Folder of the prepared cohort; written whole or not at all.")]
MODALITIES = typer.Option(help="Only these modalities, separated by commas.")
Variant = Annotated[
    str,
    typer.Option(
        help="corrected, or released: with every quirk of the released preparation.", autocompletion=lambda: list(_quirks().VARIANTS)
    ),
]
QuirkSwitches = Annotated[
    list[str],
    typer.Option(
        "--quirk",
        metavar="NAME=on|off",
        help="Switch a quirk on or off (repeat for more); `cm2 prepare quirks` lists them.",
        autocompletion=lambda: [f"{name}={switch}" for name in _quirks().SENTENCES for switch in ("on", "off")],
    ),
]
TestList = Annotated[Path | None, typer.Option(help="The benchmark's list of test subjects; default: subjects are split by a hash.")]
ValidList = Annotated[Path | None, typer.Option(help="The benchmark's list of validation subjects.")]
MemoryLimit = Annotated[str, typer.Option(help="Memory limit of DuckDB; larger data spill to disk.")]
Jobs = Annotated[int, typer.Option(callback=one_or_more, help="Number of threads.")]
Temporary = Annotated[Path | None, typer.Option(help="Folder for data that do not fit into memory; default: beside OUT.")]
Incomplete = Annotated[
    bool, typer.Option("--allow-incomplete", help="Prepare files that are not as published, too; the manifest says which.")
]
Stays = Annotated[int, typer.Option(help="Number of ICU stays.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
RawOut = Annotated[Path, typer.Option(help="Folder of the raw files; written whole or not at all.")]


@prepare.command()
def synthetic(
    out: Out,
    stays: Annotated[int, typer.Option(help="Number of stays.")] = 2000,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    family: Annotated[str, typer.Option(help="Copula family of the true distribution.", autocompletion=lambda: _families())] = "gumbel",
    alpha: Annotated[float | None, typer.Option(help="Parameter of an Archimedean family; default 2.5.")] = None,
    rho: Annotated[float | None, typer.Option(help="Correlation of an elliptical family; default 0.5.")] = None,
    nu: Annotated[float | None, typer.Option(help="Degrees of freedom of student; default 8.")] = None,
    absent: Absent = [],  # noqa: B006 - typer reads the default
    mechanism: Mechanism = "mcar",
) -> None:
    """Simulate ICU stays from a known distribution.

    Example: cm2 prepare synthetic --stays 2000 --absent image=0.75 --out cohorts/synthetic
    """
    options = {"absent": pairs(absent)} if absent else {}
    law = {"family": family, "alpha": alpha, "rho": rho, "nu": nu}
    report(_data_prep().prepare_synthetic(out, stays=stays, seed=seed, mechanism=mechanism, **law, **options))


@prepare.command()
def physionet2012(
    raw: Annotated[Path, typer.Option(help="Folder with set-*.tar.gz (or set-*/) and Outcomes-*.txt.")],
    out: Out,
    train_sets: TrainSets = ["a"],  # noqa: B006
    test_sets: TestSets = ["b"],  # noqa: B006
    download: Annotated[
        bool, typer.Option("--download", help="Download files missing from RAW from physionet.org and verify them.")
    ] = False,
    descriptors: Annotated[
        bool, typer.Option("--descriptors", help="Write the admission text's content as numbers too, a modality of its own.")
    ] = False,
) -> None:
    """Prepare the PhysioNet 2012 challenge: bedside series, laboratory series, admission text.

    Example: cm2 prepare physionet2012 --raw raw/physionet2012 --train-sets a --test-sets b --out cohorts/physionet2012
    """
    sets = {"train_sets": separate(train_sets), "test_sets": separate(test_sets)}
    report(_data_prep().prepare_physionet2012(raw, out, **sets, download=download, descriptors=descriptors))


def prepare_sets(raw: Path | None, out: Path, train_sets: list[str], test_sets: list[str]) -> Path:
    """The cohort of the challenge that trains and tests on these sets, prepared unless it is there."""
    return _data_prep().prepare_physionet2012(raw, out, train_sets=separate(train_sets), test_sets=separate(test_sets))


@prepare.command()
def mimic3(
    raw: Annotated[Path, typer.Option(help="Folder with the tables of MIMIC-III v1.4, .csv or .csv.gz, or the zip of the release.")],
    out: Out,
    modalities: Annotated[str, MODALITIES] = "series,note",
    variant: Variant = "corrected",
    quirk: QuirkSwitches = [],  # noqa: B006
    test_list: TestList = None,
    valid_list: ValidList = None,
    memory_limit: MemoryLimit = "3GB",
    jobs: Jobs = 2,
    temporary: Temporary = None,
    allow_incomplete: Incomplete = False,
) -> None:
    """Prepare your copy of MIMIC-III: charted series and clinical notes.

    Example: cm2 prepare mimic3 --raw mimiciii/1.4 --out cohorts/mimic3
    """
    options = _mimic_options(modalities, variant, quirk, test_list, valid_list, memory_limit, jobs, temporary, allow_incomplete)
    report(_data_prep().prepare_mimic3(raw, out, **options))


@prepare.command()
def mimic4(
    raw: Annotated[Path, typer.Option(help="Folder with hosp/ and icu/ of MIMIC-IV, v2.0 to v3.1, or the zip of the release.")],
    out: Out,
    films: Annotated[Path | None, typer.Option(help="Folder of MIMIC-CXR-JPG, or its zip; default RAW/mimic-cxr-jpg.")] = None,
    reports: Annotated[Path | None, typer.Option(help="Folder of MIMIC-CXR's reports, or their zip; default RAW/mimic-cxr.")] = None,
    notes: Annotated[
        Path | None, typer.Option(help="Folder of MIMIC-IV-Note, or its zip, for the modality note; default RAW/mimic-iv-note.")
    ] = None,
    image_size: Annotated[int, typer.Option(help="Side of the radiographs in pixels.")] = 224,
    modalities: Annotated[str, MODALITIES] = "series,image,report",
    variant: Variant = "corrected",
    quirk: QuirkSwitches = [],  # noqa: B006
    test_list: TestList = None,
    valid_list: ValidList = None,
    memory_limit: MemoryLimit = "3GB",
    jobs: Jobs = 2,
    temporary: Temporary = None,
    allow_incomplete: Incomplete = False,
) -> None:
    """Prepare your copy of MIMIC-IV: charted series, chest radiographs and radiology reports.

    Example: cm2 prepare mimic4 --raw mimiciv/2.2 --films mimic-cxr-jpg/2.0.0 --reports mimic-cxr/2.0.0 --out cohorts/mimic4
    """
    options = _mimic_options(modalities, variant, quirk, test_list, valid_list, memory_limit, jobs, temporary, allow_incomplete)
    report(_data_prep().prepare_mimic4(raw, out, films=films, reports=reports, notes=notes, image_size=image_size, **options))


@prepare.command()
def eicu(
    raw: Annotated[Path, typer.Option(help="Folder with the tables of eICU v2.0 or of its demo, or the zip of the release.")],
    out: Out,
    memory_limit: MemoryLimit = "3GB",
    jobs: Jobs = 2,
    temporary: Temporary = None,
    allow_incomplete: Incomplete = False,
) -> None:
    """Prepare your copy of eICU, or its open demo: charted series of a second hospital system, in the columns of MIMIC's.

    Example: cm2 prepare eicu --raw eicu-crd-demo/2.0.1 --out cohorts/eicu
    """
    options = {"memory_limit": memory_limit, "jobs": jobs, "temporary": temporary, "allow_incomplete": allow_incomplete}
    report(_data_prep().prepare_eicu(raw, out, **options))


@prepare.command()
def quirks() -> None:
    """List the defects of the released preparation of MIMIC that the corrected one avoids.

    Example: cm2 prepare quirks
    """
    for name, sentence in _quirks().SENTENCES.items():
        say(f"{name:<27} {sentence}")


@fabricate.command("mimic3")
def fabricated_mimic3(out: RawOut, stays: Stays = 2000, seed: Seed = 0) -> None:
    """Fabricate raw files in the layout of MIMIC-III v1.4, with realistic errors and the correct answers in truth/.

    Example: cm2 fabricate mimic3 --stays 2000 --out raw/mimic3
    """
    say(_data_prep().fabricate_mimic3(out, stays=stays, seed=seed))


@fabricate.command("mimic4")
def fabricated_mimic4(out: RawOut, stays: Stays = 2000, seed: Seed = 0) -> None:
    """Fabricate raw files in the layouts of MIMIC-IV v2.2, MIMIC-CXR-JPG and MIMIC-CXR, with realistic errors and the correct answers.

    Example: cm2 fabricate mimic4 --stays 2000 --out raw/mimic4
    """
    say(_data_prep().fabricate_mimic4(out, stays=stays, seed=seed))


@fabricate.command("eicu")
def fabricated_eicu(out: RawOut, stays: Stays = 2000, seed: Seed = 0) -> None:
    """Fabricate raw files in the layout of eICU's demo v2.0.1, with realistic errors.

    Example: cm2 fabricate eicu --stays 500 --out raw/eicu
    """
    say(_data_prep().fabricate_eicu(out, stays=stays, seed=seed))


def verify(folder: Annotated[Path, typer.Argument(help="Folder of a prepared cohort, or of tables.")]) -> None:
    """Check a cohort against its manifest and the paper's counts, or tables against the predictions of their runs.

    Example: cm2 verify cohorts/mimic3
    """
    from cm2.cohorts.format import MANIFEST
    from cm2.tables.recomputation import kept_tables, verify_tables
    from cm2.tables.verification import Verification, comparison_text, verify_cohort

    tables = not (folder / MANIFEST).is_file() and bool(kept_tables(folder))
    found = Verification.of(verify_tables(folder)) if tables else verify_cohort(folder)
    for line in found.lines():
        say(line)
    if found.health:
        say("\n" + found.health)
    if len(found.comparison):
        say("\n" + comparison_text(found.comparison))
    if found.problems:
        raise typer.Exit(1)


def _mimic_options(
    modalities: str,
    variant: str,
    quirk: list[str],
    test_list: Path | None,
    valid_list: Path | None,
    memory_limit: str,
    jobs: int,
    temporary: Path | None,
    allow_incomplete: bool,
) -> dict[str, Any]:
    if (test_list is None) != (valid_list is None):
        raise InputError("give both --test-list and --valid-list, or neither")
    return {
        "modalities": tuple(modalities.split(",")),
        "variant": variant,
        "quirks": pairs(quirk, convert=_switch),
        "split_lists": None if test_list is None else (test_list, valid_list),
        "memory_limit": memory_limit,
        "jobs": jobs,
        "temporary": temporary,
        "allow_incomplete": allow_incomplete,
    }


def _switch(text: str) -> bool:
    switches = {"on": True, "off": False}
    if text not in switches:
        raise InputError(f"a quirk is switched on or off, got {text!r}")
    return switches[text]


def _families() -> list[str]:
    return import_module("data_prep.synthetic.law").simulated_families()


def _quirks() -> Any:
    return import_module("data_prep.mimic.quirks")


def _data_prep() -> Any:
    return import_module("data_prep")


def say_if_fabricated(disclosure: Disclosure) -> None:
    """A line before the numbers of a fabricated cohort."""
    from cm2.cohorts.disclosure import FABRICATED

    if disclosure.fabricated:
        say(FABRICATED)


def report(folder: Path) -> None:
    """What a preparation says when it is done: the flow chart, the folder, channels that lack values, the paper's counts."""
    from cm2.cohorts.disclosure import Disclosure
    from cm2.cohorts.format import read_manifest
    from cm2.cohorts.opening import load_cohort
    from cm2.tables.health import health_findings

    manifest = read_manifest(folder)
    shown = Disclosure.of(manifest)
    say_if_fabricated(shown)
    for step in shown.flow(manifest["flow"]):
        note = f"  {step['note']}" if step.get("note") else ""
        say(f"{step['stays']:>8,}  {step['step']}{note}")
    say(folder)
    for line, problem in health_findings(load_cohort(folder, verify=False)):
        if problem:
            say(f"WARNING  {line}: {problem}; `cm2 verify {folder}` shows the table", err=True)
    from cm2.tables.verification import compare_with_paper, comparison_text

    if len(compared := compare_with_paper(folder)):
        say(comparison_text(compared))
