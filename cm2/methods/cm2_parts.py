"""What CM² is built of, as its configuration says: its joint distribution; which of its parameters nothing trains."""

from __future__ import annotations

import torch

from cm2.config import ModelConfig
from cm2.copulas import Copula, CopulaDistribution, make
from cm2.copulas.chosen import Chosen
from cm2.joint import CopulaJoint
from cm2.joint.links import ALL_LINKS
from cm2.marginals import GaussianMixture
from cm2.methods.released_score import ReleasedScore


def build_law(c: ModelConfig, count: int) -> CopulaJoint | ReleasedScore:
    """The joint distribution of the embeddings of ``count`` modalities, or the released program's score."""
    if c.link == "released":
        return ReleasedScore(c.family, count, c.embedding_dim, c.components)
    shape = {"components": c.components, "dim": c.embedding_dim}
    marginals = [GaussianMixture(**shape, minimum_scale=c.minimum_scale, covariance=c.covariance) for _ in range(count)]
    if c.family == "auto":
        chosen = [Chosen(count) for _ in range(c.directions)]
        return CopulaJoint(chosen, marginals, link=c.link, types=c.types, directions=c.directions)
    copula = make(c.family, count, pair_family=c.pair_family) if c.family == "vine" else make(c.family, count)
    if not ALL_LINKS[c.link].directed:
        return CopulaJoint(copula, marginals, link=c.link, types=c.types)
    return CopulaJoint(copula.side_by_side(c.directions), marginals, link=c.link, types=c.types, directions=c.directions)


def unused_parameters(c: ModelConfig, count: int) -> dict[str, str]:
    """See `cm2.methods.contract.Method.unused_parameters`; of ``count`` modalities."""
    released = c.link == "released"
    if c.law == "profile":
        return {"joint.": "mixtures and copula are fitted to the training stays, not trained"}
    read = c.impute if c.fusion_reads == "all" else "nothing"
    if c.objective == "elbo":
        return {f"joint.marginals.{m}.logits": "the table of types replaces them" for m in range(count)} if c.types == "joint" else {}
    fitted = c.alignment == "copula" and (c.lambda_copula or (c.lambda_mix and not released))
    unused = {}
    if not fitted and (released or read not in ("conditional", "conditional_mean", "marginal", "mean")):
        unused["joint."] = unused["weight_network."] = "no term of the loss reads the law, nor a draw that carries a gradient"
    if released:
        unused["joint.weights"] = "components that are equal give their weights no gradient"
    elif (not fitted or not c.lambda_copula) and read not in ("conditional", "conditional_mean"):
        unused["joint.copula"] = unused["joint.table"] = "neither the dependence term nor a conditional draw is asked for"
    if not fitted and read == "mean":
        unused |= {f"joint.marginals.{m}.raw_scale": "a mean has no scale" for m in range(count)}
    if not fitted and read == "conditional" and c.link == "component":
        unused["joint.table"] = unused["weight_network."] = "labels are drawn, which has no gradient"
        unused |= {f"joint.marginals.{m}.logits": "labels are drawn, which has no gradient" for m in range(count)}
    if c.types == "joint":
        unused |= {f"joint.marginals.{m}.logits": "the table of types has its own margins" for m in range(count)}
    return unused


def law_state(joint: CopulaJoint | ReleasedScore) -> dict[str, float]:
    """α (or ρ) and Kendall's τ of the copula, mean scale of the mixtures."""
    if isinstance(joint, ReleasedScore):
        return joint.state()
    copula = joint.copula
    scales = torch.stack([m().scale.mean() for m in joint.marginals])
    copulas = [copula] if isinstance(copula, Copula) else copula
    tau = sum(_mean_tau(each()) for each in copulas) / len(copulas)
    state = {"kendall_tau": tau, "mean_scale": float(scales.mean())}
    alpha = getattr(copula, "alpha", getattr(copula, "rho", None))
    return state if alpha is None or alpha.numel() != 1 else {"alpha": float(alpha), **state}


def _mean_tau(law: CopulaDistribution) -> float:
    """Mean over copulas and pairs of Kendall's τ, which is a number for each copula or a matrix of pairs whose diagonal is 1."""
    tau = law.kendall_tau
    if tau.ndim == len(law.batch_shape) + 2:
        tau = tau[..., ~torch.eye(law.dim, dtype=torch.bool, device=tau.device)]
    return float(tau.mean())
