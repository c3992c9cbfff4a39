"""Making the environment: whatever is wrong is one line, with what to do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("tail", "awk", "grep", "uname", "mkdir", "cat", "touch", "cp", "chmod")
PYTHON = """#!/bin/sh
case "$*" in
  --version) echo "Python 3.12.1" ;;
  "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-m pip"*) cat "{said}"; exit {status} ;;
esac
"""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="make and sh are those of Unix")


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path):
    """A folder of programs that stands for a machine: a few tools, 100 GB free, and a Python whose pip says what it is told to."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    script(tmp_path / "bin" / "df", f'#!/bin/sh\necho Filesystem\necho "/dev/disk 1 1 {100_000_000} 1% /"\n')
    (tmp_path / "said").write_text("")
    script(tmp_path / "bin" / "python3", PYTHON.format(said=tmp_path / "said", status=0))
    return tmp_path


def make_environment(machine: Path, python: str = "") -> subprocess.CompletedProcess:
    command = [shutil.which("sh"), str(ROOT / ".ci" / "environment.sh"), str(machine / "venv"), python]
    return subprocess.run(command, capture_output=True, text=True, cwd=machine, env={"PATH": str(machine / "bin")})


def test_it_is_made_with_the_first_python_that_will_do(machine):
    done = make_environment(machine)
    assert done.returncode == 0, done.stderr
    assert "venv with Python 3.12.1" in done.stdout and (machine / "venv" / ".installed").is_file()


def refused(machine: Path, words: list[str], python: str = "") -> None:
    done = make_environment(machine, python)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in ["environment: ", *words]), done.stderr
    assert not (machine / "venv" / ".installed").exists()


def test_no_python(machine):
    (machine / "bin" / "python3").unlink()
    refused(machine, ["no Python 3.11, 3.12 or 3.13 found", "make PYTHON=/path/to/python3.12 book"])


def test_a_python_that_is_too_old(machine):
    script(machine / "bin" / "python3", '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" || exit 1\n')
    refused(machine, ["no Python 3.11, 3.12 or 3.13 found", "python3 is Python 3.9.2"])
    refused(machine, ["python3 is not Python 3.11", "Python 3.9.2"], python="python3")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch is small")
def test_no_space_before_anything_is_installed(machine):
    script(machine / "bin" / "df", '#!/bin/sh\necho Filesystem\necho "/dev/disk 1 1 2500000 1% /"\n')
    refused(machine, ["8 GB are needed, 2 GB are free in"])


def test_no_space_while_it_is_installed(machine):
    (machine / "said").write_text("Collecting torch\nERROR: Could not install packages: [Errno 28] No space left on device\nnotice\n")
    script(machine / "bin" / "python3", PYTHON.format(said=machine / "said", status=1))
    refused(machine, ["pip install --requirement requirements.lock failed", "No space left on device", "install.log"])


def test_a_venv_that_cannot_be_made(machine):
    script(machine / "bin" / "python3", '#!/bin/sh\n[ "$1" = -m ] && echo "ensurepip is not available" && exit 1\nexit 0\n')
    refused(machine, ["could not be made", "ensurepip is not available", "python3-venv"])
