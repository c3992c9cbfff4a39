"""Scales of predictions that several tasks share: pooling of log-odds, and the numbers that are kept of a probability."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor
from torch.nn.functional import logsigmoid


def mean_log_odds(logits: Tensor, present: Tensor) -> Tensor:
    """Log-odds of the mean probability of the observed models, accurate near 0 and 1.

    Args:
        logits: ``(B, M)`` or ``(B, M, L)``.
        present: ``(B, M)`` bool.

    Returns:
        ``(B,)`` or ``(B, L)``.
    """
    seen = present.view(*present.shape, *[1] * (logits.ndim - present.ndim))
    one = torch.where(seen, logsigmoid(logits), -torch.inf).logsumexp(dim=1)
    zero = torch.where(seen, logsigmoid(-logits), -torch.inf).logsumexp(dim=1)
    return one - zero


def start_log_odds(positives: Tensor, negatives: Tensor) -> Tensor:
    """Log-odds of counts, with half a stay more on either side: there may be none."""
    return ((positives + 0.5) / (negatives + 0.5)).log()


def compact_logits(probability: NDArray) -> NDArray:
    """Log-odds of probabilities, float16: near 1 a probability would lose more."""
    with np.errstate(divide="ignore"):  # probabilities of 0 and 1
        return logit(probability.astype(np.float64)).astype(np.float16)


def expanded_logits(logits: NDArray) -> NDArray:
    """Probabilities of log-odds, float64."""
    return expit(logits.astype(np.float64))


def at_least_single(x: Tensor) -> Tensor:
    """Numbers of half precision as float32; others as they are."""
    return x.float() if x.element_size() < 4 else x
