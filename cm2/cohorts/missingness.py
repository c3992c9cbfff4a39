"""Masking of modalities, completely at random or not, reproducible on every machine.

Modality m of stay i is masked if ``u_im < p_im``, with u_im a uniform number that is a hash of (seed, stay, modality). So the result
does not depend on the order of the stays, on the split or on other masked modalities, and a modality masked at rate 0.25 is masked at
every higher rate too.

=========  ======================================================================================================================
mechanism  p_im, at an average rate r over the stays of the split in which m is observed
=========  ======================================================================================================================
``mcar``   r: completely at random
``mar``    sigmoid(a + b s_ik), k the first modality that is never masked: depends on observed values
``mnar``   sigmoid(a + b s_im): depends on the value that is masked
=========  ======================================================================================================================

s is a stay's summary of a modality (see ``Cohort.summary``) as a normal score of its rank in the split, b = 1.5, and a solves mean
p = r. The three mechanisms are those of Rubin (Biometrika, 1976).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtri
from scipy.stats import rankdata

from cm2.config import MECHANISMS
from cm2.config.names import choose, did_you_mean
from cm2.errors import InputError

STRENGTH = 1.5


def stable_uniform(seed: int | str, stay_id: np.ndarray, name: str) -> np.ndarray:
    """A uniform number in [0, 1) for each stay: SplitMix64 (Steele, Lea, Flood 2014) of (seed, name) and the stay's id.

    Args:
        seed: any integer or name; different seeds give unrelated numbers.
        stay_id: ``(n,)`` int64.
        name: name of the drawn quantity, for example a modality.

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
    return (x >> np.uint64(11)) * 2.0**-53  # the 53 bits of a float64


def take_away(
    present: np.ndarray,
    stay_id: np.ndarray,
    names: Sequence[str],
    absent: Mapping[str, float],
    mechanism: str,
    seed: int | str,
    summary: Callable[[str], np.ndarray],
) -> tuple[np.ndarray, int]:
    """Masks modalities of stays.

    A stay never becomes empty: if all its modalities would be masked, the one with the largest u is left.

    Args:
        present: mask of observed modalities ``(n, M)`` bool.
        stay_id: ``(n,)`` int64.
        names: the M modalities.
        absent: rate in [0, 1] by modality, among the stays in which it is observed.
        mechanism: ``mcar``, ``mar`` or ``mnar``.
        seed: seed of the hash.
        summary: gives ``(n,)`` float of a modality; called only for ``mar`` and ``mnar``.

    Returns:
        The remaining mask ``(n, M)`` bool, and the number of stays in which one modality was left only to keep them from being empty.

    Raises:
        ValueError: an unknown modality or mechanism, a rate outside [0, 1], or ``mar`` with every modality in ``absent``.
    """
    check(names, absent, mechanism)
    uniform = np.stack([stable_uniform(seed, stay_id, name) for name in names], axis=1)
    left = present.copy()
    for name, rate in absent.items():
        m = list(names).index(name)
        driver = name if mechanism == "mnar" else next((other for other in names if other not in absent), "")
        probability = rate if mechanism == "mcar" else _probability(summary(driver), present[:, names.index(driver)], present[:, m], rate)
        left[:, m] &= uniform[:, m] >= probability
    empty = ~left.any(axis=1) & present.any(axis=1)
    kept = np.where(present, uniform, -1.0).argmax(axis=1)
    left[empty, kept[empty]] = True
    return left, int(empty.sum())


def check(names: Sequence[str], absent: Mapping[str, float], mechanism: str) -> None:
    """Raises ValueError for arguments that ``take_away`` refuses; see there."""
    if mechanism not in MECHANISMS:
        raise InputError(f"mechanism: unknown value {mechanism!r}; {choose(mechanism, MECHANISMS)}")
    for name, rate in absent.items():
        if name not in names:
            raise InputError(f"absent: unknown modality {name!r}; this cohort has {', '.join(names)}{did_you_mean(name, names)}")
        if not 0 <= rate <= 1:
            raise InputError(f"absent: the rate of {name} is {rate}; give a fraction between 0 and 1")
    if mechanism == "mar" and absent and set(absent) == set(names):
        raise InputError(f"absent: mar needs a modality that stays, but all of {', '.join(names)} are taken away; leave one out")


def _probability(summary: np.ndarray, seen: np.ndarray, has: np.ndarray, rate: float) -> np.ndarray:
    score = np.zeros(len(summary))  # the mean score for stays without the driving modality
    if seen.any():
        score[seen] = ndtri(rankdata(summary[seen]) / (seen.sum() + 1))
    if rate in (0, 1) or not has.any():
        return np.full(len(summary), float(rate))
    offset = brentq(lambda a: expit(a + STRENGTH * score[has]).mean() - rate, -60, 60)
    return expit(offset + STRENGTH * score)
