"""Alignment loss, forward and backward: ours against the released code's operations, in one process.

python -m benchmarks.alignment_loss --out benchmarks/results/alignment_loss.json
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._released_loss import ReleasedLoss
from benchmarks._timing import OperationCount, arguments, interleaved, report
from cm2.copulas import make
from cm2.joint import CopulaJoint
from cm2.marginals import GaussianMixture

DOCUMENTED = {"forward": 445, "backward": 785, "synchronisations": 28}
"""Operations and forward synchronisations counted in the released code itself (Gumbel, two modalities, K = 3)."""


class OurLoss(nn.Module):
    """What ``CM2.loss`` adds for a batch with every modality present: mixture and dependence term, averaged over the stays.

    Args:
        dim: d of the embeddings.
        components: K of each mixture.
        family: copula family.
        link: how the copula couples embeddings; ``vector`` with eight directions.
        covariance: of the mixtures.
    """

    def __init__(self, dim: int, components: int, family: str, link: str, covariance: str = "diagonal") -> None:
        super().__init__()
        marginals = [GaussianMixture(components, dim, covariance=covariance) for _ in range(2)]
        copula = make(family, 2)
        self.joint = CopulaJoint(copula.side_by_side(8) if link == "vector" else copula, marginals, link=link)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``(B, d), (B, d) -> ()``."""
        z = torch.stack((x, y), dim=1)
        present = torch.ones(z.shape[:2], dtype=torch.bool, device=z.device)
        marginal, dependence = self.joint(validate_args=False).terms(z, present)
        return -(marginal.sum(dim=-1) + dependence).mean()


def step(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], Any]:
    """One forward and backward pass with gradients at the embeddings and at every parameter."""

    def run() -> None:
        module(*batch).backward()

    return run


def counts(module: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, int]:
    """Operations and synchronisations of the forward and of the backward pass."""
    with OperationCount() as forward:
        loss = module(*batch)
    with OperationCount() as backward:
        loss.backward()
    return {
        "ops forward": forward.operations,
        "ops backward": backward.operations,
        "syncs forward": forward.synchronisations,
        "syncs backward": backward.synchronisations,
    }


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=50)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--components", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(2, options.batch, options.dim), dim=-1).to(options.device)
    batch = tuple(z.clone().requires_grad_() for z in embeddings)
    modules = {"released, Gumbel": ReleasedLoss(options.dim, options.components)}
    for family, link in (("gumbel", "component"), ("gaussian", "component"), ("gumbel", "scalar"), ("gumbel", "dimension")):
        modules[f"cm2, {family}, {link}"] = OurLoss(options.dim, options.components, family, link)
    modules["cm2, gaussian, component, full"] = OurLoss(options.dim, options.components, "gaussian", "component", "full")
    for family, covariance in (("gaussian", "diagonal"), ("gumbel", "diagonal"), ("gaussian", "full")):
        modules[f"cm2, {family}, vector, {covariance}"] = OurLoss(options.dim, options.components, family, "vector", covariance)
    modules = {name: module.to(options.device) for name, module in modules.items()}
    timings = interleaved({name: step(m, batch) for name, m in modules.items()}, options.repeats, warmup=20, device=options.device)
    reference = timings["released, Gumbel"].median
    rows = [
        {
            "loss": name,
            "median ms": 1e3 * t.median,
            "fastest ms": 1e3 * t.fastest,
            "times faster": reference / t.median,
            **counts(modules[name], batch),
        }
        for name, t in timings.items()
    ]
    note = (
        f"Batch {options.batch}, d = {options.dim}, K = {options.components}, two modalities, forward + backward. Counted in the "
        f"released code itself: {DOCUMENTED['forward']} operations forward, {DOCUMENTED['backward']} backward, "
        f"{DOCUMENTED['synchronisations']} synchronisations forward; the first row restates them, and the ratio is taken against it."
    )
    report("Alignment loss", rows, options, note)


if __name__ == "__main__":
    main()
