"""Profiles, overrides, digests."""

import pytest

from cm2.config import PROFILES, RECIPES, Config, ModelConfig


@pytest.mark.parametrize("profile", sorted(p.stem for p in PROFILES.glob("*.toml")))
def test_every_profile_reads_and_round_trips(profile):
    config = Config.from_profile(profile)
    assert Config.from_dict(config.to_dict()) == config
    assert config.digest() == Config.from_profile(profile).digest()


def test_overrides_are_read_as_the_fields_type():
    config = Config.from_profile(
        "quick", {"model.link": "scalar", "train.epochs": "3", "encoder.image.pretrained": "true", "absent": '{"image": 0.5}'}
    )
    assert config.model.link == "scalar"
    assert config.train.epochs == 3
    assert config.encoder.image.pretrained is True
    assert config.absent == {"image": 0.5}
    assert Config.from_profile("quick", {"modalities": "series, note", "absent_test.note": "0.5"}).modalities == ("series", "note")
    assert config.digest() != Config.from_profile("quick").digest()


def test_a_profile_may_be_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[model]\ncomponents = 5\n")
    assert Config.from_profile(str(path)).model.components == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.foo": 1}, "unknown field model.foo; known here: embedding_dim"),
        ({"nothing": 1}, "unknown field nothing"),
        ({"model.copmonents": 4}, "did you mean 'components'"),
        ({"model.impute": "margin"}, "did you mean 'marginal'"),
        ({"train.precision": "64-true"}, "train.precision: unknown value '64-true'; choose one of 32-true"),
        ({"model.link": "x"}, "model.link: unknown value 'x'; choose one of component"),
        ({"seed": "a"}, "seed: expected int, got 'a'"),
        ({"train.epochs": 1.5}, "expected a whole number, got 1.5"),
        ({"train.epochs": 0}, "train.epochs: expected a positive number, got 0"),
        ({"model.fusion_hidden": 0}, "model.fusion_hidden: expected a positive number, got 0"),
        ({"encoder.series.hidden": 0}, "encoder.series.hidden: expected a positive number, got 0"),
        ({"encoder.text.heads": 0}, "encoder.text.heads: expected a positive number, got 0"),
        ({"encoder.vector.hidden": -1}, "encoder.vector.hidden: expected 0 or a positive number, got -1"),
        ({"model": 3}, "model: a group of fields"),
        ({"seed.x": 3}, "seed is a value|seed: expected int"),
        ({"encoder.image.pretrained": "maybe"}, "expected true or false"),
    ],
)
def test_bad_overrides_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        Config.from_profile("quick", overrides)


def test_unknown_profile_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown profile 'fast'; choose one of open, paper, quick, smoke"):
        Config.from_profile("fast")


def test_every_field_has_a_sentence():
    import ast
    import inspect

    import cm2.config as module

    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ClassDef):
            statements = [s for s in node.body if isinstance(s, ast.AnnAssign | ast.Expr)][1:]
            for statement, following in zip(statements, [*statements[1:], None], strict=True):
                if isinstance(statement, ast.AnnAssign):
                    assert isinstance(following, ast.Expr), f"{node.name}.{statement.target.id} has no sentence"
    assert ModelConfig.__doc__


def test_fields_that_came_later_leave_the_keys_of_stored_runs():
    """At their defaults; a digest that changes here means that every stored run is trained again."""
    assert Config().digest() == "ff417f0fb1df06df927e7379e11e9d6213b6367b3fd5af7d27de53011fb641a2"
    assert Config.from_dict({"model": {"directions": 9}}).digest() != Config().digest()
    assert Config().to_dict()["model"]["directions"] == 8


def test_a_recipe_is_a_version_of_cm2_by_name():
    config = Config.from_profile("open", {"recipe": "v3", "model.directions": 4})
    assert (config.model.link, config.model.directions, config.encoder.series.summary) == ("vector", 4, 64)
    assert config.model.embedding_dim == Config.from_profile("open").model.embedding_dim, "sizes are the profile's"
    assert Config.from_profile("open", {"recipe": "v2"}) == Config.from_profile("open")
    for recipe in RECIPES.glob("*.toml"):
        for profile in ("smoke", "quick", "open", "paper"):
            assert Config.from_profile(profile, {"recipe": recipe.stem}).method == "cm2"
    for recipe in ("v3", "v2"):
        narrow = Config.from_profile("open", {"recipe": recipe, "model.link": "vector", "model.embedding_dim": "4"})
        assert narrow.model.directions == 4, "a recipe's directions fit the embeddings"
    with pytest.raises(ValueError, match="expected 1 to embedding_dim = 4, got 5"):
        Config.from_profile("open", {"recipe": "v3", "model.embedding_dim": 4, "model.directions": 5})
    with pytest.raises(ValueError, match=r"unknown recipe 'v33'; choose one of .*did you mean 'v3'"):
        Config.from_profile("open", {"recipe": "v33"})
