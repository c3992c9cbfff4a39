"""Registries and what tells versions of a part apart."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from cm2.errors import InputError
from cm2.methods import METHODS
from cm2.networks.encoders import ENCODERS
from cm2.parts import REGISTRIES, Registry, carried, identity, receive
from cm2.parts.identity import code
from tests.parts.outside import BLOCKS, NAMES, TEXT, install, on_the_path


@pytest.fixture
def registry():
    made = Registry("part", "cm2.none", named=False)
    yield made
    del REGISTRIES["cm2.none"]


def cell(text: str, **names: object):
    """The namespace of a notebook after a cell with this text."""
    space = {"__name__": "__main__", "nn": nn, "torch": torch, **names}
    exec(compile(text, "<cell>", "exec"), space)
    return space


NETWORK = "class Mine(nn.Module):\n    def forward(self, x):\n        return helper(x) * SCALE\n"
HELPER = "def helper(x):\n    return x + 1\n"


def test_a_cell_run_again_is_the_same_part_and_other_code_another_one():
    first = cell(HELPER + "SCALE = 2\n" + NETWORK)["Mine"]
    again = cell("# a comment\n\n" + HELPER + "SCALE = 2\n\n" + NETWORK)["Mine"]
    assert identity(first) == identity(again) != ""
    others = [
        cell(HELPER + "SCALE = 3\n" + NETWORK),
        cell(HELPER.replace("1", "2") + "SCALE = 2\n" + NETWORK),
        cell(HELPER + "SCALE = 2\n" + NETWORK.replace("* SCALE", "/ SCALE")),
        cell(HELPER + "SCALE = 2\n" + NETWORK + "    width = 8\n"),
        cell(HELPER + "SCALE = torch.tensor([2.0])\n" + NETWORK),
        cell(HELPER + "SCALE = torch.tensor([3.0])\n" + NETWORK),
    ]
    assert len({identity(space["Mine"]) for space in others} | {identity(first)}) == 7


def test_what_was_freed_meanwhile_does_not_count():
    """Objects are told apart by their place in memory, which the next one gets once the first is gone."""
    text = "def make(modality, width=8):\n    return nn.Sequential(*[helper(i) for i in range(3)])\n"
    helpers = "def helper(x, *, y=2):\n    return other(x, (y, 1.5))\ndef other(x, y):\n    return lambda: {x: [y, GAIN]}\n"
    found = set()
    for gain in [2.0, 3.0] * 20:
        made = cell(helpers + f"GAIN = {gain}\n" + text)["make"]
        rubbish = [[str(i), (i, float(i))] for i in range(gain.__hash__() % 7 * 10)]
        found.add(code(made))
        del rubbish
    assert len(found) == 2


def test_weights_that_a_function_holds_count():
    def held(seed):
        torch.manual_seed(seed)
        return cell("def make(modality):\n    return NET\n", NET=nn.Linear(2, 2))["make"]

    assert code(held(0)) == code(held(0)) != code(held(1))


def test_a_version_is_trusted_in_a_module_and_not_in_a_notebook():
    plus, minus = (cell(f"class Mine(nn.Module):\n    def forward(self, x):\n        return x {sign} 1\n")["Mine"] for sign in "+-")
    assert identity(plus, "1") != identity(minus, "1") and identity(plus, "1") != identity(plus, "2")
    for part in (plus, minus):
        part.__module__ = "elsewhere"
    assert identity(plus, "1") == identity(minus, "1") == "elsewhere.Mine version 1"


def test_parts_of_this_package_have_no_identity_but_their_version():
    assert all(METHODS.identity(name) == "" for name in METHODS) and METHODS.identity("nothing of this name") == ""


def test_one_name_is_one_part(registry):
    registry.register("mine", nn.Linear)
    registry.register("mine", nn.Linear)
    with pytest.raises(InputError, match=r"part 'mine' is torch\.nn\.modules\.linear\.Linear already; give Conv1d another name"):
        registry.register("mine", nn.Conv1d)
    with pytest.raises(InputError, match="expected a class or a function that makes one, got a Linear"):
        registry.register("object", nn.Linear(1, 1))
    with pytest.raises(InputError, match="is no name"):
        registry.register(" ", nn.Linear)
    with pytest.raises(InputError, match=r"row A: unknown part 'min'; choose one of mine \(did you mean 'mine'\?\)"):
        registry.find("min", "row A")


def test_another_process_gets_the_parts_with_their_identity(registry):
    part = cell(HELPER + "SCALE = 2\n" + NETWORK)["Mine"]
    registry.register("mine", part)
    sent = [each for each in carried() if each[0] == "cm2.none"]
    known = registry.identity("mine")
    del registry["mine"]
    receive(sent)
    assert registry["mine"] is part and registry.identity("mine") == known


def identities() -> list[str]:
    return [REGISTRIES[group].identity(name) for group, name in NAMES.items()]


def test_installed_parts_are_found_and_a_changed_file_is_another_part(tmp_path):
    """The file may be that of a module which the part's own module imports; of a part that sets a version the version counts."""
    told = {}
    texts = {"first": {}, "again": {}, "blocks": {"blocks": BLOCKS.replace("ReLU", "Tanh")}}
    for name, changed in (texts | {"version": {"parts": TEXT.replace('name = "wide"', 'name, version = "wide", "2"')}}).items():
        with on_the_path(install(tmp_path / name, **changed)):
            assert "made_up" not in sys.modules
            told[name] = identities()
            assert all(part in set(REGISTRIES[group]) for group, part in NAMES.items())
    assert told["first"] == told["again"] and all(told["first"])
    assert all(a != b for a, b in zip(told["first"], told["blocks"], strict=True))
    assert told["version"][0] == "made_up.parts.Wide version 2" and told["version"][1] != told["first"][1]
    assert identities() == [""] * 5


def test_a_plug_in_that_fails_is_named_and_the_others_work(tmp_path):
    points = "[cm2.encoders]\nbroken = made_up.nowhere:Broken\nwide = made_up.parts:Wide\n[cm2.methods]\nother = made_up.parts:Wide\n"
    with on_the_path(install(tmp_path, points=points)):
        assert ENCODERS["wide"].__name__ == "Wide"
        with pytest.raises(InputError, match=r"encoder 'broken' \(made_up\.nowhere:Broken of made_up\) cannot be imported: ModuleNotFound"):
            ENCODERS.find("broken")
        with pytest.raises(InputError, match="method 'other': its entry point defines no class with name = 'other'"):
            METHODS.find("other")
        with pytest.warns(UserWarning, match="a plug-in is left out: encoder 'broken'"):
            assert {"wide"} == {name for name in ENCODERS if name in ("wide", "broken")}


def test_a_file_or_module_is_a_plug_in(tmp_path, monkeypatch):
    body = "from torch import nn\nfrom cm2.networks.encoders import register_encoder\n"
    (tmp_path / "mine_alone.py").write_text(f"{body}@register_encoder('flat')\ndef flat(modality):\n    return nn.Flatten()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for given in (str(tmp_path / "mine_alone.py"), "mine_alone"):
        monkeypatch.setenv("CM2_PLUGINS", given)
        assert ENCODERS.identity("flat").startswith("mine_alone.flat source ") and "flat" in set(ENCODERS)
        del ENCODERS["flat"], sys.modules["mine_alone"]
    (tmp_path / "pytest.py").write_text("")
    for given, match in (
        ("no_such_module", "CM2_PLUGINS: no_such_module cannot be imported"),
        (str(tmp_path / "none.py"), r"there is no file .*none\.py"),
        (str(tmp_path / "pytest.py"), "has the name of the module pytest"),
    ):
        monkeypatch.setenv("CM2_PLUGINS", given)
        with pytest.raises(InputError, match=match):
            ENCODERS.find("flat")


def test_a_file_imports_what_lies_beside_it_and_a_change_there_is_another_part(tmp_path, monkeypatch):
    """A file, a module of a package, and what that imports in turn; no path needs to be set."""
    text = "import beside_it\nfrom package_beside import layers\nfrom cm2.networks.encoders import register_encoder\n"
    files = {"mine_with_others.py": f"{text}@register_encoder('flat')\ndef flat(modality):\n    return layers.nn.Flatten()\n"}
    files |= {
        "beside_it.py": "WIDTH = 1\n",
        "package_beside/__init__.py": "",
        "package_beside/layers.py": "import further_one\nfrom torch import nn\n",
    }
    files["further_one.py"] = "RATE = 0\n"
    (tmp_path / "package_beside").mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("CM2_PLUGINS", str(tmp_path / "mine_with_others.py"))
    told = []
    for changed in ("", "", *files):
        for name, content in files.items():
            (tmp_path / name).write_text(content + ("\n# another\n" if name == changed else ""))
        told.append(ENCODERS.identity("flat"))
        del ENCODERS["flat"]
        for name in ("mine_with_others", "beside_it", "package_beside", "package_beside.layers", "further_one"):
            del sys.modules[name]
    assert told[0] == told[1] and len(set(told)) == 1 + len(files)
