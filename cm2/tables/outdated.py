"""Whether a kept table is what this version of the package would compute: same rows, same settings, same versions of the methods."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import permutations

from cm2.errors import InputError
from cm2.methods import METHODS
from cm2.tables.contract import kind_of
from cm2.tables.entries import entries_of
from cm2.tables.evaluated import AUROC
from cm2.tables.for_pages import REMARK
from cm2.tables.loading import load_table
from cm2.tables.planning import metrics_of
from cm2.tables.result import TableResult
from cm2.tables.spec import TableSpec, choose_modalities, roles
from cm2.tasks import Binary

Place = tuple[str, str, str, str]
"""Of a number: see `PARTS`."""
Planned = Mapping[tuple[str, str, str], Collection[str]]
"""Digests of the configurations of a row, one for each seed, by section, row and task."""
PARTS = ("section", "row", "task", "metric")
POOL, RATES = 100, (0.0, 0.25, 0.5, 0.75)
"""Those of `cm2.tables.kinds.alignment` and `cm2.tables.embeddings`, which print notes and so cannot be imported here."""
OF_LAW = re.compile("law_nats|gaussian_nats|effective_rank|law_distance|family_.*")
"""Metrics that tables of embeddings have of the rows with a law alone."""
LEVELS = ((0,), (1,), (3,), (0, 2), (1, 2), (3, 2), (1, 0), (3, 0), (3, 1), (1, 0, 2), (3, 0, 2), (3, 1, 2), (3, 1, 0), (3, 1, 0, 2))
"""What may be lacking as a whole, as positions in `PARTS`: the coarsest that holds is told."""


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
    able = {place: digests for place, digests in planned.items() if place[1] not in cannot}
    if kind_of(result.kind).predicted:
        had = {(c.section, c.row, c.task, c.metric) for c in result.cells}
        tasks = result.tasks
        wanted = {(*place, metric) for place in able for metric in metrics_of(spec, tasks.get(place[2], Binary()))}
    else:
        had = {(c.section, c.row, c.task, c.metric) for c in result.cells if c.runs}  # those of chance belong to no run
        wanted = _embedded(result, spec, able, modalities)
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
                yield ", ".join(f"{PARTS[part]} {name!r}" for part, name in zip(level, key, strict=True))


def _embedded(result: TableResult, spec: TableSpec, planned: Planned, modalities: tuple[str, ...]) -> set[Place]:
    """Places of a table of embeddings: every score of a row, with its metrics, in every section with enough stays."""
    required = [metric for metric in kind_of(result.kind).headings if not OF_LAW.fullmatch(metric)]
    trained = {cell.section for cell in result.cells if cell.runs}
    few = {cell.section for cell in result.cells} - trained
    wanted: set[Place] = set()
    for section, row, task in planned:
        cells = [c for c in result.cells if c.runs and (_section(c.section, spec), c.method, c.task) == (section, row, task)]
        scored = {(cell.row, cell.metric) for cell in cells}
        of_task = [metric for metric in required if metric != AUROC or task not in result.provenance.get("tasks", {})]
        label = min((cell.row for cell in cells), default=row)  # any, for a metric that no score of the row has
        scored |= {(label, metric) for metric in of_task if metric not in {cell.metric for cell in cells}}
        asked = set(_asked(result, spec, section, modalities)) or {name for name in trained if _section(name, spec) == section}
        wanted |= {(name, of_row, task, metric) for name in asked - few for of_row, metric in scored}
    return wanted


def _asked(result: TableResult, spec: TableSpec, section: str, modalities: tuple[str, ...]) -> Iterator[str]:
    """Sections of a table of embeddings, which are named after what is looked for; none of a kind that is not known here."""
    prefix, rates = f"{section}: " if len(spec.section) > 1 else "", RATES if len(modalities) > 2 else RATES[:1]
    if result.kind == "imputation":
        yield from (f"{prefix}{name}, {rate:.0%} of the others hidden" for name in modalities for rate in rates)
    if result.kind == "alignment":
        for one, other in permutations(modalities, 2):
            yield from _pools(result, f"{prefix}{one} to {other}", whole=True)
        for name in modalities if len(modalities) > 2 else ():
            for rate in rates:
                yield from _pools(result, f"{prefix}{name} from the others, {rate:.0%} of them hidden", whole=False)


def _pools(result: TableResult, what: str, whole: bool) -> list[str]:
    """In random sets where there are more stays than a set has; and among all stays, if these are asked for or are so few."""
    known = [cell for cell in result.cells if cell.section.startswith(f"{what}, of ")]
    sizes = [cell.n for cell in known if cell.n is not None and cell.metric != AUROC]  # which is that of all test stays
    if known and not sizes:  # hidden
        return [cell.section for cell in known]
    many = max(sizes, default=0) > POOL
    return [*([f"{what}, of {POOL}"] if many else []), *([f"{what}, of all"] if whole or not many else [])]


def _section(name: str, spec: TableSpec) -> str:
    """The section of the specification that a section of a table belongs to; the only one, in a table of embeddings, has no name in it."""
    labels = [section.label for section in spec.section]
    if name in labels or not labels:
        return name
    return labels[0] if len(labels) == 1 else next((label for label in labels if name.startswith(f"{label}: ")), name)


def _settings(result: TableResult, spec: TableSpec, planned: Planned) -> Iterator[str]:
    """Rows whose runs are not those that are planned."""
    digests = result.provenance["configurations"]
    for cell in result.cells:
        wanted = planned.get((_section(cell.section, spec), cell.method, cell.task))
        used = {digests.get(run.split(" ")[0], "") for run in cell.runs}
        if wanted is None or used == set(wanted) or (not used and not kind_of(result.kind).predicted):
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
