"""A whole run in bf16 on the CPU, whose plan, diagnosis and training share a process, held against plain torch in fp32."""

from pathlib import Path

import numpy as np
import pytest
import recompute
import torch
import yaml
from recompute import rows_of
from tiny import recipe_tree, untrained_model
from transformers import PreTrainedTokenizerFast

import inheritune


def test_its_first_step_has_the_loss_of_the_cut_on_the_first_batch(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a reference whose attention matters: were the tokens after each seen, the loss would be 0.1 lower."""
    reference = tmp_path / "reference"
    untrained_model("gpt2", initializer_range=0.3).save_pretrained(reference)
    tokenizer.save_pretrained(reference)
    monkeypatch.setenv("INHERITUNE_CACHE", str(tmp_path / "cache"))
    recipe = recipe_tree(reference, corpus / "words.jsonl")
    recipe["growth"] = {"start": 4, "max_depth": 4}
    recipe["training"] |= {"precision": "bf16", "tokens": 512, "warmup_tokens": 256}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    inheritune.run(str(tmp_path / "recipe.yaml"), out=str(tmp_path / "out"))
    ids = recompute.documents_of(tmp_path / "cache", "train")
    batch_BT = torch.from_numpy(next(recompute.batches(np.concatenate(ids), recipe)))
    start = recompute.model_of(tmp_path / "out/rounds/01-4-blocks/checkpoints/step-0000000", reference, 4).eval()
    with torch.no_grad():
        wanted = start(batch_BT[:, :-1]).logits.flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(wanted, batch_BT[:, 1:].flatten()).item()
    assert rows_of(tmp_path / "out", "step")[0]["loss"] == pytest.approx(loss, abs=0.005)
