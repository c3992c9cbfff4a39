"""A training that diverges stops with the epoch, the term and the setting to lower, and stores nothing."""

import pytest
import torch

from cm2 import Config, RunStore
from cm2.methods.cm2 import CM2

SMOKE = {"train.epochs": 3, "modalities": ["series", "note"]}


@pytest.mark.parametrize(("term", "setting"), [("copula", r"model\.lambda_copula"), ("task", r"train\.learning_rate")])
def test_the_error_names_epoch_term_and_setting(term, setting, small_cohort, tmp_path, monkeypatch):
    original = CM2.loss

    def diverging(self, batch):
        terms = original(self, batch)
        return terms | {term: torch.tensor(torch.nan)} if self.epoch == 1 else terms

    monkeypatch.setattr(CM2, "loss", diverging)
    with pytest.raises(ValueError, match=rf"cm2: training diverged in epoch 2: the term {term} is nan; lower {setting}"):
        RunStore(tmp_path).fit(Config.from_profile("smoke", SMOKE), small_cohort, progress=False)
    assert RunStore(tmp_path).runs() == []
