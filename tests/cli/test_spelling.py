"""Errors name what to give as the user gives it: an option on the command line, an argument in a program."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from cm2 import cli
from cm2.errors import InputError, in_the_words_of, spelled

ROOT = Path(__file__).resolve().parents[2]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
ARGUMENT = re.compile(r"\b[a-z_]+=(?=['\"({.\s,;)]|\d|$)")
COMMANDS = re.compile(r"`[^`]*`")
"""What is to be typed as it stands."""


def modules():
    files = sorted(path for room in ("cm2", "data_prep") for path in (ROOT / room).rglob("*.py"))
    return [path for path in files if path.parent.name not in ("cli", "book")]


def texts(node):
    """All pieces of strings below a node."""
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def spelled_calls():
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "spelled":
                yield path, node


def options_of(command):
    yield from (name for parameter in command.params for name in parameter.opts)
    for sub in getattr(command, "commands", {}).values():
        yield from options_of(sub)


def test_options_in_errors_are_those_of_the_command_line():
    known = set(options_of(get_command(cli.app)))
    found = {name for _, call in spelled_calls() for text in texts(call.args[1]) for name in OPTION.findall(text)}
    assert len(found) > 10 and found <= known
    assert not [text for _, call in spelled_calls() for text in texts(call.args[1]) if ARGUMENT.search(text)]
    assert not [text for _, call in spelled_calls() for text in texts(call.args[0]) if OPTION.search(text)]


def test_no_other_error_of_a_function_names_an_option():
    """Apart from a setting, ``--set NAME=VALUE``, whose name is the same everywhere, and whole commands between backquotes."""
    strange = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if is_spelled(node) for part in ast.walk(node)}
        for node in (each for each in ast.walk(tree) if isinstance(each, ast.Raise) or assigns_remedy(each)):
            pieces = [p for p in ast.walk(node) if isinstance(p, ast.Constant) and isinstance(p.value, str) and id(p) not in inside]
            text = COMMANDS.sub("", "".join(piece.value for piece in pieces))
            strange += [(path.name, node.lineno, name) for name in OPTION.findall(text) if name != "--set"]
    assert strange == []


def is_spelled(node):
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "spelled"


def assigns_remedy(node):
    return isinstance(node, ast.Assign) and "remedy" in map(ast.unparse, node.targets)


def test_spelled():
    assert spelled("out=", "--out") == "out="
    with in_the_words_of("estimator"):
        assert spelled("out=", "--out") == "out=" and spelled("labels", "labels", "y") == "y"
    with pytest.raises(InputError), in_the_words_of("command line"):
        assert spelled("out=", "--out") == "--out"
        raise InputError("stopped")
    assert spelled("out=", "--out") == "out="


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids, rng = [f"s{i}" for i in range(40)], np.random.default_rng(0)
    part = ["train"] * 20 + ["valid", "test"] * 10
    labels = pd.DataFrame({"id": ids, "sick": np.arange(40) // 2 % 2, "who": np.arange(40) // 2, "part": part})
    labels.to_csv("labels.csv", index=False)
    pd.DataFrame({"id": ids, "x": rng.normal(size=40)}).to_csv("x.csv", index=False)
    pd.DataFrame({"id": [*ids, "s99"], "x": 1.0}).to_csv("more.csv", index=False)
    pd.DataFrame({"id": ids[:-1], "x": 1.0}).to_csv("fewer.csv", index=False)
    pd.DataFrame({"id": ids, "x": ["1,5"] * 40}).to_csv("commas.csv", index=False)
    pd.DataFrame({"id": ids, "x": ["03/04/2021"] * 40}).to_csv("dates.csv", index=False)
    pd.DataFrame({"id": ids, "x": ["5 mg"] * 39 + ["5 g"]}).to_csv("units.csv", index=False)
    pd.DataFrame({"id": ids, "x": [f"{i} words" for i in "abcdefghij" * 4]}).assign(y="text").to_csv("two.csv", index=False)
    pd.DataFrame({"id": ids * 5, "x": [f"word {i}" for i in range(200)], "t": 0.0}).to_csv("words.csv", index=False)
    pd.DataFrame({"id": ids, "x": ["1"] * 39 + ["n/a?"]}).to_csv("mixed.csv", index=False)
    pd.DataFrame({"id": ids}).to_csv("empty.csv", index=False)
    late = np.where(labels["part"] == "train", np.nan, 1.0)
    pd.DataFrame({"id": ids, "x": 1.0, "y": late}).to_csv("late.csv", index=False)
    np.save("bright.npy", np.full((40, 8, 8), 3.0))
    np.save("short.npy", np.zeros((30, 2)))
    return tmp_path


CASES = {
    "--table more.csv --id id": "--drop-unmatched",
    "--table fewer.csv --id id": "--drop-unmatched",
    "--id id": "--table, --series, --text or --images",
    "--table short.npy": "--id COLUMN",
    "--table commas.csv --id id": "write the file with points",
    "--table dates.csv --id id": "write dates like 2021-03-25",
    "--table units.csv --id id": "convert all to one unit and give numbers",
    "--table mixed.csv --id id": "Parquet",
    "--table empty.csv --id id": "a file with more of them",
    "--table late.csv --id id --split part --task sick": "leave it out, or give a split",
    "--series words.csv --time t --id id": "give it as --text",
    "--series x.csv --time x --every -1 --id id": "",
    "--series words.csv --time t --every -1 --id id": "",
    "--text two.csv --id id": "Keep one of them",
    "--images bright.npy": "fractions of 1",
    "--table x.csv --id id --split part --groups who --task sick": "or give --split as shares",
    "--table x.csv --id id --split 0.9,0.3,0.1": "--split: (0.9, 0.3, 0.1)",
    "--table x.csv --id id --task sick=binry": "--task: unknown type 'binry'",
    "--table x.csv --id id --split 0.98,0.01,0.01": "",
}


@pytest.mark.parametrize("words", CASES)
def test_mistakes_on_the_command_line(words, files, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cm2", "prepare", "own", *words.split(), "--labels", "labels.csv", "--out", "c"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and CASES[words] in said and "\n" not in said and not (files / "c").exists()
    assert not ARGUMENT.search(said), said
