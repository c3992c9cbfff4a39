"""CM2's contract: any number of modalities, any missing pattern, an objective whose gradient reaches every parameter."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.joint import LINKS
from cm2.methods.cm2 import CM2
from cm2.networks.embedding import EmbeddingNormalisation

STAYS = 12


def modalities(count):
    kinds = [
        Modality("series", "series", (6, 4)),
        Modality("note", "text", (8,), vocabulary=50),
        Modality("image", "image", (32, 32)),
        Modality("laboratory", "series", (6, 3)),
        Modality("descriptors", "vector", (5,)),
    ]
    return tuple(kinds[:count])


def make_batch(modalities, present=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for m in modalities:
        if m.kind == "text":
            ids = torch.randint(5, m.vocabulary, (STAYS, *m.shape), generator=generator)
            values[m.name] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        else:
            values[m.name] = torch.rand(STAYS, *m.shape, generator=generator)
    if present is None:
        present = torch.rand(STAYS, len(modalities), generator=generator) < 0.6
        present[:, 0] |= ~present.any(dim=1)
    label = (torch.arange(STAYS) % 3 == 0).float()
    return Batch(values, present, label, torch.arange(STAYS))


def config(**model):
    return Config.from_profile("smoke", {f"model.{name}": value for name, value in model.items()})


def build(count, seed=0, **model):
    torch.manual_seed(seed)
    return CM2(config(**model), modalities(count))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shapes_for_any_number_of_modalities(count):
    method, batch = build(count).eval(), make_batch(modalities(count))
    z, present = method.embed(batch)
    assert z.shape == (STAYS, count, 8)
    assert present is batch.present
    assert method.impute(batch, n_draws=3).shape == (3, STAYS, count, 8)
    probability = method.predict(batch)
    assert probability.shape == (STAYS,)
    assert ((probability > 0) & (probability < 1)).all()
    assert all(term.shape == () and term.isfinite() for term in method.loss(batch).values())


@pytest.mark.parametrize("impute", ["conditional", "conditional_mean", "marginal", "zero", "mean", "token"])
def test_only_present_modalities_are_read(impute):
    method, batch = build(3, impute=impute).eval(), make_batch(modalities(3))

    def prediction(batch):
        torch.manual_seed(1)
        return method.predict(batch)

    changed = {
        name: v if isinstance(v, dict) else torch.where(batch.present[:, m].view(-1, *[1] * (v.ndim - 1)), v, v + 5)
        for m, (name, v) in enumerate(batch.values.items())
    }
    expected = prediction(batch)
    assert torch.equal(prediction(Batch(changed, batch.present, batch.label, batch.stay_id)), expected)

    different = torch.zeros(STAYS, dtype=torch.bool)
    for seed in (2, 3, 4):  # one change that is read may move a prediction by less than its last digit
        torch.manual_seed(seed)
        seen = {
            name: v if isinstance(v, dict) else v + batch.present[:, m].view(-1, *[1] * (v.ndim - 1)) * torch.rand_like(v)
            for m, (name, v) in enumerate(batch.values.items())
        }
        different |= prediction(Batch(seen, batch.present, batch.label, batch.stay_id)) != expected
    assert different[batch.present[:, [0, 2]].any(dim=1)].all()


def test_imputation_keeps_what_is_present_and_draws_the_rest():
    method, batch = build(3).eval(), make_batch(modalities(3))
    z, present = method.embed(batch)
    draws = method.impute(batch, n_draws=4)
    assert torch.equal(draws[:, present], z[present].expand(4, -1, -1))
    assert (draws[:, ~present].var(dim=0) > 0).all()
    assert (method.predictive(batch)[1] > 0)[~present.all(dim=1)].all()


@pytest.mark.parametrize(("link", "types"), [(name, types) for name, link in LINKS.items() for types in link.types])
def test_every_parameter_receives_a_gradient(link, types):
    method, batch = build(3, link=link, types=types), make_batch(modalities(3))
    method.loss(batch)["loss"].backward()
    replaced = {f"joint.marginals.{m}.logits" for m in range(3)} if types == "joint" else set()  # the table's margins take their place
    without = {name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert {name for name in without if "pooler" not in name} <= replaced


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("family", ["vine", "mixture", "student", "joe"])
def test_every_family_trains_imputes_and_is_saved(family, link):
    method, batch = build(3, family=family, link=link), make_batch(modalities(3))
    method.initialise(batch)
    before = {name: p.detach().clone() for name, p in method.joint.copula.named_parameters()}
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    method.loss(batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and (p.grad != 0).all() for p in method.joint.copula.parameters())
    optimiser.step()
    assert all((p != before[name]).all() for name, p in method.joint.copula.named_parameters())
    method.eval()
    draws = method.impute(batch, n_draws=3)
    assert draws.isfinite().all()
    assert (draws[:, ~batch.present].var(dim=0) > 0).all()
    assert -1 < method.state_of_law()["kendall_tau"] < 1
    other = build(3, seed=1, family=family, link=link).eval()
    other.load_state_dict(method.state_dict())
    torch.manual_seed(0)
    expected = method.predict(batch)
    torch.manual_seed(0)
    assert torch.equal(other.predict(batch), expected)


@pytest.mark.parametrize(("count", "pair_family"), [(2, "gaussian"), (4, "gaussian"), (3, "gumbel"), (3, "mixture")])
def test_a_vine_of_any_number_of_modalities(count, pair_family):
    method, batch = build(count, family="vine", pair_family=pair_family), make_batch(modalities(count))
    method.loss(batch)["loss"].backward()
    assert all(p.grad.isfinite().all() and (p.grad != 0).all() for p in method.joint.copula.parameters())
    assert method.eval().impute(batch).isfinite().all()


@pytest.mark.parametrize(("stop", "reached"), [("none", True), ("mixture", True), ("copula", True), ("both", False)])
def test_stop_gradient_keeps_the_law_from_the_encoders(stop, reached):
    method = build(2, stop_gradient=stop, lambda_mix=1.0, lambda_copula=1.0)
    batch = make_batch(modalities(2), present=torch.ones(STAYS, 2, dtype=torch.bool))
    terms = {}
    original = method._law_terms
    method._law_terms = lambda *given: terms.setdefault("law", original(*given))
    method.loss(batch)
    torch.stack(terms["law"]).sum().backward() if reached else None
    weight = next(method.embeddings.encoders["series"].parameters())
    assert (weight.grad is not None and bool(weight.grad.any())) == reached
    if not reached:
        assert terms["law"][0].requires_grad  # the law itself still learns


@pytest.mark.parametrize("impute", ["conditional", "conditional_mean", "marginal"])
@pytest.mark.parametrize("link", LINKS)
def test_a_training_step_never_waits_for_the_device(link, impute):
    """No operation of forward or backward reads a value back to the host."""
    method, batch = build(3, link=link, impute=impute), make_batch(modalities(3))
    with Synchronisations() as found:
        method.loss(batch)["loss"].backward()
    assert found.names == []


class Synchronisations(TorchDispatchMode):
    """Names of the dispatched operations that would make a host wait for its accelerator."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal") or any(
            i is not None and i.dtype == torch.bool for i in indices
        ):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_annealing_follows_the_released_schedule():
    method = build(2, temperature=0.08)
    assert method.annealing() == 1
    method.epoch = 10
    assert method.annealing() == pytest.approx(torch.tensor(0.8).exp().item(), rel=1e-5)
    method.epoch = 200
    assert method.annealing() == pytest.approx(1000)


@pytest.mark.parametrize("normalisation", ["batch", "layer"])
def test_the_mixtures_start_at_the_embeddings_of_a_training_step(normalisation):
    method = build(2, normalisation=normalisation, dropout=0.0)
    batch = make_batch(modalities(2), present=torch.ones(STAYS, 2, dtype=torch.bool))
    method.train()
    method.initialise(batch)
    assert method.training
    with torch.no_grad():
        z, present = method.embed(batch)
        log_prob = method.joint().marginal_log_prob(z, present).mean() / z.shape[-1]
        assert log_prob > -1.42  # of standard normal coordinates under their own law: a mixture fitted to them can only gain
        if normalisation == "batch":
            again, _ = method.eval().embed(batch)
            series = torch.stack([again[:, 0], z[:, 0]])  # the image's encoder has averages of its own
            torch.testing.assert_close(*series, rtol=0.1, atol=0.05)  # up to n / (n - 1)
            assert all(n.batch.momentum == 0.1 for n in method.embeddings.normalisations.values())


def test_overfits_a_few_stays():
    method, batch = build(2), make_batch(modalities(2), present=torch.ones(STAYS, 2, dtype=torch.bool))
    method.initialise(batch)
    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        method.loss(batch)["loss"].backward()
        optimiser.step()
    assert F.binary_cross_entropy(method.eval().predict(batch), batch.label) < 0.1


def test_save_and_load_give_equal_predictions():
    method, other, batch = build(3).eval(), build(3, seed=1).eval(), make_batch(modalities(3))
    other.load_state_dict(method.state_dict())
    torch.manual_seed(0)
    expected = method.predict(batch)
    torch.manual_seed(0)
    assert torch.equal(other.predict(batch), expected)


def test_a_batch_without_one_modality_at_all_works():
    present = torch.tensor([[True, False]]).expand(STAYS, 2)
    method, batch = build(2), make_batch(modalities(2), present=present)
    method.loss(batch)["loss"].backward()
    assert method.predict(batch).isfinite().all()


@pytest.mark.parametrize("how", ["layer", "batch", "l2", "none"])
def test_normalisation(how):
    torch.manual_seed(0)
    z = 3 + 2 * torch.randn(64, 8)
    out = EmbeddingNormalisation(how, 8)(z)
    expected = {
        "layer": (out.mean(dim=1), torch.zeros(64)),
        "batch": (out.mean(dim=0), torch.zeros(8)),
        "l2": (out.norm(dim=1), torch.ones(64)),
        "none": (out, z),
    }
    torch.testing.assert_close(*expected[how], atol=1e-5, rtol=1e-4)
    assert EmbeddingNormalisation(how, 8)(z[:1]).isfinite().all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"expected 2 or more, got series"):
        build(1)
    with pytest.raises(ValueError, match="was built for the modalities"):
        build(2).loss(make_batch(modalities(3)))
    with pytest.raises(ValueError, match="unknown"):
        build(2, family="gumbal")


def test_weights_saved_before_the_embeddings_were_a_module_load():
    method = build(2)
    old = {name.removeprefix("embeddings."): value for name, value in method.state_dict().items()}
    assert old.keys() != method.state_dict().keys()
    other = build(2, seed=1)
    other.load_state_dict(old)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in method.state_dict().items())


def test_terms_per_dimension_count_the_coordinates_that_are_present():
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [True, False, False]]).repeat(3, 1)
    terms = build(3, lambda_mix=1.0, lambda_copula=1.0).loss(make_batch(modalities(3), present))
    coordinates = present.sum() / len(present) * Config.from_profile("smoke").model.embedding_dim
    for name in ("mixture", "copula"):
        torch.testing.assert_close(terms[f"{name}_per_dimension"], terms[name] / coordinates)


def test_a_prediction_is_mean_and_variance_of_the_draws_probabilities():
    present = torch.tensor([[True, True], [True, False], [False, True], [True, True]]).repeat(3, 1)
    method, batch = build(2, n_draws=5).eval(), make_batch(modalities(2), present)
    torch.manual_seed(3)
    mean, variance = method.predictive(batch)
    torch.manual_seed(3)
    z = method.impute(batch, n_draws=5)
    drawn = torch.stack([method.classifier(method.fusion(each)).squeeze(-1).sigmoid() for each in z])
    torch.testing.assert_close(mean, drawn.mean(0))
    torch.testing.assert_close(variance, (drawn - drawn.mean(0)).square().mean(0))  # of these draws, not an estimate for others
    assert (variance[~present.all(1)] > 0).all()
    assert method.predictive(make_batch(modalities(2), torch.ones(12, 2, dtype=torch.bool)))[1].max() == 0, "nothing is drawn"


@pytest.mark.parametrize("impute", ["conditional", "conditional_mean"])
@pytest.mark.parametrize(("reads", "unused"), [("all", False), ("present", True), ("first_two", True)])
def test_a_law_that_neither_loss_nor_fusion_reads_is_unused(reads, unused, impute):
    method, batch = build(3, fusion_reads=reads, impute=impute, lambda_mix=0.0, lambda_copula=0.0), make_batch(modalities(3))
    assert ("joint." in method.unused_parameters) == unused
    method.loss(batch)["loss"].backward()
    means = [mixture.mean.grad for mixture in method.joint.marginals]
    assert any(g is not None and bool(g.abs().sum() > 0) for g in means) == (not unused)
