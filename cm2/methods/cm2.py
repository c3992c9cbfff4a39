"""CM²: encoders, joint distribution of their embeddings, fusion (paper, section 3 and Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.containers import ModulesInOrder
from cm2.copulas import Copula, CopulaDistribution, make
from cm2.copulas.chosen import Chosen
from cm2.joint import LINKS, CopulaJoint, CopulaJointDistribution
from cm2.joint.diagnostics import describe
from cm2.joint.links import ALL_LINKS
from cm2.joint.profile import profiled_dependence
from cm2.kinds import build_encoder
from cm2.marginals import GaussianMixture
from cm2.methods.alignment_losses import ALIGNMENTS
from cm2.methods.contract import Method, Pretraining
from cm2.methods.pretraining import DependenceObjective, MaskedObjective
from cm2.methods.released_score import ReleasedScore
from cm2.methods.task_loss import cross_entropy
from cm2.networks.embedding import ModalityEmbeddings, averages_of_a_pass, is_complete
from cm2.networks.fusion import AdditiveFusion, ConcatFusion, Fusion, HiddenFusion, LSTMFusion
from cm2.networks.mixture_weights import WeightNetwork
from cm2.networks.posteriors import DiagonalPosteriors


class CM2(Method):
    r"""Cross-modal alignment by a copula of Gaussian mixtures, trained with the clinical task.

    The loss of a batch (paper, section 3.3, with two separate weights and missing modalities integrated out) is

    .. math::
        L = \tau L_{task} - \frac1n \sum_i \Big\{ \lambda_{mix} \sum_{m \in O_i} \log f_m(z_{im})
            + \lambda_{cop} \Big[ \log f_{O_i}(z_i) - \sum_{m \in O_i} \log f_m(z_{im}) \Big] \Big\}.

    :math:`O_i` are the observed modalities of stay i. ``alignment="cosine"`` or ``"kl"`` replaces the braces by a distance between
    observed embeddings (paper, Table 4), and ``link="released"`` by the released program's score, which reads imputed embeddings too,
    with the weight :math:`\lambda_{cop}`.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.

    Raises:
        ValueError: fewer than two modalities.
    """

    name: ClassVar[str] = "cm2"
    version: ClassVar[str] = "2"

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__(config, modalities)
        self.config, self.modalities = config.model, tuple(modalities)
        dim = self.config.embedding_dim
        self.embeddings = ModalityEmbeddings(modalities, config.encoder, dim, build_encoder, self.config.normalisation)
        self.joint = self._build_law(dim)
        self.token = nn.Parameter(0.02 * torch.randn(len(self.names), dim)) if self.config.impute == "token" else None
        self.fusion = self._build_fusion(dim)
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = nn.Linear(self.fusion.output_dim, 1)
        self.heads = ModulesInOrder([nn.Linear(dim, 1) for _ in self.names]) if self.config.lambda_heads else None
        self.posteriors = DiagonalPosteriors(len(self.names), dim) if self.config.objective == "elbo" else None
        self._diagnostics: dict[str, float] = {}
        predicted = self.config.weights == "predicted"
        self.weight_network = WeightNetwork(len(self.names), dim, self.config.components) if predicted else None
        self.register_load_state_dict_pre_hook(_read_first_layout)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings of the observed modalities.

        Returns:
            ``z`` ``(B, M, d)`` float32, zero where missing, and ``present`` ``(B, M)``.

        Raises:
            ValueError: the batch's modalities are not this model's.
        """
        return self.embeddings(batch), batch.present

    def impute(self, batch: Batch, n_draws: int = 1) -> Tensor:
        """Embeddings with missing ones imputed ``(n_draws, B, M, d)``; observed ones are those of `embed`."""
        z, present = self.embed(batch)
        return self._fill(z, present, n_draws, complete=is_complete(batch))

    def predictive(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and between-draw variance of the probability, each ``(B,)``; the variance is 0 where nothing is drawn."""
        z, present = self.embed(batch)
        complete = is_complete(batch)
        n_draws = self.config.n_draws if self._draws and not complete else 1
        filled = self._fill(z, present, n_draws, complete) if self.config.fusion_reads == "all" else z[None]
        probability = self._logits(filled, present).sigmoid()
        if self.heads is not None:
            each = torch.where(present, self._head_logits(self.heads, z).sigmoid(), 0.0)
            own = each.sum(dim=1) / present.sum(dim=1)
            together = (probability + own) / 2
            probability = torch.where(present.all(dim=1), together, own) if self.config.impute == "none" else together
        return probability.mean(dim=0), probability.var(dim=0, correction=0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the objective, each a scalar averaged over the batch.

        Returns:
            ``loss`` (to be minimised), ``task`` (cross entropy), ``mixture`` and ``copula`` (log-likelihood terms per stay), and both per
            observed embedding coordinate; instead of these four ``alignment``, or ``score`` and the score per coordinate; for ``objective =
            elbo`` ``rate``, the divergence. ``heads`` where there are heads.
        """
        z, present = self.embed(batch)
        log_posterior = None
        if self.posteriors is not None:
            z, log_posterior = self.posteriors(z)
            z = torch.where(present[..., None], z, 0.0)
        fills = self.config.fusion_reads == "all" or self.config.link == "released"
        filled = self._fill(z, present, 1, complete=is_complete(batch)) if fills else z[None]
        fused = present.all(dim=1) if self.config.impute == "none" else None
        task = cross_entropy(self._logits(filled, present)[0], batch.label, fused)
        if log_posterior is None:
            terms = self._terms(z, filled[0], present)
        else:
            terms = {"rate": (self.config.beta, self._rate(self.joint, z, log_posterior, present))}
        loss = self.annealing() * task
        if self.heads is not None:
            terms["heads"] = (self.config.lambda_heads, self._head_loss(self.heads, z, present, batch.label))
        for weight, value in terms.values():
            loss = loss + weight * value
        values = {name: value.detach() for name, (_, value) in terms.items()}
        if self.config.alignment == "copula":
            # the released score reads every modality, imputed ones too
            seen = z.shape[1] if self.config.link == "released" else present.sum(dim=1).float().mean()
            law = {name: value for name, value in values.items() if name != "heads"}
            values |= {f"{name}_per_dimension": value / (seen * z.shape[-1]) for name, value in law.items()}
        return {"loss": loss, "task": task.detach(), **values}

    def annealing(self) -> float:
        """Annealing factor τ of the task loss, 1/max(exp(-T·epoch), 1e-3); 1 for T = 0."""
        return 1 / max(exp(-self.config.temperature * self.epoch), 1e-3)

    @torch.no_grad()
    def initialise(self, batch: Batch) -> None:
        """Initialises each mixture by k-means++ on the embeddings of a first batch, which makes its components differ.

        The released score keeps its equal components. The embeddings are computed in training mode: in evaluation mode batch
        normalisation would use the initial running variance, 1, and the mixtures would start far from every embedding they are to model.
        """
        if isinstance(self.joint, ReleasedScore):
            return
        training = self.training
        with self.embeddings.averages_start():
            z, _ = self.train().embed(batch)
        self.joint.initialise(z, batch.present)
        self.train(training)

    def law_parameters(self) -> list[nn.Parameter]:
        """Parameters of mixtures and copula, trained with the separate learning rate ``train.law_learning_rate``."""
        return list(self.joint.parameters())

    def pretraining(self) -> Pretraining | None:
        """The objective of ``pretrain``, which trains the encoders only."""
        c = self.config
        if c.pretrain == "none":
            return None
        objective: nn.Module
        if c.pretrain == "likelihood":
            objective = DependenceObjective(self.embed, c.directions, c.profile_shrinkage)
        else:
            objective = MaskedObjective(self.embed, self.modalities, c.embedding_dim)
        return Pretraining(objective, c.pretrain_epochs, c.pretrain_learning_rate)

    def before_first_epoch(self, batches: Iterable[Batch]) -> None:
        """Fits the law of ``law = profile`` (`refit`) where the first steps fill missing modalities from it already."""
        fills = self.config.fusion_reads == "all" and self.config.impute not in ("zero", "token", "none")
        if fills and self.config.law == "profile" and not all(is_complete(batch) for batch in batches):
            self.refit(batches)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of encoders and projections."""
        return list(self.embeddings.parameters())

    @torch.no_grad()
    def refit(self, batches: Iterable[Batch]) -> bool:
        """With ``law = profile``, fits mixtures and copula to the training stays' embeddings in evaluation mode.

        The running averages of batch normalisation are first replaced by the averages over these stays: those that training leaves behind
        describe encoders with dropout that are some steps old, and a distribution fitted beside the embeddings imputes nothing.
        """
        if self.config.law != "profile" or isinstance(self.joint, ReleasedScore):
            return False
        training = self.training
        with averages_of_a_pass(self.eval()):
            for batch in batches:
                self.embed(batch)
        parts = [self.embed(batch) for batch in batches]
        z, present = torch.cat([z for z, _ in parts]), torch.cat([present for _, present in parts])
        with torch.autocast(z.device.type, enabled=False):
            report = self.joint.fit(z, present, names=self.names)
            self._diagnostics = describe(self.joint, z, present) | {"law_nats": report.dependence}
        self.train(training)
        return True

    @torch.no_grad()
    def state_of_law(self) -> dict[str, float]:
        """Columns of the history: α (or ρ) and Kendall's τ of the copula, mean scale of the mixtures."""
        if isinstance(self.joint, ReleasedScore):
            return self.joint.state()
        copula = self.joint.copula
        scales = torch.stack([m().scale.mean() for m in self.joint.marginals])
        copulas = [copula] if isinstance(copula, Copula) else copula
        tau = sum(_mean_tau(each()) for each in copulas) / len(copulas)
        state = {"kendall_tau": tau, "mean_scale": float(scales.mean()), **self._diagnostics}
        alpha = getattr(copula, "alpha", getattr(copula, "rho", None))
        return state if alpha is None or alpha.numel() != 1 else {"alpha": float(alpha), **state}

    def embedding_law(self) -> CopulaJoint | None:
        """Joint distribution of the embeddings if it is a density and the loss fits it, else None."""
        return None if self.why_no_law() or isinstance(self.joint, ReleasedScore) else self.joint

    def why_no_law(self) -> str:
        """Why `embedding_law` is None, as the end of a sentence that begins with the method; empty if it is not."""
        if isinstance(self.joint, ReleasedScore):
            return "has no law of its embeddings"
        if self.joint.link not in LINKS:
            return f"its link {self.joint.link} is no density"
        if self.weight_network is not None:
            return "its weights are predicted from the other modalities, so its margins are not those of one joint law"
        if self.config.law == "profile":
            return ""
        return "its law takes no part in the loss" if {"joint.", "joint.copula"} & set(self.unused_parameters) else ""

    @property
    def unused_parameters(self) -> dict[str, str]:
        """Why parameters whose names start with the key receive no gradient from the loss."""
        c, released = self.config, isinstance(self.joint, ReleasedScore)
        if c.law == "profile":
            return {"joint.": "mixtures and copula are fitted to the training stays, not trained"}
        read = c.impute if c.fusion_reads == "all" else "nothing"
        if c.objective == "elbo":
            return (
                {f"joint.marginals.{m}.logits": "the table of types replaces them" for m in range(len(self.names))}
                if c.types == "joint"
                else {}
            )
        fitted = c.alignment == "copula" and (c.lambda_copula or (c.lambda_mix and not released))
        unused = {}
        if not fitted and (released or read not in ("conditional", "conditional_mean", "marginal", "mean")):
            unused["joint."] = unused["weight_network."] = "no term of the loss reads the law, nor a draw that carries a gradient"
        if released:
            unused["joint.weights"] = "components that are equal give their weights no gradient"
        elif (not fitted or not c.lambda_copula) and read not in ("conditional", "conditional_mean"):
            unused["joint.copula"] = unused["joint.table"] = "neither the dependence term nor a conditional draw is asked for"
        if not fitted and read == "mean":
            unused |= {f"joint.marginals.{m}.raw_scale": "a mean has no scale" for m in range(len(self.names))}
        if not fitted and read == "conditional" and c.link == "component":
            unused["joint.table"] = unused["weight_network."] = "labels are drawn, which has no gradient"
            unused |= {f"joint.marginals.{m}.logits": "labels are drawn, which has no gradient" for m in range(len(self.names))}
        if c.types == "joint":
            unused |= {f"joint.marginals.{m}.logits": "the table of types has its own margins" for m in range(len(self.names))}
        return unused

    @property
    def _draws(self) -> bool:
        return self.config.impute in ("conditional", "marginal") and self.config.fusion_reads == "all"

    def _build_law(self, dim: int) -> CopulaJoint | ReleasedScore:
        c, count = self.config, len(self.names)
        if c.link == "released":
            return ReleasedScore(c.family, count, dim, c.components)
        marginals = [GaussianMixture(c.components, dim, minimum_scale=c.minimum_scale, covariance=c.covariance) for _ in self.names]
        if c.family == "auto":
            chosen = [Chosen(count) for _ in range(c.directions)]
            return CopulaJoint(chosen, marginals, link=c.link, types=c.types, directions=c.directions)
        copula = make(c.family, count, pair_family=c.pair_family) if c.family == "vine" else make(c.family, count)
        if not ALL_LINKS[c.link].directed:
            return CopulaJoint(copula, marginals, link=c.link, types=c.types)
        return CopulaJoint(copula.side_by_side(c.directions), marginals, link=c.link, types=c.types, directions=c.directions)

    def _build_fusion(self, dim: int) -> Fusion:
        c, count = self.config, len(self.names)
        if c.fusion == "lstm":
            return LSTMFusion(dim, c.fusion_hidden, c.fusion_layers)
        if c.fusion == "concat":
            return ConcatFusion(dim, count)
        return (HiddenFusion if c.fusion == "hidden" else AdditiveFusion)(dim, count, c.fusion_hidden)

    def _law(self, joint: CopulaJoint, z: Tensor, present: Tensor) -> CopulaJointDistribution:
        if self.weight_network is None:
            return joint(validate_args=False)
        own = torch.stack([mixture.logits for mixture in joint.marginals])
        return joint(self.weight_network(z, present, own), validate_args=False)

    def _fill(self, z: Tensor, present: Tensor, n_draws: int, complete: bool) -> Tensor:
        how = self.config.impute
        if complete or how in ("zero", "none"):
            return z.expand(n_draws, *z.shape)
        if self.token is not None:
            return torch.where(present[..., None], z, self.token).expand(n_draws, *z.shape)
        with torch.autocast(z.device.type, enabled=False):  # log tails and quantiles need float32
            if how == "mean":
                return torch.where(present[..., None], z, self._means(z, present)).expand(n_draws, *z.shape)
            law = self.joint if isinstance(self.joint, ReleasedScore) else self._law(self.joint, z, present)
            if how == "conditional_mean" and isinstance(law, CopulaJointDistribution):
                return law.conditional_mean(z, present, max(self.config.n_draws, 2)).mean.expand(n_draws, *z.shape)
            return law.impute(z, present, n_draws, how="marginal" if how == "marginal" else "conditional")

    def _means(self, z: Tensor, present: Tensor) -> Tensor:
        """Mean of each modality's mixture ``(M, d)``, or ``(B, M, d)`` if the weights are predicted per stay."""
        if isinstance(self.joint, ReleasedScore):
            return self.joint.expected()
        if self.weight_network is not None:
            mixture = self._law(self.joint, z, present).link.mixture
            return (mixture.log_weights.exp()[..., None] * mixture.mean).sum(dim=-2)
        laws = [marginal(validate_args=False) for marginal in self.joint.marginals]
        return torch.stack([(law.log_weights.exp()[:, None] * law.mean).sum(dim=0) for law in laws])

    def _terms(self, z: Tensor, filled: Tensor, present: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Terms of the loss besides the task, weight and value by name."""
        c = self.config
        if c.alignment != "copula":
            return {"alignment": (c.lambda_alignment, ALIGNMENTS[c.alignment](z, present))}
        if isinstance(self.joint, ReleasedScore):
            with torch.autocast(z.device.type, enabled=False):
                score = self.joint(filled.detach() if c.stop_gradient == "both" else filled).mean()
            return {"score": (-c.lambda_copula, score)}
        if c.law == "profile":
            with torch.autocast(z.device.type, enabled=False):
                return {"copula": (-c.lambda_copula, profiled_dependence(z, present, c.directions, c.profile_shrinkage))}
        mixture, copula = self._law_terms(self.joint, z, present)
        return {"mixture": (-c.lambda_mix, mixture), "copula": (-c.lambda_copula, copula)}

    def _rate(self, joint: CopulaJoint | ReleasedScore, z: Tensor, log_posterior: Tensor, present: Tensor) -> Tensor:
        """Mean over the stays of log q(z | x) - log f(z) at one draw, over the observed modalities."""
        if isinstance(joint, ReleasedScore):
            raise TypeError("the released score is no distribution")
        with torch.autocast(z.device.type, enabled=False):
            return (torch.where(present, log_posterior, 0.0).sum(dim=1) - self._law(joint, z, present).log_prob(z, present)).mean()

    def _law_terms(self, joint: CopulaJoint, z: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            stop, fixed = self.config.stop_gradient, z.detach()
            given = fixed if stop == "both" else z
            law = self._law(joint, given, present)
            marginal, dependence = law.terms(given, present)
            # a second pass on detached embeddings: both terms come from one computation, so one cannot be detached alone
            if stop in ("mixture", "copula"):
                law = law if self.weight_network is None else self._law(joint, fixed, present)
                again = law.terms(fixed, present)
                marginal, dependence = (again[0], dependence) if stop == "mixture" else (marginal, again[1])
        return torch.where(present, marginal, 0).sum(dim=-1).mean(), dependence.mean()

    @staticmethod
    def _head_logits(heads: ModulesInOrder[nn.Linear], z: Tensor) -> Tensor:
        """``(B, M)``."""
        return torch.cat([head(z[:, m]) for m, head in enumerate(heads)], dim=1).float()

    def _head_loss(self, heads: ModulesInOrder[nn.Linear], z: Tensor, present: Tensor, label: Tensor) -> Tensor:
        """Sum over the modalities of the mean cross entropy of the stays that have it."""
        logits = self._head_logits(heads, z)
        return torch.stack([cross_entropy(logits[:, m], label, present[:, m]) for m in range(len(self.names))]).sum()

    def _logits(self, z: Tensor, present: Tensor) -> Tensor:
        draws, stays = z.shape[:2]
        if self.config.fusion_reads == "first_two":
            present = present & (present.cumsum(dim=1) <= 2)
        read = None if self.config.fusion_reads == "all" else present.expand(draws, -1, -1).flatten(0, 1)
        fused = self.fusion(z.flatten(0, 1), read)
        return self.classifier(self.dropout(fused)).view(draws, stays).float()


def _mean_tau(law: CopulaDistribution) -> float:
    """Mean over copulas and pairs of Kendall's τ, which is a number for each copula or a matrix of pairs whose diagonal is 1."""
    tau = law.kendall_tau
    if tau.ndim == len(law.batch_shape) + 2:
        tau = tau[..., ~torch.eye(law.dim, dtype=torch.bool, device=tau.device)]
    return float(tau.mean())


def _read_first_layout(model: CM2, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Renames the parameters of weights saved before the embeddings became a separate module."""
    for name in [n for n in state if n.removeprefix(prefix).startswith(("encoders.", "projections.", "normalisations."))]:
        state[f"{prefix}embeddings.{name.removeprefix(prefix)}"] = state.pop(name)
