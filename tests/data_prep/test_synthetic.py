"""The simulator: its law, its outcomes, its missingness, and that what it draws can be learned from."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score

from cm2.book.checks import FALSE_ALARM, check
from cm2.cohorts import load_cohort
from cm2.copulas import FAMILIES
from cm2.evaluation.simulation_truth import Truth
from data_prep import prepare_synthetic
from data_prep.channels import CHANNELS, continuous_columns, feature_names
from data_prep.synthetic import prepare
from data_prep.synthetic.law import MODALITIES, SEPARATION, copula_parameters, make_law
from data_prep.synthetic.outcomes import calibrate, draw_outcomes, expected_auroc, probabilities
from data_prep.synthetic.series import CHARTING, draw_series


@pytest.fixture(autouse=True, scope="module")
def quick_calibration():
    """Intercepts from 2,000 draws instead of 40,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "CALIBRATION_DRAWS", 2000)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare_synthetic(tmp_path_factory.mktemp("synthetic") / "cohort", stays=1500, image_size=32, absent={})


@pytest.fixture(scope="module")
def cohort(folder):
    return load_cohort(folder)


@pytest.fixture(scope="module")
def factors(folder):
    return make_law().factors(np.load(folder / "truth" / "latent.npy"))


def small(out, **options):
    return prepare_synthetic(out, **({"stays": 60, "image_size": 32} | options))


def test_shapes(cohort):
    assert [(m.name, m.kind, m.shape) for m in cohort.modalities[:2]] == [("series", "series", (24, 76)), ("image", "image", (32, 32))]
    assert cohort.manifest["splits"] == {"train": 975, "valid": 225, "test": 300}
    assert cohort.tasks == ("in_hospital_mortality", "readmission")
    assert (cohort.stays["readmission"] >= cohort.stays["in_hospital_mortality"]).all()


def test_the_76_columns():
    names = feature_names()
    assert len(names) == 76 and len(continuous_columns()) == 12
    assert names[:4] == ["Capillary refill rate->0.0", "Capillary refill rate->1.0", "Diastolic blood pressure", "Fraction inspired oxygen"]
    assert names[58:60] == ["pH", "mask->Capillary refill rate"] and names[-1] == "mask->pH"
    assert [sum(len(c.categories) for c in CHANNELS), len(CHANNELS)] == [47, 17]


def test_series_are_physiological_and_carried_forward():
    x = np.random.default_rng(0).normal(size=(400, 8))
    series = draw_series(x, np.random.default_rng(1))
    names = feature_names()
    column = lambda name: series[:, :, names.index(name)]
    for name, low, high in (
        ("Heart Rate", 20, 180),
        ("Oxygen saturation", 50, 100),
        ("Fraction inspired oxygen", 0.2099, 1),
        ("pH", 7, 7.8),
    ):
        assert low <= column(name).min() and column(name).max() <= high, name
    for channel in CHANNELS:
        mask = column(f"mask->{channel.name}")
        assert set(np.unique(mask)) <= {0, 1} and mask.mean() == pytest.approx(CHARTING[channel.name].charted, abs=0.06)
        if channel.categories:
            one_hot = np.stack([column(f"{channel.name}->{category}") for category in channel.categories])
            assert (one_hot.sum(axis=0) == 1).all()
            assert (one_hot[int(channel.normal)][np.maximum.accumulate(mask, axis=1) == 0] == 1).all()
        else:
            value = column(channel.name)
            assert (value[:, 1:] == value[:, :-1])[mask[:, 1:] == 0].all()
            np.testing.assert_allclose(value[np.maximum.accumulate(mask, axis=1) == 0], channel.normal, rtol=1e-6)


def test_continuous_columns_are_standardised_with_the_training_split(cohort):
    train = (cohort.stays["split"] == "train").to_numpy()
    values = cohort.array("series")[train][:, :, continuous_columns()].astype("float64")
    np.testing.assert_allclose(values.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=(0, 1)), 1, atol=1e-4)
    assert len(cohort.manifest["normalisation"]["series"]["mean"]) == 12


def test_factors_have_the_moments_of_the_law():
    law, n = make_law(), 20_000
    x = law.factors(law.draw(n, 3))
    check("means", x.mean(axis=0), near=0, standard_error=n**-0.5)
    check("variances", x.var(axis=0), near=1, standard_error=x.var(axis=0) * np.sqrt((stats.kurtosis(x) + 2) / n))


@pytest.mark.parametrize("dim", [2, 3, 8, 16])
def test_types_are_apart(dim):
    law = make_law(dim=dim)
    for mixture in law.joint.marginals:
        distances = torch.cdist(mixture.mean, mixture.mean)[~torch.eye(3, dtype=torch.bool)]
        assert distances.min() >= SEPARATION
    assert np.abs(law.rotation @ law.rotation.transpose(0, 2, 1) - np.eye(dim)).max() < 1e-10


def test_types_are_recognised(folder):
    labels = np.load(folder / "truth" / "labels.npy")
    assert labels.shape == (1500, 3)
    share = np.array([0.5, 0.3, 0.2])
    check("types", np.bincount(labels[:, 0]) / 1500, near=share, standard_error=np.sqrt(share * (1 - share) / 1500))


@pytest.mark.parametrize(("family", "option", "sign"), [("gumbel", {}, 1), ("independence", {}, 0), ("gaussian", {"rho": -0.4}, -1)])
def test_dependence_of_severities(family, option, sign):
    law = make_law(family, **option)
    x = law.factors(law.draw(4000, 0))
    tau = stats.kendalltau(x[:, 0, 0], x[:, 2, 0])
    assert (np.sign(tau.statistic) if tau.pvalue < FALSE_ALARM else 0) == sign


@pytest.mark.parametrize("family", [name for name, each in FAMILIES.items() if each.simulated])
def test_every_family_is_simulated_with_the_parameters_that_it_was_given(family, tmp_path):
    takes = copula_parameters(family)
    given = {name: {"alpha": 3.5, "rho": 0.3, "nu": 5.0}[name] for name in takes}
    folder = prepare_synthetic(tmp_path / "c", stays=40, image_size=32, family=family, **given)
    told = json.loads((folder / "truth" / "truth.json").read_text())
    assert {name: told[name] for name in takes} == given == {k: load_cohort(folder).manifest["parameters"][k] for k in takes}
    law = Truth.of(load_cohort(folder)).joint().copula()
    for name, value in given.items():
        own = law.correlation[0, 1] if name == "rho" else getattr(law, name)
        assert float(own) == pytest.approx(value)
    for stray in {"alpha", "rho", "nu"} - set(takes):
        with pytest.raises(ValueError, match=f"the {family} copula takes no {stray}"):
            make_law(family, **{stray: 0.4})


@pytest.mark.parametrize(("family", "near"), [("mixture", ""), ("gumble", "did you mean 'gumbel'")])
def test_a_family_that_cannot_be_simulated_is_named(family, near):
    with pytest.raises(ValueError, match=f"no cohort is simulated from '{family}'.*{near}"):
        make_law(family)


def test_prevalences_and_oracle_of_the_law():
    law = make_law()
    intercepts = calibrate(law.factors(law.draw(20_000, 1)))
    x = law.factors(law.draw(20_000, 2))
    truth, outcomes = probabilities(x, intercepts), draw_outcomes(x, intercepts, np.random.default_rng(0))
    for task, prevalence in (("in_hospital_mortality", 0.126), ("readmission", 0.184)):
        error = np.sqrt(2 * prevalence * (1 - prevalence) / 20_000)  # of these outcomes and of those that the intercepts were set on
        check(f"prevalence of {task}", [truth[task].mean(), outcomes[task].mean()], near=prevalence, standard_error=error)
        # the AUROC's variance is at most A (1 - A) over the positives
        auroc = roc_auc_score(outcomes[task], truth[task])
        error = np.sqrt(auroc * (1 - auroc) / outcomes[task].sum())
        check(f"the oracle's AUROC of {task}", expected_auroc(truth[task]), near=auroc, standard_error=error)
        assert 0.87 < expected_auroc(truth[task]) < 0.93
    assert (truth["readmission"] >= truth["in_hospital_mortality"]).all()


def test_every_modality_and_the_interaction_matter(folder, factors):
    intercepts = {task: entry["intercept"] for task, entry in json.loads((folder / "truth" / "truth.json").read_text())["outcomes"].items()}
    full = probabilities(factors, intercepts)
    stored = pd.read_parquet(folder / "truth" / "probabilities.parquet")
    for task in full:
        np.testing.assert_allclose(stored[task], full[task])
        for m in range(3):
            without = factors.copy()
            without[:, m] = 0
            assert np.abs(probabilities(without, intercepts)[task] - full[task]).mean() > 0.02


def test_the_stored_law_is_the_law(folder):
    law = make_law()
    stored = load_file(folder / "truth" / "law.safetensors")
    z = torch.from_numpy(np.load(folder / "truth" / "latent.npy")[:50])
    expected = law.joint().log_prob(z)
    other = make_law(alpha=1.1)
    other.joint.load_state_dict(stored)
    torch.testing.assert_close(other.joint().log_prob(z), expected)
    truth = json.loads((folder / "truth" / "truth.json").read_text())
    assert (truth["family"], truth["alpha"], truth["modalities"]) == ("gumbel", 2.5, list(MODALITIES))
    np.testing.assert_allclose(truth["means"][1], law.joint.marginals[1].mean.detach().numpy())


def test_embeddings_can_be_recovered_from_observations(cohort, factors):
    series = np.asarray(cohort.array("series"))
    trend = np.linspace(-1, 1, 24)[None, :, None]
    images = np.asarray(cohort.array("image")).reshape(1500, -1) / 255
    words = sorted({" ".join(pair) for text in cohort.texts("note") for pair in zip(text.split(), text.split()[1:], strict=False)})
    notes = np.array([[pair in text for pair in words] for text in cohort.texts("note")], dtype=float)
    train = (cohort.stays["split"] != "test").to_numpy()
    for m, seen, least in ((0, np.concatenate([series.mean(1), (series * trend).mean(1)], 1), 0.9), (1, images, 0.6), (2, notes, 0.6)):
        scaled = (seen - seen[train].mean(0)) / (seen[train].std(0) + 1e-6)
        ridge = RidgeCV(np.logspace(1, 5, 5)).fit(scaled[train], factors[train, m])
        error = ((ridge.predict(scaled) - factors[:, m])[~train] ** 2).mean(axis=0)
        assert (1 - error).min() > least, MODALITIES[m]


def test_equal_seeds_give_equal_bytes(tmp_path):
    sums = [json.loads((small(tmp_path / n, seed=s) / "manifest.json").read_text())["checksums"] for n, s in (("a", 3), ("b", 3), ("c", 4))]
    assert sums[0] == sums[1]
    assert sums[0]["truth/law.safetensors"] == sums[2]["truth/law.safetensors"]
    assert all(sums[0][file] != sums[2][file] for file in sums[0] if "law" not in file and "truth.json" not in file)


def test_the_callers_generator_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    small(tmp_path / "c")
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
def test_missingness(tmp_path, mechanism):
    cohort = load_cohort(
        prepare_synthetic(tmp_path / "c", stays=1200, image_size=32, absent={"image": 0.7, "note": 0.3}, mechanism=mechanism)
    )
    assert cohort.present[:, 0].all()
    check("shares", cohort.present.mean(axis=0), near=[1, 0.3, 0.7], standard_error=np.sqrt([0, 0.21 / 1200, 0.21 / 1200]))
    x, there = make_law().factors(np.load(tmp_path / "c" / "truth" / "latent.npy"))[:, 1, 0], cohort.present[:, 1]
    gap, error = x[~there].mean() - x[there].mean(), np.sqrt(1 / there.sum() + 1 / (~there).sum())
    if mechanism == "mcar":
        check("whose image is absent is a matter of chance", gap, near=0, standard_error=error)
    else:  # eight standard errors and more
        check("the severely ill lack their image", gap, above=2 * error)


def test_no_stay_is_empty(tmp_path):
    cohort = load_cohort(small(tmp_path / "c", absent=dict.fromkeys(MODALITIES, 0.95)))
    assert cohort.present.any(axis=1).all() and cohort.manifest["counts"]["kept_one_modality"] > 40


def test_evaluation_takes_from_those_who_are_left(tmp_path):
    cohort = load_cohort(small(tmp_path / "c", stays=600, absent={"image": 0.5}))
    before, after = (cohort.split("train", "readmission", absent=absent).present[:, 1].sum() for absent in ({}, {"image": 0.5}))
    check("the share that is left", after / before, near=0.5, standard_error=0.5 / np.sqrt(before))


@pytest.mark.parametrize("link", ["scalar", "dimension"])
def test_other_links(tmp_path, link):
    assert json.loads((small(tmp_path / "c", link=link) / "truth" / "truth.json").read_text())["link"] == link


def test_a_second_call_writes_nothing(tmp_path):
    before = (small(tmp_path / "c") / "manifest.json").stat().st_mtime_ns
    assert (small(tmp_path / "c") / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="exists and is not the synthetic cohort with these parameters"):
        small(tmp_path / "c", seed=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stays": 3}, "stays: got 3"),
        ({"image_size": 8}, "image_size: got 8"),
        ({"dim": 1}, "dim: got 1"),
        ({"family": "gumble"}, "gumble"),
        ({"alpha": 0.5}, "alpha"),
        ({"family": "gaussian", "rho": -0.7}, "rho: got -0.7"),
        ({"link": "paper"}, "paper"),
        ({"absent": {"ecg": 0.5}}, "unknown modality 'ecg'"),
        ({"absent": {"image": 2}}, "rate of image is 2"),
        ({"mechanism": "never"}, "mechanism: unknown value 'never'"),
    ],
)
def test_wrong_arguments(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        small(tmp_path / "c", **options)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError, match="modalities"):
        small(tmp_path / "c", modalities=2)
