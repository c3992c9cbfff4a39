"""What encoders can learn before the training: from all stays without an outcome, or the outcome from each modality alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.containers import ModulesByName
from cm2.errors import InputError
from cm2.joint.profile import profiled_dependence
from cm2.kinds import kind
from cm2.tasks import Task

HIDDEN = 0.5
"""Share of the numbers that are hidden."""


class DependenceObjective(nn.Module):
    """Likelihood of the modalities' dependence at its own Gaussian maximum, as in ``law = profile``: `profiled_dependence`.

    Args:
        embed: of a batch, ``z`` ``(B, M, d)`` and ``present`` ``(B, M)``.
        directions: see `profiled_dependence`.
        shrinkage: see there.
    """

    def __init__(self, embed: Callable[[Batch], tuple[Tensor, Tensor]], directions: int, shrinkage: float) -> None:
        super().__init__()
        self.embed, self.directions, self.shrinkage = embed, directions, shrinkage

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, and ``copula``, the nats per stay."""
        z, present = self.embed(batch)
        with torch.autocast(z.device.type, enabled=False):
            nats = profiled_dependence(z, present, self.directions, self.shrinkage)
        return {"loss": -nats, "copula": nats.detach()}


class MaskedObjective(nn.Module):
    """Prediction of hidden numbers of a modality from the embedding of what is left of it, by a linear head: a masked autoencoder.

    Half of the numbers of every series and vector are replaced by 0, their mean after standardisation; the loss is the mean squared
    error of these. Images and texts take no part. It asks for no second modality, which makes it the control of `DependenceObjective`.

    References:
        Vincent et al., "Extracting and composing robust features with denoising autoencoders", ICML 2008.

    Args:
        embed: see `DependenceObjective`.
        modalities: of the batches.
        dim: d.

    Raises:
        ValueError: neither a series nor a vector among the modalities.
    """

    def __init__(self, embed: Callable[[Batch], tuple[Tensor, Tensor]], modalities: Sequence[Modality], dim: int) -> None:
        super().__init__()
        self.embed, self.names = embed, [m.name for m in modalities]
        own = [m for m in modalities if kind(m.kind).standardised]
        if not own:
            kinds = ", ".join(m.kind for m in modalities)
            raise InputError(f"model.pretrain: masked predicts numbers of series and vectors, of which there are none among {kinds}")
        self.heads = ModulesByName({m.name: nn.Linear(dim, prod(m.shape)) for m in own})

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, the sum over the modalities."""
        hidden = {name: torch.rand_like(self._numbers(batch, name)) < HIDDEN for name in self.heads}
        left = {name: torch.where(here, 0, self._numbers(batch, name)) for name, here in hidden.items()}
        z, present = self.embed(replace(batch, values={**batch.values, **left}))
        errors = []
        for name, head in self.heads.items():
            m = self.names.index(name)
            counted = hidden[name].flatten(1) & present[:, m, None]
            difference = head(z[:, m]).float() - self._numbers(batch, name).flatten(1)
            errors.append(torch.where(counted, difference, 0).square().sum() / counted.sum().clamp(min=1))
        loss = torch.stack(errors).sum()
        return {"loss": loss, "masked": loss.detach()}

    @staticmethod
    def _numbers(batch: Batch, name: str) -> Tensor:
        value = batch.values[name]
        if isinstance(value, dict):
            raise TypeError(f"{name}: token ids are no numbers")
        return value


class SeparateObjective(nn.Module):
    """Prediction of the outcome from each modality alone, by a linear head on its embedding: the pre-training of MedFuse.

    A stay counts for the modalities that it has. The heads share nothing, so that the sum of their losses has for each encoder the
    gradient that it would have alone. They read the projected embeddings, as fusion does; in the original an image's head reads the
    encoder's output before its projection.

    References:
        Hayat, Geras, Shamout, "MedFuse: Multi-modal fusion with clinical time-series data and chest X-ray images", MLHC 2022.

    Args:
        embed: see `DependenceObjective`.
        modalities: M, the number of modalities.
        dim: d.
        task: what is predicted.
    """

    def __init__(self, embed: Callable[[Batch], tuple[Tensor, Tensor]], modalities: int, dim: int, task: Task) -> None:
        super().__init__()
        self.embed, self.task = embed, task
        self.heads = nn.ModuleList(nn.Linear(dim, task.outputs) for _ in range(modalities))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``loss``, the sum over the modalities; ``separate``, the same for the history."""
        z, present = self.embed(batch)
        each = [self.task.loss(head(z[:, m]), batch.label, present[:, m]) for m, head in enumerate(self.heads)]
        loss = torch.stack(each).sum()
        return {"loss": loss, "separate": loss.detach()}
