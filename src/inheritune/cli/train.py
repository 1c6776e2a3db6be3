"""`inheritune train`."""

from typing import Annotated

import typer


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")] = "laptop-reference",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Run folder; default runs/<recipe>.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a model from random weights, without a reference."""
    import json

    from inheritune.config.loading import parse_setting
    from inheritune.progress import Progress
    from inheritune.runs.pretrain import train

    overrides = dict(parse_setting(setting) for setting in set_ or [])
    result = train(recipe, out, Progress(quiet, to_stderr=as_json), **overrides)
    if as_json:
        print(json.dumps(result.model_dump(), indent=1))
