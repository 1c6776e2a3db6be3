"""Names and forms on disk that are not those in memory: a cut between files is bit by bit the cut in memory."""

import re

import pytest
import torch
from families import GAPS, TOKENS, from_files, reference
from safetensors.torch import load_file, save_file
from shrink import shrink
from transformers import AutoModelForCausalLM

from inheritune.models.load import load_model
from inheritune.models.shards import read_header
from inheritune.surgery.commands import inherit_folder
from inheritune.surgery.requests import CutRequest

# Experts one by one on disk, queries and keys turned, other names: each by way of a conversion of transformers.
CONVERTED = ("mixtral", "qwen3_moe", "deepseek_v3", "nemotron_h", "granitemoehybrid", "gpt_neox")


@pytest.mark.parametrize("family", CONVERTED)
def test_a_cut_between_files_is_the_cut_in_memory(family):
    from_files(reference(family), GAPS)


@pytest.mark.parametrize(
    ("kind", "field"), [("deepseek_v3", "num_mtp_layers"), ("glm4_moe", "num_nextn_predict_layers")]
)
def test_layers_that_predict_further_tokens_are_left_out_and_not_told_of(kind, field, tmp_path):
    """As GLM-4.5 and DeepSeek-V3 come: one more block, with what joins it to the model, after the last."""
    further = {"num_nextn_predict_layers": 1, "first_k_dense_replace": 2}
    glm = AutoModelForCausalLM.from_config(shrink("glm4_moe", **TOKENS, **further))
    (reference(kind) if kind == "deepseek_v3" else glm).save_pretrained(tmp_path / "source")
    path = tmp_path / "source/model.safetensors"
    held = load_file(path)
    extra = {name.replace("layers.5.", "layers.6."): own.clone() for name, own in held.items() if "layers.5." in name}
    save_file({**held, **extra, "model.layers.6.eh_proj.weight": torch.ones(32, 64)}, path, {"format": "pt"})
    inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest([0, 3, 5]))
    assert not {
        name for name in load_file(tmp_path / "cut/model.safetensors") if "eh_proj" in name or "layers.3" in name
    }
    assert getattr(AutoModelForCausalLM.from_pretrained(tmp_path / "cut").config, field) == 0
    assert load_model(tmp_path / "source").config.num_hidden_layers == 6


def test_a_tensor_without_numbers_is_one(tmp_path):
    save_file({"a": torch.ones(2), "none": torch.ones(0, 3), "z": torch.ones(1)}, tmp_path / "w.safetensors")
    assert {piece.name: piece.size for piece in read_header(tmp_path / "w.safetensors")} == {"a": 8, "none": 0, "z": 4}


def test_a_cut_keeps_the_names_that_its_source_has_on_disk(tmp_path):
    reference("nemotron_h").save_pretrained(tmp_path / "source")
    inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest(GAPS))
    before, after = (
        {re.sub(r"layers\.\d+", "layers.N", name) for name in load_file(tmp_path / place / "model.safetensors")}
        for place in ("source", "cut")
    )
    assert after <= before and "backbone.embeddings.weight" in after
