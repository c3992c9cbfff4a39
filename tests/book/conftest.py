"""The small book, rendered once for all tests of a session, whichever worker asks first."""

from pathlib import Path

import pytest
from filelock import FileLock

from tests.book import minibook

pytest.importorskip("jupyter_book", reason="the book's requirements are not installed")


@pytest.fixture(scope="session")
def rendered(shared) -> Path:
    """Folder of the rendered small book."""
    from cm2.book import build

    root = shared / "minibook"
    with FileLock(root.with_suffix(".lock")):
        if not root.exists():
            minibook.write(root)
        return build(root=root).parent


@pytest.fixture
def book(tmp_path) -> Path:
    """Root of an unexecuted small book of its own."""
    return minibook.write(tmp_path / "book")
