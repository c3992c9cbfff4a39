"""Maximum likelihood of what couples the embeddings, and the report of a fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from cm2.numerics.maximise import maximise

_BLOCK, _TOLERANCE = 2_048, 1e-5


@dataclass(frozen=True)
class JointFit:
    """Report of a fit; the estimate itself is set in the module.

    Attributes:
        n: number of stays.
        paired: ``(M, M)``, stays with both modalities; on the diagonal those with the modality.
        log_likelihood: mean log density of a stay's observed embeddings, in nats.
        dependence: mean of its dependence term over the stays with two modalities or more, in nats; for ``link="vector"`` along directions
            that other stays chose.
        uncoupled: modalities never observed with any other, which the joint distribution takes as independent of them.
        converged: whether the search for the copula's parameters ended at a maximum.
    """

    n: int
    paired: Tensor
    log_likelihood: float
    dependence: float
    uncoupled: tuple[int, ...]
    converged: bool


def ascend(parameters: Sequence[nn.Parameter], value: Callable[[slice], Tensor], n: int) -> bool:
    """Sets parameters to the maximum of a sum over n stays, from where they are; whether a maximum was found.

    Args:
        parameters: float64, on the CPU.
        value: the sum over a slice of the stays, as a function of the parameters' current values.
        n: number of stays.
    """
    if not parameters:
        return True
    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]

    def mean(raw: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.from_numpy(raw), parameters)
        for p in parameters:
            p.grad = None
        total = 0.0
        for block in blocks:  # block by block, to keep the graph in memory small
            part = value(block) / n
            part.backward()
            total += float(part.detach())
        return total, parameters_to_vector([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]).numpy()

    with torch.enable_grad():
        best = maximise(mean, parameters_to_vector(parameters).detach().numpy().astype(np.float64), tolerance=_TOLERANCE)
    vector_to_parameters(torch.from_numpy(best.point), parameters)
    for p in parameters:
        p.grad = None
    return best.converged
