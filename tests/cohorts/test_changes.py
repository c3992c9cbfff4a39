"""Two preparations of one source, compared stay by stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cm2 import load_cohort
from cm2.cohorts.changes import changes, natural_units
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort

FEATURES = ["Temperature", "mask->Temperature"]


def prepared(values: np.ndarray, mean: float = 37.0, std: float = 0.5, **different) -> PreparedCohort:
    stays = pd.DataFrame({"stay_id": [7, 8, 9, 10], "split": ["train", "valid", "test", "test"], "death": [0, 1, 1, -1]})
    series = np.stack([(values - mean) / std, np.ones_like(values)], axis=-1).astype(np.float32)
    statistics = {"split": "train", "features": FEATURES[:1], "mean": [mean], "std": [std]}
    modalities = {
        "series": PreparedModality("series", series, np.ones(4, bool), FEATURES, ["standard deviations of °C", "1"], statistics),
        "note": PreparedModality("text", ["a", None, "c", "d"], np.array([True, False, True, True])),
        "image": PreparedModality("image", np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((4, 8, 8), np.uint8), np.ones(4, bool)),
    }
    return replace(PreparedCohort("tiny", "made up", "1", {"seed": 0}, stays, modalities, {"death": "died"}, [], {}), **different)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).uniform(36, 39, size=(4, 3))


def written(tmp_path, name, cohort):
    return load_cohort(write_cohort(tmp_path / name, cohort))


def test_nothing_changes_against_itself(tmp_path, values):
    cohort = written(tmp_path, "a", prepared(values))
    found = changes(cohort, cohort)
    assert (found.entered, found.left, found.both) == (0, 0, 4)
    assert found.labels == {"death": 0} and not found.cells[["cells", "stays", "read_cells"]].to_numpy().any()
    assert found.gained == found.lost == found.other == {"note": 0, "image": 0}
    assert found.label_stays == found.series_stays == found.read_stays == found.modality_stays == 0


def test_another_normalisation_changes_what_is_read_and_no_value(tmp_path, values):
    first, second = written(tmp_path, "a", prepared(values)), written(tmp_path, "b", prepared(values, mean=36.5, std=0.7))
    found = changes(first, second)
    assert found.series_stays == 0 and found.read_stays == 4
    cells = found.cells.set_index("feature").loc["Temperature"]
    assert cells["cells"] == 0 and cells["read_cells"] > 9
    np.testing.assert_allclose(cells["read_mean"], np.abs((values - 36.5) / 0.7 - (values - 37) / 0.5).mean(), rtol=1e-5)
    shift, scale, units = natural_units(second, "series")
    assert units == ["°C", "1"]
    np.testing.assert_allclose(second.array("series")[..., 0] * scale[0] + shift[0], values, rtol=1e-5)


def test_everything_that_differs_is_counted(tmp_path, values):
    first = prepared(values)
    moved = values.copy()
    moved[1, :2] += 2.0
    second = prepared(moved)
    notes = PreparedModality("text", ["a", "b", "x", None], np.array([True, True, True, False]))
    stays = second.stays.assign(stay_id=[7, 8, 9, 11], death=[0, 0, 1, -1])
    second = replace(second, stays=stays, modalities={"note": notes, "series": second.modalities["series"]})
    found = changes(written(tmp_path, "a", first), written(tmp_path, "b", second))
    assert (found.entered, found.left, found.both) == (1, 1, 3)
    assert found.labels == {"death": 1} and found.label_stays == 1
    cells = found.cells.set_index("feature").loc["Temperature"]
    assert (cells["cells"], cells["stays"], found.series_stays, cells["unit"]) == (2, 1, 1, "°C")
    assert cells["mean"] == pytest.approx(2.0, rel=1e-5)
    assert (found.gained, found.lost, found.other) == ({"note": 1}, {"note": 0}, {"note": 1})
    assert found.modality_stays == 2


def test_an_image_that_differs(tmp_path, values):
    first, second = prepared(values), prepared(values)
    image = second.modalities["image"].data.copy()
    image[2, 0, 0] += 1
    second.modalities["image"] = replace(second.modalities["image"], data=image)
    cohorts = [written(tmp_path, name, cohort) for name, cohort in (("a", first), ("b", second))]
    assert changes(*cohorts).other == {"note": 0, "image": 1}
    second.modalities["image"] = replace(second.modalities["image"], data=np.ascontiguousarray(np.tile(image, (1, 2, 2))))
    assert changes(cohorts[0], written(tmp_path, "c", second)).other["image"] == 4


def test_other_features_cannot_be_compared(tmp_path, values):
    first, second = prepared(values), prepared(values)
    second.modalities["series"] = replace(second.modalities["series"], features=["Temp", "mask->Temp"], normalisation={})
    with pytest.raises(ValueError, match="other features"):
        changes(written(tmp_path, "a", first), written(tmp_path, "b", second))
