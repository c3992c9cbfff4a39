"""Further formats that are mutated: saved models, zips of releases, cohorts with a task of every type, and files of one's own."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cm2 import load_cohort
from cm2.cohorts import from_files
from cm2.cohorts.format import MANIFEST, combined_checksum
from cm2.durable import file_sha256
from cm2.methods import Method
from cm2.methods.saved import DESCRIPTION, WEIGHTS
from data_prep.mimic.archives import as_folders
from data_prep.mimic.note_tables import NOTES, note_tables
from data_prep.mimic.raw import header
from data_prep.writer import write_cohort
from tests.fuzzing import Ground, _tree, _verified, tried
from tests.mutations import mangled
from tests.tasks.cases import TASKS
from tests.tasks.cohort import prepared

IDS = [f"{i:03d}" for i in range(40)]


def saved_model(at: Ground, dice: random.Random) -> str:
    """By someone who wrote the checksum for damaged weights."""
    if not (at.folder / "model").exists():
        at.run.save_pretrained(at.folder / "model", at.cohort)
    folder = at.copy("model")
    if dice.random() < 0.8:
        _tree(folder / DESCRIPTION, dice)
    else:
        (folder / WEIGHTS).write_bytes(mangled((folder / WEIGHTS).read_bytes(), dice))
        about = json.loads((folder / DESCRIPTION).read_text())
        (folder / DESCRIPTION).write_text(json.dumps(about | {"weights_sha256": file_sha256(folder / WEIGHTS)}))

    def use() -> None:
        model = Method.from_pretrained(folder)
        values = {m.name: [None if m.name != model.inputs.modalities[0].name else np.zeros(m.shape)] for m in model.inputs.modalities}
        with torch.no_grad():
            model.predict(model.inputs.batch(values))

    return tried(use)


def archive(at: Ground, dice: random.Random) -> str:
    """Bytes of a zip of MIMIC-IV-Note, or a member's name."""
    path = at.folder / "notes.zip"
    rows = pd.DataFrame({"note_id": ["1-RR-1"], "subject_id": [1], "hadm_id": [2], "charttime": ["2150-01-01 00:00:00"], "text": ["x"]})
    names = [f"mimic-iv-note-2.2/note/{table}.csv.gz" for table in NOTES.tables]
    if (renamed := dice.random()) < 0.4:
        place = dice.randrange(len(names))
        start = dice.choice(["../", "/", "a\0b/", "\x1b[2J/", "C:\\", "note/", "x/" * 300, ""])
        names[place] = start + (names[place] if renamed < 0.2 else "discharge.csv")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            packed.writestr(name, gzip.compress(rows.to_csv(index=False).encode()))
    if renamed >= 0.4:
        path.write_bytes(mangled(path.read_bytes(), dice))

    def use() -> None:
        wanted = {"notes": (NOTES, [*NOTES.tables])}
        with as_folders({"notes": path}, wanted, at.folder / "damaged" / "notes", None) as places:
            for table, file in note_tables(places["notes"]).items():
                header(file, NOTES, table)

    return tried(use)


def cohort_of_every_task(at: Ground, dice: random.Random) -> str:
    """Its manifest, or its labels under a checksum that was written for them."""
    if not (at.folder / "tasks").exists():
        write_cohort(at.folder / "tasks", prepared(n=60))
    folder = at.copy("tasks")
    if dice.random() < 0.6:
        _tree(folder / MANIFEST, dice)
    else:
        stays = pd.read_parquet(folder / "stays.parquet")
        column = dice.choice([name for task in TASKS.values() for name in task.columns])
        strange = dice.choice([7.5, -3.0, np.inf, np.nan, 1e300, "x", None])
        values = stays[column].astype(object)
        values.iloc[dice.randrange(len(values))] = strange
        stays[column] = values.astype(str) if strange == "x" else pd.to_numeric(values)
        stays.to_parquet(folder / "stays.parquet", index=False)
        about = json.loads((folder / MANIFEST).read_text())
        path = folder / "stays.parquet"
        about["sizes"][path.name], about["checksums"][path.name] = path.stat().st_size, file_sha256(path)
        about["checksum"] = combined_checksum(about["checksums"])
        (folder / MANIFEST).write_text(json.dumps(about))
    message = _verified(folder)
    return tried(lambda: _labels_of(folder)) or message


def _labels_of(folder: Path) -> None:
    cohort = load_cohort(folder)
    for task in cohort.tasks:
        for split in ("train", "valid", "test"):
            cohort.task(task).lacks(cohort.split(split, task).label.numpy())


def own_files(at: Ground, dice: random.Random) -> str:
    """A table, a series, texts or labels."""
    folder = at.folder / "own"
    if not folder.exists():
        folder.mkdir()
        rng = np.random.default_rng(0)
        pd.DataFrame({"id": IDS, "sodium": rng.normal(140, 3, len(IDS))}).to_csv(folder / "labs.csv", index=False)
        long = [{"id": key, "time": hour, "pulse": 80 + hour} for key in IDS for hour in range(3)]
        pd.DataFrame(long).to_parquet(folder / "vitals.parquet")
        pd.DataFrame({"id": IDS, "note": "a note"}).to_csv(folder / "notes.tsv", sep="\t", index=False)
        labels = pd.DataFrame({"id": IDS, "died": np.arange(len(IDS)) % 2, "days": np.arange(len(IDS)) + 0.5})
        labels.to_csv(folder / "labels.csv", index=False)
    folder = at.copy("own")
    path = dice.choice(sorted(folder.iterdir()))
    path.write_bytes(mangled(path.read_bytes(), dice))
    out = at.folder / "damaged" / "own-cohort"
    shutil.rmtree(out, ignore_errors=True)
    named = {"tables": [str(folder / "labs.csv")], "series": [str(folder / "vitals.parquet")], "texts": [str(folder / "notes.tsv")]}
    return tried(lambda: from_files(folder / "labels.csv", out, id="id", **named))


MORE = {
    "saved models": (saved_model, 60),
    "zips of releases": (archive, 40),
    "cohorts of every task": (cohort_of_every_task, 80),
    "files of one's own": (own_files, 40),
}
"""As `tests.fuzzing.FORMATS`."""
