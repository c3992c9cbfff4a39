"""What became of each channel of a cohort's series: the health table of ``cm2 verify``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cm2.cohorts import Cohort
from cm2.cohorts.disclosure import Disclosure
from cm2.cohorts.format import read_exact
from cm2.kinds import kind
from cm2.kinds.contract import MASK, ROWS_AT_ONCE

PARTS = {
    "not_a_number": "no number",
    "not_a_category": "no category",
    "of_another_fluid": "not blood",
    "out_of_range": "implausible",
    "before_entry": "before entry",
    "after_48_hours": "after 48 h",
    "used": "used",
}
"""Ends of an event in ``counts.channels`` of a manifest, and how the table calls them; those of a channel add up to ``charted``."""

NO_ITEM, EMPTY, UNREAD, CONSTANT, FINE = "no item", "empty", "unread", "constant", "fine"
LACKING = {EMPTY: "nothing is charted", UNREAD: "of what is charted nothing is used"}


def channel_health(cohort: Cohort) -> pd.DataFrame:
    """One row for each channel with a mask, of every series.

    Args:
        cohort: a prepared cohort.

    Returns:
        ``modality, channel, state, charted``, the ``PARTS``, ``stays`` and ``steps`` with a value. The last two and the state are
        computed from the values; the others are the manifest's, missing where it has none. States: ``no item`` (the source has no such
        channel, says the manifest), ``empty``, ``unread``, ``constant`` (one value in all training stays) and ``fine``.
    """
    rows = []
    told = read_exact(cohort.path).get("counts", {}).get("channels", {})  # guarded below, where they are shown
    training = (cohort.stays["split"] == "train").to_numpy()
    for name, entry in cohort.manifest["modalities"].items():
        if not kind(entry["kind"]).named_steps:
            continue
        for channel, columns, mask in _channels(entry["features"]):
            said = told.get(channel, {})
            counts = {key: said.get(key) for key in ("charted", *PARTS)}
            rows.append({"modality": name, "channel": channel} | counts | _seen(cohort.array(name), columns, mask, training, said))
    return pd.DataFrame(rows, columns=["modality", "channel", "state", "charted", *PARTS, "stays", "steps"])


def health_findings(cohort: Cohort) -> Iterator[tuple[str, str]]:
    """What was checked and what is wrong, one pair for each series: a channel that the source has and no stay."""
    table = channel_health(cohort)
    for name, channels in table.groupby("modality", sort=False):
        states = zip(channels["channel"], channels["state"], channels.to_dict("records"), strict=True)
        problems = [f"{channel}: {LACKING[state]}{_why(row, cohort.disclosure)}" for channel, state, row in states if state in LACKING]
        yield f"{name}: every channel has values", "; ".join(problems)


def health_text(cohort: Cohort) -> str:
    """The table as plain text; of a credentialed cohort without counts from 1 to 9 and those they follow from."""
    table = channel_health(cohort)
    if table.empty:
        return ""
    lines = [_line(row, cohort.disclosure) for row in table.to_dict("records")]
    shown = pd.DataFrame(lines).rename(columns=PARTS)
    told = [column for column in shown.columns if not shown[column].isin(("", "0") if column in PARTS.values() else ("",)).all()]
    return f"What became of the charted values, by channel\n{shown[told].to_string(index=False)}"


def _channels(features: list[str]) -> Iterator[tuple[str, list[int], int]]:
    """Channels that have a mask: name, columns and the column of the mask."""
    for at, feature in enumerate(features):
        if feature.startswith(MASK):
            name = feature.removeprefix(MASK)
            yield name, [i for i, other in enumerate(features) if other.split("->")[0] == name], at


def _seen(values: np.ndarray, columns: list[int], mask: int, training: np.ndarray, said: Mapping[str, Any]) -> dict[str, Any]:
    """State, stays and steps of one channel; what the manifest says decides only why nothing is there."""
    stays, steps, low, high = 0, 0, np.full(len(columns), np.inf), np.full(len(columns), -np.inf)
    for start in range(0, len(values), ROWS_AT_ONCE):
        block = np.asarray(values[start : start + ROWS_AT_ONCE])
        there = block[:, :, mask] == 1
        stays, steps = stays + int(there.any(axis=1).sum()), steps + int(there.sum())
        fitted = block[there & training[start : start + ROWS_AT_ONCE, None]][:, columns]
        if len(fitted):
            low, high = np.minimum(low, fitted.min(axis=0)), np.maximum(high, fitted.max(axis=0))
    if steps:
        state = CONSTANT if columns and (low == high).all() else FINE
    elif said.get("state") == NO_ITEM:
        state = NO_ITEM
    else:
        state = UNREAD if said.get("charted") else EMPTY
    return {"state": state, "stays": stays, "steps": steps}


def _why(row: Mapping[Any, Any], disclosure: Disclosure) -> str:
    """The commonest end of an unread channel's values, and of how many of them as far as it may be shown."""
    parts = {said: row[key] for key, said in PARTS.items() if key != "used" and row[key]}
    if row["state"] != UNREAD or not parts:
        return "; an item of the source may have been renamed, or its rows are not in the copy"
    most = max(parts, key=lambda said: parts[said])
    return f", most of it because: {most} ({disclosure.count(int(parts[most]))} of its values)"


def _line(row: Mapping[Any, Any], disclosure: Disclosure) -> dict[str, str]:
    sums = {key: int(row[key]) for key in ("charted", "stays", "steps") if not pd.isna(row[key])}
    parts = {key: int(row[key]) for key in PARTS if not pd.isna(row[key])}
    cells = {key: "hidden" if count is None else f"{count:,}" for key, count in disclosure.channel(sums, parts).items()}
    return {key: row[key] for key in ("modality", "channel", "state")} | {
        key: cells.get(key, "") for key in ("charted", *PARTS, "stays", "steps")
    }
