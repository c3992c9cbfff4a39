"""The same cohort from the zip archives of whole releases, and archives and lists of checksums that something is wrong with."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile

import pytest

from cm2 import load_cohort
from cm2.cohorts.format import PRIVATE
from cm2.errors import InputError
from data_prep import prepare_eicu, prepare_mimic3, prepare_mimic4
from data_prep.mimic.archives import as_folders
from data_prep.mimic.raw import MIMIC4

STAYS = 200
WANTED = {"raw": (MIMIC4, [*MIMIC4.tables])}
FILMS = {"modalities": ["series", "image"], "image_size": 32}


def packed(folder, file, top, leave=("truth", "splits")):
    """A folder as a zip archive with everything in one folder at the top."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            if path.is_file() and inside.parts[0] not in leave:
                archive.write(path, f"{top}{inside.as_posix()}")
    return file


def same(one, other):
    found = [load_cohort(folder).manifest for folder in (one, other)]
    parts = [(manifest["checksum"], manifest["parameters"], manifest["counts"], manifest["fabricated"]) for manifest in found]
    assert parts[0] == parts[1] and found[0]["fabricated"]


@pytest.mark.parametrize("top", ["", "the-clinical-database-1.4/"])
def test_tables(top, fabricated, tmp_path):
    raw = fabricated("mimic3", STAYS)
    archive = packed(raw, tmp_path / "release.zip", top)
    options = {"modalities": ["series"]}
    out = prepare_mimic3(archive, tmp_path / "out", **options)
    same(out, prepare_mimic3(raw, tmp_path / "unpacked", **options))
    assert prepare_mimic3(archive, out, **options) == out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "release.zip", "unpacked"], "nothing stays unpacked"


def test_eicu(fabricated, tmp_path):
    raw = fabricated("eicu", STAYS)
    same(prepare_eicu(packed(raw, tmp_path / "eicu.zip", "eicu-2.0/"), tmp_path / "out"), prepare_eicu(raw, tmp_path / "unpacked"))


@pytest.fixture
def four(fabricated, tmp_path):
    return shutil.copytree(fabricated("mimic4", STAYS), tmp_path / "raw", ignore=shutil.ignore_patterns("truth"))


def test_films_stay_in_their_archive(four, tmp_path):
    tables = packed(four, tmp_path / "tables.zip", "mimic-iv-3.1/", ("truth", "splits", "mimic-cxr-jpg", "mimic-cxr"))
    films = packed(four / "mimic-cxr-jpg", tmp_path / "films.zip", "mimic-cxr-jpg-2.1.0/")
    out = prepare_mimic4(tables, tmp_path / "out", films=films, **FILMS)
    same(out, prepare_mimic4(four, tmp_path / "unpacked", **FILMS))
    empty = packed(four / "mimic-cxr-jpg", tmp_path / "none.zip", "mimic-cxr-jpg-2.1.0/", ("files",))
    with pytest.raises(ValueError, match=r"no radiographs: .*none\.zip has no folder files/"):
        prepare_mimic4(tables, tmp_path / "none", films=empty, **FILMS)


def test_films_are_compared_with_the_publisher_s_checksums(four, tmp_path):
    folder = four / "mimic-cxr-jpg"
    before = load_cohort(prepare_mimic4(four, tmp_path / "before", **FILMS))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    write = lambda: (folder / "SHA256SUMS.txt").write_text("".join(f"{value} {name}\n" for name, value in sums.items()))
    write()
    checked = load_cohort(prepare_mimic4(four, tmp_path / "checked", **FILMS))
    assert checked.checksum == before.checksum
    assert json.loads((checked.path / PRIVATE).read_text())["records"] == json.loads((before.path / PRIVATE).read_text())["records"]
    sums |= dict.fromkeys(names, "0" * 64)
    write()
    with pytest.raises(ValueError, match=r"none of the radiographs .* \(not the official file: SHA256SUMS\.txt lists another checksum\)"):
        prepare_mimic4(four, tmp_path / "none", **FILMS)
    sums |= {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names[::2]}
    write()
    some = load_cohort(prepare_mimic4(four, tmp_path / "some", **FILMS))
    damaged = json.loads((some.path / PRIVATE).read_text())["records"]["films"]
    named = [name for name, why in damaged.items() if "lists another checksum" in why]
    assert named and set(named) <= set(names[1::2]) and some.present[:, 1].sum() == before.present[:, 1].sum() - len(named)


def test_archives_that_are_not_whole(fabricated, tmp_path):
    raw = fabricated("mimic3", STAYS)
    (tmp_path / "cut.zip").write_bytes(packed(raw, tmp_path / "whole.zip", "m/").read_bytes()[:-100])
    lacking = packed(raw, tmp_path / "lacking.zip", "m/", ("truth", "LABEVENTS.csv.gz", "LABEVENTS.csv"))
    content = bytearray((tmp_path / "whole.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        info = next(info for info in archive.infolist() if "CHARTEVENTS" in info.filename)
    content[info.header_offset + info.compress_size // 2] ^= 255
    (tmp_path / "changed.zip").write_bytes(content)
    for name, message in (
        ("cut", r"cut\.zip is no whole zip archive"),
        ("lacking", r"table LABEVENTS of MIMIC-III v1\.4 is missing: no .* in .*lacking\.zip; copy it there"),
        ("changed", r"changed\.zip: CHARTEVENTS.* is damaged in the archive"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare_mimic3(tmp_path / f"{name}.zip", tmp_path / "out", modalities=["series"])
    assert {path.suffix for path in tmp_path.iterdir()} == {".zip"} and lacking.exists()


def test_an_archive_for_which_there_is_no_space(fabricated, tmp_path, monkeypatch):
    archive = packed(fabricated("mimic3", STAYS), tmp_path / "release.zip", "m/")
    monkeypatch.setattr("data_prep.mimic.archives.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ValueError, match=r"release\.zip: its tables have [\d,]+ bytes unpacked, and there are 1 free in .*temporary="):
        prepare_mimic3(archive, tmp_path / "out", modalities=["series"])


def test_a_folder_that_has_the_release_in_it(fabricated, tmp_path):
    (tmp_path / "data" / "mimic-iii-1.4").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"table ICUSTAYS .* is missing: .*; copy it there"):
        prepare_mimic3(tmp_path / "data", tmp_path / "out")
    (tmp_path / "data" / "mimic-iii.zip").touch()
    with pytest.raises(ValueError, match=r"if it is in the archive mimic-iii\.zip, give .*mimic-iii\.zip itself"):
        prepare_mimic3(tmp_path / "data", tmp_path / "out")
    (tmp_path / "data" / "mimic-iii-1.4" / "ICUSTAYS.csv.gz").touch()
    with pytest.raises(ValueError, match=r"it is in .*mimic-iii-1\.4.*: give .*data/mimic-iii-1\.4"):
        prepare_mimic3(tmp_path / "data", tmp_path / "out")


def test_only_tables_are_unpacked_and_none_elsewhere(tmp_path):
    inside = ("hosp/admissions.csv.gz", "FABRICATED.txt", "./hosp/patients.csv")
    strange = ("../admissions.csv", "/hosp/patients.csv", "hosp/../../patients.csv", "hosp/deep/patients.csv", "hosp/admissions.exe")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (*inside, *strange):
            archive.writestr(name, name)
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(ValueError, match="stopped"),
        as_folders({"raw": tmp_path / "a.zip"}, WANTED, tmp_path / "out" / "x", None) as got,
    ):
        found = {path.relative_to(got["raw"]).as_posix() for path in got["raw"].rglob("*") if path.is_file()}
        assert found == {"hosp/admissions.csv.gz", "FABRICATED.txt", "hosp/patients.csv"}
        raise InputError("stopped")
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out"} and not list((tmp_path / "out").iterdir())
