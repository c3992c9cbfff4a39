"""The small book, rendered once for all tests of a session, whichever worker asks first."""

from pathlib import Path

import pytest
from filelock import FileLock

from tests.book import minibook

pytest.importorskip("jupyter_book", reason="the book's requirements are not installed")


def _shared_folder(tmp_path_factory: pytest.TempPathFactory, worker: str) -> Path:
    base = tmp_path_factory.getbasetemp()
    return (base if worker == "master" else base.parent) / "minibook"


@pytest.fixture(scope="session")
def rendered(tmp_path_factory, worker_id) -> Path:
    """Folder of the rendered small book."""
    from cm2.book import build

    root = _shared_folder(tmp_path_factory, worker_id)
    with FileLock(root.with_suffix(".lock")):
        if not root.exists():
            minibook.write(root)
        return build(root=root).parent


@pytest.fixture
def book(tmp_path) -> Path:
    """Root of an unexecuted small book of its own."""
    return minibook.write(tmp_path / "book")
