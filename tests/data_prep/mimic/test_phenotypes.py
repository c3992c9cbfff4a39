"""The 25 phenotypes: the table of codes, labels of fabricated and open admissions against a restatement, training and tables."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from cm2 import Config, RunStore, fit, load_cohort
from cm2.cohorts.format import read_exact
from cm2.tables import markdown, publish
from cm2.tables.spec import roles
from data_prep import prepare_mimic3, prepare_mimic4
from data_prep.mimic.phenotypes import definitions, phenotypes, phenotypes_of, task

TABLE = """
title = "Phenotypes"
modalities = 1
reference = "L"
row = [{ label = "L", method = "single_modality" }]
section = [{ label = "all", setting = "matched" }]
"""
FAST = {"train.epochs": 1, "model.embedding_dim": 4, "encoder.series.hidden": 4}
EXAMPLES = {
    "0389": "Septicemia (except in labor)",
    "4280": "Congestive heart failure; nonhypertensive",
    "486": "Pneumonia (except that caused by tuberculosis or sexually transmitted disease)",
    "51881": "Respiratory failure; insufficiency; arrest (adult)",
    "5849": "Acute and unspecified renal failure",
    "5856": "Chronic kidney disease",
    "42731": "Cardiac dysrhythmias",
    "42611": "Conduction disorders",
    "4019": "Essential hypertension",
    "40391": "Hypertension with complications and secondary hypertension",
    "25000": "Diabetes mellitus without complication",
    "25002": "Diabetes mellitus with complications",
    "41401": "Coronary atherosclerosis and other heart disease",
    "41071": "Acute myocardial infarction",
    "2724": "Disorders of lipid metabolism",
    "2762": "Fluid and electrolyte disorders",
    "43491": "Acute cerebrovascular disease",
    "5119": "Pleurisy; pneumothorax; pulmonary collapse",
    "49121": "Chronic obstructive pulmonary disease and bronchiectasis",
    "5789": "Gastrointestinal hemorrhage",
    "99811": "Complications of surgical procedures or medical care",
    "78551": "Shock",
}
"""Codes whose category anybody can look up."""


def test_the_table_has_the_25_of_the_benchmark():
    known = definitions()
    assert len(known) == 25 and known["ccs"].is_monotonic_increasing and known["ccs"].is_unique and known["phenotype"].is_unique
    assert known["kind"].value_counts().to_dict() == {"acute": 15, "chronic": 10} and task().outputs == 25
    entries = [entry for group in known["icd9"] for entry in group]
    assert len(set(entries)) == len(entries) and all(len(entry.rstrip("=")) in (3, 4, 5) for entry in entries)


def test_the_selection_is_the_one_that_was_compared_with_the_list_of_ccs():
    """CCS itself is not here; this is what its 15,072 codes were compared with. A change has to be compared again."""
    known = definitions()
    selection = "\n".join(f"{ccs} {' '.join(sorted(entries))}" for ccs, entries in zip(known["ccs"], known["icd9"], strict=True))
    assert hashlib.sha256(selection.encode()).hexdigest()[:16] == "7ab722e6b18b8768"


def test_no_entry_covers_a_code_of_another_category_or_of_its_own():
    known = definitions()
    entries = [(entry, at) for at, group in enumerate(known["icd9"]) for entry in group]
    for entry, at in entries:
        for other, place in entries:
            if (entry, at) != (other, place) and not entry.endswith("="):
                assert not other.rstrip("=").startswith(entry), f"{entry} of {known['ccs'][at]} covers {other} of {known['ccs'][place]}"


def test_every_entry_selects_its_category_alone():
    for at, group in enumerate(definitions()["icd9"]):
        found = phenotypes_of(pd.Series([entry.rstrip("=") for entry in group]))
        assert found[:, at].all() and (found.sum(axis=1) == 1).all()
        begins = [entry for entry in group if not entry.endswith("=")]
        assert phenotypes_of(pd.Series([f"{entry}9" for entry in begins], dtype=object))[:, at].all()


def test_codes_are_in_one_category_or_none():
    given = pd.Series([*EXAMPLES, "V1582", "E8788", "27662", "4141", "0380", "428.0", " 486 "])
    found = phenotypes_of(given)
    names = [[task().labels[at] for at in np.flatnonzero(row)] for row in found]
    assert names[: len(EXAMPLES)] == [[name] for name in EXAMPLES.values()]
    assert names[len(EXAMPLES) :] == [[], [], [], [], [EXAMPLES["0389"]], [EXAMPLES["4280"]], [EXAMPLES["486"]]]
    every = pd.Series([f"{number:05d}" for number in range(0, 100_000, 7)] + [f"{number:04d}" for number in range(10_000)])
    assert phenotypes_of(every).sum(axis=1).max() == 1


def test_what_is_unknown_is_counted():
    stays = pd.DataFrame({"hadm_id": [1, 2, 3, 4]}, index=[5, 6, 7, 8])
    diagnoses = pd.DataFrame(
        {"hadm_id": [1, 1, 2, 3, 3], "icd_code": ["4280", "486", "I509", "4280", "J189"], "icd_version": ["9", "9", "10", "9", "10"]}
    )
    labels, counts = phenotypes(stays, diagnoses)
    assert counts == {"known": 1, "of_icd10": 2, "without_diagnosis": 1} and labels.index.tolist() == [5, 6, 7, 8]
    assert labels.iloc[0].sum() == 2 and (labels.iloc[1:] == -1).all(axis=None) and list(labels) == list(task().columns)


def restated(stays, diagnoses, codes):
    """Labels, one stay after another."""
    listed = set(codes.itertuples(index=False, name=None))
    rows = []
    for hadm in stays["hadm_id"]:
        own = [pair for pair in diagnoses[diagnoses["hadm_id"] == hadm][list(codes)].itertuples(index=False, name=None) if pair in listed]
        row = [-1] * 25 if not own or any(version == "10" for _, version in own) else [0] * 25
        for code, version in own:
            for at, entries in enumerate(definitions()["icd9"]):
                if row[at] == 0 and any(code == e[:-1] if e.endswith("=") else code.startswith(e) for e in entries) and version == "9":
                    row[at] = 1
        rows.append(row)
    return np.array(rows)


def raw_tables(raw, release):
    folder = raw if release == "mimic3" else raw / "hosp"
    read = lambda name: pd.read_csv(next(p for p in folder.iterdir() if p.name.lower().split(".")[0] == name), dtype=str)
    tables = [
        read(name).rename(columns=str.lower).rename(columns={"icd9_code": "icd_code"}) for name in ("diagnoses_icd", "d_icd_diagnoses")
    ]
    tables = [frame if "icd_version" in frame else frame.assign(icd_version="9") for frame in tables]
    admissions = read("icustays") if release == "mimic3" else pd.read_csv(next((raw / "icu").glob("icustays*")), dtype=str)
    admissions = admissions.rename(columns=str.lower).rename(columns={"icustay_id": "stay_id"})
    return admissions, tables[0], tables[1][["icd_code", "icd_version"]].drop_duplicates()


@pytest.fixture(scope="module", params=["mimic3", "mimic4"])
def prepared(request, fabricated, tmp_path_factory):
    release = request.param
    raw = fabricated(release, 600)
    prepare, options = {"mimic3": (prepare_mimic3, {}), "mimic4": (prepare_mimic4, {})}[release]
    out = prepare(raw, tmp_path_factory.mktemp("phenotypes") / release, modalities=["series"], **options)
    return release, raw, load_cohort(out)


def check_labels(raw, release, cohort):
    admissions, diagnoses, codes = raw_tables(raw, release)
    of = admissions.set_index("stay_id")["hadm_id"]
    stays = pd.DataFrame({"hadm_id": [of[str(stay)] for stay in cohort.stays["stay_id"]]})
    expected = restated(stays, diagnoses, codes)
    np.testing.assert_array_equal(cohort.stays[list(task().columns)].to_numpy(), expected)
    counts = read_exact(cohort.path)["counts"]["phenotypes"]
    assert counts["known"] == (expected[:, 0] >= 0).sum() and counts["known"] + counts["of_icd10"] == len(stays)
    assert counts["without_diagnosis"] == 0, "a listed diagnosis is a step of the flow chart"
    return expected


def test_labels_of_fabricated_admissions(prepared):
    release, raw, cohort = prepared
    expected = check_labels(raw, release, cohort)
    assert ((expected < 0).any() == (release == "mimic4")) and (expected == 1).any()
    assert cohort.task("phenotyping") == task() and list(cohort.tasks)[-1] == "phenotyping"
    role = roles()[release]
    assert set(cohort.tasks) == {*role.tasks.values(), *role.others}, "cohorts.toml, which the command line completes tasks from"
    shown = json.loads((cohort.path / "manifest.json").read_text())["tasks"]["phenotyping"]["counts"]
    exact = read_exact(cohort.path)["tasks"]["phenotyping"]["counts"]
    assert set(shown) == set(task().labels)
    for name, count in shown.items():
        few = 0 < exact[name]["positives"] < 10 or 0 < exact[name]["known"] - exact[name]["positives"] < 10
        assert count["positives"] in (None, exact[name]["positives"]) and not (few and count["positives"] is not None)


def test_it_is_trained_and_tabulated(prepared, tmp_path):
    _, _, cohort = prepared
    store = RunStore(tmp_path / "runs")
    run = fit(Config.from_profile("smoke", {"task": "phenotyping", "method": "single_modality", **FAST}), cohort, store, progress=False)
    assert run.task == task()
    path = tmp_path / "one.toml"
    path.write_text(TABLE)
    (result,) = publish(
        path, [cohort], tmp_path / "out", profile="smoke", seeds=1, settings=FAST, tasks=["phenotyping"], store=store, progress=False
    )
    assert {cell.metric for cell in result.cells} == {"macro_auroc", "macro_aupr"} and "phenotyping Macro AUROC" in markdown(result)
    assert "Fabricated data" in markdown(result) and "predictions" not in result.provenance


@pytest.mark.real
def test_labels_of_the_open_demo(mimic3_demo, tmp_path):
    cohort = load_cohort(prepare_mimic3(mimic3_demo, tmp_path / "demo", modalities=["series"]))
    expected = check_labels(mimic3_demo, "mimic3", cohort)
    assert expected.shape == (57, 25) and expected.min() == 0 and (expected.sum(axis=0) > 0).sum() >= 20
    run = fit(
        Config.from_profile("smoke", {"task": "phenotyping", "method": "single_modality", **FAST}),
        cohort,
        RunStore(tmp_path),
        progress=False,
    )
    assert run.metrics["test"]["n"] is None or run.metrics["test"]["macro_auroc"] is None, "so few stays are not shown"
