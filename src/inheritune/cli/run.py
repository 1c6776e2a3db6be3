"""`inheritune run`."""

from typing import Annotated

import typer


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")] = "laptop",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Run folder; default runs/<recipe>.")] = None,
    price: Annotated[float | None, typer.Option(help="What a device-hour costs, in any money.")] = None,
    controls: Annotated[bool, typer.Option("--controls", help="Also train the controls.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Take a pretrained model to a smaller one, and say honestly whether it matches."""
    from inheritune.config.loading import load_recipe, parse_setting
    from inheritune.config.recipes import RunRecipe
    from inheritune.progress import Progress
    from inheritune.records.entry import json_text

    overrides = dict(parse_setting(setting) for setting in set_ or [])
    if controls:
        overrides["controls"] = True
    load_recipe(RunRecipe, recipe, overrides)  # a wrong key is told before torch is loaded

    from inheritune import run

    result = run(recipe, out, Progress(quiet, to_stderr=as_json), price, **overrides)
    if as_json:
        print(json_text(result, 2))
