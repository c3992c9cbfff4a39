"""Joint distribution of several embeddings: density under any mask, draws, conditional draws and means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from cm2.errors import InputError
from cm2.joint.links import Link
from cm2.joint.links.base import observed

Impute = Literal["conditional", "marginal"]


class ConditionalMean(NamedTuple):
    """Mean of missing embeddings given the observed ones, and its error, both ``(..., M, d)``."""

    mean: Tensor
    error: Tensor


class CopulaJointDistribution(Distribution):
    """Joint distribution of M embeddings, ``event_shape`` ``(M, d)``.

    Args:
        link: density and conditional draws.
        validate_args: check shapes and NaN (torch's default); if False, nothing waits for a device.
    """

    arg_constraints: ClassVar[dict] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(self, link: Link, validate_args: bool | None = None) -> None:
        self.link = link
        self.checked = Distribution._validate_args if validate_args is None else validate_args
        mixture = link.mixture
        super().__init__(mixture.batch_shape[:-1], mixture.batch_shape[-1:] + mixture.event_shape, validate_args=False)

    def terms(self, z: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Both terms of the loss in one pass: log f_m ``(..., M)``, 0 where missing, and the dependence term ``(...)``.

        Args:
            z: ``(..., M, d)``; rows of missing modalities are never read.
            present: ``(..., M)`` bool, the mask of observed modalities, or None: all observed.

        Raises:
            ValueError: a wrong shape, NaN in an observed modality, a stay with no modality (when arguments are checked).
        """
        return self.link.terms(self._prepare(z, present), present)

    def log_prob(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """Exact log density of the observed modalities, the missing ones integrated out: ``(..., M, d)`` -> ``(...)``. See `terms`."""
        marginal, dependence = self.terms(z, present)
        return marginal.sum(-1) + dependence

    def marginal_log_prob(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """log f_m(z_m): ``(..., M, d)`` -> ``(..., M)``, 0 where missing."""
        marginal = self.link.mixture.log_prob(self._prepare(z, present))
        return observed(marginal, present)

    def dependence(self, z: Tensor, present: Tensor | None = None) -> Tensor:
        """log f_O minus the sum of log f_m over the observed modalities O: ``(..., M, d)`` -> ``(...)``, 0 if only one is observed."""
        return self.terms(z, present)[1]

    def cross_dependence(self, z: Tensor, present: Tensor, candidates: Tensor, target: int) -> Tensor:
        """`dependence` of every stay with every candidate embedding of one modality.

        Args:
            z: ``(n, M, d)``; the target's rows are never read.
            present: ``(n, M)`` bool; the target's column is never read.
            candidates: ``(c, d)`` embeddings of the target.
            target: column of the target modality.

        Returns:
            ``(n, c)``.
        """
        fills = torch.arange(present.shape[-1], device=z.device) == target
        z = self._prepare(z, present & ~fills)
        # parts are per modality, so n + c evaluations do for n x c pairs
        own = self.link.parts(z)
        others = self.link.parts(
            self._placeholder(candidates[:, None, :].expand(-1, len(fills), -1).to(z.dtype), fills.expand(len(candidates), -1))
        )

        def crossed(a: Tensor, b: Tensor) -> Tensor:
            column = fills.view(-1, *[1] * (a.ndim - 2))
            return torch.where(column, b[None], a[:, None])

        parts = tuple(crossed(a, b) for a, b in zip(own, others, strict=True))
        return self.link.tie(parts, (present | fills)[:, None].expand(-1, len(candidates), -1))[1]

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws ``(*sample_shape, ..., M, d)``; `cm2.joint.links` says for each link which parameters the gradients reach."""
        z = self.link.mixture.mean.new_zeros(self.batch_shape + self.event_shape)
        absent = torch.zeros(z.shape[:-1], dtype=torch.bool, device=z.device)
        draws = self.link.conditional(self._placeholder(z, absent), absent, torch.Size(sample_shape).numel())
        return draws.reshape(torch.Size(sample_shape) + z.shape)

    def impute(self, z: Tensor, present: Tensor, n_draws: int = 1, how: Impute = "conditional") -> Tensor:
        """Draws the missing embeddings and returns the observed ones unchanged.

        Args:
            z: ``(..., M, d)``; rows of missing modalities are never read.
            present: ``(..., M)`` bool.
            n_draws: number of draws.
            how: ``"conditional"`` on the observed modalities, or ``"marginal"``, the paper's draw from f_m alone.

        Returns:
            ``(n_draws, ..., M, d)``; differentiable (see `cm2.joint.links`; marginal draws in every parameter of the mixture).

        Raises:
            ValueError: ``how`` unknown, ``n_draws`` < 1, and as for `terms`.
        """
        if how not in ("conditional", "marginal"):
            raise InputError(f'impute: unknown how={how!r}; choose "conditional" or "marginal"')
        if n_draws < 1:
            raise InputError(f"impute: n_draws must be at least 1, got {n_draws}")
        z = self._prepare(z, present)
        if how == "conditional":
            drawn = self.link.conditional(z, present, n_draws)
        else:
            batch = self.link.mixture.batch_shape
            drawn = self.link.mixture.rsample((n_draws, *z.shape[: z.ndim - 1 - len(batch)]))
        return torch.where(present[..., None], z, drawn)

    def conditional_mean(self, z: Tensor, present: Tensor, n_draws: int = 256) -> ConditionalMean:
        """Mean of the missing embeddings given the observed ones, the best forecast in squared error.

        Args:
            z: ``(..., M, d)``; rows of missing modalities are never read.
            present: ``(..., M)`` bool.
            n_draws: number of draws, for links that need them.

        Returns:
            mean ``(..., M, d)``, observed rows unchanged, and its error: 0 for ``link="vector"`` with Gaussian copulas, in closed form; a
            bound of the quadrature's error for its other copulas; the standard error of draws for the other links.

        Raises:
            ValueError: ``n_draws`` < 2, and as for `terms`.
        """
        if n_draws < 2:
            raise InputError(f"conditional_mean: n_draws must be at least 2, got {n_draws}")
        z = self._prepare(z, present)
        mean, error = self.link.conditional_mean(z, present, n_draws)
        observed = present[..., None]
        return ConditionalMean(torch.where(observed, z, mean), torch.where(observed, 0.0, error))

    def _prepare(self, z: Tensor, present: Tensor | None) -> Tensor:
        if self.checked:
            self._check(z, present)
        z = z.to(torch.promote_types(z.dtype, self.link.mixture.mean.dtype))
        return z if present is None else self._placeholder(z, present)

    def _placeholder(self, z: Tensor, present: Tensor) -> Tensor:
        """Replaces the rows that may not be read by a component's mean."""
        # a NaN would reach the gradient even where a later torch.where discards its value
        return torch.where(present[..., None], z, self.link.mixture.mean[..., 0, :].detach())

    def _check(self, z: Tensor, present: Tensor | None) -> None:
        if z.shape[-2:] != self.event_shape:
            modalities, dim = self.event_shape
            raise InputError(f"z: expected shape (..., {modalities}, {dim}), one row per modality, got {tuple(z.shape)}")
        if present is not None:
            if present.dtype != torch.bool or present.shape != z.shape[:-1]:
                expected = tuple(z.shape[:-1])
                raise InputError(f"present: expected bool {expected}, got {present.dtype} {tuple(present.shape)}")
            if not bool(present.any(-1).all()):
                raise InputError("present: a stay has no modality; drop such stays")
            z = torch.where(present[..., None], z, 0.0)  # missing rows may hold NaN
        if bool(z.isnan().any()):
            raise InputError("z: NaN in a present modality; mark it absent with present=False")
