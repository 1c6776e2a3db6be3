"""The command line: one file per command; each parses, calls and prints."""

import importlib
import pkgutil
import sys
from typing import NoReturn

import typer

from inheritune.errors import InherituneError, plain

ORDER = ("run", "train", "diagnose", "inherit", "grow", "prove", "config")

app = typer.Typer(
    name="inheritune",
    help="Turn a pretrained language model into a smaller one that is as good, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _commands() -> list[str]:
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


for _name in _commands():
    app.command(_name)(importlib.import_module(f"inheritune.cli.{_name}").command)


def main() -> None:
    """Run the command line; a user's error ends in one sentence on standard error and its exit code."""
    try:
        app()
    except InherituneError as error:
        _end(error, error.exit_code)
    except OSError as error:
        from inheritune.folder import refusal

        _end(refusal(error, verb="used"), 2)
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        _end("the memory is used up: take a smaller training.micro_batch_size, shorter sequences or a smaller model", 2)


def _end(said: object, code: int) -> NoReturn:
    print(f"inheritune: {plain(said)}", file=sys.stderr)
    sys.exit(code)


def _is_memory(error: BaseException) -> bool:
    """Python's, the CPU allocator's and the accelerator's ways of saying so."""
    return isinstance(error, MemoryError) or any(
        part in str(error) for part in ("can't allocate memory", "out of memory", "bad_alloc")
    )
