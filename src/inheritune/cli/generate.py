"""`inheritune generate`: what a model says after a prompt, beside its reference."""

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from inheritune.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


def command(
    model: Annotated[str, typer.Argument(help="A model folder, a .gguf file, a Hub id or bundled:laptop.")],
    prompt: Annotated[str | None, typer.Argument(help="What it goes on from; without it, standard input.")] = None,
    reference: Annotated[str | None, typer.Option(help="Another model, beside it.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens.")] = 60,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings: read it first.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Go on with a prompt, by the likeliest token each time; two models take turns, token by token."""
    if prompt is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("there is no prompt: give one, as in inheritune generate MODEL 'Once upon a time'")
        prompt = sys.stdin.read().removesuffix("\n")
    from inheritune.evaluation.continuation import continuation
    from inheritune.models.find import locate
    from inheritune.models.gguf import read_once
    from inheritune.models.load import load_model, tokenizer_at
    from inheritune.models.quiet import loading
    from inheritune.models.reference import with_size
    from inheritune.progress import Progress
    from inheritune.runtime.device import device

    progress = Progress(quiet, to_stderr=True)
    pieces: dict[str, Iterator[str]] = {}
    for name in dict.fromkeys([model, *([reference] if reference else [])]):
        place = locate(name, trust=trust_remote_code)
        with loading(progress, f"Model: {with_size(name)}"), read_once(place):
            loaded = load_model(place, trust=trust_remote_code, on=device())
            pieces[name] = continuation(loaded, tokenizer_at(place), prompt, tokens)
    if len(pieces) == 1:
        _stream(pieces[model])
    else:
        _beside(pieces)


def _stream(pieces: "Iterator[str]") -> None:
    from inheritune.words import harmless

    for piece in pieces:
        print(harmless(piece), end="", flush=True)
    print()


def _beside(pieces: "dict[str, Iterator[str]]") -> None:
    """Show both texts as columns that grow in a terminal; in a pipe, one below the other once they are whole."""
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from inheritune.progress import PlainConsole
    from inheritune.words import harmless

    console, said, going = PlainConsole(soft_wrap=True), dict.fromkeys(pieces, ""), dict(pieces)

    def table() -> Table:
        columns = Table(*pieces, box=None, expand=True)
        columns.add_row(*[Text(text) for text in said.values()])
        return columns

    with Live(table(), console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while going:
            for name in list(going):
                if (piece := next(going[name], None)) is None:
                    del going[name]
                else:
                    said[name] += harmless(piece)
            if live:
                live.update(table(), refresh=True)
    if not console.is_terminal:
        console.print("\n\n".join(f"{name}:\n{text.strip()}" for name, text in said.items()))
