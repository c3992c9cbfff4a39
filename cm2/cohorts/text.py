"""Tokenisation of texts with a WordPiece vocabulary trained on the cohort's training texts, or by bytes.

A text may consist of several documents separated by form feeds, for example the last five notes of a stay; each is tokenised separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from cm2.cohorts.format import SEPARATOR
from cm2.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

AT_ONCE = 2048
"""Documents encoded at a time: what the tokenizer returns takes a hundred bytes for each token."""
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def train_tokenizer(texts: Sequence[str], vocabulary_size: int = 2000, max_length: int = 512) -> PreTrainedTokenizerFast:
    """A BERT tokenizer (lower case, WordPiece, ``[CLS] ... [SEP]``) trained on texts; the same texts give the same vocabulary.

    Args:
        texts: texts of the training split.
        vocabulary_size: approximate number of ids, the five special tokens included; at least enough for every letter.
        max_length: stored as the tokenizer's ``model_max_length``.

    Raises:
        ValueError: no text, a vocabulary without room for a word, or a length below three tokens.
    """
    from transformers import PreTrainedTokenizerFast

    if not texts:
        raise InputError("tokenizer: there is no training text; use a cohort whose training stays have one, or pass a tokenizer")
    if vocabulary_size <= len(SPECIAL):
        raise InputError(f"vocabulary_size: got {vocabulary_size}; {len(SPECIAL)} are special tokens, give more")
    if max_length < 3:
        raise InputError(f"max_length: got {max_length}; [CLS], one token and [SEP] need 3")
    texts = [document for text in texts for document in text.split(SEPARATOR)]
    tokenizer = _empty({})
    tokenizer = _empty(_vocabulary(tokenizer, texts, vocabulary_size))
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    tokenizer.post_processor = _framed(tokenizer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL)


@cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the bytes of UTF-8, in lower case, ``[CLS] ... [SEP]``: its 261 ids are the same whatever the texts.

    A vocabulary that was learnt from texts holds their words; this one may leave the place where patients' notes are.
    """
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL.values(), *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL.values()))
    tokenizer.post_processor = _framed(tokenizer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def _framed(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )


def _empty(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _vocabulary(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> dict[str, int]:
    # The trainer numbers "##x" pieces in the order of a randomised hash map and breaks ties between merges by number. Passing every
    # such piece as a special token fixes the numbers, and with them the vocabulary that the same texts give in every process.
    alphabet = sorted({letter for text in texts for letter in tokenizer.normalizer.normalize_str(text) if not letter.isspace()})
    fixed = [*SPECIAL.values(), *(f"##{letter}" for letter in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(size, len(SPECIAL) + 2 * len(alphabet)), special_tokens=fixed, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


def tokenise(texts: Sequence[str | None], tokenizer: PreTrainedTokenizerBase, max_length: int) -> tuple[dict[str, Tensor], int]:
    """Token ids and attention masks of texts, padded to the longest document or to ``max_length``.

    Args:
        texts: n texts; a missing one (None) gives padding only.
        tokenizer: any transformers tokenizer with a padding token.
        max_length: longer documents are truncated.

    Returns:
        ``{"input_ids", "attention_mask"}``, int32 and bool ``(n, L)`` with L <= ``max_length``, or ``(n, D, L)`` if texts have up to D > 1
        documents; and the number of truncated documents.
    """
    split = [(text or "").split(SEPARATOR) for text in texts]
    documents = max((len(parts) for parts in split), default=1)
    flat = [document for parts in split for document in [*parts, *[""] * (documents - len(parts))]]
    lengths: list[int] = []
    there = [text is not None and i < len(parts) for text, parts in zip(texts, split, strict=True) for i in range(documents)]
    encoded: list[np.ndarray] = []
    for start in range(0, len(flat), AT_ONCE):
        block = tokenizer(flat[start : start + AT_ONCE], truncation=False, padding=False, verbose=False)["input_ids"]
        # truncated before the closing [SEP]
        encoded += [np.array(ids if len(ids) <= max_length else [*ids[: max_length - 1], ids[-1]], dtype=np.int32) for ids in block]
        lengths += [len(ids) if has else 0 for ids, has in zip(block, there[start : start + AT_ONCE], strict=True)]
    width = min(max_length, max(lengths, default=1) or 1)
    ids = torch.full((len(encoded), width), tokenizer.pad_token_id, dtype=torch.int32)
    for row, (tokens, length) in enumerate(zip(encoded, lengths, strict=True)):
        if length:
            ids[row, : len(tokens)] = torch.from_numpy(tokens)
    mask = torch.arange(width) < torch.tensor(lengths, dtype=torch.int32)[:, None]
    shape = (-1, width) if documents == 1 else (-1, documents, width)
    return {"input_ids": ids.view(shape), "attention_mask": mask.view(shape)}, sum(length > width for length in lengths)
