"""The command line: one file per command; each parses, calls and prints."""

import importlib
import pkgutil
import sys

import typer

from inheritune.errors import InherituneError

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
        print(f"inheritune: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
