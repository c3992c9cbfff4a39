"""Copulas, family by family and operation by operation, beside pyvinecopulib and statsmodels where they are installed.

python -m benchmarks.copulas --out benchmarks/results/copulas.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks._peers import pyvinecopulib_pair, pyvinecopulib_vine, statsmodels_pair
from benchmarks._timing import arguments, interleaved, report
from cm2.copulas import FAMILIES, Copula, make

PARAMETERS = {
    "gumbel": {"alpha": 2.0},
    "frank": {"alpha": 5.0},
    "clayton": {"alpha": 2.0},
    "joe": {"alpha": 2.0},
    "gaussian": {"rho": 0.5},
    "student": {"rho": 0.5, "nu": 4.0},
}
VINE = [["gaussian", "clayton", "frank", "gumbel"], ["clayton", "frank", "gaussian"], ["frank", "gumbel"], ["gaussian"]]

Call = Callable[[], Any]


def without_graph(function: Callable[[], Any]) -> Call:
    """The call in inference."""

    def run() -> Any:
        with torch.no_grad():
            return function()

    return run


def with_gradient(copula: Copula, u: Tensor) -> Call:
    """Log density, and its gradient in the points and every parameter."""
    points = u.clone().requires_grad_()
    return lambda: copula().log_prob(points).sum().backward()


def pair_calls(copula: Copula, u: Tensor, fitted: Tensor) -> dict[str, Call]:
    """Our operations of a pair copula at points (n, 2)."""
    law, first, second = copula(), u[:, 0], u[:, 1]
    fresh = make(copula.name, 2).to(u)
    return {
        "log density": without_graph(lambda: law.log_prob(u)),
        "log density and gradient": with_gradient(copula, u),
        "h": without_graph(lambda: law.h(u)),
        "inverse h": without_graph(lambda: law.h_inverse(first, second)),
        "cdf": without_graph(lambda: law.cdf(u)),
        "sample": lambda: law.sample((len(u),)),
        "fit": lambda: fresh.fit(fitted),
    }


def vine_calls(copula: Copula, u: Tensor) -> dict[str, Call]:
    """Our operations of a vine at points (n, d)."""
    from cm2.copulas.vine import select_vine

    law = copula()
    return {
        "log density": without_graph(lambda: law.log_prob(u)),
        "log density and gradient": with_gradient(copula, u),
        "Rosenblatt": without_graph(lambda: law.rosenblatt(u)),
        "sample": lambda: law.sample((len(u),)),
        "selection": lambda: select_vine(u, families=[*PARAMETERS]),
    }


def row(subject: str, operation: str, calls: dict[str, Call | None], repeats: int, device: str) -> dict[str, Any]:
    """One line: the median of every call, in milliseconds, and the ratios of the peers' to ours."""
    present = {name: call for name, call in calls.items() if call is not None}
    median = {name: 1e3 * timing.median for name, timing in interleaved(present, repeats, warmup=1, device=device).items()}
    line: dict[str, Any] = {"copula": subject, "operation": operation}
    line |= {f"{name} ms": median.get(name) for name in calls}
    return line | {f"{name} / cm2": median[name] / median["cm2"] if name in median else None for name in calls if name != "cm2"}


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The table: pairs, then the vine. On an accelerator the peers stay on the host and ours runs in both places."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(options.points, 2, generator=generator, dtype=torch.float64)
    table = []
    for name, parameters in PARAMETERS.items():
        if name not in FAMILIES or (options.only and name not in options.only):
            continue
        copula = make(name, 2, **{key: torch.tensor(value, dtype=torch.float64) for key, value in parameters.items()})
        sample = copula().sample((options.points // 10,))
        peers = pyvinecopulib_pair(name, parameters, u.numpy(), sample.numpy()), statsmodels_pair(name, parameters, u.numpy())
        table += _lines(
            name, pair_calls(copula, u, sample), peers, lambda to, c=copula, s=sample: pair_calls(c.to(to), u.to(to), s.to(to)), options
        )
    if "vine" in FAMILIES and (not options.only or "vine" in options.only):
        table += _vine_lines(options)
    return table


def _vine_lines(options: argparse.Namespace) -> list[dict[str, Any]]:
    pairs = lambda: [
        [make(name, 2, **{k: torch.tensor(v, dtype=torch.float64) for k, v in PARAMETERS[name].items()}) for name in tree] for tree in VINE
    ]
    copula = make("vine", 5, pair_copulas=pairs()).double()
    u = copula().sample((options.points // 10,)).detach()
    peers = pyvinecopulib_vine(VINE, PARAMETERS, u.numpy()), {}
    return _lines("D-vine of 5", vine_calls(copula, u), peers, lambda to: vine_calls(copula.to(to), u.to(to)), options)


def _lines(
    subject: str,
    ours: dict[str, Call],
    peers: tuple[dict[str, Call], ...],
    move: Callable[[Any], dict[str, Call]],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    chosen = [operation for operation in ours if not options.operations or operation in options.operations]
    calls = {o: {"cm2": ours[o], "pyvinecopulib": peers[0].get(o), "statsmodels": peers[1].get(o)} for o in chosen}
    lines = [row(subject, o, calls[o], options.repeats, "cpu") for o in chosen]
    if options.device != "cpu":
        moved = move(options.device)
        for line in lines:
            timing = interleaved({"": moved[line["operation"]]}, options.repeats, warmup=2, device=options.device)[""]
            line[f"cm2 on {options.device} ms"] = 1e3 * timing.median
    return lines


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=5)
    parser.add_argument(
        "--points", type=int, default=1_000_000, help="points of a pair; fits and the vine take a tenth (default %(default)s)"
    )
    parser.add_argument("--only", nargs="*", help="families, or vine; all without it")
    parser.add_argument("--operations", nargs="*", help="operations by their name in the table; all without it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    note = (
        f"float64, {options.points:,} points of two coordinates, fits and the vine a tenth of them; validated arguments; peers on the host."
    )
    report("Copulas", rows(options), options, note)


if __name__ == "__main__":
    main()
