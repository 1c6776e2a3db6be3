"""Cuts without torch: the same folder as the way by the model gives, and whatever is unexpected goes that way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from inheritune.blocks.light import inherit_light
from inheritune.blocks.surgery import Cut, inherit_folder
from inheritune.errors import InputError

SIZES = {
    **{"num_hidden_layers": 6, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 96, "max_position_embeddings": 64},
}
CASES = {
    "llama": {},
    "llama-biased": {"attention_bias": True, "mlp_bias": True},
    "llama-tied": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 16},
    "qwen2": {},
    "qwen3": {"attention_bias": True},
}
BLOCKS = [0, 2, 2, 5]


def save(folder: Path, case: str, **changes: object) -> Path:
    torch.manual_seed(0)
    config = AutoConfig.for_model(case.split("-")[0], **{**SIZES, **CASES[case], **changes})
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_it_writes_what_the_way_by_the_model_writes(case, tmp_path):
    source = save(tmp_path / "source", case)
    light = inherit_light(source, tmp_path / "light", BLOCKS, 0, False)
    whole = inherit_folder(source, tmp_path / "whole", Cut(BLOCKS, proved=False))
    assert light == whole
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "light").iterdir()} == names
    for name in names - {"config.json"}:
        assert (tmp_path / "light" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    configs = [AutoConfig.from_pretrained(tmp_path / name).to_dict() for name in ("light", "whole")]
    assert configs[0].pop("_name_or_path") != configs[1].pop("_name_or_path")
    assert configs[0] == configs[1]


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "qwen3"},
        {"architectures": ["LlamaModel"]},
        {"num_key_value_heads": 4},
        {"intermediate_size": 48},
        {"num_hidden_layers": 5},
        {"num_hidden_layers": 6.0},
        {"hidden_size": "32"},
        {"tie_word_embeddings": True},
        {"layer_types": ["full_attention"] * 5},
        {"no_rope_layers": [1] * 6},
        {"sliding_window_pattern": 2},
        {"some_list": [1, 2]},
        {"quantization_config": {"bits": 4}},
        {"use_sliding_window": True},
    ],
    ids=str,
)
def test_whatever_is_not_as_expected_goes_the_other_way(values, tmp_path):
    source = save(tmp_path / "source", "llama")
    change(source, **values)
    assert inherit_light(source, tmp_path / "cut", BLOCKS, 0, False) is None
    assert list(tmp_path.iterdir()) == [source]


def test_a_config_need_not_name_its_class(tmp_path):
    source = save(tmp_path / "source", "llama")
    change(source, architectures=None)
    assert inherit_light(source, tmp_path / "cut", BLOCKS, 0, False) is not None


def test_a_block_that_does_not_exist_is_named_and_small_models_go_the_other_way(tmp_path):
    source = save(tmp_path / "source", "llama")
    with pytest.raises(InputError, match="0 to 5"):
        inherit_light(source, tmp_path / "cut", [6], 0, False)
    assert inherit_light(source, tmp_path / "cut", BLOCKS, 1 << 30, False) is None


def test_the_command_loads_neither_torch_nor_transformers(tmp_path):
    source = save(tmp_path / "source", "llama")
    arguments = ["inherit", str(source), str(tmp_path / "cut"), "--blocks", "0,5", "--no-prove"]
    script = (
        f"import sys; sys.argv = ['inheritune', *{arguments!r}]\n"
        "from inheritune.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
    assert len(load_file(next((tmp_path / "cut").glob("*00001*")))) > 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "cut").config.num_hidden_layers == 2
