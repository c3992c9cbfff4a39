"""Chest radiographs of MIMIC-CXR-JPG: their times, views and JPEG files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image

from data_prep.fabricate.people import HOUR
from data_prep.fabricate.truth.films import film_path
from data_prep.synthetic.image import draw_images

SHARE = 0.27
WINDOW = 48 * HOUR * 1000
MINUTE = 60_000
# one stay's radiographs: milliseconds after INTIME, view, number of the study within the stay, flaw of the file
Plan = list[tuple[int, str | None, int, str]]
Planner = Callable[[np.random.Generator], Plan]


def _somewhen(rng: np.random.Generator, low: int = 0, high: int = WINDOW) -> int:
    return int(rng.integers(low + MINUTE, high - MINUTE))


def _one(flaw: str = "") -> Planner:
    return lambda rng: [(_somewhen(rng), "AP", 0, flaw)]


def _several(rng: np.random.Generator) -> Plan:
    times = sorted(_somewhen(rng) for _ in range(3))
    rows: Plan = [(time, "AP", i, "") for i, time in enumerate(times)]
    return [*rows, (times[2] + 30_000, "LATERAL", 2, ""), (_somewhen(rng), "PA", 3, "")]


def _equal(studies: int) -> Planner:
    def plan(rng: np.random.Generator) -> Plan:
        time = _somewhen(rng)
        return [(time, "AP", i % studies, "") for i in range(3)]

    return plan


def _later(view: str | None) -> Planner:
    def plan(rng: np.random.Generator) -> Plan:
        time = _somewhen(rng, high=WINDOW // 2)
        return [(time, "AP", 0, ""), (time + 3 * HOUR * 1000, view, 1, "")]

    return plan


PLANS: dict[str, Planner] = {
    "one_film": _one(),
    "several_films": _several,
    "no_ap_film": lambda rng: [(_somewhen(rng), "PA", 0, ""), (_somewhen(rng), "LATERAL", 0, "")],
    "films_outside": lambda rng: [(-_somewhen(rng), "AP", 0, ""), (_somewhen(rng) + WINDOW, "AP", 1, "")],
    "film_at_0_h": lambda _: [(0, "AP", 0, ""), (-1, "AP", 1, "")],
    "film_at_48_h": lambda _: [(WINDOW, "AP", 0, ""), (WINDOW + 1, "AP", 1, "")],
    "studies_at_equal_time": _equal(3),
    "films_of_a_study_at_equal_time": _equal(1),
    "later_lateral_film": _later("LATERAL"),
    "later_film_without_view": _later(None),
    "colour_film": _one("colour"),
    "truncated_film": _one("truncated"),
    "missing_film": _one("missing"),
}
SELDOM, EVERY = ("colour_film", "truncated_film", "missing_film"), 5


def draw_films(
    x: np.ndarray, icu: pd.DataFrame, size: int, rng: np.random.Generator
) -> tuple[pd.DataFrame, dict[str, bytes], Counter[str]]:
    """Radiographs of about a quarter of the stays.

    Args:
        x: factors of the images ``(n, d)``.
        icu: n stays, as ``Population.icu``.
        size: short side in pixels; the long side is up to a quarter longer.
        rng: generator of every draw.

    Returns:
        Rows with the columns of the official metadata that are not constant, and ``i``, the position of the stay; the files by path
        relative to the raw folder; and the number of stays with each plan.
    """
    counts, rows = Counter[str](), []
    ordinary = (icu["events"] == "usual") & (icu["seconds"] >= 48 * HOUR) & icu["outtime"].notna()
    filmed = rng.permutation(np.nonzero(ordinary)[0])[: max(2 * len(PLANS), round(SHARE * len(icu)))]
    names, study = list(PLANS), 0
    for turn, i in enumerate(filmed.tolist()):
        name = names[turn % len(names)]
        if name in SELDOM and turn // len(names) % EVERY:
            name = "one_film"
        counts[f"stays_with_{name}"] += 1
        plan = PLANS[name](rng)
        rows += [(i, milliseconds, view, study + number, flaw) for milliseconds, view, number, flaw in plan]
        study += len(plan)
    i = np.array([row[0] for row in rows])
    frame = pd.DataFrame({"i": i, "subject_id": icu["subject_id"].to_numpy()[i], "ViewPosition": [row[2] for row in rows]})
    identifiers = 50_000_000 + rng.choice(9_999_999, study, replace=False)
    frame["study_id"] = identifiers[[row[3] for row in rows]]
    frame["dicom_id"] = [_dicom(rng) for _ in rows]
    _put_times(frame, icu["intime"].to_numpy()[i] * 1000 + np.array([row[1] for row in rows]), rng, counts)
    images = draw_images(x[i], round(1.25 * size), rng)
    pictures = [_crop(image, size, rng) for image in images]
    frame["Rows"], frame["Columns"] = [p.shape[0] for p in pictures], [p.shape[1] for p in pictures]
    paths = [film_path(*key) for key in zip(frame["subject_id"], frame["study_id"], frame["dicom_id"], strict=True)]
    flaws = [row[4] for row in rows]
    files = {path: _jpeg(p, flaw) for path, p, flaw in zip(paths, pictures, flaws, strict=True) if flaw != "missing"}
    return frame.iloc[rng.permutation(len(frame))].reset_index(drop=True), files, counts


def _dicom(rng: np.random.Generator) -> str:
    text = rng.bytes(20).hex()
    return "-".join(text[start : start + 8] for start in range(0, 40, 8))


def _put_times(frame: pd.DataFrame, milliseconds: np.ndarray, rng: np.random.Generator, counts: Counter[str]) -> None:
    moment = pd.Series(milliseconds.astype("datetime64[ms]"))
    frame["StudyDate"] = moment.dt.strftime("%Y%m%d").astype(int)
    whole = (moment.dt.hour * 10_000 + moment.dt.minute * 100 + moment.dt.second).astype(str)  # a number: without leading zeros
    rest = milliseconds % 1000
    # some times in the official file are the nearest binary number, printed with many digits
    tail = np.where((rest > 0) & (rng.random(len(rest)) < 0.1), "00000000002", "")
    fraction = [f"{ms:03d}{end}" if ms else str(rng.choice(["", "0", "000"])) for ms, end in zip(rest.tolist(), tail, strict=True)]
    frame["StudyTime"] = [f"{w}.{f}" if f else w for w, f in zip(whole, fraction, strict=True)]
    counts["study_time_without_leading_zeros"] += int((whole.str.len() < 6).sum())
    counts["study_time_of_many_digits"] += int((tail != "").sum())


def _crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    long = int(rng.integers(size, len(image) + 1))
    height, width = (size, long) if rng.random() < 0.5 else (long, size)
    top, left = (len(image) - height) // 2, (len(image) - width) // 2
    return image[top : top + height, left : left + width]


def _jpeg(picture: np.ndarray, flaw: str) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(picture))
    buffer = io.BytesIO()
    (image.convert("RGB") if flaw == "colour" else image).save(buffer, format="JPEG", quality=90)
    data = buffer.getvalue()
    return data[: len(data) // 2] if flaw == "truncated" else data
