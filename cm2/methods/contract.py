"""What the trainer, the evaluations and the tables ask of a method, and the one list of methods by name.

A method is a subclass of `Method` with a ``name``, in a file of its own: it needs ``loss`` and ``predictive``. What else it can do it says
by overriding a hook of `Method`, which does nothing otherwise, or by keeping one of the protocols `FitsStays` and `Embeds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.config.names import enter
from cm2.joint import CopulaJoint

METHODS: dict[str, type[Method]] = {}
"""Methods by name; a subclass of `Method` that sets ``name`` enters itself."""


class Method(nn.Module, ABC):
    """A network, or anything that is trained on stays, that predicts one outcome from several modalities.

    Args:
        config: the run's configuration.
        modalities: those of the cohort that take part, ``fewest`` or more.

    Raises:
        ValueError: too few modalities.
    """

    name: ClassVar[str]
    """What ``--method`` and a table's row call it."""
    version: ClassVar[str] = "1"
    """Part of a run's key: raise it when the same configuration no longer gives the same weights."""
    fewest: ClassVar[int] = 2
    """The smallest number of modalities that the method makes sense for."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        enter(METHODS, cls, "method")

    def __init__(self, config: Config, modalities: Sequence[Modality]) -> None:
        super().__init__()
        if len(modalities) < self.fewest:
            given = [m.name for m in modalities]
            raise ValueError(f"{config.method} joins modalities: expected {self.fewest} or more, got {given}; add one to the cohort")
        self.names = tuple(m.name for m in modalities)
        self.epoch = 0
        """The epoch that is being trained, kept up to date by the trainer."""

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` is minimised, the others are recorded in the history."""

    @abstractmethod
    def predictive(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean of the outcome's probability and its variance between draws, each ``(B,)``."""

    def predict(self, batch: Batch) -> Tensor:
        """Probability of the outcome ``(B,)``."""
        return self.predictive(batch)[0]

    def initialise(self, batch: Batch) -> None:
        """Starts parameters from the stays of a first batch, before the first step; nothing by default."""

    @property
    def unused_parameters(self) -> Mapping[str, str]:
        """Why parameters whose name starts with the key receive no gradient from the loss; empty by default."""
        return {}

    def law_parameters(self) -> list[nn.Parameter]:
        """Parameters trained with the step ``train.law_learning_rate``; none by default."""
        return []

    def state_of_law(self) -> dict[str, float]:
        """Scalars worth a column in the history at the end of an epoch; none by default."""
        return {}

    def embedding_law(self) -> CopulaJoint | None:
        """The joint distribution of the embeddings that training fitted; None without one."""
        return None

    def why_no_law(self) -> str:
        """Why `embedding_law` is None, as the end of a sentence that begins with the method; empty if it is one."""
        return "has no law of its embeddings"


class Stays(Protocol):
    """The stays of a split; `cm2.cohorts.Stays` is one."""

    label: Tensor
    """``(n,)``, 0 or 1."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The stays at these positions."""
        ...


@runtime_checkable
class FitsStays(Protocol):
    """A method that is not trained by gradient steps: it sees all stays of both splits at once."""

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Fits the method; returns the history's rows. ``valid`` may choose, it may not teach."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A method that has one vector of the same width for every modality: what alignment and imputation are judged on."""

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, M, d)``, whatever where absent, and ``present`` ``(B, M)`` bool."""
        ...
