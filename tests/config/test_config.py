import copy
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from inheritune.config.explain import fields
from inheritune.config.loading import check, load_recipe, parse_setting, recipe_names, to_yaml
from inheritune.config.recipes import CompareRecipe, RunRecipe, TrainRecipe
from inheritune.config.sections import Source
from inheritune.config.strict_yaml import read_yaml
from inheritune.errors import RecipeError

TREE: dict[str, Any] = {
    "name": "x",
    "reference": "some/model",
    "data": {"train": "a.txt", "sequence_length": 64},
    "training": {"tokens": 10_000, "batch_tokens": 1024, "micro_batch_size": 4},
}


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    return {**TREE, **{key: {**TREE.get(key, {}), **value} for key, value in sections.items()}}


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_loads_and_survives_being_written(name: str) -> None:
    text = (resources.files("inheritune.recipes") / f"{name}.yaml").read_text()
    kind = CompareRecipe if "\nmethods:" in text else TrainRecipe if "\nmodel:" in text else RunRecipe
    recipe = load_recipe(kind, name, {})
    assert recipe.name == name
    assert check(kind, read_yaml(to_yaml(recipe))) == recipe


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (changed(training={"peek_lr": 1.0}), ["training.peek_lr", "training.peak_lr"]),
        (changed(data={"sequence_lenght": 4}), ["data.sequence_lenght", "data.sequence_length"]),
        ({**TREE, "refrence": "x"}, ["refrence", "reference"]),
        ({**TREE, "margin": 0.01}, ["margin", "match.margin"]),
        ({**TREE, "zzzzzz": 1}, ["zzzzzz", "inheritune config"]),
    ],
)
def test_unknown_key_names_the_nearest(tree: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        check(RunRecipe, tree)
    assert all(part in str(error.value) for part in said)


@pytest.mark.parametrize(
    ("kind", "key", "said"),
    [
        (TrainRecipe, "diagnosis", "it belongs to recipes of `run` and `compare`"),
        (TrainRecipe, "growth", "it belongs to recipes of `run`"),
        (RunRecipe, "budget", "it belongs to recipes of `compare`"),
        (RunRecipe, "tokenizer", "it belongs to recipes of `train`"),
    ],
)
def test_a_key_of_another_kind_of_recipe_is_told_as_such(kind: Any, key: str, said: str) -> None:
    tree = {name: value for name, value in TREE.items() if name != "reference"} | {"model": {}}
    with pytest.raises(RecipeError) as error:
        check(kind, (tree if kind is TrainRecipe else TREE) | {key: {}})
    assert str(error.value) == f"the recipe has an unknown key {key!r}: {said}"


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (changed(training={"tokens": "many"}), ["training.tokens", "'many'"]),
        (changed(training={"tokens": 1.5}), ["training.tokens", "1.5"]),
        (changed(training={"peak_lr": True}), ["training.peak_lr", "True"]),
        (changed(training={"optimizer": "sgd"}), ["training.optimizer", "'sgd'", "adamw"]),
        (changed(match={"margin": -0.01}), ["match.margin", "-0.01", "greater than 0"]),
        ({**TREE, "seed": "0"}, ["seed", "'0'"]),
        ({**TREE, "data": "a.txt"}, ["data", "'a.txt'"]),
        ({"name": "x"}, ["lacks", "data"]),
        (changed(data={"outside": "a.txt"}), ["data.outside", "'a.txt'", "write a mapping of names"]),
        (changed(data={"train": [{"sorce": "a"}]}), ["unknown key 'data.train.0.sorce'", "'data.train.source'"]),
        ({**TREE, "data": {"trian": "a.txt"}}, ["unknown key 'data.trian'", "did you mean 'data.train'"]),
    ],
)
def test_wrong_value_is_named(tree: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(RecipeError) as error:
        check(RunRecipe, tree)
    assert all(part in str(error.value) for part in said) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (changed(training={"warmup_tokens": 10_000}), ["warmup_tokens (10,000)", "tokens (10,000)"]),
        (changed(training={"batch_tokens": 20_480}), ["batch_tokens (20,480)", "tokens (10,000)"]),
        (changed(training={"batch_tokens": 1000}), ["training.batch_tokens (1,000)", "data.sequence_length (64)"]),
        (changed(training={"micro_batch_size": 17}), ["micro_batch_size (17)", "batch_tokens (1,024)"]),
        (changed(limits={"max_tokens": 9_999}), ["limits.max_tokens (9,999)", "training.tokens (10,000)"]),
    ],
)
def test_contradiction_names_both_sides(tree: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(RecipeError, match="contradicts itself") as error:
        check(RunRecipe, tree)
    assert all(part in str(error.value) for part in said)


def test_key_that_stands_twice() -> None:
    with pytest.raises(RecipeError, match="'seed' stands twice"):
        read_yaml("name: x\nseed: 1\nseed: 2\n")


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_exponents_without_a_point_are_numbers(text: str) -> None:
    assert read_yaml(f"rate: {text}")["rate"] == 0.001
    assert parse_setting(f"training.peak_lr={text}") == ("training.peak_lr", 0.001)


@pytest.mark.parametrize("text", ["190:20:30", "1:30.5", "010", "0x10", "0b1", "1__0", "2026-11-26", ".Inf", "1e"])
def test_what_is_no_decimal_number_is_text(text: str) -> None:
    assert read_yaml(f"a: {text}")["a"] == text


@pytest.mark.parametrize(
    "text", ["1e5", "1.5e5", "-1e-3", "10", "1_000", "190:20:30", "010", "2026-11-26", "null", "yes", ".inf"]
)
def test_text_that_looks_like_something_else_is_read_back_as_text(text: str) -> None:
    recipe = check(RunRecipe, changed(data={"field": text}))
    assert check(RunRecipe, read_yaml(to_yaml(recipe))) == recipe


@pytest.mark.parametrize(
    ("text", "value"),
    [("1_000", 1000), ("-5", -5), ("+5", 5), ("0", 0), ("1.", 1.0), (".5", 0.5), ("-.inf", float("-inf"))],
)
def test_decimal_numbers(text: str, value: float) -> None:
    found = read_yaml(f"a: {text}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("text", ["- 1\n- 2", "a: [1", "just words", "a: b: c"])
def test_not_a_mapping(text: str) -> None:
    with pytest.raises(RecipeError):
        read_yaml(text)


def test_yaml_builds_no_objects() -> None:
    with pytest.raises(RecipeError):
        read_yaml("a: !!python/object/apply:os.getcwd []")


def test_overrides_reach_into_sections(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(TREE))
    recipe = load_recipe(RunRecipe, str(path), {"training.peak_lr": 0.5, "limits.max_rounds": 3, "seed": 9})
    assert (recipe.training.peak_lr, recipe.limits.max_rounds, recipe.seed) == (0.5, 3, 9)
    assert recipe.training.tokens == 10_000


@pytest.mark.parametrize("key", ["training.peek_lr", "match.margins.low", "seed.x"])
def test_override_of_an_unknown_key(tmp_path: Path, key: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({**TREE, "seed": 1}))
    with pytest.raises(RecipeError, match=key.split(".")[0]):
        load_recipe(RunRecipe, str(path), {key: 1})


@pytest.mark.parametrize("setting", ["training.peak_lr", "=3", "a=[1"])
def test_setting_that_is_none(setting: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        parse_setting(setting)


def test_recipe_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'laptop'"):
        load_recipe(RunRecipe, "labtop", {})


def test_every_field_is_described() -> None:
    for kind in (RunRecipe, TrainRecipe):
        for key, (type_name, default, description) in fields(kind).items():
            assert type_name and default and description.endswith("."), key


def test_default_that_is_written_is_the_default_that_holds() -> None:
    recipe = check(RunRecipe, TREE).model_dump()
    for key, (_, default, _) in fields(RunRecipe).items():
        section, _, name = key.rpartition(".")
        if section == "data.train":  # a list's entries have their own defaults
            assert default == "required" or repr(recipe["data"]["train"][0][name]) == default
            continue
        if section == "growth.target":  # there is none without its goal
            assert default == "None" and recipe["growth"]["target"] is None
            continue
        value = recipe[section][name] if section else recipe[name]
        given = TREE.get(section, {}) if section else TREE
        assert default == "required" or name in given or repr(value) == default, key


def test_a_source_is_short_for_a_list_of_one() -> None:
    short, long = (
        check(RunRecipe, changed(data={"train": train})).data.train for train in ("a.txt", [{"source": "a.txt"}])
    )
    assert short == long == [Source(source="a.txt")]
    mixed = check(RunRecipe, changed(data={"train": [{"source": "a", "weight": 67, "field": "body"}, "b"]}))
    assert [(s.source, s.weight, s.field) for s in mixed.data.train] == [("a", 67.0, "body"), ("b", 1.0, None)]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ([], "'data.train' is []"),
        (3, "'data.train' is 3"),
        ([{"source": "a", "wieght": 1}], "did you mean 'data.train.weight'"),
        ([{"source": "a", "weight": 0}], "'data.train.0.weight' is 0"),
        ([{"weight": 1}], "lacks 'data.train.0.source'"),
    ],
)
def test_sources_that_are_none(train: Any, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        check(RunRecipe, changed(data={"train": train}))
    assert said in str(error.value)


WHOLE = [
    (kind, key)
    for kind in (RunRecipe, TrainRecipe, CompareRecipe)
    for key, (type_name, _, _) in fields(kind).items()
    if type_name.startswith("whole number")
]


@pytest.mark.parametrize(("kind", "key"), WHOLE, ids=[f"{kind.__name__}: {key}" for kind, key in WHOLE])
def test_a_whole_number_beyond_reason_is_refused_where_the_recipe_is_read(kind: Any, key: str) -> None:
    """Not once a model was measured. Any number below 2^63 is a seed."""
    own = {RunRecipe: {}, TrainRecipe: {"model": {"model_type": "gpt2"}}, CompareRecipe: {"methods": ["random"]}}[kind]
    tree = copy.deepcopy({**{name: TREE[name] for name in TREE if name in kind.model_fields}, **own})
    *path, name = key.split(".")
    section = tree
    for part in path:
        section = section.setdefault(part, {})
    section[name] = 1 << 62
    if key == "seed":
        assert check(kind, tree).seed == 1 << 62
        return
    with pytest.raises(RecipeError, match=r"4611686018427387904|more than"):
        check(kind, tree)
