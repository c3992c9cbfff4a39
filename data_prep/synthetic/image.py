"""Images that look like frontal chest radiographs, drawn from an embedding.

Ten anatomical quantities follow the factors smoothly: heart width, both diaphragms, lung width, opacities of three zones, diffuse haze,
effusion, mediastinal width. Position, exposure and grain are noise. Dense tissue is bright, as in a radiograph.
"""

from __future__ import annotations

import numpy as np

from cm2.progress import Progress

QUANTITIES = (
    *("heart width", "right diaphragm", "left diaphragm", "lung width", "right lower opacity"),
    *("left lower opacity", "upper opacity", "haze", "effusion", "mediastinal width"),
)
# effect of the severity on each quantity, in addition to the quantity's own linear combination of the other factors
SEVERITY = np.array([0.6, 0.4, 0.4, -0.3, 0.7, 0.7, 0.5, 0.8, 0.7, 0.4])
LOADING_SEED = 1895
BLOCK = 256


def quantities(x: np.ndarray) -> np.ndarray:
    """Factors ``(n, d)`` to the ten quantities ``(n, 10)``, each smooth, increasing in its loading and within (-1, 1)."""
    f, dim = len(QUANTITIES), min(len(QUANTITIES), x.shape[1])
    # orthonormal columns: together the quantities determine each factor about equally well, of more than ten factors the first ten
    loading, _ = np.linalg.qr(np.random.default_rng(LOADING_SEED).normal(size=(f, dim)))
    loading *= np.sqrt(f / dim)
    loading[:, 0] = SEVERITY
    return np.tanh(0.7 * x[:, :dim] @ loading.T)


def draw_images(x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Radiographs ``(n, size, size)`` uint8 from factors ``(n, d)``."""
    q = quantities(x).astype(np.float32)
    with Progress("drawing images", -(-len(q) // BLOCK), "block") as progress:
        blocks = [_block(q[start : start + BLOCK], size, rng) for start in progress.each(range(0, len(q), BLOCK))]
    return np.concatenate(blocks) if blocks else np.zeros((0, size, size), dtype=np.uint8)


def _block(q: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    n = len(q)
    shift = rng.normal(scale=0.02, size=(2, n)).astype(np.float32)
    exposure = rng.normal(1.0, 0.04, size=(n, 1, 1)).astype(np.float32)
    grain = rng.normal(scale=0.02, size=(n, size, size)).astype(np.float32)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    u, v = axis[None, None, :] - shift[0][:, None, None], axis[None, :, None] - shift[1][:, None, None]
    dense = _anatomy(u, v, q[:, :, None, None])
    return np.rint(255 * _unit(exposure * dense + grain)).astype(np.uint8)


def _anatomy(u: np.ndarray, v: np.ndarray, q: np.ndarray) -> np.ndarray:
    heart, right, left, width, right_low, left_low, upper, haze, effusion, middle = (q[:, i] for i in range(len(QUANTITIES)))
    torso = _soft(1 - (u / 0.95) ** 2 - ((v - 0.3) / 1.35) ** 4, 12)
    half = 0.34 + 0.04 * width
    lung = lambda at_u: _soft(1 - ((u - at_u) / half) ** 2 - ((v + 0.05) / 0.72) ** 2, 8)
    lungs = lung(-0.42) + lung(0.42)
    side = _soft(u, 30)  # the patient's left is on the right of the image
    floor = 0.48 - 0.12 * (right * (1 - side) + left * side) - 0.15 * (1 - ((np.abs(u) - 0.42) / 0.5) ** 2)
    below = _soft(v - floor, 25)
    silhouette = _soft(1 - ((u - 0.1) / (0.27 + 0.09 * heart)) ** 2 - ((v - 0.28) / 0.36) ** 2, 7)
    mediastinum = np.exp(-((u / (0.13 + 0.04 * middle)) ** 2))
    fluid = _soft(v - 0.45 + 0.22 * (1 + effusion) * np.abs(u), 14)
    air = lungs * (1 - below) * (1 - silhouette) * (1 - 0.8 * mediastinum)
    cloud = lambda amount, at_u, at_v, r: 0.24 * (1 + amount) * np.exp(-(((u - at_u) / r) ** 2) - ((v - at_v) / r) ** 2)
    clouds = cloud(right_low, -0.45, 0.2, 0.2) + cloud(left_low, 0.5, 0.15, 0.18)
    clouds = clouds + cloud(upper, -0.38, -0.4, 0.17) + cloud(upper, 0.38, -0.4, 0.17)
    ribs = 0.03 * np.sin(22 * (v + 0.25 * u**2))
    inside = 0.12 + 0.1 * (1 + haze) + clouds + 0.25 * (1 + effusion) * fluid * 0.6 + ribs
    return torso * (0.72 - air * (0.72 - inside) + 0.1 * mediastinum) + 0.02


def _soft(x: np.ndarray, sharpness: float) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * sharpness * x))


def _unit(x: np.ndarray) -> np.ndarray:
    # a radiograph saturates smoothly: no density is clipped
    return 0.5 * (1 + np.tanh(2 * (x - 0.45)))
