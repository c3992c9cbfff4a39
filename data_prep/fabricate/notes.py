"""Notes of MIMIC-III: the simulator's texts in the layout, and with the flaws, of the official table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd

from data_prep.fabricate.files import UNREADABLE
from data_prep.fabricate.people import HOUR
from data_prep.synthetic.note import draw_notes

SHARE = 0.45
SIGNATURES = ("Electronically signed by:", "DICTATED BY:", "Transcribed By:", "electronically signed on")
CATEGORIES = ("Nursing/other", "Nursing", "Physician ", "Radiology", "Respiratory ")
# one stay's notes: seconds after INTIME, and the flaw of each
Plan = list[tuple[int, str]]


def _within(low: float, high: float, number: int, wrong: str = "") -> Callable[[np.random.Generator], Plan]:
    def plan(rng: np.random.Generator) -> Plan:
        # distinct times, also between plans that are combined: notes at equal times are made on purpose only
        minutes = rng.choice(np.arange(round(low * 60) + 1, round(high * 60)), number, replace=False)
        return [(60 * int(minute) - 30 * (wrong != ""), wrong) for minute in minutes]

    return plan


def _join(*plans: Callable[[np.random.Generator], Plan]) -> Callable[[np.random.Generator], Plan]:
    return lambda rng: [row for plan in plans for row in plan(rng)]


def _equal(rng: np.random.Generator) -> Plan:
    rows = _within(0, 48, 5)(rng)
    return [*rows, rows[0]]


_edge: Callable[[np.random.Generator], Plan] = lambda _: [(48 * HOUR, ""), (48 * HOUR + 1, "")]
PLANS: dict[str, Callable[[np.random.Generator], Plan]] = {
    "many_notes": lambda rng: _within(-10, 50, int(rng.integers(7, 13)))(rng),
    "four_notes": _within(0, 48, 4),
    "five_notes": _within(0, 48, 5),
    "six_notes": _within(0, 48, 6),
    "notes_from_48_to_50_h": _join(_within(2, 48, 4), _within(48, 49.9, 2)),
    "notes_at_equal_time": _equal,
    "notes_in_error": _join(_within(0, 48, 4), _within(0, 48, 2, "error")),
    "empty_notes": _join(_within(0, 48, 5), _within(0, 48, 1, "empty")),
    "notes_before_entry": _join(_within(-30, 0, 3), _within(0, 48, 3)),
    "notes_at_48_h": _join(_within(0, 47, 4), _edge),
    "unreadable_notes": _join(_within(0, 48, 5), _within(0, 48, 1, "unreadable")),
    "even_more_notes": lambda rng: _within(0, 48, int(rng.integers(13, 20)))(rng),
}
# rows that belong to no stay's text: kind, and probability that a stay with notes has one
STRAYS = {"no_charttime": 0.4, "no_hadm": 0.2, "no_text": 0.15, "late": 0.3, "unknown_hadm": 0.1}


def draw_note_table(x: np.ndarray, icu: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, Counter[str]]:
    """Notes of about half the stays.

    Args:
        x: factors of the notes ``(n, d)``.
        icu: n stays, as ``Population.icu``.
        rng: generator of every draw.

    Returns:
        Rows with ``row_id`` (1, 2, ...), ``subject_id``, ``hadm_id``, ``charttime`` (seconds since 1970), ``category``, ``iserror`` and
        ``text``, the last five possibly missing, in random order; and the number of notes or stays of each kind.
    """
    counts, rows = Counter[str](), []
    noted = rng.permutation(len(icu))[: max(len(PLANS), round(SHARE * len(icu)))]
    names = list(PLANS)
    planned = {"gap": "many_notes", "first hour": "even_more_notes"}  # stays in which the time of the first event decides on the notes
    noted = np.union1d(noted, np.nonzero(icu["events"].isin(planned))[0])
    for turn, i in enumerate(rng.permutation(noted).tolist()):
        name = planned.get(icu["events"].iloc[i], names[turn % len(names)])
        plan = [*PLANS[name](rng), *((int(rng.integers(0, 40 * HOUR)), stray) for stray, often in STRAYS.items() if rng.random() < often)]
        counts.update([f"stays_with_{name}", *(f"note_{wrong}" for _, wrong in plan if wrong)])
        rows += [(i, seconds, wrong) for seconds, wrong in plan]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    i, seconds, wrong = (np.array(column) for column in zip(*rows, strict=True))
    texts = [_dress(text, k + 1, w, counts, rng) for k, (text, w) in enumerate(zip(draw_notes(x[i], rng), wrong.tolist(), strict=True))]
    charttime = icu["intime"].to_numpy()[i] + seconds + np.where(wrong == "late", 60 * HOUR, 0)
    hadm = pd.array(icu["hadm_id"].to_numpy()[i], dtype="Int64")
    hadm[wrong == "no_hadm"] = pd.NA
    hadm[wrong == "unknown_hadm"] = int(icu["hadm_id"].max()) + 7
    frame = pd.DataFrame({"row_id": np.arange(1, len(i) + 1), "subject_id": icu["subject_id"].to_numpy()[i], "hadm_id": hadm})
    frame["chartdate"] = charttime // (24 * HOUR) * (24 * HOUR)
    frame["charttime"] = pd.array(charttime, dtype="Int64")
    frame.loc[wrong == "no_charttime", "charttime"] = pd.NA
    category = np.array(CATEGORIES, dtype=object)[rng.integers(len(CATEGORIES), size=len(i))]
    frame["category"] = np.where(wrong == "no_charttime", "Discharge summary", category)
    frame["iserror"] = ["1" if w == "error" else None for w in wrong.tolist()]
    frame["text"] = texts
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True), counts


def word_of(number: int) -> str:
    """A word unique to one text: ``zq`` and the number in letters."""
    letters = ""
    while number:
        number, digit = divmod(number, 26)
        letters = chr(ord("a") + digit) + letters
    return f"zq{letters}"


def _dress(text: str, row_id: int, wrong: str, counts: Counter[str], rng: np.random.Generator) -> str | None:
    if wrong == "no_text":
        return None
    if wrong == "empty":
        return str(rng.choice(["[**Name (NI) 1**] ____\n\n", "Electronically signed by: [**Doctor 2**]\nnothing before", " \n "]))
    marker, chance = word_of(row_id), rng.random(7)
    body = [sentence[:1].upper() + sentence[1:] for sentence in text.split(". ")]
    body.insert(int(rng.integers(len(body))) + 1, f"Reference {marker.upper() if chance[0] < 0.2 else marker}")
    said = ".\n".join(body) if chance[1] < 0.5 else ". ".join(body)
    for kind, put, form in (
        ("brackets", chance[2] < 0.6, "[**2151-3-4**] 07:15\nPatient of Dr. [**Last Name (STitle) 12**]\n\n{}"),
        ("brackets_over_lines", chance[2] < 0.05, "{} Seen by [**First Name\n8**] today."),
        ("underscores", chance[3] < 0.3, "_____________\nNARRATIVE:\n{}\n___ of ___"),
        ("quotes_and_commas", chance[4] < 0.3, '{}\nStates: "I feel better, thanks", then slept;  "" no pain,,'),
        (
            "signature",
            chance[5] < 0.3,
            f"{{}}\n{SIGNATURES[int(4 * chance[6])]} Dr. [**Name 3**], cut{marker}\nsigned again, transcribed by x",
        ),
        ("unreadable_bytes", wrong == "unreadable", f"{{}} {UNREADABLE}"),
    ):
        if put:
            counts[f"note_with_{kind}"] += 1
            said = form.replace("{}", said)
    return said
