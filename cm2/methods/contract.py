"""Interface of a method to the trainer, the evaluations and the tables; registry of the methods by name.

A method is a subclass of `Method` with a ``name``, in a separate file: it needs ``loss`` and ``predictive``. Whatever else it can do it
declares by overriding a hook of `Method`, whose default does nothing, or by implementing one of the protocols `FitsStays` and `Embeds`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from cm2.batch import Batch, Modality
from cm2.config import Config
from cm2.errors import InputError, spelled
from cm2.joint import CopulaJoint
from cm2.methods.outside import identities
from cm2.methods.saved import Inputs, open_saved
from cm2.networks.encoders import without_weights
from cm2.parts import Registry
from cm2.tasks import Binary, Task

METHODS: Registry[type[Method]] = Registry("method", "cm2.methods")
"""Methods by name; a subclass of `Method` that sets ``name`` registers itself, as does an entry point of the group ``cm2.methods``."""


@dataclass(frozen=True)
class Pretraining:
    """What is minimised before the training."""

    objective: nn.Module
    """Makes of a batch what `Method.loss` does. Parameters of it that are not the method's are trained with them and then forgotten."""
    epochs: int
    learning_rate: float
    reads_outcomes: bool = False
    """Whether it differs with the outcomes that are known."""


class Method(nn.Module, ABC):
    """A model, usually a network, trained on stays to predict one task from several modalities.

    A method does not ask which type of task it has: its networks end in ``task.outputs`` numbers for each stay, and `cm2.tasks.Task` makes
    loss, prediction and metrics of them.

    Args:
        config: the run's configuration.
        modalities: the cohort's modalities that take part, ``fewest`` or more.
        task: what is predicted; None: a binary outcome.

    Raises:
        ValueError: too few modalities, or a task that the method cannot learn.
    """

    name: ClassVar[str]
    """Name in ``--method`` and in a table's rows."""
    version: ClassVar[str] = "1"
    """Part of a run's key: raise it when the same configuration no longer gives the same weights."""
    fewest: ClassVar[int] = 2
    """Smallest number of modalities for which the method makes sense."""
    unable: ClassVar[Mapping[str, str]] = {}
    """Types of task that the method cannot learn, and why, as the end of a sentence that begins with the method."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        METHODS.enter(cls)

    def __init__(self, config: Config, modalities: Sequence[Modality], task: Task | None = None) -> None:
        super().__init__()
        self.task = task or Binary()
        if (why := self.unable.get(self.task.type)) is not None:
            raise InputError(f"{config.method} {why}; choose another method for the {self.task.type} task {self.task.name}")
        if len(modalities) < self.fewest:
            more = "name more in modalities" if config.modalities else "add one to the cohort"
            remedy = f"{spelled(more, more, 'give two or more in modalities=')}, or choose a method that reads one, such as logistic"
            given = ", ".join(modality.name for modality in modalities)
            raise InputError(f"{config.method} joins modalities: expected {self.fewest} or more, got {given}; {remedy}")
        self.modalities = tuple(modalities)
        self.names = tuple(m.name for m in modalities)
        self.inputs: Inputs | None = None
        """Of a saved model: makes batches of values in their own units; None of one that was trained here."""
        self.epoch = 0
        """Current epoch of the training, updated by the trainer."""

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> Self:
        """A saved model, in evaluation mode; its ``inputs`` turn raw values into batches. No cohort is needed, and nothing is trained.

        Args:
            source: a folder that `cm2.runs.run.Run.save_pretrained` wrote, or a name on the model hub.
            revision: branch, tag or commit on the hub.

        Raises:
            InputError: there is none, it is damaged, it is one of another method than this class, or a part from outside that it was built
                of is missing or has another version.
        """
        saved = open_saved(source, revision)
        saved.check_parts(identities(saved.config, {m.name: m.kind for m in saved.modalities}, saved.task.type))
        method = METHODS.find(saved.config.method, str(source))
        if not issubclass(method, cls):
            raise InputError(f"{source} holds a model of the method {method.name}; load it by cm2.methods.Method.from_pretrained")
        if (version := saved.description["method_version"]) != method.version:
            raise InputError(f"{source} holds a model of {method.name} version {version}, this is version {method.version}; train it again")
        with without_weights(saved.description["architectures"]):
            made = method(saved.config, saved.modalities, saved.task)
        saved.load_weights(made)
        made.inputs = saved.inputs()
        return made.eval()

    @abstractmethod
    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` is minimised, the others are recorded in the history. A stay without outcome has no task loss."""

    @abstractmethod
    def predictive(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean prediction and its variance between draws, each ``(B,)``, or ``(B, P)`` where a prediction has several numbers."""

    def predict(self, batch: Batch) -> Tensor:
        """What is predicted ``(B,)`` or ``(B, P)``: the probability of a binary outcome; see `cm2.tasks.Task.prediction`."""
        return self.predictive(batch)[0]

    def initialise(self, batch: Batch) -> None:
        """Initialises parameters from a first batch, before the first step; does nothing by default."""

    def pretraining(self) -> Pretraining | None:
        """What is minimised before the training; None by default."""
        return None

    def before_first_epoch(self, batches: Iterable[Batch]) -> None:
        """Fits what the first steps read already to all training stays, after `initialise`; does nothing by default.

        Args:
            batches: as for `refit`.
        """

    def refit(self, batches: Iterable[Batch]) -> bool:
        """Fits `law_parameters` to all training stays at once, before each validation; does nothing by default.

        Args:
            batches: the training stays in a fixed order; can be read more than once.

        Returns:
            Whether anything was fitted.
        """
        return False

    def describe_law(self, batches: Iterable[Batch]) -> None:
        """Compares the law of the embeddings with some training stays, for `state_of_law`, before each validation in which `refit` fitted
        nothing; does nothing by default. It changes neither parameters nor random numbers.

        Args:
            batches: as for `refit`, of a bounded number of training stays.
        """

    @property
    def unused_parameters(self) -> Mapping[str, str]:
        """Why parameters whose names start with the key receive no gradient from the loss; empty by default."""
        return {}

    def law_parameters(self) -> list[nn.Parameter]:
        """Parameters trained with the learning rate ``train.law_learning_rate``; none by default."""
        return []

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters whose learning rate ``model.encoder_rate`` multiplies; none by default."""
        return []

    def state_of_law(self) -> dict[str, float]:
        """Additional columns of the history, computed at the end of an epoch; none by default."""
        return {}

    def embedding_law(self) -> CopulaJoint | None:
        """Joint distribution of the embeddings as fitted in training; None without one."""
        return None

    def why_no_law(self) -> str:
        """Why `embedding_law` is None, as the end of a sentence that begins with the method; empty if it is not."""
        return "has no law of its embeddings"


class Stays(Protocol):
    """The stays of a split; `cm2.cohorts.Stays` is one."""

    label: Tensor
    """``(n,)`` or ``(n, L)``, NaN where the outcome is unknown."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int]) -> Batch:
        """The stays at these positions."""
        ...


@runtime_checkable
class FitsStays(Protocol):
    """A method that is not trained by gradient steps: it gets all stays of both splits at once."""

    def fit_stays(self, train: Stays, valid: Stays) -> list[dict[str, float]]:
        """Fits the method to ``train`` and returns the history's rows; ``valid`` is for model selection only."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """A method with a vector of the same width for every modality, on which alignment and imputation are evaluated."""

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings ``(B, M, d)``, arbitrary where missing, and ``present`` ``(B, M)`` bool."""
        ...
