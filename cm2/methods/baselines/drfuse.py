"""DrFuse: shared and distinct representations of the modalities, weighted by attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from math import sqrt
from operator import add
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods.baselines.base import Baseline
from cm2.methods.baselines.drfuse_encoders import twin_encoder
from cm2.methods.baselines.unified import zero_where_absent
from cm2.networks.embedding import present_values, spread
from cm2.tasks import Task, known_stays
from cm2.tasks.scales import mean_log_odds


@dataclass(frozen=True)
class Disentangled:
    """Representations, attention and outputs of a batch.

    Args:
        shared: s_m ``(B, M, d)``, zero where missing (released: the representation of an empty value).
        distinct: r_m ``(B, M, d)``, the same where missing.
        pooled: s ``(B, d)``.
        weights: a ``(B, M + 1)``: attention to every r_m and, last, to s; 0 where missing.
        logits: outputs of the fused vector's head ``(B, outputs)``.
    """

    shared: Tensor
    distinct: Tensor
    pooled: Tensor
    weights: Tensor
    logits: Tensor


class DrFuse(Baseline):
    r"""Each modality m has a shared representation :math:`s_m` and a distinct one :math:`r_m`, both of width d.

    The coordinates of :math:`s_m` are log-odds, :math:`p_m = \sigma(s_m)`. Over the observed modalities :math:`O_i` of a stay they are
    pooled to the log-odds of their mean probability, which for two modalities is the paper's
    :math:`\mathrm{lse}(s_1 + s_2, s_1 + s_2, s_1, s_2) - \mathrm{lse}(0, 0, s_1, s_2)`:

    .. math:: \sigma(s) = \frac{1}{|O_i|} \sum_{m \in O_i} p_m.

    Attention over the observed tokens :math:`x_t \in \{r_m\} \cup \{s\}`, with one key and the mean of the
    observed queries, gives the vector that is classified:

    .. math:: a = \mathrm{softmax}_t(\bar q^\top k_t / \sqrt d), \qquad \hat y = \sigma(w^\top \textstyle\sum_t a_t v_t + b).

    The loss is an unweighted sum: the cross entropy of the prediction, of a head on s and of a head on each :math:`r_m` (over the stays
    with m observed); the Jensen-Shannon divergence of :math:`p_m, p_n`, summed over coordinates, averaged over the observed pairs (m, n)
    of all stays; :math:`|\cos(s_m, r_m)|`, averaged over the stays with m observed; and for each pair of tokens, of which the one whose
    head has the smaller cross entropy should have the greater weight, :math:`\max(0, a_{worse} - a_{better})`, averaged over the stays
    with two or more modalities that violate it, then over the pairs.

    ``original``: the divergence is that of the Bernoulli distributions, with the terms of both outcomes, over the stays with both
    modalities. ``released``: as in the method's program and its port, only the terms of the outcome 1, :math:`\frac12 \sum p_m \log
    \frac{2 p_m}{p_m + p_n} + \frac12 \sum p_n \log \frac{2 p_n}{p_m + p_n}`, summed over *all* stays, whose missing values are zeros
    that pass through the networks and their batch statistics, and divided by the number of stays with both (at least 1; the program's
    floor of 1e-6 multiplies the loss of a batch without pairs by a million); a text is widened first. Neither variant has the program's
    domain classifier, which nothing trains.

    The paper has a series and an image: a transformer and ResNet-50. ``baseline.encoders = "common"`` takes the networks of [encoder]
    twice instead. The paper does not describe its tri-modal form; pooling over observed modalities and averaging over pairs are our
    generalisation, which equals the paper's method for two modalities.

    References:
        Yao, Yin, Cheung, Liu, Qin, "DrFuse: Learning Disentangled Representation for Clinical Multi-Modal Fusion with Missing Modality
        and Modal Inconsistency", AAAI 2024.

    Args:
        config: the run's configuration; ``baseline.embedding_dim`` is d.
        modalities: two or more modalities of the cohort.
        task: what is predicted; None: a binary outcome.

    Raises:
        ValueError: d is not a multiple of the transformer's heads.
    """

    name: ClassVar[str] = "drfuse"

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__(config, modalities, task)
        dim = self.config.embedding_dim
        self.encoders = nn.ModuleDict({m.name: twin_encoder(m, config) for m in modalities})
        self.share = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.heads = nn.ModuleDict({name: self.new_head(dim) for name in self.names})
        self.shared_head = self.new_head(dim)
        self.attention = nn.Linear(dim, 3 * dim)
        self.classifier = self.new_head(dim)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Shared representations, which the loss aligns, ``(B, M, d)``, zero where missing, and the mask of observed ones ``(B, M)``."""
        return torch.where(batch.present[..., None], self._encode(batch)[0], 0), batch.present

    def disentangle(self, batch: Batch) -> Disentangled:
        """Representations, attention and outputs of every stay."""
        shared, distinct = self._encode(batch)
        pooled = mean_log_odds(shared, batch.present[..., None])
        tokens = torch.cat((distinct, pooled[:, None]), dim=1)
        present = _with_shared(batch.present)
        query, key, value = self.attention(tokens).float().chunk(3, dim=-1)
        mean_query = (query * present[..., None]).sum(dim=1) / present.sum(dim=1, keepdim=True)
        scores = (key * mean_query[:, None]).sum(dim=-1) / sqrt(key.shape[-1])
        weights = scores.masked_fill(~present, -torch.inf).softmax(dim=-1)
        fused = (weights[..., None] * value).sum(dim=1)
        return Disentangled(shared, distinct, pooled, weights, self.classifier(fused).float())

    def logits(self, batch: Batch) -> Tensor:
        """Outputs of the fused vector's head ``(B, outputs)``."""
        return self.disentangle(batch).logits

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """``loss`` (the sum of all terms and the heads' losses), ``task``, ``alignment``, ``orthogonality``, ``ranking``."""
        self.check(batch)
        parts, label, present = self.disentangle(batch), batch.label, batch.present
        own = [self.heads[name](parts.distinct[:, m]).float() for m, name in enumerate(self.names)]
        each = [*own, self.shared_head(parts.pooled).float()]
        task = self.task.loss(parts.logits, label)
        heads = reduce(add, (self.task.loss(x, label, _with_shared(present)[:, t]) for t, x in enumerate(each)))
        alignment = self._alignment(parts.shared.float(), present)
        cosine = F.cosine_similarity(parts.shared.float(), parts.distinct.float(), dim=-1).abs()
        orthogonality = (torch.where(present, cosine, 0).sum(dim=0) / present.sum(dim=0).clamp(min=1)).sum()
        errors = torch.stack([self.task.errors(x.detach(), label) for x in each], dim=1)
        ranking = _ranking(parts.weights, errors, present & known_stays(label)[:, None])
        terms = {"task": task, "alignment": alignment, "orthogonality": orthogonality, "ranking": ranking}
        return {"loss": heads + reduce(add, terms.values()), **{name: term.detach() for name, term in terms.items()}}

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        both = [self._encode_one(batch, m, name) for m, name in enumerate(self.names)]
        return torch.stack([shared for shared, _ in both], dim=1), torch.stack([distinct for _, distinct in both], dim=1)

    def _encode_one(self, batch: Batch, m: int, name: str) -> tuple[Tensor, Tensor]:
        if self.released:
            shared, distinct = self.encoders[name](zero_where_absent(batch.values[name], batch.present[:, m]))
            return self.share(shared).float(), distinct.float()
        if batch.rows[name].numel() == 0:
            nothing = batch.label.new_zeros(len(batch), self.config.embedding_dim, dtype=torch.float32)
            return nothing, nothing
        shared, distinct = self.encoders[name](present_values(batch, name))
        return spread(self.share(shared).float(), batch, name), spread(distinct.float(), batch, name)

    def _alignment(self, shared: Tensor, present: Tensor) -> Tensor:
        total, pairs = shared.new_zeros(()), present.new_zeros((), dtype=torch.long)
        for m, n in combinations(range(len(self.names)), 2):
            both = present[:, m] & present[:, n]
            divergence = _divergence(shared[:, m], shared[:, n], both_outcomes=not self.released)
            total = total + (divergence if self.released else torch.where(both, divergence, 0)).sum()
            pairs = pairs + both.sum()
        return total / pairs.clamp(min=1)


def _with_shared(present: Tensor) -> Tensor:
    return F.pad(present, (0, 1), value=True)


def _divergence(s: Tensor, t: Tensor, both_outcomes: bool) -> Tensor:
    """Jensen-Shannon divergence of Bernoulli distributions with log-odds ``(B, d)``, summed over d: ``(B,)``."""
    total = torch.zeros_like(s)
    for sign in (1, -1) if both_outcomes else (1,):
        log_p, log_q = F.logsigmoid(sign * s), F.logsigmoid(sign * t)
        log_mean = torch.logaddexp(log_p, log_q) - torch.log(torch.full_like(log_p, 2.0))
        total = total + 0.5 * (log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean))
    return total.sum(dim=-1)


def _ranking(weights: Tensor, error: Tensor, present: Tensor) -> Tensor:
    """Of the attention ``(B, T)`` and losses ``(B, T)`` of all tokens, with the observed modalities ``(B, M)`` of stays that count."""
    several, tokens = present.sum(dim=1) > 1, _with_shared(present)
    terms = []
    for t, u in combinations(range(weights.shape[1]), 2):
        sign = torch.where(error[:, t] < error[:, u], 1.0, -1.0)
        violation = torch.where(several & tokens[:, t] & tokens[:, u], (sign * (weights[:, u] - weights[:, t])).relu(), 0)
        terms.append(violation.sum() / (violation > 0).sum().clamp(min=1))
    return torch.stack(terms).mean()
