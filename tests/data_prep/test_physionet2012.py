"""PhysioNet 2012: fabricated archives with known answers, every error, and the real sets where they are."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest

from cm2.cohorts import load_cohort
from data_prep import prepare_physionet2012
from data_prep.physionet2012.features import admission_text
from data_prep.physionet2012.variables import VARIABLES

HEADER = "Time,Parameter,Value"
OUTCOME_HEADER = "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"


def record(record_id, rows=(), age=54, gender=0, height=-1, icu=4, weight=-1, end="\n"):
    static = {"RecordID": record_id, "Age": age, "Gender": gender, "Height": height, "ICUType": icu, "Weight": weight}
    return end.join([HEADER, *(f"00:00,{name},{value}" for name, value in static.items()), *rows]) + end


def everything(value):
    """One row of every variable, so that the training split has a mean of each."""
    return [f"01:00,{v.name},{1 if v.name == 'MechVent' else min(max(value, v.low), v.high)}" for v in VARIABLES]


def write_set(raw, name, records, outcomes=None, header=OUTCOME_HEADER, folder=False):
    raw.mkdir(exist_ok=True)
    if folder:
        (raw / f"set-{name}").mkdir()
        for key, text in records.items():
            (raw / f"set-{name}" / f"{key}.txt").write_bytes(text.encode())
    else:
        with tarfile.open(raw / f"set-{name}.tar.gz", "w:gz") as tar:
            for key, text in records.items():
                info = tarfile.TarInfo(f"set-{name}/{key}.txt")
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
    outcomes = dict.fromkeys(records, (9, 0)) if outcomes is None else outcomes
    rows = [f"{key},6,1,{length},-1,{death}" for key, (length, death) in outcomes.items()]
    (raw / f"Outcomes-{name}.txt").write_text("\n".join([header, *rows]) + "\n")


def training_set():
    return {key: record(key, everything(value)) for key, value in zip(range(1, 41), np.linspace(30, 90, 40), strict=True)}


QUIRKS = [
    "00:00,HR,70",  # 00:00 belongs to the first step
    "02:00,HR,80",  # (0, 2] hours: still the first step, and its last value
    "02:01,HR,90",
    "02:30,,1.9",  # no parameter name
    "03:00,DiasABP,-1",  # unknown
    "03:00,pH,735",  # implausible
    "03:00,Weight,81",
    "05:00,Urine,40",
    "06:00,Urine,60",
    "48:00,HR,100",
]


@pytest.fixture
def raw(tmp_path):
    write_set(tmp_path / "raw", "a", training_set(), {key: (key % 10, key % 2) for key in range(1, 41)})
    tests = {
        101: record(101, QUIRKS, age=90, gender=1, height=175.3, icu=2, weight=76, end="\r\n"),
        102: record(102, age=31, gender=-1, icu=3),
        103: record(103, ["10:00,Na,140"], height=15),
    }
    write_set(tmp_path / "raw", "c", tests, {101: (8, 1), 102: (7, 0), 103: (-1, 0)})
    return tmp_path / "raw"


def prepare(raw, **options):
    return prepare_physionet2012(raw, raw.parent / "cohort", **({"train_sets": ("a",), "test_sets": ("c",)} | options))


def test_known_answers(raw):
    cohort = load_cohort(prepare(raw))
    names = cohort.manifest["modalities"]["bedside"]["features"]
    row = int(np.flatnonzero(cohort.stays["stay_id"] == 101)[0])
    bedside = cohort.array("bedside")[row]
    law = cohort.manifest["normalisation"]["bedside"]
    value = lambda name: bedside[:, names.index(name)] * law["std"][names.index(name)] + law["mean"][names.index(name)]
    mask = lambda name: np.flatnonzero(bedside[:, names.index(f"mask->{name}")]).tolist()
    np.testing.assert_allclose(value("HR"), [80] + [90] * 22 + [100], rtol=1e-5)
    assert mask("HR") == [0, 1, 23] and mask("DiasABP") == [] and mask("Weight") == [0, 1]
    of = next(m for m in cohort.modalities if m.name == "bedside").masks  # where each feature was measured, as a method learns it
    assert of[names.index("HR")] == names.index("mask->HR") and of[names.index("mask->HR")] == -1 and len(of) == len(names)
    np.testing.assert_allclose(np.expm1(value("Urine")[2:]), 100, rtol=1e-4)  # the sum of the step
    assert mask("Urine") == [2]
    np.testing.assert_array_equal(bedside[:, names.index("DiasABP")], 0)  # never charted: the training mean
    np.testing.assert_array_equal(bedside[:, names.index("MechVent")], 0)
    assert cohort.array("laboratory").shape == (43, 24, 46)


def test_who_has_what(raw):
    cohort = load_cohort(prepare(raw))
    present = dict(zip(cohort.stays["stay_id"], cohort.present.tolist(), strict=True))
    assert [present[key] for key in (101, 102, 103)] == [[True, False, True], [False, False, True], [False, True, True]]
    stays = cohort.stays.set_index("stay_id")
    assert stays.loc[[101, 102, 103], "long_stay"].tolist() == [1, 0, -1]
    assert stays.loc[[101, 102, 103], "in_hospital_mortality"].tolist() == [1, 0, 0]
    assert set(stays.loc[range(1, 41), "split"]) == {"train", "valid"} and set(stays.loc[[101, 102, 103], "split"]) == {"test"}
    assert len(cohort.split("test", "long_stay")) == 2
    assert cohort.texts("admission")[-3:] == [
        "Patient male, aged 90 or older, admitted to the cardiac surgery recovery unit. Height 175 cm, weight 76 kg.",
        "Patient of unknown sex, aged 31, admitted to the medical intensive care unit. Height unknown, weight unknown.",
        "Patient female, aged 54, admitted to the surgical intensive care unit. Height unknown, weight unknown.",
    ]


def test_descriptors_are_numbers_if_asked_for(raw, tmp_path):
    own = {key: {"age": 20 + key, "height": 150 + key, "weight": 50 + key, "gender": key % 2, "icu": 1 + key % 4} for key in range(1, 41)}
    write_set(tmp_path / "raw", "a", {key: record(key, everything(60 + key), **own[key]) for key in own}, {k: (9, k % 2) for k in own})
    cohort = load_cohort(prepare(raw, descriptors=True))
    entry, law = cohort.manifest["modalities"]["descriptors"], cohort.manifest["normalisation"]["descriptors"]
    assert list(cohort.manifest["modalities"]) == ["bedside", "laboratory", "admission", "descriptors"] and entry["kind"] == "vector"
    assert len(entry["features"]) == len(entry["units"]) == cohort.array("descriptors").shape[1] == 13
    table = pd.DataFrame(np.asarray(cohort.array("descriptors")), columns=entry["features"], index=cohort.stays["stay_id"])
    train = (cohort.stays["split"] == "train").to_numpy()
    values = table[law["features"]] * law["std"] + law["mean"]
    np.testing.assert_allclose(table.loc[train, law["features"]].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(table.loc[train, ["Age", "Height", "Weight"]].std(ddof=0), 1, rtol=1e-5)
    np.testing.assert_allclose(values.loc[101], [90, 175.3, 76, 1, 0, 1, 0, 0], atol=1e-4)
    assert (table.loc[101, [name for name in table if name.startswith("mask->")]] == 1).all()
    unknown = ["Height", "Weight", "Gender"]
    assert (table.loc[102, unknown] == 0).all() and (table.loc[102, [f"mask->{name}" for name in unknown]] == 0).all()
    assert cohort.texts("admission") == load_cohort(prepare_physionet2012(raw, tmp_path / "usual", ("a",), ("c",))).texts("admission")


def test_a_cohort_without_them_is_what_it_was(raw):
    without = load_cohort(prepare(raw))
    assert "descriptors" not in without.manifest["parameters"] and list(without.manifest["modalities"])[-1] == "admission"
    with pytest.raises(ValueError, match="is not the physionet2012 cohort with these parameters"):
        prepare(raw, descriptors=True)


def test_descriptors_that_no_training_stay_has(raw):
    with pytest.raises(ValueError, match="descriptors: no training stay has Height; train on more records, or leave them out"):
        prepare(raw, descriptors=True)


def test_everything_is_counted(raw):
    manifest = load_cohort(prepare(raw)).manifest
    counts = manifest["counts"]["sets"]["c"]
    expected = {
        "records": 3,
        "rows": 3 * 6 + len(QUIRKS) + 1,
        "descriptor_rows": 18,
        "rows_with_empty_parameter_name": 1,
        "rows_after_48_hours": 0,
        "unknown_by_parameter": {"DiasABP": 1, "Gender": 1, "Height": 1, "Weight": 2},
        "implausible_by_parameter": {"pH": 1},
        "implausible_descriptors": {"Height": 1},
        "records_without_series": 1,
        "records_without_series_ids": [102],
        "in_hospital_deaths": 1,
        "unknown_length_of_stay": 1,
        "values_by_parameter": {"HR": 4, "Na": 1, "Urine": 2, "Weight": 2},
        "icu_types": {"2": 1, "3": 1, "4": 1},
    }
    assert {key: counts[key] for key in expected} == expected
    assert manifest["flow"][0] == {"step": "records in the archives", "stays": 43, "dropped": 0, "note": "set a: 40, set c: 3"}
    assert manifest["flow"][-1]["dropped"] == manifest["tasks"]["long_stay"]["unknown"] == 1
    assert manifest["tasks"]["in_hospital_mortality"]["positives"] == 21


def test_standardised_with_the_training_split(raw):
    cohort = load_cohort(prepare(raw))
    train = (cohort.stays["split"] == "train").to_numpy()
    law = cohort.manifest["normalisation"]["laboratory"]
    at = law["features"].index("Cholesterol")
    charted = cohort.array("laboratory")[train][:, :, at][cohort.array("laboratory")[train][:, :, at + 23] == 1]
    assert charted.mean() == pytest.approx(0, abs=1e-5) and charted.std() == pytest.approx(1, abs=1e-4)
    values = np.linspace(30, 90, 40)[cohort.stays["stay_id"][train] - 1]
    assert law["mean"][at] == pytest.approx(values.mean(), rel=1e-6)


def test_labels_do_not_reach_the_features(raw, tmp_path):
    first = load_cohort(prepare(raw))
    write_set(tmp_path / "flipped", "a", training_set(), {key: (9, 1 - key % 2) for key in range(1, 41)})
    (tmp_path / "flipped" / "set-c.tar.gz").write_bytes((raw / "set-c.tar.gz").read_bytes())
    (tmp_path / "flipped" / "Outcomes-c.txt").write_text("\n".join([OUTCOME_HEADER, "101,1,1,1,1,0", "102,1,1,1,1,1", "103,1,1,1,1,1"]))
    second = load_cohort(prepare_physionet2012(tmp_path / "flipped", tmp_path / "other", ("a",), ("c",)))
    for file in ("bedside.npy", "laboratory.npy", "admission.parquet"):
        assert first.manifest["checksums"][file] == second.manifest["checksums"][file]
    assert (first.stays["split"] == second.stays["split"]).all()


def test_archive_and_folder_agree(raw, tmp_path):
    prepare(raw)
    with tarfile.open(raw / "set-c.tar.gz") as tar:
        tar.extractall(raw, filter="data")
    (raw / "set-c.tar.gz").unlink()
    before = (tmp_path / "cohort" / "manifest.json").stat().st_mtime_ns
    assert prepare(raw) == tmp_path / "cohort"
    assert (tmp_path / "cohort" / "manifest.json").stat().st_mtime_ns == before


def test_validation_depends_on_the_record_alone(raw, tmp_path):
    both = load_cohort(prepare(raw, train_sets=("c", "a"), test_sets=("b",)) if write_set(raw, "b", {200: record(200)}) else prepare(raw))
    alone = load_cohort(prepare_physionet2012(raw, tmp_path / "alone", ("a",), ("b",)))
    split = lambda cohort: cohort.stays.set_index("stay_id")["split"].loc[range(1, 41)].tolist()
    assert split(both) == split(alone)


def test_other_parameters_in_the_same_folder(raw):
    prepare(raw)
    with pytest.raises(ValueError, match="exists and is not the physionet2012 cohort with these parameters"):
        prepare(raw, valid_fraction=0.3)


def test_admission_text_states_what_is_unknown():
    nothing = dict.fromkeys(("Age", "Gender", "Height", "Weight", "ICUType"), float("nan"))
    assert admission_text(nothing) == "Patient of unknown sex, of unknown age, admitted to an unknown unit. Height unknown, weight unknown."


def truncate(raw):
    file = raw / "set-c.tar.gz"
    file.write_bytes(file.read_bytes()[:-40])


def rewrite(text, key=101):
    return lambda raw: write_set(raw, "c", {key: text}, {key: (3, 0)})


BROKEN = {
    "no archive": (lambda raw: (raw / "set-c.tar.gz").unlink(), "neither .*set-c.tar.gz nor the folder .*download=True"),
    "no outcomes": (lambda raw: (raw / "Outcomes-c.txt").unlink(), "Outcomes-c.txt is missing.*download=True"),
    "truncated": (truncate, "set-c.tar.gz is truncated or not a tar.gz archive.*fetch it again"),
    "no archive at all": (lambda raw: (raw / "set-c.tar.gz").write_text("<html>"), "truncated or not a tar.gz archive"),
    "empty": (lambda raw: write_set(raw, "c", {}), "set c: no record in"),
    "strange member": (lambda raw: write_set(raw, "c", {"readme": "x"}), "set c: readme.txt is not a record"),
    "header": (rewrite("Time;Parameter;Value\n"), "set c, record 101: expected the header 'Time,Parameter,Value', got 'Time;Par"),
    "row": (rewrite(record(101, ["01:00,HR,high"])), "set c, record 101: cannot read the row '01:00,HR,high'"),
    "columns": (rewrite(record(101, ["01:00,HR,1,2"])), "set c, record 101: cannot read the row '01:00,HR,1,2'"),
    "time": (rewrite(record(101, ["1 pm,HR,70"])), "set c, record 101: '1 pm' is not a time HH:MM"),
    "parameter": (rewrite(record(101, ["01:00,Blood,70"])), "set c, record 101: unknown parameter 'Blood'"),
    "id": (rewrite(record(102)), "file 101.txt holds record 102"),
    "in two sets": (rewrite(record(7), 7), "record 7 is in two of the sets"),
    "no outcome": (lambda raw: write_set(raw, "c", {1: record(1), 2: record(2)}, {1: (1, 0)}), "record 2 of set c has no outcome"),
    "no record": (lambda raw: write_set(raw, "c", {1: record(1)}, {1: (1, 0), 5: (1, 0)}), "has an outcome for record 5, which is not"),
    "outcome header": (lambda raw: write_set(raw, "c", {1: record(1)}, header="RecordID,Death"), "expected the header 'RecordID,SAPS-I"),
    "outcome value": (lambda raw: write_set(raw, "c", {1: record(1)}, {1: (1, 2)}), "In-hospital_death is 2, not 0 or 1"),
    "outcome text": (lambda raw: write_set(raw, "c", {1: record(1)}, {1: ("long", 0)}), "not whole numbers"),
    "never charted": (lambda raw: write_set(raw, "a", {k: record(k) for k in range(1, 9)}), "HR: never charted in the training split"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files(raw, case):
    damage, message = BROKEN[case]
    damage(raw)
    with pytest.raises(ValueError, match=message):
        prepare(raw)
    assert [path.name for path in raw.parent.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sets": ("d",)}, "unknown set 'd'; choose one of a, b, c"),
        ({"train_sets": ("c",)}, "set 'c' is named twice"),
        ({"test_sets": ()}, "test_sets is empty"),
        ({"valid_fraction": 1.5}, "valid_fraction: got 1.5"),
    ],
)
def test_wrong_arguments(raw, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(raw, **options)
    with pytest.raises(TypeError, match="split_seed"):
        prepare(raw, split_seed=3)


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        prepare_physionet2012(tmp_path / "nowhere", tmp_path / "out")


@pytest.fixture
def server(raw):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    files = sorted(path.name for path in raw.iterdir())
    sums = "".join(f"{hashlib.sha256((raw / name).read_bytes()).hexdigest()}  {name}\n" for name in files)
    (raw / "SHA256SUMS.txt").write_text(sums)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(raw))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
        thread.join()


def test_download(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.001)
    fresh = tmp_path / "fresh"
    cohort = load_cohort(prepare_physionet2012(fresh, tmp_path / "out", ("a",), ("c",), download=True, base_url=server))
    assert len(cohort.stays) == 43
    assert "preparing physionet2012: " in capsys.readouterr().err
    expected = ["Outcomes-a.txt", "Outcomes-c.txt", "SHA256SUMS.txt", "set-a.tar.gz", "set-c.tar.gz"]
    assert sorted(path.name for path in fresh.iterdir()) == expected
    assert prepare_physionet2012(fresh, tmp_path / "out", ("a",), ("c",), download=True, base_url="http://127.0.0.1:9/") == tmp_path / "out"


def test_download_with_a_wrong_checksum(server, raw, tmp_path):
    with (raw / "set-c.tar.gz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"set-c.tar.gz: checksum \w+, expected \w+; nothing was saved"):
        prepare_physionet2012(tmp_path / "fresh", tmp_path / "out", ("a",), ("c",), download=True, base_url=server)
    left = {path.name for path in (tmp_path / "fresh").iterdir()}
    assert left == {"SHA256SUMS.txt", "set-a.tar.gz", "Outcomes-a.txt"} and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"set-c.tar.gz: checksum .* beside it lists"):
        prepare(raw)


def test_download_of_what_is_not_there(server, tmp_path):
    with pytest.raises(ValueError, match=r"SHA256SUMS.txt does not list set-b.tar.gz"):
        prepare_physionet2012(tmp_path / "fresh", tmp_path / "out", ("a",), ("b",), download=True, base_url=server)


def test_download_without_a_network(tmp_path):
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9/SHA256SUMS.txt cannot be downloaded .*by hand"):
        prepare_physionet2012(tmp_path / "fresh", tmp_path / "out", download=True, base_url="http://127.0.0.1:9/")
    assert list((tmp_path / "fresh").iterdir()) == []


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    source = shared_data / "physionet2012"
    if not (source / "set-a.tar.gz").is_file():
        pytest.skip(f"the challenge's sets are not in {source}")
    return prepare_physionet2012(source, tmp_path_factory.mktemp("real") / "cohort")


@pytest.mark.real
def test_the_real_sets_give_the_published_counts(real):
    manifest = json.loads((real / "manifest.json").read_text())
    a, b = manifest["counts"]["sets"]["a"], manifest["counts"]["sets"]["b"]
    assert (a["records"], a["outcomes"], a["in_hospital_deaths"], a["rows"], a["parameters"]) == (4000, 4000, 554, 1_757_980, 42)
    assert (b["records"], b["outcomes"], b["in_hospital_deaths"], b["rows"]) == (4000, 4000, 568, 1_762_535)
    assert a["records_without_series_ids"] == [140501, 140936, 141264]
    assert b["records_without_series_ids"] == [142731, 142998, 143656, 145611, 147514, 150309, 150649]
    assert a["icu_types"] == {"1": 577, "2": 874, "3": 1481, "4": 1068} and a["age_range"] == [15, 90]
    assert a["negative_by_parameter"]["Temp"] == 24 and a["unknown_by_parameter"] == {"Gender": 3, "Height": 1894, "Weight": 326}
    assert manifest["splits"]["test"] == 4000 and 0.14 < manifest["splits"]["valid"] / 4000 < 0.16


@pytest.mark.real
def test_the_real_stay_as_it_stands_in_its_file(real):
    cohort = load_cohort(real)
    row = int(np.flatnonzero(cohort.stays["stay_id"] == 132539)[0])
    entry, law = cohort.manifest["modalities"]["bedside"], cohort.manifest["normalisation"]["bedside"]
    at = entry["features"].index("HR")
    heart_rate = cohort.array("bedside")[row][:, at] * law["std"][at] + law["mean"][at]
    np.testing.assert_allclose(heart_rate[:3], [60, 80, 73], rtol=1e-5)
    assert cohort.texts("admission")[row].startswith("Patient female, aged 54, admitted to the surgical intensive care unit.")
    without = cohort.stays["stay_id"].isin([140501, 142731]).to_numpy()
    assert cohort.present[without].tolist() == [[False, False, True]] * 2
    assert pd.Series(cohort.texts("admission")).notna().all()
