r"""Joint distribution of the modalities' embeddings: Gaussian mixtures coupled by a copula.

Sklar's theorem couples univariate margins. A copula of the *joint* distribution functions of vectors, the paper's equation 7 as
printed, is in general not a distribution (Genest, Quesada Molina, Rodriguez Lallena 1995). Three links of `cm2.joint.links` keep the
paper's idea and are exact; ``link="paper"`` is the printed formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from cm2.containers import ModulesInOrder
from cm2.copulas import Copula
from cm2.joint.links import ALL_LINKS, Link, PerDimension, TailCopula
from cm2.marginals import GaussianMixture, GaussianMixtureDistribution

Impute = Literal["conditional", "marginal"]


class CopulaJoint(nn.Module):
    r"""Learnable joint distribution of M embeddings of d coordinates each; calling it returns a `CopulaJointDistribution`.

    Args:
        copula: copula on :math:`(0, 1)^M`, of any family, vines included; for ``link="dimension"`` also a list of d of them, or one with
            parameters of shape ``(d,)``.
        marginals: M mixtures, one per modality, with the same d and the same number of components K.
        link: ``"component"``, ``"scalar"``, ``"dimension"``, or ``"paper"``, which is not a density for d > 1 (see `cm2.joint.links`).
        types: ``"independent"`` labels, or ``"joint"`` (only with ``"component"``): a K x ... x K table of label weights, whose margins
            are the mixtures' weights. The table starts as the product of the mixtures' weights.

    Raises:
        ValueError: an unknown link or types, mixtures that do not match each other or the copula.

    Example:
        >>> from cm2.copulas import make
        >>> joint = CopulaJoint(make("gumbel", 2, alpha=2.0), [GaussianMixture(3, 8), GaussianMixture(3, 8)])
        >>> joint().rsample((5,)).shape
        torch.Size([5, 2, 8])
    """

    def __init__(
        self,
        copula: Copula | Sequence[Copula],
        marginals: Sequence[GaussianMixture],
        link: str = "component",
        types: str = "independent",
    ) -> None:
        super().__init__()
        _check_choice(link, types)
        _check_marginals(marginals)
        self.copula = copula if isinstance(copula, Copula) else ModulesInOrder(copula)
        self.marginals = ModulesInOrder(marginals)
        self.link, self.types = link, types
        self._check_copula()
        shape = (marginals[0].components,) * len(marginals)
        self.table = nn.Parameter(torch.zeros(shape).to(marginals[0].mean)) if types == "joint" else None

    @property
    def dim(self) -> int:
        """Width of an embedding, d."""
        return self.marginals[0].dim

    def initialise(self, z: Tensor, present: Tensor | None = None, seed: int = 0) -> None:
        """Initialises every mixture by k-means++ (`GaussianMixture.initialise`) on a first batch ``(n, M, d)`` with mask ``(n, M)``."""
        for m, mixture in enumerate(self.marginals):
            mixture.initialise(z[:, m] if present is None else z[present[:, m], m], seed)

    def forward(self, log_weights: Tensor | None = None, validate_args: bool | None = None) -> CopulaJointDistribution:
        """The distribution at the current parameters.

        Args:
            log_weights: ``(..., M, K)`` replace the mixtures' weights, for weights predicted per stay; only with independent labels.
            validate_args: check every argument (torch's default); if False, nothing waits for a device.

        Raises:
            ValueError: ``log_weights`` together with ``types="joint"``.
        """
        excess = None
        if self.table is not None:
            if log_weights is not None:
                raise ValueError('log_weights replace the mixtures\' weights, types="joint" ties them by a table; use types="independent"')
            log_weights, excess = self._table_weights(self.table)
        elif log_weights is None:
            log_weights = torch.stack([mixture.logits for mixture in self.marginals]).log_softmax(-1)
        laws = [mixture(validate_args=False) for mixture in self.marginals]
        mean, scale = torch.stack([law.mean for law in laws]), torch.stack([law.scale for law in laws])
        mixture = GaussianMixtureDistribution(log_weights, mean, scale, validate_args=False)
        return CopulaJointDistribution(ALL_LINKS[self.link](self._copula_law(), mixture, excess), validate_args)

    def extra_repr(self) -> str:
        return f"link={self.link!r}, types={self.types!r}"

    def _copula_law(self) -> TailCopula:
        if isinstance(self.copula, Copula):
            return self.copula(validate_args=False)
        return PerDimension([copula(validate_args=False) for copula in self.copula])

    def _table_weights(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Log margins of the table ``(M, K)``, and the log of the table over their product ``(K, ..., K)``."""
        axes = range(table.ndim)
        logits = table + _outer_sum([mixture.logits for mixture in self.marginals])
        table = logits - logits.flatten().logsumexp(-1)
        margins = [table.logsumexp([a for a in axes if a != m]) if table.ndim > 1 else table for m in axes]
        return torch.stack(margins), table - _outer_sum(margins)

    def _check_copula(self) -> None:
        modalities, dim = len(self.marginals), self.dim
        each = [self.copula] if isinstance(self.copula, Copula) else list(self.copula)
        if any(c.dim != modalities for c in each):
            dims = sorted({c.dim for c in each})
            raise ValueError(f"copula of dim {dims} for {modalities} marginals; make it with dim={modalities}")
        if not isinstance(self.copula, Copula) and (self.link != "dimension" or len(each) != dim):
            raise ValueError(
                f'{len(each)} copulas given with link={self.link!r}; a list needs link="dimension" and one for each of {dim} coordinates'
            )
        batch = self.copula(validate_args=False).batch_shape if isinstance(self.copula, Copula) else torch.Size()
        if batch not in ((), (dim,) if self.link == "dimension" else ()):
            raise ValueError(f'copula with parameters of shape {tuple(batch)}: only link="dimension" takes one per coordinate, ({dim},)')


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
        return marginal if present is None else torch.where(present, marginal, 0.0)

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
            raise ValueError(f'impute: unknown how={how!r}; choose "conditional" or "marginal"')
        if n_draws < 1:
            raise ValueError(f"impute: n_draws must be at least 1, got {n_draws}")
        z = self._prepare(z, present)
        if how == "conditional":
            drawn = self.link.conditional(z, present, n_draws)
        else:
            batch = self.link.mixture.batch_shape
            drawn = self.link.mixture.rsample((n_draws, *z.shape[: z.ndim - 1 - len(batch)]))
        return torch.where(present[..., None], z, drawn)

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
            raise ValueError(f"z: expected shape (..., {modalities}, {dim}), one row per modality, got {tuple(z.shape)}")
        if present is not None:
            if present.dtype != torch.bool or present.shape != z.shape[:-1]:
                expected = tuple(z.shape[:-1])
                raise ValueError(f"present: expected bool {expected}, got {present.dtype} {tuple(present.shape)}")
            if not bool(present.any(-1).all()):
                raise ValueError("present: a stay has no modality; drop such stays")
            z = torch.where(present[..., None], z, 0.0)  # missing rows may hold NaN
        if bool(z.isnan().any()):
            raise ValueError("z: NaN in a present modality; mark it absent with present=False")


def _check_choice(link: str, types: str) -> None:
    if link not in ALL_LINKS:
        raise ValueError(f"unknown link {link!r}; choose one of {sorted(ALL_LINKS)}")
    if types not in ("independent", "joint"):
        raise ValueError(f'unknown types {types!r}; choose "independent" or "joint"')
    if types == "joint" and link != "component":
        raise ValueError(f'types="joint" is a table of component labels, which link={link!r} has none of; use link="component"')


def _check_marginals(marginals: Sequence[GaussianMixture]) -> None:
    if len(marginals) < 2:
        raise ValueError(f"CopulaJoint: expected at least two marginals, got {len(marginals)}")
    sizes = [(mixture.components, mixture.dim) for mixture in marginals]
    if len(set(sizes)) > 1:
        raise ValueError(f"CopulaJoint: marginals must agree in (components, dim), got {sizes}; project the embeddings to one dim")


def _outer_sum(vectors: Sequence[Tensor]) -> Tensor:
    """M vectors ``(K,)`` -> ``(K, ..., K)``, the sum of one entry of each."""
    total = vectors[0]
    for vector in vectors[1:]:
        total = total[..., None] + vector
    return total
