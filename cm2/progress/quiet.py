"""Warnings of other libraries that tell a user of this one nothing."""

from __future__ import annotations

import warnings


def quiet_libraries() -> None:
    """Silences Lightning's hints, and joblib's word that it replaces a process which was idle or had grown.

    For the command line and the processes that it starts; if you import the package, your own filters stay.
    """
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings(
        "ignore", "A worker stopped while some jobs were given to the executor", UserWarning, r"joblib\.externals\.loky"
    )
