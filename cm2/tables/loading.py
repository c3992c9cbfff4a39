"""Tables by name, each read from one TOML file."""

from __future__ import annotations

from pathlib import Path

from cm2.config.files import read_toml
from cm2.config.names import choose
from cm2.config.schema import plain_name
from cm2.errors import InputError
from cm2.tables.contract import kind_of
from cm2.tables.spec import ABSENT, HERE, Row, Section, TableSpec, check_known, read_block
from cm2.tasks import TASKS

SETTINGS = ("matched", *ABSENT)
SPLITS = ("test", "valid")
SCHEMA = {
    "title": str,
    "kind?": str,
    "modalities?": int,
    "kinds?": [str],
    "reference?": str,
    "margin?": float,
    "margins?": {"*": float},
    "by_task?": bool,
    "split?": str,
    "metrics?": [str],
    "row?": [{"label": plain_name, "method?": str, "set?": {"*": object}, "sections?": [str], "seeds?": int, "printed?": str}],
    "section?": [{"label": plain_name, "setting?": str, "rate?": float, "set?": {"*": object}, "printed?": {"*": str}}],
}
"""What a table's TOML file holds; see `cm2.config.schema`."""


def table_names() -> list[str]:
    """Names of all tables, those of the paper first."""
    stems = [path.stem for path in HERE.glob("*.toml") if path.stem != "cohorts"]
    numbers = sorted(int(stem.removeprefix("table-")) for stem in stems if stem.startswith("table-"))
    return [*map(str, numbers), *sorted(stem for stem in stems if not stem.startswith("table-"))]


def load_table(name: str | int | Path) -> TableSpec:
    """A table of the package by its number or name, or your own by the path of its TOML file.

    Raises:
        ValueError: an unknown table, key, setting, section or kind, or a reference that is no row.
    """
    text, known = str(name), table_names()
    path = Path(text) if text.endswith(".toml") else HERE / f"{'table-' if text.isdigit() else ''}{text}.toml"
    if not path.is_file() or path.stem == "cohorts":
        raise InputError(f"there is no table {text!r}; {choose(text, known)}, or give a TOML file")
    tree = read_toml(path, SCHEMA)
    tree["row"] = tuple(read_block(Row, block, path) for block in tree.get("row", ()))
    tree["section"] = tuple(read_block(Section, block, path) for block in tree.get("section", ()))
    spec = read_block(TableSpec, tree | {"name": path.stem.removeprefix("table-")}, path)
    _check(spec, path)
    return spec


def _check(spec: TableSpec, path: Path) -> None:
    kind = kind_of(spec.kind, f"{path.name}: ")
    for section in spec.section:
        check_known(section.setting, SETTINGS, f"{path.name}: setting")
        if section.rate is not None and not (0 < section.rate <= 1 and section.setting in ABSENT):
            raise InputError(
                f"{path.name}: section {section.label}: rate {section.rate:g} under {section.setting}; give a share above 0 and at most 1"
                f" of the stays that one of {', '.join(ABSENT)} masks"
            )
    for row in spec.row:
        if row.seeds is not None and row.seeds < 1:
            raise InputError(f"{path.name}: row {row.label}: seeds {row.seeds}; give 1 or more, or leave it out")
        for label in row.sections:
            check_known(label, [section.label for section in spec.section], f"{path.name}: row {row.label}: section")
    for metric in (*spec.metrics, *spec.margins):
        check_known(metric, dict.fromkeys(known.name for task in TASKS.values() for known in task.offers), f"{path.name}: metric")
    check_known(spec.split, SPLITS, f"{path.name}: split")
    if spec.split != "test" and not kind.predicted:
        raise InputError(f"{path.name}: a table of {spec.kind} is computed on test stays; leave split = {spec.split!r} out")
    labels = [row.label for row in spec.row]
    if len(set(labels)) < len(labels):
        raise InputError(f"{path.name}: two rows have the same label")
    if labels and spec.reference not in labels:
        raise InputError(f"{path.name}: the reference {spec.reference!r} is not a row; {choose(spec.reference, labels)}")
    for margin in (*([] if spec.margin is None else [spec.margin]), *spec.margins.values()):
        if not margin > 0:
            raise InputError(f"{path.name}: margin {margin:g} is not above 0; give the largest difference that does not matter")
    if kind.trained and not (spec.row and spec.section):
        raise InputError(f"{path.name}: a table of {spec.kind} needs rows and sections")
