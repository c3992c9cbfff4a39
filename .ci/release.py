"""Build the sdist and, from it, the wheel: ``make dist``, and with ``--tag`` and ``--repository`` what the release workflow publishes.

The build sees the tracked files alone, in a copy, so nothing that lies around in the checkout gets into a package. A tag has to be that of
the version in ``pyproject.toml``, which ``CITATION.cff`` and the changelog have to name too. The repository's address is known to the
workflow only: with it, the relative links of the README become absolute, since a package index shows the README alone.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RELATIVE = re.compile(r"(!?)(\[[^][]*\]\()(?!https?:|#)([^)]+\))")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def faults(root: Path, tag: str) -> list[str]:
    """Why the tag is not the release of this tree, a line each."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    found = [] if tag == f"v{version}" else [f"the tag is {tag}, the version in pyproject.toml {version}: the tag has to be v{version}"]
    if not re.search(rf"^version: {re.escape(version)}$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE):
        found.append(f"CITATION.cff does not name version {version}")
    if not re.search(rf"^## \[?{re.escape(version)}\]?\b", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE):
        found.append(f"CHANGELOG.md has no section {version}: rename Unreleased, and give it the date")
    return found


def absolute(text: str, repository: str, tag: str) -> str:
    """A page whose relative links and images point at the files of a tag in a repository, such as ``https://HOST/OWNER/NAME``."""
    return RELATIVE.sub(lambda m: f"{m[1]}{m[2]}{repository}/{'raw' if m[1] else 'blob'}/{tag}/{m[3]}", text)


def addressed(pyproject: str, repository: str, tag: str) -> str:
    """``pyproject.toml`` with the addresses that a package index shows."""
    urls = f'[project.urls]\nRepository = "{repository}"\nChangelog = "{repository}/blob/{tag}/CHANGELOG.md"\n\n'
    return pyproject.replace("[project.optional-dependencies]", urls + "[project.optional-dependencies]", 1)


def tree(folder: Path, repository: str = "", tag: str = "") -> Path:
    """A copy of the tracked files, with addresses where a repository is given."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "book/", "examples/", "results/", "figures/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    if repository:
        for name, change in (("README.md", absolute), ("pyproject.toml", addressed)):
            (folder / name).write_text(change((folder / name).read_text(encoding="utf-8"), repository, tag), encoding="utf-8")
    return folder


def build(out: Path, repository: str = "", tag: str = "") -> tuple[Path, Path]:
    """Builds into a folder, with the setuptools of this environment and without a network; the sdist and the wheel."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        sources = Path(temporary) / "sources"
        sources.mkdir()
        _call("build_sdist", tree(sources, repository, tag), Path(temporary))
        (sdist,) = Path(temporary).glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(Path(temporary) / "unpacked", filter="data")
        (unpacked,) = (Path(temporary) / "unpacked").iterdir()
        _call("build_wheel", unpacked, Path(temporary))
        (wheel,) = Path(temporary).glob("*.whl")
        return Path(shutil.copy(sdist, out)), Path(shutil.copy(wheel, out))


def _call(step: str, folder: Path, out: Path) -> None:
    # the time of the commit, so that the same commit gives the same files
    dated = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    environment = os.environ | ({"SOURCE_DATE_EPOCH": dated} if dated else {})
    command = [sys.executable, "-c", BUILD, step, str(out)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"release: {step} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def main() -> None:
    """Check the tag, if there is one, and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--tag", default="", help="of the release, for example v0.1.0")
    parser.add_argument("--repository", default="", help="address of the repository that has the tag")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the packages (default dist)")
    given = parser.parse_args()
    if bool(given.tag) != bool(given.repository):
        sys.exit("release: --tag and --repository go together")
    if given.tag and (found := faults(ROOT, given.tag)):
        sys.exit("\n".join(f"release: {line}" for line in found))
    for path in build(given.out, given.repository, given.tag):
        print(path)


if __name__ == "__main__":
    main()
