r"""Base class of copula distributions: distributions on :math:`(0, 1)^{dim}` with uniform margins.

A point :math:`u` is represented by its tails :math:`(\log u, \log(1-u))`; every density takes that pair, and `log_prob` merely computes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from cm2.copulas.conditional_mean import conditional_mean
from cm2.copulas.law_dependence import spearman_rho
from cm2.copulas.parameters import check_parameters
from cm2.copulas.tails import Tails, refuse_boundary, to_unit_interval, touches_boundary
from cm2.errors import InputError
from cm2.numerics.blocks import block_sizes, blockwise
from cm2.numerics.elementary import LOG_HALF
from cm2.numerics.normal import normal_quantile, normal_tails


class CopulaDistribution(Distribution, ABC):
    r"""A distribution on :math:`(0, 1)^{dim}` with uniform margins.

    A family implements the abstract methods, and `rosenblatt_tails` if it supports more than two dimensions; this class handles shapes,
    masks and validation. Sources: Sklar 1959; Nelsen, *An Introduction to Copulas* (2006).

    All mass is in the open cube. A coordinate that is exactly 0 or 1 therefore has log density -inf, whatever the limit from inside;
    the CDF is exact on the closed cube; a conditional CDF is 0 or 1 there and its inverse returns the end of the interval; conditioning
    on 0 or 1 is undefined and is refused. Without validation none of this is checked.

    Args:
        dim: number of coordinates.
        batch_shape: batch shape of the parameters, broadcast against the leading dimensions of `u`.
        validate_args: check parameters and points (default: torch's setting). False on the training path: no check, and no wait for a
            device.
    """

    support = constraints.independent(constraints.unit_interval, 1)
    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, dim: int, batch_shape: Size, validate_args: bool | None = None) -> None:
        self.dim = dim
        checked = Distribution._validate_args if validate_args is None else validate_args
        if checked:
            check_parameters(self, self._ranges())
        super().__init__(Size(batch_shape), Size((dim,)), validate_args=False)
        self._validate_args = checked

    def _ranges(self) -> dict[str, constraints.Constraint]:
        """Ranges of the parameters, by name."""
        return self.arg_constraints

    @property
    def mean(self) -> Tensor:
        """1/2 in every coordinate, (*batch, dim)."""
        return self._like().new_full(self._extended_shape(), 0.5)

    @property
    def variance(self) -> Tensor:
        """1/12 in every coordinate, (*batch, dim)."""
        return self._like().new_full(self._extended_shape(), 1 / 12)

    def log_prob(self, u: Tensor, present: Tensor | None = None) -> Tensor:
        """Log density at `u`, or of the margin over the observed coordinates.

        Args:
            u: points in [0, 1], (..., dim).
            present: optional bool mask of the observed coordinates, (..., dim); missing ones are integrated out and never read.

        Returns:
            (...); 0 where fewer than two coordinates are observed; -inf where an observed coordinate is exactly 0 or 1.

        Raises:
            ValueError: wrong last dimension, NaN, or an observed value outside [0, 1].
        """
        if self._validate_args and self._touches_boundary(u, present):
            edge = (u <= 0) | (u >= 1) if present is None else present & ((u <= 0) | (u >= 1))
            inside = self._log_prob(torch.where(edge, 0.5, u), present)  # a placeholder keeps the gradient of the other branch finite
            return torch.where(edge.any(-1), -torch.inf, inside)
        return self._log_prob(u, present)

    def _log_prob(self, u: Tensor, present: Tensor | None) -> Tensor:
        if present is None:
            return self._pointwise("_log_density_at", u)
        some, read, mask = self._asked(present)
        return torch.where(some, self._log_margin_at(torch.where(read, u, 0.5), mask), 0.0)

    def _pointwise(self, method: str, u: Tensor) -> Tensor:
        """Evaluates a method at points (..., dim), block by block if there are many (see `blockwise`)."""
        if self.batch_shape or u.dim() == 1:
            return getattr(self, method)(u)
        value = blockwise(lambda u, tensors: getattr(self._rebuild(tensors), method)(u), u.flatten(0, -2), self._tensors())
        return value.view(u.shape[:-1])

    def log_prob_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor | None = None) -> Tensor:
        """`log_prob` from log u and log(1 - u), both (..., dim); finite, with finite gradients, down to -1e6 in either tail."""
        if present is None:
            return self._log_density(log_u, log1m_u, None)
        some, read, mask = self._asked(present)
        value = self._log_density(torch.where(read, log_u, LOG_HALF), torch.where(read, log1m_u, LOG_HALF), mask)
        return torch.where(some, value, 0.0)

    def _asked(self, present: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Which points have a density (at least two observed coordinates), which coordinates it reads, and the mask of `_log_density`."""
        some = present.sum(-1) > 1
        # the other points are evaluated at a placeholder under the full mask: finite value and gradient, both discarded
        return some, present & some.unsqueeze(-1), None if self.dim == 2 else present | ~some.unsqueeze(-1)

    def cdf(self, u: Tensor) -> Tensor:
        r"""C(u) = P(U_1 <= u_1, ..., U_dim <= u_dim).

        Args:
            u: points in [0, 1], (..., dim).

        Raises:
            ValueError: wrong last dimension, NaN, or a value outside [0, 1].
        """
        if self._validate_args:
            self._touches_boundary(u, None)
        return self._pointwise("_cdf_at", u)

    def _cdf_at(self, u: Tensor) -> Tensor:
        inner, zero = u < 1, (u <= 0).any(-1)
        safe = torch.where((u > 0) & inner, u, 0.5)
        return torch.where(zero, 0.0, self._cdf(torch.log(safe), torch.log1p(-safe), inner))

    def h(self, u: Tensor) -> Tensor:
        r""":math:`\partial C(u_1, u_2)/\partial u_2 = P(U_1 \le u_1 \mid U_2 = u_2)`, (..., 2) -> (...). Only for dim 2.

        For the other conditional CDF, :math:`P(U_2 \le u_2 \mid U_1 = u_1)`, take `h` of the `flipped` copula at the flipped point.

        Raises:
            ValueError: dim other than 2, NaN, a value outside [0, 1], or u_2 exactly 0 or 1.
        """
        self._require_pair("h")
        if self._validate_args and self._touches_boundary(u, None):
            refuse_boundary(u[..., 1])
            edge = (u[..., 0] <= 0) | (u[..., 0] >= 1)
            inside = torch.where(edge.unsqueeze(-1), 0.5, u)
            return torch.where(edge, (u[..., 0] >= 1).to(u.dtype), self._pointwise("_h_at", inside))
        return self._pointwise("_h_at", u)

    def _h_at(self, u: Tensor) -> Tensor:
        return torch.exp(self._h_tails(torch.log(u), torch.log1p(-u))[0])

    def h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """`h` from and to the tails: (..., 2) -> (log h, log(1 - h)), each (...)."""
        self._require_pair("h_tails")
        return self._h_tails(log_u, log1m_u)

    def h_inverse(self, p: Tensor, u2: Tensor) -> Tensor:
        r"""The :math:`u_1` with :math:`P(U_1 \le u_1 \mid U_2 = u_2) = p`; shapes broadcast. Only for dim 2.

        Raises:
            ValueError: dim other than 2, NaN, a value outside [0, 1], or u_2 exactly 0 or 1.
        """
        self._require_pair("h_inverse")
        pair = torch.stack(torch.broadcast_tensors(p, u2), -1)
        if self._validate_args and self._touches_boundary(pair, None):
            refuse_boundary(pair[..., 1])
            edge = (pair[..., 0] <= 0) | (pair[..., 0] >= 1)
            inside = torch.where(edge.unsqueeze(-1), 0.5, pair)
            return torch.where(edge, pair[..., 0], self._pointwise("_h_inverse_at", inside))
        return self._pointwise("_h_inverse_at", pair)

    def _h_inverse_at(self, pair: Tensor) -> Tensor:
        p, u2 = pair.unbind(-1)
        return to_unit_interval(*self._h_quantile((torch.log(p), torch.log1p(-p)), (torch.log(u2), torch.log1p(-u2))))

    def h_inverse_tails(self, p: Tails, given: Tails) -> Tails:
        """`h_inverse` from and to the tails."""
        self._require_pair("h_inverse_tails")
        return self._h_quantile(p, given)

    def rosenblatt(self, u: Tensor) -> Tensor:
        r"""The transform :math:`w_k = P(U_k \le u_k \mid U_1 = u_1, \ldots, U_{k-1} = u_{k-1})` (Rosenblatt 1952).

        Args:
            u: points in (0, 1), (..., dim).

        Returns:
            (..., dim): independent uniforms if u has this distribution; a value that rounds to 0 or 1 becomes the nearest float inside.

        Raises:
            ValueError: wrong last dimension, NaN, or a value outside (0, 1).
        """
        if self._validate_args and self._touches_boundary(u, None):
            refuse_boundary(u)
        return to_unit_interval(*self.rosenblatt_tails(torch.log(u), torch.log1p(-u)))

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """`rosenblatt` from and to the tails, each (..., dim)."""
        if self.dim != 2:
            raise TypeError(f"{type(self).__name__} must define rosenblatt_tails for dim above 2")
        second = self.flipped.h_tails(log_u.flip(-1), log1m_u.flip(-1))
        first = (each[..., 0].expand(second[0].shape) for each in (log_u, log1m_u))
        low, high = (torch.stack(pair, -1) for pair in zip(first, second, strict=True))
        return low, high

    @property
    def flipped(self) -> "CopulaDistribution":
        """The copula of (U_2, U_1): the copula itself for every exchangeable family."""
        return self

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, dim), without gradients."""
        shape = Size(sample_shape)
        with torch.no_grad():
            if self.batch_shape or not self._like().is_cpu:
                return self._draw(shape)
            # in blocks, whose intermediate results stay in the processor's cache
            return torch.cat([self._draw(Size((count,))) for count in block_sizes(shape.numel())]).view(shape + self.event_shape)

    def _draw(self, sample_shape: Size) -> Tensor:
        """`sample` without gradients, for families where that is cheaper than `rsample`."""
        return self.rsample(sample_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, dim), differentiable in the parameters (implicit reparameterisation, Figurnov et al. 2018)."""
        shape = self._extended_shape(Size(sample_shape))
        absent = torch.zeros(shape, dtype=torch.bool, device=self._like().device)
        half = self._like().detach().new_full(shape, LOG_HALF)
        return to_unit_interval(*self._conditional_tails(half, half, absent))

    def conditional_sample(self, u: Tensor, present: Tensor, n_draws: int = 1) -> Tensor:
        """Draws the missing coordinates given the observed ones; differentiable in the parameters and in the observed u.

        Args:
            u: points, (..., dim); only the observed coordinates are read.
            present: bool mask of the observed coordinates, (..., dim).
            n_draws: number of draws per point.

        Returns:
            (n_draws, ..., dim); observed coordinates are returned unchanged.

        Raises:
            ValueError: wrong last dimension, NaN, an observed value outside [0, 1] or exactly 0 or 1, n_draws below 1.
        """
        if self._validate_args and self._touches_boundary(u, present):
            refuse_boundary(torch.where(present, u, 0.5))
        safe = torch.where(present, u, 0.5)
        drawn = to_unit_interval(*self.conditional_sample_tails(torch.log(safe), torch.log1p(-safe), present, n_draws))
        return torch.where(present, u, drawn)

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails:
        """`conditional_sample` from and to the tails: (log u, log(1 - u)), each (n_draws, ..., dim)."""
        if n_draws < 1:
            raise InputError(f"n_draws is {n_draws}; ask for at least one draw")
        safe, safe1m = torch.where(present, log_u, LOG_HALF), torch.where(present, log1m_u, LOG_HALF)
        leading = torch.broadcast_shapes(safe.shape[:-1], self.batch_shape)
        shape = (n_draws, *leading, self.dim)
        present = present.expand(shape)
        drawn, drawn1m = self._conditional_tails(safe.expand(shape), safe1m.expand(shape), present)
        return torch.where(present, safe, drawn), torch.where(present, safe1m, drawn1m)

    def log_prob_scores(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        r"""`log_prob` from the normal scores :math:`x = \Phi^{-1}(u)`, (..., dim); finite for every float, however far out."""
        return self.log_prob_tails(*normal_tails(x), present)

    def conditional_sample_scores(self, x: Tensor, present: Tensor) -> Tensor:
        """One draw of `conditional_sample` from and to the normal scores, (..., dim) -> (..., dim)."""
        low, high = self.conditional_sample_tails(*normal_tails(x), present)
        return torch.where(present, x, normal_quantile(low, high).squeeze(0))

    def conditional_mean_scores(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean of the missing normal scores given the observed ones, and the error of its quadrature.

        Args:
            x: normal scores, (..., dim); only the observed ones are read.
            present: bool mask of the observed coordinates, (..., dim).

        Returns:
            Two (..., dim): the mean, observed coordinates unchanged; and an estimate of its error, 0 where it has a closed form.
        """
        return conditional_mean(self.log_prob_scores, x, present)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "CopulaDistribution":
        """The same copula with its parameters broadcast to `batch_shape`."""
        return self._batched(Size(batch_shape))

    def _touches_boundary(self, u: Tensor, present: Tensor | None) -> bool:
        """Checks points; True if any observed value is exactly 0 or 1."""
        return touches_boundary(u, present, self.dim)

    def _require_pair(self, name: str) -> None:
        if self.dim != 2:
            raise InputError(f"{name} is defined for dim 2, this copula has dim {self.dim}; marginalise to a pair first")

    def _check_subset(self, present: Tensor) -> list[int]:
        if present.shape != (self.dim,) or present.dtype != torch.bool:
            raise InputError(f"present has dtype {present.dtype} and shape {tuple(present.shape)}; give a bool mask of shape ({self.dim},)")
        kept = [j for j, keep in enumerate(present.tolist()) if keep]
        if not kept:
            raise InputError("present marks no coordinate; a margin needs at least one")
        return kept

    @property
    def spearman_rho(self) -> Tensor:
        """Spearman's ρ between two coordinates, shape of the batch (a matrix if pairs differ); by quadrature without a closed form."""
        return spearman_rho(self)

    def _likelihood(self, u: Tensor) -> Callable[[Self], Tensor]:
        """The log-likelihood of a sample as a function of a copula of this class; terms without parameters are computed once, here."""
        return lambda law: law._log_density_at(u).sum()

    # to be implemented by a family

    @property
    @abstractmethod
    def kendall_tau(self) -> Tensor:
        """Kendall's τ between two coordinates, shape of the batch (a matrix if pairs differ)."""

    @property
    @abstractmethod
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(lower, upper) coefficients of tail dependence between two coordinates."""

    @property
    def discordant_tail_dependence(self) -> tuple[Tensor, Tensor]:
        """Tail coefficients of a pair in the other two corners: u_1 to 0 with u_2 to 1, and u_1 to 1 with u_2 to 0. 0 unless overridden."""
        zero = self._like().new_zeros(self.batch_shape)
        return zero, zero

    @abstractmethod
    def marginalise(self, present: Tensor) -> "CopulaDistribution":
        """The copula of a subset of the coordinates, `present` a bool mask (dim,)."""

    @abstractmethod
    def _like(self) -> Tensor:
        """A tensor with the dtype and device of the parameters."""

    @abstractmethod
    def _tensors(self) -> tuple[Tensor, ...]:
        """The tensors on which the copula depends, each of shape (*batch, ...)."""

    @abstractmethod
    def _rebuild(self, tensors: Sequence[Tensor]) -> "CopulaDistribution":
        """The same copula with other values of `_tensors`."""

    def _batched(self, batch_shape: Size) -> "CopulaDistribution":
        own = len(self.batch_shape)
        return self._rebuild([each.expand(batch_shape + each.shape[own:]) for each in self._tensors()])

    def _log_density_at(self, u: Tensor) -> Tensor:
        """Log density at floats (..., dim) in the open cube; override it with a formula in u that is cheaper than that in tails."""
        return self._log_margin_at(u, None)

    def _log_margin_at(self, u: Tensor, mask: Tensor | None) -> Tensor:
        """`_log_density` at floats, where log u cannot have underflowed; override it to skip log(1 - u) if the density does not need it."""
        return self._log_density(torch.log(u), torch.log1p(-u), mask)

    @abstractmethod
    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        """Log density of the margin over `mask` (None: all coordinates), which marks at least two coordinates per point."""

    @abstractmethod
    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        """CDF of the margin over `mask`, which may be empty."""

    @abstractmethod
    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """Tails of h at points (..., 2), which are passed as tails."""

    @abstractmethod
    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        """Tails of the u_1 at which h is p, given u_2; p and u_2 are passed as tails."""

    @abstractmethod
    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        """One draw of every missing coordinate given the observed ones, as tails; all of shape (..., dim)."""
