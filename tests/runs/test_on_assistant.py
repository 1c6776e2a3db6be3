"""A run on conversations with losses on the assistant's tokens alone: what its files say, counted from what transformers says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import inheritune
from inheritune.progress import Progress
from inheritune.runs.again import evaluate_run

TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


def test_what_a_run_compares_on_is_what_the_assistant_said(
    tree: dict[str, Any],
    gpt2: Path,
    texts: list[str],
    write_recipe: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    words = AutoTokenizer.from_pretrained(shutil.copytree(gpt2, tmp_path / "reference"))
    words.chat_template = TEMPLATE
    words.save_pretrained(tmp_path / "reference")
    chats = [[{"role": "user", "content": t[:20]}, {"role": "assistant", "content": t[20:60]}] for t in texts]
    sides = {"train": chats[:120], "valid": chats[120:]}
    for side, own in sides.items():
        tmp_path.joinpath(f"{side}.jsonl").write_text("".join(json.dumps({"messages": each}) + "\n" for each in own))
    tree["reference"] = str(tmp_path / "reference")
    tree["data"] |= {side: str(tmp_path / f"{side}.jsonl") for side in sides} | {"loss_on": "assistant"}
    tree["growth"]["max_depth"] = 2
    result = inheritune.run(write_recipe(tree), str(tmp_path / "out"), progress=Progress())
    assert "outside texts ask for all tokens" in " ".join(capsys.readouterr().out.split())

    def asked(messages: list[dict[str, str]]) -> int:
        found = words.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
        return sum(found["assistant_masks"])

    assert result.validation.tokens == sum(map(asked, chats[120:132])) and result.validation.documents == 12
    again = evaluate_run(tmp_path / "out")
    assert [one.text.val_loss for one in again.models] == [result.target.val_loss, result.reference.val_loss]
