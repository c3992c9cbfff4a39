"""Networks that turn one modality of one stay into a vector: LSTM, residual network, BERT, a small perceptron.

An encoder sees only the stays that have its modality: the model gathers their rows, so an absent modality is never encoded. Every
encoder has ``output_dim``, the width of what it returns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerBase

    from cm2.batch import Modality
    from cm2.config import EncoderConfig


class FullPrecisionLSTM(nn.LSTM):
    """An LSTM in float32 under mixed precision too: some processors have no recurrence in bfloat16."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As ``nn.LSTM``."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def orthogonal_lstm(features: int, hidden: int, layers: int, dropout: float) -> nn.LSTM:
    """A batch-first LSTM with Xavier input weights, orthogonal recurrent weights and zero biases.

    Args:
        features: width of a step.
        hidden: width of the hidden state.
        layers: stacked layers.
        dropout: between the layers.
    """
    lstm = FullPrecisionLSTM(features, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.xavier_uniform_(parameter)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
    return lstm


class LSTMEncoder(nn.Module):
    """Stacked LSTM over a time series; the last hidden state of the top layer is the embedding (paper, section 4.1).

    Args:
        features: F, features of one step.
        hidden: width of the hidden state, which is ``output_dim``.
        layers: stacked layers.
        dropout: between the layers and on the last hidden state.
    """

    def __init__(self, features: int, hidden: int = 256, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.lstm = orthogonal_lstm(features, hidden, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output_dim = hidden

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F) -> (B, hidden)``. Raises ValueError for another number of axes or features."""
        features = self.lstm.input_size
        if x.ndim != 3 or x.shape[-1] != features:
            raise ValueError(f"series: expected (B, T, {features}), got {tuple(x.shape)}; build the encoder for the cohort's features")
        _, (state, _) = self.lstm(x)
        return self.dropout(state[-1])


class ResNetEncoder(nn.Module):
    """Residual network of torchvision on grey images (He, Zhang, Ren, Sun, CVPR 2016).

    Images are repeated over three channels and normalised with ImageNet's statistics inside. A training batch with a single
    image uses the running statistics of batch normalisation: one image has no batch statistics worth the name, and with 32
    pixels, where the last map is 1 x 1, it has none at all.

    Args:
        depth: 18, 34 (paper) or 50.
        pretrained: start from ImageNet weights; where they can neither be found nor reached, one warning and a random start.

    Raises:
        ValueError: another depth.
    """

    smallest = 32

    def __init__(self, depth: int = 34, pretrained: bool = False) -> None:
        super().__init__()
        from torchvision.models import get_model

        if depth not in (18, 34, 50):
            raise ValueError(f"image encoder: unknown depth {depth}; choose 18, 34 or 50")
        self.network = get_model(f"resnet{depth}", weights=None)
        if pretrained and (state := _imagenet_weights(f"resnet{depth}")) is not None:
            self.network.load_state_dict(state)
        self.output_dim = self.network.fc.in_features
        self.network.fc = nn.Identity()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W)`` in [0, 1] ``-> (B, output_dim)``. Raises ValueError for other axes or an image below 32 pixels."""
        if x.ndim != 3 or min(x.shape[1:]) < self.smallest:
            raise ValueError(f"image: expected (B, H, W) with H, W >= {self.smallest}, got {tuple(x.shape)}; prepare grey, larger images")
        x = (x.unsqueeze(1) - self.mean) / self.std
        if not self.training or x.shape[0] > 1:
            return self.network(x)
        return self._with_running_statistics(x)

    def _with_running_statistics(self, x: Tensor) -> Tensor:
        frozen = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
        for norm in frozen:
            norm.eval()
        try:
            return self.network(x)
        finally:
            for norm in frozen:
                norm.train()


class TextEncoder(nn.Module):
    """BERT over token ids, then the vector of [CLS] or the mean over tokens. The defaults are TinyBERT_General_4L_312D.

    References:
        Devlin, Chang, Lee, Toutanova, NAACL 2019 (BERT); Jiao et al., Findings of EMNLP 2020 (TinyBERT).

    Args:
        vocabulary: number of token ids.
        hidden: width, a multiple of ``heads``.
        layers: transformer blocks.
        heads: attention heads.
        intermediate: width of the feed-forward part.
        max_length: longest text in tokens.
        pretrained: a name on the model hub or a folder. A name that is neither on this machine nor reachable gives one warning and
            a random start of the architecture described by the other arguments.
        dropout: everywhere BERT has one.
        pooling: ``"cls"`` (paper), or ``"mean"`` over the tokens that are no padding.

    Raises:
        ValueError: an empty vocabulary, ``hidden`` not a multiple of ``heads``, a folder without a model, or a pretrained model
            with fewer positions than ``max_length``.
    """

    def __init__(
        self,
        vocabulary: int,
        hidden: int = 312,
        layers: int = 4,
        heads: int = 12,
        intermediate: int = 1200,
        max_length: int = 512,
        pretrained: str = "",
        dropout: float = 0.1,
        pooling: str = "cls",
    ) -> None:
        super().__init__()
        self.pooling = pooling
        if vocabulary < 1:
            raise ValueError(f"text encoder: a vocabulary of {vocabulary} ids; train the cohort's tokenizer before the model is built")
        if hidden % heads:
            raise ValueError(f"text encoder: hidden = {hidden} is not a multiple of heads = {heads}; change one of them")
        bert = _pretrained_bert(pretrained, vocabulary, max_length, dropout) if pretrained else None
        if bert is None:
            bert = _random_bert(vocabulary, hidden, layers, heads, intermediate, max_length, dropout)
        self.bert = bert.train()
        self.output_dim = self.bert.config.hidden_size

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """``{"input_ids", "attention_mask"}``, each ``(B, L) -> (B, hidden)``. Raises ValueError for a text that is too long."""
        ids, positions = x["input_ids"], self.bert.config.max_position_embeddings
        if ids.ndim != 2 or ids.shape[1] > positions:
            raise ValueError(
                f"text: expected token ids (B, L) with L <= {positions}, got {tuple(ids.shape)}; cut the texts when tokenising"
            )
        # four dimensions: transformers would ask the device whether a two-dimensional mask masks anything
        mask = x["attention_mask"].bool()[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        weight = x["attention_mask"].to(states.dtype)[..., None]
        return (states * weight).sum(dim=1) / weight.sum(dim=1)


class VectorEncoder(nn.Module):
    """One hidden layer on a modality that is a vector already, or that vector itself.

    Args:
        features: F, width of the vector.
        hidden: width of the hidden layer, which is ``output_dim``; 0 hands the vector through.
    """

    def __init__(self, features: int, hidden: int = 64) -> None:
        super().__init__()
        self.features = features
        self.network = nn.Sequential(nn.Linear(features, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.output_dim = hidden or features

    def forward(self, x: Tensor) -> Tensor:
        """``(B, F) -> (B, output_dim)``. Raises ValueError for another shape."""
        if x.ndim != 2 or x.shape[-1] != self.features:
            raise ValueError(f"vector: expected (B, {self.features}), got {tuple(x.shape)}; build the encoder for the cohort's features")
        return self.network(x)


def build_encoder(modality: Modality, config: EncoderConfig) -> nn.Module:
    """The encoder for a modality's kind.

    Args:
        modality: its kind and shape decide the class and its input.
        config: one group of settings for each kind.

    Raises:
        ValueError: a kind that has no encoder.
    """
    if modality.kind not in BUILDERS:
        raise ValueError(f"modality {modality.name!r}: no encoder for kind {modality.kind!r}; choose one of {', '.join(BUILDERS)}")
    return BUILDERS[modality.kind](modality, config)


def _series(modality: Modality, config: EncoderConfig) -> nn.Module:
    c = config.series
    return LSTMEncoder(modality.shape[-1], c.hidden, c.layers, c.dropout)


def _image(modality: Modality, config: EncoderConfig) -> nn.Module:
    return ResNetEncoder(config.image.depth, config.image.pretrained)


def _text(modality: Modality, config: EncoderConfig) -> nn.Module:
    c = config.text
    max_length = max(c.max_length, *modality.shape)
    return TextEncoder(modality.vocabulary, c.hidden, c.layers, c.heads, c.intermediate, max_length, c.pretrained, c.dropout, c.pooling)


def _vector(modality: Modality, config: EncoderConfig) -> nn.Module:
    return VectorEncoder(modality.shape[-1], config.vector.hidden)


BUILDERS: dict[str, Callable[[Modality, EncoderConfig], nn.Module]] = {
    "series": _series,
    "image": _image,
    "text": _text,
    "vector": _vector,
}


def _random_bert(vocabulary: int, hidden: int, layers: int, heads: int, intermediate: int, max_length: int, dropout: float) -> BertModel:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=max_length,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False)


def _pretrained_bert(name: str, vocabulary: int, max_length: int, dropout: float) -> BertModel | None:
    bert = _load_bert(name, dropout)
    if bert is None:
        return None
    if bert.config.max_position_embeddings < max_length:
        raise ValueError(f"{name} has {bert.config.max_position_embeddings} positions, max_length is {max_length}; lower max_length")
    if bert.config.vocab_size != vocabulary:
        _warn_once(
            f"{name} knows {bert.config.vocab_size} tokens, this cohort's tokenizer has {vocabulary}: the token embeddings start at "
            f"random, the transformer blocks as pretrained. Tokenise with {name}'s own tokenizer to keep both."
        )
        bert.config.vocab_size = vocabulary
        bert.embeddings.word_embeddings = nn.Embedding(vocabulary, bert.config.hidden_size, padding_idx=bert.config.pad_token_id)
        nn.init.normal_(bert.embeddings.word_embeddings.weight, std=bert.config.initializer_range)
    return bert


def _load_bert(name: str, dropout: float) -> BertModel | None:
    from huggingface_hub import constants
    from transformers import BertModel

    options = {"add_pooling_layer": False, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    try:
        return BertModel.from_pretrained(name, local_files_only=True, **options)
    except OSError as error:
        if Path(name).is_dir():
            raise ValueError(f"text encoder: no model in the folder {name}; give a folder written by save_pretrained") from error
    try:
        if not constants.HF_HUB_OFFLINE and _reachable(constants.ENDPOINT):
            return BertModel.from_pretrained(name, **options)
    except OSError:
        pass
    _warn_once(f"pretrained text encoder {name}: not on this machine and the hub cannot be reached; the network starts at random")
    return None


@cache
def pretrained_tokenizer(name: str) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a pretrained text encoder; None, with one warning, where it is neither on this machine nor reachable."""
    from huggingface_hub import constants
    from transformers import AutoTokenizer

    for options in ({"local_files_only": True}, {}):
        if not options and (constants.HF_HUB_OFFLINE or not _reachable(constants.ENDPOINT)):
            break
        try:
            return AutoTokenizer.from_pretrained(name, **options)
        except (OSError, ValueError):
            continue
    _warn_once(f"tokenizer of {name}: not on this machine and the hub cannot be reached; one is trained on the cohort's texts")
    return None


def _imagenet_weights(name: str) -> dict[str, Tensor] | None:
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    stored = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if stored.is_file() or _reachable(weights.url):
        try:
            return weights.get_state_dict(progress=False, check_hash=True)
        except OSError:
            pass
    _warn_once(f"ImageNet weights of {name}: not on this machine and {weights.url} cannot be reached; the network starts at random")
    return None


@cache
def _reachable(url: str, seconds: float = 3.0) -> bool:
    """Whether a server answers at all; asked before a client that would retry for half a minute."""
    try:
        urlopen(Request(url, method="HEAD"), timeout=seconds).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
