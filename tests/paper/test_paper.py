"""The paper's printed numbers: complete, consistent with themselves, and equal to cells read off the page."""

import numpy as np
import pandas as pd
import pytest

from cm2.paper import TABLES, doubts, printed

CELLS = {1: 28, 2: 48, 3: 48, 4: 12, 5: 28, 6: 24, 7: 24, 8: 58, 9: 24, 10: 128, 11: 20}
READ_OFF = [
    (2, {"cohort": "mimic3", "row": "MedFuse", "task": "READM", "column": "aupr"}, 0.414, 0.338, 0.502),
    (3, {"cohort": "mimic4", "row": "CM2", "task": "IHM", "column": "aupr"}, 0.527, 0.490, 0.568),
    (7, {"row": "Unified", "task": "READM", "column": "auroc"}, 0.715, 0.679, 0.749),
    (9, {"row": "LSMT", "setting": "partial", "task": "IHM", "column": "auroc"}, 0.854, 0.838, 0.870),
    (10, {"variant": "Transformer+ViT", "row": "MMTM", "task": "IHM", "column": "aupr"}, 0.462, 0.396, 0.545),
]


def test_every_cell_is_there_once():
    assert {table: len(printed(table)) for table in TABLES} == CELLS
    where = ["table", "cohort", "setting", "variant", "row", "task", "column"]
    assert not printed().duplicated(where).any()
    assert len(printed()) == sum(CELLS.values())


@pytest.mark.parametrize(("table", "where", "value", "low", "high"), READ_OFF)
def test_cells_read_off_the_page(table, where, value, low, high):
    (cell,) = printed(table, **where).itertuples()
    assert (cell.value, cell.low, cell.high) == (value, low, high)


def test_intervals_hold_their_estimates():
    with_interval = printed().dropna(subset=["low"])
    assert len(with_interval) == 272
    assert (with_interval["low"] < with_interval["value"]).all() and (with_interval["value"] < with_interval["high"]).all()


def test_counts_add_up():
    for table in (1, 8):
        counts = printed(table).pivot_table(index=["row", "task"], columns="column", values="value")
        assert (counts[["train", "valid", "test"]].sum(axis=1) == counts["total"]).all()


def test_tables_agree_where_they_print_the_same_model():
    def of(table, **where):
        return printed(table, cohort="mimic4", **where).sort_values(["task", "column"])["value"].tolist()

    for setting, table in (("matched", 2), ("partial", 3)):
        cm2 = of(table, row="CM2")
        assert cm2 == of(9, row="CM2", setting=setting) == of(6, row="Frank", setting=setting) == of(5, row="CM2", setting=setting)
    # what tells which block of Table 10 has which encoders
    for method in ("MMTM", "DAFT", "Unified", "MedFuse", "CM2"):
        assert of(10, row=method, variant="LSTM+ResNet") == of(2, row=method)
    assert of(10, row="DrFuse", variant="Transformer+ResNet") == of(2, row="DrFuse")


def test_every_doubt_points_at_something_printed():
    for doubt in doubts():
        assert doubt.why
        cells = printed()
        for name, value in doubt.where.items():
            cells = cells[cells[name] == value] if name in cells else cells
        assert len(cells) or "page" in doubt.where, doubt.where
    assert [d.where["task"] for d in doubts(2)] == ["IHM", "READM"]


def test_sentences_are_held_against_the_numbers():
    """The counts that the doubts about sentences of Sections 4.3 and 4.4 name."""
    key = ["row", "task", "column"]
    of = lambda table, cohort: printed(table, cohort=cohort).set_index(key)["value"]
    partly = of(3, "mimic3") - of(2, "mimic3")
    assert (len(partly), (partly <= 0).sum(), (partly.xs("CM2", level="row") <= 0).sum()) == (24, 6, 3)
    third = (of(7, "mimic4") - of(2, "mimic4")).dropna()
    assert (third.xs("CM2", level="row") < 0).sum() == 4
    assert set(third[third > 0].index) == {("DrFuse", "READM", "auroc"), ("DrFuse", "READM", "aupr")}
    wide = printed(10).pivot_table(index=["task", "column", "row"], columns="variant", values="value")
    span = (wide.max(axis=1) - wide.min(axis=1)).unstack("row")
    least = span.sub(span["CM2"], axis=0).drop(columns="CM2") > 0
    assert least.all(axis=1).sum() == 3
    others = span.loc[("READM", "aupr")].sort_values()
    assert others.round(3).to_dict() | {"CM2": 0.018} == others.round(3).to_dict() and (others[:3].round(3) <= 0.014).all()
    above = lambda one, other: sum(int((wide[a] - wide[b] > 1e-9).sum()) for a, b in zip(one, other, strict=True))
    assert above(("Transformer+ResNet", "Transformer+ViT"), ("LSTM+ResNet", "LSTM+ViT")) == 47
    assert above(("LSTM+ResNet", "Transformer+ResNet"), ("LSTM+ViT", "Transformer+ViT")) == 45
    parts = printed(5).pivot_table(index=["setting", "task", "column"], columns="row", values="value")
    fall = lambda row: (parts["CM2"] - parts[row]).dropna()
    assert (fall("w/o GPS").min(), fall("w/o GPS").max()) == pytest.approx((0, 0.013), abs=1e-9)
    assert ((fall("w/o fusion") > 0).sum(), len(fall("w/o fusion"))) == (6, 8)


def test_intervals_are_held_against_those_of_other_methods():
    """What the first three doubts say of widths and of arms."""
    width, key = {}, ["task", "column", "row"]
    for table in (2, 3):
        cells = printed(table, cohort="mimic3")
        width[table] = (cells["high"] - cells["low"]).set_axis(pd.MultiIndex.from_frame(cells[key])).unstack()
    others = {table: of.drop(columns="CM2").median(axis=1) for table, of in width.items()}
    for table, other, task, times in ((2, 3, "IHM", 0.5), (2, 3, "READM", 0.5), (3, 2, "READM", 2)):
        own = width[table].loc[task, "CM2"]
        np.testing.assert_allclose(own / others[table].loc[task], times, rtol=0.11)
        np.testing.assert_allclose(own / others[other].loc[task], 1, atol=0.12)
    (cell,) = printed(2, cohort="mimic3", row="CM2", task="IHM", column="auroc").itertuples()
    assert cell.value == 0.854 and cell.value - cell.low > 3 * (cell.high - cell.value)
    same = [printed(table, cohort="mimic3", row="CM2", task="READM")["value"].tolist() for table in (2, 3)]
    assert same[0] == same[1] == [0.754, 0.445]


def test_a_doubt_says_its_place_in_words():
    places = [doubt.place for doubt in doubts()]
    assert places[0] == "Table 2, MIMIC-III, CM2, IHM" and not any("mimic" in place for place in places)


def test_wrong_questions_are_answered():
    with pytest.raises(ValueError, match="no Table 12"):
        printed(12)
    with pytest.raises(ValueError, match="did you mean 'cohort'"):
        printed(2, cohrot="mimic4")
