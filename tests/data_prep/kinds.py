"""Every kind of dirt that a fabricated copy of MIMIC has."""

from __future__ import annotations

from data_prep.fabricate.dirt_rows import EDGES
from data_prep.fabricate.dirt_values import SOILS
from data_prep.fabricate.films import PLANS as FILM_PLANS
from data_prep.fabricate.notes import PLANS as NOTE_PLANS
from data_prep.fabricate.notes import STRAYS
from data_prep.fabricate.reports import KINDS
from data_prep.fabricate.scenarios import SCENARIOS

ONCE = {"table_not_compressed", "table_with_byte_order_mark", "table_with_windows_line_ends", "study_not_in_chexpert"}
"""Kinds of which a copy has one or two, whatever its size."""
ROWS = {
    *("exact_duplicate", "other_value_at_same_time", "other_item_at_same_time", "later_in_the_bin", "hadm_missing", "hadm_unknown"),
    *("hadm_of_other_subject", "hadm_of_other_admission", "stay_missing", "stay_unknown", "stay_of_other_subject"),
    *("stay_of_other_admission", "before_entry", "after_48_h", "in_other_stay", "other_item", "charted_as_output", "output", *EDGES),
}
CAREVUE_ONLY = {"percent_on_fraction_item", "scale_as_decimal", "scale_out_of_range"}
NOTES = {
    *(f"stays_with_{name}" for name in NOTE_PLANS),
    *(f"note_{kind}" for kind in (*STRAYS, "empty", "error", "unreadable")),
    *(f"note_with_{kind}" for kind in ("brackets", "underscores", "quotes_and_commas", "signature", "brackets_over_lines")),
}
FILMS = {
    *(f"stays_with_{name}" for name in FILM_PLANS),
    "study_time_without_leading_zeros",
    *(name if name.startswith("report_") else f"report_of_kind_{name}" for name in KINDS),
}


def kinds(edition: int) -> set[str]:
    """The names that the truth counts, for MIMIC-III (3) or MIMIC-IV (4)."""
    values = {soil.kind for soil in SOILS} - (CAREVUE_ONLY if edition == 4 else set())
    once = ONCE if edition == 4 else ONCE - {"study_not_in_chexpert"}
    scenarios = {scenario.name for scenario in SCENARIOS if edition in scenario.editions}
    return scenarios | ROWS | values | once | (NOTES if edition == 3 else FILMS)
