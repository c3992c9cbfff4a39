"""CM²: encoders, joint distribution of their embeddings, fusion (paper, section 3 and Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp
from typing import ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config, EncoderConfig
from cm2.config.names import choose
from cm2.errors import InputError
from cm2.joint import LINKS, CopulaJoint, CopulaJointDistribution
from cm2.joint.diagnostics import describe
from cm2.joint.profile import profiled_dependence
from cm2.kinds import build_encoder
from cm2.methods.alignment_losses import ALIGNMENTS
from cm2.methods.cm2_parts import build_law, law_state, unused_parameters
from cm2.methods.contract import Method, Pretraining
from cm2.methods.heads import ModalityHeads, checked_head
from cm2.methods.pretraining import DependenceObjective, MaskedObjective
from cm2.methods.released_score import ReleasedScore
from cm2.networks.embedding import ModalityEmbeddings, averages_of_a_pass, is_complete
from cm2.networks.encoders import Encoder, as_encoder
from cm2.networks.fusion import as_fusion, build_fusion
from cm2.networks.mixture_weights import WeightNetwork
from cm2.networks.posteriors import DiagonalPosteriors
from cm2.tasks import Task


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
        task: what is predicted; None: a binary outcome.
        encoders: networks by modality, in place of those of the configuration: an `cm2.networks.encoders.Encoder`, or any module that maps
            a batch's value of n stays to vectors ``(n, width)``.
        fusion: in place of the configuration's: a `cm2.networks.fusion.Fusion`, or any module that maps embeddings ``(B, M, d)`` and the
            mask ``present`` ``(B, M)``, or None, to vectors ``(B, width)``.
        head: in place of the linear classifier: any module that maps the fusion's vectors to the outputs of the task ``(B, outputs)``.

    A model with networks of its own is trained by `cm2.runs.trainer.train`, or by any loop that minimises `loss`. The run store, whose keys
    know names and no objects, builds only what a configuration names: see `cm2.networks.encoders.register_encoder`.

    Raises:
        ValueError: fewer than two modalities, a network for a modality that is none of them, or one that does not fit.

    Example:
        >>> audio, table = Modality("audio", "series", (100, 2)), Modality("table", "vector", (5,))
        >>> model = CM2(Config(), [audio, table], encoders={"audio": nn.Sequential(nn.Flatten(), nn.Linear(200, 16))})
        >>> model.embeddings.projections["audio"]
        Linear(in_features=16, out_features=64, bias=True)
    """

    name: ClassVar[str] = "cm2"
    version: ClassVar[str] = "2"

    def __init__(
        self,
        config: Config,
        modalities: Sequence[Modality],
        task: Task | None = None,
        *,
        encoders: Mapping[str, nn.Module] | None = None,
        fusion: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__(config, modalities, task)
        self.config = config.model
        dim = self.config.embedding_dim
        build = _given_or_built(encoders or {}, self.names)
        self.embeddings = ModalityEmbeddings(modalities, config.encoder, dim, build, self.config.normalisation)
        self.joint = build_law(self.config, len(self.names))
        self.token = nn.Parameter(0.02 * torch.randn(len(self.names), dim)) if self.config.impute == "token" else None
        self.fusion = build_fusion(self.config, len(self.names)) if fusion is None else as_fusion(fusion, dim, len(self.names))
        self.dropout = nn.Dropout(self.config.dropout)
        ends = (self.fusion.output_dim, self.task.outputs)
        self.classifier = nn.Linear(*ends) if head is None else checked_head(head, *ends)
        self.heads = ModalityHeads(len(self.names), dim, self.task) if self.config.lambda_heads else None
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
        """Mean and between-draw variance of the prediction, ``(B,)`` or ``(B, P)``; the variance is 0 where nothing is drawn."""
        z, present = self.embed(batch)
        complete = is_complete(batch)
        n_draws = self.config.n_draws if self._draws and not complete else 1
        filled = self._fill(z, present, n_draws, complete) if self.config.fusion_reads == "all" else z[None]
        predicted = self.task.prediction(self._logits(filled, present))
        if self.heads is not None:
            own = self.heads.prediction(z, present)
            together = (predicted + own) / 2
            whole = present.all(dim=1).view(-1, *[1] * (own.ndim - 1))
            predicted = torch.where(whole, together, own) if self.config.impute == "none" else together
        return predicted.mean(dim=0), predicted.var(dim=0, correction=0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the objective, each a scalar averaged over the batch.

        Returns:
            ``loss`` (to be minimised), ``task``, ``mixture`` and ``copula`` (log-likelihood terms per stay), and both per
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
        task = self.task.loss(self._logits(filled, present)[0], batch.label, fused)
        if log_posterior is None:
            terms = self._terms(z, filled[0], present)
        else:
            terms = {"rate": (self.config.beta, self._rate(self.joint, z, log_posterior, present))}
        loss = self.annealing() * task
        if self.heads is not None:
            terms["heads"] = (self.config.lambda_heads, self.heads.loss(z, present, batch.label))
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

        With ``start_at_prevalence`` classifier and heads begin at what predicts its outcomes as a whole. The released score keeps its equal
        components. The embeddings are computed in training mode: in evaluation mode batch normalisation would use the initial running
        variance, 1, and the mixtures would start far from every embedding they are to model.
        """
        if self.config.start_at_prevalence:
            if not isinstance(self.classifier, nn.Linear) or self.classifier.bias is None:
                raise InputError("model.start_at_prevalence: the head that was given has no bias of its own to start from; set it to false")
            start = self.task.start(batch.label)
            for layer in (self.classifier, *(self.heads or ())):
                layer.bias.copy_(start)
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
        z, present = self._embed_all(batches)
        with torch.autocast(z.device.type, enabled=False):
            report = self.joint.fit(z, present, names=self.names)
            self._diagnostics = describe(self.joint, z, present) | {"law_nats": report.dependence}
        self.train(training)
        return True

    @torch.no_grad()
    def describe_law(self, batches: Iterable[Batch]) -> None:
        """Diagnostics of a law that gradient steps train, beside the embeddings of evaluation mode, which is what it imputes."""
        self._diagnostics = {}
        if (law := self.embedding_law()) is None:
            return
        training = self.training
        z, present = self.eval()._embed_all(batches)
        self.train(training)
        if bool(z.isfinite().all()):  # else the predictions of this validation are none either, which ends the training
            with torch.autocast(z.device.type, enabled=False):
                self._diagnostics = describe(law, z, present)

    def _embed_all(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        parts = [self.embed(batch) for batch in batches]
        return torch.cat([z for z, _ in parts]), torch.cat([present for _, present in parts])

    @torch.no_grad()
    def state_of_law(self) -> dict[str, float]:
        """Columns of the history: α (or ρ) and Kendall's τ of the copula, mean scale of the mixtures, and `describe` of the law."""
        return law_state(self.joint) | self._diagnostics

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
        return unused_parameters(self.config, len(self.names))

    @property
    def _draws(self) -> bool:
        return self.config.impute in ("conditional", "marginal") and self.config.fusion_reads == "all"

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

    def _logits(self, z: Tensor, present: Tensor) -> Tensor:
        draws, stays = z.shape[:2]
        if self.config.fusion_reads == "first_two":
            present = present & (present.cumsum(dim=1) <= 2)
        read = None if self.config.fusion_reads == "all" else present.expand(draws, -1, -1).flatten(0, 1)
        fused = self.fusion(z.flatten(0, 1), read)
        return self.classifier(self.dropout(fused)).view(draws, stays, self.task.outputs).float()


def _given_or_built(given: Mapping[str, nn.Module], names: Sequence[str]) -> Callable[[Modality, EncoderConfig], Encoder]:
    """Builds a modality's encoder unless one is given."""
    if unknown := sorted(given.keys() - set(names)):
        raise InputError(f"encoders: there is no modality {unknown[0]!r}; {choose(unknown[0], names)}")
    return lambda modality, config: (
        as_encoder(given[modality.name], modality) if modality.name in given else build_encoder(modality, config)
    )


def _read_first_layout(model: CM2, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Renames the parameters of weights saved before the embeddings became a separate module."""
    for name in [n for n in state if n.removeprefix(prefix).startswith(("encoders.", "projections.", "normalisations."))]:
        state[f"{prefix}embeddings.{name.removeprefix(prefix)}"] = state.pop(name)
