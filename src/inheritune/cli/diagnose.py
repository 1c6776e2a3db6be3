"""`inheritune diagnose`: what every layer and head of a model does on one's own text."""

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[str, typer.Argument(help="A model folder, a .gguf file, a Hub id or bundled:laptop.")],
    text: Annotated[
        str,
        typer.Option("--text", "--data", help="A file, a folder, a glob, hf:ID of the hub, or bundled:docstrings."),
    ] = "bundled:docstrings",
    field: Annotated[str, typer.Option(help="The field or column that holds the text.")] = "text",
    begin: Annotated[
        str, typer.Option(help="What opens each sequence: auto, as the tokenizer begins a text; none; or a token.")
    ] = "auto",
    length: Annotated[int, typer.Option(min=2, help="Tokens in a sequence (the paper: 100).")] = 100,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences measured (the paper: 100).")] = 100,
    curve_sequences: Annotated[int, typer.Option(min=0, help="Of these, for losses of cuts; 0: none.")] = 12,
    minutes: Annotated[
        float,
        typer.Option(
            min=0, help="Minutes for fresh weights, other lengths and cuts; the maps before them take their own."
        ),
    ] = 3.0,
    other_length: Annotated[
        int,
        typer.Option(
            min=0, help="A second length beside it, on 4 sequences; 0: the model's own, to 1024; as --length: none."
        ),
    ] = 0,
    threshold: Annotated[float, typer.Option(help="Share that k* and m* must hold.")] = 0.90,
    gradients: Annotated[bool, typer.Option("--gradients", help="Also norms of W_Q and W_K gradients.")] = False,
    against: Annotated[Path | None, typer.Option(help="Another profile.json to draw over this one.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="A tokenizer's folder; the model's own if not given.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for profile.json and the figures.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings: read it first.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print profile.json.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Measure rank, mass, sinks, influence and what cuts cost, and suggest a depth."""
    from inheritune.diagnosis.by_name import DiagnosisRequest, diagnose_named
    from inheritune.models.gguf import note_unpacking
    from inheritune.progress import PlainConsole, Progress
    from inheritune.records.entry import json_text
    from inheritune.runtime.interruption import stop_said

    asked = DiagnosisRequest(
        text=text, field=field, begin=begin, length=length, sequences=sequences, curve_sequences=curve_sequences, minutes=minutes,
        other_length=other_length, threshold=threshold, gradients=gradients, against=against, tokenizer=tokenizer,
        out=out, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    unkept = nullcontext() if out else stop_said("nothing was kept; with --out FOLDER what is measured is")
    with unkept, closing(Progress(quiet, to_stderr=True)) as progress:
        profile, written = diagnose_named(model, asked, progress)
        note_unpacking(Path(model), profile.depth, progress)
    if as_json:
        typer.echo(json_text(profile, None))
        return
    PlainConsole().print(profile)
    for path in written:
        PlainConsole(soft_wrap=True).print(str(path))
