"""What links with latent labels share: the sum over the tuples of labels, and draws of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from cm2.joint.links.base import Link, Parts, observed
from cm2.marginals import draw_labels


class Labelled(Link):
    r"""A latent label for each stay and modality; given the labels the copula couples uniforms of the labelled components.

    The density is a sum over the :math:`K^M` tuples of labels. The first of the `parts` are the components' log densities
    ``(..., M, K)``, the others what the copula couples.
    """

    types: ClassVar[tuple[str, ...]] = ("independent", "joint")

    @abstractmethod
    def log_copula(self, uniforms: Parts, present: Tensor | None) -> Tensor:
        """Log density of the copula for every tuple of labels, ``(..., K^M)``, from the parts but the first."""

    def mean_scores(self, z: Tensor) -> Tensor:
        """Standardised embeddings in the mean over the posterior of the label, N(0, I) but for its uncertainty, ``(..., M, d)``."""
        log_normal, x = self.mixture.component_scores(z)
        posterior = (self.mixture.log_weights + log_normal).softmax(-1)
        return (posterior[..., None] * x).sum(-2)

    def tie(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sum over the tuples of labels."""
        marginal, grid = self.grid(parts, present)
        return marginal, grid.logsumexp(-1)

    def grid(self, parts: Parts, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """log f_m ``(..., M)``, and the log weight of every tuple of labels given z, ``(..., K^M)``.

        The weights are posterior probabilities of the labels, of order one: the log densities, of order d, are subtracted before the
        sum over tuples, to keep its rounding error small.
        """
        log_normal, *uniforms = parts
        weighted = self.mixture.log_weights + log_normal
        marginal = weighted.logsumexp(-1)
        posterior = weighted - marginal[..., None]
        if present is not None:
            posterior = torch.where(present[..., None], posterior, self.mixture.log_weights)
        tuples = product(posterior).sum(-1)
        if self.excess is not None:
            tuples = tuples + self.excess.flatten()
        return observed(marginal, present), tuples + self.log_copula(tuple(uniforms), present)

    def draw(self, parts: Parts, present: Tensor, n_draws: int) -> Tensor:
        """Labels given the observed embeddings, ``(n_draws, ..., M)``."""
        _, grid = self.grid(parts, present)
        modalities, components = parts[0].shape[-2:]
        return self.label(draw_labels(grid, n_draws), modalities, components)

    @staticmethod
    def label(flat: Tensor, modalities: int, components: int) -> Tensor:
        """Labels of the tuples with the numbers `flat`: ``(...)`` -> ``(..., M)``."""
        return torch.stack([flat // components ** (modalities - 1 - m) % components for m in range(modalities)], -1)


def pick(values: Tensor, labels: Tensor) -> Tensor:
    """The labelled component's: values ``(..., M, K)`` and labels ``(..., M)`` -> ``(..., M)``."""
    return values.expand(*labels.shape, values.shape[-1]).gather(-1, labels[..., None]).squeeze(-1)


def product(values: Tensor) -> Tensor:
    """``(..., M, K)`` -> ``(..., K^M, M)``: the values of every tuple of labels, the last modality's label varying fastest."""
    *batch, modalities, components = values.shape
    columns = []
    for m, column in enumerate(values.unbind(-2)):
        before, after = components**m, components ** (modalities - 1 - m)
        columns.append(column[..., None, :, None].expand(*batch, before, components, after).reshape(*batch, -1))
    return torch.stack(columns, -1)
