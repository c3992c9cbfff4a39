"""Trees as tensors: the same predictions as scikit-learn's, the table they read, the rounds that are kept."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from cm2.batch import Batch, Modality
from cm2.methods.baselines.summaries import Summaries
from tests.methods.baselines.cases import IMAGE, MIXED, NOTE, SERIES, BatchStays, build, changed, make_batch


def classifier(columns, label, **options):
    trees = HistGradientBoostingClassifier(max_leaf_nodes=None, early_stopping=False, min_samples_leaf=5, **options)
    return trees.fit(columns, label)


@pytest.mark.parametrize("depth", [1, 4])
def test_predictions_are_scikit_learns(depth):
    method = build("boosted_trees", MIXED[3], baseline__trees=25, baseline__tree_depth=depth)
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(400, 6))
    columns[generator.random(columns.shape) < 0.3] = np.nan
    columns[:, 5] = np.inf  # a column that says nothing
    label = (np.nan_to_num(columns[:, 0]) + np.isnan(columns[:, 1]) + generator.normal(size=400) > 0.5).astype(float)
    trees = classifier(columns, label, max_iter=20, max_depth=depth)
    method.keep(trees)
    assert any(tree.nodes["missing_go_to_left"].any() for (tree,) in trees._predictors)
    fresh = generator.normal(size=(200, 6))
    fresh[generator.random(fresh.shape) < 0.3] = np.nan
    ours = (method.intercept + method.steps(torch.from_numpy(fresh)).sum(dim=1)).sigmoid()
    np.testing.assert_allclose(ours.numpy(), trees.predict_proba(fresh)[:, 1], rtol=1e-12)


def test_a_fit_is_scikit_learns_fit_on_the_same_table():
    stays = BatchStays(make_batch(MIXED[5], stays=120), MIXED[5])
    method = build("boosted_trees", MIXED[5], baseline__trees=8)
    history = method.fit_stays(stays, stays)
    rounds = int(method.value.any(dim=1).sum())
    columns = method.summaries(stays.whole)
    trees = classifier(columns.numpy(), stays.label.numpy(), max_iter=rounds, max_depth=4, learning_rate=0.05, random_state=0)
    expected = torch.from_numpy(trees.predict_proba(columns.numpy())[:, 1]).float()
    torch.testing.assert_close(method.predict(stays.whole), expected, rtol=1e-5, atol=1e-6)
    assert [row["epoch"] for row in history] == list(range(8))


def test_validation_stays_choose_the_rounds():
    """The training stays themselves call for every round; with the outcomes turned round each round is worse than the one before."""
    batch, rounds = make_batch(MIXED[3], stays=150), []
    for valid in (batch, replace(batch, label=1 - batch.label)):
        method = build("boosted_trees", MIXED[3], baseline__trees=12)
        history = method.fit_stays(BatchStays(batch, MIXED[3]), BatchStays(valid, MIXED[3]))
        best = int(max(history, key=lambda row: (row["valid_auroc"], -row["valid_task"]))["epoch"])
        kept = method.value.any(dim=1)
        assert kept[: best + 1].all() and not kept[best + 1 :].any()
        rounds.append(best)
    assert rounds[0] == 11 and rounds[1] < 6


def test_one_outcome_is_refused():
    batch = make_batch(MIXED[3], stays=20)
    stays = BatchStays(Batch(batch.values, batch.present, torch.zeros(20), batch.stay_id), MIXED[3])
    with pytest.raises(ValueError, match="outcomes of all 20 training stays are all 0"):
        build("boosted_trees", MIXED[3]).fit_stays(stays, stays)


def test_summaries_of_a_series():
    x = torch.tensor([[[1.0], [3.0], [2.0], [6.0]]])
    batch = Batch({"s": x}, torch.ones(1, 1, dtype=torch.bool), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    columns = Summaries([Modality("s", "series", (4, 1))], tokens=4)(batch)[0]
    spread = float(np.std([1, 3, 2, 6]))
    slope = float(np.polyfit([0, 1, 2, 3], [1, 3, 2, 6], 1)[0])
    torch.testing.assert_close(columns, torch.tensor([1, 6, 3, spread, 1, 6, slope]))


def test_what_is_absent_is_missing_and_nothing_else_is():
    batch = make_batch((SERIES, NOTE, IMAGE), stays=14)
    summaries = Summaries((SERIES, NOTE, IMAGE), tokens=16)
    summaries.choose_tokens([batch])
    columns = summaries(changed(batch, batch.modalities, "absent"))
    widths = [4 * 7, 17, 68]
    for m, group in enumerate(columns.split(widths, dim=1)):
        assert torch.equal(group.isnan(), ~batch.present[:, m, None].expand_as(group))


def test_counted_tokens_are_those_that_tell_texts_apart():
    ids = torch.tensor([[1, 2, 3, 2], [1, 4, 0, 0], [1, 3, 0, 0], [1, 4, 4, 4]])
    value = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    batch = Batch({"n": value}, torch.ones(4, 1, dtype=torch.bool), torch.zeros(4), torch.arange(4))
    summaries = Summaries([Modality("n", "text", (4,), vocabulary=6)], tokens=3)
    summaries.choose_tokens([batch])
    assert summaries.tokens_n.tolist() == [3, 4, 2]
    assert summaries(batch).tolist() == [[1, 0, 2, 4], [0, 1, 0, 2], [1, 0, 0, 2], [0, 3, 0, 4]]
