"""Calibration: whether what was predicted comes true as often, or as much, as predicted.

A task says what its predictions claim of a stay that can be compared with outcomes (`cm2.tasks.Task.forecasts`): a `Probability`, a `Mean`,
or the probability of an event `EventBy` a time, which of some stays is unknown. `calibration` computes of each the reliability curve, the
error, calibration in the large and the slope; a `Recalibration` is fitted on other stays.
"""

from cm2.calibration.forecasts import EventBy, Forecast, Mean, Probability
from cm2.calibration.recalibration import Line, Recalibration, fitted_line, temperature
from cm2.calibration.reliability import Bin, Calibration, calibration, error, in_the_large, intercept_and_slope, reliability, root

__all__ = [
    "Bin",
    "Calibration",
    "EventBy",
    "Forecast",
    "Line",
    "Mean",
    "Probability",
    "Recalibration",
    "calibration",
    "error",
    "fitted_line",
    "in_the_large",
    "intercept_and_slope",
    "reliability",
    "root",
    "temperature",
]
