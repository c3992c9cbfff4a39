"""CM2 with a law that is fitted: to the embeddings of evaluation mode, and nothing of it is trained."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from cm2.book.checks import check
from cm2.config import Config, ModelConfig
from cm2.joint.diagnostics import describe
from cm2.joint.profile import profiled_dependence
from cm2.methods.task_loss import cross_entropy
from tests.methods.test_cm2 import STAYS, Synchronisations, build, make_batch, modalities

PROFILE = {"link": "vector", "directions": 2, "covariance": "full", "components": 1, "family": "gaussian", "law": "profile"}


def _batches(count=2, batches=8, missing=False):
    present = None if missing else torch.ones(STAYS, count, dtype=torch.bool)
    return [make_batch(modalities(count), present, seed) for seed in range(batches)]


@pytest.mark.parametrize("link", ["component", "scalar", "dimension", "vector"])
@pytest.mark.parametrize("normalisation", ["batch", "layer"])
def test_the_law_lies_at_the_embeddings_of_evaluation_mode(link, normalisation):
    method = build(3, **{**PROFILE, "link": link, "normalisation": normalisation, "dropout": 0.5})
    method.train()
    for batch in _batches(3):  # running averages of encoders that have moved on
        method.embed(batch)
        with torch.no_grad():
            for p in method.embeddings.parameters():
                p.add_(0.05 * torch.randn_like(p))
    assert method.refit(_batches(3, missing=True)) and method.training
    parts = [method.eval().embed(batch) for batch in _batches(3, missing=True)]
    z, present = (torch.cat(each) for each in zip(*parts, strict=True))
    for m, mixture in enumerate(method.joint.marginals):
        law, own = mixture(), z[present[:, m], m]
        mean = law.log_weights.exp() @ law.mean
        assert (((mean - own.mean(0)) / own.std(0)).abs() < 0.2).all()
    state = method.state_of_law()
    assert state["law_distance"] < 0.2 and 1 <= state["effective_rank"] <= 8
    assert {"law_nats", "gaussian_nats"} <= set(state)
    assert method.why_no_law() == ""


def test_a_law_by_gradient_is_not_refitted():
    method = build(2)
    before = {name: p.clone() for name, p in method.state_dict().items()}
    assert not method.refit(_batches())
    assert all(torch.equal(p, before[name]) for name, p in method.state_dict().items())


@pytest.mark.parametrize("link", ["component", "scalar", "dimension", "vector"])
def test_a_law_by_gradient_is_described_beside_the_embeddings_of_evaluation_mode(link):
    method, batches = build(3, link=link, normalisation="batch", dropout=0.5).train(), _batches(3, missing=True)
    method.embed(batches[0])  # running averages that are not those of a start
    before = {name: p.clone() for name, p in method.state_dict().items()}
    random = torch.get_rng_state()
    method.describe_law(batches)
    assert torch.equal(torch.get_rng_state(), random) and all(module.training for module in method.modules())
    assert all(torch.equal(p, before[name]) for name, p in method.state_dict().items())
    told = method.state_of_law()
    parts = [method.eval().embed(batch) for batch in batches]
    z, present = (torch.cat(each) for each in zip(*parts, strict=True))
    expected = describe(method.joint, z, present)
    assert set(expected) == {"effective_rank", "law_distance", "law_nats", "gaussian_nats"}
    assert {name: told[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("settings", [{"lambda_copula": 0.0, "impute": "zero"}, {"link": "released", "impute": "zero"}])
def test_a_law_that_nothing_trains_is_not_described(settings):
    method = build(2, **settings)
    method.describe_law(_batches())
    assert "law_distance" not in method.state_of_law()


def test_embeddings_that_are_no_numbers_are_not_described():
    method = build(2)
    with torch.no_grad():
        next(method.embeddings.projections.parameters()).fill_(torch.nan)
    method.describe_law(_batches())
    assert "law_distance" not in method.state_of_law()


@pytest.mark.parametrize(
    ("model", "missing", "fits"),
    [
        ({"impute": "conditional_mean"}, True, True),
        ({"impute": "mean"}, True, True),
        ({"impute": "conditional_mean"}, False, False),
        ({"impute": "zero"}, True, False),
        ({"impute": "token"}, True, False),
        ({"impute": "conditional_mean", "fusion_reads": "present"}, True, False),
        ({"impute": "conditional_mean", "law": "gradient"}, True, False),
    ],
)
def test_the_first_epoch_fills_from_a_law_that_was_fitted(model, missing, fits):
    method, batches = build(2, **{**PROFILE, "normalisation": "batch", **model}), _batches(missing=missing)
    before = {name: p.clone() for name, p in method.state_dict().items()}
    method.before_first_epoch(batches)
    after = method.state_dict()
    assert all(torch.equal(p, before[name]) for name, p in after.items()) != fits
    if fits:
        method.refit(batches)
        for name, value in method.state_dict().items():
            torch.testing.assert_close(after[name], value, rtol=1e-3, atol=1e-3)


def test_families_are_chosen_by_the_fit_and_told():
    method = build(3, **PROFILE | {"family": "auto"}, normalisation="batch", impute="conditional_mean")
    assert method.state_of_law()["kendall_tau"] == 0
    method.refit(_batches(3))
    state = method.state_of_law()
    counts = {name: value for name, value in state.items() if name.startswith("family_")}
    assert sum(counts.values()) == PROFILE["directions"] and "family_frank" in counts and "family_student" not in counts
    batch = make_batch(modalities(3))
    with Synchronisations() as found:
        method.loss(batch)["loss"].backward()
    assert found.names == []
    assert all(term.isfinite() for term in method.loss(batch).values())


def test_kendalls_tau_of_three_modalities_is_that_of_their_pairs():
    method = build(3, **PROFILE)
    method.refit(_batches(3))
    tau = method.joint.copula().kendall_tau
    expected = torch.stack([tau[:, a, b] for a, b in ((0, 1), (0, 2), (1, 2))]).mean()
    assert method.state_of_law()["kendall_tau"] == pytest.approx(float(expected.detach()))


def test_a_last_batch_with_one_stay_of_a_modality_is_read():
    method = build(2, **PROFILE, normalisation="batch")
    last = make_batch(modalities(2), torch.tensor([[True, True]] + [[True, False]] * (STAYS - 1)))
    assert method.refit([*_batches(), last])


def test_nats_of_dependence_are_of_the_stays_that_have_a_pair():
    method, pairs = build(2, **PROFILE, normalisation="batch").eval(), _batches()
    alone = make_batch(modalities(2), torch.tensor([[True, False]] * STAYS), seed=20)
    z, present = (torch.cat(each) for each in zip(*(method.embed(batch) for batch in (*pairs, alone)), strict=True))
    report = method.joint.fit(z.detach(), present)
    nothing = method.joint().marginal_log_prob(z, present).sum() / len(z)
    share = present.all(1).double().mean()
    torch.testing.assert_close(report.log_likelihood - float(nothing.detach()), report.dependence * float(share), rtol=1e-4, atol=1e-4)


def test_the_loss_has_the_profiled_dependence_and_the_heads():
    weights = {"lambda_copula": 0.5, "lambda_heads": 0.3, "fusion": "hidden", "profile_shrinkage": 0.1, "normalisation": "batch"}
    method, batch = build(3, **PROFILE, **weights).eval(), make_batch(modalities(3))
    terms = method.loss(batch)
    z, present = method.embed(batch)
    torch.testing.assert_close(terms["copula"], profiled_dependence(z, present, 2, 0.1))
    each = [
        F.binary_cross_entropy_with_logits(head(z[present[:, m], m]).squeeze(-1), batch.label[present[:, m]])
        for m, head in enumerate(method.heads)
    ]
    torch.testing.assert_close(terms["heads"], torch.stack(each).sum())
    torch.testing.assert_close(terms["loss"], terms["task"] - 0.5 * terms["copula"] + 0.3 * terms["heads"])
    method.train().loss(batch)["loss"].backward()
    without = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert all(name.startswith("joint.") or "pooler" in name for name in without)
    assert set(method.unused_parameters) == {"joint."}


def test_a_prediction_averages_the_fused_probability_and_the_heads():
    method, batch = build(2, lambda_heads=0.3, impute="zero").eval(), make_batch(modalities(2))
    z, present = method.embed(batch)
    fused = method.classifier(method.fusion(torch.where(present[..., None], z, 0))).squeeze(-1).sigmoid()
    own = [head(z[:, m]).squeeze(-1).sigmoid() for m, head in enumerate(method.heads)]
    heads = (torch.stack(own, 1) * present).sum(1) / present.sum(1)
    torch.testing.assert_close(method.predictive(batch)[0], (fused + heads) / 2)


def test_without_imputation_a_stay_that_lacks_a_modality_has_only_its_heads():
    present = torch.tensor([[True, True], [True, False], [False, True]] * 4)
    settings = {"lambda_heads": 0.3, "fusion": "hidden", "dropout": 0.0}
    method, batch = build(2, **settings, impute="none").eval(), make_batch(modalities(2), present)
    zero = build(2, **settings, impute="zero").eval()
    zero.load_state_dict(method.state_dict())
    own = torch.where(present, method.heads.logits(method.embed(batch)[0])[..., 0].sigmoid(), 0).sum(1) / present.sum(1)
    complete = present.all(1)
    expected = torch.where(complete, zero.predictive(batch)[0], own)
    torch.testing.assert_close(method.predictive(batch)[0], expected)
    assert not torch.allclose(zero.predictive(batch)[0], expected)
    fused = method._logits(method.embed(batch)[0][None], present)[0]
    torch.testing.assert_close(method.loss(batch)["task"], cross_entropy(fused[complete], batch.label[complete]))


@pytest.mark.parametrize(
    ("settings", "message"), [({}, "give lambda_heads above 0"), ({"link": "released", "lambda_heads": 0.1}, "scores")]
)
def test_without_imputation_there_must_be_heads(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(impute="none", **settings)


def test_classifier_and_heads_begin_at_the_prevalence():
    method, batch = build(2, lambda_heads=0.3, start_at_prevalence=True), make_batch(modalities(2))
    label = torch.where(torch.arange(STAYS) < 3, 1.0, 0.0)
    label[-2:] = torch.nan
    method.initialise(replace(batch, label=label))
    expected = torch.log(torch.tensor(3.5 / (STAYS - 5 + 0.5)))
    for layer in (method.classifier, *method.heads):
        torch.testing.assert_close(layer.bias, expected.view(1))
    method.initialise(replace(batch, label=torch.full((STAYS,), torch.nan)))
    assert method.classifier.bias.item() == 0, "without a known outcome even odds are left"


def test_the_conditional_mean_fills_what_is_missing():
    method = build(2, **PROFILE, impute="conditional_mean", normalisation="batch")
    method.refit(_batches())
    batch = make_batch(modalities(2), torch.tensor([[True, False]] * STAYS))
    z, present = method.eval().embed(batch)
    expected = method.joint().conditional_mean(z, present).mean
    torch.testing.assert_close(method.impute(batch, 3), expected.expand(3, *expected.shape))
    assert method.predictive(batch)[1].max() == 0, "nothing is drawn"


def test_a_training_step_never_waits_for_the_device():
    method = build(3, **PROFILE, lambda_heads=0.3, fusion="hidden", impute="conditional_mean")
    batch = make_batch(modalities(3))
    with Synchronisations() as found:
        method.loss(batch)["loss"].backward()
    assert found.names == []


def test_the_elbo_is_the_task_and_the_divergence_at_one_draw():
    method, batch = build(3, objective="elbo", beta=0.1, impute="zero", dropout=0.0), make_batch(modalities(3))
    method.eval()
    torch.manual_seed(5)
    terms = method.loss(batch)
    mean, present = method.embed(batch)
    torch.manual_seed(5)
    z, log_q = method.posteriors(mean)
    z = torch.where(present[..., None], z, 0.0)
    torch.testing.assert_close(terms["rate"], ((log_q * present).sum(1) - method.joint().log_prob(z, present)).mean())
    logits = method.classifier(method.fusion(z)).squeeze(-1)
    torch.testing.assert_close(terms["task"], F.binary_cross_entropy_with_logits(logits, batch.label))
    torch.testing.assert_close(terms["loss"], terms["task"] + 0.1 * terms["rate"])
    method.train().loss(batch)["loss"].backward()
    without = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
    assert all("pooler" in name for name in without)


def test_the_divergence_is_that_of_two_normal_distributions_where_the_law_is_one():
    """E_q[log q - log f] against the closed form: one component, no dependence."""
    method = build(2, objective="elbo", components=1, family="independence", normalisation="none")
    mean = torch.randn(1, 2, 8).expand(20_000, 2, 8)
    z, log_q = method.posteriors(mean)
    rate = log_q.sum(1) - method.joint(validate_args=False).log_prob(z)
    law = method.joint().link.mixture
    q = torch.distributions.Normal(mean[0], method.posteriors.scale(mean[:1])[0])
    exact = torch.distributions.kl_divergence(q, torch.distributions.Normal(law.mean[:, 0], law.scale[:, 0])).sum()
    check("the divergence", rate.mean(), near=exact.detach(), standard_error=rate.std() / len(rate) ** 0.5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"objective": "elbo", "link": "paper", "impute": "zero"}, r"model\.objective: link paper"),
        ({"objective": "elbo", "law": "profile"}, r"model\.objective: elbo trains"),
        ({"objective": "elbo", "beta": 0.0}, r"model\.beta"),
        ({"link": "vector", "directions": 9}, r"model\.directions: expected 1 to embedding_dim = 8"),
        ({"link": "paper", "covariance": "full", "impute": "zero"}, r"model\.covariance"),
        ({"law": "profile", "directions": 9}, r"model\.directions"),
        ({"family": "auto"}, r"model\.family: auto is chosen.*use law profile and link vector"),
        ({"family": "auto", "law": "profile"}, r"model\.family: auto is chosen.*use law profile and link vector"),
        ({"profile_shrinkage": 0.0}, r"model\.profile_shrinkage"),
        ({"law": "profile", "link": "released", "impute": "zero"}, r"model\.law: link released"),
        ({"law": "profile", "weights": "predicted"}, r"model\.law: profile fits one"),
        ({"link": "scalar", "types": "none"}, r"model\.types: link scalar"),
    ],
)
def test_bad_input(model, message):
    with pytest.raises(ValueError, match=message):
        Config.from_profile("smoke", {f"model.{name}": value for name, value in model.items()})
