"""Mutated inputs of every format, each tried in this process: it is used, or refused in one line; anything else is a fault."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import random
import shutil
import sys
import tarfile
import tomllib
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from cm2 import Config, RunStore, cli, load_cohort, results
from cm2.book.chapters import read_chapters, resolve_parameters
from cm2.cli import known
from cm2.cli.failures import in_one_line
from cm2.cohorts.format import MANIFEST, combined_checksum
from cm2.config import PROFILES
from cm2.durable import file_sha256
from cm2.errors import InputError
from cm2.methods import build_method, tokenised
from cm2.runs.run import Run
from cm2.runs.search import GRID, read_grid
from cm2.runs.store import evaluate
from cm2.tables import load_table, plan, table
from cm2.tables.confirmatory_plan import read_plan
from cm2.tables.recomputation import verify_tables
from cm2.tables.spec import HERE
from cm2.tables.verification import verify_cohort
from data_prep import (
    fabricate_eicu,
    fabricate_mimic3,
    fabricate_mimic4,
    prepare_eicu,
    prepare_mimic3,
    prepare_mimic4,
    prepare_physionet2012,
)
from data_prep.physionet2012.variables import VARIABLES
from tests.mutations import STRANGE, as_toml, mangled, mutated
from tests.tables.conftest import FAST, write

ROOT = Path(__file__).resolve().parents[1]
SMOKE = FAST | {"task": "death", "modalities": ["bedside", "laboratory"]}


class Fault(AssertionError):
    """An error that is neither the user's nor of the machine."""


def tried(use: Callable[[], object]) -> str:
    """Uses an input; returns the message with which it is refused, or an empty text.

    Raises:
        Fault: a bare traceback.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of arithmetic with strange numbers
            use()
    except Exception as error:
        message = in_one_line(error)
        if message is None or "\n" in message:
            raise Fault(f"{type(error).__name__}: {error!s:.300}") from error
        return message
    return ""


class Ground:
    """A folder with a good file of every format, made once.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cohort = write(folder / "cohort")
        self.store = RunStore(folder / "runs")
        table(6, self.cohort, "smoke", 2, 1, FAST, [], ["death"], self.store, folder / "tables")
        self.run = self.store.runs()[0]
        self.chapters = read_chapters(ROOT)
        self.raw = folder / "raw"
        _challenge(self.raw)
        fabricate_mimic3(folder / "mimic3", stays=50, seed=0)
        fabricate_mimic4(folder / "mimic4", stays=50, seed=0, image_size=32)
        fabricate_eicu(folder / "eicu", stays=50, seed=0)
        pixels = np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "film.jpg")

    def copy(self, name: str) -> Path:
        """A copy of a folder that may be damaged."""
        place = self.folder / "damaged" / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / name, place)
        return place


def _challenge(raw: Path) -> None:
    raw.mkdir()
    for name, records in (("a", range(1, 25)), ("b", range(101, 109))):
        with tarfile.open(raw / f"set-{name}.tar.gz", "w:gz") as tar:
            for key in records:
                content = _record(key).encode()
                info = tarfile.TarInfo(f"set-{name}/{key}.txt")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        rows = [f"{key},6,1,{key % 10},-1,{key % 2}" for key in records]
        (raw / f"Outcomes-{name}.txt").write_text(
            "\n".join(["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death", *rows]) + "\n"
        )


def _record(key: int) -> str:
    general = {"RecordID": key, "Age": 40 + key % 50, "Gender": 0, "Height": 170, "ICUType": 3, "Weight": 80}
    values = [f"01:{key % 60:02d},{v.name},{1 if v.name == 'MechVent' else (v.low + v.high) / 2 + key / 100:g}" for v in VARIABLES]
    return "\n".join(["Time,Parameter,Value", *(f"00:00,{name},{value}" for name, value in general.items()), *values]) + "\n"


def _tree(path: Path, dice: random.Random) -> None:
    """Changes an entry of a JSON file, or its bytes."""
    if dice.random() < 0.8:
        path.write_text(json.dumps(mutated(json.loads(path.read_text()), dice)))
    else:
        path.write_bytes(mangled(path.read_bytes(), dice))


def _toml(source: Path, path: Path, dice: random.Random) -> Path:
    content = source.read_bytes()
    tree = tomllib.loads(content.decode())
    path.write_bytes(as_toml(mutated(tree, dice)).encode() if dice.random() < 0.8 else mangled(content, dice))
    return path


def manifest(at: Ground, dice: random.Random) -> str:
    folder = at.copy("cohort")
    _tree(folder / MANIFEST, dice)
    return _verified(folder)


def _verified(folder: Path) -> str:
    """What `cm2 verify` finds wrong with a cohort, or why it cannot be read."""
    problems: list[str] = []
    message = tried(lambda: problems.extend(verify_cohort(folder).problems))
    return message or "; ".join(problem for problem in problems if not problem.startswith("the flow chart leads"))  # it has none


def cohort_file(at: Ground, dice: random.Random) -> str:
    """By someone who wrote the manifest for the damaged file."""
    folder = at.copy("cohort")
    about = json.loads((folder / MANIFEST).read_text())
    name = dice.choice(sorted(about["sizes"]))
    (folder / name).write_bytes(mangled((folder / name).read_bytes(), dice))
    about["sizes"][name], about["checksums"][name] = (folder / name).stat().st_size, file_sha256(folder / name)
    about["checksum"] = combined_checksum(about["checksums"])
    (folder / MANIFEST).write_text(json.dumps(about))
    return _verified(folder)


def table_result(at: Ground, dice: random.Random) -> str:
    folder = at.copy("tables")
    _tree(folder / "table-6.json", dice)
    return _recomputed(folder)


def _recomputed(folder: Path) -> str:
    """What `cm2 verify` finds wrong with a table, or why it cannot be read."""
    problems: list[str] = []
    return tried(lambda: problems.extend(problem for _, problem in verify_tables(folder))) or "; ".join(filter(None, problems))


def predictions(at: Ground, dice: random.Random) -> str:
    folder = at.copy("tables")
    (path,) = folder.glob("*.parquet")
    path.write_bytes(mangled(path.read_bytes(), dice))
    return _recomputed(folder)


def run_file(at: Ground, dice: random.Random) -> str:
    folder = at.copy(f"runs/{at.run.path.name}")
    name = dice.choice(["config.json", "metrics.json", "environment.json", "history.csv", "predictions.parquet", "model.safetensors"])
    if name.endswith(".json"):
        _tree(folder / name, dice)
    else:
        (folder / name).write_bytes(mangled((folder / name).read_bytes(), dice))
    run = Run(folder)

    def use() -> None:
        _ = run.metrics, run.environment, run.history, run.predictions
        if name in ("config.json", "model.safetensors"):
            evaluate(run, at.cohort)
        cli._metrics_line(run.metrics["test"])

    return tried(use)


def checkpoint(at: Ground, dice: random.Random) -> str:
    if importlib.util.find_spec("cm2.runs.checkpoints") is None:
        return ""
    from cm2.runs import checkpoints

    source = at.run.path / "checkpoints"
    folder = at.copy(f"runs/{at.run.path.name}/checkpoints") if source.is_dir() else at.folder / "no checkpoint"
    for path in folder.glob("*.ckpt"):
        path.write_bytes(mangled(path.read_bytes(), dice))
    return tried(lambda: checkpoints.to_continue_from(folder))  # a damaged one gives way to an earlier one, or to the start


def chapter_result(at: Ground, dice: random.Random) -> str:
    folder = at.folder / "chapter"
    folder.mkdir(exist_ok=True)
    (folder / "x.json").unlink(missing_ok=True)
    for name, value in (("a", 0.5), ("b", "word")):
        results.record("x", name, value, into=folder)
    _tree(folder / "x.json", dice)
    with mock.patch.dict("os.environ", {"CM2_RESULTS": str(folder)}):
        return tried(lambda: (results.read("x", "a"), results.record("x", "c", 1)))


def table_file(at: Ground, dice: random.Random) -> str:
    sources = sorted(path for path in HERE.glob("*.toml") if path.stem not in ("cohorts", "table-1", "table-8"))
    path = _toml(dice.choice(sources), at.folder / "mine.toml", dice)
    return tried(lambda: plan(load_table(path), at.cohort, "smoke", seeds=1, settings=FAST))


def profile(at: Ground, dice: random.Random) -> str:
    path = _toml(PROFILES / "smoke.toml", at.folder / "profile.toml", dice)
    setting = _setting(dice) if dice.random() < 0.5 else {}

    def use() -> None:
        config = Config.from_profile(str(path), SMOKE | setting)
        build_method(config, tokenised(at.cohort, config))

    return tried(use)


def _fields(tree: Mapping[str, Any], before: str = "") -> list[str]:
    inner = ((f"{before}{name}", value) for name, value in tree.items())
    return [field for name, value in inner for field in (_fields(value, f"{name}.") if isinstance(value, dict) and value else [name])]


def _setting(dice: random.Random) -> dict[str, Any]:
    return {dice.choice(_fields(Config().to_dict())): dice.choice([*STRANGE, "nan", "inf", "-1", "0", "1e400", "{", "a,b", "1_0", 2**31])}


def grid(at: Ground, dice: random.Random) -> str:
    path = _toml(GRID, at.folder / "grid.toml", dice)
    return tried(lambda: read_grid(path))


def confirmatory_plan(at: Ground, dice: random.Random) -> str:
    path = _toml(dice.choice(sorted((ROOT / "plans").glob("*.toml"))), at.folder / "plan.toml", dice)
    return tried(lambda: read_plan(path))


def book_parameter(at: Ground, dice: random.Random) -> str:
    names = [*{name for chapter in at.chapters.values() for name in chapter.defaults}, "", "no_such"]
    words = [
        "'; import os",
        "{a: b",
        "!!python/object/apply:os.system [x]",
        "&a [*a]",
        "[[[[",
        "1e999",
        "2026-13-45",
        "\x00",
        "- ",
        "{}",
        "\t",
    ]
    given = {dice.choice(sorted(names)): dice.choice([*words, *map(str, STRANGE), dice.randbytes(6).decode("latin-1")])}
    only = [dice.choice(sorted(at.chapters))] if dice.random() < 0.3 else []
    return tried(lambda: resolve_parameters(at.chapters, given, only=only))


COMMANDS = ("train", "evaluate", "runs", "table", "confirm", "figure", "search", "book", "verify", "prepare", "fabricate", "")
OPTIONS = (
    *("--cohort", "--method", "--task", "--profile", "--seed", "--set", "--seeds", "--jobs", "--devices", "--out", "--split", "--absent"),
    *("--mechanism", "--store", "--row", "--raw", "--train-sets", "--stays", "--family", "--alpha", "--rho", "--nu", "--grid", "--trials"),
    *("-p", "--only", "--limit", "--quirk", "--modalities", "--memory-limit", "--debug", "--version", "--help", "--", "-", "--no-such"),
)
STOPPED = (
    *("cm2.runs.store.fit_all", "cm2.runs.store.evaluate", "cm2.tables.table", "cm2.tables.confirmation.confirm", "cm2.figures.regenerate"),
    *("cm2.runs.search.search", "cm2.book.build", "data_prep.prepare_synthetic", "data_prep.prepare_physionet2012"),
    *("data_prep.prepare_mimic3", "data_prep.prepare_mimic4", "data_prep.prepare_eicu"),
    *("data_prep.fabricate_mimic3", "data_prep.fabricate_mimic4", "data_prep.fabricate_eicu"),
)
"""Where a command whose words are right would begin to work."""


def command_line(at: Ground, dice: random.Random) -> str:
    values = [str(at.cohort.path), str(at.run.path), str(at.folder / "tables"), "/dev/null", "x" * 5000, *map(str, STRANGE), "model.link=x"]
    values += [
        "train.epochs=1e9",
        "a=b=c",
        "death",
        "smoke",
        "synthetic",
        *known.methods()[:2],
        *map("{0[0]}={0[1]}".format, _setting(dice).items()),
    ]
    words = [dice.choice(COMMANDS)]
    for _ in range(dice.randrange(5)):
        words += [dice.choice(OPTIONS)] * (dice.random() < 0.8) + [dice.choice(values)] * (dice.random() < 0.8)
    if words[0] in ("train", "search", "evaluate") and dice.random() < 0.7:
        words += ["--cohort", str(at.cohort.path)]
    words = [word.replace("\0", "") for word in words]
    said = io.StringIO()
    with ExitStack() as stack:
        for name in STOPPED:
            stack.enter_context(mock.patch(name, side_effect=InputError("as far as it goes")))
        stack.enter_context(mock.patch.object(sys, "argv", ["cm2", *words]))
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(said))
        try:
            cli.main()
        except SystemExit as stopped:
            if stopped.code not in (0, 1, 2):
                raise Fault(f"{words}: exit code {stopped.code}: {said.getvalue():.400}") from None
        except Exception as error:
            raise Fault(f"{words}: {type(error).__name__}: {error!s:.300}") from error
    if "\x1b" in said.getvalue():
        raise Fault(f"{words}: a control character on the terminal")
    return said.getvalue()


def challenge_bytes(at: Ground, dice: random.Random) -> str:
    raw = at.copy("raw")
    path = dice.choice(sorted(raw.iterdir()))
    path.write_bytes(mangled(path.read_bytes(), dice))
    if dice.random() < 0.2:
        (raw / "SHA256SUMS.txt").write_bytes(mangled(b"0" * 64 + b"  set-z.tar.gz\n", dice))
    return tried(lambda: prepare_physionet2012(raw, at.folder / "damaged" / "challenge"))


def challenge_values(at: Ground, dice: random.Random) -> str:
    """A record whose rows are changed, in an archive that is whole."""
    raw, key = at.copy("raw"), dice.randrange(1, 25)
    with tarfile.open(raw / "set-a.tar.gz") as tar:
        contents = {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile()}
    lines = contents[f"{key}.txt"].decode().splitlines()
    for _ in range(dice.randrange(1, 4)):
        place = dice.randrange(len(lines))
        parts = [*lines[place].split(","), "", "", ""][:3]
        at_which = dice.choice([0, 1, 2, 2, 2])
        others = (
            ["99:99", "47:59", "48:01", "000:00", ""],
            ["HR", "x\ty", "", "=1"],
            ["", "-1", "1e300", "nan", "inf", "0", "-1e38", "1e400"],
        )
        parts[at_which] = dice.choice(others[at_which])
        lines[place] = ",".join(parts)
    contents[f"{key}.txt"] = mangled("\n".join(lines).encode(), dice) if dice.random() < 0.3 else "\n".join(lines).encode()
    with tarfile.open(raw / "set-a.tar.gz", "w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"set-a/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    out = at.folder / "damaged" / "challenge"
    shutil.rmtree(out, ignore_errors=True)
    return tried(lambda: load_cohort(prepare_physionet2012(raw, out)))


def mimic_rows(at: Ground, dice: random.Random) -> str:
    return _rows(at, dice, "mimic3", partial(prepare_mimic3, modalities=("series",)))


def mimic4_rows(at: Ground, dice: random.Random) -> str:
    return _rows(at, dice, "mimic4", partial(prepare_mimic4, modalities=("series", "image", "report"), image_size=32))


def eicu_rows(at: Ground, dice: random.Random) -> str:
    return _rows(at, dice, "eicu", prepare_eicu)


def _rows(at: Ground, dice: random.Random, name: str, prepare: Callable[..., object]) -> str:
    """One table or report of a fabricated copy, damaged."""
    raw = at.copy(name)
    known = sorted(path for path in raw.rglob("*") if path.name.endswith((".csv", ".csv.gz", ".txt")) and "truth" not in path.parts)
    path = dice.choice(known)
    content = path.read_bytes()
    if path.suffix == ".gz" and dice.random() < 0.8:  # the rows, not the stream
        content = gzip.compress(mangled(gzip.decompress(content), dice), 1)
    path.write_bytes(content if path.suffix == ".gz" and dice.random() < 0.9 else mangled(content, dice))
    out = at.folder / "damaged" / f"{name}-cohort"
    shutil.rmtree(out, ignore_errors=True)
    return tried(lambda: prepare(raw, out, jobs=1))


def film(at: Ground, dice: random.Random) -> str:
    from data_prep.mimic.films import read_film

    path = at.folder / "damaged.jpg"
    path.write_bytes(mangled((at.folder / "film.jpg").read_bytes(), dice))

    try:
        read_film(path, 16)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # the preparation counts it among the unreadable
        return str(error)
    return ""


FORMATS: dict[str, tuple[Callable[[Ground, random.Random], str], int]] = {
    "manifests": (manifest, 130),
    "files of cohorts": (cohort_file, 60),
    "tables of results": (table_result, 90),
    "predictions": (predictions, 60),
    "files of runs": (run_file, 130),
    "checkpoints": (checkpoint, 20),
    "results of chapters": (chapter_result, 50),
    "table files": (table_file, 100),
    "profiles and settings": (profile, 120),
    "grids": (grid, 40),
    "plans": (confirmatory_plan, 60),
    "parameters of chapters": (book_parameter, 60),
    "command lines": (command_line, 120),
    "bytes of the challenge": (challenge_bytes, 30),
    "values of the challenge": (challenge_values, 12),
    "rows of MIMIC-III": (mimic_rows, 4),
    "rows of MIMIC-IV": (mimic4_rows, 6),
    "rows of eICU": (eicu_rows, 10),
    "films": (film, 60),
}
"""How an input of each format is mutated and tried, and how often the tests do."""
