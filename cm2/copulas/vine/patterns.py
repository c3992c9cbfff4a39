"""Densities and conditional draws of a vine under masks that differ between points, pattern by pattern."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Protocol

import torch
from torch import Size, Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.tails import Tails
from cm2.copulas.vine.hidden import Hidden, plan
from cm2.copulas.vine.recursion import Recursion
from cm2.copulas.vine.structure import VineStructure

UNREAD_DIM = 5
"""Up to this dim a mask on another device than the host is not read."""

Pattern = tuple[frozenset[int], Tensor | None]


class PairLaws(Protocol):
    """Interface of a vine's pair copulas on the edges of its trees; `cm2.copulas.vine.law.VineDistribution` implements it."""

    dim: int
    structure: VineStructure

    @property
    def laws(self) -> Sequence[CopulaDistribution]:
        """One pair copula per edge, in the order of ``structure.edges``."""
        ...

    @property
    def batch_shape(self) -> Size:
        """Batch shape of the pair copulas' parameters."""
        ...


def log_density_of_patterns(law: PairLaws, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
    """Log density of the margin over the mask, which marks two or more coordinates per point; missing values are finite placeholders."""
    shape = torch.broadcast_shapes(log_u.shape[:-1], mask.shape[:-1], law.batch_shape)
    log_u, log1m_u, mask = (each.expand(*shape, law.dim) for each in (log_u, log1m_u, mask))
    value = log_u.new_zeros(shape)
    for present, rows in _patterns(law, mask, at_least=2):
        if rows is not None and not law.batch_shape:
            low, high = (tail.reshape(-1, law.dim).index_select(0, rows) for tail in (log_u, log1m_u))
            part = log_margin(law, low, high, present)
            value = value.flatten().index_copy(0, rows, part).view(shape)
        else:
            value = torch.where(_equals(mask, present), log_margin(law, log_u, log1m_u, present), value)
    return value


def log_margin(law: PairLaws, log_u: Tensor, log1m_u: Tensor, present: frozenset[int]) -> Tensor:
    """Log density of the margin over one set of two or more coordinates, from tails (..., dim) to (...)."""
    points = _points(log_u, log1m_u)
    if plan(law.structure, present).hidden:
        return Hidden(law.structure, law.laws, present, points).log_density()
    recursion = Recursion(law.structure, law.laws, points)
    edges = [edge for edge in law.structure.edges if edge.union <= present]
    return sum((recursion.log_density(edge) for edge in edges), start=torch.zeros_like(log_u[..., 0]))


def draw_patterns(law: PairLaws, log_u: Tensor, log1m_u: Tensor, present: Tensor, levels: Tails) -> Tails:
    """Draws missing coordinates at levels (n_draws, ..., dim) given the observed ones (..., dim); observed entries are unspecified."""
    shape = levels[0].shape
    low, high = levels
    for pattern, rows in _patterns(law, present, at_least=0):
        if len(pattern) == law.dim:
            continue
        if rows is not None and not law.batch_shape:
            given_low, given_high = (tail.reshape(-1, law.dim).index_select(0, rows) for tail in (log_u, log1m_u))
            own_low, own_high = (level.reshape(len(level), -1, law.dim).index_select(1, rows) for level in levels)
            drawn = _draw(law, given_low, given_high, pattern, own_low, own_high)
            low, high = (
                tail.reshape(len(tail), -1, law.dim).index_copy(1, rows, part).view(shape)
                for tail, part in zip((low, high), drawn, strict=True)
            )
        else:
            here = _equals(present, pattern).unsqueeze(-1)
            drawn = _draw(law, log_u, log1m_u, pattern, *levels)
            low, high = torch.where(here, drawn[0], low), torch.where(here, drawn[1], high)
    return low, high


def _draw(law: PairLaws, log_u: Tensor, log1m_u: Tensor, present: frozenset[int], log_p: Tensor, log1m_p: Tensor) -> Tails:
    """Draws for one pattern: hidden coordinates numerically, the others by the inverse Rosenblatt transform."""
    way = plan(law.structure, present)
    points = {v: tails for v, tails in _points(log_u, log1m_u).items() if v in present}
    levels = _points(log_p, log1m_p)
    if way.hidden:
        levels = levels | Hidden(law.structure, law.laws, present, points).draw(levels)
    recursion = Recursion(law.structure, law.laws, points)
    for v in way.order:
        if v not in present:
            recursion.draw(v, way.columns[v], levels[v])
    columns = [recursion.tails(v) if v not in present else levels[v] for v in range(law.dim)]
    low, high = (torch.stack(torch.broadcast_tensors(*each), -1).expand(log_p.shape) for each in zip(*columns, strict=True))
    return low, high


def _points(log_u: Tensor, log1m_u: Tensor) -> dict[int, Tails]:
    return dict(enumerate(zip(log_u.unbind(-1), log1m_u.unbind(-1), strict=True)))


def _equals(mask: Tensor, present: frozenset[int]) -> Tensor:
    """Which points have a mask (..., dim) that marks exactly these coordinates."""
    same = [mask[..., v] if v in present else ~mask[..., v] for v in range(mask.shape[-1])]
    return torch.stack(same, -1).all(-1)


def _patterns(law: PairLaws, mask: Tensor, at_least: int) -> Iterator[Pattern]:
    """The patterns to evaluate, and for each the rows of the flattened mask that have it (None: unknown, as the mask is not read)."""
    if not _reads(mask, law.dim):
        yield from every_pattern(law.dim, at_least)
        return
    # a mask as an integer: one sort finds the patterns that occur
    code = (mask.reshape(-1, law.dim).long() << torch.arange(law.dim, device=mask.device)).sum(-1)
    occurring, which = torch.unique(code, return_inverse=True)
    for i, number in enumerate(occurring.tolist()):
        present = frozenset(v for v in range(law.dim) if number >> v & 1)
        if len(present) >= at_least:
            yield present, (which == i).nonzero().squeeze(-1)


def _reads(mask: Tensor, dim: int) -> bool:
    """Whether the host reads the mask; on another device that has to wait."""
    return mask.is_cpu or dim > UNREAD_DIM


def every_pattern(dim: int, at_least: int) -> Iterator[Pattern]:
    """All sets of at least `at_least` coordinates, without rows."""
    for count in range(at_least, dim + 1):
        for present in combinations(range(dim), count):
            yield frozenset(present), None
