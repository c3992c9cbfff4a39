"""One point without batch dimensions is what the joint hands to a vine when it draws stays."""

import torch

from cm2.copulas.vine import Vine

PRESENT = torch.tensor([True, False, True])


def test_one_point_has_the_density_it_has_in_a_batch() -> None:
    law, u = Vine(3).double()(), torch.tensor([0.2, 0.4, 0.9], dtype=torch.float64)
    torch.testing.assert_close(law.log_prob(u, PRESENT), law.log_prob(u[None], PRESENT[None])[0])


def test_one_point_is_completed() -> None:
    law, u = Vine(3).double()(), torch.tensor([0.2, 0.4, 0.9], dtype=torch.float64)
    draws = law.conditional_sample(u, PRESENT, 5)
    assert draws.shape == (5, 3)
    torch.testing.assert_close(draws[:, PRESENT], u[PRESENT].expand(5, 2))
    assert law.conditional_sample(u, torch.zeros(3, dtype=torch.bool), 5).shape == (5, 3)
