"""The family of each direction, chosen by the fit of a law."""

import pytest
import torch

from cm2.copulas import make
from cm2.copulas.chosen import Chosen, counted
from cm2.joint import CopulaJoint
from cm2.joint.diagnostics import describe
from cm2.joint.families import choose_families
from cm2.marginals import GaussianMixture

N, DIM, COUNT = 3_000, 4, 3
TAU = {"gaussian": 0.7, "clayton": 0.5, "gumbel": 0.35}
"""Strong enough to be told apart by 3,000 stays; of different strength, so that the directions come in this order."""


def _law(dim=2):
    return CopulaJoint([Chosen(dim) for _ in range(COUNT)], [GaussianMixture(1, DIM) for _ in range(dim)], "vector", directions=COUNT)


def _embeddings(families, modalities=2, seed=0):
    """Embeddings N(0, I) of which coordinate j is coupled by the j-th family; the others are independent."""
    torch.manual_seed(seed)
    z = torch.randn(N, modalities, DIM, dtype=torch.float64)
    for j, family in enumerate(families):
        copula = make(family, modalities, kendall_tau=TAU[family]).double()
        z[:, :, j] = torch.special.ndtri(copula(validate_args=False).sample((N,)))
    return z


def _scores(z):
    return z[:, :, :COUNT].mT


def _likelihood(copulas, z, sign):
    return sum(copula(validate_args=False).log_prob_scores(sign[j] * z[:, :, j]).sum() for j, copula in enumerate(copulas))


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_true_families_are_found_and_turned_the_right_way(modalities):
    z = _embeddings(TAU, modalities)
    turned = z * torch.tensor([1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    copulas = [Chosen(modalities).double() for _ in range(COUNT)]
    every = torch.ones(N, modalities, dtype=torch.bool)
    sign = choose_families(copulas, _scores(turned), every)
    truth = sum(make(f, modalities, kendall_tau=TAU[f]).double()().log_prob_scores(z[:, :, j]).sum() for j, f in enumerate(TAU))
    assert _likelihood(copulas, turned, sign) > truth - COUNT, "no family of these has a likelihood below the truth's by more than its AIC"
    assert copulas[0].family == "gaussian"
    # a Joe copula turned round is nearly a Clayton copula, and a Gumbel copula's neighbour
    assert copulas[1].family in ("clayton", "joe") and copulas[2].family in ("gumbel", "joe")
    assert sign[1] == (-1 if copulas[1].family == "clayton" else 1)


def test_a_direction_without_dependence_is_independent():
    copulas = [Chosen(2).double() for _ in range(COUNT)]
    choose_families(copulas, _scores(_embeddings([])), torch.ones(N, 2, dtype=torch.bool))
    assert [copula.family for copula in copulas].count("independence") >= 2, "AIC takes one parameter too many in one case of six"


def test_stays_that_lack_a_modality_are_read_for_the_others():
    z, present = _embeddings(TAU, 3), torch.ones(N, 3, dtype=torch.bool)
    present[: N // 2, 2] = False
    copulas = [Chosen(3).double() for _ in range(COUNT)]
    choose_families(copulas, _scores(torch.where(present[..., None], z, torch.nan)).nan_to_num(), present)
    assert copulas[0].family == "gaussian" and copulas[1].family in ("clayton", "joe")


def test_a_fit_of_the_joint_chooses_and_a_state_remembers(tmp_path):
    law, z = _law(), _embeddings(TAU).float()
    assert [copula.family for copula in law.copula] == ["independence"] * COUNT
    chosen = law.fit(z)
    fixed = CopulaJoint(make("gaussian", 2).side_by_side(COUNT), [GaussianMixture(1, DIM) for _ in range(2)], "vector", directions=COUNT)
    assert chosen.dependence > fixed.fit(z).dependence, "of three directions one is Gaussian"
    found = {copula.family for copula in law.copula}
    assert "gaussian" in found and len(found) == 3
    other = _law()
    other.load_state_dict(law.state_dict())
    assert [copula.family for copula in other.copula] == [copula.family for copula in law.copula]
    torch.testing.assert_close(other().log_prob(z), law().log_prob(z))
    again = law.fit(z)
    assert {copula.family for copula in law.copula} == found and again.dependence == pytest.approx(chosen.dependence, rel=1e-3)
    told = describe(law, z, torch.ones(N, 2, dtype=torch.bool))
    assert sum(value for name, value in told.items() if name.startswith("family_")) == COUNT and told["family_gaussian"] == 1


def test_what_copies_parameters_copies_the_choice():
    first, second = Chosen(2), Chosen(2)
    first.choose("frank", {"raw": torch.tensor(1.5)} if "raw" in first.candidates["frank"].state_dict() else None)
    with torch.no_grad():
        for own, other in zip(second.parameters(), first.parameters(), strict=True):
            own.copy_(other)
    second.load_state_dict(second.state_dict())
    assert second.family == first.family == "frank" and counted([first, second])["family_frank"] == 2
    assert counted([]) == {}
    torch.testing.assert_close(second().kendall_tau, first().kendall_tau)


def test_no_family_of_another_law_is_counted():
    law = CopulaJoint(make("gaussian", 2), [GaussianMixture(1, DIM) for _ in range(2)])
    assert not any(name.startswith("family_") for name in describe(law, torch.randn(50, 2, DIM), torch.ones(50, 2, dtype=torch.bool)))
