"""Modalities, batches and tiny methods that the tests of the compared methods share."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.methods import METHODS

SERIES = Modality("series", "series", (6, 4))
NOTE = Modality("note", "text", (8,), vocabulary=50)
NOTES = Modality("notes", "text", (2, 8), vocabulary=50)
IMAGE = Modality("image", "image", (32, 32))
LABORATORY = Modality("laboratory", "series", (5, 3))
DESCRIPTORS = Modality("descriptors", "vector", (5,))
MIXED = {2: (SERIES, IMAGE), 3: (SERIES, NOTE, DESCRIPTORS), 5: (NOTES, SERIES, IMAGE, LABORATORY, DESCRIPTORS)}
SMALL = {"encoder.series.hidden": 8, "encoder.vector.hidden": 8, "encoder.text.max_length": 12, "encoder.text.dropout": 0.0}

WIDER = {
    "daft": {"encoder.series.hidden": 64, "encoder.vector.hidden": 64},  # else its bottleneck is so narrow that stays pass none of it
    "linear": {"baseline.embedding_dim": 32},  # few principal components do not tell 32 stays apart
}

CM2 = {
    "original": {},
    "scalar": {"model.link": "scalar"},
    "dimension": {"model.link": "dimension"},
    "paper": {"model.link": "paper", "model.impute": "marginal"},
    "released": {"model.link": "released", "model.impute": "marginal", "model.fusion_reads": "present", "model.lambda_copula": 1e-6},
    "cosine": {"model.alignment": "cosine", "model.impute": "token"},
}
"""Variants of CM² by what a run sets; those of the compared methods have one field of the configuration."""


def make_values(modalities, stays, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = {}
    for m in modalities:
        if m.kind == "text":
            ids = torch.randint(5, m.vocabulary, (stays, *m.shape), generator=generator)
            lengths = torch.randint(3, m.shape[-1] + 1, (stays, *m.shape[:-1], 1), generator=generator)
            lengths[::2, 1:] = 0  # every other stay has one document of several
            values[m.name] = {"input_ids": ids, "attention_mask": (torch.arange(m.shape[-1]) < lengths).long()}
        elif m.kind == "image":
            values[m.name] = torch.rand(stays, *m.shape, generator=generator)
        else:
            values[m.name] = torch.randn(stays, *m.shape, generator=generator)
    return values


def make_batch(modalities, stays=12, seed=0, present=None):
    """Stays of which each has its own modalities: every pattern in turn."""
    count = len(modalities)
    if present is None:
        patterns = torch.arange(1, 2**count)
        present = (patterns[torch.arange(stays) % len(patterns), None] >> torch.arange(count)) % 2 == 1
    label = (torch.rand(stays, generator=torch.Generator().manual_seed(seed + 1)) < 0.4).float()
    label[:2] = torch.tensor([0.0, 1.0])
    return Batch(make_values(modalities, stays, seed), present, label, torch.arange(stays))


def changed(batch, names, how, by=1):
    """The batch with other values of these modalities: where absent (``how="absent"``), or other ones for each ``by`` where present."""
    values = dict(batch.values)
    for name in names:
        rows = batch.present[:, batch.modalities.index(name)] ^ (how == "absent")
        value = values[name]
        if isinstance(value, dict):
            here = rows.view(-1, *[1] * (value["input_ids"].ndim - 1))
            ids = torch.where(here, (value["input_ids"] + 7 * by) % 45 + 5, value["input_ids"])
            mask = value["attention_mask"] if how == "present" else torch.where(here, 1, value["attention_mask"])
            values[name] = {"input_ids": ids, "attention_mask": mask}
        else:
            other = by - value if how == "present" else torch.full_like(value, torch.nan)
            values[name] = torch.where(rows.view(-1, *[1] * (value.ndim - 1)), other, value)
    return Batch(values, batch.present, batch.label, batch.stay_id)


def config(name, variant="original", **overrides):
    fields = {key.replace("__", "."): value for key, value in overrides.items()}
    own = CM2[variant] | {"model.dropout": 0.0} if name == "cm2" else {"baseline.variant": variant, "baseline.dropout": 0.0}
    return Config.from_profile("smoke", {"method": name} | own | SMALL | WIDER.get(name, {}) | fields)


def build(name, modalities, variant="original", seed=0, **overrides):
    torch.manual_seed(seed)
    return METHODS[name](config(name, variant, **overrides), modalities)


def predicted(method, batch):
    """The prediction of every stay, its draws for absent modalities always the same."""
    torch.manual_seed(3)
    return method.predict(batch)


class BatchStays:
    """A batch in the place of a split's stays."""

    def __init__(self, batch, modalities):
        self.whole, self.modalities, self.label = batch, modalities, batch.label

    def __len__(self):
        return len(self.whole)

    def batch(self, indices):
        at = torch.as_tensor(indices)
        take = lambda v: {k: x[at] for k, x in v.items()} if isinstance(v, dict) else v[at]
        values = {name: take(value) for name, value in self.whole.values.items()}
        return Batch(values, self.whole.present[at], self.label[at], self.whole.stay_id[at])


def learn(method, batch, modalities, steps=60, learning_rate=1e-2):
    """Trains on one batch, in the method's own way where it has one."""
    if hasattr(method, "fit_stays"):
        method.fit_stays(BatchStays(batch, modalities), BatchStays(batch, modalities))
        return method.eval()
    optimiser = torch.optim.Adam(method.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimiser.zero_grad()
        method.loss(batch)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimiser.step()
    return method.eval()


class Waits(TorchDispatchMode):
    """Notes every operation whose result the host has to wait for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero") or any(
            i is not None and i.dtype == torch.bool for i in indices
        ):
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))
