"""`inheritune config`."""

from typing import Annotated, Any, Literal

import typer


def command(
    kind: Annotated[Literal["run", "train", "compare"], typer.Argument(help="Which kind of recipe.")] = "run",
    recipe: Annotated[str | None, typer.Option(help="Print this recipe, resolved, instead.")] = None,
) -> None:
    """Describe every key of a recipe, or print a recipe resolved."""
    from rich.console import Console
    from rich.table import Column, Table

    from inheritune.compare.recipe import CompareRecipe
    from inheritune.config import RunRecipe, TrainRecipe, fields, load_recipe, recipe_names, to_yaml

    kinds: dict[str, Any] = {"run": RunRecipe, "train": TrainRecipe, "compare": CompareRecipe}
    recipe_kind = kinds[kind]
    if recipe:
        print(to_yaml(load_recipe(recipe_kind, recipe, {})), end="")
        return
    table = Table(Column("Key", no_wrap=True), "Type", "Default", "What it is", box=None, pad_edge=False)
    for key, (type_name, default, description) in fields(recipe_kind).items():
        table.add_row(f"[bold]{key}[/bold]", type_name, default, description)
    Console().print(table)
    print(f"\nRecipes in the package: {', '.join(recipe_names())}")
