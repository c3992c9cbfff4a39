"""Opening a prepared cohort: its manifest and files are verified first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cm2.cohorts.cohort import Cohort
from cm2.cohorts.format import MANIFEST, combined_checksum, read_manifest
from cm2.durable import file_sha256
from cm2.errors import InputError
from cm2.kinds import kind
from cm2.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_cohort(
    path: Path | str,
    verify: bool = True,
    max_length: int = 512,
    vocabulary_size: int = 2000,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Cohort:
    """Opens a prepared cohort.

    Args:
        path: folder written by ``cm2 prepare``.
        verify: compare the SHA-256 of every file; sizes are always compared.
        max_length: maximal number of tokens of a document; longer ones are truncated.
        vocabulary_size: vocabulary of the tokenizer trained on the training texts.
        tokenizer: used instead of a trained one.

    Raises:
        ValueError: no manifest, another format, a missing file, or one whose size, checksum or shape differs from the manifest's.
    """
    path = Path(path)
    manifest = read_manifest(path)
    _verify_files(path, manifest, verify)
    cohort = Cohort(path, manifest, max_length, vocabulary_size, tokenizer)
    for name, entry in manifest["modalities"].items():
        try:
            known = kind(entry["kind"])
        except ValueError as error:
            raise InputError(f"{path / MANIFEST}: modality {name}: {error}; prepare the cohort again") from None
        known.check(cohort, name, entry)
    return cohort


def _verify_files(path: Path, manifest: dict[str, Any], verify: bool) -> None:
    checksums = manifest["checksums"]
    total = combined_checksum(checksums)
    if total != manifest["checksum"]:
        raise InputError(
            f"{path / 'manifest.json'}: its checksum is {manifest['checksum']}, its files give {total}; prepare the cohort again"
        )
    sizes = manifest["sizes"]
    with Progress(f"checking {path.name}", len(sizes), "file", even=False) as progress:
        for name in progress.each(sizes):
            file = path / name
            if not file.is_file():
                raise InputError(f"{file} is missing, though the manifest lists it; prepare the cohort again")
            if file.stat().st_size != sizes[name]:
                raise InputError(f"{file} has {file.stat().st_size} bytes, the manifest says {sizes[name]}; prepare the cohort again")
            if verify and (given := file_sha256(file)) != checksums[name]:
                raise InputError(f"{file}: wrong checksum {given}, the manifest says {checksums[name]}; prepare the cohort again")
