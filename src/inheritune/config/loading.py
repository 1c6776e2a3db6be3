"""Load recipes by name or path, validated completely before anything else is loaded; an unknown key is told the nearest valid one."""

import copy
import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from inheritune.config.explain import explain, fields, refuse_other_kind
from inheritune.config.fitting import fitted, set_in, within_positions
from inheritune.config.recipes import RECIPES, Recipe
from inheritune.config.strict_yaml import read_file, read_yaml, text_of, value_of
from inheritune.errors import RecipeError

YAML_SUFFIXES = (".yaml", ".yml")


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(
        path.name[:-5] for path in resources.files("inheritune.recipes").iterdir() if path.name.endswith(".yaml")
    )


def load_recipe(kind: type[Recipe], name_or_path: str, overrides: dict[str, Any]) -> Recipe:
    """Load a recipe by name or path, with dotted `overrides` applied.

    Values that the user did not set, defaults and those of a recipe in the package, are fitted to those that the user did set.
    Raises RecipeError, which names what is wrong and what would be right.
    """
    before = read_yaml(_find(name_or_path), f"the recipe {name_or_path!r}")
    refuse_other_kind(kind, with_values(before, overrides), name_or_path)
    return load_tree(kind, before, {} if _is_named(name_or_path) else before, overrides)


def load_tree(kind: type[Recipe], before: dict[str, Any], by_hand: dict[str, Any], overrides: dict[str, Any]) -> Recipe:
    """Load a recipe from the tree `before`, with dotted `overrides` applied. `by_hand` is the part of it that the user set.

    Raises RecipeError, as `load_recipe` does.
    """
    return check(kind, fitted(with_values(before, overrides), set_in(with_values(by_hand, overrides)), before))


def with_values(tree: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's tree with dotted keys set."""
    copied = copy.deepcopy(tree)
    for key, value in overrides.items():
        _set(copied, key.split("."), value, key)
    return copied


def load_for_positions(recipe: Recipe, positions: int | None) -> Recipe:
    """Return the recipe with default lengths reduced to a model's number of `positions`; None: no limit."""
    if positions is None:
        return recipe
    tree = recipe.model_dump(mode="json", exclude_unset=True)
    shorter = within_positions(tree, positions, set_in(tree), fields(type(recipe)))
    return recipe if shorter == tree else check(type(recipe), shorter)


def check(kind: type[Recipe], tree: dict[str, Any]) -> Recipe:
    """Validate `tree` as a recipe. Raises RecipeError, which names the first wrong key or value."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        others = {command: _keys(other) for command, other in RECIPES.items() if other is not kind}
        raise RecipeError(explain(error, _keys(kind), others)) from None


def _keys(kind: type[BaseModel]) -> list[str]:
    """Every dotted key of a recipe, and its sections."""
    return [*fields(kind), *kind.model_fields]


def to_yaml(recipe: BaseModel) -> str:
    """The resolved recipe as YAML, every field written out."""
    return text_of(recipe.model_dump(mode="json"))


def parse_setting(setting: str) -> tuple[str, Any]:
    """Split a `key=value` from the command line, and read its value as YAML. Raises RecipeError for anything else."""
    key, equals, value = setting.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {setting!r} is not key=value, as in --set training.peak_lr=1e-3")
    try:
        return key, value_of(value)
    except ValueError as error:
        raise RecipeError(f"--set {key}: {value[:100]!r} is not a YAML value: {error}") from None


def _is_named(name_or_path: str) -> bool:
    """Whether this names a recipe of the package, and not a path."""
    return Path(name_or_path).suffix not in YAML_SUFFIXES and name_or_path in recipe_names()


def _find(name_or_path: str) -> str:
    path = Path(name_or_path)
    if _is_named(name_or_path):
        return (resources.files("inheritune.recipes") / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    if path.is_file():
        return read_file(path)
    if path.suffix in (*YAML_SUFFIXES, ".json") or path.name != name_or_path:
        raise RecipeError(
            f"there is no recipe file {name_or_path!r}: check the path, or name a recipe of the package,"
            " such as laptop (`inheritune config` lists them)"
        )
    near = difflib.get_close_matches(name_or_path, recipe_names(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"recipes in the package: {', '.join(recipe_names())}"
    raise RecipeError(f"there is no recipe {name_or_path!r}: {hint}")


def _set(tree: dict[str, Any], keys: list[str], value: Any, whole: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"--set {whole}: {key!r} is a value and holds no keys")
    tree[keys[-1]] = value
