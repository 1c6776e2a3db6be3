"""Whatever a page shows is there: commands and their options, keys of recipes, scripts, languages of blocks, and links."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import ROOT, Block, blocks, records, site

from inheritune.cli import app
from inheritune.config.recipes import CompareRecipe, RunRecipe, TrainRecipe
from inheritune.config.sections import Section

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
RECIPES = {"run": RunRecipe, "plan": RunRecipe, "train": TrainRecipe, "compare": CompareRecipe}
LANGUAGES = {"bash", "python", "yaml", "json", "text", "diff"}
PAGES = [*site(), *records(), ROOT / "CONTRIBUTING.md"]
SHOWN = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_each_block_names_its_language(block: Block) -> None:
    assert block.language in LANGUAGES, f"write ```bash, python, yaml, json, text or diff at {block}"


def options(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


@pytest.mark.parametrize("block", [block for block in SHOWN if block.language == "bash"], ids=str)
def test_each_command_has_the_options_that_are_shown(block: Block) -> None:
    for words in block.commands():
        name, *rest = words
        if name.startswith("-"):
            assert name in ("--help", "--version"), (block, words)
            continue
        assert name in COMMANDS, f"{block}: there is no command {name!r}"
        known = {option for param in COMMANDS[name].params for option in (*param.opts, *param.secondary_opts)}
        assert set(options(rest)) <= known | {"--help"}, (str(block), words)
        for at, word in enumerate(rest):
            if word == "--set" and name in RECIPES:
                assert has_key(RECIPES[name], rest[at + 1].partition("=")[0]), (str(block), rest[at + 1])


@pytest.mark.parametrize("block", [block for block in SHOWN if block.language == "bash"], ids=str)
def test_each_script_that_is_shown_is_there(block: Block) -> None:
    for script in re.findall(r"(?:python |^)((?:benchmarks|experiments|tests)/\S+\.(?:py|sh))", block.text, re.MULTILINE):  # fmt: skip
        assert (ROOT / script).is_file(), (str(block), script)


def has_key(model: type[Section], dotted: str) -> bool:
    """Whether a recipe has a key; below one that holds other than a section, anything."""
    first, _, rest = dotted.partition(".")
    if first not in model.model_fields:
        return False
    inside = model.model_fields[first].annotation
    return not rest or not (isinstance(inside, type) and issubclass(inside, Section)) or has_key(inside, rest)


def test_a_key_is_told_from_none() -> None:
    assert has_key(RunRecipe, "training.peak_lr") and has_key(RunRecipe, "growth.target.memory")
    assert not has_key(RunRecipe, "training.peak") and not has_key(RunRecipe, "peak_lr")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_each_page_has_its_place_on_the_site() -> None:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f": {page.name}\n" not in nav]
    assert not missing, f"name them in the nav of mkdocs.yml: {missing}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path) if path else page
        assert place.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(place), f"{page.name}: {target}"
