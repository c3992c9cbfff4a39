"""``cm2 prepare own`` and ``cm2 prepare meds`` as a newcomer types them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cm2 import cli, load_cohort

N = 300
runner = CliRunner()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two views of ten classes, three views of a number, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(N)]
    digit, signal = np.arange(N) % 10, rng.normal(size=N)
    pd.DataFrame({"id": ids, "digit": digit, "who": np.arange(N) // 2}).to_csv("classes.csv", index=False)
    pd.DataFrame({"id": ids, "length": signal}).to_csv("numbers.csv", index=False)
    views = {"left": digit + rng.normal(size=N), "right": signal + rng.normal(size=N), "third": signal - rng.normal(size=N)}
    for name, view in views.items():
        frame = pd.DataFrame({"id": ids, "x": view, "y": -view})
        frame[(rng.random(N) < 0.9) | (name == "left")].to_csv(f"{name}.csv", index=False)
    return tmp_path


def test_ten_classes_and_a_number_from_files(files):
    words = "--table left.csv --table b=right.csv --labels classes.csv --id id --groups who --open --out c"
    done = runner.invoke(cli.app, ["prepare", "own", *words.split()])
    assert done.exit_code == 0, done.output
    cohort = load_cohort(files / "c")
    assert list(cohort.manifest["modalities"]) == ["left", "b"] and len(cohort.task("digit").classes) == 10
    words = "--table left.csv --table right.csv --table third.csv --labels numbers.csv --id id --split 0.6,0.2,0.2"
    words += " --task length=regression --out n"
    assert runner.invoke(cli.app, ["prepare", "own", *words.split()]).exit_code == 0
    other = load_cohort(files / "n")
    assert other.task("length").type == "regression" and other.credentialed and not cohort.credentialed
    assert (other.stays["split"] == "train").sum() == 180


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--table left.csv --labels classes.csv --id ids --out c", "no column 'ids'"),
        ("--table left.csv --labels classes.csv --id id --split a,b --out c", "neither a column nor three shares"),
        ("--table left.csv --labels classes.csv --id id --task digit=class --out c", "unknown type 'class' of digit"),
        ("--table right.csv --labels classes.csv --id id --out c", "have them dropped and counted: --drop-unmatched"),
        ("--labels classes.csv --id id --out c", "modalities: none is given"),
    ],
)
def test_mistakes_are_one_line(words, message, files, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cm2", "prepare", "own", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and message in said and "\n" not in said and not (files / "c").exists()
