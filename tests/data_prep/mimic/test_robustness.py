"""Bad input gives one clear error, a killed preparation leaves nothing that could be taken for a cohort, labels reach no feature."""

from __future__ import annotations

import errno
import gzip
import json
import shutil
import signal
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import pytest

from cm2 import load_cohort
from data_prep import prepare_mimic3, prepare_mimic4
from data_prep.mimic import stages
from data_prep.mimic.quirks import SENTENCES, Quirks

STAYS = 200


@pytest.fixture
def raw(fabricated, tmp_path):
    """A small copy that a test may break."""
    return shutil.copytree(fabricated("mimic3", STAYS), tmp_path / "raw", ignore=shutil.ignore_patterns("truth"))


def table(raw, name):
    (path,) = (path for path in raw.iterdir() if path.name.split(".")[0] == name)
    return path


def read(raw, name):
    return pd.read_csv(table(raw, name), dtype=str, keep_default_na=False, encoding="utf-8-sig")


def write(raw, name, frame):
    table(raw, name).unlink()
    frame.to_csv(raw / f"{name}.csv", index=False)


def prepare(raw, tmp_path, **options):
    return prepare_mimic3(raw, tmp_path / "out", **({"modalities": ["series"]} | options))


def cut(raw):
    path = table(raw, "CHARTEVENTS")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def semicolons(raw):
    frame = read(raw, "PATIENTS")
    table(raw, "PATIENTS").unlink()
    frame.to_csv(raw / "PATIENTS.csv", sep=";", index=False)


def of_mimic4(raw):
    write(raw, "ICUSTAYS", read(raw, "ICUSTAYS").rename(columns={"ICUSTAY_ID": "stay_id"}))


def no_column(raw):
    write(raw, "ADMISSIONS", read(raw, "ADMISSIONS").drop(columns=["DISCHTIME"]))


def bad_row(raw):
    frame = read(raw, "LABEVENTS")
    frame.loc[7, "ITEMID"] = "fifty"
    write(raw, "LABEVENTS", frame)


def twice(raw):
    frame = read(raw, "ICUSTAYS")
    write(raw, "ICUSTAYS", pd.concat([frame, frame.head(1)]))


def children(raw):
    write(raw, "PATIENTS", read(raw, "PATIENTS").assign(DOB="2199-01-01 00:00:00"))
    write(raw, "ICUSTAYS", read(raw, "ICUSTAYS").assign(INTIME="2199-06-01 00:00:00"))


def moved(raw):
    write(raw, "ICUSTAYS", read(raw, "ICUSTAYS").assign(LAST_CAREUNIT="elsewhere"))


BROKEN = {
    "missing": (lambda raw: table(raw, "CHARTEVENTS").unlink(), r"table CHARTEVENTS of MIMIC-III v1.4 is missing: .*copy it there"),
    "cut": (cut, r"CHARTEVENTS\.csv\.gz cannot be read: .*GZIP.*undamaged"),
    "delimiter": (semicolons, r"PATIENTS\.csv, line 1: not separated by commas"),
    "release": (of_mimic4, r"ICUSTAYS\.csv is a table of MIMIC-IV, not of MIMIC-III v1.4; use `cm2 prepare mimic4`"),
    "column": (no_column, r"ADMISSIONS\.csv, line 1: no column 'dischtime'; known columns there: .*official file"),
    "row": (bad_row, r"LABEVENTS\.csv cannot be read: line 9: .*itemid"),
    "twice": (twice, r"icustays: stay_id occurs twice in 1 rows"),
    "children": (children, r"no stay is left after the step '18 years or older' \(\d+ before it\)"),
    "moved": (moved, r"no stay is left after the step 'one care unit' \(200 before it\)"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_copy_gives_one_error_and_no_folder(name, raw, tmp_path):
    damage, message = BROKEN[name]
    damage(raw)
    with pytest.raises(ValueError, match=message) as caught:
        prepare(raw, tmp_path)
    assert "fifty" not in str(caught.value), "what stands in a patient's row is not repeated"
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_cut_note_table(raw, tmp_path):
    path = table(raw, "NOTEEVENTS")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"NOTEEVENTS\.csv\.gz is damaged or cut"):
        prepare(raw, tmp_path, modalities=("series", "note"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ["series", "image"]}, r"unknown modality 'image'; MIMIC-III v1.4 has series, note"),
        ({"modalities": ["series", "notes"]}, r"MIMIC-III v1.4 has series, note \(did you mean 'note'\?\)"),
        ({"modalities": ["note"]}, r"series is always read"),
        ({"variant": "release"}, r"unknown variant 'release'; choose one of corrected, released \(did you mean 'released'\?\)"),
        ({"quirks": {"death_by_data": True}}, r"unknown quirk 'death_by_data'; choose one of .*\(did you mean 'death_by_date'\?\)"),
        ({"memory_limit": "much"}, r"memory_limit: got 'much'; give a number with a unit, for example 3GB"),
        ({"split_lists": ("nowhere.csv", "nowhere.csv")}, r"nowhere.csv is not a file"),
        ({"jobs": 0}, r"jobs are 1 or more"),
    ],
)
def test_options_that_cannot_be(options, message, raw, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(raw, tmp_path, **options)


def test_another_folder_is_not_overwritten_and_the_same_is_not_written_again(raw, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.002)
    out = prepare(raw, tmp_path)
    said = capsys.readouterr()
    assert "preparing mimic3: reading events, " in said.err and not said.out
    before = (out / "manifest.json").stat().st_mtime_ns
    assert prepare(raw, tmp_path) == out and (out / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="is not the mimic3 cohort with these parameters"):
        prepare(raw, tmp_path, variant="released")


@pytest.mark.parametrize(
    ("place", "error", "told"),
    [
        ("stages.bin_events", OSError, (errno.ENOSPC, "No space left on device")),
        ("raw.source", duckdb.IOException, ("IO Error: Could not write file: No space left on device",)),
    ],
)
def test_no_space_left(place, error, told, raw, tmp_path, monkeypatch):
    def full(*_):
        raise error(*told)

    monkeypatch.setattr(f"data_prep.mimic.{place}", full)
    with pytest.raises(ValueError, match=r"no space left while preparing .*temporary="):
        prepare(raw, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_memory_that_does_not_suffice(raw, tmp_path, monkeypatch):
    def too_much(*_):
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block")

    monkeypatch.setattr(stages, "clean_events", too_much)
    with pytest.raises(ValueError, match=r"DuckDB stopped in the stage .*could not allocate.*memory_limit="):
        prepare(raw, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("stage", ["read_events", "write_cohort"])
def test_killed_and_called_again(stage, raw, tmp_path):
    """SIGKILL leaves no time to tidy up; the next call starts clean."""
    code = (
        "import os, signal, sys\nfrom data_prep.mimic import prepare_mimic3, stages\n"
        "def die(*a, **k):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"import cm2.cohorts.writing as w\n{'w._write_manifest = die' if stage == 'write_cohort' else f'stages.{stage} = die'}\n"
        "prepare_mimic3(sys.argv[1], sys.argv[2], modalities=['series'])\n"
    )
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", code, str(raw), str(out)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL and not out.exists()
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".out")]
    assert left
    for path in left:
        with pytest.raises(ValueError, match="not a prepared cohort"):
            load_cohort(path)
    load_cohort(prepare(raw, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_outcomes_reach_no_feature(raw, tmp_path):
    options = {"modalities": ("series", "note")}
    before = load_cohort(prepare_mimic3(raw, tmp_path / "before", **options))
    shuffled = np.random.default_rng(0).permutation(STAYS)
    admissions, patients = read(raw, "ADMISSIONS"), read(raw, "PATIENTS")
    for frame, columns in ((admissions, ["DEATHTIME", "HOSPITAL_EXPIRE_FLAG"]), (patients, ["DOD"])):
        order = shuffled[shuffled < len(frame)]
        frame.loc[order, columns] = frame.loc[np.sort(order), columns].to_numpy()
    write(raw, "ADMISSIONS", admissions)
    write(raw, "PATIENTS", patients)
    after = load_cohort(prepare_mimic3(raw, tmp_path / "after", **options))
    labels = [cohort.stays["in_hospital_mortality"].to_numpy() for cohort in (before, after)]
    assert (labels[0] != labels[1]).any()
    same = [name for name in before.stays if name not in before.tasks]
    pd.testing.assert_frame_equal(before.stays[same], after.stays[same])
    sums = [cohort.manifest["checksums"] for cohort in (before, after)]
    assert all(sums[0][file] == sums[1][file] for file in ("series.npy", "note.parquet", "flow.svg"))


def test_the_order_of_the_rows_does_not_matter(raw, tmp_path):
    before = load_cohort(prepare_mimic3(raw, tmp_path / "before", modalities=["series"], jobs=1))
    for name in ("CHARTEVENTS", "LABEVENTS", "ICUSTAYS", "ADMISSIONS"):
        write(raw, name, read(raw, name).sample(frac=1, random_state=1))
    after = load_cohort(prepare_mimic3(raw, tmp_path / "after", modalities=["series"], jobs=2))
    assert before.checksum == after.checksum


def test_every_quirk_has_a_sentence_and_is_told_by_the_manifest(raw, tmp_path):
    assert list(SENTENCES) == list(Quirks.__dataclass_fields__)
    manifest = json.loads((prepare(raw, tmp_path, quirks={"death_by_date": True}) / "manifest.json").read_text())
    assert [name for name, on in manifest["parameters"]["quirks"].items() if on] == ["death_by_date"]
    assert manifest["counts"]["quirks"] == {"death_by_date": SENTENCES["death_by_date"]}


def test_compression_and_case_do_not_matter(raw, tmp_path):
    before = load_cohort(prepare(raw, tmp_path))
    path = table(raw, "ICUSTAYS")
    text = path.read_text(encoding="utf-8-sig")
    (raw / "icustays.csv.gz").write_bytes(gzip.compress((text.partition("\n")[0].lower() + "\n" + text.partition("\n")[2]).encode()))
    path.unlink()
    assert load_cohort(prepare_mimic3(raw, tmp_path / "after", modalities=["series"])).checksum == before.checksum


@pytest.fixture
def raw4(fabricated, tmp_path):
    """A small copy of MIMIC-IV that a test may break."""
    return shutil.copytree(fabricated("mimic4", STAYS), tmp_path / "raw4", ignore=shutil.ignore_patterns("truth"))


def no_films(raw):
    shutil.rmtree(raw / "mimic-cxr-jpg")


def no_jpegs(raw):
    for path in (raw / "mimic-cxr-jpg" / "files").rglob("*.jpg"):
        path.write_bytes(b"no image")


def no_reports(raw):
    shutil.rmtree(raw / "mimic-cxr")


def no_stays(raw):
    next(iter((raw / "icu").glob("icustays.csv*"))).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_films, r"mimic-cxr-jpg is not a folder; give the one that holds the tables of MIMIC-CXR-JPG"),
        (no_jpegs, r"none of the radiographs of these stays in .* can be read .*give the folder with files/"),
        (no_reports, r"no reports: .*mimic-cxr has no folder files/; .* or leave out the modality report"),
        (no_stays, r"table icustays of MIMIC-IV is missing: .*hosp or .*icu"),
    ],
)
def test_a_broken_copy_of_mimic4(damage, message, raw4, tmp_path):
    damage(raw4)
    with pytest.raises(ValueError, match=message):
        prepare_mimic4(raw4, tmp_path / "out", image_size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["raw4"]


def test_the_wrong_command_for_the_copy(raw, raw4, tmp_path):
    with pytest.raises(ValueError, match=r"is a table of MIMIC-III, not of MIMIC-IV; use `cm2 prepare mimic3`"):
        prepare_mimic4(raw, tmp_path / "out", modalities=["series"])
    with pytest.raises(ValueError, match=r"has a folder hosp/, as MIMIC-IV has; use `cm2 prepare mimic4`"):
        prepare_mimic3(raw4, tmp_path / "out")
