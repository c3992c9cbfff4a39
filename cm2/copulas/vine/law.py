r"""Distribution of a vine copula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Size, Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.independence import IndependenceDistribution
from cm2.copulas.sample_dependence import pairs_of, sample_kendall_tau
from cm2.copulas.tails import Tails, refuse_boundary, to_unit_interval, uniform_tails
from cm2.copulas.vine.nodes import lattice
from cm2.copulas.vine.patterns import draw_patterns, log_density_of_patterns
from cm2.copulas.vine.recursion import Recursion
from cm2.copulas.vine.structure import VineStructure
from cm2.errors import InputError
from cm2.numerics.elementary import LOG_HALF

if TYPE_CHECKING:
    from cm2.copulas.vine.structure import Edge

# lattice points for the CDF and Spearman's rho, and for Kendall's tau; values in memory at a time
_CDF_POINTS, _TAU_POINTS, _CHUNK = 2**12, 2**14, 2**19


class VineDistribution(CopulaDistribution):
    r""":math:`c(u) = \prod_{(a,b \mid D)} c_{ab|D}\{F(u_a \mid u_D), F(u_b \mid u_D)\}` over the edges of a vine's trees.

    Sources: Bedford and Cooke 2002; Aas, Czado, Frigessi, Bakken 2009; Joe 2014, section 3.9. The conditional CDFs are computed by
    `Recursion`, all in tails.

    Margins. Missing coordinates that can be drawn last drop out exactly; others are integrated out numerically (`hidden.Hidden`). With one
    hidden coordinate the error of the log density is 1e-8 at typical points, and 1e-2 at the worst of several hundred if dependence is
    strong (:math:`|\tau| = 0.8`); with two it is 1e-5, but of order 1, hence useless, if dependence is strong; with more, 1e-2 at best. The
    error of the conditional CDF from which draws are made is about 1e-4, 1e-3 and 1e-2. Margins over, and draws given, a set with which
    some sampling order begins are exact: choose the trees such that this holds for the sets you need.

    Masks. A mask on the host is read, and each pattern in it is evaluated for its own points. A mask on another device is not read up to
    dim 5: all patterns are evaluated for all points; above, one read of the mask finds the patterns that occur.

    Args:
        structure: the trees.
        laws: pair copulas in the order of `structure.edges`, each of the (first, second) conditioned coordinate.
        validate_args: see `CopulaDistribution`.
        like: a tensor with the dtype and device of the distribution, for a vine without edges.

    Raises:
        ValueError: a number of pair copulas other than that of the edges, or one that is not of dim 2.
    """

    def __init__(
        self, structure: VineStructure, laws: Sequence[CopulaDistribution], validate_args: bool | None = None, like: Tensor | None = None
    ) -> None:
        if len(laws) != len(structure.edges):
            raise InputError(f"{len(laws)} pair copulas given for a vine of {len(structure.edges)} edges")
        for edge, law in zip(structure.edges, laws, strict=True):
            if law.dim != 2:
                raise InputError(f"the copula of edge {edge} has dim {law.dim}; pair copulas have dim 2")
        batch = torch.broadcast_shapes(*(law.batch_shape for law in laws))
        self.structure = structure
        self.like = torch.zeros(()) if like is None else like
        self.laws = tuple(law if law.batch_shape == batch else law.expand(batch) for law in laws)
        super().__init__(structure.dim, batch, validate_args)

    # the transform to independent uniforms

    def rosenblatt(self, u: Tensor) -> Tensor:
        r"""The Rosenblatt transform :math:`w_v = F(u_v \mid u_{\text{before } v})` in the sampling order of the structure.

        Args:
            u: points in (0, 1), (..., dim).

        Returns:
            (..., dim), each coordinate in its original position; independent uniforms if u has this distribution. A value that rounds to 0
            or 1 becomes the nearest float inside.

        Raises:
            ValueError: wrong last dimension, NaN, or a value outside (0, 1).
        """
        self._require_inside(u)
        return to_unit_interval(*self.rosenblatt_tails(torch.log(u), torch.log1p(-u)))

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """`rosenblatt` from and to the tails."""
        recursion, columns = self._recursion(log_u, log1m_u), self.structure.columns
        return _stack([recursion.level(v, columns[v]) for v in range(self.dim)])

    def inverse_rosenblatt(self, w: Tensor) -> Tensor:
        """The u whose `rosenblatt` transform is w, (..., dim); differentiable in w and in the parameters. Errors as for `rosenblatt`."""
        self._require_inside(w)
        return to_unit_interval(*self.inverse_rosenblatt_tails(torch.log(w), torch.log1p(-w)))

    def inverse_rosenblatt_tails(self, log_w: Tensor, log1m_w: Tensor) -> Tails:
        """`inverse_rosenblatt` from and to the tails."""
        recursion, levels = Recursion(self.structure, self.laws, {}), _columns(log_w, log1m_w)
        for v in self.structure.order:
            recursion.draw(v, self.structure.columns[v], levels[v])
        return _stack([recursion.tails(v) for v in range(self.dim)])

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws by the inverse Rosenblatt transform, (*sample_shape, *batch, dim), differentiable in all parameters."""
        levels = uniform_tails(self._extended_shape(Size(sample_shape)), self._like())
        return to_unit_interval(*self.inverse_rosenblatt_tails(*levels))

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails:
        """`conditional_sample` from and to the tails: (log u, log(1 - u)), each (n_draws, ..., dim)."""
        if n_draws < 1:
            raise InputError(f"n_draws is {n_draws}; ask for at least one draw")
        shape = torch.broadcast_shapes(log_u.shape, present.shape, (*self.batch_shape, self.dim))
        present = present.expand(shape)
        safe, safe1m = (torch.where(present, tail, LOG_HALF) for tail in (log_u, log1m_u))
        low, high = draw_patterns(self, safe, safe1m, present, uniform_tails(Size((n_draws, *shape)), safe))
        return torch.where(present, safe, low), torch.where(present, safe1m, high)

    # dependence

    @property
    def kendall_tau(self) -> Tensor:
        """Kendall's τ, shape of the batch in two dimensions, (*batch, dim, dim) in more.

        Pairs of the first tree are exact and differentiable. The others use 16,384 lattice points: within about 3e-3, without gradient.
        """
        if self.dim == 2:
            return self._only.kendall_tau
        with torch.no_grad():
            w = lattice(_TAU_POINTS, self.dim, self._like())
            points = self.inverse_rosenblatt_tails(*_with_batch(torch.log(w), torch.log1p(-w), self))
            u = to_unit_interval(*points).movedim(0, -2).flatten(0, -3) if self.batch_shape else to_unit_interval(*points)[None]
            tau = torch.stack([sample_kendall_tau(each).value for each in u]).to(w).view(*self.batch_shape, self.dim, self.dim)
        return self._with_first_tree(tau, lambda law: law.kendall_tau)

    @property
    def spearman_rho(self) -> Tensor:
        """Spearman's ρ, shapes as for `kendall_tau`; pairs outside the first tree by a lattice, within about 3e-3, differentiable."""
        if self.dim == 2:
            return self._only.spearman_rho
        w = lattice(_CDF_POINTS, self.dim, self._like())
        u = to_unit_interval(*self.inverse_rosenblatt_tails(*_with_batch(torch.log(w), torch.log1p(-w), self)))
        centred = u - 0.5
        products = 12 * (centred.unsqueeze(-1) * centred.unsqueeze(-2)).mean(0)
        return self._with_first_tree(products, lambda law: law.spearman_rho)

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(lower, upper), shapes as for `kendall_tau`; NaN for pairs that are not edges of the first tree: they have no closed form."""
        if self.dim == 2:
            return self._only.tail_dependence
        unknown = self._like().new_full((*self.batch_shape, self.dim, self.dim), torch.nan)
        lower = self._with_first_tree(unknown, lambda law: law.tail_dependence[0])
        return lower, self._with_first_tree(unknown, lambda law: law.tail_dependence[1])

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The copula of the coordinates in `present`, bool (dim,): a vine if only leaves are left out, else a `VineMargin`."""
        from cm2.copulas.vine.margin import VineMargin

        kept = self._check_subset(present)
        if len(kept) == 1:
            return IndependenceDistribution(1, self._like(), self.batch_shape, self._validate_args)
        if self.structure.reduce(kept) != frozenset(kept):
            return VineMargin(self, tuple(kept), self._validate_args)
        structure, edges = self.structure.margin(kept)
        if not edges:
            return IndependenceDistribution(len(kept), self._like(), self.batch_shape, self._validate_args)
        return VineDistribution(structure, [self.laws[e] for e in edges], self._validate_args)

    # implementation of the base class

    @property
    def _only(self) -> CopulaDistribution:
        """Dim 2: the only pair copula, of coordinates (0, 1)."""
        if not self.laws:
            return IndependenceDistribution(2, self._like(), self.batch_shape, self._validate_args)
        return self.laws[0] if self.structure.edges[0].first == 0 else self.laws[0].flipped

    @property
    def flipped(self) -> CopulaDistribution:
        """Dim 2: the copula of (U_2, U_1)."""
        self._require_pair("flipped")
        return self._only.flipped

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        return self._only._h_tails(log_u, log1m_u)

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        return self._only._h_quantile(p, given)

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        low, high = draw_patterns(self, log_u, log1m_u, present, uniform_tails(Size((1, *log_u.shape)), log_u))
        return low[0], high[0]

    def _recursion(self, log_u: Tensor, log1m_u: Tensor) -> Recursion:
        return Recursion(self.structure, self.laws, _columns(log_u, log1m_u))

    def _like(self) -> Tensor:
        return self.laws[0]._like() if self.laws else self.like

    def _tensors(self) -> tuple[Tensor, ...]:
        return tuple(tensor for law in self.laws for tensor in law._tensors())

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        tensors, laws = list(tensors), []
        for law in self.laws:
            count = len(law._tensors())
            laws.append(law._rebuild(tensors[:count]))
            tensors = tensors[count:]
        return VineDistribution(self.structure, laws, self._validate_args, self.like)

    def _batched(self, batch_shape: Size) -> CopulaDistribution:
        return VineDistribution(self.structure, [law.expand(batch_shape) for law in self.laws], self._validate_args, self.like)

    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None and self.dim > 2:
            return log_density_of_patterns(self, log_u, log1m_u, mask)
        recursion = self._recursion(log_u, log1m_u)
        zero = log_u.new_zeros(torch.broadcast_shapes(log_u.shape[:-1], self.batch_shape))
        return sum((recursion.log_density(edge) for edge in self.structure.edges), start=zero)

    def _log_density_at(self, u: Tensor) -> Tensor:
        """Uses the formulas for floats in the first tree, where they are cheaper."""
        recursion, columns = self._recursion(torch.log(u), torch.log1p(-u)), u.unbind(-1)
        value = u.new_zeros(torch.broadcast_shapes(u.shape[:-1], self.batch_shape))
        for edge, law in zip(self.structure.edges, self.laws, strict=True):
            if edge.given:
                value = value + recursion.log_density(edge)
            else:
                value = value + law._log_density_at(torch.stack([columns[edge.first], columns[edge.second]]).movedim(0, -1))
        return value

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        """Genz's sequential conditioning: each coordinate is drawn below its bound, given those before it, on a fixed lattice.

        The error is about 1e-5 in three dimensions and 1e-4 in five. The value is exact if at most one coordinate is below 1.
        """
        if self.dim == 2:
            return self._only._cdf(log_u, log1m_u, mask)
        w = lattice(_CDF_POINTS, self.dim - 1, log_u)
        shape = torch.broadcast_shapes(log_u.shape[:-1], self.batch_shape)
        log_u, log1m_u, mask = (each.expand(*shape, self.dim) for each in (log_u, log1m_u, mask))
        chunks = w.split(max(1, _CHUNK // max(1, shape.numel())))
        value = sum(self._cdf_share(log_u, log1m_u, mask, chunk).sum(0) for chunk in chunks) / len(w)
        alone = torch.exp(torch.where(mask, log_u, 0.0).sum(-1))
        return torch.where(mask.sum(-1) < 2, alone, value)

    def _cdf_share(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor, w: Tensor) -> Tensor:
        order, columns = self.structure.order, self.structure.columns
        recursion, log_mass = Recursion(self.structure, self.laws, {}), torch.zeros_like(log_u[..., 0])
        for k, v in enumerate(order):
            below = self._level_of_bound(recursion, v, columns[v], (log_u[..., v], log1m_u[..., v]))
            below = torch.where(mask[..., v], below, 0.0)  # no bound: probability 1
            log_mass = log_mass + below
            if k < self.dim - 1:
                log_level = below + torch.log(w[:, k]).view(-1, *[1] * (log_u.dim() - 1))
                recursion.draw(v, columns[v], (log_level, torch.log(-torch.expm1(log_level))))
        return torch.exp(log_mass)

    def _level_of_bound(self, recursion: Recursion, v: int, column: Sequence[Edge], bound: Tails) -> Tensor:
        """log P(U_v <= bound | those before), at the recursion's draws."""
        # a copy: the bound must not become a known value of the recursion, whose next step draws this coordinate
        trial = Recursion(self.structure, self.laws, {})
        trial.known = {**recursion.known, (v, frozenset()): bound}
        return trial.level(v, column)[0]

    def _with_first_tree(self, matrix: Tensor, measure: Callable[[CopulaDistribution], Tensor]) -> Tensor:
        """A symmetric matrix with the exact values for the first tree's pairs, and ones on the diagonal."""
        exact = {
            frozenset((e.first, e.second)): measure(law) for e, law in zip(self.structure.edges, self.laws, strict=True) if not e.given
        }
        columns = [[matrix[..., i, j] for j in range(self.dim)] for i in range(self.dim)]
        for i in range(self.dim):
            columns[i][i] = torch.ones_like(columns[i][i])
        for i, j in pairs_of(self.dim):
            columns[i][j] = columns[j][i] = exact.get(frozenset((i, j)), columns[i][j])
        return torch.stack([torch.stack(torch.broadcast_tensors(*row), -1) for row in columns], -2)

    def _require_inside(self, u: Tensor) -> None:
        if self._validate_args and self._touches_boundary(u, None):
            refuse_boundary(u)


def _columns(log_u: Tensor, log1m_u: Tensor) -> dict[int, Tails]:
    return dict(enumerate(zip(log_u.unbind(-1), log1m_u.unbind(-1), strict=True)))


def _stack(columns: Sequence[Tails]) -> Tails:
    lows, highs = zip(*columns, strict=True)
    return torch.stack(torch.broadcast_tensors(*lows), -1), torch.stack(torch.broadcast_tensors(*highs), -1)


def _with_batch(low: Tensor, high: Tensor, law: CopulaDistribution) -> Tails:
    """Tails (n, dim) as (n, 1, ..., 1, dim), to broadcast against the batch dimensions of a copula."""
    shape = (len(low), *[1] * len(law.batch_shape), law.dim)
    return low.view(shape), high.view(shape)
