"""How a method is trained."""

from __future__ import annotations

from dataclasses import dataclass

from cm2.config.checks import not_negative, one_of, positive, rates
from cm2.config.reading import aside, later
from cm2.errors import InputError


@dataclass(frozen=True)
class TrainConfig:
    """How a method is trained; the same for every method."""

    epochs: int = 100
    """At most (paper: 100)."""
    patience: int = 15
    """Epochs without a better validation AUROC before training stops (paper: 15)."""
    batch_size: int = 32
    """Stays per step (paper: 32 for MIMIC-IV, 16 for MIMIC-III)."""
    learning_rate: float = 1e-4
    """Adam's step for the networks."""
    law_learning_rate: float = 1e-2
    """Adam's step for mixtures and copula: Adam moves by its step whatever the gradient's size, so 1e-4 would only count steps."""
    beta_1: float = 0.9
    """Adam's first decay."""
    beta_2: float = 0.999
    """Adam's second decay (released code: 0.9)."""
    weight_decay: float = 0.0
    """Adam's weight decay."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    average: float = later(0.0)
    """Weight of each step's parameters in an exponential moving average, which is validated, stored and tested in their stead; 0: none."""
    precision: str = "32-true"
    """Lightning's precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``."""
    augment: float = later(0.0)
    """Strength of random turns, shifts and changes of scale of the training images, made where the method is: 1 is up to 45 degrees and
    15 % (code of MedFuse, which also mirrors), 0.2 up to 9 degrees and 3 %; 0: none."""
    bucket: int = later(0)
    """Batches at a time within which stays are put together by the length of their texts, so that less padding is read: a pool of this
    many batches is drawn, then sorted, then cut. 0: batches are drawn at random."""
    compile: bool = aside(False)
    """Whether the networks of images and texts are compiled for training. It takes a minute or two before the first step, and pays on an
    accelerator and in long trainings; where torch cannot compile, a warning says why, and they run as they are."""
    channels_last: bool = aside(False)
    """Whether convolutions of images keep the channels of a pixel side by side in training, as tensor cores want them."""
    resident: float = aside(0.25)
    """Share of an accelerator's free memory that the training and validation stays may take: if they fit, they are copied once and
    batches are gathered there. 0: never. Without an accelerator it does nothing."""
    workers: int = 0
    """Loading processes; a batch is one gather from memory maps, so 0 is right unless the disk is slow."""

    def __post_init__(self) -> None:
        one_of("train.precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        if not 0 <= self.average < 1:
            raise InputError(f"train.average: expected a weight from 0 (no average) to below 1, got {self.average}")
        if not 0 <= self.augment <= 1:
            raise InputError(f"train.augment: expected a strength from 0 (none) to 1 (up to 45 degrees and 15 %), got {self.augment}")
        names = ("weight_decay", "gradient_clip", "workers", "bucket")
        not_negative(**{f"train.{name}": getattr(self, name) for name in names})
        rates(**{f"train.{name}": getattr(self, name) for name in ("beta_1", "beta_2", "resident")})
        named = {name: getattr(self, name) for name in ("epochs", "patience", "batch_size", "learning_rate", "law_learning_rate")}
        positive(**{f"train.{name}": value for name, value in named.items()})
