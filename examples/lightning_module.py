"""The same in a LightningModule: the network is an attribute, so its copula moves, is saved and is trained with it."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from examples.two_views import TwoViews, digits


class TwoViewsModule(LightningModule):
    """Adam on the loss of `TwoViews`; logs the accuracy on validation digits."""

    def __init__(self) -> None:
        super().__init__()
        self.model = TwoViews()

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """The loss of a batch of views, mask and labels."""
        return self.model(*batch)["loss"]

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """Logs the accuracy."""
        *given, labels = batch
        self.log("accuracy", (self.model(*given)["logits"].argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser for encoders, copula, mixtures and classifier."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(epochs: int = 10, seed: int = 0) -> dict[str, float]:
    """Trains on three quarters of the digits; accuracy on the others, and Kendall's tau that was learnt."""
    seed_everything(seed, verbose=False)
    views, observed, labels = digits()
    train = torch.arange(len(views)) % 4 > 0
    module = TwoViewsModule()
    module.model.initialise(views[train], observed[train])
    loaders = [
        DataLoader(TensorDataset(views[part], observed[part], labels[part]), batch_size=128, shuffle=part is train)
        for part in (train, ~train)
    ]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=epochs, accelerator="auto", devices=1, **quiet)
    trainer.fit(module, *loaders)
    return {"accuracy": float(trainer.callback_metrics["accuracy"]), "kendall_tau": module.model.joint.copula().kendall_tau.item()}


if __name__ == "__main__":
    print(main())
