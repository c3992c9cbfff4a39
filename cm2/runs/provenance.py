"""Provenance of a computed number."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from cm2.cohorts import Cohort
from cm2.cohorts.format import fabricated
from cm2.environment.machine import describe
from cm2.environment.version import version


def provenance(cohort: Cohort | None = None) -> dict[str, Any]:
    """Provenance of a number: the cohort where one was used, credentialed or fabricated or not, versions, commit, device, machine, date."""
    of_cohort = {}
    if cohort is not None:
        of_cohort = {
            "cohort": cohort.name,
            "cohort_checksum": cohort.checksum,
            "credentialed": cohort.disclosure.credentialed,
            "fabricated": cohort.disclosure.fabricated,
        }
    return {
        **of_cohort,
        "cm2": version(),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})",
        "machine": describe(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def called(source: Mapping[str, Any]) -> str:
    """What a text calls the cohort of a number: its name, and that it is fabricated if it is.

    Args:
        source: provenance of the number.
    """
    return f"{source['cohort']} (fabricated)" if fabricated(source) else str(source["cohort"])


def _commit() -> str:
    """Commit of the checkout this package runs from, with ``+`` if its files have been changed; empty outside a checkout."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder.parent / ".git").exists():  # git would report the commit of any repository further up
        return ""
    git = ["git", "-C", str(folder)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "--", str(folder)], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed.strip() else "")
