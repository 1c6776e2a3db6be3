from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from inheritune.models import BUNDLED, load_reference


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_reference_has_the_weights_that_transformers_reads(references: Callable[[str], Path], family: str) -> None:
    place = references(family)
    found, wanted = load_reference(str(place)), AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    assert found.name == str(place) and found.trained_tokens is None
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], tensor), name


def test_half_precision_weights_become_full(gpt2: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(gpt2, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    load_reference(str(gpt2)).tokenizer.save_pretrained(tmp_path / "half")
    assert {p.dtype for p in load_reference(str(tmp_path / "half")).model.parameters()} == {torch.float32}


def test_bundled_reference_is_what_it_promises() -> None:
    """At least 16 blocks, at least five training tokens a parameter, at most 8 MB."""
    reference = load_reference(BUNDLED)
    parameters = sum(parameter.numel() for parameter in reference.model.parameters())
    assert reference.model.config.num_hidden_layers >= 16
    assert reference.trained_tokens and reference.trained_tokens >= 5 * parameters
    assert parameters * 4 <= 8_000_000
    ids = reference.tokenizer("Return the first element of the list.", return_tensors="pt").input_ids
    loss = reference.model(ids, labels=ids).loss.item()
    assert loss < 5.5, "the English of a docstring is far below the 8.3 nats of chance"
