"""YAML from strangers: small, shallow, plain values, each key once, nothing built and nothing unfolded."""

import re
from pathlib import Path
from typing import Any

import yaml

from inheritune.errors import RecipeError

MOST_BYTES = 1 << 18  # of a recipe
MOST_DEPTH = 16
_WHOLE = 1 << 63


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number (YAML 1.1 reads it as text), without aliases, which make bombs."""

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
        value = super().construct_yaml_int(node) if len(node.value) < 100 else _WHOLE
        if abs(value) >= _WHOLE:
            raise yaml.YAMLError(f"the number {node.value[:20]} is beyond 64 bits: write a smaller one")
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def value_of(text: str) -> Any:
    """The value that a YAML text holds; raises ValueError, with the reason and its line, for what is not read."""
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


def read_yaml(text: str, source: str = "this recipe") -> dict[str, Any]:
    """The mapping that a YAML text holds; RecipeError if it is none."""
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
    """The text of a recipe's file; RecipeError for one that cannot be read or is no text."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise RecipeError(f"the recipe {str(path)!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"the recipe {str(path)!r} is not UTF-8 text (byte {error.start}): convert it first"
        ) from None
