"""MIMIC-IV-Note: which notes are read, and the same ones from its zip archive; archives that something is wrong with."""

from __future__ import annotations

import shutil
import zipfile

import pandas as pd
import pytest

from cm2 import load_cohort
from cm2.cohorts.format import SEPARATOR, read_exact
from data_prep import prepare_mimic4
from data_prep.made_up import MARK

STAYS = 200
TOP = "mimic-iv-note-deidentified-free-text-clinical-notes-2.2/"
"""The one folder of the archive as the source serves it."""
MODALITIES = ["series", "note"]


@pytest.fixture(scope="module")
def raw(fabricated):
    return fabricated("mimic4", STAYS)


@pytest.fixture(scope="module")
def stays(raw, tmp_path_factory):
    """Three stays of the cohort, which get the notes."""
    kept = load_cohort(prepare_mimic4(raw, tmp_path_factory.mktemp("plain") / "out", modalities=["series"])).stays["stay_id"]
    return pd.read_csv(raw / "icu" / "icustays.csv", parse_dates=["intime"]).set_index("stay_id").loc[kept.iloc[:3]].reset_index()


@pytest.fixture(scope="module")
def notes(stays, tmp_path_factory):
    """A folder of MIMIC-IV-Note."""

    def note(kind, row, number, hours, text, other=0):
        when = "" if hours is None else (stays["intime"][row] + pd.Timedelta(hours=hours)).strftime("%Y-%m-%d %H:%M:%S")
        subject, admission = stays["subject_id"][row], stays["hadm_id"][row] + other
        first = {"note_id": f"{subject}-{kind}-{number}", "subject_id": subject, "hadm_id": admission, "note_type": kind}
        return {**first, "note_seq": number, "charttime": when, "storetime": "", "text": text}

    radiology = [note("RR", 0, i, 7 * i, f"FILM {i} ___") for i in range(8)]
    radiology += [note("RR", 1, 0, None, "no time"), note("RR", 1, 1, 1, " "), note("RR", 2, 0, 1, "of another admission", other=1)]
    discharge = [note("DS", 0, 0, 40, "DIED"), note("DS", 1, 0, -900, "Earlier\nsummary", other=1), note("DS", 1, 1, 3, "later", other=1)]
    folder = tmp_path_factory.mktemp("notes") / "mimic-iv-note"
    (folder / "note").mkdir(parents=True)
    pd.DataFrame(radiology).to_csv(folder / "note" / "radiology.csv.gz", index=False)
    pd.DataFrame(discharge).to_csv(folder / "note" / "discharge.csv.gz", index=False)
    return folder


@pytest.fixture(scope="module")
def expected(raw, notes, tmp_path_factory):
    return load_cohort(prepare_mimic4(raw, tmp_path_factory.mktemp("noted") / "out", modalities=MODALITIES, notes=notes))


def prepare(raw, notes, out):
    return prepare_mimic4(raw, out, modalities=MODALITIES, notes=notes)


def packed(notes, file, top=TOP, leave=()):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{top}LICENSE.txt", "as the source has it")
        for path in sorted((notes / "note").iterdir()):
            if path.name not in leave:
                archive.write(path, f"{top}note/{path.name}")
    return file


def test_which_notes_a_stay_keeps(stays, expected):
    """Radiology of the admission up to 48 hours; discharge summaries of other admissions before entry; never the stay's own."""
    texts = dict(zip(expected.stays["stay_id"], expected.texts("note"), strict=True))
    assert texts[stays["stay_id"][0]] == SEPARATOR.join(f"film {i}" for i in range(2, 7))
    assert texts[stays["stay_id"][1]] == "earlier summary" and texts[stays["stay_id"][2]] is None
    counts = read_exact(expected.path)["counts"]["notes"]
    assert counts["radiology"] == {"of_the_cohorts_subjects": 11, "no_time_or_text": 2, "eligible": 7}
    assert (counts["discharge"]["of_the_cohorts_subjects"], counts["discharge"]["no_time_or_text"]) == (3, 0)


@pytest.mark.parametrize("top", ["", TOP])
def test_the_archive_gives_the_same_cohort(top, raw, notes, expected, tmp_path):
    archive = packed(notes, tmp_path / "notes.zip", top)
    out = prepare(raw, archive, tmp_path / "out")
    found = load_cohort(out).manifest
    for part in ("checksum", "checksums", "parameters", "counts"):
        assert found[part] == expected.manifest[part], part
    assert prepare(raw, archive, out) == out
    assert {path.name for path in tmp_path.iterdir()} == {"notes.zip", "out"}, "nothing stays unpacked"


def test_everything_from_archives(raw, notes, expected, tmp_path):
    """The tables of the clinical database in one archive, the notes in another."""
    with zipfile.ZipFile(tmp_path / "iv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(raw / MARK, f"mimic-iv-3.1/{MARK}")
        for path in (path for folder in ("hosp", "icu") for path in sorted((raw / folder).iterdir())):
            archive.write(path, f"mimic-iv-3.1/{path.relative_to(raw).as_posix()}")
    out = prepare(tmp_path / "iv.zip", packed(notes, tmp_path / "notes.zip"), tmp_path / "out")
    assert load_cohort(out).checksum == expected.checksum


@pytest.mark.parametrize("table", ["discharge", "radiology"])
def test_a_table_that_is_missing(table, raw, notes, tmp_path):
    lacking = packed(notes, tmp_path / "lacking.zip", leave=[f"{table}.csv.gz"])
    with pytest.raises(ValueError, match=rf"table {table} of MIMIC-IV-Note is missing: no {table}\.csv, .* in .*lacking\.zip") as told:
        prepare(raw, lacking, tmp_path / "out")
    assert ".work" not in str(told.value) and "\n" not in str(told.value)
    copy = shutil.copytree(notes, tmp_path / "copy")
    (copy / "note" / f"{table}.csv.gz").unlink()
    with pytest.raises(ValueError, match=f"table {table} of MIMIC-IV-Note is missing"):
        prepare(raw, copy, tmp_path / "out")


@pytest.mark.parametrize("table", ["discharge", "radiology"])
def test_a_table_at_another_depth(table, raw, notes, tmp_path):
    """As in an archive of a download with wget, which has the server's folders above."""
    deep = packed(notes, tmp_path / "deep.zip", "physionet.org/files/mimic-iv-note/2.2/")
    with pytest.raises(
        ValueError, match=r"deep\.zip: the table discharge .* is not where the source has it, in note/ or no folder"
    ) as told:
        prepare(raw, deep, tmp_path / "out")
    assert "'physionet.org/files/mimic-iv-note/2.2/note/discharge.csv.gz'" in str(told.value) and "\n" not in str(told.value)
    split = packed(notes, tmp_path / "split.zip", leave=[f"{table}.csv.gz"])
    with zipfile.ZipFile(split, "a") as archive:
        archive.write(notes / "note" / f"{table}.csv.gz", f"{TOP}note/old/{table}.csv.gz")
    with pytest.raises(ValueError, match=rf"split\.zip: the table {table} .* but is '.*note/old/{table}\.csv\.gz'"):
        prepare(raw, split, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_not_whole(raw, notes, tmp_path):
    whole = packed(notes, tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        info = next(info for info in archive.infolist() if "radiology" in info.filename)
    changed = bytearray(whole)
    changed[info.header_offset + len(info.filename) + 30 + info.compress_size // 2] ^= 255
    (tmp_path / "changed.zip").write_bytes(changed)
    nowhere, end = bytearray(whole), whole.rindex(b"PK\x05\x06")
    nowhere[end + 16 : end + 20] = (int.from_bytes(whole[end + 16 : end + 20], "little") + 10**6).to_bytes(4, "little")
    (tmp_path / "nowhere.zip").write_bytes(nowhere)  # whose tables would begin before the file
    (tmp_path / "text.zip").write_text("no archive")
    for name, message in (
        ("cut", r"cut\.zip is no whole zip archive"),
        ("text", r"text\.zip is no whole zip archive"),
        ("nowhere", r"nowhere\.zip"),
        ("changed", r"changed\.zip: note/radiology\.csv\.gz is damaged in the archive"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(raw, tmp_path / f"{name}.zip", tmp_path / "out")
    with pytest.raises(ValueError, match=r"absent\.zip is not a folder; give the one that holds the tables of MIMIC-IV-Note"):
        prepare(raw, tmp_path / "absent.zip", tmp_path / "out")
    assert {path.suffix for path in tmp_path.iterdir()} == {".zip"}


def test_a_table_in_the_archive_that_is_cut_or_foreign(raw, notes, tmp_path):
    for name, content, message in (
        ("cut", (notes / "note" / "radiology.csv.gz").read_bytes()[:-9], r"radiology\.csv\.gz"),
        ("foreign", b"", r"radiology\.csv\.gz is empty"),
    ):
        archive = packed(notes, tmp_path / f"{name}.zip", leave=["radiology.csv.gz"])
        with zipfile.ZipFile(archive, "a") as opened:
            opened.writestr(f"{TOP}note/radiology.csv.gz", content)
        with pytest.raises(ValueError, match=message) as told:
            prepare(raw, archive, tmp_path / "out")
        assert str(archive) in str(told.value) and ".unpacked" not in str(told.value)


def test_made_up_notes_make_the_cohort_made_up(raw, notes, tmp_path):
    """Even beside real tables."""
    copy = shutil.copytree(raw, tmp_path / "real", ignore=shutil.ignore_patterns("truth", MARK))
    assert not load_cohort(prepare(copy, notes, tmp_path / "real-out")).manifest["fabricated"]
    with zipfile.ZipFile(packed(notes, tmp_path / "notes.zip", "n/"), "a") as archive:
        archive.writestr(f"n/{MARK}", "made up")
    assert load_cohort(prepare(copy, tmp_path / "notes.zip", tmp_path / "out")).manifest["fabricated"]
