r"""Finite mixtures of copulas."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Size, Tensor, nn
from torch.nn.functional import logsigmoid

from cm2.containers import ModulesInOrder
from cm2.copulas.base import CopulaDistribution
from cm2.copulas.families.clayton import Clayton
from cm2.copulas.families.gaussian import Gaussian
from cm2.copulas.families.gumbel import Gumbel
from cm2.copulas.families.independence import IndependenceDistribution
from cm2.copulas.law_dependence import between_pairs, kendall_tau
from cm2.copulas.module import Copula, parameter
from cm2.copulas.tails import Tails, uniform_tails
from cm2.errors import InputError
from cm2.numerics.elementary import summed
from cm2.numerics.roots import monotone_root

_STEPS = 40


class MixtureDistribution(CopulaDistribution):
    r""":math:`C(u) = \sum_k w_k C_k(u)` with weights :math:`w_k > 0` of sum 1 and components of any family, all of the same dimension.

    As all margins are uniform, most formulas hold term by term: :math:`c = \sum_k w_kc_k`, summed in logarithms, :math:`h = \sum_k w_kh_k`,
    and the margin over a set of coordinates is the mixture of the components' margins with the same weights. Given two or more coordinates
    :math:`u_O` the others follow a mixture of the components' conditional distributions, with weights
    :math:`w_k(u_O) \propto w_kc_k(u_O)` (McLachlan and Peel 2000, section 1.4).

    The quantile of h is between those of its components and is solved for the logit of :math:`u_1`. Spearman's ρ and the coefficients of
    tail dependence are weighted means of the components'. Kendall's τ is not; see `cm2.copulas.law_dependence.kendall_tau`.

    Args:
        laws: the components, all of the same dim.
        log_weights: logarithms of the weights, (*batch, K); batch shapes broadcast.
        validate_args: see `CopulaDistribution`.
    """

    def __init__(self, laws: Sequence[CopulaDistribution], log_weights: Tensor, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(log_weights.shape[:-1], *(law.batch_shape for law in laws))
        self.laws = [law if law.batch_shape == batch else law.expand(batch) for law in laws]
        self.log_weights = log_weights.expand(*batch, len(laws))
        super().__init__(laws[0].dim, batch, validate_args)

    @property
    def weights(self) -> Tensor:
        """The weights, (*batch, K)."""
        return torch.exp(self.log_weights)

    @property
    def kendall_tau(self) -> Tensor:
        """Kendall's τ by quadrature, to about 1e-10: shape of the batch; in dim above 2 a matrix (*batch, dim, dim) if pairs differ."""
        if self.dim > 2:
            alike = all(law.kendall_tau.shape == law.batch_shape for law in self.laws)
            return between_pairs(lambda pair: pair.kendall_tau, self, alike)
        # the quadrature has to resolve the component whose mass is closest to a diagonal
        narrowest = torch.stack([1 - each.kendall_tau.detach().abs() for each in self.laws], -1).amin(-1)
        return kendall_tau(self, narrowest)

    @property
    def spearman_rho(self) -> Tensor:
        """Weighted mean of the components' ρ: shape of the batch; in dim above 2 a matrix if pairs differ."""
        return self._mean([law.spearman_rho for law in self.laws])

    @property
    def tail_dependence(self) -> tuple[Tensor, Tensor]:
        """(lower, upper): weighted means of the components' coefficients."""
        lower, upper = zip(*(law.tail_dependence for law in self.laws), strict=True)
        return self._mean(lower), self._mean(upper)

    @property
    def discordant_tail_dependence(self) -> tuple[Tensor, Tensor]:
        """Weighted means of the components' coefficients in the corners (0, 1) and (1, 0). Only for dim 2."""
        first, second = zip(*(law.discordant_tail_dependence for law in self.laws), strict=True)
        return self._mean(first), self._mean(second)

    def _mean(self, values: Sequence[Tensor]) -> Tensor:
        """Weighted mean of measures between pairs, a matrix if one of them is."""
        wide = [each.shape != self.batch_shape for each in values]
        if any(wide):
            one = torch.eye(self.dim, dtype=torch.bool, device=self.log_weights.device)
            values = [each if matrix else torch.where(one, 1.0, each[..., None, None]) for each, matrix in zip(values, wide, strict=True)]
            return summed(w[..., None, None] * each for w, each in zip(self.weights.unbind(-1), values, strict=True))
        return (self.weights * torch.stack(list(values), -1)).sum(-1)

    @property
    def flipped(self) -> CopulaDistribution:
        """The copula of (U_2, U_1)."""
        return self._with([law.flipped for law in self.laws])

    def marginalise(self, present: Tensor) -> CopulaDistribution:
        """The mixture of the components' margins over the coordinates in `present`, a bool mask (dim,)."""
        kept = self._check_subset(present)
        if len(kept) == 1:
            return IndependenceDistribution(1, self.log_weights, self.batch_shape, self._validate_args)
        return self if len(kept) == self.dim else self._with([law.marginalise(present) for law in self.laws])

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws, (*sample_shape, *batch, dim): a component by its weight, then a draw from it."""
        shape = self._extended_shape(Size(sample_shape))
        with torch.no_grad():
            return _choose([law.sample(sample_shape) for law in self.laws], _draw_label(self.log_weights.expand(*shape[:-1], -1)))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        r"""Draws, (*sample_shape, *batch, dim), differentiable in the weights and in the components' parameters.

        In two dimensions by the inverse of h, for which each draw is smooth. In more, by `sample`, with the derivatives of the inverse
        Rosenblatt transform (Figurnov, Mohamed, Mnih 2018): :math:`F_k(u_k \mid u_1, \ldots, u_{k-1})` is constant when parameters change,
        hence :math:`du_k = -dF_k/f_k`, coordinate by coordinate.
        """
        if self.dim == 2:
            return super().rsample(sample_shape)
        drawn = self.sample(sample_shape)
        if not torch.is_grad_enabled() or not any(each.requires_grad for each in self._tensors()):
            return drawn
        columns = [drawn[..., 0]]
        for k in range(1, self.dim):
            u = torch.stack([*columns, drawn[..., k]], -1)
            (level, _), density = self._level(torch.log(u), torch.log1p(-u))
            share = torch.exp(level)
            columns.append(drawn[..., k] - (share - share.detach()) / torch.exp(density.detach()))  # adds 0, with derivative -dF/f
        return torch.stack(columns, -1)

    def rosenblatt_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        """Coordinate by coordinate the mixture of the components' conditional CDFs, with their posterior weights."""
        leading = torch.broadcast_shapes(log_u.shape[:-1], self.batch_shape)
        first = log_u[..., 0].expand(leading), log1m_u[..., 0].expand(leading)
        levels = [first, *(self._level(log_u[..., : k + 1], log1m_u[..., : k + 1])[0] for k in range(1, self.dim))]
        low, high = (torch.stack(each, -1) for each in zip(*levels, strict=True))
        return low, high

    def _level(self, log_u: Tensor, log1m_u: Tensor) -> tuple[Tails, Tensor]:
        """Tails of the conditional CDF, and the log conditional density, of the last coordinate of `log_u` given those before it."""
        count = log_u.shape[-1]
        place = torch.arange(self.dim)
        here, before = ([law.marginalise(place < n) for law in self.laws] for n in (count, count - 1))
        known = self.log_weights
        if count > 2:
            known = known + torch.stack([law._log_density(log_u[..., :-1], log1m_u[..., :-1], None) for law in before], -1)
        posterior = torch.log_softmax(known, -1)
        tails = zip(*(law.rosenblatt_tails(log_u, log1m_u) for law in here), strict=True)
        low, high = (torch.logsumexp(posterior + torch.stack([each[..., -1] for each in part], -1), -1) for part in tails)
        joint = self.log_weights + torch.stack([law._log_density(log_u, log1m_u, None) for law in here], -1)
        return (low, high), torch.logsumexp(joint, -1) - torch.logsumexp(known, -1)

    def conditional_sample_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor, n_draws: int = 1) -> Tails:
        r"""`conditional_sample` from and to the tails: (log u, log(1 - u)), each (n_draws, ..., dim).

        In two dimensions by the inverse of the conditional CDF, differentiable in everything. In more, a component is drawn with
        probability proportional to :math:`w_kc_k(u_O)`, then the missing coordinates from its conditional distribution. The choice of the
        component has no gradient: the weights get none, and its parameters and the observed coordinates only that for a fixed choice.
        """
        return super().conditional_sample_tails(log_u, log1m_u, present, n_draws)

    def _with(self, laws: Sequence[CopulaDistribution]) -> "MixtureDistribution":
        return MixtureDistribution(laws, self.log_weights, self._validate_args)

    def _like(self) -> Tensor:
        return self.log_weights

    def _tensors(self) -> tuple[Tensor, ...]:
        return (self.log_weights, *(each for law in self.laws for each in law._tensors()))

    def _rebuild(self, tensors: Sequence[Tensor]) -> CopulaDistribution:
        rest, laws = list(tensors[1:]), []
        for law in self.laws:
            count = len(law._tensors())
            laws.append(law._rebuild(rest[:count]))
            rest = rest[count:]
        return MixtureDistribution(laws, tensors[0], self._validate_args)

    def _batched(self, batch_shape: Size) -> CopulaDistribution:
        weights = self.log_weights.expand(*batch_shape, len(self.laws))
        return MixtureDistribution([law.expand(batch_shape) for law in self.laws], weights, self._validate_args)

    def _mix(self, values: Sequence[Tensor]) -> Tensor:
        """Logarithm of the weighted mean of values that are passed as logarithms."""
        return torch.logsumexp(self.log_weights + torch.stack(torch.broadcast_tensors(*values), -1), -1)

    def _log_density(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor | None) -> Tensor:
        return self._mix([law._log_density(log_u, log1m_u, mask) for law in self.laws])

    def _log_density_at(self, u: Tensor) -> Tensor:
        return self._mix([law._log_density_at(u) for law in self.laws])

    def _cdf(self, log_u: Tensor, log1m_u: Tensor, mask: Tensor) -> Tensor:
        return (self.weights * torch.stack([law._cdf(log_u, log1m_u, mask) for law in self.laws], -1)).sum(-1)

    def _h_tails(self, log_u: Tensor, log1m_u: Tensor) -> Tails:
        low, high = zip(*(law._h_tails(log_u, log1m_u) for law in self.laws), strict=True)
        return self._mix(low), self._mix(high)

    def _h_quantile(self, p: Tails, given: Tails) -> Tails:
        with torch.no_grad():
            ends = torch.stack(torch.broadcast_tensors(*(low - high for low, high in (law._h_quantile(p, given) for law in self.laws))), -1)
            lower, upper = ends.amin(-1), ends.amax(-1)

        def level(logit: Tensor) -> tuple[Tensor, Tensor]:
            """logit p - logit h as a function of the logit of u_1, and its slope, -c(u) u_1 (1 - u_1) / (h (1 - h))."""
            low, high = logsigmoid(logit), logsigmoid(-logit)
            pair = (torch.stack(torch.broadcast_tensors(*each), -1) for each in ((low, given[0]), (high, given[1])))
            log_u, log1m_u = pair
            log_h, log1m_h = self._h_tails(log_u, log1m_u)
            with torch.no_grad():  # `monotone_root` holds the slope constant
                slope = -torch.exp(self._log_density(log_u, log1m_u, None) + low + high - log_h - log1m_h)
            return p[0] - p[1] - log_h + log1m_h, slope

        logit = monotone_root(level, lower, upper, iterations=_STEPS)
        return logsigmoid(logit), logsigmoid(-logit)

    def _conditional_tails(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        if self.dim == 2:
            return self._conditional_pair(log_u, log1m_u, present)
        with torch.no_grad():
            known = [law.log_prob_tails(log_u, log1m_u, present) for law in self.laws]
            label = _draw_label(self.log_weights + torch.stack(known, -1))
        low, high = zip(*(law._conditional_tails(log_u, log1m_u, present) for law in self.laws), strict=True)
        return _choose(low, label), _choose(high, label)

    def _conditional_pair(self, log_u: Tensor, log1m_u: Tensor, present: Tensor) -> Tails:
        """The first given the second or the second given the first; if neither is observed, the first is uniform."""
        level, free = uniform_tails(log_u.shape[:-1], log_u), uniform_tails(log_u.shape[:-1], log_u)
        known = present[..., 0]
        first = torch.where(known, log_u[..., 0], free[0]), torch.where(known, log1m_u[..., 0], free[1])
        second = log_u[..., 1], log1m_u[..., 1]
        left = self._h_quantile(level, second)
        right = self.flipped._h_quantile(level, first)
        backward = present[..., 1]
        low, high = (torch.stack([torch.where(backward, a, b), c], -1) for a, b, c in zip(left, first, right, strict=True))
        return low, high


def _draw_label(log_weights: Tensor) -> Tensor:
    """Draws an index along the last dimension in proportion to the weights (Gumbel-max trick: nothing waits for the device)."""
    return (log_weights - torch.log(torch.empty_like(log_weights).exponential_())).argmax(-1)


def _choose(values: Sequence[Tensor], label: Tensor) -> Tensor:
    """Rows of K tensors (..., dim), each taken from the tensor that its label (...) selects."""
    chosen = values[-1]
    for k in range(len(values) - 1):
        chosen = torch.where((label == k).unsqueeze(-1), values[k], chosen)
    return chosen


class Mixture(Copula):
    r"""Learnable mixture of copulas. The weights are a softmax of K - 1 free numbers and a 0, which makes them identifiable.

    Args:
        dim: number of coordinates.
        copulas: the components, at least two modules of this dim, which remain learnable; by default a Gumbel copula (upper tail
            dependence), a Clayton copula (lower tail dependence) and a Gaussian (neither, and of either sign), each near independence.
        weights: initial weights, positive and of sum 1, (*batch, K); equal by default.

    Raises:
        ValueError: fewer than two components, one of another dimension, or weights that are not positive or do not add up to 1.
    """

    name = "mixture"
    selectable: ClassVar[bool] = False  # the caller has to choose the components
    simulated: ClassVar[bool] = False
    shown = ("weights",)

    def __init__(self, dim: int, copulas: Sequence[Copula] | None = None, weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__(dim)
        copulas = [Gumbel(dim), Clayton(dim), Gaussian(dim)] if copulas is None else list(copulas)
        if len(copulas) < 2:
            raise InputError(f"copulas holds {len(copulas)} copula; a mixture needs at least two")
        for place, each in enumerate(copulas):
            if not isinstance(each, Copula):
                raise InputError(f"copulas[{place}] is a {type(each).__name__}; give modules, as make(...) returns them")
            if each.dim != dim:
                raise InputError(f"copulas[{place}] has dim {each.dim}; the components of this mixture need dim {dim}")
        self.copulas = ModulesInOrder(copulas)
        self.logits = nn.Parameter(_logits(weights, len(copulas)))

    @property
    def weights(self) -> Tensor:
        """The weights, (*batch, K)."""
        return torch.exp(self._log_weights())

    def _log_weights(self) -> Tensor:
        return torch.log_softmax(nn.functional.pad(self.logits, (0, 1)), -1)

    def forward(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current weights and parameters."""
        return MixtureDistribution([each(validate_args) for each in self.copulas], self._log_weights(), validate_args)


def _logits(weights: Sequence[float] | Tensor | None, count: int) -> Tensor:
    if weights is None:
        return torch.zeros(count - 1)
    weights = parameter(weights, "a weight", 0.0, torch.inf, "(0, inf)")
    if weights.dim() == 0 or weights.shape[-1] != count:
        raise InputError(f"weights has shape {tuple(weights.shape)}; give {count}, one per component")
    total = weights.sum(-1)
    if ((total - 1).abs() > 1e-5).any():
        raise InputError(f"the weights add up to {total[(total - 1).abs() > 1e-5][0].item():g}; divide them by their sum")
    return torch.log(weights[..., :-1] / weights[..., -1:])
