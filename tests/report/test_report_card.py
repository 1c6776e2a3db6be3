# ruff: noqa: RUF001  (the page's own minus, dash and times signs)
"""The model card: what it says, plain YAML in front, and names from outside stay text."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_run import CONFIG, control_data, result_data
from transformers import AutoTokenizer

from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.records.result import Result
from inheritune.report.card import model_card
from inheritune.words import code_span, literal


def card_of(**changes: Any) -> str:
    recipe = check(RunRecipe, yaml.safe_load(CONFIG))
    return model_card(Result.model_validate(result_data() | changes), recipe)


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    return yaml.safe_load(front)


def said_in(card: str) -> str:
    return " ".join(card.split())


@pytest.mark.parametrize(
    "said",
    [
        "**20 of 24 blocks match the reference.**",
        "96.7% interval of +0.0003 to +0.0079",
        "| 0–4 | 0–4 | | 5–8 | 6–9 | | 9–13 | 11–15 | | 14–19 | 18–23 |",
        "Left out: 5, 10, 16–17.",
        "| verdict (margin 0.01) | | matched |",
        "The controls were not run.",
        "| **total** | 5.87 M |",
        "AutoModelForCausalLM.from_pretrained(folder)",
        "An equal loss is not an equal ability",
        "This is one run with one seed (0)",
        "repaired in closed form",
        "peak_lr: 0.001",
    ],
)
def test_the_card_says(said: str) -> None:
    assert said in said_in(card_of())


@pytest.mark.parametrize("chats", [False, True])
def test_the_code_that_loads_the_model_runs(
    gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, chats: bool
) -> None:
    """In the model's folder, with plain transformers; a model with a chat template is asked as its template has it."""
    shutil.copytree(gpt2, folder := tmp_path / "model")
    own = AutoTokenizer.from_pretrained(folder)
    own.chat_template = "{{ 'ASKED ' + messages[0]['content'] }}" if chats else None
    own.save_pretrained(folder)
    result = Result.model_validate(result_data())
    card = model_card(result, check(RunRecipe, yaml.safe_load(CONFIG)), chats=chats)
    monkeypatch.chdir(folder)
    exec(card.partition("```python\n")[2].partition("```")[0], {})
    asked = "What is rain?" if chats else "The first of"
    start = own.decode(own("ASKED " * chats + asked).input_ids)
    assert len(start.split()) > 1 and capsys.readouterr().out.startswith(start)


def test_a_begin_of_text_by_hand_is_said() -> None:
    recipe, result = yaml.safe_load(CONFIG), Result.model_validate(result_data())
    said = {}
    for begin in ("auto", "none", "<bos>"):
        recipe["data"]["begin"] = begin
        said[begin] = said_in(model_card(result, check(RunRecipe, recipe)))
    assert (
        "Use the model in the same way" not in said["auto"]
        and "The run read text with nothing in front" in said["none"]
    )
    assert "The run read text with" in said["<bos>"] and "bos" in said["<bos>"].partition("read text with")[2][:20]


def test_controls_and_a_failed_match_are_told_first_hand() -> None:
    card = said_in(card_of(outcome="not_matched", controls=control_data()))
    assert "The target's gap to the reference trained further on the same tokens is +0.0241" in card
    assert "**This model was not shown to match its reference.**" in card
    assert "not shown" not in card_of()


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("bundled:laptop", None),
        ("/models/mine", None),
    ],
)
def test_only_a_hub_id_becomes_a_parent_link(name: str, parent: str | None) -> None:
    front = front_matter(card_of(reference=result_data()["reference"] | {"model": name}))
    assert front.get("base_model") == parent
    assert front["library_name"] == "transformers"


def test_a_local_folder_that_looks_like_a_hub_id_is_no_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    front = front_matter(card_of(reference=result_data()["reference"] | {"model": "models/mine"}))
    assert "base_model" not in front


def test_no_folder_of_this_machine_is_shown() -> None:
    """Of local paths the last part is shown, wherever they stand; names that others know stay whole."""
    recipe = yaml.safe_load(CONFIG) | {"reference": "/home/me/models/mine.gguf"}
    recipe["data"] |= {"train": ["/home/me/texts/*.txt", "hf:you/texts"], "valid": "texts/held/"}
    result = result_data() | {"command": "inheritune run /home/me/mine.yaml --set data.train=/home/me/texts --out here"}
    result["reference"]["model"] = recipe["reference"]
    card = model_card(Result.model_validate(result), check(RunRecipe, recipe))
    assert "me/" not in card
    assert "# 20 of 24 blocks of `mine.gguf`" in card and "The reference is `mine.gguf`" in card
    assert "trained on `*.txt, hf:you/texts` and measured on `held`" in said_in(card)
    assert "`inheritune run mine.yaml --set data.train=texts --out here`" in card
    shown = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0])
    assert shown["reference"] == "mine.gguf" and shown["data"]["train"][0]["source"] == "*.txt"


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M", "bundled:laptop", "gpt2"])
def test_a_name_that_others_know_stays_whole(name: str) -> None:
    assert f"blocks of `{name}`" in card_of(reference=result_data()["reference"] | {"model": name})


def test_names_from_outside_stay_text() -> None:
    evil = "a`b``c\n---\nlicense: mit\n# <script>"
    card = card_of(reference=result_data()["reference"] | {"model": evil}, message=evil)
    assert "license" not in front_matter(card)
    assert "\n# <script>" not in card and "\nlicense" not in card
    assert card.count("\n# ") == 1


def test_code_spans_outgrow_the_backticks_inside() -> None:
    assert code_span("x") == "`x`"
    assert code_span("a``b") == "``` a``b ```"


def test_plain_text_means_only_itself() -> None:
    assert literal("*a* [b](c) <i>\n1|2") == r"\*a\* \[b\](c) \<i\> 1\|2"
