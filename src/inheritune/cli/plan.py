"""`inheritune plan`: what a run will take and can reach, before anything is begun."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inheritune.progress import PlainConsole
    from inheritune.records.estimate import RunEstimate

_COLUMNS = ("stage", "tokens", "FLOPs", "time", "memory", "disk")


def command(
    source: Annotated[str, typer.Argument(metavar="RECIPE|MODEL", help="A recipe's name or path, or a model.")],
    text: Annotated[
        str | None, typer.Option(help="A file, a folder, a glob, hf:ID of the hub, or bundled:docstrings.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="h100, h200, a100, 4090, or cpu: this machine.")] = "cpu",
    gpus: Annotated[int, typer.Option(help="How many of them.")] = 1,
    price: Annotated[float | None, typer.Option(help="What one costs an hour, in any money.")] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="The target's size: 200MB of weights, 1.5x (so many times faster), or 12 (blocks)."),
    ] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Train on this machine for ten seconds.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a recipe's value.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Say what a run takes in time, memory, disk and money, and what its tokens can buy. No weight is read."""
    from inheritune.config.loading import parse_setting
    from inheritune.progress import PlainConsole, Progress
    from inheritune.records.entry import json_text
    from inheritune.runs.plan import PlanRequest, plan

    asked = PlanRequest(gpu, gpus, price, fit, probe)
    overrides = dict(parse_setting(setting) for setting in set_ or [])
    found = plan(source, text, asked, Progress(quiet, to_stderr=True), **overrides)
    if as_json:
        print(json_text(found))
    else:
        _print(found, PlainConsole(soft_wrap=True))


def _print(found: "RunEstimate", console: "PlainConsole") -> None:
    from rich.table import Table

    from inheritune.report import words
    from inheritune.report.plan_words import already_fits, in_two_lines, packed_in_words, step_in_words
    from inheritune.report.reach_words import reach_in_words

    for line in (*already_fits(found), *in_two_lines(found)):
        console.sentence(line)
    priced = found.machine.price is not None
    table = Table(box=None)
    for name in (*_COLUMNS, *(["cost"] if priced else [])):
        table.add_column(name, no_wrap=True)
    for stage in [*found.stages, found.total]:
        paid = [f"{found.cost(stage.seconds):,.2f}"] if priced else []
        sizes = [words.size(stage.memory), words.size(stage.disk) if stage.disk else ""]
        counts = [words.large_number(stage.tokens), words.flops(stage.flops), words.about(stage.seconds)]
        table.add_row(stage.name, *counts, *sizes, *paid)
    console.print("", table, "")
    for line in (step_in_words(found), *packed_in_words(found), *reach_in_words(found), *found.advice):
        said = line.lstrip()
        console.sentence(said, line.removesuffix(said))
