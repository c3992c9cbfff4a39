"""Warnings of other libraries that are of no use here."""

from __future__ import annotations

import warnings


def quiet_libraries() -> None:
    """Silences Lightning's hints, and joblib's warning that it replaces a worker process which was idle or grew too large.

    For the command line and the processes that it starts; if you import the package, your own filters stay.
    """
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings(
        "ignore", "A worker stopped while some jobs were given to the executor", UserWarning, r"joblib\.externals\.loky"
    )
