"""Writes `table.json`, the exact values that every copula family is held against: `python -m tests.truth.generate` (5 minutes; half of
that with `--workers 2`).

Every number is computed at two precisions, the second double the first, and again at twice that until both agree to 20 digits; then it is
rounded to float64. Points and parameters are float32 numbers, so that they are exact in both precisions, but for the coordinates too near
to 1: float32 points take the float32 nearest below 1 instead, and have log densities of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
from mpmath import mpf

from tests.truth.laws import GENERATORS, Archimedean, Elliptical, Law, Point, Rotated

TABLE = Path(__file__).with_name("table.json")
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))
CDF_POINTS = range(0, 30, 2)  # of the elliptical laws, whose CDF is an integral

LOW, HIGH = 1e-12, 1 - 1e-12
PAIRS = [
    *([LOW, LOW], [LOW, 3e-7], [2e-5, 1e-4], [1e-6, 1.1e-6]),  # both low
    *([HIGH, HIGH], [1 - 3e-7, HIGH], [1 - 2e-5, 1 - 1e-4], [1 - 1e-6, 1 - 1.1e-6]),  # both high
    *([LOW, HIGH], [HIGH, LOW], [1 - 1e-4, 1e-6], [1e-9, 1 - 1e-9]),  # opposite
    *([LOW, 0.5], [0.3, LOW], [HIGH, 0.5], [0.3, HIGH], [1e-3, 0.7], [0.98, 0.4]),  # one extreme
    *([0.5, 0.5], [0.3, 0.7], [0.25, 0.26], [0.91, 0.9], [0.3, 0.3000001], [0.8, 0.2], [0.6, 0.35]),  # central
]
TRIPLES = [
    *([LOW, LOW, LOW], [1e-5, LOW, 3e-7], [1e-4, 2e-5, 5e-4]),
    *([HIGH, HIGH, HIGH], [HIGH, 1 - 3e-7, 1 - 1e-5], [1 - 1e-4, 1 - 2e-5, 1 - 5e-4]),
    *([LOW, HIGH, LOW], [HIGH, LOW, HIGH], [1e-6, 1 - 1e-4, 1 - 1e-9], [LOW, HIGH, 0.5], [0.6, 1e-4, 1 - 1e-6]),
    *([LOW, LOW, 0.5], [HIGH, 0.4, HIGH], [LOW, 0.3, 0.7], [0.2, HIGH, 0.6], [0.9, 0.8, 1e-4]),
    *([0.5, 0.5, 0.5], [0.2, 0.5, 0.8], [0.3, 0.3000001, 0.31], [0.93, 0.9, 0.95], [0.1, 0.15, 0.85]),
]
ALPHAS: dict[str, list[float]] = {
    "gumbel": [1, 1 + 2**-20, 1.01, 1.5, 2.5, 10, 50],
    "frank": [1e-6, -1e-6, 0.0125, -0.0125, 0.5, -0.5, 5, -5, 35, -35, 98, -98, 200, -200],
    "clayton": [1e-6, 0.0125, 0.5, 2, 20, 100],
    "joe": [1, 1 + 2**-20, 1.2, 3, 20, 50],
}
ROTATIONS = [("gumbel", 2.5, 90), ("clayton", 2, 90), ("clayton", 20, 180), ("joe", 3, 270), ("frank", 5, 180)]
RHO = [0.0, 0.5, -0.5, 0.99, -0.99, 0.9999, -0.9999]
MATRICES = [[0.0, 0.0, 0.0], [0.5, 0.25, -0.5], [0.99, 0.98, 0.99], [-0.7, 0.6, -0.2], [0.9999, 0.5, 0.5]]  # r21, r31, r32
NU = [1, 1.5, 4, 30, 50]


def single(value: float) -> float:
    """The nearest float32 number."""
    return float(np.float32(value))


def double_points(points: list[list[float]]) -> list[list[float]]:
    """Coordinates exact in float32, except those that would round to 1."""
    return [[u if single(u) == 1 else single(u) for u in point] for point in points]


def single_points(points: list[list[float]]) -> list[list[float]]:
    return [[min(single(u), BELOW_ONE) for u in point] for point in points]


POINTS = {2: PAIRS, 3: TRIPLES}


def cases() -> Iterator[dict[str, Any]]:
    """What identifies a law: family, rotation, dimension, parameters."""
    for family, alphas in ALPHAS.items():
        for dim in POINTS:
            yield from (_case(family, dim, [alpha]) for alpha in alphas if dim == 2 or alpha > 0)
    yield from (_case(family, 2, [alpha], rotation) for family, alpha, rotation in ROTATIONS)
    for dim, correlations in ((2, [[rho] for rho in RHO]), (3, MATRICES)):
        yield from (_case("gaussian", dim, each) for each in correlations)
        yield from (_case("student", dim, [*each, nu]) for each in correlations for nu in NU)


def _case(family: str, dim: int, parameters: list[float], rotation: int = 0) -> dict[str, Any]:
    return {"family": family, "dim": dim, "rotation": rotation, "parameters": [single(value) for value in parameters]}


def settled(quantities: Callable[[], Point], digits: int) -> list[float]:
    """The values, once doubling the precision leaves 20 digits (or 40 decimals) of each as they are."""
    before: Point | None = None
    while digits < 5000:
        with mp.workdps(digits):
            try:
                now = quantities()
            except (ZeroDivisionError, ValueError):  # a difference that has lost all its digits
                now = None
            if before and now and all(abs(a - b) <= mpf(10) ** -20 * abs(b) + mpf(10) ** -40 for a, b in zip(before, now, strict=True)):
                return [float(value) for value in now]
        before, digits = now, 2 * digits
    raise ArithmeticError(f"no {digits} digits suffice")


def evaluate(case: dict[str, Any]) -> dict[str, Any]:
    """The case with its columns, a value per point in each."""
    parameters = [mpf(value) for value in case["parameters"]]
    archimedean = case["family"] in GENERATORS
    law: Law = (Archimedean if archimedean else Elliptical)(case["family"], parameters)
    law = Rotated(law, case["rotation"]) if case["rotation"] else law
    digits, pair = 160 if archimedean else 60, case["dim"] == 2
    columns: dict[str, list[Any]] = {name: [] for name in ("log_density", "log_density_32", "gradient_u", "gradient")}
    if pair:
        columns |= {"h": [], "rest": []}
    if pair or archimedean:
        columns["cdf"] = []
    points = POINTS[case["dim"]]
    for i, (wide, narrow) in enumerate(zip(double_points(points), single_points(points), strict=True)):
        u, u32 = ([mpf(each) for each in point] for point in (wide, narrow))
        value, *slopes = settled(lambda u=u: [law.log_density(u), *(g for part in law.log_density_gradient(u) for g in part)], digits)
        columns["log_density"].append(value)
        columns["log_density_32"].append(value if u == u32 else settled(lambda u=u32: [law.log_density(u)], digits)[0])
        columns["gradient_u"].append(slopes[: len(u)])
        columns["gradient"].append(slopes[len(u) :])
        if pair:
            h, rest = settled(lambda u=u: [(h := law.h(u)), 1 - h], digits)
            columns["h"].append(h)
            columns["rest"].append(rest)
        if archimedean:
            columns["cdf"] += settled(lambda u=u: [law.cdf(u)], digits)
        elif pair:
            with mp.workdps(40):
                columns["cdf"].append(float(law.cdf(u)) if i in CDF_POINTS else None)
    return case | columns


def main() -> None:
    """Computes every case and writes the table, one law per line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="processes that share the work")
    with ProcessPoolExecutor(parser.parse_args().workers) as pool:
        laws = list(pool.map(evaluate, cases()))
    points = {dim: {"float64": double_points(each), "float32": single_points(each)} for dim, each in POINTS.items()}
    lines = ",\n".join(json.dumps(law, separators=(",", ":")) for law in laws)
    TABLE.write_text(f'{{"points":{json.dumps(points)},\n"laws":[\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
