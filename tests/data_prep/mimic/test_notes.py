"""Which notes a prediction may read: rules that few stays of a fabricated copy bring together, each on a stay made for it."""

from __future__ import annotations

import pandas as pd
import pytest

from data_prep.mimic.notes import last_notes
from data_prep.mimic.quirks import Quirks

ENTRY = pd.Timestamp("2150-01-01 10:00:00")


def chosen(hours, **quirks):
    """Numbers of the notes, counted from 1, that a stay with notes at these hours after entry keeps."""
    notes = pd.DataFrame({"row_id": range(1, len(hours) + 1), "hadm_id": 7, "text": "x"})
    notes["charttime"] = ENTRY + pd.to_timedelta(hours, unit="h")
    stays = pd.DataFrame({"subject_id": [3], "hadm_id": [7], "intime": [ENTRY], "episode": [1], "split": ["train"]})
    first_event = pd.Series([ENTRY + pd.Timedelta("90min")], index=[7])
    (found,) = last_notes(notes.sort_values(["charttime", "row_id"], ignore_index=True), stays, first_event, Quirks(**quirks))
    return found["row_id"].tolist()


@pytest.mark.parametrize(
    ("hours", "quirks", "kept"),
    [
        ([1, 2, 3, 4, 5], {}, [1, 2, 3, 4, 5]),
        ([1, 2, 3, 4], {}, []),
        ([5, 4, 3, 2, 1, 0], {}, [5, 4, 3, 2, 1]),
        ([1, 2, 3, 4, 5], {"notes_need_six": True}, []),
        ([1, 2, 3, 4, 5, 6], {"notes_need_six": True}, [2, 3, 4, 5, 6]),
        ([1, 2, 3, 4, 48], {}, [1, 2, 3, 4, 5]),
        ([1, 2, 3, 4, 48.001], {}, []),
        ([1, 2, 3, 4, 50.499], {"notes_beyond_48h": True}, [1, 2, 3, 4, 5]),  # 48 whole hours after the first event
        ([1, 2, 3, 4, 50.5], {"notes_beyond_48h": True}, []),
        ([-9, -8, 1, 2, 3], {}, [1, 2, 3, 4, 5]),
        ([1, 2, 2, 3, 4, 5], {}, [2, 3, 4, 5, 6]),
        ([1, 2, 2, 3, 4, 5], {"notes_at_one_time_collapse": True}, [1, 3, 4, 5, 6]),
        ([1, 2, 2, 2, 3, 4], {"notes_at_one_time_collapse": True}, []),
    ],
)
def test_the_last_five(hours, quirks, kept):
    assert chosen(hours, **quirks) == kept
