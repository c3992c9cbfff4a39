"""CM²: encoders, the law of their embeddings, fusion (paper, section 3 and Algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.copulas import make
from cm2.embedding import ModalityEmbeddings, is_complete
from cm2.fusion import LSTMFusion
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture


class CM2(nn.Module):
    r"""Cross-modal alignment by a copula of Gaussian mixtures, trained with the clinical task.

    The loss of a batch (paper, section 3.3, with the two weights kept apart and absent modalities integrated out) is

    .. math::
        L = \tau L_{task} - \frac1n \sum_i \Big\{ \lambda_{mix} \sum_{m \in O_i} \log f_m(z_{im})
            + \lambda_{cop} \Big[ \log f_{O_i}(z_i) - \sum_{m \in O_i} \log f_m(z_{im}) \Big] \Big\}.

    Args:
        config: the run's configuration.
        modalities: two or more modalities of the cohort.

    Raises:
        ValueError: fewer than two modalities.
    """

    version = "1"

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__()
        if len(modalities) < 2:
            raise ValueError(f"CM2 ties modalities to each other: expected two or more, got {[m.name for m in modalities]}")
        self.config = config.model
        self.names = tuple(m.name for m in modalities)
        self.epoch = 0
        dim = self.config.embedding_dim
        self.embeddings = ModalityEmbeddings(modalities, config.encoder, dim, self.config.normalisation)
        marginals = [GaussianMixture(self.config.components, dim, minimum_scale=self.config.minimum_scale) for _ in self.names]
        options = {"pair_family": self.config.pair_family} if self.config.family == "vine" else {}
        copula = make(self.config.family, len(self.names), **options)
        self.joint = CopulaJoint(copula, marginals, link=self.config.link, types=self.config.types)
        self.token = nn.Parameter(0.02 * torch.randn(len(self.names), dim)) if self.config.impute == "token" else None
        self.fusion = LSTMFusion(dim, self.config.fusion_hidden, self.config.fusion_layers)
        self.dropout = nn.Dropout(self.config.dropout)
        self.classifier = nn.Linear(self.fusion.output_dim, 1)
        self.register_load_state_dict_pre_hook(_read_first_layout)

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings of the modalities that are present.

        Returns:
            ``z`` ``(B, M, d)`` float32, zero where absent, and ``present`` ``(B, M)``.

        Raises:
            ValueError: the batch's modalities are not this model's.
        """
        return self.embeddings(batch), batch.present

    def impute(self, batch: Batch, n_draws: int = 1) -> Tensor:
        """Embeddings with absent ones drawn ``(n_draws, B, M, d)``; present ones are as ``embed`` gives them."""
        z, present = self.embed(batch)
        return self._fill(z, present, n_draws, complete=is_complete(batch))

    def predict(self, batch: Batch) -> Tensor:
        """Probability of the outcome ``(B,)``: the mean over the draws of absent embeddings."""
        return self.predictive(batch)[0]

    def predictive(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean and between-draw variance of the probability, each ``(B,)``; the variance is 0 where nothing is drawn."""
        n_draws = self.config.n_draws if self._draws and not is_complete(batch) else 1
        probability = self._logits(self.impute(batch, n_draws)).sigmoid()
        return probability.mean(dim=0), probability.var(dim=0, correction=0)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the objective, each a scalar averaged over the batch.

        Returns:
            ``loss`` (to be minimised), ``task`` (cross entropy), ``mixture`` and ``copula`` (log-likelihood terms per stay),
            and both per embedding coordinate that was present.
        """
        z, present = self.embed(batch)
        logits = self._logits(self._fill(z, present, 1, complete=is_complete(batch)))[0]
        task = F.binary_cross_entropy_with_logits(logits, batch.label.float())
        mixture, copula = self._law_terms(z, present)
        loss = self.annealing() * task - self.config.lambda_mix * mixture - self.config.lambda_copula * copula
        coordinates = present.sum(dim=1).float().mean() * z.shape[-1]
        return {
            "loss": loss,
            "task": task.detach(),
            "mixture": mixture.detach(),
            "copula": copula.detach(),
            "mixture_per_dimension": mixture.detach() / coordinates,
            "copula_per_dimension": copula.detach() / coordinates,
        }

    def annealing(self) -> float:
        """Factor of the task loss, 1/max(exp(-T·epoch), 1e-3); 1 for T = 0."""
        return 1 / max(exp(-self.config.temperature * self.epoch), 1e-3)

    @torch.no_grad()
    def initialise(self, batch: Batch) -> None:
        """Starts each mixture from the embeddings of a first batch (k-means++), so that its components differ."""
        training = self.training
        z, _ = self.eval().embed(batch)
        for m, name in enumerate(self.names):
            self.joint.marginals[m].initialise(z[batch.rows[name], m])
        self.train(training)

    def law_parameters(self) -> list[nn.Parameter]:
        """Parameters of mixtures and copula, which are trained with a step of their own."""
        return list(self.joint.parameters())

    @torch.no_grad()
    def state_of_law(self) -> dict[str, float]:
        """Scalars worth a column in the history: α and Kendall's τ of the copula, the spread of the mixtures."""
        copula = self.joint.copula
        scales = torch.stack([m().scale.mean() for m in self.joint.marginals])
        tau = copula().kendall_tau  # one number, or a matrix of pairs whose diagonal is 1
        pairs = tau[~torch.eye(len(tau), dtype=torch.bool, device=tau.device)] if tau.ndim == 2 else tau
        state = {"kendall_tau": float(pairs.mean()), "mean_scale": float(scales.mean())}
        alpha = getattr(copula, "alpha", getattr(copula, "rho", None))
        return state if alpha is None or alpha.numel() != 1 else {"alpha": float(alpha), **state}

    @property
    def _draws(self) -> bool:
        return self.config.impute in ("conditional", "marginal")

    def _fill(self, z: Tensor, present: Tensor, n_draws: int, complete: bool) -> Tensor:
        how = self.config.impute
        if complete or how == "zero":
            return z.expand(n_draws, *z.shape)
        if how == "token":
            filled = torch.where(present[..., None], z, self.token)
        elif how == "mean":
            means = [(law.log_weights.exp()[:, None] * law.mean).sum(dim=0) for law in self._marginal_laws()]
            filled = torch.where(present[..., None], z, torch.stack(means))
        else:
            with torch.autocast(z.device.type, enabled=False):
                return self.joint(validate_args=False).impute(z, present, n_draws, how=how)
        return filled.expand(n_draws, *z.shape)

    def _marginal_laws(self) -> list[torch.distributions.Distribution]:
        return [marginal(validate_args=False) for marginal in self.joint.marginals]

    def _law_terms(self, z: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(z.device.type, enabled=False):
            law = self.joint(validate_args=False)
            stop = self.config.stop_gradient
            marginal, dependence = law.terms(z.detach() if stop == "both" else z, present)
            if stop == "mixture":
                marginal = law.terms(z.detach(), present)[0]
            elif stop == "copula":
                dependence = law.terms(z.detach(), present)[1]
        return torch.where(present, marginal, 0).sum(dim=-1).mean(), dependence.mean()

    def _logits(self, z: Tensor) -> Tensor:
        draws, stays = z.shape[:2]
        fused = self.fusion(z.flatten(0, 1))
        return self.classifier(self.dropout(fused)).view(draws, stays).float()


def _read_first_layout(model: CM2, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Weights saved before the embeddings were a module of their own load as well."""
    for name in [n for n in state if n.removeprefix(prefix).startswith(("encoders.", "projections.", "normalisations."))]:
        state[f"{prefix}embeddings.{name.removeprefix(prefix)}"] = state.pop(name)
