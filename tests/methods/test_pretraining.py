"""What the encoders learn before the task, without an outcome."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cm2 import Config, RunStore
from cm2.joint.profile import profiled_dependence
from cm2.methods import build_method, tokenised
from cm2.methods.cm2 import CM2
from cm2.methods.pretraining import MaskedObjective
from cm2.runs import trainer
from cm2.runs.batches import Batches, loader
from cm2.runs.loops import PretrainingLoop
from tests.methods.test_cm2 import STAYS, Synchronisations, build, config, make_batch, modalities

PRETRAIN = ("likelihood", "masked")
VECTOR = {"link": "vector", "directions": 2, "normalisation": "batch"}


def test_none_is_the_default():
    assert build(3).pretraining() is None


def test_the_likelihood_is_the_profiled_dependence():
    method, batch = build(3, **VECTOR, pretrain="likelihood", profile_shrinkage=0.1).eval(), make_batch(modalities(3))
    terms = method.pretraining().objective(batch)
    torch.testing.assert_close(terms["copula"], profiled_dependence(*method.embed(batch), 2, 0.1))
    torch.testing.assert_close(terms["loss"], -terms["copula"])


def test_hidden_numbers_are_not_read_and_only_they_are_predicted():
    batch, read = make_batch(modalities(5)), []

    def embed(given):
        read.append(given.values)
        return torch.zeros(STAYS, 5, 8), given.present

    objective = MaskedObjective(embed, modalities(5), 8)
    assert set(objective.heads) == {"series", "laboratory", "descriptors"}
    loss, expected = objective(batch)["loss"], torch.zeros(())
    for name, head in objective.heads.items():
        true, seen = batch.values[name], read[0][name]
        hidden = seen != true
        assert (seen[hidden] == 0).all() and 0.3 < hidden.float().mean() < 0.7
        counted = (hidden & batch.present[:, batch.modalities.index(name)].view(-1, *[1] * (true.ndim - 1))).flatten(1)
        expected = expected + (head.bias - true.flatten(1))[counted].square().mean()
    torch.testing.assert_close(loss, expected)
    assert all(read[0][name] is batch.values[name] for name in ("note", "image"))


@pytest.mark.parametrize("pretrain", PRETRAIN)
def test_a_step_reaches_the_encoders_and_never_waits_for_the_device(pretrain):
    method, batch = build(2, **VECTOR, pretrain=pretrain), make_batch(modalities(2), torch.ones(STAYS, 2, dtype=torch.bool))
    objective = method.pretraining().objective
    with Synchronisations() as found:
        objective(batch)["loss"].backward()
    assert found.names == []
    reached = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached and all(name.startswith("embeddings.") for name in reached)
    assert all(p.grad.any() for p in objective.parameters())
    assert not set(objective.state_dict()) & set(method.state_dict()), "what only pre-training reads is not stored"


@pytest.mark.parametrize("pretrain", PRETRAIN)
@pytest.mark.parametrize("missing", [[True, False], [False, True]])
def test_a_batch_without_one_of_the_modalities(pretrain, missing):
    method = build(2, **VECTOR, pretrain=pretrain)
    assert method.pretraining().objective(make_batch(modalities(2), torch.tensor([missing] * STAYS)))["loss"].isfinite()


@pytest.fixture
def setting(small_cohort):
    overrides = {f"model.{name}": value for name, value in (VECTOR | {"law": "profile", "family": "gaussian"}).items()}
    overrides |= {"labels": 0.2, "modalities": ["series", "note"], "train.epochs": 2, "train.average": 0.3, "model.pretrain_epochs": 3}

    def make(pretrain):
        made = Config.from_profile("smoke", overrides | {"model.pretrain": pretrain})
        return made, tokenised(small_cohort.with_modalities(made.modalities), made)

    return make


def _pretrained(made, cohort, folder):
    method = build_method(made, cohort)
    before = {name: p.clone() for name, p in method.named_parameters()}
    trainer._pretrain(method, made, Batches(cohort.split("train", made.task), raw=True), folder, False, 1)
    # the average of equal numbers may round
    changed = {name for name, p in method.named_parameters() if not torch.allclose(p, before[name], rtol=1e-4, atol=1e-6)}
    return method, changed, pd.read_csv(folder / "pretraining.csv")


@pytest.mark.parametrize("pretrain", PRETRAIN)
def test_encoders_are_trained_and_nothing_else(pretrain, setting, tmp_path):
    made, cohort = setting(pretrain)
    _, changed, history = _pretrained(made, cohort, tmp_path)
    assert changed and not [name for name in changed if not name.startswith("embeddings.")]
    assert history["epoch"].tolist() == [0, 1, 2] and history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]


def test_a_killed_pretraining_continues(setting, tmp_path, monkeypatch):
    made, cohort = setting("masked")
    unbroken, _, history = _pretrained(made, cohort, tmp_path / "a")
    original, calls = MaskedObjective.forward, []

    def killed(self, batch):
        calls.append(batch)
        if len(calls) > 1.5 * len(range(0, len(cohort.split("train", made.task)), made.train.batch_size)):
            raise KeyboardInterrupt
        return original(self, batch)

    monkeypatch.setattr(MaskedObjective, "forward", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        _pretrained(made, cohort, tmp_path / "b")
    monkeypatch.setattr(MaskedObjective, "forward", original)
    resumed, _, again = _pretrained(made, cohort, tmp_path / "b")
    pd.testing.assert_frame_equal(again, history, check_exact=False, rtol=1e-5)
    for (name, a), b in zip(unbroken.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)


def test_a_finished_pretraining_is_taken_up(setting, tmp_path):
    """Killed between the end of the pre-training and the first epoch of the training."""
    made, cohort = setting("likelihood")
    once, _, history = _pretrained(made, cohort, tmp_path)
    again, changed, same = _pretrained(made, cohort, tmp_path)
    assert changed
    pd.testing.assert_frame_equal(same, history, check_exact=False, rtol=1e-5)
    for (name, a), b in zip(once.state_dict().items(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_a_run_pretrains_on_all_stays_and_counts_the_task_where_the_outcome_is_known(setting, small_cohort, tmp_path, monkeypatch):
    made, _ = setting("likelihood")
    labels, original = [], CM2.loss
    monkeypatch.setattr(CM2, "loss", lambda self, batch: (labels.append(batch.label), original(self, batch))[1])
    run = RunStore(tmp_path).fit(made, small_cohort, progress=False)
    seen = torch.cat(labels)
    assert (~seen.isnan()).float().mean() == pytest.approx(0.2, abs=0.05)
    full = RunStore(tmp_path).fit(replace(made, labels=1.0), small_cohort, progress=False)
    count = {each: (r.metrics["valid"]["n"], r.metrics["test"]["n"]) for each, r in (("few", run), ("all", full))}
    assert count["few"][0] == pytest.approx(0.2 * count["all"][0], abs=1) and count["few"][1] == count["all"][1]


@pytest.mark.parametrize("stage", ["likelihood", "masked"])
def test_a_pretraining_without_outcomes_serves_every_share_of_them(setting, small_cohort, tmp_path, monkeypatch, stage):
    made, _ = setting(stage)
    store, other = RunStore(tmp_path / "store"), RunStore(tmp_path / "other")
    few = store.fit(made, small_cohort, progress=False)
    alone = other.fit(replace(made, labels=0.6), small_cohort, progress=False)
    monkeypatch.setattr(PretrainingLoop, "training_step", lambda *_: pytest.fail("pre-trained again"))
    shared = store.fit(replace(made, labels=0.6), small_cohort, progress=False)
    assert "weights" not in shared.environment and not shared.history.equals(few.history)
    pd.testing.assert_frame_equal(shared.history, alone.history, check_exact=False, rtol=1e-4)
    pd.testing.assert_frame_equal(pd.read_csv(shared.path / "pretraining.csv"), pd.read_csv(few.path / "pretraining.csv"))
    with pytest.raises(BaseException, match="pre-trained again"):
        store.fit(replace(made, seed=made.seed + 1), small_cohort, progress=False)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"pretrain": "elbo"}, r"model\.pretrain: unknown value 'elbo'; choose one of none, likelihood, masked"),
        ({"pretrain": "masked", "pretrain_epochs": 0}, r"model\.pretrain_epochs: expected a positive number, got 0"),
        ({"encoder_rate": -0.1}, r"model\.encoder_rate: expected 0 or a positive number, got -0\.1"),
        ({"pretrain": "likelihood", "directions": 9}, r"model\.directions: expected 1 to embedding_dim = 8, got 9"),
    ],
)
def test_bad_input(model, message):
    with pytest.raises(ValueError, match=message):
        config(**model)


def test_masked_needs_numbers():
    with pytest.raises(ValueError, match=r"model\.pretrain: masked predicts numbers of series and vectors.*none among text, image"):
        CM2(config(pretrain="masked"), modalities(3)[1:]).pretraining()


def test_labels_are_a_share():
    with pytest.raises(ValueError, match=r"labels: expected a share above 0 and at most 1, got 1\.5"):
        Config.from_profile("smoke", {"labels": 1.5})


def medfuse(small_cohort, epochs):
    made = Config.from_profile("smoke", {"method": "medfuse", "modalities": ["series", "note"], "baseline.pretrain_epochs": epochs})
    cohort = tokenised(small_cohort.with_modalities(made.modalities), made)
    return made, cohort


def test_medfuse_learns_from_each_modality_alone_first(small_cohort, tmp_path):
    made, cohort = medfuse(small_cohort, 3)
    method, changed, history = _pretrained(made, cohort, tmp_path)
    assert changed and all(name.startswith("embeddings.") for name in changed)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    objective = method.pretraining().objective
    batch = next(iter(loader(cohort.split("train", made.task), made.train)))
    z, present = method.eval().embed(batch)
    expected = sum(
        binary_cross_entropy_with_logits(head(z[present[:, m], m])[:, 0], batch.label[present[:, m]].float())
        for m, head in enumerate(objective.heads)
    )
    torch.testing.assert_close(objective(batch)["loss"], expected)


def test_medfuse_without_pretraining_is_as_before(small_cohort):
    made, cohort = medfuse(small_cohort, 0)
    assert build_method(made, cohort).pretraining() is None
    assert made.digest() == Config.from_profile("smoke", {"method": "medfuse", "modalities": ["series", "note"]}).digest()
    with pytest.raises(ValueError, match=r"baseline\.pretrain_epochs"):
        medfuse(small_cohort, -1)
