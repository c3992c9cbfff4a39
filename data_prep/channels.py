"""The 17 channels of the MIMIC benchmarks (Harutyunyan et al., Scientific Data 2019) as 76 columns, shared by all charted cohorts.

12 continuous columns and 47 one-hot columns in the order of the channels, then 17 masks. CareVue and MetaVision, the hospital's two
charting systems, spell the categories of the Glasgow coma scale differently; the benchmarks keep them apart.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Channel:
    """One channel.

    Args:
        name: in the spelling of the benchmark.
        normal: normal value; for categories its position among them.
        unit: unit of the value.
        categories: in one-hot order; empty for a numeric channel.
        plausible: least and largest value, both allowed, that an adult's device or laboratory can show, with room to spare: to catch a pH
            of 735, not to trim tails. None for categories.
    """

    name: str
    normal: float
    unit: str = "1"
    categories: tuple[str, ...] = ()
    plausible: tuple[float, float] | None = None


CHANNELS = (
    Channel("Capillary refill rate", 0, categories=("0.0", "1.0")),
    Channel("Diastolic blood pressure", 59.0, "mmHg", plausible=(5, 200)),
    Channel("Fraction inspired oxygen", 0.21, "1", plausible=(0.2, 1)),
    Channel(
        "Glascow coma scale eye opening",
        3,
        categories=(
            *("To Pain", "3 To speech", "1 No Response", "4 Spontaneously"),
            *("None", "To Speech", "Spontaneously", "2 To pain"),
        ),
    ),
    Channel(
        "Glascow coma scale motor response",
        9,
        categories=(
            *("1 No Response", "3 Abnorm flexion", "Abnormal extension", "No response", "4 Flex-withdraws", "Localizes Pain"),
            *("Flex-withdraws", "Obeys Commands", "Abnormal Flexion", "6 Obeys Commands", "5 Localizes Pain", "2 Abnorm extensn"),
        ),
    ),
    Channel(
        "Glascow coma scale total",
        4,
        categories=("11", "10", "13", "12", "15", "14", "3", "5", "4", "7", "6", "9", "8"),
    ),
    Channel(
        "Glascow coma scale verbal response",
        6,
        categories=(
            *("1 No Response", "No Response", "Confused", "Inappropriate Words", "Oriented", "No Response-ETT", "5 Oriented"),
            *("Incomprehensible sounds", "1.0 ET/Trach", "4 Confused", "2 Incomp sounds", "3 Inapprop words"),
        ),
    ),
    Channel("Glucose", 128.0, "mg/dL", plausible=(5, 2000)),
    Channel("Heart Rate", 86.0, "1/min", plausible=(10, 300)),
    Channel("Height", 170.0, "cm", plausible=(120, 230)),
    Channel("Mean blood pressure", 77.0, "mmHg", plausible=(15, 250)),
    Channel("Oxygen saturation", 98.0, "%", plausible=(20, 100)),
    Channel("Respiratory rate", 19.0, "1/min", plausible=(1, 80)),
    Channel("Systolic blood pressure", 118.0, "mmHg", plausible=(20, 300)),
    Channel("Temperature", 36.6, "°C", plausible=(25, 45)),
    Channel("Weight", 81.0, "kg", plausible=(20, 300)),
    Channel("pH", 7.4, "1", plausible=(6.5, 8)),
)
CONTINUOUS = tuple(i for i, channel in enumerate(CHANNELS) if not channel.categories)


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
