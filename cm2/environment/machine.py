"""The machine a number was computed on: processor, instruction set, threads, versions.

The last digits of a floating-point result depend on all of these: another instruction set or number of threads sums in another order, and
training amplifies the difference.
"""

import json
import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Everything that determines the rounding of a computation on this machine, in this process.

    Returns:
        ``processor`` (its name), ``architecture`` (``x86_64``, ``arm64``), ``instructions`` (the kernels that torch has chosen:
        ``AVX512``, ``AVX2``, ``DEFAULT``, ...), ``threads`` (of torch), ``system``, ``python`` and ``torch`` (versions).
    """
    import torch

    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
    }


def memory() -> int:
    """Bytes of this machine's memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def describe(facts: dict[str, Any] | None = None) -> str:
    """One line: ``AMD EPYC, x86_64, AVX512, 1 thread, Linux, Python 3.11.7, torch 2.15.0``.

    Args:
        facts: what ``machine`` returned, here or elsewhere; by default on this machine.
    """
    facts = facts or machine()
    threads = f"{facts['threads']} thread{'' if facts['threads'] == 1 else 's'}"
    parts = [facts["processor"], facts["architecture"], facts["instructions"], threads, facts["system"]]
    return ", ".join([*parts, f"Python {facts['python']}", f"torch {facts['torch']}"])


@cache
def processor() -> str:
    """The processor's product name, such as ``AMD EPYC`` or ``Apple M2``; the architecture where it is not available."""
    found = {"Linux": _from_cpuinfo, "Darwin": _from_sysctl}.get(platform.system(), platform.processor)()
    return " ".join(found.split()) or platform.machine()


def _from_cpuinfo() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else ""


def _from_sysctl() -> str:
    try:
        return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def cores() -> int:
    """Processor cores this process may use; a scheduler or container may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    json.dump(machine(), sys.stdout)
