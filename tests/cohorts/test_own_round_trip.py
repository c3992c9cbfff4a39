"""One's own data through writer, cohort and batch, and back: equal values, documented features."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
import torch

from cm2.cohorts import Arrays, Cohort, Images, Layout, Table, Texts, TimeSeries, documents, from_frames, load_cohort, to_frames
from cm2.cohorts.own import build
from cm2.kinds import KINDS
from cm2.kinds.contract import ArrayKind
from cm2.tables.verification import verify_cohort

N = 40
IDS = [f"p{i:02d}" for i in range(N)]
RNG = np.random.default_rng(0)
LABELS = pd.Series(np.arange(N) % 2, index=IDS, name="sick")


def built(tmp_path, value, **options) -> Cohort:
    """A cohort of one modality, with another that every stay has."""
    modalities = {"mine": value, "other": pd.DataFrame({"x": RNG.normal(size=N)}, index=IDS)}
    return from_frames(modalities, LABELS, out=tmp_path / "c", **{"credentialed": False} | options)


def batch_of(cohort: Cohort, name: str = "mine") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of all batches, whether each stay has them, and its row in the cohort."""
    parts = [cohort.split(split, "sick") for split in ("train", "valid", "test")]
    batches = [part.batch(range(len(part))) for part in parts]
    place = list(cohort.manifest["modalities"]).index(name)
    present = torch.cat([batch.present[:, place] for batch in batches]).numpy()
    values = torch.cat([batch.values[name] for batch in batches]).numpy()
    return values, present, np.concatenate([part.rows for part in parts])


def ragged() -> list[np.ndarray | None]:
    return [None if i % 9 == 4 else RNG.normal(5, 2, size=(1 + i % 5, 2)) for i in range(N)]


def irregular() -> list[tuple[np.ndarray, np.ndarray] | None]:
    found = []
    for i in range(N):
        values = RNG.normal(-3, 4, size=(1 + i % 6, 2))
        values[1:, 1][RNG.random(i % 6) < 0.4] = np.nan
        found.append(None if i % 7 == 3 else (np.sort(RNG.uniform(0, 48, 1 + i % 6)), values))
    return found


@pytest.fixture
def voltage():
    """A kind from outside."""

    class Voltage(ArrayKind):
        name = "voltage"
        dtype = np.int16

        def example(self, n, rng):
            return rng.integers(-9, 9, size=(n, 4, 2), dtype=np.int16)

        def scaled(self, data):
            return data.float() / 1000

        def columns(self, value):
            return value.mean(1)

        def build_encoder(self, modality, config):
            raise AssertionError("no test trains it")

        def feature_ndim(self, config):
            return 2

    yield Voltage.name
    del KINDS[Voltage.name]


@pytest.mark.parametrize("by_id", [True, False])
def test_arrays_of_a_kind_from_outside(tmp_path, voltage, by_id):
    arrays = [None if i % 5 == 2 else RNG.integers(-3000, 3000, size=(4, 2)) for i in range(N)]
    given = {key: array for key, array in zip(IDS, arrays, strict=True) if array is not None} if by_id else arrays
    cohort = built(tmp_path, Arrays(given, kind=voltage))
    for value, here, row in zip(*batch_of(cohort), strict=True):
        assert here == (arrays[row] is not None) and (here or not value.any())
        if here:
            np.testing.assert_allclose(value, arrays[row] / 1000, rtol=1e-6)
    back = to_frames(cohort)["mine"]
    assert back.keys() == {key for key, array in zip(IDS, arrays, strict=True) if array is not None}
    assert all((back[key] == array).all() for key, array in zip(IDS, arrays, strict=True) if array is not None)
    assert verify_cohort(cohort.path).problems == []
    again = Layout.of(cohort).values({"mine": given, "other": pd.DataFrame({"x": np.zeros(N)}, index=IDS)}, ids=IDS)["mine"]
    assert np.isnan(again).all(axis=(1, 2)).tolist() == [array is None for array in arrays]


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (np.zeros((N, 4, 2)), "voltages", "mine: unknown kind of modality 'voltages'; .*did you mean 'voltage'"),
        (np.zeros((N, 4, 2)), "text", "mine: a text is not stored as an array"),
        (
            [np.zeros((4 + (i > 6), 2)) for i in range(N)],
            "voltage",
            r"mine, row 8 \(id p07\): the array has the shape \(5, 2\)",
        ),
        ([np.full((4, 2), "x") for _ in range(N)], "voltage", r"mine, row 1 \(id p00\): expected an array of numbers"),
        (np.full((N, 4, 2), 0.5), "voltage", "mine: .* has a value that is not stored: whole numbers"),
        (np.full((N, 4, 2), np.nan), "voltage", "mine: no training stay has it"),
        ([None] * N, "voltage", "mine: there is no array; leave the modality out"),
    ],
)
def test_arrays_that_are_refused(tmp_path, voltage, data, kind, message):
    with pytest.raises(ValueError, match=message):
        built(tmp_path, Arrays(data, kind=kind))
    assert not (tmp_path / "c").exists()


def test_ragged_series(tmp_path):
    series = ragged()
    cohort = built(tmp_path, series)
    back = to_frames(cohort)["mine"]
    for key, own in zip(IDS, series, strict=True):
        rows = back[back["id"] == key]
        assert len(rows) == (0 if own is None else len(own))
        if own is not None:
            np.testing.assert_allclose(rows[["f1", "f2"]].to_numpy(), own, rtol=1e-5, atol=1e-5)
            assert rows["time"].round(4).tolist() == list(range(len(own)))
    assert cohort.manifest["modalities"]["mine"]["features"] == ["f1", "f2", "time", "mask->f1", "mask->f2", "mask->time"]
    assert verify_cohort(cohort.path).problems == []


def test_ragged_series_reach_the_batch_standardised_with_the_training_stays(tmp_path):
    series = ragged()
    cohort = built(tmp_path, series)
    train = [own for own, split in zip(series, cohort.stays["split"], strict=True) if split == "train" and own is not None]
    mean, std = np.concatenate(train).mean(axis=0), np.concatenate(train).std(axis=0)
    for value, here, row in zip(*batch_of(cohort), strict=True):
        assert here == (series[row] is not None) and (here or not value.any())
        if here:
            steps = len(series[row])
            np.testing.assert_allclose(value[:steps, :2], (series[row] - mean) / std, atol=1e-5)
            assert value[:, 5].tolist() == [1.0] * steps + [0.0] * (5 - steps)  # mask->time ends with the series
            np.testing.assert_array_equal(value[steps:, :3], np.broadcast_to(value[steps - 1, :3], (5 - steps, 3)))


def test_irregular_series_keep_times_and_gaps(tmp_path):
    series = irregular()
    cohort = built(tmp_path, TimeSeries(series, columns=["pulse", "pressure"], units={"pressure": "mmHg", "time": "h"}))
    back = to_frames(cohort)["mine"]
    for key, own in zip(IDS, series, strict=True):
        rows = back[back["id"] == key]
        if own is None:
            assert rows.empty
            continue
        np.testing.assert_allclose(rows["time"].to_numpy(), own[0], atol=1e-4)
        np.testing.assert_allclose(rows[["pulse", "pressure"]].to_numpy(), own[1], atol=1e-4)  # NaN where NaN was
    assert cohort.manifest["modalities"]["mine"]["units"][:3] == [
        "standard deviations of 1", "standard deviations of mmHg", "standard deviations of h",
    ]  # fmt: skip
    assert cohort.modalities[0].masks == (3, 4, 5, -1, -1, -1)
    assert verify_cohort(cohort.path).problems == []


def test_a_long_table_is_the_same_as_pairs(tmp_path):
    series = irregular()
    rows = [
        {"id": key, "time": time, "f1": value[0], "f2": value[1]}
        for key, own in zip(IDS, series, strict=True) if own is not None for time, value in zip(*own, strict=True)
    ]  # fmt: skip
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    labels = LABELS.rename_axis("id").reset_index()
    modalities = {"mine": shuffled, "other": pd.DataFrame({"id": IDS, "x": np.arange(N)})}
    cohort = from_frames(modalities, labels, id="id", out=tmp_path / "long", credentialed=False)
    np.testing.assert_allclose(cohort.array("mine"), built(tmp_path, series).array("mine"), atol=1e-6)


def test_dates_become_hours_and_categories_channels(tmp_path):
    frame = pd.DataFrame({"id": np.repeat(IDS, 2), "time": pd.Timestamp("2020-01-01 06:00"), "rhythm": ["sinus", "flutter"] * N})
    frame.loc[1::2, "time"] += pd.Timedelta(minutes=90)
    start = pd.Series(pd.Timestamp("2020-01-01"), index=IDS)
    labels = LABELS.rename_axis("id").reset_index()
    declared = TimeSeries(frame, start=start, standardise=False)
    cohort = from_frames({"mine": declared}, labels, id="id", out=tmp_path / "c", credentialed=False)
    assert cohort.manifest["modalities"]["mine"]["features"] == ["rhythm->flutter", "rhythm->sinus", "time"]
    np.testing.assert_array_equal(cohort.array("mine")[0], [[0, 1, 6], [1, 0, 7.5]])


def test_a_grid_takes_the_last_value_of_a_step_and_counts_what_lies_outside(tmp_path):
    series = [(np.array([0.5, 0.9, 3.0, 9.0]), np.array([[1.0], [2.0], [3.0], [4.0]]))] * N
    cohort = built(tmp_path, TimeSeries(series, every=1.0, steps=4, standardise=False))
    assert cohort.manifest["modalities"]["mine"]["features"] == ["f1", "mask->f1"]
    assert cohort.array("mine")[0].tolist() == [[2, 1], [2, 0], [2, 0], [3, 1]]
    assert cohort.manifest["counts"]["mine"] == {"values outside the steps": N}


def test_of_a_series_that_is_too_long_the_last_steps_are_kept(tmp_path):
    cohort = built(tmp_path, TimeSeries([np.arange(1.0 + i % 6)[:, None] for i in range(N)], steps=3, standardise=False))
    assert cohort.array("mine")[5][:, 0].tolist() == [3, 4, 5] and cohort.array("mine")[0][:, 0].tolist() == [0, 0, 0]
    assert cohort.manifest["counts"]["mine"]["steps cut"] == sum(max(i % 6 - 2, 0) for i in range(N))


def test_a_complete_array_is_stored_as_it_is(tmp_path):
    array = RNG.normal(size=(N, 6, 3))
    cohort = built(tmp_path, TimeSeries(torch.from_numpy(array), standardise=False))
    np.testing.assert_array_equal(cohort.array("mine"), array.astype(np.float32))
    assert cohort.manifest["modalities"]["mine"]["features"] == ["f1", "f2", "f3"]


def test_a_table_of_every_type_of_column(tmp_path):
    frame = pd.DataFrame(
        {
            "sodium": RNG.normal(140, 4, N),
            "count": pd.array(RNG.integers(0, 9, N), dtype="Int64"),
            "as_text": [f"{x:.2f}" for x in RNG.normal(size=N)],
            "ward": RNG.choice(["A", "B", "C"], N),
            "stage": pd.Categorical(RNG.choice(["low", "high"], N), categories=["low", "middle", "high"]),
            "icu": pd.array(RNG.random(N) < 0.5, dtype="boolean"),
            "born": pd.Timestamp("1950-01-01") + pd.to_timedelta(RNG.integers(0, 20_000, N), unit="D"),
        },
        index=IDS,
    )
    for column in frame:
        frame.loc[RNG.choice(IDS, 3, replace=False), column] = None
    frame = frame.drop(IDS[7]).sample(frac=1, random_state=0)  # one stay lacks the table; the order is another
    cohort = built(tmp_path, Table(frame, units={"sodium": "mmol/L"}))
    back = to_frames(cohort)["mine"]
    assert back.loc[IDS[7]].isna().all() and not cohort.present[7, 0]
    back = back.reindex(frame.index)
    np.testing.assert_allclose(back["sodium"], frame["sodium"], rtol=1e-5)
    np.testing.assert_allclose(back["count"], frame["count"].astype("Float64").to_numpy(dtype=float, na_value=np.nan), atol=1e-5)
    np.testing.assert_allclose(back["as_text"], frame["as_text"].astype(float), atol=1e-5)
    for column in ("ward", "stage"):
        assert back[column].astype(object).where(back[column].notna(), None).tolist() == [
            None if pd.isna(value) else value for value in frame[column]
        ]
    assert [None if pd.isna(v) else bool(v) for v in back["icu"]] == [None if pd.isna(v) else bool(v) for v in frame["icu"]]
    assert back["born"].dt.tz_localize(None).fillna(pd.Timestamp(0)).tolist() == frame["born"].fillna(pd.Timestamp(0)).tolist()
    assert list(back["stage"].cat.categories) == ["low", "middle", "high"]
    assert "ward->B" in cohort.manifest["modalities"]["mine"]["features"]


def test_a_table_is_standardised_with_the_training_stays_alone(tmp_path):
    column = RNG.normal(100, 9, N)
    cohort = built(tmp_path, pd.DataFrame({"a": column}, index=IDS))
    train = (cohort.stays["split"] == "train").to_numpy()
    found = cohort.manifest["normalisation"]["mine"]
    np.testing.assert_allclose([found["mean"][0], found["std"][0]], [column[train].mean(), column[train].std()])
    values, _, rows = batch_of(cohort)
    np.testing.assert_allclose(values[:, 0], (column[rows] - found["mean"][0]) / found["std"][0], atol=1e-5)


@pytest.mark.parametrize("shape", [(N, 32, 40), (N, 32, 40, 3)])
def test_images_keep_every_value(shape, tmp_path):
    images = RNG.integers(0, 256, shape, dtype=np.uint8)
    given = {key: image for key, image in zip(IDS, images, strict=True) if key != IDS[5]}
    cohort = built(tmp_path, given if len(shape) == 3 else Images({k: np.moveaxis(v, 2, 0) for k, v in given.items()}))
    values, present, rows = batch_of(cohort)
    assert (~present).sum() == 1 and rows[~present][0] == 5
    np.testing.assert_array_equal(np.rint(255 * values[present]), images[rows[present]])
    for key, image in to_frames(cohort)["mine"].items():
        np.testing.assert_array_equal(image, images[IDS.index(key)])


def test_images_of_other_ranges_and_sizes(tmp_path):
    small = RNG.uniform(0, 16, (N, 8, 8))
    cohort = built(tmp_path, Images(small, high=16, size=32))
    assert cohort.array("mine").shape == (N, 32, 32)
    assert abs(cohort.array("mine").mean() - 255 * small.mean() / 16) < 3
    assert built(tmp_path / "wide", Images(RNG.random((N, 32, 33)), size=(64, 32))).array("mine").shape == (N, 64, 32)


def test_texts_of_one_and_several_documents(tmp_path):
    texts = [None if i % 8 == 2 else [f"first {i}", f"second {i}"] if i % 3 == 0 else f"only {i}" for i in range(N)]
    cohort = built(tmp_path, pd.Series(texts, index=IDS, dtype=object))
    back = to_frames(cohort)["mine"]
    assert [documents(text) for text in back] == [[] if t is None else t if isinstance(t, list) else [t] for t in texts]
    batch = cohort.split("train", "sick").batch(range(4))
    assert batch.values["mine"]["input_ids"].ndim == 3  # stays, documents, tokens
    words = cohort.tokenizer().decode(batch.values["mine"]["input_ids"][0, 0], skip_special_tokens=True)
    row = cohort.split("train", "sick").rows[0]
    assert texts[row] is None or words in (texts[row], texts[row][0])


def test_documents_of_a_table_are_ordered_by_time_and_the_last_are_kept(tmp_path):
    frame = pd.DataFrame({"id": np.repeat(IDS, 3), "day": [2, 0, 1] * N, "note": ["late", "early", "  "] * N})
    labels = LABELS.rename_axis("id").reset_index()
    cohort = from_frames({"note": Texts(frame, column="note", time="day")}, labels, id="id", out=tmp_path / "a", credentialed=False)
    assert cohort.texts("note")[0] == "early\flate" and cohort.manifest["counts"]["note"] == {"empty documents": N}
    less = from_frames({"note": Texts(frame, "note", "day", 1)}, labels, id="id", out=tmp_path / "b", credentialed=False)
    assert less.texts("note") == ["late"] * N and less.manifest["counts"]["note"]["documents cut"] == N


def test_arrow_and_whatever_has_to_pandas(tmp_path):
    import pyarrow as pa

    class Duck:
        def to_pandas(self) -> pd.DataFrame:
            return pd.DataFrame({"id": IDS, "x": np.arange(N)})

    table = pa.table({"id": IDS, "y": np.arange(N) / 2})
    labels = pa.table({"id": IDS[::-1], "sick": (np.arange(N) % 2)[::-1]})
    cohort = from_frames({"duck": Duck(), "arrow": table}, labels, id="id", out=tmp_path / "c", credentialed=False)
    back = to_frames(cohort)
    assert back["labels"].index.tolist() == IDS[::-1]
    np.testing.assert_allclose(back["duck"]["x"], np.arange(N)[::-1], atol=1e-4)
    np.testing.assert_allclose(back["arrow"]["y"], np.arange(N)[::-1] / 2, atol=1e-4)


def test_datasets_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    given = datasets.Dataset.from_dict({"id": IDS, "text": [f"word {i}" for i in range(N)], "sick": [i % 2 for i in range(N)]})
    modalities = {"note": Texts(given, column="text")}
    cohort = from_frames(modalities, given, id="id", tasks={"sick": None}, out=tmp_path / "c", credentialed=False)
    assert cohort.texts("note")[3] == "word 3"


def test_features_of_hugging_face(tmp_path):
    """Pictures, sequences and classes as the library has them."""
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    kind, wards = datasets.ClassLabel(names=["calm", "ill", "worse"]), datasets.ClassLabel(names=["east", "north", "west"])
    features = datasets.Features(
        {
            "id": datasets.Value("string"), "scan": datasets.Image(), "wave": datasets.Sequence(datasets.Value("float32")),
            "age": datasets.Value("float32"), "ward": wards, "kind": kind, "sick": datasets.ClassLabel(names=["no", "yes"]),
        }
    )  # fmt: skip
    columns = {
        "id": IDS, "scan": [image.fromarray(np.full((32, 32, 3), i, dtype=np.uint8)) for i in range(N)],
        "wave": [[float(i)] * (1 + i % 3) for i in range(N)], "age": [None if i % 5 == 0 else float(i) for i in range(N)],
        "ward": [i % 3 for i in range(N)], "kind": [i % 3 for i in range(N)], "sick": [i // 3 % 2 for i in range(N)],
    }  # fmt: skip
    given = datasets.Dataset.from_dict(columns, features=features)
    views = {"scan": given["scan"], "wave": given["wave"], "table": given.select_columns(["age", "ward"])}
    cohort = from_frames(views, given.select_columns(["kind", "sick"]), out=tmp_path / "c", credentialed=False)
    assert {name: entry["kind"] for name, entry in cohort.manifest["modalities"].items()} == {
        "scan": "image", "wave": "series", "table": "vector",
    }  # fmt: skip
    assert cohort.task("kind").classes == ("calm", "ill", "worse") and cohort.task("sick").type == "binary"
    back = to_frames(cohort)
    assert back["table"]["ward"].tolist() == [("east", "north", "west")[i % 3] for i in range(N)]
    assert (np.asarray(back["scan"][list(back["scan"])[7]]) == 7).all()
    alone = from_frames({"scan": given["scan"]}, given["kind"], out=tmp_path / "alone", credentialed=False)
    assert next(iter(alone.tasks)) == "kind" and alone.task("kind").classes == ("calm", "ill", "worse")
    with pytest.raises(ValueError, match=r"t: got data sets by split \(train, test\); join them"):
        from_frames({"t": given.train_test_split(0.5)}, given["kind"], out=tmp_path / "d", credentialed=False)


def test_the_same_data_are_not_written_twice_and_others_not_over_them(tmp_path):
    frame = pd.DataFrame({"a": np.arange(N, dtype=float)}, index=IDS)
    first = built(tmp_path, frame)
    RNG.normal(size=N)
    again = from_frames({"mine": frame}, LABELS, out=tmp_path / "d", credentialed=False)
    stamp = (again.path / "manifest.json").stat().st_mtime_ns
    assert from_frames({"mine": frame}, LABELS, out=tmp_path / "d", credentialed=False).checksum == again.checksum
    assert (again.path / "manifest.json").stat().st_mtime_ns == stamp and load_cohort(first.path).checksum == first.checksum
    with pytest.raises(ValueError, match="exists and is not the d cohort"):
        from_frames({"mine": frame + 1}, LABELS, out=tmp_path / "d", credentialed=False)
    with pytest.raises(ValueError, match="exists and is not the d cohort"):
        from_frames({"mine": frame}, LABELS, out=tmp_path / "d")  # protected now


def test_ids_are_kept_beside_the_cohort(tmp_path):
    cohort = built(tmp_path, pd.DataFrame({"a": np.arange(N)}, index=IDS))
    kept = pd.read_parquet(cohort.path / "ids.parquet")
    assert kept["id"].tolist() == IDS and kept["stay_id"].tolist() == cohort.stays["stay_id"].tolist()
    numbers = from_frames({"a": np.arange(N)}, pd.Series(np.arange(N) % 2, index=np.arange(N) + 500), out=tmp_path / "n")
    assert numbers.stays["stay_id"].tolist() == list(range(500, 500 + N))


def test_two_that_make_the_same_write_it_once(tmp_path, monkeypatch):
    made, begun, writing = [], threading.Event(), build.write_cohort
    labs = pd.DataFrame({"x": np.linspace(-1, 1, N)}, index=IDS)

    def make():
        from_frames({"labs": labs}, LABELS, out=tmp_path / "c", credentialed=False)

    def second():
        begun.wait(60)
        make()

    other = threading.Thread(target=second)

    def watched(out, cohort):
        made.append(1)
        begun.set()
        other.join(0.2)  # until the other stands before the lock
        return writing(out, cohort)

    monkeypatch.setattr(build, "write_cohort", watched)
    other.start()
    make()
    other.join(60)
    assert made == [1] and len(load_cohort(tmp_path / "c").stays) == N
