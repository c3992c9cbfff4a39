"""What a table is: rows, sections and what they change of a profile, read from one TOML file; and how a cohort takes part in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cm2.cohorts import Cohort
from cm2.config.names import choose, did_you_mean

HERE = Path(__file__).parent
SETTINGS = ("matched", "partial", "partial_train", "partial_test")
KINDS = ("results", "tests", "counts", "alignment", "imputation")


@dataclass(frozen=True)
class Row:
    """One configuration of a table."""

    label: str
    """As printed."""
    method: str = "cm2"
    """Name of the method."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration that the row changes, by dotted name."""
    sections: tuple[str, ...] = ()
    """Labels of the sections it stands in; empty: in all."""
    printed: str | None = None
    """Label of the paper's row, where it is not this one's; empty where the paper has none."""


@dataclass(frozen=True)
class Section:
    """A block of rows under the same setting."""

    label: str
    """As printed."""
    setting: str = "partial"
    """``matched``: stays with all modalities only; ``partial``: all stays; ``partial_train`` and ``partial_test``: stays with all
    modalities, from 75 % of which the last one (or what the cohort's ``partial`` says) is taken away in training or in testing alone."""
    set: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the configuration that the section changes, by dotted name."""
    printed: Mapping[str, str] = field(default_factory=dict)
    """Columns of ``cm2.paper.printed`` that find the section there; cohort and setting are known without."""


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
    """``results``, ``tests`` (their differences to the reference are the table), ``counts`` (of stays, nothing is trained), or what is
    asked of the embeddings: ``alignment`` or ``imputation``."""
    modalities: int = 2
    """How many modalities of the cohort take part; 0: all."""
    kinds: tuple[str, ...] = ()
    """Kinds of modality it needs, in order; empty: any."""
    reference: str = "CM2"
    """Label of the row that the others are compared with."""
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
    """How a cohort takes part in tables."""

    modalities: tuple[str, ...]
    """In the order in which tables take them."""
    kinds: tuple[str, ...]
    """Their kinds."""
    tasks: Mapping[str, str]
    """Label columns by heading."""
    partial: Mapping[str, float] = field(default_factory=dict)
    """What a partially matched table takes away from training, validation and test stays."""
    printed: str = ""
    """The paper's cohort shown beside."""
    counted: Mapping[str, str] = field(default_factory=dict)
    """The paper's rows of Tables 1 and 8, by the modalities that a stay has to have."""


def table_names() -> list[str]:
    """Names of all tables, those of the paper first."""
    stems = [path.stem for path in HERE.glob("*.toml") if path.stem != "cohorts"]
    numbers = sorted(int(stem.removeprefix("table-")) for stem in stems if stem.startswith("table-"))
    return [*map(str, numbers), *sorted(stem for stem in stems if not stem.startswith("table-"))]


def load_table(name: str | int | Path) -> TableSpec:
    """A table of the package by its number or name, or one of the reader's own by the path of a TOML file.

    Raises:
        ValueError: an unknown table, key, setting or kind, or a reference that is no row.
    """
    text, known = str(name), table_names()
    path = Path(text) if text.endswith(".toml") else HERE / f"{'table-' if text.isdigit() else ''}{text}.toml"
    if not path.is_file() or path.stem == "cohorts":
        raise ValueError(f"there is no table {text!r}; {choose(text, known)}, or give a TOML file")
    tree = tomllib.loads(path.read_text())
    tree["row"] = tuple(_read(Row, entry, path) for entry in tree.get("row", ()))
    tree["section"] = tuple(_read(Section, entry, path) for entry in tree.get("section", ()))
    spec = _read(TableSpec, tree | {"name": path.stem.removeprefix("table-")}, path)
    _check(spec, path)
    return spec


def roles() -> dict[str, Role]:
    """The cohorts that ``cohorts.toml`` knows, by name."""
    path = HERE / "cohorts.toml"
    return {name: _read(Role, entry, path) for name, entry in tomllib.loads(path.read_text()).items()}


def role_of(cohort: Cohort) -> Role:
    """The role of a cohort; one that ``cohorts.toml`` does not know takes part with everything its manifest names."""
    known = roles().get(cohort.name)
    modalities = tuple(cohort.manifest["modalities"])
    if known is not None and set(known.modalities) <= set(modalities) and set(known.tasks.values()) <= set(cohort.tasks):
        return known
    kinds = tuple(entry["kind"] for entry in cohort.manifest["modalities"].values())
    return Role(modalities, kinds, {task: task for task in cohort.tasks})


def choose_modalities(spec: TableSpec, role: Role) -> tuple[str, ...] | None:
    """The modalities of a cohort that a table takes, or None if the cohort lacks them."""
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
    """What a table asks of a cohort, in words."""
    return " and ".join(f"a modality of kind {kind}" for kind in spec.kinds) or f"{spec.modalities or 2} modalities"


def _read(cls: type, entry: Mapping[str, Any], path: Path) -> Any:
    known = [f.name for f in fields(cls)]
    if unknown := sorted(set(entry) - set(known)):
        raise ValueError(f"{path.name}: unknown key {unknown[0]!r}; known here: {', '.join(known)}{did_you_mean(unknown[0], known)}")
    return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()})


def _check(spec: TableSpec, path: Path) -> None:
    if spec.kind not in KINDS:
        raise ValueError(f"{path.name}: kind {spec.kind!r} is unknown; {choose(spec.kind, KINDS)}")
    for section in spec.section:
        if section.setting not in SETTINGS:
            raise ValueError(f"{path.name}: setting {section.setting!r} is unknown; {choose(section.setting, SETTINGS)}")
    labels = [row.label for row in spec.row]
    if len(set(labels)) < len(labels):
        raise ValueError(f"{path.name}: two rows have the same label")
    if labels and spec.reference not in labels:
        raise ValueError(f"{path.name}: the reference {spec.reference!r} is not a row; {choose(spec.reference, labels)}")
    if spec.kind != "counts" and not (spec.row and spec.section):
        raise ValueError(f"{path.name}: a table of {spec.kind} needs rows and sections")
