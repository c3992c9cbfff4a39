"""Table specifications, read from TOML: rows, sections and their configuration overrides; roles of cohorts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from cm2.cohorts import Cohort
from cm2.config.files import read_toml
from cm2.config.names import choose, did_you_mean
from cm2.errors import InputError

HERE = Path(__file__).parent
ABSENT = {"partial": ("absent", "absent_test"), "partial_train": ("absent",), "partial_test": ("absent_test",)}
"""Fields of the configuration that a section's setting masks by."""


@dataclass(frozen=True)
class Row:
    """One configuration of a table."""

    label: str
    """As printed."""
    method: str = "cm2"
    """Name of the method."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration that the row overrides, by dotted name."""
    sections: tuple[str, ...] = ()
    """Labels of the sections it appears in; empty: all."""
    seeds: int | None = None
    """Seeds at most, for a row that is dear to train and far from what the table decides; None: as many as the others."""
    printed: str | None = None
    """Label of the paper's row, if it differs from this one; empty if the paper has none."""


@dataclass(frozen=True)
class Section:
    """A block of rows under the same setting."""

    label: str
    """As printed."""
    setting: str = "partial"
    """``matched``: only stays with all modalities; ``partial``: all stays; ``partial_train`` and ``partial_test``: stays with all
    modalities, with the last one masked in 75 % of them (or as the cohort's ``partial`` states) in training or in testing only."""
    rate: float | None = None
    """Share of the stays that a setting masks, in place of the cohort's."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration that the section overrides, by dotted name."""
    printed: Mapping[str, str] = field(default_factory=dict)
    """Columns of ``cm2.paper.printed`` that identify the section there, beyond cohort and setting."""


@dataclass(frozen=True)
class TableSpec:
    """A table: every row in every section, for each task of the cohort and each metric."""

    name: str
    """``2`` for Table 2, or a word for a table the paper does not have."""
    title: str
    """One line."""
    row: tuple[Row, ...] = ()
    """Its rows."""
    section: tuple[Section, ...] = ()
    """Its sections."""
    kind: str = "results"
    """How its numbers are computed and shown: a name in ``cm2.tables.contract.TABLE_KINDS``."""
    modalities: int = 2
    """How many modalities of the cohort take part; 0: all."""
    kinds: tuple[str, ...] = ()
    """Kinds of modality it needs, in order; empty: any."""
    reference: str = "CM2"
    """Label of the row that the others are compared with."""
    margin: float | None = None
    """Largest difference of AUROC, or of another metric between 0 and 1, that does not matter, for tests of equivalence to the reference;
    None: none are made."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """The same of single metrics by name, also of those that are no shares: ``{ rmse = 0.1 }``."""
    metrics: tuple[str, ...] = ("auroc", "aupr")
    """Of a table of results, by the names of `cm2.tasks`. Each task shows those that it has, or, where it has none, its own
    `cm2.tasks.Task.shown`."""
    split: str = "test"
    """Whose predictions it is computed from: ``test``, or ``valid`` for a table of choices, in which the test stays take no part."""
    by_task: bool = False
    """Whether counts are given for each task, with the positives."""

    @property
    def file(self) -> str:
        """Stem of the files it is written to."""
        return f"table-{self.name}" if self.name.isdigit() else self.name

    @property
    def number(self) -> int | None:
        """Number in the paper."""
        return int(self.name) if self.name.isdigit() else None


@dataclass(frozen=True)
class Role:
    """How tables use a cohort."""

    modalities: tuple[str, ...]
    """In the order in which tables use them."""
    kinds: tuple[str, ...]
    """Their kinds."""
    tasks: Mapping[str, str]
    """Label columns by heading."""
    others: tuple[str, ...] = ()
    """Tasks that a table computes only where they are asked for: the paper has none of them."""
    partial: Mapping[str, float] = field(default_factory=dict)
    """Fraction of training, validation and test stays that a partially matched table masks, by modality."""
    printed: str = ""
    """The paper's cohort whose numbers are shown beside."""
    counted: Mapping[str, str] = field(default_factory=dict)
    """Rows of the paper's Tables 1 and 8, by the modalities that a stay must have."""


Block = TypeVar("Block", Row, Section, TableSpec, Role)


def read_block(cls: type[Block], block: Mapping[str, Any], path: Path) -> Block:
    """Parses a block of a TOML file.

    Raises:
        ValueError: an unknown key.
    """
    known = [f.name for f in fields(cls)]
    if unknown := sorted(set(block) - set(known)):
        raise InputError(f"{path.name}: unknown key {unknown[0]!r}; known here: {', '.join(known)}{did_you_mean(unknown[0], known)}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in block.items()}
    return cls(**values)


def check_known(given: str, known: Iterable[str], what: str) -> None:
    """Checks a name in a TOML file.

    Raises:
        ValueError: it is not one of the known names.
    """
    if given not in (known := list(known)):
        raise InputError(f"{what} {given!r} is unknown; {choose(given, known)}")


def roles() -> dict[str, Role]:
    """The roles in ``cohorts.toml``, by name of the cohort.

    Raises:
        ValueError: an unknown key, or a modality that the cohort does not have.
    """
    path = HERE / "cohorts.toml"
    found = {name: read_block(Role, block, path) for name, block in read_toml(path).items()}
    for name, role in found.items():
        for modality in (*role.partial, *(part for group in role.counted for part in group.split(" | ") if group != "all")):
            check_known(modality, role.modalities, f"{path.name}: {name}: modality")
    return found


def role_of(cohort: Cohort) -> Role:
    """The role of a cohort; one that is not in ``cohorts.toml`` takes part with all modalities and tasks of its manifest.

    The paper's numbers are not about a fabricated cohort and never stand beside it.
    """
    known = roles().get(cohort.name)
    if known is not None and cohort.disclosure.fabricated:
        known = replace(known, printed="", counted={})
    modalities = tuple(cohort.manifest["modalities"])
    if known is not None and set(known.modalities) <= set(modalities) and set(known.tasks.values()) <= set(cohort.tasks):
        return known
    kinds = tuple(entry["kind"] for entry in cohort.manifest["modalities"].values())
    return Role(modalities, kinds, {task: task for task in cohort.tasks})


def choose_modalities(spec: TableSpec, role: Role) -> tuple[str, ...] | None:
    """The modalities of a cohort that a table uses, or None if the cohort lacks them."""
    if not spec.kinds:
        count = spec.modalities or max(len(role.modalities), 2)
        return role.modalities[:count] if len(role.modalities) >= count else None
    left = list(zip(role.modalities, role.kinds, strict=True))
    chosen = []
    for kind in spec.kinds:
        found = next((pair for pair in left if pair[1] == kind), None)
        if found is None:
            return None
        left.remove(found)
        chosen.append(found[0])
    return tuple(chosen)


def needs(spec: TableSpec) -> str:
    """The modalities a table requires, in words."""
    return " and ".join(f"a modality of kind {kind}" for kind in spec.kinds) or f"{spec.modalities or 2} modalities"
