"""Print requirements.lock from an environment in which everything is installed: ``.venv/bin/python .ci/lock.py > requirements.lock``.

The lock holds what ``cm2[prep,search,cluster,book,test]`` needs, directly or not, and the build tools of an editable install without
isolation.
"""

import re
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = ("cm2[prep,search,cluster,book,test]", "setuptools", "wheel")
# wheels of these exist for Linux alone
LINUX = re.compile(r"^(nvidia-|cuda-|triton$)")


def closure() -> dict[str, str]:
    """Versions of all installed distributions that the roots need, by canonical name."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(root), "") for root in ROOTS]
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


def main() -> None:
    """Write the lock to the standard output."""
    lines = ["# Exact versions of everything; written by .ci/lock.py. Ranges are in pyproject.toml."]
    for name, version in sorted(closure().items()):
        if name != "cm2":
            lines.append(f'{name}=={version}; sys_platform == "linux"' if LINUX.match(name) else f"{name}=={version}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
