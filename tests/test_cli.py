"""The command line a newcomer types."""

import json

import pytest
from typer.testing import CliRunner

from cm2 import cli

runner = CliRunner()


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["cm2", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize(
    "command",
    [
        *([], ["prepare", "synthetic"], ["prepare", "physionet2012"], ["prepare", "mimic3"], ["prepare", "mimic4"], ["prepare", "quirks"]),
        *(["fabricate", "mimic3"], ["fabricate", "mimic4"], ["verify"], ["train"], ["evaluate"], ["runs"]),
        *(["table"], ["figure"], ["search"], ["book"]),
    ],
)
def test_every_command_explains_itself(command):
    result = runner.invoke(cli.app, [*command, "--help"])
    assert result.exit_code == 0
    assert not command or "Example: cm2" in result.output


def test_from_preparation_to_evaluation(tmp_path, monkeypatch, capsys):
    cohort, store = tmp_path / "cohort", tmp_path / "runs"
    code, out = run(monkeypatch, capsys, "prepare", "synthetic", "--stays", 160, "--out", cohort)
    assert code == 0
    assert "160" in out.out
    code, out = run(monkeypatch, capsys, "train", "--cohort", cohort, "--profile", "smoke", "--set", "train.epochs=1", "--out", store)
    assert code == 0, out.err
    path = next(line for line in out.out.splitlines() if line.startswith(str(store)))
    assert " test  AUROC 0." in out.out
    code, out = run(monkeypatch, capsys, "evaluate", path, "--cohort", cohort, "--absent", "note=0.5")
    assert code == 0, out.err
    assert "AUPR" in out.out
    code, out = run(monkeypatch, capsys, "runs", "--store", store)
    assert "in_hospital_mortality seed 0" in out.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--cohort", "nowhere"], "nowhere"),
        (["train", "--cohort", "nowhere", "--profile", "fast"], "unknown profile 'fast'"),
        (["train", "--cohort", "nowhere", "--set", "model.link"], "expected NAME=VALUE"),
        (["evaluate", "nowhere", "--cohort", "nowhere"], "not a finished run"),
        (["prepare", "physionet2012", "--raw", "nowhere", "--out", "x"], "nowhere"),
        (["table", "12", "--cohort", "nowhere"], "there is no table '12'; choose one of 1, 2, 3"),
        (["table", "2", "--cohort", "nowhere"], "nowhere"),
        (["search", "--cohort", "nowhere"], "nowhere"),
        (["figure", "7"], "the paper has no Figure 7; choose one of 1, 2, 3, 4, 5"),
        (["figure", "3"], "needs a training run"),
        (["book", "-p", "no_such_parameter", "3"], "no_such_parameter"),
    ],
)
def test_an_error_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in out.err
    assert len(out.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_figure_2_is_written_with_data_and_provenance(tmp_path, monkeypatch, capsys):
    code, _ = run(monkeypatch, capsys, "figure", 2, "--out", tmp_path)
    assert code == 0
    assert {p.name for p in tmp_path.iterdir()} == {f"figure-2.{e}" for e in ("svg", "pdf", "png", "csv", "json")}
    assert json.loads((tmp_path / "figure-2.json").read_text())["kendall_tau"] == 0.6
