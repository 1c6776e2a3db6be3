"""`inheritune compare`."""

from typing import Annotated, Literal

import typer


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or path.")] = "laptop-compare",
    methods: Annotated[
        str | None, typer.Option(help="Only these, as in inheritune,random; `all` for every one.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds.")] = None,
    budget: Annotated[
        Literal["tokens", "flops", "total-flops"] | None, typer.Option(help="In what methods are equal.")
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Take every n-th method, from the i-th on.")] = "1/1",
    gather: Annotated[
        bool, typer.Option("--gather", help="Train nothing: the table of the cells that are there.")
    ] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the cells; default runs/<recipe>.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a reference's smaller models by every method, on the same batches, and compare them."""
    from inheritune.config.loading import load_recipe, parse_setting
    from inheritune.config.recipes import CompareRecipe

    overrides = dict(parse_setting(setting) for setting in set_ or [])
    named = None if methods is None else [name.strip() for name in methods.split(",")]
    given = {"methods": named, "seeds": seeds, "budget": budget}
    overrides |= {key: value for key, value in given.items() if value is not None}
    place = _shard(shard)
    checked = load_recipe(CompareRecipe, recipe, overrides)  # a wrong key is told before torch is loaded

    from inheritune.comparison.sweep import compare
    from inheritune.progress import PlainConsole, Progress
    from inheritune.records.entry import json_text
    from inheritune.report.compare_table import missing_lines, terminal

    found = compare(recipe, out, place, gather, Progress(quiet, to_stderr=as_json), **overrides)
    if as_json:
        print(json_text(found))
        return
    console = PlainConsole(soft_wrap=True)
    console.print(terminal(found))
    for line in missing_lines(found):
        console.print(f"missing: {line}")
    folder = out or f"runs/{checked.name}"
    console.print(f"Every column: {folder}/compare.md. Figures: {folder}/figures")


def _shard(text: str) -> tuple[int, int]:
    from inheritune.errors import RecipeError

    first, slash, last = text.partition("/")
    if not (slash and all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (first, last))):
        raise RecipeError(f"--shard {text!r} is not i/n, as in --shard 2/8")
    return int(first), int(last)
