"""Every stay with every candidate: the dependence term of the pairs, one by one."""

from __future__ import annotations

import pytest
import torch

from tests.joint.laws import CASES, joint


@pytest.mark.parametrize(("link", "types"), [*CASES, ("paper", "independent")])
def test_cross_dependence_is_that_of_the_pairs(link, types):
    law = joint("gumbel", link, 3, modalities=3, types=types).double().requires_grad_(False)()
    z, candidates = torch.randn(4, 3, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    present = torch.tensor([[True, True, True], [True, False, False], [False, True, True], [True, True, False]])
    z[~present] = torch.nan
    z[:, 1] = torch.where(present[:, 1, None], torch.nan, z[:, 1])  # the target's own rows are not read, whatever stands there
    present[2] = torch.tensor([False, False, True])
    found = law.cross_dependence(z, present, candidates, target=1)
    for i in range(4):
        for j in range(5):
            pair, mask = z[i].clone(), present[i].clone()
            pair[1], mask[1] = candidates[j], True
            assert float(found[i, j]) == pytest.approx(float(law.dependence(pair, mask)), abs=1e-12)


def test_a_query_without_any_other_modality_is_refused():
    law = joint("frank", "component", 2).requires_grad_(False)()
    with pytest.raises(ValueError, match="a stay has no modality"):
        law.cross_dependence(torch.randn(1, 2, 2), torch.tensor([[True, False]]), torch.randn(3, 2), target=0)
