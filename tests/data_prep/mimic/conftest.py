"""The open demo of MIMIC-III."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def mimic3_demo(shared_data) -> Path:
    """The open MIMIC-III demo, where it lies beside the checkout."""
    folder = shared_data / "mimic3-demo"
    if not folder.is_dir():
        pytest.skip(f"the MIMIC-III demo is not beside the checkout ({folder})")
    return folder
