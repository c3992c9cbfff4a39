"""Saving a run's model in a folder of its own, and sending it to the model hub."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cm2.config.files import read_json, read_text
from cm2.durable import file_sha256, whole_or_nothing, write_json, write_text
from cm2.environment.hub import hub_errors, unreached
from cm2.errors import InputError
from cm2.escape import one_line
from cm2.methods.saved import CARD, DESCRIPTION, TOKENIZER, WEIGHTS
from cm2.runs.card import card
from cm2.runs.description import FROM_TEXTS

MODEL = "model.json"
"""In a run's folder: what describes its model, see `cm2.runs.description.describe`; runs of earlier versions have none."""


def save(
    path: Path, description: Mapping[str, Any], tokenizer: str, metrics: Mapping[str, Any], source: Mapping[str, Any], out: Path
) -> Path:
    """Writes the model of a run; see `cm2.runs.run.Run.save_pretrained`.

    Args:
        path: folder of the run.
        description: of the model.
        tokenizer: text of its file; empty without texts.
        metrics: of the run.
        source: provenance of the run.
        out: a new folder.

    Returns:
        ``out``.

    Raises:
        InputError: the vocabulary comes from the texts of a credentialed cohort.
        OSError: ``out`` holds something.
    """
    _check_vocabulary(path, description)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} holds something already; give a new folder")
    with whole_or_nothing(out) as folder:
        shutil.copyfile(path / WEIGHTS, folder / WEIGHTS)
        write_json(folder / DESCRIPTION, {**description, "weights_sha256": file_sha256(folder / WEIGHTS)}, ensure_ascii=False)
        if tokenizer:
            write_text(folder / TOKENIZER, tokenizer)
        write_text(folder / CARD, card(description, metrics, source))
    return out


def push(path: Path, name: str, description: Mapping[str, Any], private: bool, token: str | None) -> str:
    """Sends a saved model to the model hub; see `cm2.runs.run.Run.push_to_hub`.

    Args:
        path: folder with the model.
        name: on the hub, such as ``me/model``.
        description: of the model.
        private: whether only its owner sees it.
        token: of the hub.

    Returns:
        The address of the model.

    Raises:
        InputError: a model of a credentialed cohort that is to be public, or a hub that refuses or cannot be reached.
    """
    check_public(description, private)
    from huggingface_hub import HfApi

    hub = HfApi(token=token)
    try:
        address = hub.create_repo(name, repo_type="model", private=private, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=path, repo_type="model", commit_message="A model of cm2")
    except hub_errors() as error:
        if unreached(error):
            remedy = "the saved folder can be sent from elsewhere: hf upload NAME FOLDER"
            raise InputError(f"{name}: the model hub cannot be reached ({one_line(error):.120}); try again, or {remedy}") from None
        raise InputError(f"{name}: the model hub refuses ({one_line(error):.160}); see whether you are logged in (hf auth login)") from None
    return str(address)


def check_public(description: Mapping[str, Any], private: bool) -> None:
    """Raises InputError for a model of a credentialed cohort that everybody could fetch."""
    if description["cohort"]["credentialed"] and not private:
        raise InputError(
            f"the model was trained on {description['cohort']['name']}, which is under a data use agreement: a public copy would break it; "
            "keep it private, or share it where the data are, with the same access"
        )


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="cm2-")


def stored_tokenizer(path: Path) -> str:
    """The tokenizer that a run's folder holds; empty without texts."""
    return read_text(path / TOKENIZER).removesuffix("\n") if (path / TOKENIZER).is_file() else ""


def stored_description(path: Path) -> dict[str, Any] | None:
    """What a run's folder tells of its model; None if the run was stored by an earlier version."""
    return read_json(path / MODEL) if (path / MODEL).is_file() else None


def _check_vocabulary(path: Path, description: Mapping[str, Any]) -> None:
    tokenizer = description.get("tokenizer")
    if tokenizer is not None and description["cohort"]["credentialed"] and tokenizer["origin"] == FROM_TEXTS:
        raise InputError(
            f"{path}: the vocabulary was learnt from the texts of {description['cohort']['name']}, which is under a data use agreement, and"
            " holds their words; train with --set encoder.text.tokenizer=bytes, or with a pretrained text encoder, and save that model"
        )
