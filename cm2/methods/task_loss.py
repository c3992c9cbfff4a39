"""The loss of the clinical task, for every method."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cm2.errors import InputError


def cross_entropy(logits: Tensor, label: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean binary cross entropy of the stays whose outcome is known; 0 if there are none.

    Args:
        logits: ``(B,)`` log-odds.
        label: ``(B,)``, 0 or 1, or NaN where the outcome is unknown.
        present: ``(B,)`` bool, stays to be counted; None: all.
    """
    known = ~label.isnan()
    counted = known if present is None else known & present
    each = F.binary_cross_entropy_with_logits(logits.float(), torch.where(known, label, 0).float(), reduction="none")
    return torch.where(counted, each, 0).sum() / counted.sum().clamp(min=1)


def check_outcomes(method: str, label: Tensor) -> None:
    """Raises ValueError if all training stays with a known outcome have the same one."""
    known = label[~label.isnan()]
    if len(found := known.unique()) < 2:
        raise InputError(f"{method}: all {len(known)} training stays have the outcome {int(found[0])}; use a split that has both")
