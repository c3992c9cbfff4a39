"""Random numbers that belong to a stay: the same in every order, split, process and machine."""

from __future__ import annotations

import hashlib

import numpy as np


def stable_uniform(seed: int, stay_id: np.ndarray, name: str) -> np.ndarray:
    """A uniform number in [0, 1) for each stay: SplitMix64 (Steele, Lea, Flood 2014) of (seed, name) and the stay's id.

    Args:
        seed: any integer.
        stay_id: ``(n,)`` int64.
        name: of what is drawn, for example a modality.

    Returns:
        ``(n,)`` float64.
    """
    key = np.frombuffer(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest(), dtype="<u8")
    x = np.asarray(stay_id).astype(np.int64).view(np.uint64) + key
    for _ in range(2):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)) * 2.0**-53
