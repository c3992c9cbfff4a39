"""With nothing but the wheel, in an empty folder: from data of one's own to a table with missing views, by a script and by commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_digits

from cm2 import load_cohort
from cm2.tables import read
from tests.environment.conftest import ROOT

LINES = 15
SCRIPTS = {"digits": "digits_in_two_views", "diabetes": "diabetes_in_three_views"}
COMMANDS = """
cm2 prepare own --table upper.csv --table lower.csv --labels digits.csv --id sheet --open --out digits
cm2 table views --cohort digits --profile smoke --seeds 1 --row Late_fusion --set train.epochs=1 --out digits_results
cm2 prepare own --table person.csv --table body.csv --table serum.csv --labels diabetes.csv --id patient --open --out diabetes
cm2 table views --cohort diabetes --profile smoke --seeds 1 --row Late_fusion --set train.epochs=1 --out diabetes_results
"""
TYPED = """
import sys, cm2
from cm2.__main__ import main
assert cm2.__file__.startswith(sys.argv[1])
for line in open("commands.txt").read().strip().splitlines():
    sys.argv = [word.replace("_fusion", " fusion") for word in line.split()]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, line
"""


def run(arguments: list[str], folder: Path, installed: Path) -> str:
    """What a process printed that finds the wheel and not the checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "CM2_HOME"} | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def judge(data: str, folder: Path, results: Path) -> None:
    """The cohort has the views, some missing, and its table a number for each method."""
    cohort = load_cohort(folder / data)
    result = read(results / "views-late-fusion.json") if results.name != "results" else read(results / "views-late-fusion-cm2.json")
    assert {cell.row for cell in result.cells} == {"Late fusion", "CM2"} and all(np.isfinite(cell.value) for cell in result.cells)
    assert result.provenance["modalities"] == [modality.name for modality in cohort.modalities]
    assert 0.3 < 1 - cohort.present[:, 1].mean() < 0.7
    if data == "digits":
        assert len(cohort.task("digit").classes) == 10 and "macro_auroc" in {cell.metric for cell in result.cells}
    else:
        assert cohort.task("progression").type == "regression" and len(cohort.modalities) == 3
        assert {cell.metric for cell in result.cells} == {"rmse", "mae"}


@pytest.mark.parametrize("data", SCRIPTS)
def test_from_arrays_to_a_table_in_a_few_lines(data, installed, tmp_path):
    script = ROOT / "examples" / f"{SCRIPTS[data]}.py"
    assert len(script.read_text().splitlines()) <= LINES
    shutil.copy(script, tmp_path / "script.py")
    printed = run(["script.py"], tmp_path, installed)
    assert "| Late fusion |" in printed and "| CM2 |" in printed
    judge(data, tmp_path, tmp_path / "results")


def test_from_files_to_tables_by_commands(installed, tmp_path):
    some = np.random.default_rng(0).random
    pixels, digit = load_digits(return_X_y=True, as_frame=True)
    pixels, digit = pixels.rename_axis("sheet"), digit.rename("digit").rename_axis("sheet")
    pixels.iloc[:, :32].to_csv(tmp_path / "upper.csv")
    pixels.iloc[some(len(digit)) < 0.5, 32:].to_csv(tmp_path / "lower.csv")
    digit.to_csv(tmp_path / "digits.csv")
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    X, y = (part.set_axis([f"p{row}" for row in range(len(y))]).rename_axis("patient") for part in (X, y.rename("progression")))
    body = X[["bmi", "bp"]].where(pd.Series(some(len(y)) < 0.5, X.index), axis=0)  # an empty row is missing, like no row
    for name, part in {"person": X[["age", "sex"]], "body": body, "serum": X.loc[:, "s1":], "diabetes": y}.items():
        part.to_csv(tmp_path / f"{name}.csv")
    (tmp_path / "commands.txt").write_text(COMMANDS)
    run(["-c", TYPED, str(installed)], tmp_path, installed)
    for data in SCRIPTS:
        judge(data, tmp_path, tmp_path / f"{data}_results")
