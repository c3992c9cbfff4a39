"""Known defects of the authors' preprocessing, individually switchable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from cm2.config.names import choose
from cm2.errors import InputError

VARIANTS = ("corrected", "released")

SENTENCES = {
    "fio2_always_divided": "Every fraction of inspired oxygen whose unit lacks 'torr' is divided by 100, so that 0.40 becomes 0.004.",
    "fahrenheit_by_value": "A temperature counts as Fahrenheit if it is 79 or more; its unit and its item are ignored.",
    "units_ignored": "MIMIC-IV: the column of units is not read, so that heights charted in inches stay in inches.",
    "implausible_values_kept": "No value is too implausible to be read: a height of 825,070 inches counts.",
    "other_fluids_as_blood": "Glucose and pH of urine and of other body fluids are read as those of blood.",
    "size_before_entry_lost": "A height or a weight charted before entry to the unit, where it usually is, does not count.",
    "largest_as_text": "Of several heart rates, respiratory rates or mean pressures at one time the last in the order of texts counts, "
    "so that 74 comes after 110.",
    "deviation_near_zero": "A standard deviation may be as small as 1e-7, so that what never varies in training is blown up elsewhere.",
    "normaliser_sees_validation": "Means and standard deviations are over training and validation stays, not over training stays alone.",
    "notes_beyond_48h": "MIMIC-III: notes count up to 48 whole hours after the first event that is an hour into the stay, so about 50 h.",
    "notes_at_one_time_collapse": "MIMIC-III: of several notes with the same time only the last is kept.",
    "notes_need_six": "MIMIC-III: a stay has notes only if more than five are eligible; the paper says five.",
    "notes_in_error_kept": "MIMIC-III: notes that the hospital marked as errors are kept.",
    "notes_of_a_third": "MIMIC-III: only a third of the stays of each split, drawn at random, keep their notes; the paper says so.",
    "readmission_inside_cohort": "A readmission counts only if it is itself a stay that passed the first five steps of the flow chart.",
    "death_by_date": "A date of death, which has no time of day, between admission and discharge counts as a death in hospital.",
}


@dataclass(frozen=True)
class Quirks:
    """Which quirks of the released preparation are on; see ``SENTENCES``."""

    fio2_always_divided: bool = False
    fahrenheit_by_value: bool = False
    units_ignored: bool = False
    implausible_values_kept: bool = False
    other_fluids_as_blood: bool = False
    size_before_entry_lost: bool = False
    largest_as_text: bool = False
    deviation_near_zero: bool = False
    normaliser_sees_validation: bool = False
    notes_beyond_48h: bool = False
    notes_at_one_time_collapse: bool = False
    notes_need_six: bool = False
    notes_in_error_kept: bool = False
    notes_of_a_third: bool = False
    readmission_inside_cohort: bool = False
    death_by_date: bool = False

    @classmethod
    def of(cls, variant: str, switched: Mapping[str, bool] | None = None) -> Quirks:
        """All on (``released``) or all off (``corrected``), except for those in ``switched``.

        Raises:
            ValueError: an unknown variant or quirk; the message suggests the nearest name.
        """
        names = [field.name for field in fields(cls)]
        for what, given, known in (("variant", [variant], VARIANTS), ("quirk", list(switched or {}), names)):
            for name in given:
                if name not in known:
                    raise InputError(f"unknown {what} {name!r}; {choose(name, known)}")
        return replace(cls(**dict.fromkeys(names, variant == "released")), **dict(switched or {}))
