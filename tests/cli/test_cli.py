"""The command line a newcomer types."""

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from shutil import which

import pytest
from typer.testing import CliRunner

from cm2 import cli, figures, tables
from cm2.cli import known
from cm2.cohorts.format import SPLITS
from cm2.config import MECHANISMS, PROFILES
from cm2.methods import METHODS
from cm2.tables.spec import roles
from cm2.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]

runner = CliRunner()


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["cm2", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    "command",
    [
        *(
            [],
            ["prepare", "synthetic"],
            ["prepare", "physionet2012"],
            ["prepare", "mimic3"],
            ["prepare", "mimic4"],
            ["prepare", "quirks"],
            ["prepare", "own"],
            ["prepare", "meds"],
        ),
        *(["fabricate", "mimic3"], ["fabricate", "mimic4"], ["verify"], ["train"], ["evaluate"], ["runs"]),
        *(["table"], ["figure"], ["search"], ["book"]),
    ],
)
def test_every_command_explains_itself(command):
    result = runner.invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert not command or "Example: cm2" in result.output


def test_the_names_it_knows_are_those_of_the_registries():
    assert known.methods() == tuple(sorted(METHODS))
    assert list(known.tables()) == tables.table_names()
    assert known.tables() == {name: tables.load_table(name).title for name in tables.table_names()}
    assert set(known.tasks()) == {task for role in roles().values() for task in (*role.tasks.values(), *role.others)}
    assert known.task_types() == tuple(sorted(TASKS))
    assert set(known.profiles()) == {path.stem for path in PROFILES.glob("*.toml")}
    assert known.splits() == SPLITS and known.mechanisms() == MECHANISMS
    for number in known.figures():
        assert callable(getattr(figures, f"figure_{number}"))
    with pytest.raises(ValueError, match=f"choose one of {known.listed(known.figures())}"):
        figures.regenerate(len(known.figures()) + 1, None, "quick", Path())


@pytest.mark.parametrize(
    ("command", "names"),
    [
        *((command, [*known.methods(), *known.tasks(), *known.profiles()]) for command in ("train", "search")),
        ("table", [*known.tables(), *known.tables().values(), *known.tasks(), *known.profiles()]),
        ("figure", [*known.figures(), *known.figures().values(), *known.profiles()]),
        ("evaluate", [*known.splits(), *known.mechanisms()]),
        ("book", known.profiles()),
    ],
)
def test_help_lists_them(command, names):
    words = " ".join(runner.invoke(cli.app, [command, "--help"]).output.split())
    assert [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words)] == []


@pytest.mark.parametrize("start", [[sys.executable, "-m", "cm2"], [str(Path(sys.executable).with_name("cm2"))]])
def test_version(start, tmp_path):
    done = subprocess.run([*start, "--version"], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True)
    parts = dict(part.split(" ", 1) for part in done.stdout.strip().split(", "))
    assert (parts["cm2"], parts["Python"], parts["torch"]) == (version("cm2"), platform.python_version(), version("torch"))
    assert ("commit" in parts) == ((ROOT / ".git").exists() and which("git") is not None)
    assert re.fullmatch(r"[0-9a-f]{10}\+?", parts.get("commit", 10 * "0"))


def test_a_package_outside_a_checkout_has_no_commit(tmp_path):
    """Even where the folder above is a checkout of something else."""
    from cm2.cli.about import _commit

    assert _commit(ROOT / "cm2") == _commit(tmp_path) == ""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("cm2 tr", ["train"]),
        ("cm2 prepare mimic", ["mimic3", "mimic4"]),
        ("cm2 prepare mimic3 --variant c", ["corrected"]),
        ("cm2 train --method dr", ["drfuse"]),
        ("cm2 train --task long", ["long_stay"]),
        ("cm2 train --task phe", ["phenotyping"]),
        ("cm2 train --cohort nowhere --task phe", ["phenotyping"]),
        ("cm2 table 2 --task in", ["in_hospital_mortality"]),
        ("cm2 prepare synthetic --family gu", ["gumbel"]),
        ("cm2 prepare mimic3 --quirk death_by_date", ["death_by_date=on", "death_by_date=off"]),
        ("cm2 search --method bogus --profile ", list(known.profiles())),
        ("cm2 table 1", ["1", "10", "11"]),
        ("cm2 figure ", list(known.figures())),
        ("cm2 evaluate x --mechanism mn", ["mnar"]),
        ("cm2 book --only training", ["training_cm2"]),
    ],
)
def test_the_shell_completes(typed, offered, monkeypatch, capsys):
    monkeypatch.setenv("_CM2_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
    code, out = run(monkeypatch, capsys)
    assert code == 0
    assert out.out.split() == offered


def test_tasks_are_completed_from_the_cohort(tmp_path, monkeypatch, capsys):
    (tmp_path / "manifest.json").write_text(json.dumps({"tasks": {"relapse": {}, "stage": {}}}))
    for command in ("train", "search", "table 2"):
        typed = f"cm2 {command} --cohort {tmp_path} --task "
        monkeypatch.setenv("_CM2_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(typed.split(" ")) - 1))
        assert run(monkeypatch, capsys)[1].out.split() == ["relapse", "stage"]


@pytest.mark.skipif(os.name != "posix", reason="bash")
def test_completion_can_be_shown_and_installed(tmp_path):
    command = f"{sys.executable} -m cm2 --show-completion; {sys.executable} -m cm2 --install-completion; true"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, env=os.environ | {"HOME": str(tmp_path)}, timeout=60, check=True
    )
    assert "complete -o default -F _cm2_completion cm2" in done.stdout
    assert (tmp_path / ".bash_completions" / "cm2.sh").is_file()


def test_chapters_are_those_of_the_book(tmp_path, monkeypatch):
    assert "training_cm2" in known.chapters() and "api" not in known.chapters()
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert known.chapters() == []


def only_progress(text, begins):
    """Lines of ``cm2.progress``, one of them of this beginning, and nothing of other libraries."""
    said = r"\S.* \(.* s\)(; (about|at most) .* left( of this stage)?)?|(\S.*: )?done in .* s"
    strange = [line for line in text.splitlines() if not re.fullmatch(said, line)]
    assert not strange
    assert any(line.startswith(begins) for line in text.splitlines()), text


def test_from_preparation_to_evaluation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cm2.progress.display.INTERVAL", 0.02)
    cohort, store = tmp_path / "cohort", tmp_path / "runs"
    code, out = run(monkeypatch, capsys, "prepare", "synthetic", "--stays", 160, "--out", cohort)
    assert code == 0
    assert "160" in out.out
    only_progress(out.err, "preparing synthetic: law")
    code, out = run(monkeypatch, capsys, "train", "--cohort", cohort, "--profile", "smoke", "--set", "train.epochs=1", "--out", store)
    assert code == 0, out.err
    path = next(line for line in out.out.splitlines() if line.startswith(str(store)))
    assert " test  AUROC 0." in out.out
    only_progress(out.err, "training cm2 seed 0: epoch 1 of 1")
    code, out = run(monkeypatch, capsys, "evaluate", path, "--cohort", cohort, "--absent", "note=0.5")
    assert code == 0, out.err
    assert "AUPR" in out.out
    only_progress(out.err, "evaluating cm2 seed 0")
    code, out = run(monkeypatch, capsys, "runs", "--store", store)
    assert "in_hospital_mortality seed 0" in out.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--cohort", "nowhere"], "nowhere"),
        (
            ["train", "--cohort", "nowhere", "--profile", "quck"],
            "unknown profile 'quck'; choose one of smoke, quick, open, paper (did you mean 'quick'?)",
        ),
        (["train", "--cohort", "nowhere", "--profile", "own.toml"], "unknown profile 'own.toml'"),
        (["train", "--cohort", "nowhere", "--method", "medfus"], "unified (did you mean 'medfuse'?)"),
        (["search", "--cohort", "nowhere", "--method", "xyz"], "unknown method 'xyz'; choose one of boosted_trees, cm2"),
        (["evaluate", "nowhere", "--cohort", "nowhere", "--split", "tests"], "(did you mean 'test'?)"),
        (["prepare", "synthetic", "--out", "x", "--mechanism", "mcr"], "mnar (did you mean 'mcar'?)"),
        (["train", "--cohort", "nowhere", "--set", "model.link"], "expected NAME=VALUE"),
        *((["train", "--cohort", "nowhere", f"--{count}", "0"], f"--{count}: expected 1 or more, got 0") for count in ("seeds", "devices")),
        (["train", "--cohort", "nowhere", "--record", "name"], "give --seeds 2 or more, got 1"),
        *((["search", "--cohort", "nowhere", f"--{count}", "0"], f"--{count}: expected 1 or more, got 0") for count in ("trials", "seeds")),
        (["evaluate", "nowhere", "--cohort", "nowhere"], "not a finished run"),
        (["prepare", "physionet2012", "--raw", "nowhere", "--out", "x"], "nowhere"),
        (["table", "12", "--cohort", "nowhere"], "version-3, views, or give the path of a TOML file"),
        (["table", "alignmnt", "--cohort", "nowhere"], "unknown table 'alignmnt'; choose one of 1, 2, 3"),
        (["table", "alignmnt", "--cohort", "nowhere"], "(did you mean 'alignment'?)"),
        (["table", "2", "--cohort", "nowhere"], "nowhere"),
        (["search", "--cohort", "nowhere"], "nowhere"),
        (["figure", "7"], "unknown figure '7'; choose one of 1, 2, 3, 4, 5"),
        (["figure", "3"], "needs a training run"),
        (["figure", "1", "--store", "runs"], "--store changes nothing: Figure 1 shows no run; leave it out"),
        (
            ["figure", "5", "--set", "model.link=scalar"],
            "--set changes nothing: without --cohort nothing is trained for Figure 5; leave it out",
        ),
        (["figure", "2", "--profile", "open"], "--profile changes nothing: without --cohort nothing is trained"),
        (["figure", "4", "--cohort", "nowhere", "--seeds", "2"], "--seeds changes nothing: Figure 4 shows one seed; leave it out"),
        (["book", "-p", "no_such_parameter", "3"], "no_such_parameter"),
        (["book", "--profile", "quik"], "paper (did you mean 'quick'?)"),
    ],
)
def test_an_error_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in out.err
    assert len(out.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_task_that_the_cohort_lacks_is_one_line(small_cohort, monkeypatch, capsys):
    for command in ("train", "search"):
        code, out = run(monkeypatch, capsys, command, "--cohort", small_cohort.path, "--profile", "smoke", "--task", "readmision")
        assert (code, out.err.count("\n")) == (2, 1)
        assert "choose one of in_hospital_mortality, readmission (did you mean 'readmission'?)" in out.err


def test_figure_2_is_written_with_data_and_provenance(tmp_path, monkeypatch, capsys):
    code, _ = run(monkeypatch, capsys, "figure", 2, "--out", tmp_path)
    assert code == 0
    assert {p.name for p in tmp_path.iterdir()} == {f"figure-2.{e}" for e in ("svg", "pdf", "png", "csv", "json")}
    assert json.loads((tmp_path / "figure-2.json").read_text())["kendall_tau"] == 0.6
