"""Checkpoints of a training, to continue from after a kill: written whole or not at all, checked, and read without unpickling."""

from __future__ import annotations

import shutil
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from cm2.durable import replaced
from cm2.errors import InputError
from cm2.runs.run import BEST, LAST, PRETRAINING
from cm2.runs.watching import readable

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


_ENTRIES = ("epoch", "state_dict", "optimizer_states", "history", "callbacks")


class DurableCheckpoints(CheckpointIO):
    """How Lightning writes and reads checkpoints.

    Its own way writes into the folder for temporary files and moves the result, which is a copy if the store is on another file system:
    a kill or a full disk then leaves half a file under the checkpoint's name. The paths that Lightning's callbacks store are names here,
    so that a run continues wherever its folder has been moved to.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Replaces the file. Raises OSError if the disk is full."""
        if "callbacks" in checkpoint:
            checkpoint = {**checkpoint, "callbacks": readable(checkpoint["callbacks"])}
        with replaced(Path(path)) as part, part.open("wb") as file:
            torch.save(_with_paths(checkpoint, lambda name: Path(name).name if name else ""), file)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Tensors and plain values only; see `read`. Processes also hand their weights to each other in such a file."""
        return read(Path(path), needed=())

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes the file."""
        Path(path).unlink(missing_ok=True)


def read(path: Path, needed: Collection[str] = _ENTRIES) -> dict[str, Any]:
    """A checkpoint, on the CPU.

    Args:
        path: of the file.
        needed: entries without which it is damaged.

    Raises:
        ValueError: the file is damaged, or holds something other than the tensors and plain values of a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()  # compares checksums, which torch does not
        if wrong is not None:
            raise InputError(f"wrong checksum of {wrong}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if missing := [name for name in needed if name not in content]:
            raise InputError(f"no {missing[0]}")
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever damage makes of the reader
        reason = str(error).partition("\n")[0][:80] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}); remove it and train again") from None
    # as Lightning resolves its callbacks' folder, which it compares
    return _with_paths(content, lambda name: str(path.resolve().parent / Path(name).name) if name else "")


def to_continue_from(folder: Path) -> Path | None:
    """The checkpoint from which an interrupted training goes on, or None: the last one, which the best one replaces if it is damaged.

    Damage gives a warning. Without the best epoch so far the training has to be done again.

    Args:
        folder: of the checkpoints, which may not exist.
    """
    last, best = folder / LAST, folder / BEST
    if not last.is_file():  # the first epoch was not finished
        return None
    whole = _sound(last)
    if not _sound(best):
        return None
    if not whole:
        with replaced(last) as part:
            shutil.copyfile(best, part)
    return last


def pretraining_to_continue_from(folder: Path) -> Path | None:
    """The checkpoint from which an interrupted pre-training goes on, or None; damage gives a warning."""
    path = folder / PRETRAINING
    return path if path.is_file() and _sound(path) else None


def _sound(path: Path) -> bool:
    try:
        read(path)
    except (ValueError, FileNotFoundError) as error:
        warnings.warn(f"{str(error).partition(';')[0]}, and is not used: epochs are trained again", stacklevel=3)
        return False
    return True


def _with_paths(checkpoint: Mapping[str, Any], convert: Callable[[str], str]) -> dict[str, Any]:
    """The checkpoint with other paths in the states of the callbacks that write checkpoints."""
    states = {}
    for name, state in checkpoint.get("callbacks", {}).items():
        if isinstance(state, Mapping) and "best_model_path" in state:
            state = {**state, **{key: convert(state[key]) for key in _PATHS}}
            state["best_k_models"] = {convert(path): score for path, score in state["best_k_models"].items()}
            some = convert("x")
            state["dirpath"] = str(Path(some).parent) if Path(some).is_absolute() else ""
        states[name] = state
    return {**checkpoint, "callbacks": states}
