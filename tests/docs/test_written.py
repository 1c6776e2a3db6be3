"""Every command's page has its help, and docs/api.md every public name, as the code has them: `python tests/docs/test_written.py` writes them anew."""

import ast
import contextlib
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer

import inheritune
from inheritune.cli import app

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
_VALUES = {int: "N", float: "X", Path: "PATH"}


def _value(option: Any) -> str:
    """What stands for an option's value, as its help says it."""
    kind = option.type_descriptor.annotation
    return (option.metavar or _VALUES.get(kind) or option.name.upper()).replace("|", "/")


def _names(option: Any) -> str:
    both = [*option.opts, *option.secondary_opts]
    return ", ".join(f"`{name}`" if option.is_flag else f"`{name} {_value(option)}`" for name in both)


def _default(option: Any) -> str:
    if option.is_flag or option.default in (None, "", []) or not option.show_default:
        return ""
    return f" Default: `{option.default}`."


def help_of(name: str) -> str:
    """A command's usage, its arguments and its options."""
    command = COMMANDS[name]
    rows, usage = [], [f"inheritune {name}"]
    for param in command.params:
        said = " ".join((param.help or "").split()).replace("|", "\\|").replace("<", "&lt;")
        if param.opts[0].startswith("-"):
            rows.append(f"| {_names(param)} | {said}{_default(param)} |")
        else:
            shown = param.metavar or param.name.upper()
            usage.append(shown if param.required or "[" in shown else f"[{shown}]")
            rows.append(f"| {' or '.join(f'`{one}`' for one in shown.split('|'))} | {said} |")
    table = "\n".join(["| given | what it is |", "|---|---|", *rows])
    return f"```text\n{' '.join(usage)} [OPTIONS]\n```\n\n{table}"


def with_help(text: str) -> str:
    """A page with the help between its marks made anew."""

    def made(found: re.Match[str]) -> str:
        return f"{found[1]}\n{help_of(found[2])}\n<!-- end of help -->"

    return re.sub(r"(<!-- help: (\w+) -->)\n.*?<!-- end of help -->", made, text, flags=re.DOTALL)


def _signature(name: str, node: ast.FunctionDef) -> str:
    """A function's parameters, each on a line, as the source has them."""
    arguments, lines = node.args, []
    plain = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    groups = [*zip(plain, defaults, strict=True)]
    named = [*zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    for stars, pairs in (("", groups), ("*", named)):
        lines += ["*"] if stars and pairs else []
        lines += [ast.unparse(one) + (f" = {ast.unparse(default)}" if default else "") for one, default in pairs if one.arg != "self"]  # fmt: skip
    lines += [f"**{ast.unparse(arguments.kwarg)}"] if arguments.kwarg else []
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and ast.unparse(node.returns) != "None" else ""
    whole = f"{name}({', '.join(lines)}){returns}"
    return whole if len(whole) <= 80 else f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){returns}"


def _source(thing: Any) -> Any:
    return ast.parse(inspect.cleandoc("\n" + inspect.getsource(thing))).body[0]


def _words(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


def _class(name: str, kind: type) -> Iterator[str]:
    node = _source(kind)
    made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
    fields = [one for base in _ours(kind) for one in _source(base).body if isinstance(one, ast.AnnAssign)]
    fields = [one for one in fields if not ast.unparse(one.annotation).startswith("ClassVar")]
    yield f"## `{name}`\n"
    if made:
        yield f"```text\n{_signature(name, made[0])}\n```\n"
    yield f"{_words(kind)}\n"
    for base in _ours(kind)[:-1]:
        if fields and (more := _words(base).partition("\n\n")[2]):
            yield f"{more}\n"
    for field in fields if not issubclass(kind, Exception) else ():
        default = "" if field.value is None or isinstance(field.value, ast.Call) else f" = {ast.unparse(field.value)}"
        yield f"- `{ast.unparse(field.target)}`: `{ast.unparse(field.annotation)}{default}`"
    if fields and not issubclass(kind, Exception):
        yield ""
    for member, value in inspect.getmembers(kind):
        if member in vars(kind) and not member.startswith("_") and not made and _words(value) and (inspect.isfunction(value) or isinstance(value, property)):  # fmt: skip
            called = "" if isinstance(value, property) else "()"
            yield f"**`.{member}{called}`** {_words(value)}\n"


def _ours(kind: type) -> list[type]:
    """A class and those of this package that it is made of, the first one first."""
    return [base for base in kind.__mro__[::-1] if base.__module__.startswith("inheritune.")]


def _classes(hint: Any) -> Iterator[type]:
    """The classes that an annotation names."""
    if inspect.isclass(hint) and not get_args(hint):
        yield hint
    for part in get_args(hint):
        yield from _classes(part)


def _named(thing: Any) -> Iterator[type]:
    """The classes of this package that a function takes or gives, or that a class holds; and those that its docstring names."""
    hints = {}
    with contextlib.suppress(NameError):  # of a class that is there for types alone
        hints = get_type_hints(thing)
    said = (vars(inspect.getmodule(thing)).get(name) for name in re.findall(r"`(\w+)`", _words(thing)))
    for kind in (*(kind for hint in hints.values() for kind in _classes(hint)), *filter(inspect.isclass, said)):
        if kind.__module__.startswith("inheritune.") and not issubclass(kind, Exception):
            yield kind


def held(things: Iterable[Any]) -> dict[str, type]:
    """By name, the data that `things` take, give and are made of, but for what has a page of its own (docs/result.md, docs/compare.md)."""
    found: dict[str, type] = {}
    ahead = list(things)
    shown = {base.__name__ for thing in ahead if inspect.isclass(thing) for base in _ours(thing)}
    while ahead:
        for kind in _named(ahead.pop(0)):
            if kind.__name__ not in {*found, *shown, "Result", "Comparison", "Progress"}:
                found[kind.__name__] = kind
                ahead.append(kind)
    return found


def api() -> str:
    """The page of all public names, errors last."""
    things = {name: getattr(inheritune, name) for name in inheritune.__all__}
    errors = {name: kind for name, kind in things.items() if inspect.isclass(kind) and issubclass(kind, Exception)}
    lines = [
        "# Python\n",
        "All that `import inheritune` offers, from its own docstrings (`python tests/docs/test_written.py` writes this page anew, and a",
        "test holds it). The import itself loads neither torch nor transformers. Shapes: N sequences, T tokens.\n",
    ]
    for name, thing in things.items():
        if inspect.isclass(thing) and name not in errors:
            lines += _class(name, thing)
        elif inspect.isfunction(thing):
            lines += [f"## `{name}`\n", f"```text\n{_signature(name, _source(thing))}\n```\n", f"{_words(thing)}\n"]
    lines += [
        "## What these take and give\n",
        "Fields are read by name; `None` is what was not asked for or not measured. A `Count` is a whole number from 0 on, a `Depth` one from 1 on,",
    ]
    lines += ["an `Amount` a number from 0 on, a `Share` one from 0 to 1.\n"]
    for name, kind in sorted(held(things.values()).items()):
        lines += [line.replace("## ", "### ", 1) for line in _class(name, kind)]
    lines += ["## Errors\n", "A user's mistake is one of these, with one sentence that says what to do.\n"]
    lines += [f"- `{name}` ({kind.__bases__[0].__name__}): {_words(kind).splitlines()[0]}" for name, kind in errors.items()]  # fmt: skip
    return "\n".join(lines) + "\n"


def pages() -> list[Path]:
    return sorted(DOCS.glob("*.md"))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_page_with_its_help(name: str) -> None:
    found = [page for page in pages() if f"<!-- help: {name} -->" in page.read_text(encoding="utf-8")]
    assert len(found) == 1, f"`<!-- help: {name} -->` and `<!-- end of help -->` stand on one page of docs/"
    text = found[0].read_text(encoding="utf-8")
    assert text == with_help(text), "make it anew: python tests/docs/test_written.py"


def test_the_api_page_is_what_the_docstrings_say() -> None:
    assert (DOCS / "api.md").read_text(encoding="utf-8") == api(), "make it anew: python tests/docs/test_written.py"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_help_names_a_file_that_an_installed_package_lacks(name: str) -> None:
    assert "docs/" not in help_of(name)


def test_the_api_page_has_what_functions_take_and_give() -> None:
    """Each name that a public signature or its words have is there with its fields, those that it is made of too."""
    found = held(getattr(inheritune, name) for name in inheritune.__all__)
    assert {
        "Wanted",
        "Proof",
        "Check",
        "PlanRequest",
        "RunEstimate",
        "RunStatus",
        "Layer",
        "Head",
        "Cut",
    } <= found.keys()
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert all(f"### `{name}`\n" in page for name in found)
    own = page.partition("## `Profile`\n")[2].partition("\n## ")[0]
    assert all(f"- `{name}`: " in own for name in inheritune.Profile.model_fields)


def test_help_names_each_option_with_its_default() -> None:
    said = help_of("diagnose")
    assert (
        "| `--length N` |" in said
        and "Default: `100`." in said
        and said.startswith("```text\ninheritune diagnose MODEL [OPTIONS]")
    )


if __name__ == "__main__":
    for place in pages():
        place.write_text(with_help(place.read_text(encoding="utf-8")), encoding="utf-8")
    (DOCS / "api.md").write_text(api(), encoding="utf-8")
