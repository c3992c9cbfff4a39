"""Saved models: they hold nothing of a stay, load without the cohort, and predict the same."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from cm2 import CM2, Config, RunStore, cli, load_cohort
from cm2.batch import Modality
from cm2.cohorts.disclosure import Disclosure
from cm2.environment.hub import unreached
from cm2.methods import Method, tokenised
from cm2.methods.saved import FILES, Inputs
from cm2.runs.description import by_pattern, without_paths
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort
from tests.fresh_process import predicted_elsewhere
from tests.runs.model_hub import hub

N = 240
WORDS = [f"{start}{end}" for start in ("quaver", "zephyr", "mirth", "oblong") for end in ("ist", "ously", "ward", "dom", "ling")]


def write(out, credentialed):
    """Made-up stays with identifiers, dates and words that occur nowhere else."""
    rng = np.random.default_rng(0)
    label = (np.arange(N) // 4) % 2
    series, table = rng.normal(5, 2, size=(N, 4, 2)), rng.normal(-3, 7, size=(N, 3))
    notes = [f"{' '.join(rng.choice(WORDS, 6))} seen on 2167-03-{k % 28 + 1:02d} by number {70_000_000 + 137 * k}" for k in range(N)]
    split = np.array(["train", "train", "valid", "test"])[np.arange(N) % 4]
    stays = pd.DataFrame({"stay_id": 31_000_000 + 211 * np.arange(N), "split": split, "death": label})
    statistics = {"split": "train", "features": ["a", "b"], "mean": [5.0, 5.0], "std": [2.0, 2.0]}
    scaled = {"split": "train", "features": ["x", "z"], "mean": [-3.0, -3.0], "std": [7.0, 7.0]}
    table[:, [0, 2]] = (table[:, [0, 2]] + 3) / 7
    modalities = {
        "series": PreparedModality("series", (series - 5) / 2 + label[:, None, None], np.ones(N, bool), ["a", "b"], ["1", "1"], statistics),
        "table": PreparedModality("vector", table, rng.random(N) < 0.6, ["x", "y", "z"], ["1"] * 3, scaled),
        "note": PreparedModality("text", notes, rng.random(N) < 0.8),
    }
    made = PreparedCohort("ward", "made up", "1", {"raw": "x"}, stays, modalities, {"death": "made up"}, [], {}, None, credentialed)
    return write_cohort(out, made)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("saving")


@pytest.fixture(scope="module")
def closed(place):
    return load_cohort(write(place / "closed", credentialed=True))


@pytest.fixture(scope="module")
def store(place):
    return RunStore(place / "runs")


def config(**overrides):
    fields = {"task": "death", "train.epochs": 1, "encoder.text.tokenizer": "bytes", **overrides}
    return Config.from_profile("smoke", fields)


@pytest.fixture(scope="module")
def saved(closed, store, place):
    run = store.fit(config(), closed, progress=False)
    return run, run.save_pretrained(place / "model")


def test_no_byte_of_it_is_about_a_stay(saved, closed):
    """Identifiers in any notation, dates, and every word of the texts that is not a word of the card."""
    _, out = saved
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    ids = closed.stays["stay_id"].to_numpy()
    texts = " ".join(text for text in closed.texts("note") if text)
    told = {str(number) for number in ids} | set(re.findall(r"\d{4}-\d\d-\d\d|\d{8}", texts)) | set(re.findall("[a-z]{5,}", texts))
    assert {"31000000", "2167-03-01", "quaverist"} <= told
    for path in out.iterdir():
        content = path.read_bytes()
        low = content.lower()
        assert [word for word in sorted(told) if word.encode() in low] == [], path.name
        for kind in ("<i8", ">i8", "<f8"):
            assert not any(number.tobytes() in content for number in ids.astype(kind)), (path.name, kind)


def test_a_fresh_process_without_the_cohort_predicts_the_same(saved, closed, place):
    """From values in their own units."""
    run, out = saved
    cohort = tokenised(closed, run.config)
    stays = cohort.split("test", "death")
    table = closed.array("table")[stays.rows].astype(float)
    table[:, [0, 2]] = table[:, [0, 2]] * 7 - 3
    table[~stays.present[:, 1].numpy()] = np.nan
    texts = [closed.texts("note")[row] for row in stays.rows]
    values = {"series": (closed.array("series")[stays.rows] * 2.0 + 5).tolist(), "table": table.tolist(), "note": texts}
    method = run.load_method(closed)
    torch.manual_seed(0)  # what is missing is drawn
    with torch.no_grad():
        expected = method.predict(stays.batch(range(len(stays))))
    torch.testing.assert_close(predicted_elsewhere(out, values, place, "cm2.CM2"), expected, rtol=1e-4, atol=1e-5)


def test_words_of_a_credentialed_cohort_do_not_travel(closed, store, place):
    run = store.fit(config(**{"encoder.text.tokenizer": "words", "method": "logistic"}), closed, progress=False)
    with pytest.raises(ValueError, match=r"vocabulary was learnt from the texts of ward.*--set encoder\.text\.tokenizer=bytes"):
        run.save_pretrained(place / "words")
    assert not (place / "words").exists()
    with pytest.raises(ValueError, match="under a data use agreement: a public copy would break it"):
        run.push_to_hub("me/ward", private=False)


def test_the_card_says_what_the_model_is(saved):
    run, out = saved
    text = (out / "README.md").read_text()
    for heading in ("## Data", "## Quality on the test stays", "## Intended use", "## What it must not be used for", "## Disclosure"):
        assert heading in text
    assert "credentialed-data" in text and "data use agreement" in text and "Tokens come from bytes" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and ("series" in line or "all stays" in line)]
    assert len(rows) > 3 and f"{run.metrics['test']['auroc']:.3f}" in text
    description = json.loads((out / "config.json").read_text())
    assert description["parts"] == {} and description["task"]["name"] == "death" and description["cohort"]["credentialed"]


def test_a_run_of_an_earlier_version_is_saved_with_its_cohort(saved, closed, tmp_path):
    import shutil

    from cm2 import Run

    run, out = saved
    shutil.copytree(run.path, tmp_path / "old", ignore=shutil.ignore_patterns("model.json", "tokenizer.json"))
    old = Run(tmp_path / "old")
    with pytest.raises(ValueError, match="stored by an earlier version and does not describe its model; give its cohort too"):
        old.save_pretrained(tmp_path / "none")
    again = old.save_pretrained(tmp_path / "again", closed)
    for path in out.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_groups_from_which_a_few_could_be_told_are_hidden(closed):
    stays = closed.split("test", "death")
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"label": stays.label.numpy(), "probability": rng.random(len(stays))})
    shown = by_pattern(frame, stays, Disclosure(False))
    assert sum(group["n"] for group in shown) == len(stays)
    guarded = by_pattern(frame, stays, Disclosure(True))
    hidden = [a["n"] for a, b in zip(shown, guarded, strict=True) if b["n"] is None]
    assert len(hidden) != 1 and (not hidden or sum(hidden) >= 10)
    for group in guarded:
        assert group["n"] is None or min(group["metrics"]["positives"], group["n"] - group["metrics"]["positives"]) >= 10


@pytest.mark.parametrize("method", ["boosted_trees", "linear", "late_fusion", "trees_and_logistic"])
def test_every_sort_of_method_travels(method, closed, store, place):
    """Trees too: they are stored as tensors, not pickled."""
    asked = config(method=method, modalities=("series", "table"))
    run = store.fit(asked, closed, progress=False)
    loaded = Method.from_pretrained(run.save_pretrained(place / method))
    batch = closed.with_modalities(("series", "table")).split("test", "death").batch(range(20))
    torch.testing.assert_close(loaded.predict(batch), run.load_method(closed).predict(batch))
    with pytest.raises(ValueError, match=f"holds a model of the method {method}"):
        CM2.from_pretrained(place / method)


def test_a_folder_that_is_no_model_or_a_damaged_one_is_refused(saved, place, tmp_path):
    import shutil

    run, out = saved
    with pytest.raises(ValueError, match=r"holds no saved model: it has no config\.json"):
        CM2.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds something already"):
        run.save_pretrained(out)
    shutil.copytree(out, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"model\.safetensors is missing or damaged \(wrong checksum\)"):
        CM2.from_pretrained(tmp_path / "copy")
    description = json.loads((out / "config.json").read_text())
    for changed, match in (
        ({"format": 2}, "format 2 is not supported"),
        ({"method_version": "0"}, "holds a model of cm2 version 0, this is version"),
        (
            {"parts": {"model.fusion": "lost.Fusion version 1"}},
            "model.fusion was lost.Fusion version 1, which is not here; install its package",
        ),
        ({"method": "lost", "parts": {"method": "lost.Net version 1"}}, "method was lost.Net version 1, which is not here"),
    ):
        (tmp_path / "copy" / "config.json").write_text(json.dumps(description | changed))
        with pytest.raises(ValueError, match=match):
            CM2.from_pretrained(tmp_path / "copy")


def test_inputs_are_checked(saved):
    inputs = CM2.from_pretrained(saved[1]).inputs
    for values, match in (
        ({"serie": []}, r"the model reads no 'serie'; choose one of series, table, note \(did you mean 'series'"),
        ({"table": [[1, 2, 3]], "note": ["a", "b"]}, "the same number of stays"),
        ({"table": [[1, 2]]}, r"table: expected \(1, 3\), got \(1, 2\)"),
        ({"note": [3]}, "row 0: expected a text or None, got 3"),
        ({"table": [[1, 2, np.nan]]}, "table: stay 0 has a value that is not finite"),
        ({"note": [None]}, "stay 0 has no modality"),
        ({"table": [[1, 2, 3], [1, 2]], "note": ["a", "b"]}, r"table: expected numbers of shape \(3,\) for each stay, or None"),
        ({"table": [["a", "b", "c"]]}, r"table: expected numbers of shape \(3,\) for each stay, or None"),
    ):
        with pytest.raises(ValueError, match=match):
            inputs.batch(values)


def test_none_in_a_list_is_missing():
    inputs = Inputs((Modality("scan", "image", (40, 60)), Modality("labs", "vector", (2,))), {"labs": ["a", "b"]}, {})
    scan = np.tile(np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8), (20, 20))
    labs = [[1.0, 2.0], None, [3.0, 4.0], [None, None]]
    batch = inputs.batch({"scan": [None, scan, scan.tolist(), scan], "labs": labs})
    assert batch.present.tolist() == [[False, True], [True, False], [True, True], [True, False]]
    assert batch.values["scan"][0].eq(0).all() and batch.values["labs"][1].eq(0).all()
    torch.testing.assert_close(batch.values["scan"][1:], torch.tensor(scan / 255).float().expand(3, 40, 60))
    torch.testing.assert_close(batch.values["labs"][[0, 2]], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_images_are_whole_numbers_that_a_byte_holds():
    inputs = Inputs((Modality("scan", "image", (40, 40)),), {}, {})
    for wrong in (np.full((40, 40), 0.5), np.full((40, 40), 256)):
        with pytest.raises(ValueError, match=r"scan: stay 1 has a value that is not stored: whole numbers from 0 to 255"):
            inputs.batch({"scan": [np.zeros((40, 40), np.uint8), wrong]})


def test_paths_of_a_machine_do_not_travel(tmp_path):
    tree = {"a": {"pretrained": str(tmp_path)}, "b": ["x", 3, ""], "c": "some/bert"}
    assert without_paths(tree) == {"a": {"pretrained": tmp_path.name}, "b": ["x", 3, ""], "c": "some/bert"}


@pytest.fixture
def model_hub(monkeypatch, tmp_path):
    with hub() as (store, address):
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield store


def test_a_model_goes_to_the_hub_and_comes_back(saved, closed, model_hub):
    run, out = saved
    address = run.push_to_hub("me/ward", token="hf_made_up")
    assert address.endswith("/me/ward") and (model_hub.created[0].get("private") or model_hub.created[0]["visibility"] == "private")
    assert model_hub.files["me/ward"] == {path.name: path.read_bytes() for path in out.iterdir()}
    batch = tokenised(closed, run.config).split("test", "death").batch(range(8))
    here, fetched = CM2.from_pretrained(out), CM2.from_pretrained("me/ward")
    torch.manual_seed(0)
    expected = here.predict(batch)
    torch.manual_seed(0)
    assert torch.equal(fetched.predict(batch), expected)
    with pytest.raises(ValueError, match="me/nothing is no folder, and is not found on the model hub"):
        CM2.from_pretrained("me/nothing")
    with pytest.raises(ValueError, match="is no folder, and is not found on the model hub"):
        CM2.from_pretrained("no such/name at all")
    model_hub.refuses = True
    with pytest.raises(ValueError, match="me/ward: the model hub refuses"):
        run.push_to_hub("me/ward", token="hf_made_up")


def test_a_hub_that_nobody_reaches_is_no_fault_of_ours(saved, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ValueError, match=r"me/ward: the model hub cannot be reached .*; try again, or .*hf upload"):
        saved[0].push_to_hub("me/ward", token="hf_made_up")
    with pytest.raises(ValueError, match="me/ward is no folder, and is not found on the model hub"):
        CM2.from_pretrained("me/ward")


def test_the_command_line_exports(saved, tmp_path, monkeypatch, capsys):
    run, out = saved
    monkeypatch.setattr("sys.argv", ["cm2", "export", str(run.path), "--out", str(tmp_path / "model")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0 and capsys.readouterr().out.splitlines() == [str(tmp_path / "model")]
    assert (tmp_path / "model" / "config.json").read_bytes() == (out / "config.json").read_bytes()
    monkeypatch.setattr("sys.argv", ["cm2", "export", str(tmp_path / "nothing"), "--out", str(tmp_path / "other")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and "is not a finished run" in capsys.readouterr().err


def test_what_is_wrong_here_is_not_said_of_the_hub(saved, closed, model_hub, monkeypatch):
    """Without a login, or with a file that cannot be read, the hub was not even asked."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    assert unreached(ConnectionRefusedError("refused")) and not unreached(FileNotFoundError("model.json"))
    for error in (LocalTokenNotFoundError("no token"), PermissionError("model.json")):
        assert not unreached(error)

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", fails)
        with pytest.raises(ValueError, match=r"me/ward: the model hub refuses .*; see whether you are logged in") as told:
            saved[0].push_to_hub("me/ward", token="hf_made_up")
        assert "cannot be reached" not in str(told.value)
