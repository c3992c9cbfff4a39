"""Charted series driven by an embedding: 24 two-hour steps of the 76 columns of the MIMIC benchmarks.

17 channels: 12 continuous columns, 47 one-hot columns, then 17 masks. Levels and trends over the 48 hours are linear in the factors,
noise is autoregressive, charting has gaps; an uncharted step repeats the last charted value, or the channel's normal value before
the first (Harutyunyan et al., Scientific Data 2019, with 2-hour steps).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.filling import forward_fill

STEPS = 24
NOISE = 0.35
PERSISTENCE = 0.6
LOADING_SEED = 1976


@dataclass(frozen=True)
class Channel:
    """One channel: how often it is charted, its normal value and, if it is not continuous, its categories.

    Args:
        name: spelling of the benchmark.
        charted: probability that a step has a value.
        normal: normal value; for categories its position among them.
        unit: of the value.
        spread: what one standard deviation of the signal adds; 0 for categories.
        categories: in one-hot order.
        levels: positions of the categories that are charted, from worst to best.
    """

    name: str
    charted: float
    normal: float
    unit: str = "1"
    spread: float = 0.0
    categories: tuple[str, ...] = ()
    levels: tuple[int, ...] = ()


CHANNELS = (
    Channel("Capillary refill rate", 0.15, 0, categories=("0.0", "1.0"), levels=(1, 0)),
    Channel("Diastolic blood pressure", 0.9, 59.0, "mmHg", 9.0),
    Channel("Fraction inspired oxygen", 0.4, 0.21, "1", 1.0),
    Channel(
        "Glascow coma scale eye opening",
        0.5,
        3,
        categories=(
            *("To Pain", "3 To speech", "1 No Response", "4 Spontaneously"),
            *("None", "To Speech", "Spontaneously", "2 To pain"),
        ),
        levels=(4, 0, 5, 6),
    ),
    Channel(
        "Glascow coma scale motor response",
        0.5,
        9,
        categories=(
            *("1 No Response", "3 Abnorm flexion", "Abnormal extension", "No response", "4 Flex-withdraws", "Localizes Pain"),
            *("Flex-withdraws", "Obeys Commands", "Abnormal Flexion", "6 Obeys Commands", "5 Localizes Pain", "2 Abnorm extensn"),
        ),
        levels=(3, 2, 8, 6, 5, 7),
    ),
    Channel(
        "Glascow coma scale total",
        0.5,
        4,
        categories=("11", "10", "13", "12", "15", "14", "3", "5", "4", "7", "6", "9", "8"),
        levels=(6, 8, 7, 10, 9, 12, 11, 1, 0, 3, 2, 5, 4),
    ),
    Channel(
        "Glascow coma scale verbal response",
        0.5,
        6,
        categories=(
            *("1 No Response", "No Response", "Confused", "Inappropriate Words", "Oriented", "No Response-ETT", "5 Oriented"),
            *("Incomprehensible sounds", "1.0 ET/Trach", "4 Confused", "2 Incomp sounds", "3 Inapprop words"),
        ),
        levels=(1, 7, 3, 2, 4),
    ),
    Channel("Glucose", 0.45, 128.0, "mg/dL", 25.0),
    Channel("Heart Rate", 0.95, 86.0, "1/min", 13.0),
    Channel("Height", 0.05, 170.0, "cm", 9.0),
    Channel("Mean blood pressure", 0.9, 77.0, "mmHg", 10.0),
    Channel("Oxygen saturation", 0.9, 98.0, "%", 1.0),
    Channel("Respiratory rate", 0.9, 19.0, "1/min", 3.5),
    Channel("Systolic blood pressure", 0.9, 118.0, "mmHg", 14.0),
    Channel("Temperature", 0.6, 36.6, "°C", 0.5),
    Channel("Weight", 0.15, 81.0, "kg", 12.0),
    Channel("pH", 0.35, 7.4, "1", 0.05),
)
CONTINUOUS = tuple(i for i, channel in enumerate(CHANNELS) if not channel.categories)
CONSTANT = ("Height", "Weight")


def feature_names() -> list[str]:
    """Names of the 76 columns, in order."""
    names = []
    for channel in CHANNELS:
        names += [f"{channel.name}->{category}" for category in channel.categories] or [channel.name]
    return names + [f"mask->{channel.name}" for channel in CHANNELS]


def units(standardised: bool = True) -> list[str]:
    """Units of the 76 columns."""
    of = {channel.name: channel.unit for channel in CHANNELS if not channel.categories}
    return [f"standard deviations of {of[name]}" if standardised and name in of else of.get(name, "1") for name in feature_names()]


def continuous_columns() -> list[int]:
    """Positions of the 12 continuous columns: the ones that are standardised."""
    names = feature_names()
    return [names.index(CHANNELS[i].name) for i in CONTINUOUS]


def draw_series(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Charted series in their units.

    Args:
        x: factors of the series embedding ``(n, d)``, column 0 the severity.
        rng: of noise and gaps.

    Returns:
        ``(n, 24, 76)`` float32.
    """
    n = len(x)
    signal = _signal(x, rng)
    charted = rng.random((n, STEPS, len(CHANNELS))) < np.array([channel.charted for channel in CHANNELS])
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
    level[:, 0] = np.where(fixed.random(len(CHANNELS)) < 0.5, -0.6, 0.6)  # every channel tells of the severity
    for name, sign in (("Systolic blood pressure", -1), ("Mean blood pressure", -1), ("Heart Rate", 1), ("Oxygen saturation", 1)):
        level[CHANNELS.index(_channel(name)), 0] = 0.6 * sign
    for i, channel in enumerate(CHANNELS):
        if channel.categories:
            level[i, 0] = 0.9
        if channel.name in CONSTANT:
            trend[i] = 0
    time = np.linspace(-1, 1, STEPS)[None, :, None]
    noise = rng.normal(size=(n, STEPS, len(CHANNELS)))
    for step in range(1, STEPS):
        noise[:, step] = PERSISTENCE * noise[:, step - 1] + np.sqrt(1 - PERSISTENCE**2) * noise[:, step]
    still = np.array([0.05 if channel.name in CONSTANT else NOISE for channel in CHANNELS])
    return (x @ level.T)[:, None] + 0.7 * time * (x @ trend.T)[:, None] + still * noise


def _values(channel: Channel, signal: np.ndarray) -> np.ndarray:
    if channel.categories:
        # a high signal is bad; the best category holds until the signal is above average
        cuts = np.linspace(2.0, 0.2, len(channel.levels) - 1)
        rank = (signal[..., None] < cuts).sum(axis=-1)
        return np.array(channel.levels, dtype=np.float64)[rank]
    if channel.name == "Fraction inspired oxygen":
        return 0.21 + 0.79 / (1 + np.exp(1.5 - signal))
    if channel.name == "Oxygen saturation":
        return 100 - 3 * np.exp(0.5 * signal)
    return channel.normal + channel.spread * signal
