"""Whether a kept table is what this version of the package would compute: same rows, same settings, same versions of the methods."""

from __future__ import annotations

from collections.abc import Iterator

from cm2.errors import InputError
from cm2.methods import METHODS
from cm2.tables.entries import entries_of
from cm2.tables.loading import load_table
from cm2.tables.result import TableResult
from cm2.tables.spec import choose_modalities, roles


def outdated(result: TableResult) -> list[str]:
    """What has changed since a table was computed, a reason each; empty if nothing has, or if the table needs no runs.

    The cohort's data are not needed; that they are the same is what the table's checksum of the cohort says.

    Args:
        result: a table of the package on a cohort of ``cohorts.toml``.

    Raises:
        ValueError: a table or cohort that the package does not know.
    """
    source = result.provenance
    if not source.get("configurations"):
        return []
    spec, role = load_table(result.name), roles().get(source["cohort"])
    if role is None or (modalities := choose_modalities(spec, role)) is None:
        raise InputError(f"table {result.name}: the cohort {source['cohort']!r} has no role in cohorts.toml that fits it")
    entries = entries_of(spec, role, modalities, source["profile"], source["seeds"], spec.row, role.tasks, {})
    expected = {(e.section.label, e.row.label, e.task): [c.digest() for c in e.configs] for e in entries}
    return list(dict.fromkeys([*_rows(result, {row for _, row, _ in expected}), *_settings(result, expected), *_versions(result)]))


def _rows(result: TableResult, known: set[str]) -> Iterator[str]:
    had = {cell.method for cell in result.cells if cell.runs} | set(result.provenance.get("cannot", {}))
    yield from (f"it has a row {row!r} that the table no longer has" for row in sorted(had - known))
    yield from (f"it lacks the row {row!r}" for row in sorted(known - had))


def _settings(result: TableResult, expected: dict[tuple[str, str, str], list[str]]) -> Iterator[str]:
    digests, sections = result.provenance["configurations"], {section for section, _, _ in expected}
    for cell in result.cells:
        used = [digests[run.split(" ")[0]] for run in cell.runs if run.split(" ")[0] in digests]
        # sections of embeddings are those of what is looked for, and the table has one only
        section = cell.section if cell.section in sections else next(iter(sections))
        wanted = expected.get((section, cell.method, cell.task))
        if used and wanted is not None and not set(used) <= set(wanted):
            yield f"the row {cell.method!r} has other settings now"


def _versions(result: TableResult) -> Iterator[str]:
    for method, version in result.provenance.get("versions", {}).items():
        now = METHODS[method].version if method in METHODS else "none"
        if now != version:
            yield f"{method} is in version {now} now, the table has version {version}"
