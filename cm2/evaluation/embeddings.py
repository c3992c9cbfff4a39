"""Embeddings of a split's stays under a method, on which alignment and imputation are evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cm2.cohorts import Stays
from cm2.cohorts.missingness import stable_uniform, take_away
from cm2.config import Config
from cm2.errors import InputError
from cm2.joint import CopulaJointDistribution
from cm2.methods.contract import Embeds, Method
from cm2.runs.batches import loader


@dataclass(frozen=True)
class Embedded:
    """Embeddings of stays, of the same width for every modality."""

    z: Tensor
    """``(n, M, d)`` float32; rows of missing modalities are never read."""
    present: Tensor
    """``(n, M)`` bool."""
    stay_id: Tensor
    """``(n,)`` int64."""
    names: tuple[str, ...]
    """The M modalities."""

    def __len__(self) -> int:
        return len(self.stay_id)

    def stays(self, chosen: Tensor, most: int | None = None, seed: int = 0) -> Tensor:
        """Positions of the ``chosen`` stays ``(n,)`` bool; if more than ``most``, a random sample determined by their ids and the seed."""
        rows = chosen.nonzero().flatten()
        if most is None or len(rows) <= most:
            return rows
        order = np.argsort(stable_uniform(seed, self.stay_id[rows].numpy(), "sample"), kind="stable")
        return rows[torch.from_numpy(np.sort(order[:most]))]

    def hide(self, target: int, rate: float = 0.0, seed: int = 0) -> Tensor:
        """Conditioning set for the target, a mask ``(n, M)``: the target is masked, the others each with probability ``rate``.

        If all others would be masked, one is left. A modality masked at a rate is masked at every higher one (`cm2.cohorts.missingness`).
        """
        given = self.present.clone()
        given[:, target] = False
        rates = {name: rate for m, name in enumerate(self.names) if m != target}
        left, _ = take_away(given.numpy(), self.stay_id.numpy(), self.names, rates, "mcar", seed, lambda _: np.empty(0))
        return torch.from_numpy(left)


@torch.inference_mode()
def embed_stays(method: Method, config: Config, stays: Stays) -> Embedded:
    """Embeds a split by a trained method.

    Args:
        method: one with ``embed``, see `cannot_embed`.
        config: configuration of its run.
        stays: stays of the cohort it was trained on.

    Raises:
        ValueError: the method has no embeddings.
    """
    if not isinstance(method, Embeds):
        raise InputError(f"{config.method}: {cannot_embed(method)}")
    device = next(method.parameters()).device
    batches = [method.eval().embed(batch.to(device)) for batch in loader(stays, config.train)]
    z, present = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    return Embedded(z.float(), present, stays.stay_id, tuple(m.name for m in stays.modalities))


def cannot_embed(method: Method) -> str:
    """Why a method has no vector of the same width for each modality; empty if it has."""
    return "" if isinstance(method, Embeds) else "has no vector of one width for each modality"


def cannot_score(method: Method) -> str:
    """Why a method has no density of its embeddings; empty if its loss fits one."""
    return method.why_no_law()


def law_of(method: Method) -> CopulaJointDistribution:
    """Fitted joint distribution of a method's embeddings, without gradients, on the CPU.

    Raises:
        ValueError: the method has none.
    """
    if (joint := method.embedding_law()) is None:
        raise InputError(f"{type(method).__name__}: {method.why_no_law()}")
    return joint.cpu().requires_grad_(False)(validate_args=False)
