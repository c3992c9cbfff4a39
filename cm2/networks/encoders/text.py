"""Text encoders."""

from __future__ import annotations

import hashlib
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cm2.environment.hub import hub_errors
from cm2.errors import InputError
from cm2.networks.encoders.base import Encoder
from cm2.networks.encoders.features import Features
from cm2.networks.encoders.freezing import freeze
from cm2.networks.encoders.pretrained import (
    RANDOM,
    MissingWeightsError,
    absent,
    only_architectures,
    pretrained_tokenizer,
    reachable,
    stamp,
    warn_once,
)

if TYPE_CHECKING:
    from transformers import BertModel


class TextEncoder(Encoder):
    """BERT over token ids, then the state of [CLS] or the mean over tokens. The defaults are TinyBERT_General_4L_312D.

    Several documents of one text pass through BERT separately; their vectors are averaged (as in the released code, for the last five
    notes of a stay and for the sections of a report).

    References:
        Devlin, Chang, Lee, Toutanova, NAACL 2019 (BERT); Jiao et al., Findings of EMNLP 2020 (TinyBERT).

    Args:
        vocabulary: number of token ids.
        hidden: width, a multiple of ``heads``.
        layers: transformer blocks.
        heads: attention heads.
        intermediate: width of the feed-forward part.
        max_length: longest text in tokens.
        pretrained: a folder, or a name on the model hub that is on this machine or reachable; empty for a random initialisation of the
            architecture described by the other arguments.
        dropout: dropout rate everywhere in BERT.
        pooling: ``"cls"`` (paper), or ``"mean"`` over the tokens that are not padding.
        trainable_blocks: how many of the last blocks are trained, with what follows them; 0: none; -1: everything.
        allow_random_start: whether a pretrained model that is not there gives way to a random start.

    Raises:
        ValueError: an empty vocabulary, ``hidden`` not a multiple of ``heads``, a folder without a model, a name that is neither
            on this machine nor reachable, or a pretrained model with fewer positions than ``max_length``.
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
        trainable_blocks: int = -1,
        allow_random_start: bool = False,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        if vocabulary < 1:
            raise InputError(f"text encoder: a vocabulary of {vocabulary} ids; train the cohort's tokenizer before the model is built")
        if hidden % heads:
            raise InputError(f"text encoder: hidden = {hidden} is not a multiple of heads = {heads}; change one of them")
        bert = None
        if pretrained:
            try:
                bert = _pretrained_bert(pretrained, vocabulary, max_length, dropout)
            except MissingWeightsError:
                if not allow_random_start:
                    raise
        if bert is None:
            bert = _random_bert(vocabulary, hidden, layers, heads, intermediate, max_length, dropout)
        freeze(bert, trainable_blocks, "encoder.text.trainable_blocks")
        self.pretrained, self.bert = pretrained, bert
        self.train()
        self.output_dim = self.feature_dim = self.bert.config.hidden_size

    def features(self, x: dict[str, Tensor]) -> Features:
        """Token states of the last block, with the mask of padding.

        Args:
            x: ``{"input_ids", "attention_mask"}``, both ``(B, L)`` or ``(B, documents, L)``.

        Returns:
            ``(B, L, hidden)`` or ``(B, documents, L, hidden)``.

        Raises:
            ValueError: another shape, or texts that are too long.
        """
        ids, positions = x["input_ids"], self.bert.config.max_position_embeddings
        if ids.ndim not in (2, 3) or ids.shape[-1] > positions:
            raise InputError(
                f"text: expected token ids (B, L) or (B, documents, L) with L <= {positions}, got {tuple(ids.shape)}; "
                "cut the texts when tokenising"
            )
        real, length = x["attention_mask"].bool(), ids.shape[-1]
        # a document of padding alone attends to its first token: a softmax over nothing is NaN
        seen = (real | (torch.arange(length, device=ids.device) == 0)).flatten(0, -2)
        # four dimensions: for a two-dimensional mask transformers would wait for the device, to see whether it masks anything
        mask = seen[:, None, None, :].expand(-1, 1, length, -1)
        states = self.bert(input_ids=ids.flatten(0, -2), attention_mask=mask).last_hidden_state
        return Features(states.view(*ids.shape, -1), real)

    def compilable(self) -> tuple[nn.Module]:
        """All of BERT."""
        return (self.bert,)

    def pool(self, features: Features) -> Tensor:
        """The state of [CLS] averaged over documents, or the mean over all tokens, ``(B, hidden)``."""
        if self.pooling == "mean":
            return features.mean()
        first = features.values[..., 0, :]
        if first.ndim == 2:
            return first
        assert features.mask is not None
        return Features(first, features.mask[..., 0]).mean()


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


def _pretrained_bert(name: str, vocabulary: int, max_length: int, dropout: float) -> BertModel:
    bert = _load_bert(name, dropout)
    if bert.config.max_position_embeddings < max_length:
        raise InputError(f"{name} has {bert.config.max_position_embeddings} positions, max_length is {max_length}; lower max_length")
    if bert.config.vocab_size != vocabulary:
        warn_once(
            f"{name} knows {bert.config.vocab_size} tokens, this cohort's tokenizer has {vocabulary}: the token embeddings start at "
            f"random, the transformer blocks as pretrained. Tokenise with {name}'s own tokenizer to keep both."
        )
        bert.config.vocab_size = vocabulary
        bert.embeddings.word_embeddings = nn.Embedding(vocabulary, bert.config.hidden_size, padding_idx=bert.config.pad_token_id)
        nn.init.normal_(bert.embeddings.word_embeddings.weight, std=bert.config.initializer_range)
    return bert


def text_digest(name: str, allow_random_start: bool = False) -> str:
    """SHA-256 over what a text encoder starts from: weights, configuration and tokenizer of a pretrained model.

    Args:
        name: a folder, or a name on the model hub.
        allow_random_start: whether to return `RANDOM` if it is not there.

    Raises:
        ValueError: it is neither on this machine nor reachable.
    """
    try:
        return _digest(name, stamp(name))
    except MissingWeightsError:
        if not allow_random_start:
            raise
        return RANDOM


@cache
def _digest(name: str, _: object) -> str:
    bert, tokenizer = _load_bert(name, 0.0), pretrained_tokenizer(name)
    digest = hashlib.sha256(repr(sorted(tokenizer.get_vocab().items()) if tokenizer is not None else None).encode())
    for key, tensor in sorted(bert.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _load_bert(name: str, dropout: float) -> BertModel:
    from huggingface_hub import constants
    from transformers import BertConfig, BertModel

    if (known := only_architectures()) is not None and name in known:
        return BertModel(BertConfig.from_dict(known[name]), add_pooling_layer=False)
    rates: dict[str, Any] = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    load = partial(BertModel.from_pretrained, name, add_pooling_layer=False, weights_only=True, **rates)
    try:
        return load(local_files_only=True)
    except OSError as error:
        if Path(name).is_dir():
            raise InputError(f"text encoder: no model in the folder {name}; give a folder written by save_pretrained") from error
    try:
        if not constants.HF_HUB_OFFLINE and reachable(constants.ENDPOINT):
            return load()
    except hub_errors():
        pass
    raise MissingWeightsError(f"pretrained text encoder {name}: {absent('the hub', 'encoder.text.pretrained=')}")
