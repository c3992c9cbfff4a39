"""Figures: what they show is what the laws say, and the files rebuild byte for byte."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from cm2.config import Config
from cm2.copulas import make
from cm2.figures import figure_1, figure_2, frank_alpha, save
from cm2.methods import METHODS
from cm2.tables import load_table, read
from cm2.tables.entries import entries_of
from cm2.tables.spec import choose_modalities, roles


def test_figure_2_compares_families_at_equal_dependence():
    drawing = figure_2(kendall_tau=0.5)
    assert set(drawing.data["family"]) == {"Gumbel", "Gaussian", "Frank"}
    means = drawing.data.groupby("family")["density"].mean()
    np.testing.assert_allclose(means, 1, atol=0.05)
    plt.close(drawing.figure)


@pytest.mark.parametrize("tau", [0.1, 0.6, 0.9])
def test_frank_alpha_inverts_kendalls_tau(tau):
    assert make("frank", 2, alpha=frank_alpha(tau))().kendall_tau.item() == pytest.approx(tau, abs=1e-6)


def test_save_is_complete_and_reproducible(tmp_path):
    first, second = save(figure_2(), tmp_path / "a", "figure-2"), save(figure_2(), tmp_path / "b", "figure-2")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    assert len(pd.read_csv(tmp_path / "a" / "figure-2.csv")) == 3 * 50 * 50


def kept(repository, number):
    path = repository / "figures" / f"figure-{number}"
    return pd.read_csv(path.with_suffix(".csv")), json.loads(path.with_suffix(".json").read_text())


def test_the_kept_drawings_are_those_of_this_version(repository):
    drawing = figure_1()
    assert list(kept(repository, 1)[0]["text"]) == list(drawing.data["text"]), "cm2 figure 1"
    plt.close(drawing.figure)
    drawing, (data, _) = figure_2(), kept(repository, 2)
    assert set(data["law"]) == {"same dependence", "fitted"}, "cm2 figure 2 --cohort FOLDER"
    same = data.query("law == 'same dependence'").reset_index(drop=True)
    pd.testing.assert_frame_equal(same, drawing.data, rtol=1e-4)
    plt.close(drawing.figure)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_the_kept_figures_of_runs_are_those_of_this_version(repository, number):
    """Same configuration and same version of the method as a call of today, as for kept tables."""
    _, source = kept(repository, number)
    assert "cohort" in source, f"cm2 figure {number} --cohort FOLDER: drawn without a cohort it lacks what a run has fitted"
    if number == 2:
        spec, role = load_table(6), roles()[source["cohort"]]
        entries = entries_of(spec, role, choose_modalities(spec, role), source["profile"], 1, spec.row, role.tasks, source["settings"])
        today = {e.configs[0].digest() for e in entries if (e.section.label, e.task) == (source["section"], source["task"])}
    else:
        today = {Config.from_profile(source["profile"], source["settings"] | {"model.family": "gumbel"}).digest()}
    assert set(source["configurations"]) == today, f"cm2 figure {number}: its settings have changed"
    assert source["versions"] == {name: METHODS[name].version for name in source["versions"]}


def test_figure_4_shows_epochs_of_figure_3(repository):
    (history, of_history), (data, of_data) = kept(repository, 3), kept(repository, 4)
    assert of_history["runs"] == of_data["runs"]
    tau = history.set_index("epoch")["kendall_tau"]
    for law, rows in data.groupby("law"):
        assert rows["kendall_tau"].iloc[0] == pytest.approx(tau[int(law.removeprefix("epoch "))], abs=1e-5)


def test_figure_5_shows_its_kept_table(repository):
    """Every number, with its intervals; the points of the drawing are the table's, row by row."""
    data, source = kept(repository, 5)
    result = read(repository / "results" / source["cohort"] / "figure-5.json")
    assert result.provenance["configurations"] == source["configurations"]
    frame = result.frame()
    places = ["section", "row", "task", "metric"]
    pd.testing.assert_frame_equal(data[places], frame[places])
    assert ("K = " + data["components"].astype(str)).tolist() == frame["row"].tolist()
    drawn = ["value", "low", "high", "se_stays", "sd", *(name for name in frame if name.startswith("difference_"))]
    pd.testing.assert_frame_equal(data[drawn], frame[drawn], rtol=1e-5, atol=1e-9, check_dtype=False)
    for name in ("seeds", "stays"):
        np.testing.assert_allclose(*(np.array([json.loads(text) for text in one[name]]) for one in (data, frame)), rtol=1e-5)
