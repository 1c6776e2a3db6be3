"""Every key's default, bounds and words are the ones that are promised: an interface, of which no digit changes unseen.

Where one is meant to change: `python tests/config/test_bounds.py` writes the list anew, and a diff shows what did.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inheritune.config.recipes import CompareRecipe, RunRecipe, TrainRecipe

GOLDEN = Path(__file__).parents[1] / "golden" / "recipe_keys.txt"
_PROSE = ("description", "title", "properties", "$defs", "required")


def told() -> str:
    """A line for each key of each section, without its description."""
    sections: dict[str, Any] = {}
    for kind in (RunRecipe, TrainRecipe, CompareRecipe):
        schema = kind.model_json_schema()
        sections |= {kind.__name__: schema, **schema.get("$defs", {})}
    return "".join(f"{line}\n" for name, section in sorted(sections.items()) for line in _lines(name, section))


def _lines(name: str, section: dict[str, Any]) -> Iterator[str]:
    for key, own in section.get("properties", {}).items():
        needed = " required" if key in section.get("required", ()) else ""
        rules = " ".join(f"{rule}={own[rule]!r}" for rule in sorted(own.keys() - {*_PROSE}))
        yield f"{name}.{key}:{needed} {rules}"


def test_no_default_and_no_bound_changes_unseen() -> None:
    assert told() == GOLDEN.read_text()


if __name__ == "__main__":
    GOLDEN.write_text(told())
