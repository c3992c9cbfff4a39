"""One gate for optional libraries: who lacks one is told in one line which extra to install."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cm2 import cli
from cm2.__main__ import main
from cm2.environment.extras import MissingExtraError, explain, install_command, modules, require, require_extra
from tests.test_layers import SOURCES, imported

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MIMIC3, MIMIC4 = (["prepare", name, "--raw", "raw", "--out", "out"] for name in ("mimic3", "mimic4"))
COMMANDS = {
    "duckdb": [MIMIC3, MIMIC4],
    "PIL": [MIMIC4, ["fabricate", "mimic3", "--out", "raw"], ["fabricate", "mimic4", "--out", "raw"]],
    "optuna": [["search", "--cohort", "cohort"]],
    **{library: [["train", "--cohort", "cohort"], ["prepare", "synthetic", "--out", "out"]] for library in modules()["train"]},
    **{library: [["book"]] for library in modules()["book"]},
    **{library: [["train", "--cohort", "cohort", "--task", "y", "--backend", "dask"]] for library in modules()["cluster"]},
}
"""What a newcomer types, by the library it needs. A library that the package imports and that stands nowhere here fails a test below."""
OURS = {"cm2", "data_prep", "worker", "warm"}
CHOSEN = {"timm"}
"""Extras that no command needs, but a setting: encoders by the name of their library, see tests/networks/test_pretrained_parts.py."""
DEVELOPERS = "test"
"""The extra whose libraries no command needs."""
WITHOUT = {DEVELOPERS, *CHOSEN}


@cache
def used() -> set[str]:
    """Top-level names that ``cm2`` and ``data_prep`` import anywhere, inside functions too."""
    return {name.split(".")[0] for module in SOURCES for name in imported(module)}


def without(libraries: Iterable[str], code: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs Python in a folder as if libraries were not installed."""
    block = f"import sys; sys.modules |= dict.fromkeys({list(libraries)!r}); "
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True, cwd=folder, timeout=300)


def sentence(library: str) -> str:
    """What the command line says."""
    extra = next(extra for extra, names in modules().items() if library in names)
    return f"cm2: this needs the library {library}, which is not installed; type in the checkout: pip install -e '.[{extra}]'\n"


def test_the_installed_metadata_are_those_of_the_checkout():
    installed = {str(Requirement(text)) for text in metadata.requires("cm2")}
    extras = {f'{text}; extra == "{extra}"' for extra, texts in PROJECT["optional-dependencies"].items() for text in texts}
    wanted = {str(Requirement(text)) for text in {*PROJECT["dependencies"], *extras}}
    assert installed == wanted, "pyproject.toml was changed after the package was installed; run `make env`"


def test_every_library_of_every_extra_is_found_under_its_name():
    assert set(modules()) == set(PROJECT["optional-dependencies"]) - {"all"}
    strange = [name for names in modules().values() for name in names if find_spec(name) is None]
    assert not strange, f"{strange}: not the names that are imported; add them to cm2.environment.extras._IMPORTED_AS"


def required(distribution: str) -> set[str]:
    """Distributions that one asks for, in any extra."""
    return {canonicalize_name(Requirement(text).name) for text in metadata.requires(distribution) or ()}


def test_what_the_package_imports_is_declared():
    """By pyproject.toml, or by a library that stands there: transformers hands out the errors of its hub."""
    distributions = metadata.packages_distributions()
    declared = required("cm2")
    declared |= set().union(*map(required, declared))
    for name in used() - sys.stdlib_module_names - OURS:
        brings = {canonicalize_name(distribution) for distribution in distributions.get(name, ())}
        assert brings & declared, f"{name} is imported, but pyproject.toml does not name {sorted(brings)}"


@pytest.mark.parametrize("extra", modules())
def test_a_command_is_known_for_every_library_that_the_package_imports(extra):
    needed = {name for name in modules()[extra] if name.split(".")[0] in used()}
    if extra == DEVELOPERS:
        assert not needed - set(modules()["book"]), f"the package imports {needed}, which users do not have"
    else:
        assert needed and (extra in CHOSEN or not needed - set(COMMANDS)), "add the commands that need it to COMMANDS"


@pytest.mark.parametrize("library", COMMANDS)
def test_a_command_without_its_library_says_which_extra(library, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    for arguments in COMMANDS[library]:
        monkeypatch.setattr("sys.argv", ["cm2", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert (stopped.value.code, capsys.readouterr()) == (2, ("", sentence(library)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "library",
    [next(name for name in COMMANDS if name in names) for extra, names in modules().items() if extra not in WITHOUT],
)
def test_a_new_process_says_so_before_anything_heavy_is_imported(library, tmp_path):
    code = f"""
import sys
from cm2.__main__ import main
sys.argv = ["cm2", *{COMMANDS[library][0]!r}]
try:
    main()
finally:
    print({{"torch", "pandas"}} & set(sys.modules))
"""
    done = without([library], f"exec({code!r})", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "set()\n", sentence(library))


def test_what_needs_no_further_extra_works_without_them(tmp_path):
    """Help, versions and the list of quirks need no extra but the training stack; none of them waits for torch."""
    commands = [command for found in COMMANDS.values() for command in found]
    groups = [[*command[: 1 + (command[0] in ("prepare", "fabricate"))], "--help"] for command in commands]
    code = f"""
from cm2.__main__ import main
for arguments in [["--version"], ["--help"], ["prepare", "quirks"], ["train", "--help"], ["table", "--help"], *{groups!r}]:
    sys.argv = ["cm2", *arguments]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, arguments
assert "torch" not in sys.modules
"""
    done = without(set().union(*modules().values()) - set(modules()["train"]), f"exec({code!r})", tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_user_of_the_library_gets_the_same_sentence(tmp_path):
    code = """
from importlib import import_module
from cm2.environment.extras import MissingExtraError
for package in ("data_prep", "data_prep.mimic"):
    for name in import_module(package).__all__:
        if "mimic" in name:
            try:
                getattr(import_module(package), name)
            except MissingExtraError as error:
                print(name, error)
"""
    done = without(modules()["prep"], f"exec({code!r})", tmp_path)
    lines = done.stdout.splitlines()
    names = ["fabricate_mimic3", "fabricate_mimic4", *(2 * ["prepare_mimic3", "prepare_mimic4"])]
    assert [line.split()[0] for line in lines] == names, done.stderr
    assert all(line.endswith(install_command("prep")) for line in lines)


def test_require(monkeypatch):
    require("json", "PIL", "sphinxcontrib.bibtex")
    require_extra("all")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    for extra in ("prep", "all", "test"):  # those that include it, too
        with pytest.raises(ImportError, match=r"duckdb.*'\.\[prep\]'"):
            require_extra(extra)
    require_extra("search")
    with pytest.raises(MissingExtraError, match="no_such_library, which is not installed; install it with pip"):
        require("no_such_library")


def test_only_what_an_extra_brings_is_explained(monkeypatch):
    assert "'.[search]'" in explain(ModuleNotFoundError("No module named 'optuna.trial'", name="optuna.trial"))
    assert explain(ModuleNotFoundError("No module named 'torch'", name="torch")) is None
    assert explain(ImportError("cannot import name 'x' from 'duckdb'", name="duckdb")) is None


def test_any_import_of_an_extra_that_fails_is_one_line(monkeypatch, capsys):
    """The command line catches what the gates do not know of."""

    def command(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'optuna'", name="optuna")

    monkeypatch.setattr(cli, "app", command)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("told", "command"),
    [
        (None, "pip install 'cm2[prep]'"),
        (
            {"url": "file:///downloads/cm2-0.1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'cm2[prep] @ file:///downloads/cm2-0.1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://example.org/cm2.git", "vcs_info": {"vcs": "git", "commit_id": "0123abcd"}},
            "pip install 'cm2[prep] @ git+https://example.org/cm2.git@0123abcd'",
        ),
    ],
)
def test_outside_a_checkout_the_command_names_where_the_package_came_from(told, command, tmp_path, monkeypatch):
    """An index is named only to those who have the package from an index."""
    folder = tmp_path / "cm2-0.1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text('Metadata-Version: 2.4\nName: cm2\nVersion: 0.1.0\nRequires-Dist: duckdb>=1.2; extra == "prep"\n')
    if told:
        (folder / "direct_url.json").write_text(json.dumps(told))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cm2.environment.extras._CHECKOUT", tmp_path)
    assert install_command("prep") == command
    assert explain(ModuleNotFoundError("duckdb", name="duckdb")).endswith(f"; type: {command}")
