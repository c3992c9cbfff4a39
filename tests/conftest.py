"""What every test may use. Torch is imported where it is used: the process that only distributes tests need not wait for it."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cm2.cohorts import Cohort

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Sums in a fixed order and no contention between pytest's workers, unless more threads are asked for."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))


@pytest.fixture(autouse=True)
def seeded():
    """Each test draws from the same seed, whatever ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id) -> Path:
    """Folder of all of pytest's processes, for what is made once; whoever makes it holds a `FileLock` beside it."""
    place = tmp_path_factory.getbasetemp()
    return place if worker_id == "master" else place.parent


@pytest.fixture(autouse=True)
def no_idle_processes():
    """Joblib keeps its processes for the next call; ones about to end for idleness may keep that call waiting for ever."""
    yield
    executor = getattr(sys.modules.get("joblib.externals.loky.reusable_executor"), "_executor", None)
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


@pytest.fixture(autouse=True)
def no_open_figures():
    """Figures that a test leaves open count in the tests after it, where more than twenty are a warning."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evil]:
    """An object that runs code when it is unpickled; fails the test if somebody did."""
    proof = tmp_path_factory.mktemp("evil") / "proof"
    yield Evil(proof)
    assert not proof.exists(), "code was run"


@pytest.fixture
def processes() -> BaseContext:
    """Processes that a test may start: forks of this one, which has imported everything, where torch allows them."""
    import torch

    forks = sys.platform == "linux" and torch.get_num_threads() == 1 and not torch.accelerator.is_available()
    return multiprocessing.get_context("fork" if forks else "spawn")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real open data beside the checkout; tests that need them are skipped without."""
    folder = REPOSITORY / "shared" / "data"
    if not folder.is_dir():
        folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real open data are not beside the checkout ({folder})")
    return folder


@pytest.fixture
def float64():
    """A generator of float64 tensors on request: ``float64([1, 2])``; the default dtype stays as it is."""
    import torch

    return lambda *a, **k: torch.tensor(*a, dtype=torch.float64, **k)


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three hundred simulated stays with small images, a quarter of which have one: what training is tested on."""
    from cm2 import load_cohort
    from data_prep import prepare_synthetic

    out = tmp_path_factory.mktemp("cohorts") / "small"
    return load_cohort(prepare_synthetic(out, stays=300, seed=0, image_size=32, dim=4))
