"""`inheritune grow`: a model with more of its reference's blocks."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from inheritune.surgery.blockmap import parse


def command(
    target: Annotated[Path, typer.Argument(help="The model folder to grow.")],
    dest: Annotated[Path, typer.Argument(help="The folder to write.")],
    reference: Annotated[Path, typer.Option("--from", help="The reference's model folder.")],
    blocks: Annotated[str, typer.Option(help="The reference's blocks that the result has, as in 0-13.")],
    held: Annotated[str | None, typer.Option(help="Those the target has, where it has no inheritune.json.")] = None,
    new: Annotated[
        str, typer.Option(help="How new blocks start: inherited, copied, identity or random.")
    ] = "inherited",
    prove: Annotated[bool | None, typer.Option(help="Prove the result; small models by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of blocks that start random.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing model's folder, with all that is in it.")
    ] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings: read it first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Grow a model: its own trained blocks stay, and the reference's others come in at their places."""
    wanted = parse(blocks)
    from inheritune.progress import PlainConsole, Progress, Rates
    from inheritune.surgery.by_model import grow_folder
    from inheritune.surgery.record import held_blocks
    from inheritune.surgery.requests import GrowRequest

    known = held_blocks(target) if held is None else parse(held)
    plan = GrowRequest(known, wanted, start=new, proved=prove, seed=seed, trust=trust_remote_code)
    with closing(Progress(quiet, to_stderr=True)) as progress:
        record = grow_folder(target, reference, dest, plan, force, Rates(progress))
    said = f"{dest}: {len(wanted)} of {record.reference_depth} blocks ({record.blocks_shown})"
    if record.miscounted:
        said += f"\ncaution: {record.miscounted}"
    PlainConsole(soft_wrap=True).print(record.as_printed() if as_json else said)
