import yaml
from shell import command, refused

from inheritune.config.explain import fields
from inheritune.config.loading import load_recipe, recipe_names
from inheritune.config.recipes import RunRecipe, TrainRecipe


def test_lists_every_key_and_recipe() -> None:
    for kind, recipe in (("run", RunRecipe), ("train", TrainRecipe)):
        ended = command("config", kind)
        assert ended.code == 0
        lines = ended.out.splitlines()
        assert "Annotated" not in ended.out and "docs/" not in ended.out
        assert max(map(len, lines)) <= 80 and all(line == line.rstrip() for line in lines)
        printed = {line.split()[0] for line in ended.out.splitlines() if line.split()}
        assert set(fields(recipe)) <= printed
        assert all(name in ended.out for name in recipe_names())


def test_prints_a_recipe_resolved() -> None:
    ended = command("config", "run", "--recipe", "laptop")
    assert yaml.safe_load(ended.out) == load_recipe(RunRecipe, "laptop", {}).model_dump()


def test_unknown_recipe() -> None:
    assert "did you mean 'laptop'" in refused("config", "--recipe", "labtop")


def test_a_kind_that_is_none_and_a_recipe_of_another_kind() -> None:
    assert "no kind of recipe 'bogus': name one of run, train, compare" in refused("config", "bogus")
    for command_, name, own in (("train", "laptop", "run"), ("run", "laptop-reference", "train")):
        said = refused("config", command_, "--recipe", name)
        assert f"recipe of `{own}`" in said and f"inheritune config {own} --recipe {name}" in said
    assert "recipe of `compare`" in refused("run", "laptop-compare")
