"""A model and a text whose every string is hostile go through every command: nothing that is written or printed holds it raw.

What is copied along as it is (tokenizer, templates, licences) is the model's own and left out.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file
from shell import Ended, command
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast
from tries import Ground, make_base

from inheritune.models.folder import ALONG

# Colours, a bell, C1 controls, a turn of the writing, half a character, a tag, markup of rich, a formula, Markdown, YAML.
EVIL = "\x1b[31m\x07\x9b1m\u202e\u2066\u200f<img src=x onerror=alert(1)>[/bold][red] $\\frac{$ `|\n# Head\n---\nlicense: evil\r"
NAME = EVIL.replace("/", "|").replace("\n", " ").replace("\r", " ")  # of a file
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
TEXTS = (".md", ".html", ".json", ".jsonl", ".yaml", ".csv", ".svg", ".txt")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A model, its text and a recipe, hostile in name and in content."""
    ground = Ground(make_base(tmp_path_factory.mktemp("hostile")))
    words = PreTrainedTokenizerFast.from_pretrained(ground.model)
    words.add_tokens([AddedToken(EVIL), AddedToken(EVIL + "2", special=True)])
    words.chat_template = "{{ messages[0]['content'] }}" + EVIL
    words.save_pretrained(ground.model)
    strings = {"_name_or_path": EVIL, "architectures": [EVIL], "task": EVIL, EVIL: EVIL, "license": EVIL}
    ground.change_json("config.json", **strings, vocab_size=330)
    weights = load_file(ground.model / "model.safetensors")
    wte = weights["transformer.wte.weight"]
    weights["transformer.wte.weight"] = wte.repeat(2, 1)[:330].contiguous()
    save_file(weights | {EVIL: wte[:1].clone()}, ground.model / "model.safetensors", {"format": "pt", EVIL: EVIL})
    front = yaml.safe_dump({"license": EVIL, "base_model": EVIL, EVIL: EVIL}, allow_unicode=True)
    ground.file("model/README.md", f"---\n{front}---\n{EVIL}")
    ground.file("model/LICENSE", EVIL)
    ground.file(
        "model/inheritune.json",
        json.dumps({"source": EVIL, "fingerprint": EVIL, "blocks": [0, 1, 2, 3, 4], "parts": [EVIL], EVIL: EVIL}),
    )
    rows = [json.loads(line)["text"] + EVIL for line in ground.text.read_text().splitlines()]
    ground.file(f"{NAME}.jsonl", "".join(json.dumps({NAME: row}) + "\n" for row in rows))
    ground.model.rename(ground.path / NAME)
    return ground


def lines(ground: Ground) -> Iterator[list[str]]:
    """Every command, for people and for programs."""
    model, text = str(ground.path / NAME), str(ground.path / f"{NAME}.jsonl")
    out, small = (str(ground.path / f"{kind}{NAME}") for kind in ("run", "small"))
    asked = ["--field", NAME]
    changes: dict[str, Any] = {"reference": model, "name": "evil", "training__tokens": 256, "controls": True}
    changes |= {"data": {**ground.tree["data"], "train": text, "field": NAME, "outside": {NAME: text}}}
    recipe = ground.run(**changes)[1]
    compare = {
        key: value
        for key, value in yaml.safe_load(Path(recipe).read_text()).items()
        if key not in ("growth", "choice", "controls")
    }
    compare["data"].pop("outside")
    compare["training"] |= {"tokens": 256}
    sweep = ground.file("compare.yaml", yaml.safe_dump({**compare, "methods": ["published", "random"], "depth": 3}))
    for json_ in ([], ["--json"]):
        yield [
            "prepare",
            text,
            f"{out}-tokens{len(json_)}",
            "--tokenizer",
            model,
            *asked,
            "--valid-share",
            "0.3",
            *json_,
        ]
        yield ["inherit", model, small, "--blocks", "0-1", "--force", *json_]
        yield ["grow", small, f"{small}-grown", "--from", model, "--blocks", "0-3", "--force", *json_]
        yield ["prove", small, "--against", model, *json_]
        yield [
            "diagnose",
            model,
            "--text",
            text,
            *asked,
            "--length",
            "16",
            "--sequences",
            "2",
            "--curve-sequences",
            "0",
            *(json_ or ["--out", f"{out}-d"]),
        ]
        yield ["evaluate", small, "--reference", model, "--data", text, *asked, "--no-generation", *json_]
        yield ["run", recipe, "--out", out, *json_]
        yield ["status", out, *json_]
        yield ["plan", recipe, *json_]
        yield ["plan", model, "--text", text, "--set", f"data.field={json.dumps(NAME)}", *json_]
        yield ["compare", str(sweep), "--out", f"{out}-c", *json_]
    yield ["report", out, "--svg"]
    yield ["report", out, f"{out}-c/cells/published-lr0.0001-seed1", "--compare", f"{out}-both"]
    yield ["generate", model, EVIL, "--reference", small, "--tokens", "4"]
    yield ["inherit", model, small, "--blocks", "0-1"]
    yield ["run", recipe, "--out", out, "--set", "seed=9"]
    yield ["evaluate", model, "--data", text, "--field", "none" + NAME]
    yield ["run", EVIL]


@pytest.fixture(scope="module")
def told(ground: Ground) -> list[tuple[list[str], Ended]]:
    return [(line, command(*line)) for line in lines(ground)]


def test_every_command_is_carried_out_or_refuses_in_a_sentence(told: list[tuple[list[str], Ended]]) -> None:
    for line, ended in told[:-4]:
        assert ended.code == 0, (line[0], ended)
        assert "--json" not in line or json.loads(ended.out), line[0]  # all of standard output is one object
    for _, ended in told[-4:]:
        assert ended.code == 2 and ended.err.count("\n") == 1


def test_no_terminal_is_commanded(told: list[tuple[list[str], Ended]]) -> None:
    for line, ended in told:
        printed = ended.out + ended.err
        assert not RAW.search(printed.replace("\r\n", "")), (line[0], "--json" in line, RAW.search(printed))
        if "--json" not in line and line[0] != "generate":  # what a model writes may have lines of its own
            assert not re.search("^# Head", printed, re.MULTILINE)


def test_no_file_that_is_written_holds_it_raw(ground: Ground, told: list[tuple[list[str], Ended]]) -> None:
    given = ground.path / NAME
    seen = 0
    for path in ground.path.rglob("*"):
        if (
            path.is_relative_to(given)
            or path.parent == ground.path
            or ALONG.fullmatch(path.name)
            or path.suffix not in TEXTS
        ):
            continue
        text, seen = path.read_text(), seen + 1
        assert not RAW.search(text), (path.name, RAW.search(text), text[:300])
        if path.suffix in (".md", ".html"):
            shown = re.sub(r"^(```+)yaml$.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
            assert not re.search(r"(?<!\\)<img", shown), path.name
        if path.suffix == ".md":
            assert not re.search("^(# Head|license: evil)", text, re.MULTILINE), path.name
    assert seen > 20
