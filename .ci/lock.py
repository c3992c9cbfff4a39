"""Print requirements.lock from an environment in which everything is installed: ``.venv/bin/python .ci/lock.py > requirements.lock``.

The lock holds what ``cm2[all,test]`` needs, directly or not, and the build tools of an editable install without
isolation: the installed versions, what other systems and versions of Python need beside them, and the SHA-256 of every file of each, from
the index. pip then refuses a file that is another. uv finds them out without downloading a package: ``pip install uv`` first.
"""

import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
EXTRAS, TOOLS = ("all", "test"), ("setuptools", "wheel")
OLDEST = "3.11.5"
"""The first Python that every locked version supports."""
PLATFORMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
"""``sys_platform``, ``platform_system`` and ``platform_machine`` of the systems that the tests run on, beside those of this one."""
PYTHONS = ("3.11", "3.12", "3.13")
HEAD = "# Exact versions of everything and the SHA-256 of their files; written by .ci/lock.py. Ranges are in pyproject.toml."


def closure() -> dict[str, str]:
    """Versions of all installed distributions that the roots need, by canonical name."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(root), "") for root in (f"cm2[{','.join(EXTRAS)}]", *TOOLS)]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            distribution = metadata.distribution(name)
            found[name] = distribution.version
            waiting += [(Requirement(text), wanted) for text in distribution.requires or ()]
    return found


def hashed(uv: str, installed: dict[str, str]) -> str:
    """The lock's entries: the installed versions, those that only other systems need, and the hashes of all."""
    pins = "".join(f"{name}=={version}\n" for name, version in installed.items() if name != "cm2")
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    options = ["--universal", "--python-version", OLDEST, "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    with (ROOT / ".ci" / ".pins.part").open("w+", encoding="utf-8") as file, (ROOT / ".ci" / ".tools.part").open("w+") as tools:
        file.write(pins)
        file.flush()
        tools.write("\n".join(TOOLS))
        tools.flush()
        command = [uv, "pip", "compile", "pyproject.toml", tools.name, *extras, "--constraints", file.name, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        for each in (file, tools):
            Path(each.name).unlink()
    if done.returncode:
        sys.exit(f"lock: uv found no versions that fit together:\n{done.stderr}")
    return done.stdout


def wanted_somewhere(entry: str) -> bool:
    """Whether an entry's marker holds on a system that the project runs on."""
    marker = Requirement(entry.partition("\\")[0]).marker
    systems = [
        {"sys_platform": system, "platform_system": name, "platform_machine": machine, "python_version": python}
        | {"python_full_version": f"{python}.9", "implementation_name": "cpython", "platform_python_implementation": "CPython"}
        for system, name, machine in PLATFORMS
        for python in PYTHONS
    ]
    return marker is None or any(marker.evaluate(system) for system in systems)


def main() -> None:
    """Write the lock to the standard output."""
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("lock: uv is not installed, which reads the hashes from the index; pip install uv")
    entries = re.split(r"\n(?=\S)", hashed(uv, closure()).strip())
    sys.stdout.write("\n".join([HEAD, *filter(wanted_somewhere, entries)]) + "\n")


if __name__ == "__main__":
    main()
