"""Runs with parts from outside: their keys, their training, the processes and the command line that find them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cm2 import CM2, Config, RunStore, cli, evaluate, fit_all, load_cohort
from cm2.batch import Modality
from cm2.methods import build_method, parts_from_outside, tokenised
from cm2.networks.encoders import ENCODERS, register_encoder
from cm2.networks.fusion import FUSIONS, register_fusion
from data_prep.writer import PreparedCohort, PreparedModality, write_cohort
from tests.parts.outside import BLOCKS, install, on_the_path

N = 80
MINE = {"train.epochs": 1, "encoder.series": "wide", "encoder.table.part": "wide", "encoder.table.width": 4, "model.fusion": "mean-of-all"}


def write(out, kind="vector"):
    rng = np.random.default_rng(0)
    here = np.ones(N, dtype=bool)
    modalities = {
        "series": PreparedModality("series", rng.normal(size=(N, 4, 3)), here),
        "table": PreparedModality(kind, rng.normal(size=(N, 5)), rng.random(N) < 0.7),
    }
    split = np.array(["train", "train", "valid", "test"])[np.arange(N) % 4]
    stays = pd.DataFrame({"stay_id": np.arange(N), "split": split, "death": (np.arange(N) // 4) % 2})
    made = PreparedCohort("mine", "made up", "1", {}, stays, modalities, {"death": "made up"}, [], {}, credentialed=False)
    return write_cohort(out, made)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return load_cohort(write(tmp_path_factory.mktemp("parts") / "cohort"))


def config(overrides=(), **fields):
    return Config.from_profile("smoke", {"task": "death", **dict(overrides), **fields})


PARTS = {
    "encoder": {"encoder.table": "wide"},
    "fusion": {"model.fusion": "mean-of-all"},
    "copula": {"model.family": "normal"},
    "pair copula": {"model.family": "vine", "model.pair_family": "normal"},
    "method": {"method": "constant"},
}


def test_no_part_is_ever_stale(plain, tmp_path):
    """A part of the same name with other code gives another key, whatever the part."""
    store, keys = RunStore(tmp_path / "runs"), {}
    for version, changed in (("first", {}), ("again", {}), ("other", {"blocks": BLOCKS.replace("ReLU", "Tanh")})):
        with on_the_path(install(tmp_path / version, **changed)):
            ways = {name: (config(overrides), plain) for name, overrides in PARTS.items()}
            ways["kind"] = (config(), load_cohort(write(tmp_path / f"{version}-cohort", "doubled")))
            for name, (asked, cohort) in ways.items():
                keys[name, version] = store.key(asked, cohort)
                assert parts_from_outside(asked, cohort), name
    for name in (*PARTS, "kind"):
        assert keys[name, "first"] == keys[name, "again"] != keys[name, "other"], name
    assert len(set(keys.values())) == 2 * (len(PARTS) + 1)
    assert parts_from_outside(config(), plain) == {}


def test_a_cell_run_again_with_other_code_is_trained_again(plain, tmp_path):
    text = "@register_encoder('celled', version='1')\ndef make(modality):\n    return nn.Sequential(nn.Linear(5, 8), nn.{}())\n"
    keys = []
    try:
        for activation in ("ReLU", "ReLU", "Tanh"):
            exec(text.format(activation), {"__name__": "__main__", "register_encoder": register_encoder, "nn": nn})
            keys.append(RunStore(tmp_path).key(config({"encoder.table": "celled"}), plain))
    finally:
        del ENCODERS["celled"]
    assert keys[0] == keys[1] != keys[2]


def test_they_are_trained_by_workers_that_import_everything_afresh(plain, tmp_path):
    """Installed parts, and one that exists only in this process, as in a notebook."""
    text = "@register_fusion('celled')\ndef make(dim, modalities):\n    return Net(dim)\n"
    net = "class Net(nn.Module):\n    def __init__(self, dim):\n        super().__init__()\n        self.layer = nn.Linear(dim, 3)\n"
    space = {"__name__": "__main__", "register_fusion": register_fusion, "nn": nn}
    exec(f"{net}    def forward(self, z, present=None):\n        return self.layer(z.sum(1))\n{text}", space)
    store = RunStore(tmp_path / "runs")
    with on_the_path(install(tmp_path / "made")):
        try:
            configs = [config(MINE), config(MINE, **{"model.fusion": "celled"})]
            keys = [store.key(each, plain) for each in configs]
            runs = fit_all(configs, plain, store, jobs=2)
            assert [run.path.name for run in runs] == keys
            assert sorted(runs[0].environment["parts"]) == ["encoder.series", "encoder.table", "model.fusion"]
            weights = runs[0].load_method(plain).state_dict()
            assert weights["embeddings.projections.table.weight"].shape == (8, 4) and "fusion.module.layer.weight" in weights
            assert runs[1].load_method(plain).fusion.output_dim == 3
            assert store.fit(configs[1], plain, progress=False).path.name == keys[1]
        finally:
            del FUSIONS["celled"]


def test_the_command_line_and_a_table_find_them(plain, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(
        'title = "Own parts"\nmodalities = 2\n'
        'row = [{ label = "constant", method = "constant" }, { label = "CM2", set = { "model.fusion" = "mean-of-all" } }]\n'
        '[[section]]\nlabel = "matched"\nsetting = "matched"\n'
    )
    common = ["--cohort", str(plain.path), "--task", "death", "--profile", "smoke", "--set", "train.epochs=1"]

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["cm2", *arguments, *common])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code, capsys.readouterr()

    with on_the_path(install(tmp_path / "made")):
        code, said = call("train", "--method", "constant", "--set", "encoder.table=wide")
        assert code == 0, said.err
        code, said = call("table", str(tmp_path / "own.toml"), "--seeds", "1")
        assert code == 0 and "constant" in said.out, said.err
    code, said = call("train", "--method", "constant")
    assert (code, said.out) == (2, "") and "unknown method 'constant'; choose one of" in said.err


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (
            {"encoder.tabel": "wide"},
            r"encoder\.tabel: the cohort mine has no modality 'tabel'; choose one of series, table \(did you",
        ),
        ({"encoder.table": "wied"}, r"encoder\.table: unknown encoder 'wied'; choose one of .*wide.*did you mean 'wide'"),
        (
            {"encoder.table": "wide", "encoder.table.widht": 3},
            r"encoder\.table: wide has no option 'widht'; it has width \(did you",
        ),
        ({"model.fusion": "mean"}, r"model\.fusion: unknown fusion 'mean'; choose one of additive, concat, hidden, lstm, mean-of-all"),
        ({"model.family": "norml"}, r"unknown copula 'norml'; .*did you mean 'normal'"),
        ({"method": "constnat"}, r"unknown method 'constnat'; .*did you mean 'constant'"),
    ],
)
def test_unknown_names_list_what_is_known(plain, tmp_path, overrides, match):
    with on_the_path(install(tmp_path / "made")), pytest.raises(ValueError, match=match):
        RunStore(tmp_path / "runs").fit(config(overrides), plain, progress=False)
    assert RunStore(tmp_path / "runs").runs() == []


def test_a_stored_run_is_not_evaluated_with_another_part(plain, tmp_path):
    """Nor without it; either is said by name, with where the part came from."""
    store, asked = RunStore(tmp_path / "runs"), config(MINE)
    with on_the_path(install(tmp_path / "made")):
        metrics = evaluate(run := store.fit(asked, plain, progress=False), plain)
    with on_the_path(install(tmp_path / "again")):
        assert evaluate(run, plain) == metrics
    changed = install(tmp_path / "changed", blocks=BLOCKS.replace("ReLU", "Tanh"))
    with (
        on_the_path(changed),
        pytest.raises(ValueError, match=r"was made_up\.parts\.Wide source \w+, here it is made_up\.parts\.Wide source"),
    ):
        evaluate(run, plain)
    with pytest.raises(
        ValueError, match=r"encoder\.series was made_up\.parts\.Wide source \w+, which is not here; install its package, or"
    ):
        evaluate(run, plain)


def test_objects_are_given_to_the_model_itself(plain):
    asked = config({"model.dropout": 0.0})
    cohort = tokenised(plain, asked)
    audio = nn.Sequential(nn.Flatten(), nn.Linear(12, 6))
    model = CM2(asked, cohort.modalities, encoders={"series": audio}, fusion=Fused(), head=nn.Linear(8, 1))
    batch = cohort.split("train", "death").batch(range(16))
    model.loss(batch)["loss"].backward()
    assert all(p.grad is not None for p in (*audio.parameters(), *model.fusion.parameters(), *model.classifier.parameters()))
    assert model.embeddings.encoders["series"].module is audio and type(build_method(asked, cohort).fusion) is not type(model.fusion)


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, z, present):
        return self.layer((z * present[..., None]).mean(1))  # a mask is always there


SERIES, TABLE = Modality("series", "series", (4, 3)), Modality("table", "vector", (5,))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"encoders": {"tabel": nn.Identity()}}, r"encoders: there is no modality 'tabel'; .*did you mean 'table'"),
        (
            {"encoders": {"series": nn.Identity()}},
            r"encoder of series: expected vectors \(n, width\) for n = 2 values, got shape \(2, 4,",
        ),
        ({"encoders": {"table": nn.Linear(7, 2)}}, r"encoder of table: the module does not read vector of shape \(2, 5\) \(RuntimeError"),
        ({"fusion": nn.Linear(3, 2)}, r"fusion: the module does not read embeddings \(2, 2, 8\) and their mask"),
        ({"head": nn.Linear(16, 2)}, r"head: expected \(B, 1\) for B = 2 vectors of the fusion, got shape \(2, 2\)"),
        ({"head": nn.Linear(3, 1)}, r"head: the module does not read vectors \(2, 16\) of the fusion"),
    ],
)
def test_an_object_that_does_not_fit_is_refused_at_once(given, match):
    with pytest.raises(ValueError, match=match):
        CM2(config(), [SERIES, TABLE], **given)


def test_every_method_that_encodes_reads_an_encoder_from_outside(plain, tmp_path):
    from cm2.methods import METHODS

    with on_the_path(install(tmp_path / "made")):
        wide = ENCODERS["wide"]
        uses = {}
        for name in sorted(METHODS):
            asked = config({"method": name, "encoder.series": "wide", "encoder.table": "wide", "baseline.encoders": "common"})
            method = build_method(asked, plain)
            uses[name] = sum(isinstance(module, wide) for module in method.modules())
            if not hasattr(method, "fit_stays") and name != "constant":
                probability = method.eval().predictive(plain.split("train", "death").batch(range(6)))[0]
                assert probability.shape == (6,) and bool(torch.isfinite(probability).all()), name
    assert {name for name, count in uses.items() if not count} == {"boosted_trees", "constant", "linear", "logistic", "trees_and_logistic"}
