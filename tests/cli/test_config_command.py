import yaml
from shell import command, refused

from inheritune.config import RunRecipe, TrainRecipe, fields, load_recipe, recipe_names


def test_lists_every_key_and_recipe() -> None:
    for kind, recipe in (("run", RunRecipe), ("train", TrainRecipe)):
        ended = command("config", kind)
        assert ended.code == 0
        printed = {line.split()[0] for line in ended.out.splitlines() if line.split()}
        assert set(fields(recipe)) <= printed
        assert all(name in ended.out for name in recipe_names())


def test_prints_a_recipe_resolved() -> None:
    ended = command("config", "run", "--recipe", "laptop")
    assert yaml.safe_load(ended.out) == load_recipe(RunRecipe, "laptop", {}).model_dump()


def test_unknown_recipe() -> None:
    assert "did you mean 'laptop'" in refused("config", "--recipe", "labtop")
