"""What is published: one version, an sdist and a wheel that work in an empty folder, workflows that can do no more than they must."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import cm2
from tests.environment.conftest import ROOT, release
from tests.environment.test_extras import PROJECT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split("\n")
    return {name for name in listed if name and (ROOT / name).is_file()}


def test_there_is_one_version():
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert {cm2.__version__, metadata.version("cm2"), citation[1]} == {PROJECT["version"]}
    words = [re.findall(r"__version__ *=|version *= *[\"']\d+\.\d", path.read_text()) for path in (ROOT / "cm2").rglob("*.py")]
    assert not any(words), "the version stands in pyproject.toml"


def test_the_wheel_has_every_file_of_the_packages(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == tracked("cm2", "data_prep")


def test_the_sdist_has_what_a_build_needs_and_no_more(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", *tracked("cm2", "data_prep")} <= names
    assert {name.partition("/")[0] for name in names if "/" in name} == {"cm2", "data_prep", "cm2.egg-info"}


def test_what_an_index_shows(built):
    text = zipfile.ZipFile(built[1]).read(f"cm2-{PROJECT['version']}.dist-info/METADATA").decode()
    assert "Project-URL: Repository, https://example.org/somebody/cm2\n" in text and "License-Expression: MIT\n" in text
    assert "Classifier: Typing :: Typed\n" in text and "Description-Content-Type: text/markdown\n" in text
    page = text.partition("\n\n")[2]
    assert "(https://example.org/somebody/cm2/blob/v1/CONTRIBUTING.md)" in page and not release.RELATIVE.findall(page)
    assert "(https://example.org/somebody/cm2/raw/v1/figures/figure-2.svg)" in page


COMMANDS = [
    ["--version"],
    ["prepare", "synthetic", "--stays", "160", "--out", "cohort"],
    ["train", "--cohort", "cohort", "--profile", "smoke", "--set", "train.epochs=1"],
    ["prepare", "quirks"],
    ["table", "2", "--help"],
]


def test_the_wheel_works_in_an_empty_folder(built, installed, tmp_path):
    code = f"""
import sys, cm2, data_prep
from cm2.__main__ import main
from cm2.environment.extras import install_command
assert cm2.__file__.startswith({str(installed)!r}) and data_prep.__file__.startswith({str(installed)!r})
for arguments in {COMMANDS!r}:
    sys.argv = ["cm2", *arguments]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, arguments
print(install_command("prep"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "CM2_HOME"} | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"cm2 {PROJECT['version']}, Python \S+, torch \S+", lines[0]), "no commit of a folder further up"
    assert lines[-1] == f"pip install 'cm2[prep] @ {built[1].as_uri()}'"
    assert {path.name for path in tmp_path.iterdir()} == {"cohort", ".cm2"}


def test_a_tag_is_that_of_the_version(tmp_path):
    for name in ("pyproject.toml", "CITATION.cff"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    version = PROJECT["version"]
    assert [line.split()[0] for line in release.faults(tmp_path, "v99")] == ["the", "CHANGELOG.md"]
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {version} (2025-01-01)\n")
    assert release.faults(tmp_path, f"v{version}") == []
    (tmp_path / "CITATION.cff").write_text("version: 99\n")
    assert release.faults(tmp_path, f"v{version}") == [f"CITATION.cff does not name version {version}"]


def test_links_become_absolute_and_others_stay():
    text = "![a](b/c.png) [d](e.md) [f](#g) [h](https://i.org) `[j]`(k)"
    assert release.absolute(text, "R", "T") == "![a](R/raw/T/b/c.png) [d](R/blob/T/e.md) [f](#g) [h](https://i.org) `[j]`(k)"


def steps(path: Path) -> list[tuple[str, dict, dict]]:
    """Each job of a workflow: its name, itself, and its permissions, those of the workflow where it has none."""
    workflow = yaml.safe_load(path.read_text())
    return [(name, job, job.get("permissions", workflow["permissions"])) for name, job in workflow["jobs"].items()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", each) for each in used), used
    assert "secrets." not in path.read_text() and "pull_request_target" not in path.read_text()


def test_every_workflow_uses_the_same_commit_of_an_action():
    used = [re.findall(r"uses: ([^@\s]+)@(.*)", path.read_text()) for path in WORKFLOWS]
    pairs = {pair for found in used for pair in found}
    assert len(pairs) == len({name for name, _ in pairs})


def test_what_may_write_runs_no_code_of_the_repository():
    writing = {}
    for path in WORKFLOWS:
        for name, job, permissions in steps(path):
            assert set(permissions.values()) <= {"read"} or not any("run" in step for step in job["steps"]), f"{path.name}: {name}"
            assert job["timeout-minutes"] <= 180
            writing |= {(path.stem, name): permissions} if "write" in permissions.values() else {}
    assert writing == {("release", "publish"): {"id-token": "write"}, ("pages", "deploy"): {"pages": "write", "id-token": "write"}}


def test_the_development_container_makes_the_environment_that_the_makefile_makes():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make env"
    minor = re.search(r"python:1-3\.(\d+)-", container["image"])[1]
    assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]
    low, high = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups())
    named = {text for text in PROJECT["classifiers"] if re.search(r"3\.\d+$", text)}
    assert named == {f"Programming Language :: Python :: 3.{minor}" for minor in range(low, high)}
