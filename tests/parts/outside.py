"""A made-up distribution with one part of every group, in a folder that tests put on the path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cm2.parts import REGISTRIES

TEXT = '''
"""Parts from outside."""

from typing import ClassVar

import torch
from torch import nn

from cm2.copulas.families.gaussian import Gaussian
from cm2.kinds.vector import Vector
from cm2.methods.baselines import Baseline
from cm2.networks.encoders import Encoder, Features
from made_up.blocks import layer


class Wide(Encoder):
    name = "wide"

    def __init__(self, modality, width=8):
        super().__init__()
        self.layer = layer(modality.shape[-1], width)
        self.output_dim = self.feature_dim = width

    def features(self, x):
        return Features(self.layer(x.flatten(1, -2).mean(1) if x.ndim > 2 else x))

    def pool(self, features):
        return features.values


class Mean(nn.Module):
    """A fusion without a base class of ours."""

    def __init__(self, dim, modalities):
        super().__init__()
        self.layer = nn.Linear(dim, 8)

    def forward(self, z, present=None):
        return self.layer(z.mean(1))


class Doubled(Vector):
    name: ClassVar[str] = "doubled"

    def scaled(self, data):
        return data.mul_(2)


class Normal(Gaussian):
    name = "normal"


class Constant(Baseline):
    name: ClassVar[str] = "constant"

    def __init__(self, config, modalities, *rest):
        super().__init__(config, modalities, *rest)
        self.level = nn.Parameter(torch.zeros(()))

    def logits(self, batch):
        return self.level + batch.values["series"].flatten(1).mean(1)
'''
BLOCKS = """
from torch import nn


def layer(features, width):
    return nn.Sequential(nn.Linear(features, width), nn.ReLU())
"""
POINTS = """[cm2.encoders]
wide = made_up.parts:Wide
[cm2.fusions]
mean-of-all = made_up.parts:Mean
[cm2.kinds]
doubled = made_up.parts:Doubled
[cm2.copulas]
normal = made_up.parts:Normal
[cm2.methods]
constant = made_up.parts:Constant
"""


def install(folder: Path, **texts: str) -> Path:
    """Writes the distribution; ``parts`` and ``blocks`` replace the text of a module, ``points`` the entry points."""
    package, information = folder / "made_up", folder / "made_up-1.0.dist-info"
    package.mkdir(parents=True, exist_ok=True)
    information.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(texts.get("parts", TEXT))
    (package / "blocks.py").write_text(texts.get("blocks", BLOCKS))
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: made_up\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(texts.get("points", POINTS))
    return folder


NAMES = {"cm2.encoders": "wide", "cm2.fusions": "mean-of-all", "cm2.kinds": "doubled", "cm2.copulas": "normal", "cm2.methods": "constant"}
"""Its parts by group."""


@contextmanager
def on_the_path(folder: Path) -> Iterator[None]:
    """The distribution as if it were installed; afterwards nobody knows of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        try:
            yield
        finally:
            for group, name in NAMES.items():
                if name in REGISTRIES[group].own():
                    del REGISTRIES[group][name]
            for name in [name for name in sys.modules if name.partition(".")[0] == "made_up"]:
                del sys.modules[name]
