"""CM2's options, each held to the contract of CM2: the joint as printed and as released, other alignments, fusions and weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods.cm2 import CM2
from cm2.methods.released_score import ReleasedScore
from tests.methods.test_cm2 import Synchronisations

KINDS = (
    Modality("series", "series", (6, 4)),
    Modality("note", "text", (8,), vocabulary=50),
    Modality("descriptors", "vector", (5,)),
    Modality("laboratory", "series", (5, 3)),
    Modality("vitals", "vector", (3,)),
)
AS_RELEASED = {
    "link": "released",
    "impute": "marginal",
    "fusion_reads": "present",
    "fusion_layers": 1,
    "normalisation": "l2",
    "lambda_copula": 1e-6,
}
VARIANTS = {
    "paper": {"link": "paper", "impute": "marginal"},
    "paper_zero": {"link": "paper", "impute": "zero", "family": "frank"},
    "released": AS_RELEASED,
    "released_read": AS_RELEASED | {"fusion_reads": "all"},
    "released_zero": AS_RELEASED | {"impute": "zero"},
    "released_mean": AS_RELEASED | {"impute": "mean", "fusion_reads": "all"},
    "released_kl": AS_RELEASED | {"alignment": "kl"},
    "cosine": {"alignment": "cosine"},
    "kl": {"alignment": "kl", "impute": "marginal"},
    "kl_mean": {"alignment": "kl", "impute": "mean"},
    "kl_zero": {"alignment": "kl", "impute": "zero"},
    "first_two": {"fusion_reads": "first_two", "impute": "zero"},
    "concat": {"fusion": "concat"},
    "additive": {"fusion": "additive"},
    "additive_present": {"fusion": "additive", "fusion_reads": "present"},
    "concat_present": {"fusion": "concat", "fusion_reads": "present"},
    "present": {"fusion_reads": "present"},
    "predicted": {"weights": "predicted"},
    "predicted_scalar": {"weights": "predicted", "link": "scalar", "stop_gradient": "mixture"},
    "predicted_paper": {"weights": "predicted", "link": "paper", "impute": "marginal"},
    "predicted_mean": {"weights": "predicted", "impute": "mean", "stop_gradient": "both"},
    "mixture_alone": {"lambda_copula": 0.0},
    "mixture_alone_zero": {"lambda_copula": 0.0, "impute": "zero", "types": "joint"},
    "dependence_alone": {"lambda_mix": 0.0},
    "neither": {"lambda_mix": 0.0, "lambda_copula": 0.0, "impute": "zero"},
}
every_variant = pytest.mark.parametrize("name", VARIANTS)


def make_batch(count, stays=14, seed=0, complete=False):
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for m in KINDS[:count]:
        if m.kind == "text":
            ids = torch.randint(5, m.vocabulary, (stays, *m.shape), generator=generator)
            values[m.name] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        else:
            values[m.name] = torch.randn(stays, *m.shape, generator=generator)
    patterns = torch.arange(1, 2**count)
    present = (patterns[torch.arange(stays) % len(patterns), None] >> torch.arange(count)) % 2 == 1
    label = (torch.arange(stays) % 3 == 0).float()
    return Batch(values, present | complete, label, torch.arange(stays))


def build(count=3, seed=0, **model):
    torch.manual_seed(seed)
    overrides = {f"model.{key}": value for key, value in model.items()}
    return CM2(Config.from_profile("smoke", {"encoder.text.dropout": 0.0, **overrides}), KINDS[:count])


def again(function, *arguments):
    torch.manual_seed(1)
    return function(*arguments)


def with_absent(batch, filler):
    """The batch with other values where a modality is absent."""
    values = dict(batch.values)
    for m, (name, value) in enumerate(batch.values.items()):
        if not isinstance(value, dict):
            values[name] = torch.where(batch.present[:, m].view(-1, *[1] * (value.ndim - 1)), value, filler)
    return Batch(values, batch.present, batch.label, batch.stay_id)


def one_stay(batch, row):
    take = lambda v: {k: x[row : row + 1] for k, x in v.items()} if isinstance(v, dict) else v[row : row + 1]
    values = {name: take(value) for name, value in batch.values.items()}
    return Batch(values, batch.present[row : row + 1], batch.label[row : row + 1], batch.stay_id[row : row + 1])


@every_variant
@pytest.mark.parametrize("count", [2, 3, 5])
def test_shapes_and_a_batch_of_one(name, count):
    family = {"family": "gumbel"} if VARIANTS[name].get("link") == "released" else {}
    method, batch = build(count, **VARIANTS[name], **family), make_batch(count, max(7, 2**count - 1))  # every pattern
    method.initialise(batch)
    for part in (batch, one_stay(batch, 0), one_stay(batch, 2), one_stay(batch, 2**count - 2)):
        assert all(term.shape == () and term.isfinite() for term in method.loss(part).values())
        probability, variance = method.eval().predictive(part)
        assert probability.shape == variance.shape == (len(part),)
        assert ((probability > 0) & (probability < 1)).all() and (variance >= 0).all()
        assert method.impute(part, 3).shape == (3, len(part), count, 8)
        assert all(math.isfinite(value) for value in method.state_of_law().values())


@every_variant
def test_absent_modalities_are_never_read(name):
    method, batch = build(**VARIANTS[name]), make_batch(3)
    other = with_absent(batch, torch.nan)
    torch.testing.assert_close(again(method.loss, batch), again(method.loss, other))
    method.eval()
    assert torch.equal(again(method.predict, batch), again(method.predict, other))


@every_variant
@pytest.mark.parametrize("modality", [m.name for m in KINDS[:3] if m.kind != "text"])
def test_present_modalities_are_read(name, modality):
    method, batch = build(**VARIANTS[name]).eval(), make_batch(3)
    before, different = again(method.predict, batch), torch.zeros(len(batch), dtype=torch.bool)
    for by in (1, 2):  # one change that is read may move a prediction by less than its last digit
        other = Batch(batch.values | {modality: batch.values[modality] + by}, batch.present, batch.label, batch.stay_id)
        different |= again(method.predict, other) != before
    m = batch.modalities.index(modality)
    read = batch.present[:, m] & (batch.present.cumsum(dim=1)[:, m] <= 2 if name == "first_two" else True)
    assert different[read].all()


@every_variant
@pytest.mark.parametrize("family", ["gumbel", "frank", "gaussian"])
def test_every_parameter_receives_a_gradient_or_says_why_not(name, family):
    count = 2 if VARIANTS[name].get("link") == "released" else 3
    method, batch = build(count, **VARIANTS[name] | {"family": family}), make_batch(count)
    method.loss(batch)["loss"].backward()
    without = {n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()}
    explained = tuple(method.unused_parameters)
    assert not {n for n in without if not n.startswith(explained)}
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
    if name in ("predicted", "concat", "paper", "dependence_alone"):
        assert not explained


@every_variant
def test_saved_and_loaded_it_predicts_the_same(name):
    method, other, batch = build(**VARIANTS[name]).eval(), build(seed=1, **VARIANTS[name]).eval(), make_batch(3)
    other.load_state_dict(method.state_dict())
    assert torch.equal(again(method.predict, batch), again(other.predict, batch))


@every_variant
def test_it_overfits_a_few_stays(name):
    method, batch = build(2, **VARIANTS[name]), make_batch(2, complete=True)
    method.initialise(batch)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    for step in range(60):
        optimiser.zero_grad()
        method.train().loss(batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimiser.step()
        if step % 10 == 9 and F.binary_cross_entropy(method.eval().predict(batch), batch.label) < 0.1:
            return
    pytest.fail("a few stays are still predicted wrongly after 60 steps")


@every_variant
def test_a_training_step_never_waits_for_the_device(name):
    method, batch = build(**VARIANTS[name]), make_batch(3)
    with Synchronisations() as found:
        method.loss(batch)["loss"].backward()
    assert found.names == []


@pytest.mark.parametrize("name", ["released", "present", "concat_present"])
def test_an_imputed_embedding_that_fusion_skips_never_reaches_the_prediction(name):
    read = build(**VARIANTS[name] | {"fusion_reads": "all"}).eval()
    skipping, batch = build(**VARIANTS[name]).eval(), make_batch(3)
    incomplete = ~batch.present.all(dim=1)
    draws = [skipping.predict(batch) for _ in range(3)]
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])
    assert not skipping.predictive(batch)[1].any()
    assert (read.predict(batch) != read.predict(batch))[incomplete].all()


def test_a_third_modality_never_reaches_the_released_prediction():
    method, batch = build(**AS_RELEASED | {"fusion_reads": "first_two"}).eval(), make_batch(3)
    other = Batch(batch.values | {"descriptors": batch.values["descriptors"] + 1}, batch.present, batch.label, batch.stay_id)
    different = method.predict(batch) != method.predict(other)
    third = batch.present.cumsum(dim=1)[:, 2] == 3
    assert third.any() and torch.equal(different, batch.present[:, 2] & ~third)
    method.loss(batch)["loss"].backward()
    assert method.embeddings.encoders["descriptors"].network[0].weight.grad.any()  # the score reads it


def test_the_released_score_reads_imputed_rows_too():
    method, batch = build(2, **AS_RELEASED), make_batch(2)
    score = {seed: (torch.manual_seed(seed), method.loss(batch)["score"])[1].item() for seed in (0, 1)}
    assert score[0] != score[1]
    complete = make_batch(2, complete=True)
    terms = method.loss(complete)
    z = method.embed(complete)[0]
    assert terms["score"].item() == pytest.approx(method.joint(z).mean().item(), rel=1e-4)
    expected = terms["task"] - method.config.lambda_copula * terms["score"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_released_law_stays_where_it_starts_until_it_is_trained():
    method, batch = build(2, **AS_RELEASED), make_batch(2)
    assert isinstance(method.joint, ReleasedScore)
    method.initialise(batch)
    assert not method.joint.mean.any()
    assert method.state_of_law()["alpha"] == pytest.approx(1, abs=1e-5)
    assert list(method.joint.parameters()) == method.law_parameters()


@pytest.mark.parametrize("how", ["cosine", "kl"])
def test_alignment_takes_the_place_of_the_laws_terms(how):
    terms = build(alignment=how, lambda_alignment=0.5).loss(make_batch(3))
    assert set(terms) == {"loss", "task", "alignment"}
    assert terms["loss"].item() == pytest.approx((terms["task"] + 0.5 * terms["alignment"]).item(), rel=1e-5)
    assert build(alignment=how, impute="zero").unused_parameters.keys() >= {"joint."}


def test_weights_are_predicted_from_the_other_present_modalities():
    method = build(weights="predicted")
    own = torch.stack([m.logits for m in method.joint.marginals])
    z, present = torch.randn(6, 3, 8), torch.tensor([[True, True, True]] * 3 + [[True, False, True]] * 3)
    weights = method.weight_network(z, present, own)
    torch.testing.assert_close(weights.exp().sum(-1), torch.ones(6, 3))
    moved = z.clone()
    moved[:, 1] += 1
    changed = (method.weight_network(moved, present, own) != weights).any(-1)
    assert changed[:3].tolist() == [[True, False, True]] * 3
    assert not changed[3:].any()
    z[3:, 1] = torch.nan
    assert method.weight_network(z, present, own).isfinite().all()


def test_predicted_weights_learn_which_component_a_stay_has():
    """Two components far apart, the same one in both modalities: given the other, a stay's own is known."""
    torch.manual_seed(0)
    types = torch.randint(2, (400,))
    z = 3.0 * (2 * types[:, None, None] - 1) * torch.ones(1, 2, 4) + torch.randn(400, 2, 4)
    present = torch.ones(400, 2, dtype=torch.bool)
    mixture = {}
    for weights in ("learned", "predicted"):
        method = build(2, weights=weights, components=2, embedding_dim=4)
        method.joint.initialise(z)
        parameters = list(method.joint.parameters()) + list(getattr(method.weight_network, "parameters", list)())
        optimiser = torch.optim.Adam(parameters, lr=0.05)
        for _ in range(60):
            optimiser.zero_grad()
            value = method._law_terms(method.joint, z, present)[0]
            (-value).backward()
            optimiser.step()
        mixture[weights] = value.item()
    assert mixture["predicted"] - mixture["learned"] == pytest.approx(2 * math.log(2), abs=0.15)


@pytest.mark.parametrize(("stop", "term"), [("mixture", 1), ("copula", 0)])
@pytest.mark.parametrize("weights", ["learned", "predicted"])
def test_one_term_alone_can_shape_the_embeddings(stop, term, weights):
    """stop_gradient: the embeddings receive the other term's gradient and nothing else, the law is fitted by both."""
    alone, both = build(stop_gradient=stop, weights=weights), build(weights=weights)
    present = torch.ones(5, 3, dtype=torch.bool)
    z = [torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2)]
    sum(alone._law_terms(alone.joint, z[0], present)).backward()
    both._law_terms(both.joint, z[1], present)[term].backward()
    torch.testing.assert_close(z[0].grad, z[1].grad)
    assert all(p.grad is not None and p.grad.any() for p in alone.joint.parameters())


@pytest.mark.parametrize(("off", "term"), [({"lambda_copula": 0.0}, "copula"), ({"lambda_mix": 0.0}, "mixture")])
def test_a_weight_of_zero_takes_a_term_out(off, term):
    terms = build(**off).loss(make_batch(3))
    other = {"copula": "mixture", "mixture": "copula"}[term]
    assert terms["loss"].item() == pytest.approx((terms["task"] - 1e-2 * terms[other]).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": "paper"}, "link paper is no law that an embedding could be drawn from given others; use impute marginal, zero"),
        ({"link": "released"}, "link released is no law"),
        (AS_RELEASED | {"stop_gradient": "mixture"}, "link released has one score, of which mixture is no part"),
        (AS_RELEASED | {"weights": "predicted"}, "link released has free weights of its own"),
        (AS_RELEASED | {"types": "joint"}, "which link released has none of"),
        (AS_RELEASED | {"family": "clayton"}, "Clayton density is empty"),
        (AS_RELEASED | {"family": "frank"}, "frank for two modalities, got 3"),
        ({"weights": "predicted", "types": "joint"}, "use types independent or weights learned"),
        ({"fusion_reads": "present", "impute": "token"}, "a token that fusion never reads"),
        ({"alignment": "cosin"}, "model.alignment: unknown value 'cosin'.*did you mean 'cosine'"),
        ({"fusion": "concatenate"}, "model.fusion: unknown fusion 'concatenate'; choose one of additive, concat, hidden, lstm"),
        ({"fusion_reads": "some"}, "model.fusion_reads: unknown value 'some'"),
        ({"weights": "predict"}, "did you mean 'predicted'"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("second", "released"), [(("image",), 23_866_187), (("note",), 17_092_019), (("image", "note"), 38_510_327)], ids=["iv", "iii", "three"]
)
def test_parameters_of_the_released_model_every_difference_named(second, released):
    """The counts of the program's models at paper size, K = 3. Within 1 % with images alone; notes differ by what is named."""
    kinds = {"image": Modality("image", "image", (224, 224)), "note": Modality("note", "text", (512,), vocabulary=30_522)}
    modalities = (Modality("series", "series", (24, 76)), *(kinds[name] for name in second))
    options = AS_RELEASED | {"embedding_dim": 256, "fusion_hidden": 512}
    config = Config.from_profile("paper", {"encoder.text.pretrained": ""} | {f"model.{key}": value for key, value in options.items()})
    heads = 257 + 513 * len(second) + 256 * (1 + len(second)) + 1  # of each encoder and of the concatenation; unused in the program
    pooler, widening = 312 * 312 + 312, 312 * 512 + 512  # BERT's, unused; the program takes notes to 512 before it projects them
    series_projection = 256 * 256 + 256  # the program has none
    expected = released - heads + series_projection
    if "note" in second:
        expected -= pooler + widening + 512 * 256 - 312 * 256
    assert sum(p.numel() for p in CM2(config, modalities).parameters()) == expected
    assert abs(expected / released - 1) < (0.01 if "note" not in second else 0.015)
