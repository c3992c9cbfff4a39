"""A channel that hardly varies in training says nothing about how far another stay is from it."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.channels import CHANNELS, feature_names
from data_prep.mimic.quirks import Quirks
from data_prep.mimic.series import discretise

NUMERIC = [channel for channel in CHANNELS if channel.plausible]


@pytest.mark.parametrize("channel", NUMERIC, ids=lambda channel: channel.name)
@pytest.mark.parametrize("spread", [0, 1e-9, 1e-4])
def test_no_deviation_turns_no_information_into_a_huge_value(channel, spread):
    values = np.full((6, 24, len(CHANNELS)), np.nan)
    values[:5, :, CHANNELS.index(channel)] = channel.normal + spread * np.arange(5)[:, None]
    values[5, :, CHANNELS.index(channel)] = channel.plausible[1]
    fitted = np.arange(6) < 5
    series, statistics = discretise(values, fitted, Quirks())
    assert np.abs(series).max() <= 100 and channel.name in statistics["least_deviation"]
    at = statistics["features"].index(channel.name)
    column = series[:, :, feature_names().index(channel.name)].astype(np.float64)
    restored = column * statistics["std"][at] + statistics["mean"][at]
    np.testing.assert_allclose(restored, values[:, :, CHANNELS.index(channel)], rtol=1e-5)
    released, statistics = discretise(values, fitted, Quirks.of("released"))
    assert spread == 1e-4 or np.abs(released).max() > 1e4
    assert statistics["std"][at] >= 1e-7
