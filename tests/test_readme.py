"""What the README and the files beside it promise: commands that exist, files that are there, versions named once."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cm2.cli.known import profiles

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = [line.split("#")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHERS = {"github.com/YerevaNN/mimic3-benchmarks", "github.com/nyuad-cai/MedFuse"}


def texts() -> dict[str, str]:
    """What a reader reads, by file: documentation, chapters, and the package with its messages."""
    found = [ROOT / name for name in ("README.md", "CITATION.cff", "pyproject.toml", "environment.yml", "_config.yml", "_toc.yml")]
    for folder in ("cm2", "data_prep", "book", "benchmarks"):
        found += [p for p in sorted((ROOT / folder).rglob("*")) if p.suffix in {".py", ".md", ".ipynb", ".toml", ".bib", ".html"}]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in found}


TEXTS = texts()
COMMANDS = [line for line in [*SHELL, *re.findall(r"`(cm2 [^`]+)`", README)] if line.startswith("cm2 ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line):
    from typer.main import get_command

    from cm2.cli import _papermill_style, app

    arguments = _papermill_style(shlex.split(line)[1:])
    if "--help" in arguments:
        return
    command = get_command(app)
    if arguments[0].startswith("--"):
        assert arguments[0] in {option for parameter in command.params for option in parameter.opts}
        return
    while arguments and hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    assert command.make_context("cm2", arguments)


@pytest.mark.parametrize("name", [name for name in TEXTS if "pip install" in TEXTS[name] or "cm2[" in TEXTS[name]])
def test_what_pip_is_told_to_install_is_there(name):
    """The checkout and its extras: no package index holds the project."""
    extras = set(PROJECT["optional-dependencies"])
    for told in re.findall(r"pip install (.*)", TEXTS[name]):
        if name == "cm2/environment/extras.py" and told.startswith("'{PACKAGE}["):
            continue  # where the package came from: an index only if it was one
        typed = re.match(r"-e (?:\.(?!\w)|'\.\[([\w,]+|\{extra\})\]')", told)
        assert typed, f"{name}: pip install {told[:60]}"
        assert {typed[1]} <= {None, "{extra}"} or set(typed[1].split(",")) <= extras
    included = [set(found.split(",")) for found in re.findall(r"cm2\[([\w,]+)\]", TEXTS[name])]
    assert not included or (name == "pyproject.toml" and set().union(*included) <= extras), "no package index is known to have it"


def test_no_address_of_a_repository_is_invented():
    """None is known, so the only ones are those of others' programs that the text cites."""
    address = re.compile(
        r"(?:git@)?\b(?:github|gitlab|bitbucket|codeberg)\.(?:com|org|io)[/:][\w.-]+(?:/[\w.-]+)?|\bgit clone \S+|\breadthedocs\.\w+"
    )
    assert {found for text in TEXTS.values() for found in address.findall(text)} <= OTHERS
    assert not {"urls"} & set(PROJECT)
    own = (ROOT / "CITATION.cff").read_text().partition("preferred-citation:")[0]
    assert not re.search(r"^(?:repository|url)", own, re.MULTILINE)
    assert "repository_url" not in (ROOT / "_config.yml").read_text()


def test_its_profiles_and_extras_are_those_there_are():
    words = re.search(r"`profile` is one of (.*?), for a GPU\)", README)[1]
    assert re.findall(r"`(\w+)`", words) == list(profiles())
    extras = re.search(r"further extras\s+\((.*?)\)", README)[1].replace("`", "").split(", ")
    assert set(extras) == set(PROJECT["optional-dependencies"]) - {"test"}


def test_it_names_the_supported_versions_of_python():
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    *first, last = [f"3.{minor}" for minor in range(int(low), int(high))]
    assert f"Python {', '.join(first)} or {last}" in README
    assert f"python {PROJECT['requires-python']}" in (ROOT / "environment.yml").read_text()


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 5 and "make book" in README and "make test" in README


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:|#)([^)]+)\)", README))))
def test_files_it_points_to_are_there(link):
    assert (ROOT / link).is_file()


def test_its_papermill_line_names_a_chapter():
    for name in re.findall(r"papermill (book/\S+\.ipynb)", README):
        assert name.removesuffix(".ipynb") in (ROOT / "_toc.yml").read_text()


def test_its_examples_run(tmp_path):
    code = "\n".join(text for kind, text in BLOCKS if kind == "python")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CM2_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1,797 stays" in done.stdout and "multiclass (1797, 32)" in done.stdout and "0.6" in done.stdout
    assert (tmp_path / "cohorts" / "digits" / "manifest.json").is_file()


def test_a_cohort_of_ones_own_takes_ten_lines():
    (code,) = [text for kind, text in BLOCKS if kind == "python" and "from_frames(" in text]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_make_explains_its_targets():
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"book", "test", "lint", "clean", "help", "env", "figures"} <= targets
    assert {word for line in SHELL for word in re.findall(r"^make (\w+)", line)} <= targets


def test_the_lock_fits_the_ranges():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = [entry for entry in re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text()) if not entry.startswith("#")]
    lines = [entry.partition("\\")[0] for entry in entries]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry) for entry in entries), "every file has a hash"
    locked = {canonicalize_name(Requirement(line).name): str(Requirement(line).specifier) for line in lines}
    assert all(re.fullmatch(r"==[^,*]+", pin) for pin in locked.values()) and {"setuptools", "wheel"} <= set(locked)
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    for wanted in map(Requirement, [*project["dependencies"], *extras]):
        if wanted.name == project["name"]:  # an extra that includes another
            continue
        version = locked[canonicalize_name(wanted.name)].removeprefix("==")
        assert wanted.specifier.contains(version, prereleases=True), f"{wanted} against {version}"


def test_conda_users_get_the_same_lock():
    text = (ROOT / "environment.yml").read_text()
    assert "-r requirements.lock" in text and "-e . --no-deps --no-build-isolation" in text.partition("name:")[0] and "==" not in text


def test_the_citation_names_the_papers_authors():
    text = (ROOT / "CITATION.cff").read_text()
    assert [name for name in ("Wu", "Chan", "Wang", "Yin", "Yu") if f"family-names: {name}" not in text] == []
    assert f"version: {tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}" in text
