"""Read untrusted YAML: small, shallow, plain values, each key once, no constructed objects and no aliases."""

import re
from pathlib import Path
from typing import Any

import yaml

from inheritune.disk.files import read_whole
from inheritune.errors import RecipeError
from inheritune.words import harmless

MOST_BYTES = 1 << 18  # of a recipe
MOST_DEPTH = 16
_MOST = 1 << 63
_DIGITS = "[0-9]+(_[0-9]+)*"
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)$")
_REAL = re.compile(
    rf"[-+]?({_DIGITS}\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|[-+]?{_DIGITS}[eE][-+]?[0-9]+$|[-+]?\.inf$|\.nan$"
)


class _Loader(yaml.SafeLoader):
    """A safe loader without aliases, which allow YAML bombs, and with numbers as people write them (`_plain_numbers`)."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"the alias *{self.peek_event().anchor} is not read: write its value out")
        if self.depth >= MOST_DEPTH:
            raise yaml.YAMLError(f"it is more than {MOST_DEPTH} levels deep: a recipe needs four")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError("a list or mapping stands where a key belongs: a key is one word")
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value!r} stands twice: keep one of them")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        if not _WHOLE.fullmatch(text):
            raise yaml.YAMLError(f"{text[:20]!r} is no whole number: write it in decimal digits")
        value = int(text.replace("_", "")) if len(text) < 100 else _MOST
        if abs(value) >= _MOST:
            raise yaml.YAMLError(f"the number {text[:20]} is beyond 64 bits: write a smaller one")
        return value

    def construct_yaml_float(self, node: Any) -> float:
        text = self.construct_scalar(node)
        if not (_WHOLE.fullmatch(text) or _REAL.fullmatch(text)):
            raise yaml.YAMLError(f"{text[:20]!r} is no number: write it in decimal digits, as in 1.0e-4")
        return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """A safe dumper whose output `_Loader` reads back unchanged."""


def _plain_numbers(kind: Any) -> None:
    """Make a loader or dumper take decimal numbers alone for numbers, `1e-3` among them.

    YAML 1.1 would read 1:30 as 90 and 010 as 8, and would also read dates.
    """
    kind.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
        for first, forms in kind.yaml_implicit_resolvers.items()
    }
    kind.add_implicit_resolver("tag:yaml.org,2002:int", _WHOLE, list("-+0123456789"))
    kind.add_implicit_resolver("tag:yaml.org,2002:float", _REAL, list("-+.0123456789"))


_plain_numbers(_Loader)
_plain_numbers(_Dumper)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def value_of(text: str) -> Any:
    """Parse a YAML text. Raises ValueError, with the reason and its line, for whatever is not allowed."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has {len(text):,} characters, and a recipe has at most {MOST_BYTES:,}")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ValueError(f"{error.problem}{f' in line {mark.line + 1}' if mark else ''}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (
        TypeError,
        AttributeError,
        OverflowError,
        LookupError,
    ) as error:  # a tag that does not fit what it stands before
        raise ValueError(f"a tag does not fit its value ({error})") from None


def text_of(tree: Any) -> str:
    """Dump a tree of plain values as YAML that `value_of` reads back."""
    text = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text if text == harmless(text) else yaml.dump(tree, Dumper=_Dumper, sort_keys=False)


def read_yaml(text: str, source: str = "this recipe") -> dict[str, Any]:
    """Parse a YAML text that holds a mapping. Raises RecipeError, which names the `source`, if it does not."""
    try:
        tree = value_of(text)
    except ValueError as error:
        raise RecipeError(f"{source} is not valid YAML: {error}") from None
    if tree is None:
        raise RecipeError(f"{source} is empty: `inheritune config` describes what belongs into a recipe")
    if not isinstance(tree, dict):
        raise RecipeError(
            f"{source} is a {type(tree).__name__}, where a mapping of keys to values belongs, as in `name: mine`"
        )
    return tree


def read_file(path: Path) -> str:
    """Read a recipe's file. Raises RecipeError if it cannot be read or is not UTF-8 text."""
    try:
        return read_whole(path).decode("utf-8")
    except OSError as error:
        raise RecipeError(f"the recipe {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"the recipe {str(path)!r} is not UTF-8 text (byte {error.start}): convert it first"
        ) from None
