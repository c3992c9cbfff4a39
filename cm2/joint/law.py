r"""Joint distribution of the modalities' embeddings: Gaussian mixtures coupled by a copula.

Sklar's theorem couples univariate margins. A copula of the *joint* distribution functions of vectors, the paper's equation 7 as
printed, is in general not a distribution (Genest, Quesada Molina, Rodriguez Lallena 1995). The links of `cm2.joint.links` keep the
paper's idea and are exact, but for ``link="paper"``, the printed formula.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from cm2.containers import ModulesInOrder
from cm2.copulas import Copula
from cm2.copulas.chosen import Chosen
from cm2.errors import InputError
from cm2.joint.checks import check_choice, check_copula, check_directions, check_marginals, check_sample
from cm2.joint.directions import cross_moments, fold_directions, leading_directions, orthonormal, random_directions
from cm2.joint.distribution import CopulaJointDistribution
from cm2.joint.estimation import JointFit, ascend
from cm2.joint.families import choose_families
from cm2.joint.links import ALL_LINKS, PerDimension, TailCopula, WithoutSome
from cm2.marginals import GaussianMixture, GaussianMixtureDistribution

_FOLDS, _BLOCK = 5, 2_048


class CopulaJoint(nn.Module):
    r"""Learnable joint distribution of M embeddings of d coordinates each; calling it returns a `CopulaJointDistribution`.

    Args:
        copula: copula on :math:`(0, 1)^M`, of any family, vines included. ``link="dimension"`` and ``"vector"`` have d and r copulas: one
            that all share, a list of them, or one with parameters of shape ``(d,)`` or ``(r,)`` (`Copula.side_by_side`). With
            ``"vector"`` a list of r `Chosen`: `fit` then also chooses the family of each direction.
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
        check_choice(link, types)
        check_marginals(marginals)
        count = check_directions(link, directions, marginals[0].dim)
        self.raw_directions = nn.Parameter(random_directions(len(marginals), count, marginals[0].mean)) if count else None
        self.copula = copula if isinstance(copula, Copula) else ModulesInOrder(copula)
        self.marginals = ModulesInOrder(marginals)
        self.link, self.types = link, types
        check_copula(copula, len(marginals), self.dim, link, count)
        shape = (marginals[0].components,) * len(marginals)
        self.table = nn.Parameter(torch.zeros(shape).to(marginals[0].mean)) if types == "joint" else None
        # modalities that `fit` never saw with another one take no part in the dependence; the flag spares a look at a device
        self.coupled: Tensor
        self.register_buffer("coupled", torch.ones(len(marginals), dtype=torch.bool))
        self._all_coupled = True
        self.register_load_state_dict_pre_hook(_read_coupled)

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

    @torch.no_grad()
    def initialise_directions(self, z: Tensor, present: Tensor | None = None) -> None:
        """Begins gradient steps at the directions with the largest correlations in a first batch, at the current margins.

        From random ones they need not arrive: where a direction of either modality is orthogonal to what the others have left, the
        likelihood has no slope in it, and a family without negative dependence, such as Clayton's, is at independence before the
        directions have turned. Those whose opposite is likelier, for a copula with one tail, are turned round. Nothing happens without
        directions.

        Args:
            z: ``(n, M, d)``; rows of missing modalities are never read.
            present: ``(n, M)`` bool, or None: all observed.

        Raises:
            ValueError: a wrong shape; fewer stays with two modalities than directions.
        """
        present = torch.ones(z.shape[:2], dtype=torch.bool) if present is None else present.cpu()
        check_sample(z, present, len(self.marginals), self.dim)
        self._check_pairs(present, [str(m) for m in range(len(self.marginals))])
        if self.raw_directions is None:
            return
        chosen = present.sum(1) > 1
        pairs, mask = torch.where(present[..., None], z.detach().cpu().double(), 0.0)[chosen], present[chosen]
        if not len(pairs):
            return
        work = deepcopy(self).cpu().double()
        raw, start = cast(nn.Parameter, work.raw_directions), torch.zeros(len(pairs), dtype=torch.long)
        work._choose_directions(pairs, mask, torch.arange(len(pairs)) % _FOLDS)
        work._turn(raw, pairs, mask, raw.detach().clone()[None], start)
        self.raw_directions.copy_(raw)

    def fit(
        self,
        z: Tensor,
        present: Tensor | None = None,
        *,
        start: bool = True,
        shrinkage: float = 0.0,
        iterations: int = 100,
        seed: int = 0,
        names: Sequence[str] | None = None,
    ) -> JointFit:
        """Inference for margins (Joe 1997): every mixture by EM, then at these margins the directions and the copula.

        Every stay is used where it can be: a margin takes all stays with the modality, the dependence all stays with two or more. The
        copula's parameters (and the table of types) maximise the exact likelihood, along directions that other stays chose
        (`directions.fold_directions`).

        Args:
            z: ``(n, M, d)`` embeddings, on any device; rows of missing modalities are never read.
            present: ``(n, M)`` bool, or None: all observed.
            start: begin the mixtures with k-means; False: with the current parameters, for a law that follows its embeddings.
            shrinkage: of full covariances, see `GaussianMixture.fit`.
            iterations: of EM, at most.
            seed: of k-means and of the folds.
            names: of the modalities, for errors and warnings; their numbers where None.

        Raises:
            ValueError: a wrong shape; a modality that no stay has; a mixture that cannot be fitted, with modality and component; fewer
                stays with two modalities than directions.

        Warns:
            UserWarning: a modality that is never observed with another one: its margin is fitted, and it is independent of the others.
        """
        present = torch.ones(z.shape[:2], dtype=torch.bool) if present is None else present.cpu()
        check_sample(z, present, len(self.marginals), self.dim)
        names = [str(m) for m in range(len(self.marginals))] if names is None else names
        self._check_pairs(present, names)
        if unseen := [name for name, seen in zip(names, present.any(0).tolist(), strict=True) if not seen]:
            raise InputError(f"fit: no stay has modality {unseen[0]}, so its margin cannot be fitted; leave the modality out")
        # to the host first: not every device has double precision
        z = torch.where(present[..., None], z.detach().cpu().double(), 0.0)
        work = deepcopy(self).cpu().double()
        for m, (name, mixture) in enumerate(zip(names, work.marginals, strict=True)):
            try:
                if start:
                    mixture.initialise(z[present[:, m], m], seed)
                mixture.fit(z[present[:, m], m], shrinkage=shrinkage, iterations=iterations)
            except ValueError as error:
                raise InputError(f"modality {name}: {error}") from error
        report = work._fit_dependence(z, present, seed, names)
        self.load_state_dict(work.state_dict())
        return report

    def _check_pairs(self, present: Tensor, names: Sequence[str]) -> None:
        """Raises ValueError if a modality that is observed with another one is so in fewer stays than there are directions."""
        if self.raw_directions is None:
            return
        count = self.raw_directions.shape[-1]
        with_another = (present & (present.sum(1) > 1)[:, None]).sum(0)
        few = (with_another > 0) & (with_another < max(count, _FOLDS))
        if bool(few.any()):
            m = int(few.nonzero()[0])
            raise InputError(
                f"fit: {int(with_another[m])} stays have modality {names[m]} together with another one, too few for {count} directions; "
                "give more stays or fewer directions"
            )

    def _fit_dependence(self, z: Tensor, present: Tensor, seed: int, names: Sequence[str]) -> JointFit:
        """Directions and copula at fitted margins; float64, on the CPU."""
        seen = present.double()
        paired = seen.T @ seen
        alone = (paired - torch.diag(paired.diagonal()) == 0).all(1)
        self.coupled.copy_(~alone)
        self._all_coupled = not bool(alone.any())
        if not self._all_coupled:
            lonely = ", ".join(name for name, one in zip(names, alone, strict=True) if one)
            warnings.warn(f"never observed with another modality, hence taken as independent: {lonely}", stacklevel=3)
        chosen = (present & self.coupled).sum(1) > 1
        pairs, mask = z[chosen], present[chosen]
        folds = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed)) % _FOLDS
        directions = self._choose_directions(pairs, mask, folds)
        if self.raw_directions is not None and directions is not None:
            self._choose_families(self.raw_directions, pairs, mask, directions, folds)
        copulas = [self.copula] if isinstance(self.copula, Copula) else self.copula
        fitted = [copula.chosen if isinstance(copula, Chosen) else copula for copula in copulas]
        parameters = [*(p for copula in fitted for p in copula.parameters()), *([] if self.table is None else [self.table])]

        def nats(part: slice) -> Tensor:
            law = self._distribution(None, None if directions is None else directions[folds[part]])
            return law.dependence(pairs[part], mask[part]).sum()

        converged = not len(pairs) or ascend(parameters, nats, len(pairs))
        if self.raw_directions is not None and directions is not None and self._turn(self.raw_directions, pairs, mask, directions, folds):
            converged = ascend(parameters, nats, len(pairs))
        with torch.no_grad():
            parts = [slice(first, first + _BLOCK) for first in range(0, len(pairs), _BLOCK)]
            total = sum(float(nats(part)) for part in parts)
            marginal = float(self(validate_args=False).marginal_log_prob(z, present).sum()) / len(z)
        if not math.isfinite(total):
            raise InputError(
                f"fit: the copula fitted to {len(pairs)} stays is singular: in some direction one modality determines another; "
                "give more stays or fewer directions"
            )
        likelihood, dependence = marginal + total / len(z), total / max(len(pairs), 1)
        return JointFit(len(z), paired.long(), likelihood, dependence, tuple(alone.nonzero().flatten().tolist()), converged)

    @torch.no_grad()
    def _choose_directions(self, z: Tensor, present: Tensor, folds: Tensor) -> Tensor | None:
        """Sets the directions, and returns those of each fold ``(folds, M, d, r)``, which the other folds chose."""
        if self.raw_directions is None:
            return None
        count = self.raw_directions.shape[-1]
        if not len(z):
            return None
        scores = self(validate_args=False).link.mean_scores(z)
        scores = torch.where(self.coupled[:, None], scores, 0.0)
        seen = present.double()
        self.raw_directions.copy_(leading_directions(cross_moments(scores, present), seen.T @ seen, count))
        return fold_directions(scores, present, folds, count)

    def _choose_families(self, raw: nn.Parameter, z: Tensor, present: Tensor, directions: Tensor, folds: Tensor) -> None:
        """Chooses the families of directions whose copulas are `Chosen`."""
        copulas = [] if isinstance(self.copula, Copula) else [copula for copula in self.copula if isinstance(copula, Chosen)]
        if not copulas:
            return
        with torch.no_grad():
            scores = self._scores(z, directions[folds])
        sign = choose_families(copulas, scores, present & self.coupled)
        with torch.no_grad():
            directions.mul_(sign)
            raw.mul_(sign)

    def _scores(self, z: Tensor, directions: Tensor) -> Tensor:
        """Normal scores along the directions of each stay's fold, ``(n, r, M)``."""
        link = self._distribution(None, directions).link
        return (link.mean_scores(z)[..., None, :] @ directions).squeeze(-2).mT

    @torch.no_grad()
    def _turn(self, raw: nn.Parameter, z: Tensor, present: Tensor, directions: Tensor, folds: Tensor) -> bool:
        """Turns directions round whose opposite is likelier, for copulas with one tail; whether there were any."""
        law, scores = self._distribution(None, directions[folds]), self._scores(z, directions[folds])
        mask = present[:, None].expand(scores.shape)
        gain = (law.link.copula.log_prob_scores(-scores, mask) - law.link.copula.log_prob_scores(scores, mask)).sum(0)
        turned = gain > 1e-6 * len(z)
        sign = torch.where(turned, -1.0, 1.0).to(scores)
        directions.mul_(sign)
        raw.mul_(sign)
        return bool(turned.any())

    def forward(self, log_weights: Tensor | None = None, validate_args: bool | None = None) -> CopulaJointDistribution:
        """The distribution at the current parameters.

        Args:
            log_weights: ``(..., M, K)`` replace the mixtures' weights, for weights predicted per stay; only with independent labels.
            validate_args: check every argument (torch's default); if False, nothing waits for a device.

        Raises:
            ValueError: ``log_weights`` together with ``types="joint"``.
        """
        return self._distribution(log_weights, self.directions, validate_args)

    def _distribution(
        self, log_weights: Tensor | None, directions: Tensor | None, validate_args: bool | None = False
    ) -> CopulaJointDistribution:
        excess = None
        if self.table is not None:
            if log_weights is not None:
                raise InputError('log_weights replace the mixtures\' weights, types="joint" ties them by a table; use types="independent"')
            log_weights, excess = self._table_weights(self.table)
        elif log_weights is None:
            log_weights = torch.stack([mixture.logits for mixture in self.marginals]).log_softmax(-1)
        laws = [mixture(validate_args=False) for mixture in self.marginals]
        mean = torch.stack([law.mean for law in laws])
        scale = torch.stack([law.scale if law.scale_tril is None else law.scale_tril for law in laws])
        mixture = GaussianMixtureDistribution(log_weights, mean, scale, validate_args=False)
        link = ALL_LINKS[self.link].of(self.types)(self._copula_law(), mixture, excess, directions)
        return CopulaJointDistribution(link, validate_args)

    def extra_repr(self) -> str:
        directions = "" if self.raw_directions is None else f", directions={self.raw_directions.shape[-1]}"
        return f"link={self.link!r}, types={self.types!r}{directions}"

    def _copula_law(self) -> TailCopula:
        law: TailCopula
        if isinstance(self.copula, Copula):
            law = self.copula(validate_args=False)
        else:
            law = PerDimension([copula(validate_args=False) for copula in self.copula])
        return law if self._all_coupled else WithoutSome(law, self.coupled)

    def _table_weights(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Log margins of the table ``(M, K)``, and the log of the table over their product ``(K, ..., K)``."""
        axes = range(table.ndim)
        logits = table + _outer_sum([mixture.logits for mixture in self.marginals])
        table = logits - logits.flatten().logsumexp(-1)
        margins = [table.logsumexp([a for a in axes if a != m]) if table.ndim > 1 else table for m in axes]
        return torch.stack(margins), table - _outer_sum(margins)


def _outer_sum(vectors: Sequence[Tensor]) -> Tensor:
    """M vectors ``(K,)`` -> ``(K, ..., K)``, the sum of one entry of each."""
    total = vectors[0]
    for vector in vectors[1:]:
        total = total[..., None] + vector
    return total


def _read_coupled(joint: CopulaJoint, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Parameters saved before modalities could be uncoupled load as well."""
    coupled = state.setdefault(f"{prefix}coupled", torch.ones(len(joint.marginals), dtype=torch.bool))
    joint._all_coupled = bool(coupled.all())
