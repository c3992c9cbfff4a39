r"""Base classes of the Archimedean families."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Size, Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.independence import IndependenceDistribution
from cm2.copulas.module import Copula
from cm2.copulas.parameters import require_tensors
from cm2.copulas.tails import Tails, to_unit_interval, uniform_tails
from cm2.numerics.context import Context
from cm2.numerics.elementary import log1mexp


class _SameChange(torch.autograd.Function):
    """Returns `value`, with the gradient of the identity in `alpha`."""

    @staticmethod
    def forward(alpha: Tensor, value: Tensor) -> Tensor:
        return value.expand(alpha.shape).clone()

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Context, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def excess_over_one(alpha: Tensor, exact: Tensor | None = None) -> Tensor:
    """α - 1 as a function of α; with the value `exact` if that is known more precisely than the rounded α determines it.

    Never 0: at α = 1 it is a number too small to affect any result, so that its logarithm has a value and a derivative.
    """
    require_tensors("parameter", alpha=alpha)
    value = alpha.detach() - 1 if exact is None else exact.detach()
    return _SameChange.apply(alpha, value + smallest_excess(alpha.dtype))


def smallest_excess(dtype: torch.dtype) -> float:
    """A positive substitute for 0: far below rounding, far above underflow."""
    return torch.finfo(dtype).tiny * 2.0**60


class ArchimedeanDistribution(CopulaDistribution):
    r""":math:`C(u) = \psi\left(\sum_j \psi^{-1}(u_j)\right)` with a completely monotone generator :math:`\psi`.

    Everything below follows from :math:`\psi` and its derivatives (McNeil and Nešlehová 2009; Hofert, Mächler, McNeil 2012), with O the
    observed coordinates, n their number and :math:`t_O = \sum_{j\in O}\psi^{-1}(u_j)`:

    .. math::
        c(u_O) = |\psi^{(n)}(t_O)| \prod_{j\in O} |(\psi^{-1})'(u_j)|, \qquad
        P(U_j \le v \mid u_O) = \psi^{(n)}(t_O + \psi^{-1}(v)) / \psi^{(n)}(t_O).

    A family represents :math:`t_O` by a *state*, a function of it that is accurate where the family needs it, and implements `_empty` (the
    state of no coordinate), `_join` (add a coordinate), `_log_ratio` (the conditional CDF), `_quantile` (its inverse), `_cdf`,
    `_log_density` and `_frailty_tails` (the sampler of Marshall and Olkin 1988: :math:`U_j = \psi(E_j/V)`).

    Args:
        alpha: the parameter, shape of the batch.
        dim: number of coordinates.
        validate_args: see `CopulaDistribution`.
    """

    def __init__(self, alpha: Tensor, dim: int, validate_args: bool | None = None) -> None:
        require_tensors(type(self).__name__, alpha=alpha)
        self.alpha = alpha
        super().__init__(dim, alpha.shape, validate_args)

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The same family in fewer coordinates, `present` bool (dim,): margins of an Archimedean copula keep its generator."""
        kept = len(self._check_subset(present))
        if kept == 1:
            return IndependenceDistribution(1, self.alpha, self.batch_shape, self._validate_args)
        return self._with(self.alpha, kept)

    def _draw(self, sample_shape: Size) -> Tensor:
        return to_unit_interval(*self._frailty_tails(self._extended_shape(sample_shape)))

    def _like(self) -> Tensor:
        return self.alpha

    def _with(self, alpha: Tensor, dim: int) -> "ArchimedeanDistribution":
        return type(self)(alpha, dim, self._validate_args)

    def _tensors(self) -> tuple[Tensor, ...]:
        return (self.alpha,)

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        return self._with(tensors[0], self.dim)

    def _fold(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        """State of the coordinates in `mask` (None: all), (...)."""
        state = self._empty(log_u[..., 0])
        for j, coordinate in enumerate(zip(log_u.unbind(-1), log1m_u.unbind(-1), strict=True)):
            joined = self._join(state, *coordinate)
            state = joined if mask is None else torch.where(mask[..., j], joined, state)
        return state

    def _log_h(self, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        given = self._join(self._empty(log_u[..., 1]), log_u[..., 1], log1m_u[..., 1])
        return self._log_ratio(given, log_u[..., 0], log1m_u[..., 0], 1)

    def _h_at(self, u: Tensor) -> Tensor:
        return torch.exp(self._log_h(torch.log(u), torch.log1p(-u)))

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        # a ratio of 1 may be rounded to slightly above 1, where log(1 - h) does not exist
        log_h = self._log_h(log_u, log1m_u).clamp_max(-torch.finfo(log_u.dtype).tiny)
        return log_h, log1mexp(log_h)

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """Ratios of the generator's derivatives, coordinate by coordinate."""
        if self.dim == 2:
            return super().rosenblatt_tails(log_u, log1m_u)
        coordinates = list(zip(log_u.unbind(-1), log1m_u.unbind(-1), strict=True))
        state = self._join(self._empty(log_u[..., 0]), *coordinates[0])
        levels = [coordinates[0][0].expand(state.shape)]
        for count, coordinate in enumerate(coordinates[1:], 1):
            levels.append(self._log_ratio(state, *coordinate, count).clamp_max(-torch.finfo(log_u.dtype).tiny))
            state = self._join(state, *coordinate)
        low = torch.stack(levels, -1)
        return low, torch.cat([log1m_u[..., :1].expand(low[..., :1].shape), log1mexp(low[..., 1:])], -1)

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        state = self._join(self._empty(given[0]), *given)
        return self._quantile(state, torch.ones_like(state, dtype=torch.long), *p)

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        """Inverse Rosenblatt transform: missing coordinates one by one, at uniform levels of their conditional CDF given all before.

        The copula is exchangeable, so that the loop draws the first, second, ... *missing* coordinate, and each point then puts the draws
        in the places of its own missing coordinates. If none is observed, the first draw is its level; all later ones are conditional.
        """
        log_p, log1m_p = uniform_tails(log_u.shape, log_u)
        state, count = self._fold(log_u, log1m_u, present), present.sum(-1)
        none = count == 0
        drawn = [(log_p[..., 0], log1m_p[..., 0])]
        state = torch.where(none, self._join(state, *drawn[0]), state)
        count = count.clamp(1, self.dim - 1)  # a used draw is given 1 to dim - 1 coordinates; draws of complete points are discarded
        for j in range(1, self.dim):
            drawn.append(self._quantile(state, count, log_p[..., j], log1m_p[..., j]))
            if j + 1 < self.dim:
                state, count = self._join(state, *drawn[-1]), (count + 1).clamp(max=self.dim - 1)
        # points with an observed coordinate skip the unconditional first draw
        rank = ((~present).cumsum(-1) - none.unsqueeze(-1).long()).clamp(0, self.dim - 1)
        low, high = (torch.stack(each, -1).gather(-1, rank) for each in zip(*drawn, strict=True))
        return low, high

    # to be implemented by a family

    @abstractmethod
    def _empty(self, like: Tensor) -> Tensor:
        """State of no coordinate, the shape of `like`."""

    @abstractmethod
    def _join(self, state: Tensor, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        """The state with one more coordinate."""

    @abstractmethod
    def _log_ratio(self, state: Tensor, log_v: Tensor, log1m_v: Tensor, count: int) -> Tensor:
        """log P(U <= v | state of `count` coordinates)."""

    @abstractmethod
    def _quantile(self, state: Tensor, count: Tensor, log_p: Tensor, log1m_p: Tensor) -> Tails:
        """Tails of the v at which the conditional CDF given `count` >= 1 coordinates (integers, shape of the state) is p."""

    @abstractmethod
    def _frailty_tails(self, shape: Size) -> Tails:
        """Tails of draws of `shape`, (*sample_shape, *batch, dim)."""


class ArchimedeanCopula(Copula):
    """A learnable Archimedean copula with one parameter alpha."""

    shown = ("alpha",)
