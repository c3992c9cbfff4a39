"""What is not whole is noticed before anything is prepared: doubled, cut and altered files, and rows that a copy lacks."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil

import pytest

from data_prep import prepare_mimic3, prepare_mimic4
from data_prep.made_up import MARK
from data_prep.mimic import editions
from data_prep.mimic.editions import EDITIONS, Edition, recognised

STAYS = 200


@pytest.fixture
def raw(fabricated, tmp_path):
    """A small copy that a test may break."""
    return shutil.copytree(fabricated("mimic3", STAYS), tmp_path / "raw", ignore=shutil.ignore_patterns("truth", MARK))


def prepare(raw, tmp_path, **options):
    return prepare_mimic3(raw, tmp_path / "out", modalities=["series"], **options)


def unpack(raw, table):
    """Unpacks a table; the packed file stays."""
    (raw / f"{table}.csv").write_bytes(gzip.decompress((raw / f"{table}.csv.gz").read_bytes()))
    return raw / f"{table}.csv"


def lines(path):
    return path.read_bytes().splitlines(keepends=True)


def rows(raw):
    count = lambda path: len(lines(path)) if path.suffix == ".csv" else len(gzip.decompress(path.read_bytes()).splitlines())
    return {path.name.partition(".")[0].lower(): count(path) - 1 for path in raw.glob("*.csv*")}


def source(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest["source"], manifest["counts"]["source"]


def test_a_table_that_is_there_twice(raw, tmp_path):
    unpack(raw, "CHARTEVENTS")
    with pytest.raises(ValueError, match=r"table chartevents is there twice, .*CHARTEVENTS\.csv and .*CHARTEVENTS\.csv\.gz; remove"):
        prepare(raw, tmp_path)


@pytest.mark.parametrize("keep", [0, 1000])
def test_a_file_that_ends_early(keep, raw, tmp_path):
    path = unpack(raw, "LABEVENTS")
    (raw / "LABEVENTS.csv.gz").unlink()
    path.write_bytes(path.read_bytes().rstrip()[:keep])
    with pytest.raises(ValueError, match=r"LABEVENTS\.csv (is empty|ends within a line).*copy it again"):
        prepare(raw, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_checksums_beside_the_files(raw, tmp_path):
    names = ["ICUSTAYS.csv", "CHARTEVENTS.csv.gz"]
    sums = {name: hashlib.sha256((raw / name).read_bytes()).hexdigest() for name in names}
    sums["LABEVENTS.csv"] = hashlib.sha256(gzip.decompress((raw / "LABEVENTS.csv.gz").read_bytes())).hexdigest()  # listed unpacked
    listed = "".join(f"{value}  {name}\n" for name, value in sums.items())
    (raw / "SHA256SUMS.txt").write_text(listed)
    said, found = source(prepare(raw, tmp_path))
    assert {name for name, how in found["checked"].items() if how == "checksum"} == {*names, "LABEVENTS.csv.gz"}
    assert found["release"] is None and said.startswith("MIMIC-III, of no release that its rows tell") and not found["incomplete"]
    (raw / "SHA256SUMS.txt").write_text(listed.replace(sums["CHARTEVENTS.csv.gz"], "0" * 64))
    with pytest.raises(ValueError, match=r"CHARTEVENTS\.csv\.gz is not the official file: .*SHA256SUMS\.txt lists another checksum"):
        prepare_mimic3(raw, tmp_path / "again", modalities=["series"])
    (raw / "SHA256SUMS.txt").write_text("<html>\n")
    with pytest.raises(ValueError, match=r"SHA256SUMS\.txt, line 1: expected a checksum and a file"):
        prepare_mimic3(raw, tmp_path / "again", modalities=["series"])


@pytest.mark.parametrize("demo", [True, False])
def test_rows_of_a_known_release(demo, raw, tmp_path, monkeypatch):
    edition = Edition("MIMIC-III made up v9", "9", "10.0/x", rows(raw), demo)
    monkeypatch.setitem(editions.EDITIONS, "mimic3", (edition,))
    said, found = source(prepare(raw, tmp_path))
    assert said.startswith("MIMIC-III made up v9, https://doi.org/10.0/x") and found["release"] == edition.title
    assert set(found["checked"].values()) <= {"rows", "not checked"} and found["checked"]["CHARTEVENTS.csv.gz"] == "rows"
    path = unpack(raw, "CHARTEVENTS")
    (raw / "CHARTEVENTS.csv.gz").unlink()
    path.write_bytes(b"".join(lines(path)[:-50]))  # cut at the end of a line, which nothing in the file itself tells
    with pytest.raises(ValueError, match=r"CHARTEVENTS\.csv has [\d,]+ rows, and MIMIC-III made up v9 has [\d,]+.*allow_incomplete="):
        prepare_mimic3(raw, tmp_path / "cut", modalities=["series"])
    said, found = source(prepare_mimic3(raw, tmp_path / "cut", modalities=["series"], allow_incomplete=True))
    assert len(found["incomplete"]) == 1 and str(raw.parent) not in found["incomplete"][0]


def test_releases_are_told_apart():
    for name, known in EDITIONS.items():
        for edition in known:
            assert recognised(name, edition.rows) is edition
            assert recognised(name, dict(edition.rows) | {"icustays": 7}) is edition, "a cut table does not hide the release"
    assert recognised("mimic4", dict.fromkeys(editions.TELLING, 100)) is None


@pytest.mark.real
def test_the_open_demo_is_recognised_and_a_cut_one_refused(mimic3_demo, tmp_path):
    said, found = source(prepare_mimic3(mimic3_demo, tmp_path / "out", modalities=["series"]))
    assert said.startswith("MIMIC-III Clinical Database Demo v1.4") and not found["incomplete"]
    raw = shutil.copytree(mimic3_demo, tmp_path / "raw")
    chart = gzip.decompress((raw / "CHARTEVENTS.csv.gz").read_bytes())
    (raw / "CHARTEVENTS.csv.gz").write_bytes(gzip.compress(chart[: chart.rindex(b"\n", 0, len(chart) // 2) + 1], 1))
    with pytest.raises(ValueError, match=r"CHARTEVENTS\.csv\.gz has [\d,]+ rows, and MIMIC-III Clinical Database Demo v1\.4 has 758,355"):
        prepare_mimic3(raw, tmp_path / "cut", modalities=["series"])


def test_the_folders_of_mimic4(fabricated, tmp_path):
    raw = shutil.copytree(fabricated("mimic4", STAYS), tmp_path / "raw", ignore=shutil.ignore_patterns("truth", MARK))
    said, found = source(prepare_mimic4(raw, tmp_path / "o'brien", image_size=32))
    assert "MIMIC-CXR-JPG v2.0.0" in said and found["films"] == "2.0.0"
    (raw / "mimic-cxr-jpg" / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text("study_id\n")
    said, _ = source(prepare_mimic4(raw, tmp_path / "newer", image_size=32))
    assert "MIMIC-CXR-JPG v2.1.0, https://doi.org/10.13026/jsn5-t979" in said
    shutil.rmtree(raw / "mimic-cxr-jpg" / "files")
    with pytest.raises(ValueError, match=r"no radiographs: .*mimic-cxr-jpg has no folder files/.*leave out the modality image"):
        prepare_mimic4(raw, tmp_path / "none", image_size=32)
    (raw / "hosp").rename(raw / "core")
    with pytest.raises(ValueError, match=r"has a folder core/, as MIMIC-IV had before v2\.0"):
        prepare_mimic4(raw, tmp_path / "none", modalities=["series"])
