"""Configuration of CM²."""

from __future__ import annotations

from dataclasses import dataclass

from cm2.config.checks import not_negative, one_of, positive, rates
from cm2.config.reading import later
from cm2.errors import InputError


@dataclass(frozen=True)
class ModelConfig:
    """Hyper-parameters of CM²: embeddings, joint distribution, imputation, fusion."""

    embedding_dim: int = 64
    """Dimension d of every modality's embedding (paper: 256)."""
    normalisation: str = "layer"
    """``layer``: each embedding has mean 0 and variance 1 over its coordinates; ``batch``: each coordinate over the stays of a training
    batch; ``l2``: unit norm (released code); ``none``."""
    components: int = 3
    """Components K of each Gaussian mixture (paper: 3)."""
    minimum_scale: float = 0.05
    """Floor of a component's standard deviation: without one the likelihood of a mixture is unbounded."""
    family: str = "gumbel"
    """Copula family, see ``cm2.copulas.FAMILIES``: ``gumbel``, ..., a ``mixture`` of three, for three and more modalities a ``vine``
    (the D-vine in their order), or with link ``vector`` and ``law = profile`` ``auto``: every fit of the law chooses the family of each
    direction by AIC."""
    pair_family: str = "gaussian"
    """Family of a vine's pair copulas; with Gaussian ones the vine is a Gaussian copula."""
    link: str = "component"
    """How the copula couples embeddings: ``component``, ``scalar``, ``dimension`` or ``vector``, which are exact; ``paper``, the printed
    formula, which is not a density of vectors; or ``released``, the score of the released program, weighted by ``lambda_copula`` alone."""
    directions: int = later(8)
    """Directions of each modality, r, that the link ``vector`` couples and ``law = profile`` reads; at most ``embedding_dim``."""
    covariance: str = later("diagonal")
    """Covariances of the mixtures' components: ``diagonal`` (paper) or ``full``."""
    types: str = "independent"
    """Mixture labels: ``independent`` between modalities, with a ``joint`` table, or ``none`` (link ``vector``)."""
    law: str = later("gradient")
    """How mixtures and copula are estimated: by ``gradient`` steps on the loss (paper), or as a ``profile``: fitted to the training stays'
    embeddings in evaluation mode after every epoch, while the dependence term is that of the batch at its own Gaussian maximum."""
    profile_shrinkage: float = later(0.05)
    """Shrinkage of a batch's covariances towards their diagonals, for ``law = profile``."""
    weights: str = "learned"
    """Weights of each mixture: ``learned``, the same for all stays, or ``predicted`` from the stay's other observed modalities (paper)."""
    alignment: str = "copula"
    """Alignment of the embeddings: by the ``copula``'s joint distribution, or by ``cosine`` or ``kl`` distances (paper, Table 4)."""
    lambda_alignment: float = 1.0
    """Weight of the cosine or KL alignment (released code: 1)."""
    impute: str = "conditional"
    """Embedding of a missing modality: ``conditional`` draw, ``conditional_mean``, ``marginal`` draw (paper), ``zero``, ``mean`` or
    ``token``. With ``none`` nothing is filled in: a stay that lacks a modality has no fused prediction, only those of its modalities'
    heads."""
    n_draws: int = 8
    """Draws averaged in a prediction when a modality is missing."""
    objective: str = later("penalty")
    """``penalty``: the task loss minus the weighted log-likelihood of the embeddings (paper, as computed); ``elbo``: the bound that the
    paper prints, with stochastic encoders q(z | x): E_q[task loss] + ``beta`` E_q[log q(z | x) - log f(z)], over observed modalities."""
    beta: float = later(1e-3)
    """Weight of the divergence from the joint distribution, for ``objective = elbo``, in nats per stay."""
    lambda_mix: float = 1e-3
    """Weight of the mixtures' log-likelihood, per stay (paper: 1e-6 to 1e-5, inert)."""
    lambda_copula: float = 1e-3
    """Weight of the dependence term, per stay; 0 leaves the copula's parameter where it starts."""
    stop_gradient: str = "none"
    """Term whose gradient does not reach the encoders, although it still trains the distribution: ``none``; ``mixture`` (only the
    dependence shapes the embeddings); ``copula`` (only the mixtures do); or ``both``."""
    pretrain: str = later("none")
    """What the encoders learn before the task, from all training stays: ``none``; ``likelihood``, the dependence of the modalities
    (``directions`` and ``profile_shrinkage`` as for ``law = profile``); or as its control ``masked``, hidden numbers of a modality from
    the embedding of what is left of it."""
    pretrain_epochs: int = later(25)
    """Epochs of it."""
    pretrain_learning_rate: float = later(1e-3)
    """Adam's step in it, without weight decay."""
    encoder_rate: float = later(1.0)
    """Factor of the encoders' learning rate in the training with the task; 0 leaves them as they are, which suits pre-trained ones."""
    temperature: float = 0.0
    """T of the annealing: the task loss is multiplied by 1/max(exp(-T·epoch), 1e-3); 0 switches it off."""
    start_at_prevalence: bool = later(False)
    """Whether classifier and heads begin at the log-odds of the outcome among the first stays, in place of even odds: with few steps, or
    an average over steps, probabilities would otherwise stay too high where the outcome is rare."""
    fusion: str = "lstm"
    """Fusion of the embeddings before the classifier: an ``lstm`` over the modalities, ``concat``, side by side (paper, Table 5),
    ``hidden``, side by side into one hidden layer, or ``additive``, a hidden layer for each, whose contributions to the log-odds add up;
    or a fusion from outside, by its name (`cm2.networks.fusion.register_fusion`)."""
    lambda_heads: float = later(0.0)
    """Weight of the cross entropy of a linear head for each modality. The mean of the heads' probabilities of the observed modalities is
    averaged half and half with the fused one; 0: no heads."""
    fusion_reads: str = "all"
    """Embeddings that fusion reads: ``all``, imputed ones included; only ``present`` ones (released code); or of those the ``first_two``
    (released code for three modalities, where the third is never read)."""
    fusion_hidden: int = 512
    """Width of the fusion LSTM or of a hidden layer."""
    fusion_layers: int = 2
    """Layers of the fusion LSTM (paper: two; released code: one)."""
    dropout: float = 0.1
    """Dropout rate before the classifier."""

    def __post_init__(self) -> None:
        one_of("model.normalisation", self.normalisation, ("layer", "batch", "l2", "none"))
        one_of("model.link", self.link, ("component", "scalar", "dimension", "vector", "paper", "released"))
        one_of("model.covariance", self.covariance, ("diagonal", "full"))
        one_of("model.types", self.types, ("independent", "joint", "none"))
        one_of("model.law", self.law, ("gradient", "profile"))
        one_of("model.pretrain", self.pretrain, ("none", "likelihood", "masked"))
        one_of("model.objective", self.objective, ("penalty", "elbo"))
        one_of("model.weights", self.weights, ("learned", "predicted"))
        one_of("model.alignment", self.alignment, ("copula", "cosine", "kl"))
        one_of("model.fusion_reads", self.fusion_reads, ("all", "present", "first_two"))
        one_of("model.impute", self.impute, ("conditional", "conditional_mean", "marginal", "zero", "mean", "token", "none"))
        one_of("model.stop_gradient", self.stop_gradient, ("none", "mixture", "copula", "both"))
        if self.types == "joint" and self.link not in ("component", "vector"):
            raise InputError(f"model.types: joint is a table of component labels, which link {self.link} has none of; use link component")
        if self.types == "none" and self.link != "vector":
            raise InputError(f"model.types: link {self.link} has no form without labels; use link vector")
        self._check_combination()
        self._check_law()
        self._check_objective()
        above_0 = ("embedding_dim", "components", "n_draws", "pretrain_epochs", "pretrain_learning_rate", "fusion_hidden", "fusion_layers")
        positive(**{f"model.{name}": getattr(self, name) for name in above_0})
        weights = ("lambda_mix", "lambda_copula", "lambda_alignment", "lambda_heads", "temperature", "minimum_scale", "encoder_rate")
        not_negative(**{f"model.{name}": getattr(self, name) for name in weights})
        rates(**{"model.dropout": self.dropout})

    def _check_objective(self) -> None:
        if self.objective == "penalty":
            return
        if not self.beta > 0:
            raise InputError(f"model.beta: expected a positive weight, got {self.beta}")
        if self.link in ("paper", "released"):
            raise InputError(f"model.objective: link {self.link} is not a distribution; use objective penalty or an exact link")
        if self.law != "gradient" or self.alignment != "copula" or self.stop_gradient != "none":
            raise InputError(
                "model.objective: elbo trains law and encoders together; use law gradient, alignment copula, stop_gradient none"
            )

    def _check_law(self) -> None:
        directed = self.link == "vector" or self.law == "profile" or self.pretrain == "likelihood"
        if directed and not 1 <= self.directions <= self.embedding_dim:
            raise InputError(f"model.directions: expected 1 to embedding_dim = {self.embedding_dim}, got {self.directions}")
        if self.covariance == "full" and self.link in ("paper", "released"):
            raise InputError(f"model.covariance: link {self.link} needs covariance diagonal: it reads a joint distribution function")
        if not 0 < self.profile_shrinkage < 1:
            raise InputError(f"model.profile_shrinkage: expected above 0 and below 1, got {self.profile_shrinkage}")
        if self.family == "auto" and (self.law != "profile" or self.link != "vector"):
            raise InputError("model.family: auto is chosen for each direction where the law is fitted; use law profile and link vector")
        if self.law != "profile":
            return
        if self.link in ("paper", "released"):
            raise InputError(f"model.law: link {self.link} is no distribution that could be fitted; use law gradient")
        if self.weights != "learned" or self.alignment != "copula":
            raise InputError("model.law: profile fits one distribution for all stays; use weights learned and alignment copula")

    def _check_combination(self) -> None:
        if self.link in ("paper", "released") and self.impute in ("conditional", "conditional_mean"):
            raise InputError(
                f"model.impute: link {self.link} is no law that an embedding could be drawn from given others; "
                "use impute marginal, zero, mean or token"
            )
        if self.impute == "none" and (self.lambda_heads == 0 or self.link == "released"):
            raise InputError(
                "model.impute: none predicts stays without a modality by the heads of the others; give lambda_heads above 0"
                if self.lambda_heads == 0
                else "model.impute: link released scores imputed embeddings; use impute marginal, zero, mean or token"
            )
        if self.link == "released" and self.weights != "learned":
            raise InputError("model.weights: link released has free weights of its own; use weights learned")
        if self.link == "released" and self.stop_gradient not in ("none", "both"):
            raise InputError(
                f"model.stop_gradient: link released has one score, of which {self.stop_gradient} is no part; use none or both"
            )
        if self.weights == "predicted" and self.types == "joint":
            raise InputError("model.weights: a joint table of types has weights of its own; use types independent or weights learned")
        if self.fusion_reads != "all" and self.impute == "token":
            raise InputError("model.impute: a token that fusion never reads cannot be learnt; use fusion_reads all or another impute")
