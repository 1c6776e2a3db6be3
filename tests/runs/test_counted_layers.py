"""A run whose target readers that count layers take for another model says so before it begins, and in all that it leaves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shell import command
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

WINDOW = {"sliding_window": 16, "query_pre_attn_scalar": 12}
COUNTS = "layer_types says sliding_attention of layer 1, which is full_attention by this family's count"


def test_it_is_said_before_the_work_and_in_result_card_and_record(
    tree: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path, write_recipe: Callable[..., str]
) -> None:
    untrained_model("gemma2", **WINDOW).save_pretrained(tmp_path / "gemma2")
    tokenizer.save_pretrained(tmp_path / "gemma2")
    tree |= {"reference": str(tmp_path / "gemma2"), "limits": {"max_rounds": 1}}
    tree["choice"]["blocks"] = "0,2"
    done = command("run", write_recipe(tree), "--out", str(tmp_path / "out"), "--json")
    assert done.code == 0, done
    assert f"Caution: {COUNTS}" in " ".join(done.err.split()).split("Diagnosis")[0]
    assert f"Caution: {COUNTS}" in json.loads(done.out)["message"]
    assert "llama.cpp counts layers" in (tmp_path / "out/model/README.md").read_text()
    assert json.loads((tmp_path / "out/model/inheritune.json").read_text())["miscounted"].startswith(COUNTS)
