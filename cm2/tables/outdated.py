"""Whether a kept table is what this version of the package would compute: same rows, same settings, same versions of the methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from cm2.errors import InputError
from cm2.methods import METHODS
from cm2.tables.contract import kind_of
from cm2.tables.entries import entries_of
from cm2.tables.for_pages import REMARK
from cm2.tables.loading import load_table
from cm2.tables.result import Place, RowPlace, TableResult
from cm2.tables.spec import TableSpec, choose_modalities, roles

Planned = Mapping[RowPlace, Collection[str]]
"""Digests of the configurations of a row, one for each seed, by section, row and task."""
LEVELS = ((0,), (1,), (3,), (0, 2), (1, 2), (3, 2), (1, 0), (3, 0), (3, 1), (1, 0, 2), (3, 0, 2), (3, 1, 2), (3, 1, 0), (3, 1, 0, 2))
"""What may be lacking as a whole, as positions in a `Place`: the coarsest that holds is told."""


def outdated(result: TableResult, beside: Iterable[TableResult] = ()) -> list[str]:
    """What has changed since a table was computed, a reason each; empty if nothing has, or if the table needs no runs.

    Every task that the table has must be whole: a number for each row of each section in each metric, by as many seeds as planned. It may
    have fewer tasks than its cohort, since those wanted can be asked for. The cohort's data are not needed; that they are the same is what
    the table's checksum of the cohort says.

    Args:
        result: a table of the package on a cohort of ``cohorts.toml``.
        beside: the tables of its folder, which are about one version of the cohort.

    Raises:
        ValueError: a table or cohort that the package does not know.
    """
    source = result.provenance
    if not source.get("configurations"):
        return []
    spec, role = load_table(result.name), roles().get(source["cohort"])
    if role is None or (modalities := choose_modalities(spec, role)) is None:
        raise InputError(f"table {result.name}: the cohort {source['cohort']!r} has no role in cohorts.toml that fits it")
    tasks = {cell.task: role.tasks.get(cell.task, cell.task) for cell in result.cells} or role.tasks
    entries = entries_of(spec, role, modalities, source["profile"], source["seeds"], spec.row, tasks, {})
    planned = {(e.section.label, e.row.label, e.task): [c.digest() for c in e.configs] for e in entries}
    reasons = [*_cohort(result, beside), *_definition(result, spec), *_places(result, spec, planned, modalities)]
    return list(dict.fromkeys([*reasons, *_settings(result, spec, planned), *_versions(result)]))


def _cohort(result: TableResult, beside: Iterable[TableResult]) -> Iterator[str]:
    """Whether most tables of the folder are about another version of the cohort."""
    own, versions = result.provenance.get("cohort_checksum", ""), Counter(t.provenance.get("cohort_checksum", "") for t in beside)
    if versions and (most := versions.most_common(1)[0][0]) != own:
        yield f"it is about the cohort {own[:12]}, most tables of its folder are about {most[:12]}"


def _definition(result: TableResult, spec: TableSpec) -> Iterator[str]:
    """What holds for all numbers of the table."""
    source = result.provenance
    had = {"kind": result.kind, "reference": result.reference, "split": source.get("split", TableSpec.split)}
    had |= {"margin": source.get("margin"), "margins": source.get("margins", {})}
    for name, value in had.items():
        if value != (now := getattr(spec, name)):
            yield f"its {name} is {value!r}, the table's is {now!r} now"


def _places(result: TableResult, spec: TableSpec, planned: Planned, modalities: tuple[str, ...]) -> Iterator[str]:
    """Numbers that the table lacks, and those that it should not have."""
    cannot = result.provenance.get("cannot", {})
    able = [place for place in planned if place[1] not in cannot]
    kind = kind_of(result.kind)
    had = {cell.place for cell in result.cells if cell.runs or kind.predicted}  # those of chance belong to no run
    wanted = kind.wanted(spec, result, able, modalities)
    yield from (f"it has a {part} that the table no longer has" for part in _whole(had - wanted, had))
    labels = {row.label for row in spec.row}
    yield from (f"it has a row {row!r} that the table no longer has" for row in sorted(cannot) if row not in labels)
    if REMARK not in result.provenance:  # a page leaves out what may not be shown
        yield from (f"it lacks the {part}" for part in _whole(wanted - had, wanted))


def _whole(some: AbstractSet[Place], of: AbstractSet[Place]) -> Iterator[str]:
    """Some places of a table in words: a whole section, row or metric where all of its places are among them, and so on down."""
    left = set(some)
    for level in LEVELS:
        groups: dict[tuple[str, ...], set[Place]] = {}
        for place in sorted(of) if left else ():
            groups.setdefault(tuple(place[part] for part in level), set()).add(place)
        for key, group in groups.items():
            if group <= some and group & left:
                left -= group
                yield ", ".join(f"{Place._fields[part]} {name!r}" for part, name in zip(level, key, strict=True))


def _settings(result: TableResult, spec: TableSpec, planned: Planned) -> Iterator[str]:
    """Rows whose runs are not those that are planned."""
    digests, kind = result.provenance["configurations"], kind_of(result.kind)
    for cell in result.cells:
        wanted = planned.get((kind.section_of(spec, cell.section), cell.method, cell.task))
        used = {digests.get(run.split(" ")[0], "") for run in cell.runs}
        if wanted is None or used == set(wanted) or (not used and not kind.predicted):
            continue
        if used < set(wanted) or used > set(wanted):
            yield f"the row {cell.method!r} has {len(cell.runs)} seeds, and {len(wanted)} now"
        else:
            yield f"the row {cell.method!r} has other settings now"


def _versions(result: TableResult) -> Iterator[str]:
    for method, version in result.provenance.get("versions", {}).items():
        now = METHODS[method].version if method in METHODS else "none"
        if now != version:
            yield f"{method} is in version {now} now, the table has version {version}"
