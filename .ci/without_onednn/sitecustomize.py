"""Imported by every interpreter that finds this folder on its path: torch without oneDNN, for which no variable exists."""

import contextlib

with contextlib.suppress(ImportError):
    import torch

    torch.backends.mkldnn.set_flags(False)
