"""The linear-Gaussian reference: canonical analysis of plain summaries, and a regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.containers import ModulesInOrder
from cm2.copulas.families.gaussian import Gaussian
from cm2.errors import InputError
from cm2.joint import CopulaJoint
from cm2.joint.diagnostics import describe
from cm2.marginals import GaussianMixture
from cm2.methods.baselines.base import Baseline
from cm2.methods.baselines.logistic import fit_logistic
from cm2.methods.baselines.standardised import TINY, Standardised
from cm2.methods.baselines.summaries import Summaries, chunks
from cm2.methods.contract import Stays
from cm2.methods.task_loss import check_outcomes
from cm2.tasks import Task

DIRECTIONS = 16
"""Canonical directions of each modality, at most."""
SHRINKAGE = 0.02
"""Of the correlations along the directions towards 0: of few stays their estimate may be singular."""


class Linear(Baseline):
    r"""What linear algebra makes of the columns of ``Summaries``: principal components, canonical correlations, regression.

    The embedding of a modality holds the leading principal components of its columns, whitened on the training stays. The joint
    distribution of all embeddings is Gaussian, with cross-covariances along the `DIRECTIONS` strongest canonical directions (link
    ``vector``, fitted by `cm2.joint.CopulaJoint.fit`). The outputs are linear in the embeddings of all modalities, missing
    ones replaced by their mean given the observed ones: :math:`b + \sum_m w_m^\top E[z_m \mid z_O]`.

    No network and no epochs: what it reaches in alignment, imputation and prediction is what every network is to be held against.
    Not in the paper; both variants are the same.

    References:
        Hotelling, "Relations between two sets of variates", Biometrika 1936.

    Args:
        config: the run's configuration; ``embedding_dim`` and ``tree_tokens`` of ``config.baseline`` are read.
        modalities: the cohort's modalities, one or more; of a single one there is no joint distribution.
        task: what is predicted; None: a binary outcome.
    """

    name: ClassVar[str] = "linear"
    variants: ClassVar[tuple[str, ...]] = ("original",)
    fewest = 1

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        self.seed = config.seed
        self.summaries = Summaries(modalities, self.config.tree_tokens)
        width = min(self.config.embedding_dim, *self.summaries.widths)
        self.components = ModulesInOrder([Components(columns, width) for columns in self.summaries.widths])
        self._build(width, min(DIRECTIONS, width))
        self.register_load_state_dict_pre_hook(_take_sizes)

    def _build(self, width: int, directions: int) -> None:
        """Joint distribution and classifier of embeddings of this width, not fitted."""
        count, device = len(self.names), self.components[0].directions.device
        self.joint: CopulaJoint | None = None
        if count > 1:
            marginals = [GaussianMixture(1, width, covariance="full") for _ in self.names]
            copula = Gaussian(count).side_by_side(directions)
            self.joint = CopulaJoint(copula, marginals, link="vector", directions=directions).requires_grad_(False).to(device)
        self.classifier = nn.Linear(count * width, self.task.outputs, device=device, dtype=torch.float64).requires_grad_(False)

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Fits components, joint distribution and classifier; C is chosen by the task's criterion on validation stays, ties by its loss.

        Args:
            train: stays to fit to; of those whose outcome is unknown, components and joint distribution.
            valid: stays to choose C on.

        Returns:
            One row: ``epoch``, ``train_task``, ``valid_task``, metrics after ``valid_``, ``inverse_penalty`` (C), and of the
            joint distribution ``law_nats`` and `cm2.joint.diagnostics.describe`.

        Raises:
            ValueError: training stays from which the task cannot be learnt, a modality whose columns do not vary over them, or one that
                fewer than five of them have together with another one.
        """
        check_outcomes(self.name, self.task, train.label)
        self.summaries.choose_tokens(chunks(train))
        self._fit_components(train)
        z, present = self._embeddings(train)
        law = self._fit_law(z, present)
        filled, valid_filled = self._fill(z, present), self._fill(*self._embeddings(valid))
        return [fit_logistic(self.task, self.classifier, filled, train.label, valid_filled, valid.label) | law]

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Whitened principal components.

        Returns:
            ``z`` ``(B, M, d)`` float32, zero where missing, and ``present`` ``(B, M)``.

        Raises:
            ValueError: the batch's modalities are not this method's.
        """
        self.check(batch)
        columns = self.summaries(batch).split(self.summaries.widths, dim=1)
        z = torch.stack([components(x) for components, x in zip(self.components, columns, strict=True)], dim=1)
        return torch.where(batch.present[..., None], z, 0).float(), batch.present

    def logits(self, batch: Batch) -> Tensor:
        """Outputs ``(B, outputs)``."""
        return self.classifier(self._fill(*self.embed(batch))).float()

    def embedding_law(self) -> CopulaJoint | None:
        """Joint distribution of the embeddings; None with one modality."""
        return self.joint

    def why_no_law(self) -> str:
        """Why `embedding_law` is None, as the end of a sentence that begins with the method; empty if it is not."""
        return "" if self.joint is not None else "has one modality, and a law joins several"

    def _embeddings(self, stays: Stays) -> tuple[Tensor, Tensor]:
        z, present = zip(*(self.embed(batch) for batch in chunks(stays)), strict=True)
        return torch.cat(z), torch.cat(present)

    def _fill(self, z: Tensor, present: Tensor) -> Tensor:
        """Embeddings side by side, missing ones replaced by their conditional mean, ``(B, M d)`` float64."""
        if self.joint is not None:
            with torch.autocast(z.device.type, enabled=False):
                z = self.joint(validate_args=False).conditional_mean(z, present).mean
        return z.flatten(1).double()

    def _fit_components(self, train: Stays) -> None:
        columns = torch.cat([self.summaries(batch) for batch in chunks(train)]).split(self.summaries.widths, dim=1)
        present = torch.cat([batch.present for batch in chunks(train)])
        for m, (name, components) in enumerate(zip(self.names, self.components, strict=True)):
            own = columns[m][present[:, m]]
            if not components.fit(own):
                raise InputError(f"linear: the columns of {name} do not vary over its {len(own)} training stays; leave the modality out")
        width = min(self.config.embedding_dim, *(components.width for components in self.components))
        for components in self.components:
            components.keep(width)
        # a direction needs as many stays that have the modality and another one
        together = (present & (present.sum(1) > 1)[:, None]).sum(0)
        self._build(width, min(DIRECTIONS, width, *together[together > 0].tolist()))

    def _fit_law(self, z: Tensor, present: Tensor) -> dict[str, float]:
        if self.joint is None:
            return {}
        report = self.joint.requires_grad_(True).fit(z, present, seed=self.seed, names=self.names)
        _shrink(self.joint.requires_grad_(False))
        return describe(self.joint, z, present) | {"law_nats": report.dependence}


class Components(Standardised):
    """Standardises columns, clips them, and projects them on their leading principal components, whitened.

    Args:
        columns: number of columns.
        width: number of components before the first fit.
    """

    directions: Tensor

    def __init__(self, columns: int, width: int) -> None:
        super().__init__(columns)
        self.register_buffer("directions", torch.eye(columns, width, dtype=torch.float64))
        self.register_load_state_dict_pre_hook(_take_width)

    @property
    def width(self) -> int:
        """Number of components."""
        return self.directions.shape[1]

    def fit(self, x: Tensor) -> bool:
        """Fits all components with a variance, on ``(n, columns)``; whether there are any."""
        super().fit(x)
        y = super().forward(x)
        variance, vectors = torch.linalg.eigh(y.T @ y / max(len(y), 1))
        own = variance > TINY * variance.amax()
        vectors = vectors[:, own].flip(1)
        vectors = vectors * torch.where(vectors.sum(0) < 0, -1.0, 1.0)  # a sign that does not depend on the machine
        self.directions = vectors / variance[own].flip(0).sqrt()
        return self.width > 0

    def keep(self, width: int) -> None:
        """Keeps the leading components."""
        self.directions = self.directions[:, :width].contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """``(n, columns) -> (n, width)`` float64."""
        return super().forward(x) @ self.directions


def _shrink(joint: CopulaJoint) -> None:
    """Shrinks the correlations along the directions."""
    assert isinstance(joint.copula, Gaussian)
    one = torch.eye(joint.copula.dim, device=joint.copula.raw.device)
    shrunk = Gaussian(joint.copula.dim, correlation=(1 - SHRINKAGE) * joint.copula.correlation + SHRINKAGE * one)
    joint.copula.load_state_dict(shrunk.state_dict())


def _take_width(components: Components, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A fit may have found fewer components than were asked for."""
    if (saved := state.get(f"{prefix}directions")) is not None:
        components.directions = components.directions.new_zeros(len(components.directions), saved.shape[1])


def _take_sizes(method: Linear, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Likewise, and fewer directions."""
    weight, directions = (state.get(f"{prefix}{name}") for name in ("classifier.weight", "joint.raw_directions"))
    if weight is not None:
        method._build(weight.shape[1] // len(method.names), 1 if directions is None else directions.shape[-1])
