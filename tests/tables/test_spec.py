"""Tables as data: every one reads, points at rows that the paper prints, and says what is wrong before anything is trained."""

import random
import tomllib

import pytest

from cm2 import RunStore
from cm2.paper import TABLES, printed
from cm2.tables import load_table, plan, table, table_names
from cm2.tables.planning import check_methods, resolve
from cm2.tables.spec import HERE, choose_modalities, role_of, roles
from cm2.tables.text import intervals
from tests.mutations import as_toml, mutated
from tests.tables.conftest import FAST, write

PRINTED = {**dict.fromkeys((2, 3, 7), 6), 4: 3, 5: 4, 6: 3, 9: 3, 10: 8, 11: 5}


def test_every_table_of_the_paper_is_there():
    names = table_names()
    assert names[: len(TABLES)] == [str(n) for n in TABLES]
    assert "figure-5" in names and "cohorts" not in names
    for name in names:
        assert load_table(name).title


@pytest.mark.parametrize("number", PRINTED)
def test_rows_and_sections_find_what_the_paper_prints(number):
    spec = load_table(number)
    found = set()
    for section in spec.section:
        where = {"cohort": "mimic4", "setting": section.setting, **section.printed}
        for row in spec.row:
            label = row.label if row.printed is None else row.printed
            if label and not (row.sections and section.label not in row.sections) and len(printed(number, row=label, **where)):
                found.add(label)
    assert len(found) == PRINTED[number]
    assert found == set(printed(number)["row"])


@pytest.mark.parametrize("name", [name for name in table_names() if name not in ("1", "8")])
def test_every_table_is_a_plan_on_simulated_stays(name, small_cohort, monkeypatch):
    monkeypatch.setattr("cm2.tables.planning._check_splits", lambda *_: None)
    monkeypatch.setattr("cm2.tables.planning._check_labels", lambda *_: None)  # of so few stays no hundredth is left
    for profile in ("smoke", "quick", "paper"):
        entries = plan(load_table(name), small_cohort, profile, seeds=1)
        assert {e.task for e in entries} == {"IHM", "READM"}
        # no two rows of a section are the same configuration
        assert len({c.digest() for e in entries for c in e.configs}) == len(entries)


@pytest.mark.parametrize("name", ["5", "10"])
def test_the_methods_of_a_table_fit_the_cohort(name, small_cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.tables.planning._check_splits", lambda *_: None)
    check_methods(plan(load_table(name), small_cohort, "smoke", seeds=1), small_cohort, RunStore(tmp_path))


def test_every_known_cohort_says_which_tables_it_can_have():
    everyone = roles()
    assert [name for name, role in everyone.items() if choose_modalities(load_table(10), role)] == ["synthetic", "mimic4"]
    assert [name for name, role in everyone.items() if choose_modalities(load_table(7), role)] == ["synthetic", "physionet2012", "mimic4"]
    assert choose_modalities(load_table(2), everyone["mimic3"]) == ("series", "note")
    assert choose_modalities(load_table(10), everyone["mimic4"]) == ("series", "image")


def test_an_unknown_cohort_takes_part_with_what_it_has(tiny):
    role = role_of(tiny)
    assert role.modalities == ("bedside", "laboratory") and role.tasks == {"death": "death", "long_stay": "long_stay"}


def test_a_plan_is_rows_by_sections_by_tasks_by_seeds(tiny):
    entries = plan(load_table(6), tiny, "smoke", seeds=3)
    assert len(entries) == 3 * 2 * 2
    assert {len(e.configs) for e in entries} == {3}
    matched = [e for e in entries if e.section.setting == "matched"]
    assert all(c.matched and c.modalities == ("bedside", "laboratory") for e in matched for c in e.configs)
    assert {e.row.label: e.configs[0].model.family for e in entries} == {"Gumbel": "gumbel", "Frank": "frank", "Gaussian": "gaussian"}


def test_a_dear_row_may_have_fewer_seeds(tmp_path, tiny, store):
    rows = 'row = [{ label = "a", method = "late_fusion", seeds = 2 }, { label = "b", method = "single_modality" }]'
    path = tmp_path / "few.toml"
    path.write_text(f'title = "t"\nreference = "b"\n{rows}\n[[section]]\nlabel = "s"\nsetting = "matched"\n')
    assert [len(e.configs) for e in plan(load_table(path), tiny, "smoke", 3, tasks=["death"])] == [2, 3]
    assert [len(e.configs) for e in plan(load_table(path), tiny, "smoke", 1, tasks=["death"])] == [1, 1]
    result = table(path, tiny, "smoke", seeds=3, settings=FAST, store=store, tasks=["death"], progress=False)
    assert intervals(result).startswith("mean of 3 seeds (a 2) with")
    assert result.cell("a", "auroc", "death", "s").difference["se_seeds"] > 0
    path.write_text(path.read_text().replace("seeds = 2", "seeds = 0"))
    with pytest.raises(ValueError, match=r"few\.toml: row a: seeds 0; give 1 or more, or leave it out"):
        load_table(path)


def test_a_modality_is_missing_in_training_or_in_testing_alone(small_cohort, monkeypatch):
    monkeypatch.setattr("cm2.tables.planning._check_splits", lambda *_: None)
    entries = plan(load_table("links"), small_cohort, "smoke", seeds=1, tasks=["IHM"])
    missing = {e.section.setting: (dict(e.configs[0].absent), dict(e.configs[0].absent_test)) for e in entries}
    assert missing == {"partial_train": ({"note": 0.75}, {}), "partial_test": ({}, {"note": 0.75})}
    assert all(e.configs[0].matched and e.configs[0].modalities == ("series", "note") for e in entries)
    own = plan(load_table("links"), small_cohort, "smoke", seeds=1, settings={"absent.series": 0.5})[0].configs[0]
    assert (dict(own.absent), dict(own.absent_test)) == ({"series": 0.5}, {})


def test_a_section_masks_at_a_rate_of_its_own(tiny):
    entries = plan(load_table("missing-at-test"), tiny, "smoke", seeds=1, tasks=["death"])
    seen = [(dict(e.configs[0].absent_test), e.configs[0].mechanism) for e in entries if e.row.label == "zero"]
    assert seen == [({"laboratory": rate}, how) for rate, how in ((1.0, "mcar"), (0.5, "mcar"), (0.5, "mar"), (0.5, "mnar"))]
    assert all(e.configs[0].matched and not e.configs[0].absent for e in entries)
    trained = {e.configs[0].in_training(True).digest() for e in entries if e.row.method == "cm2"}
    assert len(trained) == 1, "one network for all ways to fill in, and for all sections"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('setting = "matched"\nrate = 0.5', "section mine: rate 0.5 under matched; give a share above 0 and at most 1"),
        ('setting = "partial_test"\nrate = 1.5', "section mine: rate 1.5 under partial_test"),
    ],
)
def test_a_rate_that_masks_nothing_is_refused(tmp_path, line, message):
    path = tmp_path / "mine.toml"
    path.write_text(f'title = "Mine"\n[[row]]\nlabel = "CM2"\n[[section]]\nlabel = "mine"\n{line}\n')
    with pytest.raises(ValueError, match=message):
        load_table(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('metrics = ["auc"]', "metric 'auc' is unknown; choose one of auroc, aupr, brier"),
        ('split = "train"', "split 'train' is unknown; choose one of"),
        ('split = "valid"\nkind = "alignment"', "is computed on test stays"),
    ],
)
def test_splits_and_metrics_that_no_table_has_are_refused(tmp_path, line, message):
    path = tmp_path / "mine.toml"
    path.write_text(f'title = "Mine"\n{line}\n[[row]]\nlabel = "CM2"\n[[section]]\nlabel = "all"\nsetting = "matched"\n')
    with pytest.raises(ValueError, match=message):
        load_table(path)


def test_seeds_are_compared_in_pairs_where_they_share_chance(tiny, monkeypatch):
    """A seed masks the same modalities for every row, and leaves the same outcomes known."""
    monkeypatch.setattr("cm2.tables.planning._check_labels", lambda *_: None)  # of so few stays no hundredth is left
    paired = lambda name: resolve(load_table(name), tiny, RunStore(), "smoke", 2, tasks=["death"]).masked
    assert paired("few-labels") == tuple(s.label for s in load_table("few-labels").section if s.label != "all labels")
    assert paired("missing-at-test") == tuple(s.label for s in load_table("missing-at-test").section)
    assert paired("version-3") == () and paired(6) == ()


def test_a_table_of_some_tasks(tiny):
    headings = {e.task for e in plan(load_table(6), tiny, "smoke", seeds=1, tasks=["death"])}
    assert headings == {"death"}
    with pytest.raises(ValueError, match=r"no task 'deth'; choose one of death, .*did you mean 'death'"):
        plan(load_table(6), tiny, "smoke", seeds=1, tasks=["deth"])


def test_a_row_wins_over_the_users_settings_and_these_over_the_profile(tiny):
    entries = plan(load_table(6), tiny, "smoke", seeds=1, settings={"model.family": "frank", "train.epochs": "7"}, only=["Gaussian"])
    assert {e.row.label for e in entries} == {"Gumbel", "Gaussian"}
    assert {e.configs[0].model.family for e in entries} == {"gumbel", "gaussian"}
    assert {e.configs[0].train.epochs for e in entries} == {7}


def test_tables_share_runs(tiny):
    def digests(number, label):
        entries = plan(load_table(number), tiny, "smoke", seeds=1, only=[label])
        return {(e.section.setting, e.task, e.configs[0].digest()) for e in entries if e.row.label == label}

    assert digests(2, "CM2") | digests(3, "CM2") == digests(5, "CM2") == digests(6, "Gumbel") == digests(11, "CM2")


def test_a_complete_cohort_has_to_lose_something_to_be_partially_matched(complete):
    spec = load_table(6)
    with pytest.raises(ValueError, match=r"no stay of the cohort tiny lacks.*--set absent.laboratory=0.75"):
        plan(spec, complete, "smoke")
    entries = plan(spec, complete, "smoke", settings={"absent.laboratory": "0.75"})
    partial = next(e for e in entries if e.section.setting == "partial")
    assert partial.configs[0].absent == {"laboratory": 0.75} and partial.configs[0].absent_test == {}


def test_the_known_cohort_loses_what_its_entry_says(tmp_path):
    names, kinds = ("bedside", "laboratory", "admission"), ("series", "vector")
    cohort = write(tmp_path / "c", name="physionet2012", modalities=names, kinds=kinds)
    assert role_of(cohort).tasks == {"death": "death", "long_stay": "long_stay"}  # it lacks what the entry names
    role = roles()["physionet2012"]
    assert role.partial == {"laboratory": 0.75}


def test_a_role_takes_away_only_what_its_cohort_has(tmp_path, monkeypatch):
    (tmp_path / "cohorts.toml").write_text('[own]\nmodalities = ["series", "note"]\nkinds = []\ntasks = {}\npartial = { notes = 0.5 }\n')
    monkeypatch.setattr("cm2.tables.spec.HERE", tmp_path)
    with pytest.raises(ValueError, match=r"own: modality 'notes' is unknown; choose one of series, note .did you mean 'note'"):
        roles()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "t"\nsecton = []', "unknown key 'secton'.*did you mean 'section'"),
        ('title = "t"\n[[row]]\nlabel = "a"\nmetod = "cm2"', "unknown key 'metod'.*did you mean 'method'"),
        (
            'title = "t"\n[[row]]\nlabel = "CM2"\n[[section]]\nlabel = "s"\nsetting = "half"',
            "setting 'half' is unknown; choose one of matched",
        ),
        ('title = "t"\n[[row]]\nlabel = "a"\n[[section]]\nlabel = "s"', "the reference 'CM2' is not a row; choose one of a"),
        ('title = "t"\n[[row]]\nlabel = "CM2"\n[[row]]\nlabel = "CM2"', "two rows have the same label"),
        ('title = "t"', "needs rows and sections"),
        ('title = "t"\nkind = "count"', "kind 'count' is unknown; choose one of .*did you mean 'counts'"),
        (
            'title = "t"\n[[row]]\nlabel = "CM2"\nsections = ["partialy"]\n[[section]]\nlabel = "partially"',
            "row CM2: section 'partialy' is unknown; choose one of partially .did you mean 'partially'",
        ),
    ],
)
def test_a_table_that_is_not_one_is_named(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_table(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('method = "medfuze"', "row CM2: unknown method 'medfuze'.*did you mean 'medfuse'"),
        ('set = { "model.famly" = "frank" }', "row CM2: unknown field model.famly.*did you mean 'family'"),
        ('set = { "model.impute" = "nothing" }', "row CM2: model.impute: unknown value 'nothing'"),
    ],
)
def test_a_row_that_cannot_be_is_named(text, message, tmp_path, tiny):
    path = tmp_path / "mine.toml"
    path.write_text(f'title = "t"\n[[row]]\nlabel = "CM2"\n{text}\n[[section]]\nlabel = "s"\nsetting = "matched"\n')
    with pytest.raises(ValueError, match=message):
        plan(load_table(path), tiny, "smoke")


def test_a_cohort_that_cannot_have_a_table_is_told_which_can(tiny):
    with pytest.raises(
        ValueError, match=r"table 10 needs a modality of kind series and .* image, the cohort tiny has .*: synthetic, mimic4"
    ):
        plan(load_table(10), tiny, "smoke")
    with pytest.raises(ValueError, match="table 7 needs 3 modalities"):
        plan(load_table(7), tiny, "smoke")
    with pytest.raises(ValueError, match=r"table 6 has no row 'Frnak'.*did you mean 'Frank'"):
        plan(load_table(6), tiny, "smoke", only=["Frnak"])
    with pytest.raises(ValueError, match="seeds: expected 1 or more, got 0"):
        plan(load_table(6), tiny, "smoke", seeds=0)
    with pytest.raises(ValueError, match="no table '22'"):
        load_table(22)


def test_a_mutated_table_file_is_read_or_refused_in_one_line(tmp_path, tiny, monkeypatch):
    """With a fixed seed; what is read can be planned, or says in one line why not."""
    dice, path = random.Random(0), tmp_path / "mine.toml"
    tree = tomllib.loads((HERE / "missing-at-test.toml").read_text())
    refused = 0
    for _ in range(300):
        path.write_text(as_toml(mutated(tree, dice)))
        try:
            plan(load_table(path), tiny, "smoke", seeds=1, tasks=["death"])
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error), error
    assert refused > 100
