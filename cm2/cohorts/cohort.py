"""A prepared cohort: verified, memory-mapped, split, tokenised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import Tensor

from cm2.batch import Modality
from cm2.cohorts.disclosure import Disclosure, Group
from cm2.cohorts.files import read_array, read_frame, read_stays
from cm2.cohorts.format import MANIFEST, PRESENT, SPLITS, STAYS
from cm2.cohorts.missingness import check, take_away
from cm2.cohorts.stays import Stays
from cm2.cohorts.text import tokenise, train_tokenizer
from cm2.config.names import choose, did_you_mean
from cm2.errors import InputError
from cm2.kinds import kind
from cm2.tasks import Task, known_stays, task_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")


class Cohort:
    """A prepared cohort; get one from ``load_cohort``.

    Args:
        path: folder of the cohort.
        manifest: the parsed ``manifest.json``.
        max_length: maximal number of tokens of a document; longer ones are truncated.
        vocabulary_size: vocabulary of the tokenizer trained on the training texts.
        tokenizer: used instead of a trained one, for example that of a pretrained model.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        max_length: int = 512,
        vocabulary_size: int = 2000,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.max_length = max_length
        self.vocabulary_size = vocabulary_size
        self.stays = read_stays(path / STAYS, manifest)
        self.present = self.stays[[f"{PRESENT}{name}" for name in manifest["modalities"]]].to_numpy(dtype=bool)
        self._given = tokenizer
        self._cache: dict[tuple[str, str], Any] = {}
        self._stamps = _stamps(path, manifest)

    def __getstate__(self) -> dict[str, Any]:
        """Drops the memory maps: pickling would copy the arrays, and the receiving process can open the files itself."""
        small = {key: value for key, value in self._cache.items() if key[0] != "array"}
        return self.__dict__ | {"path": self.path.absolute(), "_cache": small}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """On another machine the same files have other stamps.

        Raises:
            ValueError: the cohort is not there.
        """
        self.__dict__.update(state)
        if not (self.path / MANIFEST).is_file():
            raise InputError(f"{self.path} is not on this machine; workers have to share the file system with the cohort")
        self._stamps = _stamps(self.path, self.manifest)

    def check_unchanged(self) -> None:
        """Compares size, date and place of every file with those when the cohort was opened: memory maps show what is written later.

        Raises:
            ValueError: a file was changed, replaced or removed since.
        """
        now = _stamps(self.path, self.manifest)
        if changed := [name for name, stamp in self._stamps.items() if now[name] != stamp]:
            raise InputError(f"{self.path / changed[0]} was changed after the cohort was opened; open it again, or prepare it again")

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} {self.disclosure.count(n)}" for name, n in self.manifest["splits"].items())
        made_up = ", fabricated" if self.disclosure.fabricated else ""
        return f"Cohort({self.name!r}{made_up}, {len(self.stays):,} stays: {splits}; {', '.join(self.manifest['modalities'])})"

    @property
    def name(self) -> str:
        """For example ``physionet2012``."""
        return self.manifest["name"]

    @property
    def checksum(self) -> str:
        """SHA-256 over the files' checksums: equal for equal data, whenever and wherever they were prepared."""
        return self.manifest["checksum"]

    @property
    def credentialed(self) -> bool:
        """Whether the data are under a use agreement, under which no count below ten may be shown."""
        return self.disclosure.credentialed

    @property
    def disclosure(self) -> Disclosure:
        """What may be shown of the cohort: nothing leaves it, or the runs on it, by another way."""
        return Disclosure.of(self.manifest)

    def outcomes(self, task: str, split: str | None = None) -> Group:
        """How many stays of a split, or of all, have a known outcome and how many a positive one, whatever their modalities.

        Of a task that is not binary, how many have a known outcome.
        """
        label = self.label(task)
        known = label[known_stays(label) & (True if split is None else (self.stays["split"] == split).to_numpy())]
        return Group(len(known), self.task(task).positives(known))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the outcomes."""
        return tuple(self.manifest["tasks"])

    def task(self, name: str) -> Task:
        """What is predicted under this name.

        Raises:
            ValueError: the cohort has no such task.
        """
        if name not in self.tasks:
            raise InputError(f"unknown task {name!r}; the cohort {self.name} has {', '.join(self.tasks)}")
        return task_of(name, self.manifest["tasks"][name])

    def label(self, name: str) -> np.ndarray:
        """Labels of all stays for a task ``(n,)`` or ``(n, L)`` float64, NaN where unknown. Raises ValueError as `task`."""
        return self.task(name).read(self.stays)

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities in the order of the columns of ``present``; a text's length and vocabulary are those of the tokenizer in use."""
        return tuple(self._modality(name, entry) for name, entry in self.manifest["modalities"].items())

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return self._given or self.tokenizer(self.max_length, self.vocabulary_size)

    @property
    def text_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer in use: the one given, or one trained on the training texts."""
        return self._tokenizer

    @property
    def trains_tokenizer(self) -> bool:
        """Whether it is trained on the cohort's texts, so that its vocabulary tells of them."""
        return self._given is None

    @property
    def padding(self) -> int:
        """Id of the tokenizer's padding token."""
        return int(self._tokenizer.pad_token_id)

    @property
    def vocabulary(self) -> int:
        """Number of token ids of the tokenizer in use."""
        return len(self._tokenizer)

    def with_text(self, max_length: int = 512, vocabulary_size: int = 2000, tokenizer: PreTrainedTokenizerBase | None = None) -> Cohort:
        """The same cohort with its texts truncated and tokenised differently; see the class for the arguments."""
        if (max_length, vocabulary_size, tokenizer) == (self.max_length, self.vocabulary_size, self._given):
            return self
        return self._opened(Cohort(self.path, self.manifest, max_length, vocabulary_size, tokenizer))

    def _opened(self, other: Cohort) -> Cohort:
        """Another view of the same files, opened when this one was."""
        other._stamps = self._stamps
        return other

    def with_modalities(self, names: Sequence[str] = ()) -> Cohort:
        """The same cohort restricted to these modalities, in this order; all of them if ``names`` is empty.

        Raises:
            ValueError: a modality the cohort does not have, or one named twice.
        """
        names = list(names) or list(self.manifest["modalities"])
        if names == list(self.manifest["modalities"]):
            return self
        if len(set(names)) < len(names):
            raise InputError(f"modalities: {', '.join(names)} names one twice")
        manifest = self.manifest | {"modalities": {name: self._entry(name) for name in names}}
        return self._opened(Cohort(self.path, manifest, self.max_length, self.vocabulary_size, self._given))

    def tokenizer(self, max_length: int = 512, vocabulary_size: int = 2000) -> PreTrainedTokenizerBase:
        """A WordPiece tokenizer trained on the training split's texts of all text modalities.

        Raises:
            ValueError: the cohort has no training text, or the sizes are too small.
        """
        train = (self.stays["split"] == "train").to_numpy()
        names = [name for name, entry in self.manifest["modalities"].items() if kind(entry["kind"]).tokenised]
        texts = [text for name in names for text, use in zip(self._texts(name), train, strict=True) if use and text is not None]
        return train_tokenizer(texts, vocabulary_size, max_length)

    def array(self, name: str) -> np.ndarray:
        """Memory map of all stays: series ``(n, T, F)``, images ``(n, H, W)`` or ``(n, H, W, 3)`` uint8, vectors ``(n, F)``."""
        return self._cached("array", name, lambda: read_array(self.path / self._entry(name)["file"]))

    def texts(self, name: str) -> list[str | None]:
        """Texts of a modality, all stays; None where missing."""
        return self._cached("texts", name, lambda: self._read_texts(name))

    def _texts(self, name: str) -> list[str | None]:
        """As ``texts``, for one use: all texts of a large cohort are not kept in memory beside their tokens."""
        return self._cache[known] if (known := ("texts", name)) in self._cache else self._read_texts(name)

    def tokens(self, name: str) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask`` of a text modality, all stays: ``(n, L)`` or ``(n, documents, L)``, L <= ``max_length``."""
        return self._tokenised(name)[0]

    def texts_cut(self, name: str) -> int:
        """Number of documents truncated to ``max_length``."""
        return self._tokenised(name)[1]

    def _tokenised(self, name: str) -> tuple[dict[str, Tensor], int]:
        return self._cached("tokens", name, lambda: tokenise(self._texts(name), self._tokenizer, self.max_length))

    def summary(self, name: str) -> np.ndarray:
        """How extreme a modality's value is in each stay: ``(n,)`` float64.

        For series and vectors the mean square of the (standardised) values, for images the mean grey level, for texts the number of
        words. Missingness that is not completely at random depends on it.
        """
        return self._cached("summary", name, lambda: kind(self._entry(name)["kind"]).extremity(self, name))

    def split(
        self,
        split: str,
        task: str,
        absent: Mapping[str, float] | None = None,
        mechanism: str = "mcar",
        seed: int = 0,
        matched: bool = False,
    ) -> Stays:
        """The stays of a split with a known outcome and at least one modality, optionally with further modalities masked.

        Args:
            split: ``train``, ``valid`` or ``test``.
            task: name of the outcome.
            absent: fraction of stays whose modality is masked, by modality; see ``cm2.cohorts.missingness``.
            mechanism: ``mcar``, ``mar`` or ``mnar``.
            seed: seed of the masking, a stable hash of the stay.
            matched: only stays with all modalities observed before masking.

        Raises:
            ValueError: an unknown split, task, modality or mechanism, a rate outside [0, 1], or a split without stays.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; {choose(split, SPLITS)}")
        label = self.label(task)
        names = list(self.manifest["modalities"])
        absent = dict(absent or {})
        check(names, absent, mechanism)
        has = self.present.all(axis=1) if matched else self.present.any(axis=1)
        rows = np.flatnonzero((self.stays["split"] == split).to_numpy() & known_stays(label) & has)
        if not len(rows):
            lacking = f" and all of {', '.join(names)}" if matched else ""
            raise InputError(
                f"the {split} split of {self.name} has no stay with a known {task}{lacking}; prepare the cohort with more stays"
            )
        stay_id = self.stays["stay_id"].to_numpy()[rows]
        present, kept = take_away(self.present[rows], stay_id, names, absent, mechanism, seed, lambda name: self.summary(name)[rows])
        return Stays(self, rows, label[rows], present, kept, self.task(task))

    def _cached(self, what: str, name: str, compute: Callable[[], T]) -> T:
        if (what, name) not in self._cache:
            self._cache[what, name] = compute()
        return self._cache[what, name]

    def _entry(self, name: str) -> dict[str, Any]:
        entries = self.manifest["modalities"]
        if name not in entries:
            raise InputError(f"unknown modality {name!r}; the cohort {self.name} has {', '.join(entries)}{did_you_mean(name, entries)}")
        return entries[name]

    def _modality(self, name: str, entry: dict[str, Any]) -> Modality:
        return kind(entry["kind"]).modality(self, name, entry)

    def _read_texts(self, name: str) -> list[str | None]:
        frame = read_frame(self.path / self._entry(name)["file"], ("stay_id", "text"))
        if not frame["stay_id"].equals(self.stays["stay_id"]):
            raise InputError(f"{self._entry(name)['file']}: its stays are not those of stays.parquet in the same order; prepare again")
        return [text if isinstance(text, str) else None for text in frame["text"]]


def _stamps(path: Path, manifest: Mapping[str, Any]) -> dict[str, tuple[int, int, int] | None]:
    """Size, date of change and inode of every file of a cohort; None where it is missing."""
    found = {name: path / name for name in manifest["sizes"]}
    stats = {name: file.stat() if file.exists() else None for name, file in found.items()}
    return {name: None if stat is None else (stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats.items()}
