"""Raw copies of MIMIC: the open demo, and fabricated ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

import data_prep


@pytest.fixture(scope="session")
def mimic3_demo(shared_data) -> Path:
    """The open MIMIC-III demo, where it lies beside the checkout."""
    folder = shared_data / "mimic3-demo"
    if not folder.is_dir():
        pytest.skip(f"the MIMIC-III demo is not beside the checkout ({folder})")
    return folder


@pytest.fixture(scope="session")
def fabricated(tmp_path_factory, worker_id) -> Callable[..., Path]:
    """Fabricated raw copies by release, 2,000 stays unless told; each is made once, for all of pytest's processes."""
    place = tmp_path_factory.getbasetemp()
    place = (place if worker_id == "master" else place.parent) / "fabricated"
    place.mkdir(exist_ok=True)

    def make(release: str, stays: int = 2000) -> Path:
        folder = place / f"{release}-{stays}"
        with FileLock(place / f"{folder.name}.lock"):
            if not folder.exists():
                getattr(data_prep, f"fabricate_{release}")(folder, stays=stays, seed=0)
        return folder

    return make
