"""The simulated cohort and its ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score

from cm2.cohorts.format import SPLITS
from cm2.cohorts.missingness import check, stable_uniform, take_away
from cm2.errors import InputError
from cm2.progress import Progress
from data_prep.channels import continuous_columns, feature_names, units
from data_prep.once import Asked, prepare_once
from data_prep.synthetic.image import draw_images
from data_prep.synthetic.law import MODALITIES, TYPES, Law, copula_parameters, make_law
from data_prep.synthetic.note import draw_notes
from data_prep.synthetic.outcomes import (
    CALIBRATION_DRAWS,
    COEFFICIENTS,
    PREVALENCE,
    STRENGTH,
    TASKS,
    calibrate,
    draw_outcomes,
    expected_auroc,
    probabilities,
)
from data_prep.synthetic.series import draw_series
from data_prep.writer import PreparedCohort, PreparedModality

VERSION = "1"
SOURCE = "simulated by data_prep.synthetic; no patient's data"
FRACTIONS = (0.65, 0.15, 0.2)
DEFAULT_ABSENT = {"image": 0.75}


def prepare_synthetic(
    out: Path | str,
    stays: int = 2000,
    seed: int = 0,
    family: str = "gumbel",
    alpha: float | None = None,
    rho: float | None = None,
    nu: float | None = None,
    link: str = "component",
    dim: int = 8,
    image_size: int = 64,
    absent: Mapping[str, float] = DEFAULT_ABSENT,
    mechanism: str = "mcar",
) -> Path:
    """Simulates ICU stays from a known distribution: series (24 x 76), radiograph-like images, note-like texts, two outcomes.

    Embeddings are drawn from Gaussian mixtures tied by a copula (``data_prep.synthetic.law``), observations and outcomes given the
    embeddings. ``truth/`` holds the embeddings, their types, the outcomes' true probabilities and the distribution itself. Equal
    arguments give equal bytes; the distribution does not depend on ``seed`` or ``stays``.

    Args:
        out: folder of the prepared cohort.
        stays: number of stays, at least 20: 65 % training, 15 % validation, 20 % test.
        seed: random seed.
        family: true copula: ``gumbel``, ``frank``, ``clayton``, ``joe``, ``gaussian``, ``student`` or ``independence``.
        alpha: parameter of the Archimedean families; default 2.5.
        rho: correlation of ``gaussian`` and ``student``, in (-1/2, 1), negative for discordant modalities; default 0.5.
        nu: degrees of freedom of ``student``; default 8.
        link: how the copula ties embeddings: ``component``, ``scalar`` or ``dimension``.
        dim: coordinates of an embedding.
        image_size: side of an image in pixels, at least 32.
        absent: fraction of stays whose modality is masked, by modality; a stay that would have none left keeps one, and is counted.
        mechanism: ``mcar``; ``mar``: more likely the higher the severity of the first modality not in ``absent``; ``mnar``: the higher
            that of the masked one.

    Returns:
        ``out``. If it already holds this very cohort, nothing is written.

    Raises:
        ValueError: an argument outside its range, or an ``out`` that holds something else.
    """
    out, absent = Path(out), dict(absent)
    _check_sizes(stays, image_size)
    check(MODALITIES, absent, mechanism)
    law = make_law(family, alpha, rho, nu, dim, link)
    own = copula_parameters(family, alpha, rho, nu)
    parameters = {"stays": stays, "seed": seed, "family": family, **own, "link": link, "dim": dim, "types": TYPES}
    parameters |= {"image_size": image_size, "absent": absent, "mechanism": mechanism}
    progress = Progress("preparing synthetic", 5, even=False)
    asked = Asked(out, "synthetic", VERSION, parameters, credentialed=False)
    return prepare_once(asked, lambda _: _simulate(law, parameters, progress), progress, around=(progress,))


def _check_sizes(stays: int, image_size: int) -> None:
    if stays < 20:
        raise InputError(f"stays: got {stays}; the three splits need at least 20")
    if image_size < 32:
        raise InputError(f"image_size: got {image_size}; anatomy needs at least 32 pixels")


def _simulate(law: Law, parameters: dict[str, Any], progress: Progress) -> PreparedCohort:
    progress.stage("law")
    seed, n = parameters["seed"], parameters["stays"]
    streams = [np.random.default_rng((seed, stream)) for stream in range(4)]
    many = law.factors(law.draw(CALIBRATION_DRAWS, 0))
    intercepts = calibrate(many)
    z = law.draw(n, int(np.random.SeedSequence((seed, 4)).generate_state(1)[0]))
    x = law.factors(z)
    truth = probabilities(x, intercepts)
    outcomes = draw_outcomes(x, intercepts, streams[0])
    frame = pd.DataFrame({"stay_id": np.arange(1, n + 1, dtype=np.int64)})
    frame["split"] = _splits(frame["stay_id"].to_numpy(), seed)
    frame = frame.assign(**outcomes)
    severity = lambda name: x[:, MODALITIES.index(name), 0]
    everyone = np.ones((n, len(MODALITIES)), dtype=bool)
    present, kept = take_away(
        everyone, frame["stay_id"].to_numpy(), MODALITIES, parameters["absent"], parameters["mechanism"], f"simulator {seed}", severity
    )
    modalities = _observe(x, present, (frame["split"] == "train").to_numpy(), parameters["image_size"], streams[1:], progress)
    chosen = {split: (frame["split"] == split).to_numpy() for split in SPLITS}
    counts = {
        "present": {split: dict(zip(MODALITIES, present[use].sum(axis=0).tolist(), strict=True)) for split, use in chosen.items()},
        "kept_one_modality": kept,
        "oracle_auroc": {task: {split: _auroc(outcomes[task][use], truth[task][use]) for split, use in chosen.items()} for task in TASKS},
        "law_prevalence": PREVALENCE,
        "law_auroc": {task: expected_auroc(p) for task, p in probabilities(many, intercepts).items()},
    }
    flow = [
        {"step": "stays drawn from the law", "stays": n, "dropped": 0, "note": f"{TYPES} types per modality"},
        {
            "step": "modalities taken away",
            "stays": n,
            "dropped": 0,
            "note": f"{parameters['mechanism']}; {kept} stays kept one modality because they would have been empty",
        },
    ]
    write_truth = lambda folder: _write_truth(folder / "truth", law, parameters, intercepts, frame["stay_id"], z, truth)
    return PreparedCohort("synthetic", SOURCE, VERSION, parameters, frame, modalities, TASKS, flow, counts, write_truth, credentialed=False)


def _observe(
    x: np.ndarray, present: np.ndarray, train: np.ndarray, size: int, streams: list[np.random.Generator], progress: Progress
) -> dict[str, PreparedModality]:
    there = dict(zip(MODALITIES, present.T, strict=True))
    progress.stage("series")
    series = draw_series(x[:, 0], streams[0])
    columns = continuous_columns()
    names = feature_names()
    seen = series[train & there["series"]] if (train & there["series"]).any() else series[train]
    mean, std = (getattr(seen[:, :, columns].astype(np.float64), statistic)(axis=(0, 1)) for statistic in ("mean", "std"))
    series[:, :, columns] = (series[:, :, columns] - mean) / std
    statistics = {"split": "train", "features": [names[c] for c in columns], "mean": mean.tolist(), "std": std.tolist()}
    progress.stage("images")
    images = draw_images(x[:, 1], size, streams[1])
    progress.stage("notes")
    notes = draw_notes(x[:, 2], streams[2])
    return {
        "series": PreparedModality("series", series, there["series"], names, units(), statistics, {"step_hours": 2}),
        "image": PreparedModality("image", images, there["image"]),
        "note": PreparedModality("text", list(notes), there["note"]),
    }


def _splits(stay_id: np.ndarray, seed: int) -> np.ndarray:
    rank = stable_uniform(f"simulator {seed}", stay_id, "split").argsort(kind="stable").argsort(kind="stable")
    edges = np.cumsum(FRACTIONS)[:-1] * len(stay_id)
    return np.array(SPLITS, dtype=object)[np.searchsorted(edges, rank + 0.5)]


def _auroc(label: np.ndarray, probability: np.ndarray) -> float | None:
    return float(roc_auc_score(label, probability)) if 0 < label.sum() < len(label) else None


def _write_truth(
    folder: Path,
    law: Law,
    parameters: dict[str, Any],
    intercepts: dict[str, float],
    stay_id: pd.Series,
    z: np.ndarray,
    truth: dict[str, np.ndarray],
) -> None:
    folder.mkdir()
    np.save(folder / "latent.npy", z)
    np.save(folder / "labels.npy", law.types(z))
    pd.DataFrame({"stay_id": stay_id, **truth}).to_parquet(folder / "probabilities.parquet", index=False)
    save_file({key: value.contiguous() for key, value in law.joint.state_dict().items()}, folder / "law.safetensors")
    mixtures = [mixture() for mixture in law.joint.marginals]
    described = {
        **{key: parameters[key] for key in ("family", *copula_parameters(parameters["family"]), "link", "dim", "types")},
        "modalities": list(MODALITIES),
        "weights": [law.log_weights.exp().tolist() for law in mixtures],
        "means": [marginal.get_parameter("mean").tolist() for marginal in law.joint.marginals],
        "scales": [mixture.scale.tolist() for mixture in mixtures],
        "factors": {"rotation": law.rotation.tolist(), "centre": law.centre.tolist(), "spread": law.spread.tolist()},
        "outcomes": {
            task: {
                "intercept": intercepts[task],
                "strength": STRENGTH[task],
                "severity": list(COEFFICIENTS[task][0]),
                "contrast": list(COEFFICIENTS[task][1]),
                "interaction": list(COEFFICIENTS[task][2]),
            }
            for task in TASKS
        },
    }
    (folder / "truth.json").write_text(json.dumps(described, indent=1) + "\n")
