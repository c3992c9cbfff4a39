"""The same cohort from other containers: Parquet, a DuckDB file, the archive of reports; and what is not read says how to convert it."""

from __future__ import annotations

import shutil
import zipfile

import duckdb
import pytest

from cm2 import load_cohort
from data_prep import prepare_mimic3, prepare_mimic4
from data_prep.made_up import MARK

STAYS = 200


@pytest.fixture(scope="module")
def raw(fabricated):
    return fabricated("mimic3", STAYS)


@pytest.fixture(scope="module")
def expected(raw, tmp_path_factory):
    return load_cohort(prepare_mimic3(raw, tmp_path_factory.mktemp("csv") / "cohort")).manifest["checksums"]


def tables(raw):
    return {path.name.partition(".")[0]: path for path in raw.glob("*.csv*")}


def read(path, typed):
    options = "sample_size=-1" if typed else "all_varchar=true"
    return f"FROM read_csv('{path}', {options}, quote='\"', escape='\"', encoding='latin-1')"


def same(folder, expected):
    found = load_cohort(folder).manifest["checksums"]
    return [name for name in expected if found[name] != expected[name]]


@pytest.mark.parametrize("typed", [True, False])
def test_parquet(typed, raw, expected, tmp_path):
    (tmp_path / "raw").mkdir()
    shutil.copy(raw / MARK, tmp_path / "raw")
    for name, path in tables(raw).items():
        if name == "NOTEEVENTS":  # has bytes that are no text, which Parquet cannot hold
            shutil.copy(path, tmp_path / "raw")
        else:
            duckdb.connect().execute(f"COPY ({read(path, typed)}) TO '{tmp_path / 'raw' / name}.parquet'")
    assert same(prepare_mimic3(tmp_path / "raw", tmp_path / "out"), expected) == []


def test_a_duckdb_file(raw, expected, tmp_path):
    file = tmp_path / "copy.duckdb"
    shutil.copy(raw / MARK, tmp_path)
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA mimiciii")
        for name, path in tables(raw).items():
            connection.execute(f"CREATE TABLE mimiciii.{name} AS {read(path, True)}")
    before = file.read_bytes()
    out = prepare_mimic3(file, tmp_path / "out")
    assert set(same(out, expected)) <= {"note.parquet", "private.json"}, "but for the notes whose bytes are no text"
    assert file.read_bytes() == before and prepare_mimic3(file, tmp_path / "out") == out
    with duckdb.connect(str(file)) as connection:
        connection.execute("DROP TABLE mimiciii.labevents")
    with pytest.raises(ValueError, match=r"copy2\.duckdb: the table labevents is not there; load it first"):
        prepare_mimic3(file.rename(tmp_path / "copy2.duckdb"), tmp_path / "none")
    (tmp_path / "text.duckdb").write_text("no database")
    with pytest.raises(ValueError, match=r"text\.duckdb cannot be read"):
        prepare_mimic3(tmp_path / "text.duckdb", tmp_path / "none")


@pytest.mark.parametrize("top", ["", "mimic-cxr-2.0.0/"])
def test_the_archive_of_reports(top, fabricated, tmp_path):
    raw = shutil.copytree(fabricated("mimic4", STAYS), tmp_path / "raw", ignore=shutil.ignore_patterns("truth"))
    before = load_cohort(prepare_mimic4(raw, tmp_path / "before", image_size=32)).manifest
    with zipfile.ZipFile(tmp_path / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((raw / "mimic-cxr").rglob("*.txt")):
            archive.write(path, top + path.relative_to(raw / "mimic-cxr").as_posix())
    shutil.rmtree(raw / "mimic-cxr")
    after = load_cohort(prepare_mimic4(raw, tmp_path / "after", image_size=32, reports=tmp_path / "mimic-cxr-reports.zip")).manifest
    assert after["checksum"] == before["checksum"] and after["counts"]["reports"] == before["counts"]["reports"]
    (tmp_path / "mimic-cxr-reports.zip").write_bytes(b"PK, but cut")
    with pytest.raises(ValueError, match=r"mimic-cxr-reports\.zip is no whole zip archive"):
        prepare_mimic4(raw, tmp_path / "none", image_size=32, reports=tmp_path)


@pytest.mark.parametrize(
    ("name", "how"),
    [("CHARTEVENTS.feather", "pyarrow.feather.read_table"), ("CHARTEVENTS.csv.xz", "unpack it"), ("CHARTEVENTS.xlsx", "CSV or Parquet")],
)
def test_what_is_not_read_says_how_to_convert(name, how, raw, tmp_path):
    copy = shutil.copytree(raw, tmp_path / "raw", ignore=shutil.ignore_patterns("truth", "CHARTEVENTS*"))
    (copy / name).write_bytes(b"something")
    with pytest.raises(ValueError, match=f"CHARTEVENTS.*{name} is not read; .*{how}"):
        prepare_mimic3(copy, tmp_path / "out")
    (tmp_path / "mimic.tar").write_bytes(b"something")
    with pytest.raises(ValueError, match=r"mimic\.tar is not read; unpack it \(tar -xf\) and give the folder"):
        prepare_mimic3(tmp_path / "mimic.tar", tmp_path / "out")
