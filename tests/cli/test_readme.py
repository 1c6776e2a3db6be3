"""What the README shows, done as it stands there on a tiny model: its commands in their order, its recipe, its Python."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from shell import command
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
# The tiny model has 128 positions and the test a second or two; nothing else is added to what a reader would type.
SMALLER = {
    "run": "data.sequence_length=32 training.tokens=512 training.batch_tokens=256 diagnosis.sequences=2 choice.sequences=2"
    " choice.heal_tokens=256 limits.max_rounds=1",
}
QUICK = {"evaluate": ["--data", "corpus.jsonl", "--documents", "4", "--no-generation"]}


def block(kind: str, holding: str) -> str:
    """The README's one block of code that holds this."""
    (found,) = [text for text in re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) if holding in text]
    return found


@pytest.fixture
def here(corpus: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the README names in it: a model of 24 blocks, two corpora, the recipe."""
    untrained_model("gpt2", n_layer=24, n_positions=128).save_pretrained(tmp_path / "path" / "to" / "model")
    tokenizer.save_pretrained(tmp_path / "path" / "to" / "model")
    shutil.copy(corpus / "words.txt", tmp_path / "corpus.txt")
    shutil.copy(corpus / "words.jsonl", tmp_path / "corpus.jsonl")
    (tmp_path / "recipe.yaml").write_text(block("yaml", "# recipe.yaml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_and_the_python_do_what_they_say(here: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    lines = [shlex.split(line, comments=True) for line in block("bash", "inheritune inherit").splitlines()]
    for _, name, *arguments in lines:
        if name in ("compare", "export"):  # minutes on the bundled model; llama.cpp: both are tested elsewhere
            continue
        settings = [word for setting in SMALLER.get(name, "").split() for word in ("--set", setting)]
        ended = command(name, *arguments, *settings, *QUICK.get(name, []))
        assert ended.code == 0, (name, ended)
    assert [name for _, name, *_ in lines] == ["diagnose", "plan", "run", "run", "status", "inherit", "prove", "export", "evaluate", "compare"]  # fmt: skip
    text = (here / "corpus.txt").read_text()
    names = {"tokenizer": tokenizer, "text": text}
    exec(block("python", "from_pretrained"), names)
    assert names["model"].config.num_hidden_layers < 24
    names["model"] = untrained_model("gpt2", n_layer=24, n_positions=128)
    exec(block("python", "inheritune.diagnose").replace('"recipe.yaml", out', '"runs/mine/config.yaml", out'), names)
    assert names["result"].outcome and len(names["profile"].layers) == 24
    assert names["target"].config.num_hidden_layers == 20
