"""The sdist and the wheel, built and installed once for the tests of this folder."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
release = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(release)


@pytest.fixture(autouse=True)
def uncounted(monkeypatch):
    """Processes that are started here have imported nothing but their own: counting their lines would import more."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> tuple[Path, Path]:
    return release.build(tmp_path_factory.mktemp("dist"), "https://example.org/somebody/cm2", "v1")


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory) -> Path:
    """A folder with the wheel alone, without its dependencies; they are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), str(built[1])], capture_output=True, check=True)
    return folder
