"""The same under the Trainer of Hugging Face, which asks for a module whose outputs hold the loss."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import EvalPrediction, Trainer, TrainingArguments, set_seed

from examples.two_views import TwoViews, digits


class Digits(Dataset):
    """Some of the digits, each a dictionary with the names of the arguments of `TwoViews.forward`."""

    def __init__(self, part: torch.Tensor) -> None:
        self.columns = [column[part] for column in digits()]

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return dict(zip(("views", "observed", "labels"), (column[row] for column in self.columns), strict=True))


def accuracy(found: EvalPrediction) -> dict[str, float]:
    """Share of the digits that were named right."""
    return {"accuracy": float((np.argmax(found.predictions, axis=1) == found.label_ids).mean())}


def main(epochs: int = 10, seed: int = 0) -> dict[str, float]:
    """Trains on three quarters of the digits; accuracy on the others, and Kendall's tau that was learnt."""
    set_seed(seed)
    train = torch.arange(1797) % 4 > 0
    digits_seen = Digits(train)
    model = TwoViews()
    model.initialise(*digits_seen.columns[:2])
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=128,
            per_device_eval_batch_size=512,
            learning_rate=5e-3,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=torch.accelerator.is_available(),
            seed=seed,
        )
        trainer = Trainer(model, arguments, train_dataset=digits_seen, eval_dataset=Digits(~train), compute_metrics=accuracy)
        trainer.train()
        found = trainer.evaluate()["eval_accuracy"]
    return {"accuracy": float(found), "kendall_tau": model.joint.copula().kendall_tau.item()}


if __name__ == "__main__":
    print(main())
