"""Every family against the exact values of `table.json`, at the tolerances that the package promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cm2.copulas import Copula, make

TABLE = json.loads(Path(__file__).with_name("table.json").read_text())
GROUPS = sorted({(law["family"], law["rotation"], law["dim"]) for law in TABLE["laws"]})
MANY = 10_000  # points: beyond the sizes at which the quantiles and the generators take another way; blocks are test_fast_path.py's
LIFT = 2.0**200  # Gumbel's alpha = 1 is kept as the smallest positive excess: its raw gradient is a subnormal number without this factor
FLOOR = 1e-6  # gradients are sums: below this share of their terms (see `terms`) they are held to 1e-7 of it, that is to 1e-13 of the terms

every_group = pytest.mark.parametrize(("family", "rotation", "dim"), GROUPS)


def laws(family: str, rotation: int, dim: int) -> Iterator[dict]:
    return (law for law in TABLE["laws"] if (law["family"], law["rotation"], law["dim"]) == (family, rotation, dim))


def points(dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(TABLE["points"][str(dim)][str(dtype).removeprefix("torch.")], dtype=dtype)


def module(law: dict, dtype: torch.dtype = torch.float64, batch: tuple[int, ...] = ()) -> Copula:
    """The law as a learnable module, its parameters repeated over `batch`."""
    values = torch.tensor(law["parameters"], dtype=dtype).expand(*batch, -1)
    rotation = {"rotation": law["rotation"]} if law["rotation"] else {}
    if law["family"] not in ("gaussian", "student"):
        return make(law["family"], law["dim"], alpha=values[..., 0], **rotation)
    nu = {"nu": values[..., -1]} if law["family"] == "student" else {}
    if law["dim"] == 2:
        return make(law["family"], 2, rho=values[..., 0], **nu)
    low = torch.zeros(*batch, 3, 3, dtype=dtype)
    low[..., [1, 2, 2], [0, 0, 1]] = values[..., :3]
    return make(law["family"], 3, correlation=low + low.mT + torch.eye(3, dtype=dtype), **nu)


def natural(copula: Copula, law: dict) -> Tensor:
    """The parameters as the table names them, (*batch, number)."""
    if law["family"] not in ("gaussian", "student"):
        return next(part for part in copula.modules() if getattr(part, "name", None) == law["family"]).alpha.unsqueeze(-1)
    first = copula.rho.unsqueeze(-1) if law["dim"] == 2 else copula.correlation[..., [1, 2, 2], [0, 0, 1]]
    return torch.cat([first, copula.nu.unsqueeze(-1)], -1) if law["family"] == "student" else first


def raw_truth(copula: Copula, law: dict) -> tuple[list[Tensor], list[Tensor]]:
    """The true gradient in every raw parameter (times LIFT), by the chain rule from the natural ones; and the size of its terms."""
    values, raw = natural(copula, law), list(copula.parameters())
    truth = torch.tensor(law["gradient"], dtype=torch.float64) * LIFT
    total, size = [torch.zeros_like(p) for p in raw], [torch.zeros_like(p) for p in raw]
    for k in range(values.shape[-1]):
        slopes = torch.autograd.grad(values[..., k].sum(), raw, retain_graph=True, allow_unused=True)
        for i, slope in enumerate(slopes):
            if slope is not None:
                g = truth[:, k].view(-1, *[1] * (slope.dim() - 1))
                total[i] += slope * g
                size[i] += slope.abs() * torch.clamp(g.abs(), min=FLOOR * LIFT)
    return total, size


class Report:
    """Collects what is beyond its tolerance, and says so in one line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def compare(self, what: str, law: dict, ours: Tensor, truth: object, tolerance: object) -> None:
        ours = ours.detach().double().numpy()
        truth, tolerance = np.broadcast_to(truth, ours.shape), np.broadcast_to(tolerance, ours.shape)
        self.count += ours.size
        place = TABLE["points"][str(law["dim"])]["float32" if "float32" in what else "float64"]
        for at in np.argwhere(~(np.abs(ours - truth) <= tolerance)):
            where, i = f" [{at[1]}]" if len(at) > 1 else "", tuple(at)
            self.lines.append(
                f"{law['family']} {law['parameters']} u = {place[at[0]]}: {what}{where} {ours[i]:.17g}, true {truth[i]:.17g}, "
                f"beyond {tolerance[i]:.1e} by a factor of {abs(ours[i] - truth[i]) / tolerance[i]:.2g}"
            )

    def finish(self) -> None:
        assert self.count
        shown = "\n".join(self.lines[:12])
        assert not self.lines, f"{len(self.lines)} of {self.count} values are wrong\n{shown}"


def known(law: dict, column: str) -> np.ndarray:
    return np.array(law[column], dtype=float)


def relative(truth: np.ndarray, tolerance: float = 1e-9) -> np.ndarray:
    return tolerance * np.maximum(1, np.abs(truth))


def tails(u: Tensor) -> tuple[Tensor, Tensor]:
    return torch.log(u), torch.log1p(-u)


@every_group
def test_log_density(family, rotation, dim):
    report, u = Report(), points(dim)
    for k, law in enumerate(laws(family, rotation, dim)):
        copula, truth = module(law)(), known(law, "log_density")
        tolerance = relative(truth)
        report.compare("log c", law, copula.log_prob(u), truth, tolerance)
        one_by_one = copula.log_prob(u).detach().clone()
        for i in range(k % 3, len(u), 3):  # each law's thirds in turn
            one_by_one[i] = copula.log_prob(u[i])
        report.compare("log c, one by one", law, one_by_one, truth, tolerance)
        report.compare("log c of tails", law, copula.log_prob_tails(*tails(u)), truth, tolerance)
    report.finish()


@every_group
def test_cdf(family, rotation, dim):
    report = Report()
    for law in laws(family, rotation, dim):
        if "cdf" not in law:
            continue
        truth = known(law, "cdf")
        tolerance = np.where(np.isnan(truth), np.inf, np.maximum(1e-9 * truth, 1e-14))
        report.compare("cdf", law, module(law)().cdf(points(dim)), np.nan_to_num(truth), tolerance)
    if report.count:
        report.finish()


@every_group
def test_h(family, rotation, dim):
    report = Report()
    for law in laws(family, rotation, dim):
        if dim > 2:
            continue
        copula, u, h, rest = module(law)(), points(2), known(law, "h"), known(law, "rest")
        report.compare("h", law, copula.h(u), h, 1e-10)
        log_h, log_rest = copula.h_tails(*tails(u))
        for what, ours, truth in (("exp log h", log_h, h), ("exp log (1 - h)", log_rest, rest)):
            report.compare(what, law, torch.exp(ours), truth, np.where(truth > 1e-20, 1e-10 * truth, 1e-30))
    if report.count:
        report.finish()


@every_group
def test_derivatives_of_cdf_and_h(family, rotation, dim):
    """dC/du_2 is h and dh/du_1 the density, in units of min(u, 1 - u)."""
    if dim > 2:
        pytest.skip("h is defined for pairs")
    report = Report()
    for law in laws(family, rotation, dim):
        u, copula = points(2).requires_grad_(), module(law)()
        room = torch.minimum(u, 1 - u).detach()
        for what, value, column, truth in (
            ("dC/du", copula.cdf(u), 1, known(law, "h")),
            ("dh/du", copula.h(u), 0, np.exp(known(law, "log_density"))),
            ("dh/du of tails", torch.exp(copula.h_tails(*tails(u))[0]), 0, np.exp(known(law, "log_density"))),
        ):
            (slope,) = torch.autograd.grad(value.sum(), u)
            scaled = truth * room[:, column].numpy()
            report.compare(what, law, slope[:, column] * room[:, column], scaled, 1e-7 * np.maximum(scaled, FLOOR))
    report.finish()


def terms(law: dict) -> float:
    """The order of the terms of a gradient in u in units of min(u, 1 - u): 1, alpha, or the condition number of a correlation matrix."""
    if law["family"] in ("gaussian", "student"):
        return 1.0 if law["dim"] == 2 else float(torch.linalg.cond(module(law).correlation.detach()))
    return max(1, abs(law["parameters"][0]))


def scaled_gradient(law: dict) -> tuple[np.ndarray, np.ndarray]:
    """The true gradient in u in units of min(u, 1 - u), and its tolerance."""
    u = points(law["dim"])
    truth = known(law, "gradient_u") * torch.minimum(u, 1 - u).numpy()
    return truth, 1e-7 * np.maximum(np.abs(truth), FLOOR * terms(law))


@every_group
@pytest.mark.parametrize("through", ["log_prob", "log_prob_tails"])
def test_gradients(family, rotation, dim, through):
    """In u and in every parameter, point by point: each has parameters of its own."""
    report = Report()
    for law in laws(family, rotation, dim):
        u = points(dim).requires_grad_()
        copula = module(law, batch=(len(u),))
        value = copula().log_prob(u) if through == "log_prob" else copula().log_prob_tails(*tails(u))
        in_u, *in_raw = torch.autograd.grad((value * LIFT).sum(), [u, *copula.parameters()])
        truth, tolerance = scaled_gradient(law)
        report.compare("gradient in u", law, in_u / LIFT * torch.minimum(u, 1 - u), truth, tolerance)
        for ours, expected, size in zip(in_raw, *raw_truth(copula, law), strict=True):
            report.compare("gradient in a parameter", law, ours / size, (expected / size).numpy(), 1e-7)
    report.finish()


@every_group
def test_gradient_in_alpha_itself(family, rotation, dim):
    """Of the law built from alpha, without the module's own parameter: alpha = 1 of Gumbel and Joe is a point like any other."""
    if rotation or family in ("gaussian", "student"):
        pytest.skip("these laws are not built from alpha alone")
    report, u = Report(), points(dim)
    for law in laws(family, rotation, dim):
        alpha = torch.full((len(u),), law["parameters"][0], dtype=torch.float64, requires_grad=True)
        built, truth = type(module(law)())(alpha, dim), known(law, "gradient")[:, 0]
        for value in (built.log_prob(u), built.log_prob_tails(*tails(u))):
            (ours,) = torch.autograd.grad(value.sum(), alpha)
            report.compare("gradient in alpha", law, ours, truth, 1e-7 * np.maximum(np.abs(truth), FLOOR))
    report.finish()


@every_group
def test_many_points_at_once(family, rotation, dim):
    """Value, gradient in u and, summed with weights that make every point count alike, gradient in the parameters."""
    report, once = Report(), points(dim)
    copies = MANY // len(once) + 1
    for law in laws(family, rotation, dim):
        u = once.repeat(copies, 1).requires_grad_()
        copula, truth = module(law), known(law, "log_density")
        value = copula().log_prob(u)
        for part in (value[: len(once)], value[-len(once) :]):
            report.compare("log c of many", law, part, truth, relative(truth))
        (in_u,) = torch.autograd.grad(value.sum(), u, retain_graph=True)
        report.compare("gradient in u of many", law, (in_u * torch.minimum(u, 1 - u))[-len(once) :], *scaled_gradient(law))
        batched = module(law, batch=(len(once),))
        for raw, expected, size in zip(copula.parameters(), *raw_truth(batched, law), strict=True):
            weight = 1 / size.flatten(1).sum(-1) if size.dim() > 1 else 1 / size
            (ours,) = torch.autograd.grad((value * weight.repeat(copies)).sum(), raw, retain_graph=True)
            ours, weighted = ours * LIFT / copies, (expected * weight.view(-1, *[1] * (size.dim() - 1))).sum(0)
            assert torch.allclose(ours, weighted, rtol=0, atol=1e-7), f"{law['family']} {law['parameters']}: {ours} {weighted}"
    report.finish()


@every_group
def test_float32(family, rotation, dim):
    report = Report()
    for law in laws(family, rotation, dim):
        truth, single = known(law, "log_density_32"), torch.float32
        for copies in (1, MANY // len(truth) + 1):
            for through in ("log_prob", "log_prob_tails"):
                u = points(dim, single).repeat(copies, 1).requires_grad_()
                copula = module(law, single)
                value = copula().log_prob(u) if through == "log_prob" else copula().log_prob_tails(*tails(u))
                report.compare(f"float32 {through}", law, value[: len(truth)], truth, relative(truth, 1e-3))
                in_u, *in_raw = torch.autograd.grad(value.sum(), [u, *copula.parameters()])
                report.compare("float32 gradient in u", law, in_u[: len(truth)], 0, 3e38)
                assert all(each.isfinite().all() for each in in_raw), f"{law['family']} {law['parameters']}: {in_raw}"
    report.finish()
