"""A joint distribution of embeddings in a loop of plain PyTorch: its parameters are parameters, its log density is a term of the loss."""

from __future__ import annotations

import torch

from examples.two_views import TwoViews, digits


def main(epochs: int = 10, seed: int = 0) -> dict[str, float]:
    """Trains on three quarters of the digits; accuracy on the others, and Kendall's tau that was learnt."""
    torch.manual_seed(seed)
    views, observed, labels = digits()
    train = torch.arange(len(views)) % 4 > 0
    model = TwoViews()
    model.initialise(views[train], observed[train])
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for rows in train.nonzero().flatten()[torch.randperm(int(train.sum()))].split(128):
            optimiser.zero_grad()
            model(views[rows], observed[rows], labels[rows])["loss"].backward()
            optimiser.step()
    model.eval()
    with torch.no_grad():
        guessed = model(views[~train], observed[~train])["logits"].argmax(1)
    accuracy = (guessed == labels[~train]).float().mean()
    return {"accuracy": float(accuracy), "kendall_tau": model.joint.copula().kendall_tau.item()}


if __name__ == "__main__":
    print(main())
