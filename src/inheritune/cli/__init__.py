"""The command line: one file per command; each parses, calls and prints."""

import functools
import importlib
import os
import pkgutil
import shlex
import sys
import time
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

from inheritune import __version__
from inheritune.errors import InherituneError, Interrupted, WorkerError, plain
from inheritune.runtime.interruption import exit_code, terminable

_KEEP = (
    "run",
    "train",
    "compare",
    "prepare",
    "diagnose",
)  # commands that continue after a stop instead of beginning again
ORDER = ("plan", "run", "status", "report", "train", "diagnose", "inherit", "grow", "prove", "export", "config")

app = typer.Typer(
    name="inheritune",
    help="Turn a pretrained language model into a smaller one that is as good, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inheritune {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _commands() -> list[str]:
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _told(name: str) -> Callable[..., None]:
    """Wrap a command so that Ctrl-C or SIGTERM ends it in a sentence, wherever it is."""
    command = importlib.import_module(f"inheritune.cli.{name}").command

    @functools.wraps(command)
    def told(*args: object, **options: object) -> None:
        if options.get("quiet") is False and sys.stderr.isatty():
            print(f"inheritune {name} begins", file=sys.stderr, flush=True)  # its imports take seconds
        try:
            with terminable():
                command(*args, **options)
        except KeyboardInterrupt as error:
            said = "this goes on from what is kept" if name in _KEEP else "nothing was written"
            stopped = Interrupted(f"stopped: {said}", exit_code(error))
            stopped.__notes__ = getattr(error, "__notes__", [])
            raise stopped from None

    return told


for _name in _commands():
    app.command(_name)(_told(_name))


def main() -> None:
    """Run the command line; a user's error ends in one sentence on standard error and its exit code."""
    _open_streams()
    try:
        app()
    except Interrupted as error:
        if _speaks(error):
            _end(f"{error}: {_going_on(error)}", error.exit_code)
        sys.exit(error.exit_code)
    except InherituneError as error:
        if _speaks(error):
            _end(error, error.exit_code)
        sys.exit(error.exit_code)
    except OSError as error:
        from inheritune.disk.files import refusal

        _end(refusal(error, verb="used"), 2)
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        _end("the memory is used up: take a smaller training.micro_batch_size, shorter sequences or a smaller model", 2)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # raised by the tokenizers library; only its name tells it apart
            raise
        _end(f"the tokenizer cannot split this text ({error}): fetch its tokenizer.json again", 2)


def _open_streams() -> None:
    """Point closed streams to the null device, and write characters that a terminal does not know as their escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _going_on(error: Interrupted) -> str:
    """The command that continues in the run folder, as `status` tells it; where there is no run folder (yet), the command as given."""
    from inheritune.runs.going_on import launched_as, noted

    return noted(error) or f"{launched_as('RANK' in os.environ)} {shlex.join(sys.argv[1:])}"


def _speaks(error: InherituneError) -> bool:
    """Whether this process tells an error.

    In a launch the first process tells what all meet; what another one meets alone, that one tells, a second later.
    """
    rank = os.environ.get("RANK", "0")
    if isinstance(error, WorkerError):
        return error.told_here
    if rank != "0":
        time.sleep(1)  # where the first process has ended too, torchrun ends this one meanwhile
    return rank == "0" or not isinstance(error, Interrupted)


def _end(said: object, code: int) -> NoReturn:
    print(f"inheritune: {plain(said)}", file=sys.stderr)
    sys.exit(code)


def _is_memory(error: BaseException) -> bool:
    """Whether an error means that the memory is used up, as Python, the CPU allocator and the accelerator say it."""
    return isinstance(error, MemoryError) or any(
        part in str(error) for part in ("can't allocate memory", "out of memory", "bad_alloc")
    )
