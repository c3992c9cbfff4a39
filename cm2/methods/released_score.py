r"""The score that the paper's released program computes instead of a joint log density, family by family.

It is not a likelihood; it is implemented for comparison with the exact links. Restated from a description of the program, whose code
carries no licence. Per component k, matched by its index across the modalities, with :math:`w_{mk}` the mixture weights:

.. math:: score(z) = \log \sum_k \exp\Bigl( s(u_{1k}, \dots, u_{Mk}) + \sum_m \log N(z_m; \mu_{mk}, \sigma_{mk}^2) + \log w_{mk} \Bigr),
    \quad \log u_{mk} = \sum_j \log \Phi\Bigl(\frac{z_{mj} - \mu_{mkj}}{\sigma_{mkj}}\Bigr)

==========  ===========================================================================================================================
family      s
==========  ===========================================================================================================================
Gumbel      :math:`\log C = -(\sum_m (-\log u_m)^\alpha)^{1/\alpha}`, the log of the distribution function, not of the density;
            :math:`\alpha = \max(\theta, 1)`. It rises with :math:`\alpha` whatever the data: under Adam :math:`\theta` counts steps
Frank       :math:`\log\max(\alpha e^{-\alpha(u+v)}(1 - e^{-\alpha}), 10^{-5}) - 2\log(e^{-\alpha} + e^{-\alpha u} + e^{-\alpha v} +
            e^{-\alpha(u+v)})`, two signs wrong, :math:`\alpha = \theta`; at :math:`u' = e^{-t^2/2}` instead of u
Gaussian    the bivariate normal copula's log density, :math:`\rho = \tanh\theta`, at the same :math:`u'`
==========  ===========================================================================================================================

t is log u standardised over the stays of the batch; :math:`u'` is even in t, which loses the sign of the dependence. Clayton is empty
in the program and Student t is not in it; for three modalities only Gumbel runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cm2.errors import InputError

FAMILIES = ("gumbel", "frank", "gaussian")
_LOG_SQRT_TAU = 0.5 * math.log(2 * math.pi)
_FLOOR = 1e-5


class ReleasedScore(nn.Module):
    r"""The released program's alignment score of M embeddings of d coordinates, with its 1 + 2·M·K·d + M·K parameters.

    All K components start equal and receive equal gradients, so they remain one Gaussian, and their weights receive no gradient: the
    score with K components is the score with one, minus (M - 1) log K. This holds in exact arithmetic; where a processor rounds equal
    components differently, Adam magnifies the difference.

    Args:
        family: ``"gumbel"``, ``"frank"`` or ``"gaussian"``.
        modalities: M; more than two only for Gumbel (the program has two and three).
        dim: d (program: 256).
        components: K (program: 3).
        theta: initial value of the copula's free parameter. The program has 1: there the authors' version of torch passes a gradient
            through Gumbel's ``clamp(min=1)``, while the current one does not, and from exactly 1 it would never move.
        draws: how a missing embedding is drawn: ``"weighted_sum"``, the program's weighted sum of one draw per component, whose
            variance is too small; or ``"mixture"``, a draw from one component.
        detach_draws: whether draws are detached (program) or carry the gradient of the sum.

    Raises:
        ValueError: a family without a score in the program, or unknown options.

    Example:
        >>> score = ReleasedScore("gumbel", modalities=2, dim=8)
        >>> score(torch.zeros(5, 2, 8)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        family: str,
        modalities: int,
        dim: int,
        components: int = 3,
        *,
        theta: float = 1 + 1e-6,
        draws: str = "weighted_sum",
        detach_draws: bool = True,
    ) -> None:
        super().__init__()
        _check(family, modalities, draws, detach_draws)
        self.family, self.draws, self.detach_draws = family, draws, detach_draws
        self.theta = nn.Parameter(torch.tensor(float(theta)))
        self.weights = nn.Parameter(torch.ones(modalities, components))
        self.mean = nn.Parameter(torch.zeros(modalities, components, dim))
        self.raw_scale = nn.Parameter(torch.full((modalities, components, dim), -4.0))

    @property
    def scale(self) -> Tensor:
        """Standard deviations ``(M, K, d)``; the program calls them covariances."""
        return F.softplus(self.raw_scale)

    @property
    def alpha(self) -> Tensor:
        """The copula's parameter as the score uses it: Gumbel's and Frank's α, the Gaussian's ρ."""
        return {"gumbel": lambda t: t.clamp(min=1), "frank": lambda t: t, "gaussian": torch.tanh}[self.family](self.theta)

    def forward(self, z: Tensor) -> Tensor:
        """Score of every stay of a batch, ``(B, M, d) -> (B,)``; missing embeddings must be imputed before, as in the program.

        Frank's and the Gaussian's depend on the other stays of the batch.
        """
        log_normal, log_u = self.parts(z)
        log_weights = [weights.softmax(0).log() for weights in self.weights]
        terms = zip(self.dependence(log_u).unbind(-1), log_normal.unbind(-1), zip(*log_weights, strict=True), strict=True)
        return torch.stack([s + log_n.sum(-1) + sum(log_w) for s, log_n, log_w in terms], -1).logsumexp(-1)

    def parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """log N and log u of every component, ``(B, M, d) ->`` two ``(B, M, K)``.

        Φ is clamped to at least 1e-15, and a log Φ that rounds to 0 is replaced by the largest negative one of its component.
        """
        # one component at a time: computed side by side, most processors round equal components differently, and Adam magnifies it
        scale = self.scale
        parts = [_component(z, self.mean[:, k], scale[:, k]) for k in range(self.mean.shape[1])]
        log_normal, log_u = (torch.stack(part, -1) for part in zip(*parts, strict=True))
        return log_normal, log_u

    def dependence(self, log_u: Tensor) -> Tensor:
        """s for every component, ``(B, M, K) -> (B, K)``."""
        alpha = self.alpha
        score = {"gumbel": _gumbel, "frank": _frank, "gaussian": _gaussian}[self.family]
        return torch.stack([score(component.unbind(-1), alpha) for component in log_u.unbind(-1)], -1)

    def expected(self) -> Tensor:
        """Mean of each modality's mixture ``(M, d)``."""
        return (self.weights.softmax(-1)[..., None] * self.mean).sum(-2)

    def impute(self, z: Tensor, present: Tensor, n_draws: int = 1, how: str = "marginal") -> Tensor:
        """Draws missing embeddings and returns observed ones unchanged: ``(B, M, d)``, ``(B, M) -> (n_draws, B, M, d)``.

        Raises:
            ValueError: ``how`` other than ``"marginal"``, the program's only kind of draw.
        """
        if how != "marginal":
            raise InputError(f'impute: how={how!r}, the released program only draws from a modality\'s own mixture; use how="marginal"')
        weights = self.weights.softmax(-1)
        if self.draws == "mixture":
            chosen = torch.distributions.Categorical(weights, validate_args=False).sample((n_draws, len(z)))
            weights = F.one_hot(chosen, weights.shape[-1]).to(z.dtype)
        noise = torch.randn(n_draws, len(z), *self.mean.shape, dtype=z.dtype, device=z.device)
        drawn = (weights[..., None] * (self.mean + self.scale * noise)).sum(-2)
        return torch.where(present[..., None], z, drawn.detach() if self.detach_draws else drawn)

    @torch.no_grad()
    def state(self) -> dict[str, float]:
        """Columns of the history; Gumbel's (α - 1)/α, which the paper calls correlation, is Kendall's τ."""
        state = {"alpha": float(self.alpha), "mean_scale": float(self.scale.mean())}
        return state | ({"kendall_tau": 1 - 1 / state["alpha"]} if self.family == "gumbel" else {})

    def extra_repr(self) -> str:
        return f"family={self.family!r}, draws={self.draws!r}, detach_draws={self.detach_draws}"


def _component(z: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """log N and log u of one component of each modality, ``(B, M, d) ->`` two ``(B, M)``."""
    x = (z - mean) / scale
    log_normal = -0.5 * x.square().sum(-1) - scale.log().sum(-1) - x.shape[-1] * _LOG_SQRT_TAU
    log_phi = (0.5 * torch.erfc(-x * math.sqrt(0.5))).clamp(min=1e-15).log()
    largest = torch.where(log_phi < 0, log_phi, -torch.inf).amax(dim=(0, 2), keepdim=True)
    largest = largest.nan_to_num(neginf=-torch.finfo(x.dtype).eps)
    return log_normal, torch.where(log_phi < 0, log_phi, largest).sum(-1)


def bell(log_u: Tensor) -> Tensor:
    r""":math:`u' = e^{-t^2/2}`, t the argument standardised over the stays of the batch, ``(B, ...) -> (B, ...)``.

    For equal stays, or a single one, t is 0; the program divides 0 by 0 there and stops.
    """
    variance = log_u.var(0, correction=min(1, len(log_u) - 1))
    t = (log_u - log_u.mean(0)) / torch.where(variance > 0, variance, 1.0).sqrt()
    return torch.exp(-0.5 * t.square())


def _gumbel(log_u: Sequence[Tensor], alpha: Tensor) -> Tensor:
    return -torch.stack([(-each).log() * alpha for each in log_u]).logsumexp(0).div(alpha).exp()


def _frank(log_u: Sequence[Tensor], alpha: Tensor) -> Tensor:
    u, v = (bell(each) for each in log_u)
    return misprinted_frank(u, v, alpha)


def misprinted_frank(u: Tensor, v: Tensor, alpha: Tensor) -> Tensor:
    """The program's Frank "log density" of u and v, any shape."""
    total = u + v
    numerator = alpha * torch.exp(-alpha * total) * (1 - torch.exp(-alpha))
    denominator = torch.exp(-alpha) + torch.exp(-alpha * u) + torch.exp(-alpha * v) + torch.exp(-alpha * total)
    return numerator.clamp(min=_FLOOR).log() - 2 * denominator.log()


def _gaussian(log_u: Sequence[Tensor], rho: Tensor) -> Tensor:
    # the floor is inferred: with it the description's example is reproduced
    x, y = (torch.special.ndtri(bell(each).clamp(_FLOOR, 1 - _FLOOR)) for each in log_u)
    rest = 1 - rho.square()
    return -0.5 * rest.log() - (rho.square() * (x.square() + y.square()) - 2 * rho * x * y) / (2 * rest)


def _check(family: str, modalities: int, draws: str, detach_draws: bool) -> None:
    choose = f"choose one of {', '.join(FAMILIES)}"
    if family == "clayton":
        raise InputError(f"link released: the released program's Clayton density is empty, so there is no such score; {choose}")
    if family not in FAMILIES:
        raise InputError(f"link released: the released program has no score of the family {family!r}; {choose}")
    if modalities < 2 or (modalities > 2 and family != "gumbel"):
        raise InputError(f"link released: the released program runs {family} for two modalities, got {modalities}; more only with gumbel")
    if draws not in ("weighted_sum", "mixture"):
        raise InputError(f'link released: unknown draws={draws!r}; choose "weighted_sum" or "mixture"')
    if draws == "mixture" and not detach_draws:
        raise InputError('link released: the choice of a component has no gradient; detach_draws=False goes with draws="weighted_sum"')
