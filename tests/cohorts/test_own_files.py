"""Cohorts from files, events in the layout of MEDS, and samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from cm2.cohorts import from_files, from_meds, from_samples, to_frames
from cm2.errors import InputError

N = 60
RNG = np.random.default_rng(0)
IDS = [f"{i:03d}" for i in range(N)]  # leading zeros are part of an id


@pytest.fixture
def files(tmp_path):
    from PIL import Image

    folder = tmp_path / "raw"
    (folder / "scans").mkdir(parents=True)
    pd.DataFrame({"patient": IDS, "sodium": RNG.normal(140, 3, N), "sex": RNG.choice(["f", "m"], N)}).to_csv(
        folder / "labs.csv", index=False
    )
    rows = [{"patient": key, "hour": float(hour), "pulse": RNG.normal(80, 9)} for i, key in enumerate(IDS) for hour in range(i % 4)]
    pd.DataFrame(rows).to_parquet(folder / "vitals.parquet")
    pd.DataFrame({"patient": np.repeat(IDS, 2), "note": [f"note {i}" for i in range(2 * N)]}).to_csv(
        folder / "notes.tsv", sep="\t", index=False
    )
    for key in IDS[:50]:
        Image.fromarray(RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "scans" / f"{key}.png")
    labels = {"patient": IDS[::-1], "grade": np.array(["a", "b", "c"])[np.arange(N) % 3], "age": RNG.normal(60, 9, N)}
    pd.DataFrame(labels).to_csv(folder / "labels.csv", index=False)
    return folder


def names(folder, **more) -> dict:
    return {
        "tables": [str(folder / "labs.csv")], "series": [f"pulse={folder / 'vitals.parquet'}"], "texts": [str(folder / "notes.tsv")],
        "images": [str(folder / "scans")], "id": "patient", "time": "hour", "credentialed": False,
    } | more  # fmt: skip


def test_files_of_every_kind_are_matched_by_id(files, tmp_path):
    from PIL import Image

    cohort = from_files(files / "labels.csv", tmp_path / "c", **names(files))
    assert list(cohort.manifest["modalities"]) == ["labs", "pulse", "notes", "scans"] and cohort.tasks == ("grade", "age")
    back = to_frames(cohort)
    assert back["labels"].index.tolist() == IDS[::-1]
    labs = pd.read_csv(files / "labs.csv", dtype={"patient": str}).set_index("patient")
    np.testing.assert_allclose(back["labs"]["sodium"], labs["sodium"].reindex(IDS[::-1]), rtol=1e-5)
    assert back["labs"]["sex"].astype(str).tolist() == labs["sex"].reindex(IDS[::-1]).tolist()
    assert back["pulse"].groupby("id").size().to_dict() == {key: i % 4 for i, key in enumerate(IDS) if i % 4}
    assert back["notes"]["003"] == "note 6\fnote 7"
    assert set(back["scans"]) == set(IDS[:50])
    np.testing.assert_array_equal(back["scans"]["007"], np.asarray(Image.open(files / "scans" / "007.png")))


def test_arrays_and_tables_of_paths(files, tmp_path):
    np.save(files / "wave.npy", RNG.normal(size=(N, 5, 2)))
    pd.DataFrame({"patient": IDS[:9], "path": [f"scans/{key}.png" for key in IDS[:9]]}).to_csv(files / "list.csv", index=False)
    given = {"tables": [], "series": [], "texts": [], "images": [str(files / "list.csv")]}
    with pytest.raises(InputError, match="the stay has none of list"):
        from_files(files / "labels.csv", tmp_path / "c", **names(files, **given))
    cohort = from_files(files / "labels.csv", tmp_path / "c", **names(files, **given | {"series": [str(files / "wave.npy")]}))
    assert cohort.manifest["modalities"]["list"]["present"] == 9 and cohort.modalities[0].shape == (5, 2)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (lambda f: None, {"tables": ["gone.csv"]}, "gone.csv is not there; give a file"),
        (lambda f: (f / "x.xlsx").write_text(""), {"tables": ["x.xlsx"]}, "unknown type of file"),
        (lambda f: (f / "x.parquet").write_bytes(b"PAR1"), {"tables": ["x.parquet"]}, "not a whole Parquet file"),
        (lambda f: (f / "x.csv").write_bytes(b"patient,a\n1,\xff\xfe"), {"tables": ["x.csv"]}, "not a table in UTF-8"),
        (lambda f: (f / "x.csv").write_text("a\n1\n"), {"tables": ["x.csv"]}, "no column 'patient'"),
        (lambda f: None, {"tables": ["labs.csv", "labs.csv"]}, "two modalities are called 'labs'"),
        (lambda f: (f / "scans" / "000.jpg").write_bytes(b"x"), {}, r"two images have one id \(000.jpg, 000.png\)"),
        (lambda f: (f / "scans" / "059.png").write_bytes(b"no image"), {}, r"row 1 \(id 059\): .*059.png is no image that can be read"),
        (lambda f: (f / "scans" / "abc.png").write_bytes(b""), {}, "its id is not among the labels"),
        (lambda f: (f / "empty").mkdir(), {"images": ["empty"]}, "has no image; files are called ID.png"),
    ],
)
def test_files_that_cannot_be_used_are_named(make, changes, message, files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    make(files)
    with pytest.raises(InputError, match=message):
        from_files("labels.csv", tmp_path / "c", **names(files, **changes))
    assert not (tmp_path / "c").exists()


def meds(folder, splits: bool = True) -> pd.DataFrame:
    """Events of sixty subjects in the layout of MEDS, and one label each."""
    rows = []
    for subject in range(1, N + 1):
        start = pd.Timestamp("2150-01-01") + pd.Timedelta(days=subject)
        rows += [(subject, None, "GENDER//F", None), (subject, start - pd.Timedelta(days=365.25 * 50), "MEDS_BIRTH", None)]
        rows += [(subject, start + pd.Timedelta(hours=h), "LAB//sodium", 100.0 + subject + h) for h in (0.0, 5.5, 47.0, 48.0, 49.0)]
        rows += [(subject, start + pd.Timedelta(hours=3), "DRUG//aspirin", None)] * (subject % 3)
    events = pd.DataFrame(rows, columns=["subject_id", "time", "code", "numeric_value"]).astype({"numeric_value": "float32"})
    events["time"] = pd.to_datetime(events["time"]).astype("datetime64[us]")
    (folder / "data" / "train").mkdir(parents=True)
    (folder / "metadata").mkdir()
    events[events["subject_id"] <= 30].to_parquet(folder / "data" / "train" / "0.parquet")
    events[events["subject_id"] > 30].to_parquet(folder / "data" / "train" / "1.parquet")
    subjects = np.arange(1, N + 1)
    if splits:
        told = np.array(["train", "train", "train", "tuning", "held_out"])[subjects % 5]
        pd.DataFrame({"subject_id": subjects, "split": told}).to_parquet(folder / "metadata" / "subject_splits.parquet")
    times = pd.Timestamp("2150-01-03") + pd.to_timedelta(subjects, unit="D")
    labels = pd.DataFrame({"subject_id": subjects, "prediction_time": times, "boolean_value": subjects // 5 % 2 == 0})
    labels.to_parquet(folder / "labels.parquet")
    return labels


def test_events_in_the_layout_of_meds(tmp_path):
    meds(tmp_path / "raw")
    cohort = from_meds(tmp_path / "raw", tmp_path / "raw" / "labels.parquet", out=tmp_path / "c", task="died", credentialed=False)
    assert cohort.manifest["splits"] == {"train": 36, "valid": 12, "test": 12} and cohort.task("died").type == "binary"
    back = to_frames(cohort)
    assert back["labels"].index[0] == "1@2150-01-04T00:00:00"
    sodium = back["measurements"][back["measurements"]["id"] == back["labels"].index[0]]
    assert sodium["step"].tolist() == [2, 23]  # hours 5.5 and 48, the last of its step; 0 is 48 hours ago, and 49 after the prediction
    np.testing.assert_allclose(sodium["LAB//sodium"], [106.5, 149], rtol=1e-5)
    assert back["events"]["DRUG//aspirin"].round().tolist() == [(i + 1) % 3 for i in range(N)]
    np.testing.assert_allclose(back["static"]["age"], 50 + 2 / 365.25, atol=0.01)
    assert (back["static"]["GENDER//F"].round() == 1).all()


def test_files_of_the_library_of_meds(tmp_path):
    library = pytest.importorskip("meds")
    meds(tmp_path / "raw")
    before = from_meds(tmp_path / "raw", tmp_path / "raw" / "labels.parquet", out=tmp_path / "before", task="died")
    schemas = {"labels.parquet": library.LabelSchema, "subject_splits.parquet": library.SubjectSplitSchema}
    for file in (tmp_path / "raw").rglob("*.parquet"):
        aligned = schemas.get(file.name, library.DataSchema).align(pa.Table.from_pandas(pd.read_parquet(file), preserve_index=False))
        parquet.write_table(aligned, file)
    after = from_meds(tmp_path / "raw", tmp_path / "raw" / "labels.parquet", out=tmp_path / "after", task="died")
    assert after.manifest["parameters"] == before.manifest["parameters"]  # a digest of the content among them
    assert (tmp_path / "raw" / library.subject_splits_filepath).is_file() and library.birth_code == "MEDS_BIRTH"


def test_files_may_lack_a_column_that_others_have(tmp_path):
    meds(tmp_path / "raw")
    whole = from_meds(tmp_path / "raw", tmp_path / "raw" / "labels.parquet", out=tmp_path / "whole", task="died", credentialed=False)
    events = [pd.read_parquet(file) for file in sorted((tmp_path / "raw" / "data").rglob("*.parquet"))]
    no_number = pd.concat(events)[lambda every: every["numeric_value"].isna()].drop(columns="numeric_value")
    for file in (tmp_path / "raw" / "data").rglob("*.parquet"):
        file.unlink()
    no_number.to_parquet(tmp_path / "raw" / "data" / "0.parquet")
    alone = from_meds(tmp_path / "raw", tmp_path / "raw" / "labels.parquet", out=tmp_path / "alone", task="died", credentialed=False)
    assert "measurements" not in alone.manifest["modalities"] and "events" in alone.manifest["modalities"]
    pd.concat(events)[lambda every: every["numeric_value"].notna()].to_parquet(tmp_path / "raw" / "data" / "1.parquet")
    both = from_meds(tmp_path / "raw", tmp_path / "raw" / "labels.parquet", out=tmp_path / "both", task="died", credentialed=False)
    pd.testing.assert_frame_equal(to_frames(both)["measurements"], to_frames(whole)["measurements"])


def test_without_splits_subjects_are_divided_and_little_of_protected_data_is_used(tmp_path):
    labels = meds(tmp_path / "raw", splits=False)
    twice = pd.concat([labels, labels.assign(prediction_time=labels["prediction_time"] - pd.Timedelta(hours=20))])
    cohort = from_meds(tmp_path / "raw" / "data", twice, out=tmp_path / "c")
    kept = pd.read_parquet(cohort.path / "ids.parquet")
    assert (cohort.stays["split"].groupby(kept["subject"].to_numpy()).nunique() == 1).all() and cohort.credentialed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels.drop(columns="boolean_value"), "labels: expected values in one of boolean_value, .*got none"),
        (lambda labels: labels.assign(float_value=1.5), "got boolean_value, float_value; keep one"),
        (lambda labels: labels.drop(columns="prediction_time"), "labels: the column prediction_time is missing"),
        (lambda labels: labels.assign(subject_id=-labels["subject_id"]), "no subject of the labels has any"),
        (lambda labels: pd.concat([labels, labels[:1]]), "occurs again"),
        (lambda labels: labels.assign(prediction_time="soon"), "prediction_time: not times"),
    ],
)
def test_labels_that_do_not_fit_meds(change, message, tmp_path):
    labels = meds(tmp_path / "raw", splits=False)
    with pytest.raises(InputError, match=message):
        from_meds(tmp_path / "raw", change(labels), out=tmp_path / "c", credentialed=False)
    assert not (tmp_path / "c").exists()


class Samples:
    """What a data set of PyHealth has."""

    input_schema = {"conditions": "sequence", "labs": "timeseries", "note": "text", "vector": "tensor"}  # noqa: RUF012
    output_schema = {"mortality": "binary", "drugs": "multilabel"}  # noqa: RUF012

    def __init__(self) -> None:
        self.samples = [
            {
                "patient_id": f"p{i // 2}", "visit_id": f"v{i}", "conditions": ["c1", *(["c2"] if i % 2 else [])],
                "labs": (np.arange(1 + i % 3), RNG.normal(size=(1 + i % 3, 2))), "note": None if i % 5 == 0 else f"words {i}",
                "vector": [i, -i], "mortality": i // 2 % 2, "drugs": ["a"] if i % 3 else ["a", "b"],
            }
            for i in range(N)
        ]  # fmt: skip


def test_samples_of_pyhealth(tmp_path):
    cohort = from_samples(Samples(), out=tmp_path / "c", id="visit_id", credentialed=False)
    assert cohort.task("mortality").type == "binary" and cohort.task("drugs").labels == ("a", "b")
    back = to_frames(cohort)
    assert back["conditions"].round().astype(int).to_numpy().tolist() == [[1, i % 2] for i in range(N)]
    assert back["labs"].groupby("id").size().reindex([f"v{i}" for i in range(N)]).tolist() == [1 + i % 3 for i in range(N)]
    assert back["note"]["v5"] is None and back["note"]["v6"] == "words 6"
    assert (cohort.stays["split"].to_numpy()[::2] == cohort.stays["split"].to_numpy()[1::2]).all()  # by patient_id


def test_samples_without_schema_or_entry(tmp_path):
    samples = Samples().samples
    with pytest.raises(InputError, match="samples: they have no input_schema"):
        from_samples(samples, out=tmp_path / "c")
    with pytest.raises(InputError, match=r"unknown kind 'txt'.*did you mean 'text'"):
        from_samples(samples, inputs={"note": "txt"}, outputs={"mortality": "binary"}, out=tmp_path / "c")
    del samples[3]["note"]
    with pytest.raises(InputError, match="sample 4: no entry 'note'"):
        from_samples(samples, inputs={"note": "text"}, outputs={"mortality": "binary"}, out=tmp_path / "c")
