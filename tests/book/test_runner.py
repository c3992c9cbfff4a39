"""Executing chapters: what is refused, what is cached, in which order, and what a failure says."""

import json

import pytest

from cm2.book import build, read_chapters
from cm2.book.cache import chapter_keys
from cm2.book.chapters import execution_order, resolve_parameters
from cm2.book.runner import execute
from tests.book import minibook


def run(root, only=(), parameters=None, profile="quick"):
    said = []
    done, failures = execute(list(only), parameters, profile, 2, root, said.append)
    assert not failures
    return done, said


def tiny(*sources, **own):
    """A chapter of a parameters cell and these code cells."""
    cells = [minibook.markdown("# T"), minibook.code('profile = "quick"\nseed = 0\nrate = 0.5', tags=["parameters"])]
    return minibook.notebook([*cells, *map(minibook.code, sources)], **own)


def test_a_chapter_declares_parameters_and_predecessors(book):
    chapters = read_chapters(book)
    assert list(chapters) == ["preface", "tails"]
    assert chapters["tails"].defaults == {"profile": "quick", "seed": 0, "n": 500}
    assert execution_order(chapters) == ["tails", "preface"]


def test_parameters_go_where_they_are_declared(book):
    chapters = read_chapters(book)
    assert resolve_parameters(chapters, {"n": "20", "seed": 3}) == {
        "preface": {"profile": "quick", "seed": 3},
        "tails": {"profile": "quick", "n": 20, "seed": 3},
    }
    assert resolve_parameters(chapters, {"seed": 3}, "smoke", ["tails"])["preface"] == {"profile": "smoke"}


@pytest.mark.parametrize(
    ("only", "parameters", "words"),
    [
        ([], {"sede": 3}, ["'sede'", "choose one of n, profile, seed (did you mean 'seed'?)"]),
        (["preface"], {"n": 3}, ["'n'", "chapter preface", "profile, seed"]),
        (["preamble"], {}, ["'preamble'", "preface, tails"]),
        ([], {"n": "many"}, ["n of chapter tails", "int", "'many'"]),
        ([], {"n": 2.5}, ["n of chapter tails", "2.5"]),
        ([], {"profile": "fast"}, ["'fast'", "open, paper, quick, smoke"]),
    ],
)
def test_what_is_unknown_is_refused_before_anything_runs(book, only, parameters, words):
    with pytest.raises(ValueError) as refusal:
        build(only, parameters, root=book)
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
    assert not (book / "_build").exists()


def test_a_whole_number_does_for_a_float(tmp_path):
    chapters = read_chapters(minibook.write(tmp_path, tails=tiny()))
    assert resolve_parameters(chapters, {"rate": "1"})["tails"]["rate"] == 1.0


def test_the_table_of_contents_is_checked(tmp_path):
    root = minibook.write(tmp_path, tails=tiny(after=["nowhere"]))
    with pytest.raises(ValueError, match=r"after nowhere.*choose one of preface, tails"):
        read_chapters(root)
    minibook.write(tmp_path / "circle", tails=tiny(after=["preface"]))
    with pytest.raises(ValueError, match="wait for each other"):
        read_chapters(tmp_path / "circle")
    (root / "book" / "tails.ipynb").unlink()
    with pytest.raises(ValueError, match=r"book/tails, but neither"):
        read_chapters(root)


def test_a_key_covers_what_decides_the_numbers_and_nothing_else(book):
    def keys(**parameters):
        chapters = read_chapters(book)
        return chapter_keys(book, chapters, execution_order(chapters), resolve_parameters(chapters, parameters))

    before = keys()
    path = book / "book" / "tails.ipynb"
    content = json.loads(path.read_text())
    content["metadata"]["language_info"] = {"name": "python"}
    path.write_text(json.dumps(content))
    assert keys() == before
    assert keys(n=3)["tails"] != before["tails"]
    (book / "results").mkdir()
    (book / "results" / "portability.json").write_text("{}")
    assert keys() == before, "what other machines computed decides no number here"
    (book / "results" / "kept.json").write_text("{}")
    assert keys()["tails"] != before["tails"]
    (book / "results" / "kept.json").unlink()
    assert keys() == before
    (book / "cm2").mkdir()
    assert keys()["tails"] != before["tails"]
    content["cells"][0]["source"] = "# Another"
    path.write_text(json.dumps(content))
    changed = keys()
    assert changed["preface"] != before["preface"], "it reads what the changed chapter computes"


def test_only_what_changed_is_executed(tmp_path, monkeypatch):
    monkeypatch.setattr("cm2.book.cache.source_digest", lambda root: "unchanged")
    source = 'from cm2.results import record\nrecord("tails", "rate", rate)'
    reader = 'from cm2.results import read\nassert read("tails", "rate") == EXPECTED'
    root = minibook.write(tmp_path, tails=tiny(source), preface=tiny(reader.replace("EXPECTED", "0.5"), after=["tails"]))
    done, said = run(root)
    assert set(done) == {"tails", "preface"}
    assert "0 unchanged, 2 to execute: tails, preface" in said[0]
    again, said = run(root)
    assert said == ["2 chapters, profile quick: 2 unchanged, none to execute"]
    assert again["tails"].folder == done["tails"].folder
    _, said = run(root, ["tails"], {"rate": 0.25})
    assert "1 chapters" in said[0] and "tails" in said[0] and "preface" not in said[0]
    kept, _ = run(root, ["preface"])
    assert json.loads((kept["tails"].results / "tails.json").read_text())["rate"]["value"] == 0.5
