"""The README.md of a saved model: where it comes from, what was measured, how to load it, its limits."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from inheritune.config.recipes import RunRecipe
from inheritune.config.strict_yaml import text_of
from inheritune.records.result import Result
from inheritune.report import story, words
from inheritune.words import code_span, harmless, literal, ranges, runs, span

TEMPLATES = Path(__file__).parent / "templates"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def model_card(result: Result, config: RunRecipe, license_name: str | None = None, chats: bool = False) -> str:
    """The model card as Markdown with YAML front matter, for `README.md` in the saved model's folder; `chats` if it has a chat template.

    It can be read without any other file of the run. Names and reasons from outside are escaped.
    """
    template = _environment().get_template("card.md.j2")
    card = template.render(
        front_matter=_front_matter(result, license_name),
        command=_command(result.command),
        result=result,
        config=config,
        chats=chats,
        headline=story.verdict_of(result).headline,
        evidence=story.evidence(result),
        gap=story.target_gap(result),
        guard=story.able(result.guard) if result.guard else "",
        by_token=list(story.token_rows(result.token_by_token)) if result.token_by_token else [],
        block_rows=_block_rows(result.target.blocks),
        left_out=_left_out(result),
        controls=story.controls(result),
        reference_training=story.reference_training(result),
        spent=story.spent(result),
        recipe=_fenced(text_of(_without_folders(config.model_dump(mode="json")))),
    )
    return harmless(card)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        # Markdown, not HTML: `plain` and `code` escape
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "name": public_name,
        "plain": literal,
        "code": code_span,
        "count": words.large_number,
        "size": words.size,
        "flops": words.flops,
        "duration": words.duration,
        "interval": words.interval,
        "sentence": words.sentence,
    }
    return environment


def _front_matter(result: Result, license_name: str | None) -> str:
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["inheritune", "depth-reduced", result.outcome.replace("_", "-")],
    }
    if license_name:
        front["license"] = license_name
    name = result.reference.model
    # the hub links a model to its parent by id; a local folder has none
    if _is_hub_id(name):
        front["base_model"] = name
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _is_hub_id(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name)) and not Path(name).exists()


def public_name(source: str) -> str:
    """A model or text as others may know it: of a local path the last part alone."""
    known = source.startswith(("hf:", "bundled:")) or _is_hub_id(source)
    return source if known else Path(source).name or source


def _without_folders(tree: Any) -> Any:
    """A recipe's tree with the last part alone of each absolute path, since a card is made to be shown."""
    if isinstance(tree, dict):
        return {key: _without_folders(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_folders(value) for value in tree]
    return Path(tree).name or tree if isinstance(tree, str) and Path(tree).is_absolute() else tree


def _command(words: str) -> str:
    """A command with the last part alone of each absolute path, that of an option's or a key's value among them."""
    parts = (word.rpartition("=") for word in words.split(" "))
    return " ".join(f"{key}{equals}{_without_folders(value)}" for key, equals, value in parts)


def _block_rows(blocks: list[int]) -> list[tuple[str, str]]:
    """(target's places, reference's blocks), a row for each unbroken run."""
    rows = []
    place = 0
    for first, last in runs(blocks):
        end = place + last - first
        rows.append((span(place, end), span(first, last)))
        place = end + 1
    return rows


def _left_out(result: Result) -> str:
    left = [block for block in range(result.reference.depth) if block not in result.target.blocks]
    return ranges(left) or "none"


def _fenced(text: str) -> str:
    """YAML in a code block that nothing inside it can close."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}yaml\n{text.rstrip()}\n{fence}"
