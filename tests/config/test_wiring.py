"""Every field of every configuration does what its sentence says, and nothing else."""

from __future__ import annotations

import pytest
import torch

from cm2 import Config
from tests.config.wiring import Case, Observer, leaves, made_up_cohort, same

BASE = {"modalities": ("series", "vector"), "train.epochs": 3, "model.lambda_mix": 0.1, "model.lambda_copula": 0.1}
MASKED = {"absent": {"vector": 0.4}, "absent_test": {"vector": 0.4}}
IMAGE, TEXT = {"modalities": ("series", "image")}, {"modalities": ("series", "text")}
WEIGHT = "loss gradient"
NOISE = f"{WEIGHT} terms"
FUNCTION = f"{NOISE} prediction"
SIZE = f"{FUNCTION} shapes start"
PARTS = f"{SIZE} optimiser"
"""Aspects that change: a term's weight; what is drawn in training; the function; a tensor's size; the number of tensors."""

CASES = {
    "method": Case("late_fusion", "class gradient loss optimiser prediction shapes start terms"),
    "task": Case("death", "gradient loss terms test train valid"),
    "seed": Case(1, "gradient loader loss prediction start terms test train valid", MASKED),
    "modalities": Case(("vector", "series"), "gradient loss prediction start terms test train valid"),
    "matched": Case(True, "test train valid"),
    "absent": Case({"vector": 0.5}, "train valid"),
    "absent_test": Case({"vector": 0.5}, "test"),
    "mechanism": Case("mnar", "test train valid", MASKED),
    "labels": Case(0.5, "train valid"),
    "model.embedding_dim": Case(6, SIZE),
    "model.normalisation": Case("batch", SIZE),
    "model.components": Case(2, SIZE),
    "model.minimum_scale": Case(0.3, FUNCTION),
    "model.family": Case("clayton", SIZE),
    "model.pair_family": Case("frank", SIZE, {"modalities": ("series", "text", "vector"), "model.family": "vine"}),
    "model.link": Case("scalar", FUNCTION),
    "model.directions": Case(4, SIZE, {"model.link": "vector"}),
    "model.covariance": Case("full", "gradient optimiser shapes start loss terms"),
    "model.law": Case("profile", NOISE),
    "model.profile_shrinkage": Case(0.3, NOISE, {"model.law": "profile"}),
    "model.objective": Case("elbo", "gradient loss optimiser shapes start terms"),
    "model.beta": Case(0.3, WEIGHT, {"model.objective": "elbo"}),
    "model.lambda_heads": Case(0.3, PARTS),
    "model.types": Case("joint", "gradient optimiser shapes start"),
    "model.weights": Case("predicted", PARTS),
    "model.alignment": Case("cosine", NOISE),
    "model.lambda_alignment": Case(0.3, WEIGHT, {"model.alignment": "cosine"}),
    "model.impute": Case("marginal", FUNCTION),
    "model.n_draws": Case(5, "prediction"),
    "model.lambda_mix": Case(0.5, WEIGHT),
    "model.lambda_copula": Case(0.5, WEIGHT),
    "model.stop_gradient": Case("both", "gradient"),
    "model.pretrain": Case("likelihood", "pretraining trainer"),
    "model.pretrain_epochs": Case(4, "trainer", {"model.pretrain": "masked"}),
    "model.pretrain_learning_rate": Case(0.02, "pretraining", {"model.pretrain": "masked"}),
    "model.encoder_rate": Case(0.1, "optimiser"),
    "model.temperature": Case(0.7, WEIGHT),
    "model.start_at_prevalence": Case(True, "gradient loss terms"),
    "model.fusion": Case("concat", PARTS),
    "model.fusion_reads": Case("present", FUNCTION),
    "model.fusion_hidden": Case(9, SIZE),
    "model.fusion_layers": Case(1, PARTS),
    "model.dropout": Case(0.7, NOISE),
    "baseline.variant": Case("released", PARTS, {"method": "mmtm"}),
    "baseline.modality": Case("vector", PARTS, {"method": "single_modality"}),
    "baseline.encoders": Case("common", PARTS, IMAGE | {"method": "drfuse"}),
    "baseline.dropout": Case(0.7, NOISE, {"method": "late_fusion"}),
    "baseline.embedding_dim": Case(6, SIZE, {"method": "unified"}),
    "baseline.fusion_hidden": Case(9, SIZE, {"method": "medfuse"}),
    "baseline.pretrain_epochs": Case(3, "pretraining trainer", {"method": "medfuse"}),
    "baseline.text_dim": Case(6, SIZE, TEXT | {"method": "mmtm", "baseline.variant": "released"}),
    "baseline.trees": Case(3, "history prediction shapes start", {"method": "boosted_trees"}),
    "baseline.tree_depth": Case(1, "history prediction shapes start", {"method": "boosted_trees"}),
    "baseline.tree_stays": Case(9, "history prediction", {"method": "boosted_trees"}),
    "baseline.tree_learning_rate": Case(0.5, "history prediction", {"method": "boosted_trees"}),
    "baseline.tree_tokens": Case(2, "shapes start", TEXT | {"method": "boosted_trees"}),
    "baseline.drfuse.heads": Case(4, FUNCTION, IMAGE | {"method": "drfuse"}),
    "baseline.drfuse.feedforward": Case(9, SIZE, IMAGE | {"method": "drfuse"}),
    "baseline.drfuse.image_depth": Case(18, PARTS, IMAGE | {"method": "drfuse"}),
    "baseline.lsmt.width": Case(32, SIZE, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.layers": Case(2, PARTS, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.heads": Case(4, SIZE, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.head_width": Case(4, SIZE, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.feedforward": Case(9, SIZE, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.patch": Case(8, SIZE, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.image_layers": Case(2, PARTS, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.image_heads": Case(4, FUNCTION, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.latents": Case(3, SIZE, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.latent_width": Case(16, SIZE, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.latent_layers": Case(2, PARTS, IMAGE | {"method": "lsmt"}),
    "baseline.lsmt.latent_heads": Case(4, FUNCTION, IMAGE | {"method": "lsmt"}),
    "baseline.interleaved.width": Case(8, SIZE, {"method": "interleaved"}),
    "baseline.interleaved.time": Case(16, SIZE, {"method": "interleaved"}),
    "baseline.interleaved.heads": Case(4, SIZE, {"method": "interleaved"}),
    "baseline.interleaved.layers": Case(2, PARTS, {"method": "interleaved"}),
    "baseline.interleaved.steps": Case(5, SIZE, {"method": "interleaved"}),
    "encoder.series.summary": Case(8, PARTS),
    "encoder.series.hidden": Case(9, SIZE),
    "encoder.series.layers": Case(1, PARTS),
    "encoder.series.dropout": Case(0.5, NOISE),
    "encoder.series.kind": Case("transformer", PARTS),
    "encoder.series.heads": Case(2, FUNCTION, {"encoder.series.kind": "transformer"}),
    "encoder.image.depth": Case(18, PARTS, IMAGE),
    "encoder.image.trainable_blocks": Case(1, NOISE, IMAGE),
    "encoder.image.allow_random_start": Case(True, "", IMAGE),
    "encoder.image.pretrained": Case(True, "downloads", IMAGE | {"encoder.image.depth": 18}),
    "encoder.image.kind": Case("vit", PARTS, IMAGE),
    "encoder.image.vit": Case("b_16", PARTS, IMAGE | {"encoder.image.kind": "vit"}),
    "encoder.text.layers": Case(2, PARTS, TEXT),
    "encoder.text.hidden": Case(16, SIZE, TEXT),
    "encoder.text.heads": Case(4, NOISE, TEXT),  # without training the weights of attention are equal but for rounding
    "encoder.text.intermediate": Case(32, SIZE, TEXT),
    "encoder.text.dropout": Case(0.5, NOISE, TEXT),
    "encoder.text.pooling": Case("mean", FUNCTION, TEXT),
    "encoder.text.max_length": Case(4, "gradient loss prediction shapes start terms tokens", TEXT),
    "encoder.text.vocabulary": Case(40, "gradient loss prediction shapes start terms tokens", TEXT),
    "encoder.text.pretrained": Case("some/bert", "downloads", TEXT),
    "encoder.text.tokenizer": Case("bytes", f"{FUNCTION} shapes start tokens", TEXT),
    "encoder.text.trainable_blocks": Case(0, NOISE, TEXT),
    "encoder.text.allow_random_start": Case(True, "", TEXT),
    "encoder.own": Case({"image": {"part": "torchvision", "model": "resnet18"}}, f"{PARTS} downloads", IMAGE),
    "encoder.vector.hidden": Case(7, SIZE),
    "train.epochs": Case(5, "trainer"),
    "train.patience": Case(1, "trainer"),
    "train.batch_size": Case(5, "loader"),
    "train.learning_rate": Case(0.01, "optimiser"),
    "train.law_learning_rate": Case(0.03, "optimiser"),
    "train.beta_1": Case(0.5, "optimiser"),
    "train.beta_2": Case(0.5, "optimiser"),
    "train.weight_decay": Case(0.1, "optimiser"),
    "train.gradient_clip": Case(0.3, "trainer"),
    "train.average": Case(0.1, "trainer"),
    "train.precision": Case("bf16-mixed", "trainer"),
    "train.augment": Case(0.3, "augmented", IMAGE),
    "train.bucket": Case(2, "loader", TEXT | {"train.batch_size": 3}),
    "train.compile": Case(True, "layout", IMAGE, keyed=False),
    "train.channels_last": Case(True, "layout", IMAGE, keyed=False),
    "train.resident": Case(0.5, "", keyed=False),  # without an accelerator
    "train.workers": Case(1, "loader"),
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Observes a configuration, each once."""
    folder, known = tmp_path_factory.mktemp("wiring"), {}
    cohort = made_up_cohort(folder / "cohort")

    def observe(overrides):
        config = Config.from_profile("smoke", BASE | overrides)
        if (name := str(config)) not in known:
            with pytest.MonkeyPatch.context() as patch:
                known[name] = Observer(cohort, patch, folder).observe(config)
        return known[name]

    return observe


def test_every_field_has_a_case():
    assert set(CASES) == set(leaves(Config())), "a new field needs a case: another value, and the aspects that it changes"


@pytest.mark.parametrize("field", CASES)
def test_a_field_changes_what_it_says(field, seen):
    case: Case = CASES[field]
    before, after = seen(dict(case.base)), seen({**case.base, field: case.value})
    changed = {aspect for aspect in before.keys() | after.keys() if not same(before.get(aspect), after.get(aspect))}
    assert changed == {*(["key"] if case.keyed else []), *case.changes.split()}


def test_the_optimisers_numbers_are_those_of_their_fields(seen):
    train = {"learning_rate": 0.013, "law_learning_rate": 0.031, "beta_1": 0.7, "beta_2": 0.8, "weight_decay": 0.02}
    settings = {f"train.{name}": value for name, value in train.items()}
    networks, law = seen(settings)["optimiser"]
    assert (networks["lr"], networks["betas"], networks["weight_decay"]) == (0.013, (0.7, 0.8), 0.02)
    assert (law["lr"], law["betas"], law["weight_decay"]) == (0.031, (0.7, 0.8), 0.0)
    *others, encoders = seen(settings | {"model.encoder_rate": 0.1})["optimiser"]
    assert (encoders["lr"], encoders["weight_decay"], others[0]["lr"]) == (pytest.approx(0.0013), 0.02, 0.013)
    assert networks["params"] == others[0]["params"] + encoders["params"] and others[1] == law


def test_the_trainers_numbers_are_those_of_their_fields(seen):
    told = seen({"train.epochs": 7, "train.patience": 4, "train.gradient_clip": 0.3, "train.precision": "bf16-mixed"})["trainer"]
    assert (told["max_epochs"], told["gradient_clip_val"], told["precision"]) == (7, 0.3, "bf16-mixed")
    assert ("EarlyStopping", 4) in told["callbacks"]
    assert seen({"train.gradient_clip": 0})["trainer"]["gradient_clip_val"] is None
    workers, batches, order = seen({"train.batch_size": 5, "train.workers": 2})["loader"]
    assert (workers, batches, len(order)) == (2, -(-len(order) // 5), 24)


def test_modalities_go_missing_where_the_fields_say(seen):
    def share(split, overrides):
        return torch.tensor(seen(overrides)[split]["present"]).float().mean(0)[1].item()

    usual = {split: share(split, {}) for split in ("train", "valid", "test")}
    training, testing = {"absent": {"vector": 1.0}}, {"absent_test": {"vector": 1.0}}
    assert (share("train", training), share("valid", training), share("test", training)) == (0, 0, usual["test"])
    assert (share("train", testing), share("valid", testing), share("test", testing)) == (usual["train"], usual["valid"], 0)


@pytest.mark.parametrize(
    "overrides", [{"types": "joint", "link": "scalar"}, {"link": "paper"}, {"weights": "predicted", "types": "joint"}, {"link": "released"}]
)
def test_a_field_that_would_do_nothing_is_refused(overrides):
    with pytest.raises(ValueError, match=r"model\.(types|impute|weights)"):
        Config.from_profile("smoke", {f"model.{name}": value for name, value in overrides.items()})


WEIGHTS = ("model.lambda_mix", "model.lambda_copula", "model.lambda_alignment", "model.lambda_heads", "model.temperature")
STEPS = ("train.learning_rate", "train.law_learning_rate", "model.pretrain_learning_rate")
RATES = ("train.beta_1", "train.average", "model.dropout", "baseline.dropout", "encoder.series.dropout", "encoder.text.dropout")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in (*WEIGHTS, "train.weight_decay", "train.gradient_clip") for value in (-1.0, "nan", "inf")),
        *((name, value) for name in STEPS for value in (0.0, -1.0, "nan", "inf")),
        *((name, value) for name in RATES for value in (-0.1, 1.0, "nan")),
        *((name, -1) for name in ("baseline.pretrain_epochs", "encoder.series.summary", "train.workers")),
    ],
)
def test_a_number_that_no_training_survives_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name.replace('.', chr(92) + '.')}: expected .*, got {value}"):
        Config.from_profile("smoke", {name: value})
