"""Networks of images from torchvision, timm and transformers, by their name there, with or without their pretrained weights."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cm2.batch import Modality
from cm2.config.names import choose
from cm2.durable import file_sha256
from cm2.environment.extras import require
from cm2.environment.hub import hub_errors
from cm2.errors import InputError, errors_of
from cm2.networks.encoders.base import Encoder
from cm2.networks.encoders.features import Features
from cm2.networks.encoders.freezing import freeze
from cm2.networks.encoders.image import Standardise, channels_first
from cm2.networks.encoders.pretrained import (
    RANDOM,
    MissingWeightsError,
    absent,
    imagenet_digest,
    imagenet_weights,
    only_architectures,
    reachable,
    stamp,
)


class LibraryEncoder(Encoder):
    """An image network of a library, without its classifier.

    Args:
        modality: grey images ``(H, W)`` or colour ones, ``(H, W, 3)`` or ``(3, H, W)``, in [0, 1]. Grey ones are repeated three times; all
            are normalised with ImageNet's statistics.
        model: its name in the library.
        weights: ``default``, the library's pretrained ones; the path of a file of weights (``.safetensors``, or of torch), or of a folder
            written by ``save_pretrained``; or empty for a random start.
        trainable_blocks: how many of the last blocks are trained, with what follows them; 0: none; -1: everything.
        allow_random_start: whether weights that are not there give way to a random start, which is another run: its key says so.

    Raises:
        InputError: an unknown model, weights that are not there or do not fit, or more blocks than there are.
    """

    default: ClassVar[str]
    """The model without ``model``."""

    def __init__(
        self, modality: Modality, model: str = "", weights: str = "default", trainable_blocks: int = -1, allow_random_start: bool = False
    ) -> None:
        super().__init__()
        shape = modality.shape
        self.channel = next((axis for axis in (2, 0) if len(shape) == 3 and shape[axis] == 3), None)
        if len(shape) != 2 and self.channel is None:
            raise InputError(f"encoder.{modality.name}: {self.name} reads images (H, W), (H, W, 3) or (3, H, W), got {shape}")
        model = model or self.default
        self.network = self._build(model, modality)
        if weights and only_architectures() is None:
            try:
                with errors_of(f"encoder.{modality.name}"):
                    self._load(model, weights)
            except MissingWeightsError:
                if not allow_random_start:
                    raise
        self._without_classifier()
        freeze(self.network, trainable_blocks, f"encoder.{modality.name}.trainable_blocks")
        self.standardise = Standardise()
        side = [n for axis, n in enumerate(shape) if axis != self.channel]
        with torch.no_grad():
            self.output_dim = self.feature_dim = self._vector(self.network.eval(), torch.zeros(1, 3, *side)).shape[1]
        self.train()

    name: ClassVar[str] = ""

    def features(self, x: Tensor) -> Features:
        """The network's vector ``(B, output_dim)``: no positions."""
        return Features(self._vector(self.network, self.standardise(channels_first(x))))

    def pool(self, features: Features) -> Tensor:
        """The vector, unchanged."""
        return features.values

    @classmethod
    def starts_from(cls, model: str = "", weights: str = "default", allow_random_start: bool = False, **_: Any) -> str:
        """Digest of the weights that the network starts from, `RANDOM` in place of ones that are not there; empty for a random start.

        Raises:
            InputError: they are not there, and a random start is not allowed.
        """
        if not weights:
            return ""
        try:
            return cls._digest(model or cls.default, weights)
        except MissingWeightsError:
            if not allow_random_start:
                raise
            return RANDOM

    @abstractmethod
    def _build(self, model: str, modality: Modality) -> nn.Module:
        """The network with random weights."""

    @abstractmethod
    def _load(self, model: str, weights: str) -> None:
        """Loads the pretrained weights into it."""

    @classmethod
    @abstractmethod
    def _digest(cls, model: str, weights: str) -> str:
        """SHA-256 of the pretrained weights."""

    def _without_classifier(self) -> None:
        """Replaces the last linear layer."""
        last = next((name for name, m in reversed(list(self.network.named_modules())) if isinstance(m, nn.Linear)), None)
        if last is None:
            raise InputError(f"{self.name}: the network ends in no linear layer that could be taken off; use another model")
        parent, _, child = last.rpartition(".")
        setattr(self.network.get_submodule(parent), child, nn.Identity())

    def _vector(self, network: nn.Module, x: Tensor) -> Tensor:
        return network(x)


class TorchvisionEncoder(LibraryEncoder):
    """A classifier of torchvision, for example ``resnet50``, ``convnext_tiny`` or ``vit_b_16``; see `LibraryEncoder`."""

    name = "torchvision"
    default = "resnet50"

    def _build(self, model: str, modality: Modality) -> nn.Module:
        from torchvision.models import get_model, list_models

        known = [name for name in list_models() if "." not in name]
        if model not in list_models():
            raise InputError(f"encoder.{modality.name}.model: unknown model of torchvision {model!r}; {choose(model, known)}")
        options = {"image_size": modality.shape[0]} if model.startswith("vit_") and self.channel is None else {}
        return get_model(model, weights=None, **options)

    def _load(self, model: str, weights: str) -> None:
        state = _found(lambda: imagenet_weights(model)) if weights == "default" else _read(weights)
        _fill(self.network, state, weights)

    @classmethod
    def _digest(cls, model: str, weights: str) -> str:
        return _found(lambda: imagenet_digest(model)) if weights == "default" else _file_digest(weights)


class TimmEncoder(LibraryEncoder):
    """A model of timm, for example ``convnext_tiny.fb_in22k``; see `LibraryEncoder`. It needs the library timm."""

    name = "timm"
    default = "resnet50"

    def _build(self, model: str, modality: Modality) -> nn.Module:
        require("timm")
        import timm

        if not timm.is_model(model):
            known = timm.list_models()
            raise InputError(f"encoder.{modality.name}.model: unknown model of timm {model!r}; timm has {len(known)}")
        return timm.create_model(model, pretrained=False, num_classes=0)

    def _load(self, model: str, weights: str) -> None:
        _fill(self.network, _timm_state(model) if weights == "default" else _read(weights), weights)

    @classmethod
    def _digest(cls, model: str, weights: str) -> str:
        require("timm")
        return state_digest(_timm_state(model)) if weights == "default" else _file_digest(weights)

    def _without_classifier(self) -> None:
        """It was built without one."""


class TransformersEncoder(LibraryEncoder):
    """An image model of transformers, ``model`` being its name on the hub or a folder written by ``save_pretrained``.

    The vector is its pooled output, or the state of its first token; see `LibraryEncoder`. Texts have ``encoder.text.pretrained``.
    """

    name = "transformers"
    default = "facebook/dinov2-small"

    def _build(self, model: str, modality: Modality) -> nn.Module:
        from transformers import AutoConfig, AutoModel

        if (known := only_architectures()) is not None and model in known:
            settings = dict(known[model])
            config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        else:
            config = _from_hub(lambda **options: AutoConfig.from_pretrained(model, **options), model)
        self.pretrained = model
        return AutoModel.from_config(config)

    def _load(self, model: str, weights: str) -> None:
        if weights == "default":
            self.network = _transformers_model(model)
        else:
            _fill(self.network, _read(weights), weights)

    @classmethod
    def _digest(cls, model: str, weights: str) -> str:
        return _transformers_digest(model, stamp(model)) if weights == "default" else _file_digest(weights)

    def _without_classifier(self) -> None:
        """The models of transformers without a task have none."""

    def _vector(self, network: nn.Module, x: Tensor) -> Tensor:
        out = network(pixel_values=x)
        pooled = getattr(out, "pooler_output", None)
        return out.last_hidden_state[:, 0] if pooled is None else pooled.flatten(1)


def _transformers_model(model: str) -> nn.Module:
    from transformers import AutoModel

    return _from_hub(lambda **options: AutoModel.from_pretrained(model, weights_only=True, **options), model)


@cache
def _transformers_digest(model: str, _: object) -> str:
    return state_digest(_transformers_model(model).state_dict())


def _from_hub(load: Any, model: str) -> Any:
    """What transformers loads from this machine, or from the hub if that can be reached."""
    from huggingface_hub import constants

    try:
        return load(local_files_only=True)
    except (OSError, ValueError) as error:
        if Path(model).is_dir():
            raise InputError(f"no model of transformers in the folder {model}; give a folder written by save_pretrained") from error
    try:
        if not constants.HF_HUB_OFFLINE and reachable(constants.ENDPOINT):
            return load()
    except hub_errors(ValueError):
        pass
    raise MissingWeightsError(f"{model}: not on this machine, and the hub cannot be reached; put it there, or give another model")


def state_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 over the names, types, shapes and values of tensors."""
    digest = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


@cache
def _timm_state(model: str) -> dict[str, Tensor]:
    import timm

    def state() -> dict[str, Tensor]:
        try:
            return timm.create_model(model, pretrained=True, num_classes=0).state_dict()
        except hub_errors(RuntimeError) as error:  # no network, or no weights under this name
            reason = str(error).partition("\n")[0][:120]
            raise MissingWeightsError(f"weights of timm's {model}: {absent('the hub', 'weights=')} ({reason})") from None

    return _found(state)


def _found(load: Any) -> Any:
    try:
        return load()
    except MissingWeightsError as error:
        what = str(error).partition("; put them there")[0]
        raise MissingWeightsError(f'{what}; put them there, give weights = "" for a random start, or allow_random_start = true') from None


def _file_digest(weights: str) -> str:
    path = Path(weights)
    if not path.is_file():
        raise MissingWeightsError(f'there is no file of weights {weights}; give another, weights = "", or allow_random_start = true')
    return _sha256(path, stamp(weights))


@cache
def _sha256(path: Path, _: object) -> str:
    return file_sha256(path)


def _read(weights: str) -> dict[str, Tensor]:
    """Tensors of a file; nothing in it can run code."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _file_digest(weights)
    try:
        state = load_file(weights) if weights.endswith(".safetensors") else torch.load(weights, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights} is damaged ({error}); give another file") from None
    except Exception as error:  # whatever damage makes of torch's reader
        raise InputError(f"{weights}: not a file of weights ({type(error).__name__}); give another file") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{weights}: expected tensors by name; give a file of a network's state_dict")
    return state


def _fill(network: nn.Module, state: dict[str, Tensor], weights: str) -> None:
    """Loads weights; those of a classifier with another number of classes, which is taken off, are left out."""
    own = network.state_dict()
    fits = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    wrong = [name for name in own if name not in fits]
    linear = {f"{name}.{end}" for name, m in network.named_modules() if isinstance(m, nn.Linear) for end in ("weight", "bias")}
    last = sorted(linear, key=list(own).index)[-2:] if linear else []
    if left := [name for name in wrong if name not in last]:
        raise InputError(f"{weights}: its weights do not fit the network ({left[0]}); give weights of this model and image size")
    network.load_state_dict(fits, strict=False)
