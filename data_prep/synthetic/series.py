"""Charted series driven by an embedding: 24 two-hour steps of the 76 columns of the MIMIC benchmarks.

17 channels: 12 continuous columns, 47 one-hot columns, then 17 masks. Levels and trends over the 48 hours are linear in the factors,
noise is autoregressive, charting has gaps; an uncharted step repeats the last charted value, or the channel's normal value before
the first (Harutyunyan et al., Scientific Data 2019, with 2-hour steps).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.channels import CHANNELS, Channel
from data_prep.filling import forward_fill

STEPS = 24
NOISE = 0.35
PERSISTENCE = 0.6
LOADING_SEED = 1976


@dataclass(frozen=True)
class Charting:
    """How a channel is simulated.

    Args:
        charted: probability that a step has a value.
        spread: change per standard deviation of the signal, in the channel's unit; 0 for categories.
        levels: positions of the categories that are charted, from worst to best.
    """

    charted: float
    spread: float = 0.0
    levels: tuple[int, ...] = ()


CHARTING = {
    "Capillary refill rate": Charting(0.15, levels=(1, 0)),
    "Diastolic blood pressure": Charting(0.9, 9.0),
    "Fraction inspired oxygen": Charting(0.4, 1.0),
    "Glascow coma scale eye opening": Charting(0.5, levels=(4, 0, 5, 6)),
    "Glascow coma scale motor response": Charting(0.5, levels=(3, 2, 8, 6, 5, 7)),
    "Glascow coma scale total": Charting(0.5, levels=(6, 8, 7, 10, 9, 12, 11, 1, 0, 3, 2, 5, 4)),
    "Glascow coma scale verbal response": Charting(0.5, levels=(1, 7, 3, 2, 4)),
    "Glucose": Charting(0.45, 25.0),
    "Heart Rate": Charting(0.95, 13.0),
    "Height": Charting(0.05, 9.0),
    "Mean blood pressure": Charting(0.9, 10.0),
    "Oxygen saturation": Charting(0.9, 1.0),
    "Respiratory rate": Charting(0.9, 3.5),
    "Systolic blood pressure": Charting(0.9, 14.0),
    "Temperature": Charting(0.6, 0.5),
    "Weight": Charting(0.15, 12.0),
    "pH": Charting(0.35, 0.05),
}
CONSTANT = ("Height", "Weight")


def draw_series(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Charted series in their units.

    Args:
        x: factors of the series embedding ``(n, d)``, column 0 the severity.
        rng: generator of noise and gaps.

    Returns:
        ``(n, 24, 76)`` float32.
    """
    n = len(x)
    signal = _signal(x, rng)
    charted = rng.random((n, STEPS, len(CHANNELS))) < np.array([CHARTING[channel.name].charted for channel in CHANNELS])
    charted[:, 0, CHANNELS.index(_channel("Height"))] = True
    values = np.stack([_values(channel, signal[:, :, i]) for i, channel in enumerate(CHANNELS)], axis=2)
    filled = forward_fill(np.where(charted, values, np.nan))
    filled = np.where(np.isnan(filled), np.array([channel.normal for channel in CHANNELS]), filled)
    columns = []
    for i, channel in enumerate(CHANNELS):
        one_hot = filled[:, :, i, None] == np.arange(len(channel.categories))
        columns.append(one_hot if channel.categories else filled[:, :, i, None])
    return np.concatenate([*columns, charted], axis=2).astype(np.float32)


def _channel(name: str) -> Channel:
    return next(channel for channel in CHANNELS if channel.name == name)


def _signal(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, dim = x.shape
    fixed = np.random.default_rng(LOADING_SEED)
    level, trend = fixed.normal(size=(2, len(CHANNELS), dim)) / np.sqrt(dim)
    level[:, 0] = np.where(fixed.random(len(CHANNELS)) < 0.5, -0.6, 0.6)  # every channel depends on the severity
    for name, sign in (("Systolic blood pressure", -1), ("Mean blood pressure", -1), ("Heart Rate", 1), ("Oxygen saturation", 1)):
        level[CHANNELS.index(_channel(name)), 0] = 0.6 * sign
    for i, channel in enumerate(CHANNELS):
        if channel.categories:
            level[i, 0] = 0.9
        if channel.name in CONSTANT:
            trend[i] = 0
    time = np.linspace(-1, 1, STEPS)[None, :, None]
    noise = rng.normal(size=(n, STEPS, len(CHANNELS)))
    for step in range(1, STEPS):  # first-order autoregression of variance 1
        noise[:, step] = PERSISTENCE * noise[:, step - 1] + np.sqrt(1 - PERSISTENCE**2) * noise[:, step]
    still = np.array([0.05 if channel.name in CONSTANT else NOISE for channel in CHANNELS])
    return (x @ level.T)[:, None] + 0.7 * time * (x @ trend.T)[:, None] + still * noise


def _values(channel: Channel, signal: np.ndarray) -> np.ndarray:
    if channel.categories:
        # a high signal is bad; the best category holds until the signal is above average
        cuts = np.linspace(2.0, 0.2, len(CHARTING[channel.name].levels) - 1)
        rank = (signal[..., None] < cuts).sum(axis=-1)
        return np.array(CHARTING[channel.name].levels, dtype=np.float64)[rank]
    if channel.name == "Fraction inspired oxygen":
        return 0.21 + 0.79 / (1 + np.exp(1.5 - signal))
    if channel.name == "Oxygen saturation":
        return 100 - 3 * np.exp(0.5 * signal)
    return channel.normal + CHARTING[channel.name].spread * signal
