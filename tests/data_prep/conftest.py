"""Fabricated raw copies of MIMIC."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

import data_prep


@pytest.fixture(scope="session")
def fabricated(shared) -> Callable[..., Path]:
    """Fabricated raw copies by release; each is made once, for all tests of all of pytest's processes, which read it only."""
    place = shared / "fabricated"
    place.mkdir(exist_ok=True)

    def make(release: str, stays: int) -> Path:
        folder = place / f"{release}-{stays}"
        with FileLock(place / f"{folder.name}.lock"):
            if not folder.exists():
                getattr(data_prep, f"fabricate_{release}")(folder, stays=stays, seed=0)
        return folder

    return make
