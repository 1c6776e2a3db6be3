"""Models that read images too: what comes out reads text as the whole did, is what transformers loads, and says what it is."""

import json

import pytest
import torch
from families import GAPS, GROUPED, LARGER, TOKENS, from_files, larger
from safetensors.torch import load_file, save_file
from shrink import shrink
from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM

from inheritune.errors import ModelError
from inheritune.models.hollow import open_checkpoint
from inheritune.surgery.commands import inherit_folder
from inheritune.surgery.requests import CutRequest

TOKENS_BT = torch.randint(3, 96, (2, 24), generator=torch.Generator().manual_seed(2))
WHOLE_COMES_OUT = {"gemma3"}


@pytest.mark.parametrize("kind", LARGER)
def test_all_blocks_read_text_as_the_whole_model_did(kind):
    made = from_files(larger(kind), list(range(6)))
    with torch.no_grad():
        assert torch.equal(made(TOKENS_BT, use_cache=False).logits, larger(kind)(TOKENS_BT, use_cache=False).logits)


@pytest.mark.parametrize("kind", LARGER)
def test_a_cut_is_told_from_the_whole(kind, tmp_path):
    larger(kind).save_pretrained(tmp_path / "whole")
    record = inherit_folder(tmp_path / "whole", tmp_path / "cut", CutRequest(GAPS))
    assert record.proved and record.tower_of == (None if kind in WHOLE_COMES_OUT else kind)
    assert json.loads((tmp_path / "cut/inheritune.json").read_text())["tower_of"] == record.tower_of
    assert (f"`{kind}` model; this is its text tower" in (tmp_path / "cut/README.md").read_text()) == bool(
        record.tower_of
    )
    assert inherit_folder(tmp_path / "cut", tmp_path / "again", CutRequest([0])).tower_of == (
        kind if kind == "mllama" else None
    )
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "again").config.get_text_config().num_hidden_layers == 1


def test_a_text_tower_cut_in_memory_is_written_as_between_files(tmp_path):
    larger("mllama").save_pretrained(tmp_path / "whole")
    inherit_folder(tmp_path / "whole", tmp_path / "cut", CutRequest(GAPS, dtype=torch.bfloat16))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "cut").config.num_hidden_layers == len(GAPS)


def test_a_head_that_the_whole_ties_is_tied_in_the_tower(tmp_path):
    text = {"model_type": "llama", **TOKENS, **GROUPED, "tie_word_embeddings": False}
    model = AutoModelForMultimodalLM.from_config(shrink("llava", text_config=text, tie_word_embeddings=True))
    model.save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path).config.tie_word_embeddings
    assert "lm_head.weight" not in {held.own for held in open_checkpoint(tmp_path).tensors}


def test_what_is_for_text_alone_is_not_guessed(tmp_path):
    shrink("aya_vision").save_pretrained(tmp_path)
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"'aya_vision' reads more than text.*give a language model"):
        open_checkpoint(tmp_path)


def test_a_tower_that_is_kept_otherwise_is_refused(tmp_path):
    """Experts turned round have the shape of experts where the width is twice theirs: the form itself is compared."""
    shrink("qwen3_vl_moe").save_pretrained(tmp_path)
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="'qwen3_vl_moe' reads more than text"):
        open_checkpoint(tmp_path)


def test_files_without_the_tower_are_refused_by_what_is_missing(tmp_path):
    larger("llava").save_pretrained(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    del held["language_model.model.layers.3.mlp.up_proj.weight"]
    save_file(held, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"hold no model\.layers\.3\.mlp\.up_proj\.weight"):
        open_checkpoint(tmp_path)
