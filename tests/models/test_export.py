"""What goes along into a model folder, in which dtype, and what the folder takes."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
from families import reference
from safetensors.torch import load_file
from tiny import untrained_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from inheritune.errors import ModelError
from inheritune.models.export import cache_bytes_per_token, rounded, weight_bytes, write_model
from inheritune.models.load import kept_dtype, load_model, tokenizer_at
from inheritune.surgery.in_memory import inherit

GENERATION = {"eos_token_id": [0, 5], "pad_token_id": 5, "do_sample": True, "temperature": 0.6}


@pytest.fixture
def source(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model folder in bfloat16 with two chat templates, a licence and a generation config of its own."""
    place = tmp_path / "source"
    untrained_model("llama").to(torch.bfloat16).save_pretrained(place)
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|endoftext|>")
    words.chat_template = {"default": "{{ messages }}", "tool_use": "tools {{ messages }}"}
    words.save_pretrained(place)
    (place / "LICENSE").write_text("as it likes")
    (place / "generation_config.json").write_text(json.dumps(GENERATION))
    return place


def test_all_that_a_source_brings_goes_along(source: Path, tmp_path: Path) -> None:
    target = inherit(AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32), [0, 2])
    write_model(target, tmp_path / "out", source=source, dtype=kept_dtype(source))
    assert json.loads((tmp_path / "out/generation_config.json").read_text()) == GENERATION
    one, other = (AutoTokenizer.from_pretrained(place).chat_template for place in (source, tmp_path / "out"))
    assert one == other and set(one) == {"default", "tool_use"}
    assert (tmp_path / "out/LICENSE").read_text() == "as it likes"
    kept = load_file(tmp_path / "out/model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.dtype == torch.bfloat16 and again.config.num_hidden_layers == 2


def test_weights_take_what_their_numbers_take(source: Path) -> None:
    numbers = sum(parameter.numel() for parameter in untrained_model("llama").parameters())
    held = weight_bytes(source)
    assert held == 2 * numbers


def test_rounded_is_what_loading_gives_of_what_was_written(tmp_path: Path) -> None:
    """Gemma 3 keeps a scale and rotary frequencies that no file holds: they are made anew, in full."""
    model = copy.deepcopy(reference("gemma3_text"))
    found, ids_BT = rounded(model, torch.bfloat16), torch.arange(3, 40)[None]
    assert not torch.equal(found(ids_BT).logits, model(ids_BT).logits)
    write_model(model, tmp_path / "written", source=None, dtype=torch.bfloat16)
    assert torch.equal(found(ids_BT).logits, load_model(tmp_path / "written", torch.float32)(ids_BT).logits)


def test_a_tokens_keys_and_values_are_counted() -> None:
    model = untrained_model("llama")  # 4 blocks, 1 head of 12 for keys and for values
    assert cache_bytes_per_token(model, torch.float32) == 4 * 2 * 1 * 12 * 4
    assert cache_bytes_per_token(model, torch.bfloat16) == 4 * 2 * 1 * 12 * 2


def test_a_template_named_out_of_its_folder_is_refused(source: Path) -> None:
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "default", "template": "x"}, {"name": "../../evil", "template": "owned"}]
    (source / "chat_template.jinja").unlink()
    shutil.rmtree(source / "additional_chat_templates")
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="evil"):
        tokenizer_at(source)


def test_a_cut_in_memory_keeps_how_the_source_generates() -> None:
    model = untrained_model("llama")
    model.generation_config.temperature = 0.25
    assert inherit(model, [0, 1]).generation_config.temperature == 0.25
