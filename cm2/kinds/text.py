"""Texts: notes and reports, one or several documents per stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from torch import Tensor

from cm2.batch import Modality, Value
from cm2.config import EncoderConfig
from cm2.errors import InputError
from cm2.kinds.contract import Data, Fault, Kind, Stored
from cm2.networks.encoders import Encoder, TextEncoder, text_digest


class Text(Kind):
    """Texts: stored as strings in ``<name>.parquet``, read as token ids and masks ``(L,)`` or, with several documents, ``(D, L)``."""

    name: ClassVar[str] = "text"
    tokenised: ClassVar[bool] = True
    sequence: ClassVar[bool] = True

    def example(self, n: int, rng: np.random.Generator) -> Data:
        """Three to six words."""
        return [" ".join(rng.choice(["lungs", "clear", "no", "effusion"], size=rng.integers(3, 7))) for _ in range(n)]

    def fault(self, data: Data, present: np.ndarray) -> Fault | None:
        """Anything but a text where it is observed."""
        if isinstance(data, np.ndarray) and data.ndim != 1:
            return None, f"texts are a list of n strings, got an array of shape {data.shape}; join the documents of a stay with form feeds"
        for row in np.flatnonzero(present):
            if not isinstance(data[row], str):
                return int(row), f"has no text but {_article(data[row])}; give a string, or mark the modality as missing"
        return None

    def write(self, folder: Path, name: str, data: Data, present: np.ndarray, stay_id: pd.Series) -> tuple[str, list[int]]:
        """Writes a null for a missing text."""
        file = f"{name}.parquet"
        texts = [text if there else None for text, there in zip(data, present, strict=True)]
        pd.DataFrame({"stay_id": stay_id, "text": pd.array(texts, dtype="str")}).to_parquet(folder / file, index=False)
        return file, []

    def check(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> None:
        """Compares columns, types and number of rows; ``Cohort.texts`` checks the order of the stays when it reads them."""
        file = stored.path / entry["file"]
        try:
            content = parquet.ParquetFile(file)
            types = {field.name: str(field.type) for field in content.schema_arrow}
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file} is not a table of texts ({error}); prepare the cohort again") from None
        if types.get("stay_id") != "int64" or types.get("text") not in ("string", "large_string", "null"):
            raise InputError(f"{file}: expected stay_id (int64) and text, got {types}; prepare the cohort again")
        if content.metadata.num_rows != len(stored.stays):
            raise InputError(f"{file}: {content.metadata.num_rows} texts for {len(stored.stays)} stays; prepare the cohort again")

    def misplaced(self, stored: Stored, name: str, present: np.ndarray) -> tuple[str, str]:
        """A missing text is null, and no other."""
        texts = stored.texts(name)
        filled = sum(texts[row] is not None for row in np.flatnonzero(~present))
        lacking = sum(texts[row] is None for row in np.flatnonzero(present))
        return f"{name}: a text exactly where it is observed", f"{filled} too many, {lacking} too few" if filled or lacking else ""

    def modality(self, stored: Stored, name: str, entry: Mapping[str, Any]) -> Modality:
        """Length and vocabulary are those of the tokenizer in use."""
        return Modality(name, self.name, tuple(stored.tokens(name)["input_ids"].shape[1:]), stored.vocabulary)

    def values(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> Value:
        """Ids and masks, as wide as the longest document of the batch; padding where missing."""
        return self.ready(self.raw(stored, name, rows, present), present, present)

    def raw(self, stored: Stored, name: str, rows: np.ndarray, present: Tensor) -> dict[str, Tensor]:
        """The same, ids as int32 and masks as bool."""
        tokens = stored.tokens(name)
        mask = tokens["attention_mask"][rows] & present.view(-1, *[1] * (tokens["attention_mask"].ndim - 1))
        value = {"input_ids": tokens["input_ids"][rows].masked_fill(~mask, stored.padding), "attention_mask": mask}
        return self.cut(value, int(self.lengths(value).max()) if len(rows) else 1)

    def ready(self, value: Value, rows: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Both as int64."""
        assert isinstance(value, dict)
        return {part: tensor.long() for part, tensor in value.items()}

    def lengths(self, value: Value) -> Tensor:
        """Tokens of the longest document; 0 without a text."""
        assert isinstance(value, dict)
        documents = value["attention_mask"].sum(dim=-1)
        return documents if documents.ndim == 1 else documents.flatten(1).amax(dim=1)

    def cut(self, value: Value, length: int) -> dict[str, Tensor]:
        """At least one token wide."""
        assert isinstance(value, dict)
        return {part: tensor[..., : max(length, 1)] for part, tensor in value.items()}

    def alike(self, first: Stored, second: Stored, name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Equal strings."""
        here, there = first.texts(name), second.texts(name)
        return np.array([here[i] == there[j] for i, j in zip(a, b, strict=True)], dtype=bool)

    def extremity(self, stored: Stored, name: str) -> np.ndarray:
        """Number of words."""
        return np.array([len((text or "").split()) for text in stored.texts(name)], dtype=np.float64)

    def build_encoder(self, modality: Modality, config: EncoderConfig) -> Encoder:
        """A BERT (paper)."""
        c = config.text
        max_length = max(c.max_length, modality.shape[-1])
        sizes = (modality.vocabulary, c.hidden, c.layers, c.heads, c.intermediate, max_length)
        return TextEncoder(*sizes, c.pretrained, c.dropout, c.pooling, c.trainable_blocks, c.allow_random_start)

    def starts_from(self, config: EncoderConfig) -> str:
        """Of the pretrained model, if there is one."""
        return text_digest(config.text.pretrained, config.text.allow_random_start) if config.text.pretrained else ""

    def feature_ndim(self, config: EncoderConfig) -> int:
        """A vector for each token, ``(B, L, C)``."""
        return 3


def _article(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
