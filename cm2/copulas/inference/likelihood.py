"""Log-likelihood in the unconstrained parameters; observed information and standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from cm2.copulas.base import CopulaDistribution
from cm2.copulas.sample_dependence import mean_above
from cm2.numerics.blocks import BLOCK


class Fittable(Protocol):
    """Interface of a module that can be fitted; `cm2.copulas.module.Copula` implements it."""

    dim: int
    shown: tuple[str, ...]

    def __init__(self, dim: int, **parameters: Any) -> None: ...

    @property
    def name(self) -> str:
        """Family."""
        ...

    def __call__(self, validate_args: bool | None = None) -> CopulaDistribution:
        """The distribution at the current parameters."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """The raw parameters."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The raw parameters by name."""
        ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The module itself and its submodules, by name."""
        ...

    def double(self) -> Self:
        """Casts the parameters to float64."""
        ...

    @staticmethod
    def kendall_tau_range(dim: int) -> tuple[float, float]:
        """Smallest and largest Kendall's τ that the family attains."""
        ...

    @staticmethod
    def from_kendall_tau(tau: float | Tensor, dim: int) -> dict[str, Tensor]:
        """The parameters at which Kendall's τ is `tau`."""
        ...

    def _start_at(self, u: Tensor) -> None:
        """Sets the start of maximum likelihood for a sample."""
        ...


def natural_parameters(copula: Fittable) -> dict[str, Tensor]:
    """Natural parameters by name, differentiable; a name that occurs in several submodules is prefixed by the submodule's path."""
    found = {(place, name): getattr(module, name) for place, module in copula.named_modules() for name in getattr(module, "shown", ())}
    names = [name for _, name in found]
    return {name if names.count(name) == 1 else f"{place}.{name}".lstrip("."): value for (place, name), value in found.items()}


def limits_of(copula: Fittable) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits of the raw parameters, in their order; infinite where a family states none."""
    modules = dict(copula.named_modules())
    pairs = []
    for path, value in copula.named_parameters():
        place, _, name = path.rpartition(".")
        pairs += [getattr(modules[place], "limits", {}).get(name, (-math.inf, math.inf))] * value.numel()
    low, high = zip(*pairs, strict=True) if pairs else ((), ())
    return np.array(low), np.array(high)


def raw_of(copula: Fittable) -> np.ndarray:
    """The raw parameters as one vector, (k,)."""
    return parameters_to_vector(copula.parameters()).detach().cpu().numpy().astype(np.float64)


def set_raw(copula: Fittable, raw: np.ndarray) -> None:
    """Sets the module's raw parameters from a vector (k,)."""
    with torch.no_grad():
        start = 0
        for each in copula.parameters():
            values = torch.as_tensor(raw[start : start + each.numel()]).view_as(each)
            each.copy_(values)
            start += each.numel()


class LogLikelihood:
    """Value and gradient of a module's log-likelihood in its raw parameters, block by block to keep the graph in memory small.

    Args:
        copula: module in float64; evaluation overwrites its parameters.
        u: sample, (n, dim).
    """

    def __init__(self, copula: Fittable, u: Tensor) -> None:
        self.copula, self.n, self.evaluations = copula, len(u), 0
        with torch.no_grad():
            law = copula(validate_args=False)
            self._parts = [law._likelihood(block) for block in u.split(BLOCK)]

    def __call__(self, raw: np.ndarray) -> tuple[float, np.ndarray]:
        """The value and its gradient (k,) at raw parameters (k,)."""
        self.evaluations += 1
        set_raw(self.copula, raw)
        parameters = list(self.copula.parameters())
        law = self.copula(validate_args=False)
        tensors = law._tensors()
        # detached copies collect the gradient over all blocks; a single pass from there to the raw parameters remains
        leaves = [each.detach().requires_grad_() for each in tensors]
        total = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
        for part in self._parts:
            value = part(law._rebuild(leaves))
            value.backward()
            total += value.detach()
        used = [(each, leaf.grad) for each, leaf in zip(tensors, leaves, strict=True) if leaf.grad is not None and each.requires_grad]
        grads = torch.autograd.grad([each for each, _ in used], parameters, [grad for _, grad in used], allow_unused=True)
        full = [torch.zeros_like(own) if grad is None else grad for own, grad in zip(parameters, grads, strict=True)]
        return total.item(), parameters_to_vector(full).cpu().numpy()


def covariance_of(information: np.ndarray) -> np.ndarray:
    """The inverse of an information matrix; NaN in the rows and columns of parameters on which the likelihood does not depend (such as the
    degrees of freedom of normal data), and everywhere if the rest is not positive definite."""
    covariance = np.full_like(information, np.nan)
    if np.isfinite(information).all():
        informed = np.flatnonzero(np.diag(information) > 1e-9 * np.abs(information).max())
        block = information[np.ix_(informed, informed)]
        if len(informed) and np.linalg.eigvalsh(block).min() > 1e-12 * np.abs(block).max():
            covariance[np.ix_(informed, informed)] = np.linalg.inv(block)
    return covariance


def rank_covariance_of(copula: Fittable, u: Tensor, information: np.ndarray) -> np.ndarray:
    r"""Covariance of the raw estimate if the margins are unknown and `u` are ranks, including the sampling error of the ranks.

    With the score :math:`s` and the mean information :math:`H`, :math:`H^{-1}VH^{-1}/n`, where :math:`V` is the covariance of
    :math:`s(u_i) + \sum_jW_{ij}` and :math:`W_{ij} = \frac1n\sum_k1(u_{ij}\le u_{kj})\,\partial_js(u_k)` (Genest, Ghoudi, Rivest 1995,
    section 2). The score is differentiated in u by central differences in the parameters, two passes each.

    Args:
        copula: module in float64 at the estimate.
        u: pseudo-observations, (n, dim).
        information: observed information of the raw parameters, (k, k).

    Returns:
        (k, k), NaN where `covariance_of` is.
    """
    inverse = covariance_of(information)
    informed = np.flatnonzero(np.isfinite(np.diag(inverse)))
    terms = [_rank_terms(copula, u, k).cpu().numpy() for k in informed.tolist()]
    if terms:
        block = np.ix_(informed, informed)
        inverse[block] = inverse[block] @ (len(u) * np.atleast_2d(np.cov(terms))) @ inverse[block]
    return inverse


def _rank_terms(copula: Fittable, u: Tensor, k: int) -> Tensor:
    """Contribution of each point to the score of raw parameter number k, through its density and through the ranks of all points, (n,)."""
    raw = raw_of(copula)
    step = 1e-4 * (1 + abs(raw[k]))
    ends = []
    for shift in (step, -step):
        set_raw(copula, raw + shift * (np.arange(len(raw)) == k))
        points = u.detach().requires_grad_()
        value = copula(validate_args=False).log_prob(points)
        ends.append((value.detach(), torch.autograd.grad(value.sum(), points)[0]))
    set_raw(copula, raw)
    score, slope = ((above - below) / (2 * step) for above, below in zip(*ends, strict=True))
    return score + sum(mean_above(u[:, j], slope[:, j]) for j in range(u.shape[1]))


def standard_errors_of(value: Tensor, parameters: Sequence[Tensor], covariance: np.ndarray | None) -> Tensor:
    """Standard errors of a function of parameters by the delta method, of the function's shape; NaN without a covariance."""
    if covariance is None:
        return torch.full_like(value.detach(), torch.nan)
    errors = []
    for each in value.flatten():
        row = np.zeros(len(covariance))
        if each.requires_grad:
            grads = torch.autograd.grad(each, parameters, retain_graph=True, allow_unused=True)
            full = [torch.zeros_like(own) if grad is None else grad for own, grad in zip(parameters, grads, strict=True)]
            row = parameters_to_vector(full).detach().cpu().numpy()
        used = row != 0  # leaves out the NaN variances of parameters on which the function does not depend
        errors.append(math.sqrt(row[used] @ covariance[np.ix_(used, used)] @ row[used]))
    return torch.as_tensor(errors, dtype=value.dtype, device=value.device).view_as(value)
