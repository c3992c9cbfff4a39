r"""Joint distribution of the modalities' embeddings: Gaussian mixtures coupled by a copula.

Sklar's theorem couples univariate margins. A copula of the *joint* distribution functions of vectors, the paper's equation 7 as
printed, is in general not a distribution (Genest, Quesada Molina, Rodriguez Lallena 1995). The links of `cm2.joint.links` keep the
paper's idea and are exact, but for ``link="paper"``, the printed formula.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cm2.config.names import choose
from cm2.containers import ModulesInOrder
from cm2.copulas import Copula
from cm2.joint.distribution import CopulaJointDistribution
from cm2.joint.links import ALL_LINKS, PerDimension, TailCopula
from cm2.marginals import GaussianMixture, GaussianMixtureDistribution

_DIRECTIONS = 8


class CopulaJoint(nn.Module):
    r"""Learnable joint distribution of M embeddings of d coordinates each; calling it returns a `CopulaJointDistribution`.

    Args:
        copula: copula on :math:`(0, 1)^M`, of any family, vines included. ``link="dimension"`` and ``"vector"`` have d and r copulas: one
            that all share, a list of them, or one with parameters of shape ``(d,)`` or ``(r,)`` (`Copula.side_by_side`).
        marginals: M mixtures, one per modality, with the same d, number of components K and kind of covariance.
        link: ``"component"``, ``"scalar"``, ``"dimension"``, ``"vector"``, or ``"paper"``, which is not a density for d > 1 (see
            `cm2.joint.links`).
        types: ``"independent"`` labels; ``"joint"`` (with ``"component"`` and ``"vector"``), a K x ... x K table of label weights, whose
            margins are the mixtures' weights, at first their product; or ``"none"`` (with ``"vector"``).
        directions: r of ``link="vector"``, at most d; 8, or d if that is less, where None. They start at random.

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
        directions: int | None = None,
    ) -> None:
        super().__init__()
        _check_choice(link, types)
        _check_marginals(marginals)
        self.raw_directions = self._start_directions(link, directions, len(marginals), marginals[0].mean)
        self.copula = copula if isinstance(copula, Copula) else ModulesInOrder(copula)
        self.marginals = ModulesInOrder(marginals)
        self.link, self.types = link, types
        self._check_copula()
        shape = (marginals[0].components,) * len(marginals)
        self.table = nn.Parameter(torch.zeros(shape).to(marginals[0].mean)) if types == "joint" else None

    @property
    def directions(self) -> Tensor | None:
        """Orthonormal columns of the vector link, ``(M, d, r)``; None for other links."""
        return None if self.raw_directions is None else orthonormal(self.raw_directions)

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
        mean = torch.stack([law.mean for law in laws])
        scale = torch.stack([law.scale if law.scale_tril is None else law.scale_tril for law in laws])
        mixture = GaussianMixtureDistribution(log_weights, mean, scale, validate_args=False)
        link = ALL_LINKS[self.link].of(self.types)(self._copula_law(), mixture, excess, self.directions)
        return CopulaJointDistribution(link, validate_args)

    def extra_repr(self) -> str:
        directions = "" if self.raw_directions is None else f", directions={self.raw_directions.shape[-1]}"
        return f"link={self.link!r}, types={self.types!r}{directions}"

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
        count = 0 if self.raw_directions is None else self.raw_directions.shape[-1]
        several = ALL_LINKS[self.link].several(dim, count)
        what = "direction" if count else "coordinate"
        if not isinstance(self.copula, Copula) and len(each) != several:
            raise ValueError(
                f"{len(each)} copulas given with link={self.link!r}; "
                + (f"it needs one for each of {several} {what}s" if several else 'a list needs link="dimension" or "vector"')
            )
        batch = self.copula(validate_args=False).batch_shape if isinstance(self.copula, Copula) else torch.Size()
        if batch not in ((), (several,) if several else ()):
            raise ValueError(
                f"copula with parameters of shape {tuple(batch)} given with link={self.link!r}; "
                + (f"it takes one per {what}, ({several},)" if several else 'only link="dimension" and "vector" take several')
            )

    @staticmethod
    def _start_directions(link: str, count: int | None, modalities: int, like: Tensor) -> nn.Parameter | None:
        dim = like.shape[-1]
        if not ALL_LINKS[link].directed:
            if count is not None:
                raise ValueError(f'directions={count} given with link={link!r}; only link="vector" has directions')
            return None
        count = min(_DIRECTIONS, dim) if count is None else count
        if not 1 <= count <= dim:
            raise ValueError(f"directions={count} for embeddings of {dim} coordinates; choose 1 to {dim}")
        return nn.Parameter(torch.linalg.qr(torch.randn(modalities, dim, count, dtype=like.dtype)).Q.to(like.device))


def orthonormal(raw: Tensor) -> Tensor:
    """Orthonormal columns with the span of the raw ones, ``(..., d, r)``; nothing waits for a device.

    Cholesky-QR, twice (Fukaya et al. 2014, CholeskyQR2): the second pass takes away the rounding errors of the first.
    """
    for _ in range(2):
        factor = torch.linalg.cholesky_ex(raw.mT @ raw).L
        raw = torch.linalg.solve_triangular(factor.mT, raw, upper=True, left=False)
    return raw


def _check_choice(link: str, types: str) -> None:
    if link not in ALL_LINKS:
        raise ValueError(f"unknown link {link!r}; {choose(link, ALL_LINKS)}")
    known = list(dict.fromkeys(name for each in ALL_LINKS.values() for name in each.types))
    if types not in known:
        raise ValueError(f"unknown types {types!r}; {choose(types, known)}")
    if types not in ALL_LINKS[link].types:
        able = " or ".join(name for name, each in ALL_LINKS.items() if types in each.types)
        raise ValueError(f"types={types!r} is not for link={link!r}; use link={able}")


def _check_marginals(marginals: Sequence[GaussianMixture]) -> None:
    if len(marginals) < 2:
        raise ValueError(f"CopulaJoint: expected at least two marginals, got {len(marginals)}")
    sizes = [(mixture.components, mixture.dim, mixture.covariance) for mixture in marginals]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"CopulaJoint: marginals must agree in (components, dim, covariance), got {sizes}; project the embeddings to one dim"
        )


def _outer_sum(vectors: Sequence[Tensor]) -> Tensor:
    """M vectors ``(K,)`` -> ``(K, ..., K)``, the sum of one entry of each."""
    total = vectors[0]
    for vector in vectors[1:]:
        total = total[..., None] + vector
    return total
