"""Runs on a cluster: equal to those without it, also when a worker is lost; a scheduler that is not there is one clear error."""

from __future__ import annotations

import os
import signal
import threading
import time

import pandas as pd
import pytest

from cm2 import Config, RunStore
from cm2.environment.extras import MissingExtraError
from cm2.runs.cluster import backend
from cm2.runs.store import fit_all
from tests.tables.conftest import FAST

SETTINGS = FAST | {"method": "late_fusion", "task": "death", "train.epochs": 12, "train.patience": 12}


@pytest.fixture
def cluster(tmp_path):
    """Two worker processes of one thread each."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=tmp_path / "dask"
    ) as made:
        made.wait_for_workers(2, timeout=300)
        yield made


def _kill_a_worker_that_trains(store: RunStore, pids: list[int], killed: list[int]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if len(list(store.root.glob(".*.partial/checkpoints/last.ckpt"))) >= 2:
            os.kill(pids[0], signal.SIGKILL)
            killed.append(pids[0])
            return
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_changes_no_result(cluster, complete, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = [Config.from_profile("smoke", SETTINGS | {"seed": seed}) for seed in range(4)]
    store, killed = RunStore("runs"), []  # a relative path: the workers' folder is another
    pids = [worker.pid for worker in cluster.workers.values()]
    killer = threading.Thread(target=_kill_a_worker_that_trains, args=(store, pids, killed))
    killer.start()
    with backend("dask", cluster.scheduler_address) as at_once:
        assert at_once == 2
        runs = fit_all(configs, complete, store, at_once)
    killer.join()
    assert killed == pids[:1]
    alone = fit_all(configs, complete, RunStore(tmp_path / "alone"))
    assert [run.path.name for run in runs] == [run.path.name for run in alone]
    for there, here in zip(runs, alone, strict=True):
        pd.testing.assert_frame_equal(there.predictions, here.predictions, check_exact=False, atol=1e-5)
        pd.testing.assert_frame_equal(there.history, here.history, check_exact=False, rtol=1e-4)
    assert not list(store.root.glob(".*")), "neither locks nor unfinished runs are left"


@pytest.mark.parametrize(
    ("name", "scheduler", "message"),
    [
        ("ray", "", "unknown backend 'ray'; choose one of local, dask"),
        ("dask", "", "backend=.dask. and scheduler= belong together"),
        ("local", "tcp://127.0.0.1:1", "belong together"),
    ],
)
def test_what_does_not_belong_together_is_refused(name, scheduler, message):
    with pytest.raises(ValueError, match=message), backend(name, scheduler):
        pass


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr("cm2.runs.cluster.PATIENCE", 0.5)
    told = pytest.raises((ValueError, MissingExtraError), match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1|needs the library d")
    with told, backend("dask", "tcp://127.0.0.1:1"):
        pass


def test_without_a_cluster_the_jobs_are_those_asked_for():
    with backend("local", "", 3) as at_once:
        assert at_once == 3
