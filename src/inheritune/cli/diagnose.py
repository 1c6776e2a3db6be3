"""`inheritune diagnose`: what every layer and head of a model does on one's own text."""

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[str, typer.Argument(help="A model folder, a .gguf file, a Hub id or bundled:laptop.")],
    text: Annotated[
        str,
        typer.Option("--text", "--data", help="A text as data.train takes it (docs/data.md), or bundled:docstrings."),
    ] = "bundled:docstrings",
    field: Annotated[str, typer.Option(help="The field or column that holds the text.")] = "text",
    length: Annotated[int, typer.Option(min=2, help="Tokens in a sequence (the paper: 100).")] = 100,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences measured (the paper: 100).")] = 100,
    curve_sequences: Annotated[int, typer.Option(min=0, help="Of these, for losses of cuts; 0: none.")] = 12,
    minutes: Annotated[float, typer.Option(min=0, help="Minutes for fresh weights, other lengths and cuts.")] = 3.0,
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
    from rich.console import Console

    from inheritune.config.sections import Source
    from inheritune.data.corpora import require
    from inheritune.diagnosis.diagnose import diagnose, forget, natural_length
    from inheritune.diagnosis.text import spread_windows
    from inheritune.disk.files import reserve, writing
    from inheritune.models.begin import begin_of
    from inheritune.models.find import locate
    from inheritune.models.gguf import read_once
    from inheritune.models.load import load_model, tokenizer_at
    from inheritune.models.reference import with_size
    from inheritune.progress import Progress, Rates
    from inheritune.records.profile import Profile
    from inheritune.report.profile_folder import write_profile_folder
    from inheritune.report.profile_table import answer

    other = None if against is None else Profile.load(against)
    require([Source(source=text)])
    if out is not None:
        with writing(out):
            reserve(out)
    place = locate(model, trust=trust_remote_code)
    with closing(Progress(quiet, to_stderr=True)) as progress:
        with progress.waiting(f"Model: {with_size(model)}"), read_once(place):
            words = tokenizer_at(place if tokenizer is None else locate(tokenizer))
            decoder = load_model(place, trust=trust_remote_code)
        tokens_NT = spread_windows(text, words, length, sequences, field)
        second = other_length or natural_length(decoder)
        longer = [spread_windows(text, words, second, 4, field)] if second != length else []
        tell, told = Rates(progress), 0

        def seen(profile: Profile) -> None:
            """What is there is said and saved at once; whoever waits no longer has it."""
            nonlocal told
            if profile.sequences > told:
                told = profile.sequences
                for line in answer(profile):
                    progress.note(line)
            if out is not None:
                profile.model_copy(update={"model": model}).save(out / "profile.json")

        written: list[Path] = []
        with nullcontext() if out is None else writing(out):
            profile = diagnose(
                decoder,
                tokens_NT,
                unasked=begin_of(words).unasked,
                threshold=threshold,
                curve_sequences=curve_sequences,
                minutes=minutes,
                kept=out,
                gradients=gradients,
                other_lengths=longer,
                tell=tell,
                seen=seen,
            ).model_copy(update={"model": model})
            if out is not None:
                written = write_profile_folder(profile, decoder, tokens_NT, out, other, tell)
                forget(out)
    if as_json:
        typer.echo(profile.model_dump_json())
        return
    Console().print(profile)
    for path in written:
        typer.echo(path)
