"""Log-density of a million points, family by family, beside pyvinecopulib where it is installed.

python -m benchmarks.copula_log_density --out benchmarks/results/copula_log_density.json
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._timing import arguments, interleaved, report
from cm2.copulas import FAMILIES, Copula, make

PARAMETERS = {"independence": {}, "gumbel": {"alpha": 2.5}, "frank": {"alpha": 5.0}, "clayton": {"alpha": 2.0}, "gaussian": {"rho": 0.6}}
ORACLE = {"independence": "indep"}
"""Names that pyvinecopulib spells otherwise."""


def oracle(name: str, u: Tensor) -> Callable[[], Any] | None:
    """The same density by pyvinecopulib, or None where it is not installed."""
    try:
        import pyvinecopulib as pv
    except ImportError:
        return None
    parameters = np.array([*PARAMETERS[name].values()]).reshape(-1, 1)
    copula = pv.Bicop(family=getattr(pv.BicopFamily, ORACLE.get(name, name)), parameters=parameters)
    points = u.double().cpu().numpy()
    return lambda: np.log(copula.pdf(points))


def density(law: Copula, u: Tensor) -> Callable[[], Tensor]:
    """The log-density alone."""

    def run() -> Tensor:
        with torch.no_grad():
            return law(validate_args=False).log_prob(u)

    return run


def gradient(law: Copula, u: Tensor) -> Callable[[], None]:
    """The log-density and its gradient in the copula's parameter and in the points."""
    points = u.clone().requires_grad_()
    return lambda: law(validate_args=False).log_prob(points).sum().backward()


def measure(name: str, u: Tensor, repeats: int, device: str) -> dict[str, Any]:
    """One row of the table."""
    law = make(name, 2, **PARAMETERS[name]).to(u)
    other = oracle(name, u)
    calls: dict[str, Callable[[], Any]] = {"density": density(law, u), "gradient": gradient(law, u)}
    if other is not None:
        calls["oracle"] = other
        difference = (calls["density"]().cpu() - torch.from_numpy(other())).abs().max().item()
    timings = interleaved(calls, repeats, warmup=1, device=device)
    median = {key: t.median for key, t in timings.items()}
    row = {"family": name, "log-density ms": 1e3 * median["density"], "with gradient ms": 1e3 * median["gradient"]}
    if other is not None:
        row |= {
            "pyvinecopulib ms": 1e3 * median["oracle"],
            "pyvinecopulib / cm2": median["oracle"] / median["density"],
            "largest difference": difference,
        }
    return row


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=5)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(options.points, 2, generator=generator, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
    u = u.to(options.device, getattr(torch, options.dtype))
    rows = [measure(name, u, options.repeats, options.device) for name in PARAMETERS if name in FAMILIES]
    note = f"{options.points:,} points, two dimensions, {options.dtype}; pyvinecopulib in float64 on one thread."
    report("Copula log-density", rows, options, note)


if __name__ == "__main__":
    main()
