"""`inheritune config`."""

from typing import Annotated, Any

import typer


def command(
    kind: Annotated[str, typer.Argument(help="Which kind of recipe: run, train or compare.")] = "run",
    recipe: Annotated[str | None, typer.Option(help="Print this recipe, resolved, instead.")] = None,
) -> None:
    """Describe every key of a recipe, or print a recipe resolved."""
    from rich.padding import Padding
    from rich.text import Text

    from inheritune.config.explain import fields
    from inheritune.config.loading import load_recipe, recipe_names, to_yaml
    from inheritune.config.recipes import CompareRecipe, RunRecipe, TrainRecipe
    from inheritune.errors import InputError
    from inheritune.progress import PlainConsole

    kinds: dict[str, Any] = {"run": RunRecipe, "train": TrainRecipe, "compare": CompareRecipe}
    if kind not in kinds:
        raise InputError(f"there is no kind of recipe {kind!r}: name one of {', '.join(kinds)}")
    if recipe:
        print(to_yaml(load_recipe(kinds[kind], recipe, {})), end="")
        return
    console = PlainConsole()
    for key, (type_name, default, description) in fields(kinds[kind]).items():
        said = {"required": "required", "None": "optional"}.get(default, f"default {default}")
        console.print(Text.assemble((key, "bold"), f"  {type_name}; {said}"))
        console.print(Padding(Text(description, style="dim"), (0, 0, 0, 4)))
    print(f"\nRecipes in the package: {', '.join(recipe_names())}")
