"""Prepared cohorts: loading, batches, modalities taken away, texts."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from cm2.book.checks import check
from cm2.cohorts import load_cohort
from cm2.cohorts.missingness import stable_uniform, take_away
from cm2.cohorts.text import tokenise
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

N = 300
WORDS = ["lungs", "clear", "heart", "enlarged", "effusion", "small", "severe", "mild", "none", "seen"]


def prepared() -> PreparedCohort:
    rng = np.random.default_rng(0)
    split = np.array(["train", "train", "valid", "test", "train"])[np.arange(N) % 5]
    stays = pd.DataFrame({"stay_id": 1000 + np.arange(N), "split": split, "death": rng.integers(0, 2, N), "long": rng.integers(-1, 2, N)})
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in range(N)]
    texts[3] = "unseen"  # a test stay's word must not enter the vocabulary
    here = rng.random(N) < 0.5
    here[3] = True
    modalities = {
        "series": PreparedModality("series", rng.normal(size=(N, 6, 2)), np.ones(N, bool), ["a", "b"], ["1", "mmHg"]),
        "image": PreparedModality("image", rng.integers(0, 256, (N, 8, 8)), rng.random(N) < 0.5),
        "note": PreparedModality("text", texts, here),
    }
    return PreparedCohort("tiny", "made up", "1", {"n": N}, stays, modalities, {"death": "coin", "long": "coin"}, [], {})


@pytest.fixture
def folder(tmp_path):
    return write_cohort(tmp_path / "cohort", prepared())


@pytest.fixture
def cohort(folder):
    return load_cohort(folder)


def edit_manifest(folder, **entries):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | entries))


def test_batch_is_what_was_written(cohort):
    truth = prepared()
    stays = cohort.split("train", "death")
    batch = stays.batch([4, 0, 7])
    rows = np.flatnonzero(truth.stays["split"] == "train")[[4, 0, 7]]
    assert batch.stay_id.tolist() == truth.stays["stay_id"].iloc[rows].tolist()
    assert batch.label.tolist() == truth.stays["death"].iloc[rows].tolist()
    assert batch.modalities == ("series", "image", "note")
    np.testing.assert_array_equal(batch.values["series"], truth.modalities["series"].data[rows].astype("float32"))
    for i, row in enumerate(rows):
        assert batch.present[i].tolist() == [bool(m.present[row]) for m in truth.modalities.values()]
        image = truth.modalities["image"].data[row] / 255 if batch.present[i, 1] else np.zeros((8, 8))
        np.testing.assert_allclose(batch.values["image"][i], image, atol=1e-7)
        ids = batch.values["note"]["input_ids"][i][batch.values["note"]["attention_mask"][i].bool()]
        words = cohort._tokenizer.decode(ids, skip_special_tokens=True)
        assert words == (truth.modalities["note"].data[row] if batch.present[i, 2] else "")


def test_shapes_and_names(cohort):
    series, image, note = cohort.modalities
    assert (series.kind, series.shape, image.kind, image.shape, note.kind) == ("series", (6, 2), "image", (8, 8), "text")
    assert note.shape == (cohort.tokens("note")["input_ids"].shape[1],)
    assert note.vocabulary > int(cohort.tokens("note")["input_ids"].max())
    assert cohort.tasks == ("death", "long")
    assert "300 stays" in repr(cohort)


def test_unknown_outcomes_are_left_out(cohort):
    known = (cohort.stays["split"] == "train") & (cohort.stays["long"] >= 0)
    assert len(cohort.split("train", "long")) == known.sum() < (cohort.stays["split"] == "train").sum()


def test_a_cohort_seen_through_some_of_its_modalities(cohort):
    pair = cohort.with_modalities(("note", "series"))
    assert [m.name for m in pair.modalities] == ["note", "series"]
    assert pair.split("test", "death").batch([0]).modalities == ("note", "series")
    alone = cohort.with_modalities(["note"]).split("train", "death")
    assert 0 < len(alone) < len(cohort.split("train", "death"))
    assert alone.present.all()
    assert cohort.with_modalities() is cohort
    with pytest.raises(ValueError, match="unknown modality 'ecg'"):
        cohort.with_modalities(["ecg"])
    with pytest.raises(ValueError, match="twice"):
        cohort.with_modalities(["note", "note"])


def test_matched_stays_have_every_modality(cohort):
    matched = cohort.split("train", "death", matched=True)
    assert matched.present.all()
    truth = prepared()
    both = np.logical_and.reduce([m.present for m in truth.modalities.values()]) & (truth.stays["split"] == "train")
    assert len(matched) == both.sum() < len(cohort.split("train", "death"))
    # taking modalities away comes after the choice of stays
    less = cohort.split("train", "death", absent={"image": 0.5}, matched=True)
    assert len(less) == len(matched) and not less.present.all()


@pytest.mark.parametrize("seed", [0, 3])
def test_labels_are_kept_of_a_share_of_each_outcome_and_nested(seed, cohort):
    stays, known = cohort.split("train", "death"), {}
    for share in (0.1, 0.4, 1.0):
        few = stays.with_labels(share, seed)
        here = ~few.label.isnan()
        assert torch.equal(few.label[here], stays.label[here]) and torch.equal(few.present, stays.present)
        assert [int((few.label == y).sum()) for y in (0, 1)] == [round(share * int((stays.label == y).sum())) for y in (0, 1)]
        assert few.batch([0, 1]).label.isnan().tolist() == few.label[:2].isnan().tolist()
        own = few.labelled()
        assert torch.equal(own.label, few.label[here]) and torch.equal(own.batch(range(len(own))).stay_id, few.stay_id[here])
        known[share] = set(few.stay_id[here].tolist())
    assert known[0.1] < known[0.4] < known[1.0] == set(stays.stay_id.tolist())
    other = stays.with_labels(0.4, seed + 1)
    assert known[0.4] != set(other.stay_id[~other.label.isnan()].tolist())


def test_data_loader_gathers_whole_batches(cohort):
    stays = cohort.split("valid", "death")
    batches = list(DataLoader(stays, batch_size=16, collate_fn=stays.collate))
    assert [len(batch) for batch in batches] == [16, 16, 16, 12]
    joined = stays.collate([stays[i] for i in range(16)])
    assert joined.stay_id.tolist() == batches[0].stay_id.tolist()
    for part in ("input_ids", "attention_mask"):
        torch.testing.assert_close(joined.values["note"][part], batches[0].values["note"][part])


def test_cohort_travels_between_processes(cohort):
    stays = cohort.split("test", "death")
    assert cohort.array("series") is not None
    copy = pickle.loads(pickle.dumps(stays))
    torch.testing.assert_close(copy.batch([1, 2]).values["series"], stays.batch([1, 2]).values["series"])


def test_vocabulary_comes_from_the_training_texts(cohort):
    vocabulary = cohort.tokenizer().get_vocab()
    assert "effusion" in vocabulary and "unseen" not in vocabulary


def test_vocabulary_is_the_same_every_time(cohort):
    # the library's trainer alone numbers pieces differently on every call
    assert len({str(sorted(cohort.tokenizer().get_vocab().items())) for _ in range(5)}) == 1


def test_documents_of_a_text_are_tokenised_one_by_one(cohort):
    tokenizer = cohort.tokenizer()
    texts = ["no effusion\fsmall effusion seen", None, "no effusion"]
    tokens, _ = tokenise(texts, tokenizer, 16)
    assert tokens["input_ids"].shape[:2] == (3, 2)
    there = tokens["attention_mask"].any(-1)
    assert there.tolist() == [[True, True], [False, False], [True, False]]
    alone, _ = tokenise(["small effusion seen"], tokenizer, 16)
    length = int(alone["attention_mask"].sum())
    assert tokens["input_ids"][0, 1, :length].tolist() == alone["input_ids"][0, :length].tolist()
    assert (tokens["input_ids"][:, :, 0][there] == tokenizer.cls_token_id).all()


def test_texts_are_cut_and_counted(cohort):
    short = cohort.with_text(max_length=8)
    assert short.tokens("note")["input_ids"].shape == (N, 8)
    assert short.texts_cut("note") > 0 == cohort.texts_cut("note")
    cut = short.tokens("note")["input_ids"][short.tokens("note")["attention_mask"].sum(1) == 8][0]
    assert cut[-1] == short._tokenizer.sep_token_id
    assert cohort.with_text() is cohort
    with pytest.raises(ValueError, match="vocabulary_size: got 3"):
        cohort.tokenizer(vocabulary_size=3)


@pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
def test_rates_are_met_and_no_stay_is_empty(mechanism):
    rng = np.random.default_rng(0)
    present = np.ones((20_000, 3), dtype=bool)
    present[rng.random(20_000) < 0.3, 1] = False
    summary = {name: rng.normal(size=20_000) for name in "abc"}
    left, kept = take_away(present, np.arange(20_000), list("abc"), {"b": 0.6, "c": 0.75}, mechanism, 0, summary.__getitem__)
    assert kept == 0 and left[:, 0].all() and not (left & ~present).any()
    for found, rate in ((left[present[:, 1], 1], 0.4), (left[:, 2], 0.25)):
        check("the share that is left", found.mean(), near=rate, standard_error=np.sqrt(rate * (1 - rate) / found.size))
    gap = {name: value[~left[:, 2]].mean() - value[left[:, 2]].mean() for name, value in summary.items()}
    drivers = {"mcar": "", "mar": "a", "mnar": "c"}[mechanism]
    assert all((gap[name] > 0.5) == (name in drivers) for name in "abc" if drivers or name)


def test_all_taken_away_keeps_one():
    present = np.ones((500, 2), dtype=bool)
    left, kept = take_away(present, np.arange(500), ["a", "b"], {"a": 1.0, "b": 1.0}, "mcar", 0, lambda _: np.zeros(500))
    assert kept == 500 and (left.sum(axis=1) == 1).all() and 150 < left[:, 0].sum() < 350


def test_absence_is_stable_and_nested(cohort):
    half, again, more = (cohort.split("test", "death", absent={"series": rate}).present[:, 0] for rate in (0.5, 0.5, 0.8))
    assert torch.equal(half, again)
    alone = ~cohort.split("test", "death").present[:, 1:].any(dim=1)
    assert not (more & ~half & ~alone).any()
    assert not torch.equal(half, cohort.split("test", "death", absent={"series": 0.5}, seed=1).present[:, 0])


def test_stable_uniform_is_uniform_and_fixed():
    u = stable_uniform(0, np.arange(100_000), "image")
    check("a twentieth in each bin", np.histogram(u, 20, (0, 1))[0], near=5000, standard_error=np.sqrt(5000 * 0.95))
    check("two names", np.corrcoef(u, stable_uniform(0, np.arange(100_000), "note"))[0, 1], near=0, standard_error=100_000**-0.5)
    assert stable_uniform(3, np.array([132539]), "laboratory")[0] == stable_uniform(3, np.array([1, 132539]), "laboratory")[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.split("train", "death").with_labels(0), "labels: expected a share above 0 and at most 1, got 0"),
        (lambda c: c.split("train", "death").with_labels(0.001), r"labels: 0.001 of \d+ stays with outcome 0 is none; give a larger share"),
        (lambda c: c.split("dev", "death"), "unknown split 'dev'.*train, valid, test"),
        (lambda c: c.split("test", "mortality"), "unknown task 'mortality'.*death, long"),
        (lambda c: c.split("test", "death", absent={"ecg": 0.5}), "unknown modality 'ecg'.*series, image, note"),
        (lambda c: c.split("test", "death", absent={"image": 75}), "rate of image is 75.*between 0 and 1"),
        (lambda c: c.split("test", "death", absent={"image": 0.5}, mechanism="random"), "mechanism: unknown value 'random'"),
        (lambda c: c.split("test", "death", absent=dict.fromkeys(["series", "image", "note"], 0.5), mechanism="mar"), "mar needs"),
        (lambda c: c.array("ecg"), "unknown modality 'ecg'"),
    ],
)
def test_wrong_requests(cohort, call, message):
    with pytest.raises(ValueError, match=message):
        call(cohort)


def test_folder_without_manifest(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is not a prepared cohort.*manifest.json.*cm2 prepare"):
        load_cohort(tmp_path / "nowhere")


def test_other_format(folder):
    edit_manifest(folder, format=99)
    with pytest.raises(ValueError, match="format 99 is not supported"):
        load_cohort(folder)


def test_broken_manifest(folder):
    (folder / "manifest.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match="not valid JSON"):
        load_cohort(folder)
    (folder / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="entry 'name' is missing"):
        load_cohort(folder)


def test_missing_file(folder):
    (folder / "image.npy").unlink()
    with pytest.raises(ValueError, match=r"image.npy is missing.*prepare the cohort again"):
        load_cohort(folder)


def test_wrong_size(folder):
    with (folder / "image.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"image.npy has \d+ bytes, the manifest says \d+"):
        load_cohort(folder, verify=False)


def test_wrong_checksum(folder):
    content = bytearray((folder / "image.npy").read_bytes())
    content[-1] ^= 1
    (folder / "image.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"image.npy: wrong checksum"):
        load_cohort(folder)
    assert load_cohort(folder, verify=False).name == "tiny"


def test_manifest_of_another_cohort(folder):
    edit_manifest(folder, checksum="0" * 64)
    with pytest.raises(ValueError, match=r"its checksum is 0000.*prepare the cohort again"):
        load_cohort(folder)


def test_shape_of_the_manifest(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["modalities"]["image"]["shape"] = [4, 4]
    edit_manifest(folder, **manifest)
    with pytest.raises(ValueError, match=r"expected shape \(300, 4, 4\), got \(300, 8, 8\)"):
        load_cohort(folder)
