"""Figures that follow from runs: what they show is what the runs hold."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from cm2.config import Config
from cm2.figures import figure_1, figure_2_fitted, figure_4, figure_5, regenerate
from cm2.methods import METHODS
from cm2.runs.store import RunStore
from cm2.tables import kept_table, table
from tests.tables.conftest import FAST


def test_figure_1_is_a_drawing_whose_words_do_not_overlap():
    drawing = figure_1()
    figure = drawing.figure
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) > 15
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert {"fusion", "task loss", "copula $c$"} <= set(drawing.data["text"])
    plt.close(figure)


def test_figure_2_shows_what_table_6_fitted(tiny, store):
    drawing = figure_2_fitted(tiny, "smoke", FAST, store)
    plt.close(drawing.figure)
    assert list(drawing.data["family"].unique()) == ["Gumbel", "Gaussian", "Frank"]
    table_6 = table(6, tiny, "smoke", seeds=1, settings=FAST, store=store)
    section, task = drawing.source["section"], drawing.source["task"]
    assert drawing.source["runs"] == [table_6.cell(row, "auroc", task, section).runs[0] for row in ("Gumbel", "Gaussian", "Frank")]
    assert (drawing.data.query("law == 'same dependence'")["kendall_tau"] == 0.6).all()
    taus = drawing.data.query("law == 'fitted'").groupby("family")["kendall_tau"].first()
    law = next(r for r in store.runs() if r.path.name == drawing.source["runs"][0]).load_method(tiny).joint.copula()
    assert taus["Gumbel"] == pytest.approx(law.kendall_tau.item())


def test_figures_3_to_5_are_written_with_provenance(tiny, store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.001)
    for number in (3, 4, 5):
        paths = regenerate(number, tiny, "smoke", tmp_path, seeds=1, settings=FAST | {"task": "death"}, store=store)
        assert [p.name for p in paths] == [f"figure-{number}.{ending}" for ending in ("svg", "pdf", "png", "csv", "json")]
        source = json.loads(paths[-1].read_text())
        assert (source["cohort_checksum"], source["profile"], source["versions"]) == (
            tiny.checksum,
            "smoke",
            {"cm2": METHODS["cm2"].version},
        )
    assert "figure 5: table figure-5" in capsys.readouterr().err
    frame = pd.read_csv(tmp_path / "figure-5.csv")
    assert sorted(frame["components"].unique()) == [1, 2, 3, 4, 5, 6]
    assert len(frame) == 6 * 2 * 2 * 2


def test_figure_5_shows_the_values_of_its_table(tiny, store):
    drawing = figure_5(tiny, "smoke", 1, settings=FAST, store=store)
    line = drawing.figure.axes[0].lines[0]
    shown = drawing.data.query("metric == 'auroc'").groupby(["task", "section"], sort=False).get_group(tuple(line.get_label().split(", ")))
    assert list(line.get_ydata()) == list(shown["value"])
    plt.close(drawing.figure)


def test_figure_5_without_a_cohort_is_drawn_from_the_kept_table(tmp_path):
    *_, data, source = regenerate(5, None, "smoke", tmp_path, store=RunStore(tmp_path / "runs"))
    result = kept_table("figure-5", "physionet2012")
    assert list(pd.read_csv(data)["value"]) == pytest.approx([cell.value for cell in result.cells], rel=1e-5)
    assert json.loads(source.read_text())["configurations"] == result.provenance["configurations"]
    assert not (tmp_path / "runs").exists()


def test_a_figure_that_needs_runs_says_so(tmp_path):
    with pytest.raises(ValueError, match="Figure 4 needs a training run: give a cohort with cohort="):
        regenerate(4, None, "smoke", tmp_path)
    with pytest.raises(ValueError, match="no Figure 6; choose one of 1, 2, 3, 4, 5"):
        regenerate(6, None, "smoke", tmp_path)


@pytest.mark.parametrize(("epochs", "shown"), [(101, [5, 50, 100]), (7, [0, 3, 6]), (1, [0])])
def test_figure_4_shows_the_papers_epochs_where_the_run_has_them(epochs, shown):
    history = pd.DataFrame({"epoch": range(epochs), "alpha": np.linspace(1.2, 2, epochs)})
    run = SimpleNamespace(history=history, path=Path("run"), config=Config.from_profile("smoke"), environment={})
    drawing = figure_4(run)
    plt.close(drawing.figure)
    assert list(drawing.data["law"].unique()) == [f"epoch {epoch}" for epoch in shown]
    assert len(drawing.data) == len(shown) * 50 * 50
