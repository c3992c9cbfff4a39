"""Where runs are trained: processes of this machine, or the workers of a Dask cluster that see the same files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cm2.config.names import choose
from cm2.environment.extras import require
from cm2.errors import InputError, spelled

BACKENDS = ("local", "dask")
PATIENCE = 30.0
"""Seconds in which a scheduler has to answer."""


@contextmanager
def backend(name: str = "local", scheduler: str = "", jobs: int = 1) -> Iterator[int]:
    """Sends the runs of the block to a backend; yields the number that are trained at once.

    A worker that is lost costs what its runs have trained since their last epoch: Dask gives them to another, which continues from the
    checkpoints. Cohort and run store have to be on a file system that all workers share, under the same paths.

    Args:
        name: ``local`` or ``dask``.
        scheduler: address of Dask's scheduler, for example ``tcp://10.0.0.1:8786``, or the file that it has written (``--scheduler-file``).
        jobs: runs at once in processes of this machine; Dask has as many as its workers have threads, at least.

    Raises:
        MissingExtraError: Dask is not installed.
        ValueError: an unknown backend, an address without Dask or Dask without an address, a scheduler that does not answer or that has
            no worker.
    """
    if name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}; {choose(name, BACKENDS)}")
    if (name == "dask") != bool(scheduler):
        both = spelled("backend='dask' and scheduler=", "--backend dask and --scheduler ADDRESS")
        raise InputError(f"{both} belong together; start one with `dask scheduler`")
    if name == "local":
        yield jobs
        return
    require("dask", "distributed")
    from distributed import Client
    from joblib import parallel_config

    where = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    try:
        client = Client(**where, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask scheduler`") from None
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise InputError(f"the Dask scheduler at {scheduler} has no worker; start some with `dask worker {scheduler} --nthreads 1`")
        with parallel_config(backend="dask", client=client):
            yield max(jobs, threads)
