"""Note-like English driven by an embedding: one sentence per finding, worded according to its severity."""

from __future__ import annotations

import numpy as np

FINDINGS = (
    *("dyspnea", "chest pain", "peripheral edema", "confusion", "abdominal distension", "cough", "pallor", "agitation"),
    *("wheezing", "nausea", "weakness", "jaundice"),
)
WORDS = (
    ("no", "absent"),
    ("trace", "barely any"),
    ("mild", "slight"),
    ("moderate", "noticeable"),
    ("marked", "considerable"),
    ("severe", "extreme"),
)
CUTS = np.array([-1.1, -0.45, 0.0, 0.45, 1.1])
SENTENCES = (
    "{word} {finding} on examination.",
    "patient has {word} {finding}.",
    "{word} {finding} noted today.",
    "exam shows {word} {finding}.",
)
OPENINGS = ("nursing note.", "progress note.", "icu note.", "shift summary.")
NOISE = 0.15
OMITTED = 0.05
LOADING_SEED = 1959


def findings(dim: int) -> tuple[str, ...]:
    """The findings mentioned in a note of a d-dimensional embedding: at least 8, at most 12."""
    return FINDINGS[: min(max(dim, 8), len(FINDINGS))]


def draw_notes(x: np.ndarray, rng: np.random.Generator) -> list[str]:
    """Notes from factors ``(n, d)``; sentences are in random order, and a few are omitted at random."""
    names = findings(x.shape[1])
    n, f = len(x), len(names)
    # orthonormal columns: together the findings determine each factor equally well, of more than twelve factors the first twelve
    loading, _ = np.linalg.qr(np.random.default_rng(LOADING_SEED).normal(size=(f, min(f, x.shape[1]))))
    loading *= np.sqrt(f / loading.shape[1])
    x = x[:, : loading.shape[1]]
    level = np.searchsorted(CUTS, x @ loading.T + NOISE * rng.normal(size=(n, f)))
    word, sentence = rng.integers(len(WORDS[0]), size=(n, f)), rng.integers(len(SENTENCES), size=(n, f))
    kept, order = rng.random((n, f)) >= OMITTED, rng.random((n, f)).argsort(axis=1)
    opening = rng.integers(len(OPENINGS), size=n)
    notes = []
    for i in range(n):
        said = [SENTENCES[sentence[i, j]].format(word=WORDS[level[i, j]][word[i, j]], finding=names[j]) for j in order[i] if kept[i, j]]
        notes.append(" ".join([OPENINGS[opening[i]], *said]))
    return notes
