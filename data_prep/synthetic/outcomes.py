r"""Outcomes whose probability is a known function of the embeddings.

With x_m the factors of modality m (``Law.factors``; x_m0 its severity, x_m1 a contrast of its types),

mortality:   logit p = a + b (1.0 x_s0 + 0.7 x_i0 + 0.8 x_n0 + 0.4 x_s0 x_n0 + 0.6 x_s1 + 0.5 x_i1 + 0.5 x_n1)
readmission: 1 - (1 - p)(1 - q), logit q = c + b (0.5 x_s0 + 0.8 x_i0 + 0.6 x_n0 - 0.5 x_s1 + 0.8 x_i1 + 0.6 x_n1 + 0.3 x_i0 x_n0),

s the series, i the image, n the note: readmission includes death in hospital, as in the paper. a and c are solved on a large sample such
that the prevalences equal the paper's (MIMIC-IV, its Table 1: 12.6 % and 18.4 %).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

PREVALENCE = {"in_hospital_mortality": 0.126, "readmission": 0.184}
TASKS = {
    "in_hospital_mortality": "death in hospital",
    "readmission": "readmission within 30 days or death in hospital",
}
STRENGTH = {"in_hospital_mortality": 0.92, "readmission": 1.04}
# coefficients of severity and type contrast for series, image, note; then the pair of severities that interact, and their coefficient
COEFFICIENTS = {
    "in_hospital_mortality": ((1.0, 0.7, 0.8), (0.6, 0.5, 0.5), (0, 2, 0.4)),
    "readmission": ((0.5, 0.8, 0.6), (-0.5, 0.8, 0.6), (1, 2, 0.3)),
}
CALIBRATION_DRAWS = 40_000


def score(task: str, x: np.ndarray) -> np.ndarray:
    """The logit without its intercept: factors ``(n, M, d)`` -> ``(n,)``."""
    severity, contrast, (first, second, interaction) = COEFFICIENTS[task]
    linear = x[:, :, 0] @ np.array(severity) + x[:, :, 1] @ np.array(contrast)
    return STRENGTH[task] * (linear + interaction * x[:, first, 0] * x[:, second, 0])


def calibrate(x: np.ndarray) -> dict[str, float]:
    """Intercepts that give the prevalences on factors ``(n, M, d)`` of a large sample."""
    mortality = score("in_hospital_mortality", x)
    a = brentq(lambda offset: expit(offset + mortality).mean() - PREVALENCE["in_hospital_mortality"], -50, 50)
    survival, again = 1 - expit(a + mortality), score("readmission", x)
    c = brentq(lambda offset: (1 - survival * expit(-offset - again)).mean() - PREVALENCE["readmission"], -50, 50)
    return {"in_hospital_mortality": a, "readmission": c}


def probabilities(x: np.ndarray, intercepts: dict[str, float]) -> dict[str, np.ndarray]:
    """True probabilities by task, each ``(n,)``."""
    death = expit(intercepts["in_hospital_mortality"] + score("in_hospital_mortality", x))
    again = expit(intercepts["readmission"] + score("readmission", x))
    return {"in_hospital_mortality": death, "readmission": 1 - (1 - death) * (1 - again)}


def draw_outcomes(x: np.ndarray, intercepts: dict[str, float], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Outcomes by task, each ``(n,)`` 0 or 1; patients who died count as readmitted."""
    truth = probabilities(x, intercepts)
    death = rng.random(len(x)) < truth["in_hospital_mortality"]
    again = rng.random(len(x)) < expit(intercepts["readmission"] + score("readmission", x))
    return {"in_hospital_mortality": death.astype(np.int8), "readmission": (death | again).astype(np.int8)}


def expected_auroc(probability: np.ndarray) -> float:
    """Expected AUROC of the true probabilities ``(n,)``: each stay is a case with weight p and a control with weight 1 - p."""
    p = np.sort(probability)
    below = np.cumsum(1 - p) - 0.5 * (1 - p)
    return float((p * below).sum() / (p.sum() * (1 - p).sum()))
