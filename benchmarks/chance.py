"""How often tests of a difference between two methods reject, by the number of seeds: under no difference, and under one of 0.02.

Scores are binormal. A stay's score is the same for all seeds of a method but for a noise of its own for each seed, whose size is drawn
once for each seed: seeds differ in their AUROC, and in which stays they rank well. Three tests are compared: `cm2.uncertainty`,
a plain sum of both variances with normal quantiles, and the percentile bootstrap that resamples seeds and stays.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from benchmarks._timing import arguments, report
from cm2 import metrics
from cm2.uncertainty import difference, measure

AUROC = 0.85
OWN, NOISE, SPREAD = 0.35, 0.4, 0.12
"""Standard deviations of a method's score of a stay, of a seed's (in the median), and of the logarithm of the latter over the seeds."""


@cache
def separation(auroc: float) -> float:
    """Distance of the classes at which a method has this AUROC, over stays and seeds."""
    at, weight = np.polynomial.hermite_e.hermegauss(40)
    variance = 1 + OWN**2 + (NOISE * np.exp(SPREAD * at)) ** 2
    expected = lambda distance: float(weight @ ndtr(distance / np.sqrt(2 * variance)) / weight.sum())
    return float(brentq(lambda distance: expected(distance) - auroc, 0, 10))


def methods(
    n: int, prevalence: float, seeds: int, alike: bool = False, gain: float = 0.0, seed: int = 0
) -> tuple[NDArray, NDArray, NDArray]:
    """Labels ``(n,)`` and the predictions of two methods ``(seeds, n)``.

    Args:
        n: number of stays.
        prevalence: share of positives.
        seeds: number of seeds of either method.
        alike: whether both are the same method under other seeds.
        gain: AUROC of the second minus that of the first, which is `AUROC`.
        seed: of the simulation.
    """
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < prevalence).astype(np.int64)
    stay = rng.normal(size=n)
    own = OWN * rng.normal(size=(1 if alike else 2, n))
    predicted = []
    for method in range(2):
        noise = NOISE * np.exp(SPREAD * rng.normal(size=(seeds, 1))) * rng.normal(size=(seeds, n))
        predicted.append(ndtr(separation(AUROC + gain * method) * (label - 1) + stay + own[min(method, len(own) - 1)] + noise))
    return label, predicted[0], predicted[1]


def p_values(label: NDArray, a: NDArray, b: NDArray, replicates: int = 400) -> dict[str, float]:
    """Of the three tests."""
    measured = [[measure(label, p) for p in of] for of in (a, b)]
    ours = difference(*measured)
    fixed = np.mean([m.deviations for m in measured[0]], axis=0) - np.mean([m.deviations for m in measured[1]], axis=0)
    plain = float(np.hypot(np.sqrt(fixed @ fixed), ours.se_seeds))
    scorers = [metrics.WEIGHTED["auroc"](label, p) for p in (*a, *b)]
    values, _ = metrics._resampled(label, scorers, replicates, 0)
    rng, seeds = np.random.default_rng(0), len(a)
    drawn = [np.take_along_axis(half, rng.integers(0, seeds, (seeds, replicates)), 0).mean(0) for half in np.split(values, 2)]
    below = float(np.mean(drawn[0] <= drawn[1]))
    return {
        "cm2.uncertainty": ours.p_value,
        "plain sum, normal": 2 * float(ndtr(-abs(ours.estimate) / plain)),
        "bootstrap of seeds and stays": 2 * min(below, 1 - below),
    }


def main() -> None:
    """Prints the table."""
    parser = arguments(__doc__.splitlines()[0], repeats=200)
    parser.add_argument("--stays", type=int, default=4000)
    parser.add_argument("--prevalence", type=float, default=0.14)
    options = parser.parse_args()
    rows = []
    for seeds in (2, 3, 5, 10):
        for what, alike, gain in (("the same method", True, 0.0), ("equal methods", False, 0.0), ("0.02 apart", False, 0.02)):
            samples = (methods(options.stays, options.prevalence, seeds, alike, gain, seed) for seed in range(options.repeats))
            found = [p_values(*sample) for sample in samples]
            rows.append({"seeds": seeds, "truth": what, **{name: float(np.mean([p[name] < 0.05 for p in found])) for name in found[0]}})
    note = f"Share of {options.repeats} samples with p < 0.05; {options.stays} stays, {options.prevalence:.0%} positive, AUROC {AUROC}."
    report("Tests of a difference between methods", rows, options, note)


if __name__ == "__main__":
    main()
