"""`inheritune prove`: put a model to every check."""

import json
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from inheritune.surgery.blockmap import parse


def command(
    model: Annotated[Path, typer.Argument(help="The model folder to prove.")],
    against: Annotated[Path | None, typer.Option(help="The reference: a model folder or a .gguf file.")] = None,
    blocks: Annotated[str | None, typer.Option(help="The reference's blocks it holds; else its record says.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings: read it first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the proof as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Prove a model, against its reference if that is given; the proof is written to proof.json beside it."""
    listed = None if blocks is None else parse(blocks)
    from inheritune.models.folder import PROOF
    from inheritune.models.load import load_model
    from inheritune.models.quiet import loading
    from inheritune.models.reference import with_size
    from inheritune.progress import PlainConsole, Progress, Rates
    from inheritune.runtime.device import device
    from inheritune.surgery.proof import prove
    from inheritune.surgery.record import held_blocks, trained_tokens

    if against is not None and listed is None and (trained := trained_tokens(model)):
        PlainConsole(stderr=as_json, soft_wrap=True).print(
            f"trained on {trained:,} tokens since it was cut, so its weights are compared with no reference: proved for itself alone"
        )
        against = None
    if against is not None and listed is None:
        listed = held_blocks(model)
    with closing(Progress(quiet, to_stderr=True)) as progress:
        parent = None
        if against is not None:
            with loading(progress, f"Reference: {with_size(str(against))}"):
                parent = load_model(against, trust=trust_remote_code)
        with loading(progress, f"Model: {with_size(str(model))}"):
            made = load_model(model, trust=trust_remote_code, on=device())
        proof = prove(made, parent, listed, count=partial(Rates(progress), "Proof"))
    proof.save(model / PROOF)
    if as_json:
        typer.echo(json.dumps({"passed": proof.passed, "checks": [asdict(check) for check in proof.checks]}))
    else:
        for check in proof.checks:
            PlainConsole(soft_wrap=True).print(
                f"{'passed' if check.passed else 'FAILED'}  {check.name}: {check.detail}"
            )
    proof.require()
