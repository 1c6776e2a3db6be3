"""`inheritune config`."""

from functools import partial
from typing import Annotated

import typer


def command(
    kind: Annotated[str, typer.Argument(help="Which kind of recipe: run, train or compare.")] = "run",
    recipe: Annotated[str | None, typer.Option(help="Print this recipe, resolved, instead.")] = None,
) -> None:
    """Describe every key of a recipe, or print a recipe resolved."""
    import textwrap

    from rich.text import Text

    from inheritune.config.explain import fields
    from inheritune.config.loading import load_recipe, recipe_names, to_yaml
    from inheritune.config.recipes import RECIPES
    from inheritune.errors import InputError
    from inheritune.progress import PlainConsole

    if kind not in RECIPES:
        raise InputError(f"there is no kind of recipe {kind!r}: name one of {', '.join(RECIPES)}")
    if recipe:
        print(to_yaml(load_recipe(RECIPES[kind], recipe, {})), end="")
        return
    console = PlainConsole(soft_wrap=True)
    wrap = partial(textwrap.fill, width=console.width, break_on_hyphens=False)
    for key, (type_name, default, description) in fields(RECIPES[kind]).items():
        said = {"required": "required", "None": "optional"}.get(default, f"default {default}")
        console.print(Text.assemble((key, "bold"), f"  {type_name}; {said}"))
        console.print(Text(wrap(description, initial_indent="    ", subsequent_indent="    "), style="dim"))
    console.print()
    console.print(wrap(f"Recipes in the package: {', '.join(recipe_names())}"))
