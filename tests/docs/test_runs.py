"""What the README and the site show, done as it stands there on a tiny model: commands in their order, recipes, Python.

A block is not run where `<!-- not run: why -->` stands above it. What is too large for a test has a stand-in, named below; pages of
`results/` are records of what was run once, of which `test_shown.py` asks only that commands, options and keys are there.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import ROOT, Block, blocks, site
from shell import command
from tiny import untrained_model
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

import inheritune
from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.config.strict_yaml import read_yaml

README = ROOT / "README.md"
# The tiny model has 128 positions and a command a second or two; nothing else is added to what a reader would type.
SMALLER = {
    "run": "data.sequence_length=32 training.tokens=512 training.batch_tokens=256 diagnosis.sequences=2 diagnosis.minutes=0.02"
    " choice.sequences=2 choice.method=influence choice.heal_tokens=256 limits.max_rounds=1",
}
QUICK = {
    "evaluate": ["--documents", "4", "--no-generation"],
    "diagnose": ["--sequences", "4", "--minutes", "0.02"],
}
STAND_INS = {"bundled:laptop": "path/to/model"}
ELSEWHERE = {
    "compare": "minutes on the bundled model; tests/comparison runs it on tiny ones",
    "export": "asks for llama.cpp's tools; tests/models/test_export.py has what stands in for them",
}


def recipe() -> str:
    """The README's recipe, which the other pages' commands name too."""
    (found,) = [block.text for block in blocks(README) if block.text.startswith("# recipe.yaml")]
    return found


def model_of_24() -> Any:
    return untrained_model("gpt2", n_layer=24, n_positions=128)


def do(words: list[str]) -> None:
    """A command as it is shown, made smaller; what it writes is not there yet."""
    name, *arguments = [STAND_INS.get(word, word) for word in words]
    if name in ELSEWHERE:
        return
    if name == "run" and (not arguments or arguments[0].startswith("--")):
        arguments = ["recipe.yaml", "--out", "runs/laptop", *arguments]
    if name in ("inherit", "grow", "prepare"):
        shutil.rmtree(arguments[1], ignore_errors=True)
    settings = [word for setting in SMALLER.get(name, "").split() for word in ("--set", setting)]
    measures = [] if "--run" in arguments else QUICK.get(name, [])
    if measures and not {"--text", "--data"} & set(arguments):  # the bundled text takes seconds to read
        measures = [*measures, "--text", "corpus.jsonl"]
    ended = command(name, *arguments, *settings, *measures)
    assert ended.code == 0, (words, ended)


@pytest.fixture(scope="module")
def walked(corpus: Path, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages name: a model of 24 blocks, two corpora, the recipe, and after the README's commands a run and a cut."""
    folder = tmp_path_factory.mktemp("walked")
    model_of_24().save_pretrained(folder / "path" / "to" / "model")
    tokenizer.save_pretrained(folder / "path" / "to" / "model")
    for suffix in ("txt", "jsonl"):
        shutil.copy(corpus / f"words.{suffix}", folder / f"corpus.{suffix}")
    (folder / "recipe.yaml").write_text(recipe())
    before = Path.cwd()
    os.chdir(folder)
    try:
        for block in blocks(README):
            for words in block.commands() if block.language == "bash" and not block.not_run else []:
                do(words)
        for other in ("other", "laptop"):
            shutil.copytree("runs/mine", f"runs/{other}")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def names(walked: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:  # fmt: skip
    """What the pages' Python takes for granted, in a folder where the README's commands were given."""
    monkeypatch.chdir(walked)
    rows = torch.randint(0, 320, (8, 32), generator=torch.Generator().manual_seed(1))
    arguments = TrainingArguments(
        "out", max_steps=1, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True
    )
    data = [{"input_ids": row, "labels": row} for row in rows]
    return {
        "inheritune": inheritune,
        "model": AutoModelForCausalLM.from_pretrained("path/to/model"),
        "tokenizer": tokenizer,
        "text": (walked / "corpus.txt").read_text(),
        "tokens": rows,
        "texts": texts[:2],
        "trainer": Trainer(model_of_24(), arguments, default_data_collator, data, processing_class=tokenizer),
        "steps": range(1, 61),
        "losses": [4 + 1 / step for step in range(1, 61)],
        "reference_steps": range(1, 101),
        "reference_losses": [3.9 + 1 / step for step in range(1, 101)],
        "schedule": lambda step: 1 - step / 100,
    }


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("bash", "python", "yaml") and not block.not_run]


def within(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A recipe in which the sections of a fragment stand over its own."""
    return whole | {
        key: {**whole.get(key, {}), **value} if isinstance(value, dict) else value for key, value in part.items()
    }


@pytest.mark.parametrize("page", [page for page in site() if runnable(page)], ids=lambda page: page.name)
def test_a_page_s_blocks_do_what_they_show(page: Path, names: dict[str, Any]) -> None:
    for block in runnable(page):
        if block.language == "python":
            names["model"] = AutoModelForCausalLM.from_pretrained("path/to/model")  # unless the block loads its own
            exec(
                compile(block.text.replace('run("recipe.yaml"', 'run("runs/mine/config.yaml"'), str(block), "exec"),
                names,
            )
        elif block.language == "yaml":
            check(RunRecipe, within(read_yaml(recipe(), "README"), read_yaml(block.text, str(block))))
            if (named := re.match(r"# (trial\.yaml)\n", block.text)) is not None:
                Path(named[1]).write_text(block.text)
        elif page != README:  # whose commands were given to walk here
            assert len(block.commands()) == len(block.lines()), f"{block}: what is not inheritune's own is not run here"
            for words in block.commands():
                do(words)


def test_what_the_readme_s_python_gives(names: dict[str, Any]) -> None:
    shown = [block.text for block in runnable(README) if block.language == "python"]
    exec(shown[0], names)
    assert names["model"].config.num_hidden_layers < 24
    names["model"] = AutoModelForCausalLM.from_pretrained("path/to/model")
    exec(shown[1].replace('run("recipe.yaml"', 'run("runs/mine/config.yaml"'), names)
    assert names["result"].outcome and len(names["profile"].layers) == 24
    assert names["target"].config.num_hidden_layers == 20
