"""Density, Rosenblatt transform and its inverse beside pyvinecopulib's."""

import numpy as np
import pytest
import pyvinecopulib as pv
import torch

from cm2.copulas import make
from cm2.copulas.vine import Vine, VineStructure

KINDS = [(kind, dim) for kind in ("c", "d", "r", "truncated") for dim in range(3, 9)]
ONE_SIDED = {"clayton": (0.3, 4.0), "gumbel": (1.1, 4.0), "joe": (1.1, 4.0)}
SAMPLES = 300


def pair(rng):
    """A pair copula of theirs and of ours."""
    name = str(rng.choice(["independence", "gaussian", "student", "frank", *ONE_SIDED, *ONE_SIDED]))
    rotation = int(rng.choice([0, 90, 180, 270])) if name in ONE_SIDED else 0
    parameters = {
        "independence": dict,
        "gaussian": lambda: {"rho": rng.uniform(-0.8, 0.8)},
        "student": lambda: {"rho": rng.uniform(-0.8, 0.8), "nu": rng.uniform(2.5, 12)},
        "frank": lambda: {"alpha": rng.choice([-1, 1]) * rng.uniform(1, 8)},
    }.get(name, lambda: {"alpha": rng.uniform(*ONE_SIDED[name])})()
    family = pv.BicopFamily.indep if name == "independence" else getattr(pv.BicopFamily, name)
    theirs = pv.Bicop(family, rotation, np.array([*parameters.values()]).reshape(-1, 1)) if parameters else pv.Bicop(family)
    return theirs, make(name, 2, rotation=rotation, **parameters)


def both(kind, dim):
    """The same vine, theirs and ours, and points."""
    rng = np.random.default_rng(10 * dim + len(kind))
    if kind in ("c", "d"):
        structure = getattr(VineStructure, f"{kind}_vine")(rng.permutation(dim).tolist())
        structure = VineStructure.from_matrix(structure.matrix)  # the edges in the order of the matrix
    else:
        structure = VineStructure.from_matrix(np.asarray(pv.RVineStructure.sample(dim, seeds=[dim, 5]).matrix).astype(int))
    if kind == "truncated":
        structure = structure.truncate(max(1, dim // 2))
    pairs = [[pair(rng) for _ in tree] for tree in structure.trees]
    matrix = np.asfortranarray(structure.matrix.astype(np.uint64))
    theirs = pv.Vinecop.from_structure(matrix=matrix, pair_copulas=[[each[0] for each in tree] for tree in pairs])
    ours = Vine(dim, structure, [[each[1] for each in tree] for tree in pairs])()
    u = np.concatenate([rng.uniform(0.02, 0.98, (SAMPLES, dim)), ours.sample((SAMPLES,)).detach().clamp(1e-6, 1 - 1e-6).numpy()])
    return theirs, ours, np.asfortranarray(u)


def inside(*levels):
    """Points at which no level on the way is near 0 or 1: pyvinecopulib trims at 1e-10, and keeps of a level near 1 no upper tail."""
    return np.all([((level > 1e-5) & (level < 1 - 1e-5)).all(-1) for level in levels], 0)


@pytest.mark.parametrize(("kind", "dim"), KINDS)
def test_agreement_with_pyvinecopulib(kind, dim):
    theirs, ours, u = both(kind, dim)
    with torch.no_grad():
        w = ours.rosenblatt(torch.from_numpy(u)).numpy()
        kept = inside(u, _levels(ours, u).numpy())
        assert kept.mean() > 0.4
        log_density = ours.log_prob(torch.from_numpy(u)).numpy()
        back = ours.inverse_rosenblatt(torch.from_numpy(w)).numpy()
    scale = np.maximum(1, np.abs(log_density[kept]))
    # theirs cuts levels off at 1e-10, which moves a density by some 1e-8
    assert (np.abs(log_density - theirs.logpdf(u))[kept] / scale).max() < 1e-7
    assert np.abs(w - theirs.rosenblatt(u))[kept].max() < 1e-7
    # their h is inverted by bisection for some families: the round trip of ours is the sharper check
    assert np.abs(back - u)[inside(u, w) & kept].max() < 1e-6
    v = np.asfortranarray(np.random.default_rng(0).uniform(0.05, 0.95, (40, dim)))
    mine = ours.inverse_rosenblatt(torch.from_numpy(v)).detach()
    assert np.abs(mine.numpy() - theirs.inverse_rosenblatt(v)).max() < 1e-6
    np.testing.assert_allclose(ours.rosenblatt(mine).detach().numpy(), v, rtol=0, atol=1e-8)


def _levels(law, u):
    """All conditional distribution functions on the way, (n, count)."""
    points = torch.from_numpy(u)
    recursion = law._recursion(torch.log(points), torch.log1p(-points))
    for edge in law.structure.edges:
        recursion.log_density(edge)
    return torch.exp(torch.stack([low for low, _ in recursion.known.values()], -1))


def test_pairs_in_reading_order_are_theirs_of_a_d_vine():
    families = ["gaussian", "clayton", "frank"]
    values = {"gaussian": {"rho": 0.5}, "clayton": {"alpha": 2.0}, "frank": {"alpha": 4.0}}
    trees = [families, families[:2], families[:1]]
    ours = make("vine", 4, pair_copulas=[[make(name, 2, **values[name]) for name in tree] for tree in trees])()
    theirs = pv.Vinecop.from_structure(
        structure=pv.DVineStructure([1, 2, 3, 4]),
        pair_copulas=[[pv.Bicop(getattr(pv.BicopFamily, n), 0, np.array([*values[n].values()]).reshape(-1, 1)) for n in t] for t in trees],
    )
    u = np.asfortranarray(np.random.default_rng(1).uniform(0.05, 0.95, (50, 4)))
    np.testing.assert_allclose(ours.log_prob(torch.from_numpy(u)).detach().numpy(), theirs.logpdf(u), rtol=0, atol=1e-8)
