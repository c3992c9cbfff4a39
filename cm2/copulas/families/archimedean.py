r"""What the Archimedean families share."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Size, Tensor

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.independence import IndependenceDistribution
from cm2.copulas.module import Copula
from cm2.copulas.tails import Tails, to_unit_interval, uniform_tails
from cm2.numerics.context import Context
from cm2.numerics.elementary import log1mexp


class _SameChange(torch.autograd.Function):
    """A value that is known exactly and changes as `alpha` does."""

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
    """α - 1 as a function of α, with the value `exact` where that is known better than α tells.

    Never 0: at α = 1 it is a number so small that nothing can tell, whose logarithm and its derivative exist.
    """
    value = alpha.detach() - 1 if exact is None else exact.detach()
    return _SameChange.apply(alpha, value + smallest_excess(alpha.dtype))


def smallest_excess(dtype: torch.dtype) -> float:
    """Stands for 0: far below rounding, far above underflow."""
    return torch.finfo(dtype).tiny * 2.0**60


class ArchimedeanDistribution(CopulaDistribution):
    r""":math:`C(u) = \psi\left(\sum_j \psi^{-1}(u_j)\right)` with a completely monotone generator :math:`\psi`.

    Everything below follows from :math:`\psi` and its derivatives (McNeil and Nešlehová 2009; Hofert, Mächler, McNeil 2012), O the present
    coordinates, n their number and :math:`t_O = \sum_{j\in O}\psi^{-1}(u_j)`:

    .. math::
        c(u_O) = |\psi^{(n)}(t_O)| \prod_{j\in O} |(\psi^{-1})'(u_j)|, \qquad
        P(U_j \le v \mid u_O) = \psi^{(n)}(t_O + \psi^{-1}(v)) / \psi^{(n)}(t_O).

    A family carries :math:`t_O` as a *state*, whichever function of it is accurate in its corner, and implements `_empty` (the state of no
    coordinate), `_join` (add a coordinate), `_log_ratio` (the conditional CDF), `_quantile` (its inverse), `_cdf`, `_log_density` and
    `_frailty_tails` (the sampler of Marshall and Olkin 1988: :math:`U_j = \psi(E_j/V)`).

    Args:
        alpha: the parameter, shape of the batch.
        dim: number of coordinates.
        validate_args: see `CopulaDistribution`.
    """

    def __init__(self, alpha: Tensor, dim: int, validate_args: bool | None = None) -> None:
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
        # rounding can leave a ratio of one a little above it
        log_h = self._log_h(log_u, log1m_u).clamp_max(-torch.finfo(log_u.dtype).tiny)
        return log_h, log1mexp(log_h)

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """The ratios of the generator's derivatives, one coordinate after the other."""
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
        """The Rosenblatt chain: absent coordinates, one after the other, at uniform levels of their law given all those known so far.

        The law is exchangeable, so the chain draws first, second, ... *absent* coordinates and each point places them where it lacks them.
        Where none is present the first draw is its level, and every further one is drawn given at least one.
        """
        log_p, log1m_p = uniform_tails(log_u.shape, log_u)
        state, count = self._fold(log_u, log1m_u, present), present.sum(-1)
        none = count == 0
        drawn = [(log_p[..., 0], log1m_p[..., 0])]
        state = torch.where(none, self._join(state, *drawn[0]), state)
        count = count.clamp(1, self.dim - 1)
        for j in range(1, self.dim):
            drawn.append(self._quantile(state, count, log_p[..., j], log1m_p[..., j]))
            if j + 1 < self.dim:
                state, count = self._join(state, *drawn[-1]), (count + 1).clamp(max=self.dim - 1)
        # points with a coordinate to start from skip the free draw
        rank = ((~present).cumsum(-1) - none.unsqueeze(-1).long()).clamp(0, self.dim - 1)
        low, high = (torch.stack(each, -1).gather(-1, rank) for each in zip(*drawn, strict=True))
        return low, high

    # what a family provides

    @abstractmethod
    def _empty(self, like: Tensor) -> Tensor:
        """State of no coordinate, the shape of `like`."""

    @abstractmethod
    def _join(self, state: Tensor, log_u: Tensor, log1m_u: Tensor) -> Tensor:
        """The state with one coordinate more."""

    @abstractmethod
    def _log_ratio(self, state: Tensor, log_v: Tensor, log1m_v: Tensor, count: int) -> Tensor:
        """log P(U <= v | state of `count` coordinates)."""

    @abstractmethod
    def _quantile(self, state: Tensor, count: Tensor, log_p: Tensor, log1m_p: Tensor) -> Tails:
        """Tails of the v at which the conditional CDF given `count` >= 1 coordinates (integers, shape of the state) is p."""

    @abstractmethod
    def _frailty_tails(self, shape: Size) -> Tails:
        """Tails of draws of that shape, (*sample_shape, *batch, dim)."""


class ArchimedeanCopula(Copula):
    """A learnable Archimedean copula with one parameter alpha."""

    shown = ("alpha",)
