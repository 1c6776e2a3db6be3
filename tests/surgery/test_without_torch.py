"""Cuts without torch: the same folder as the way by the model gives, and whatever is unexpected goes that way."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import FAMILIES, TOKENS
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from inheritune.decoder import families
from inheritune.errors import InputError
from inheritune.models.folder import pieces_of
from inheritune.surgery import without_torch
from inheritune.surgery.by_model import cut_by_model
from inheritune.surgery.requests import CutRequest
from inheritune.surgery.without_torch import inherit_light

CASES = {family: (family, {}) for family in families.FAMILIES} | {
    "qwen3_moe": ("qwen3_moe", {"decoder_sparse_step": 1, "mlp_only_layers": []}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "qwen2": ("qwen2", {"use_sliding_window": False, "layer_types": None}),
    "olmo2-heads": ("olmo2", {"head_dim": 16}),
    "mixtral-null": ("mixtral", {"head_dim": None}),
} | {
    f"{family} {flag}": (family, {flag: value})
    for family, flag, value in (
        *((family, "attention_bias", True) for family in ("llama", "qwen3", "gemma2", "gemma3_text", "olmo2", "olmo3")),
        *((family, "attention_bias", True) for family in ("granite", "cohere", "smollm3", "gemma")),
        *((family, "attention_bias", False) for family in ("gpt_neox", "glm4", "gpt_oss")),
        *((family, "mlp_bias", True) for family in ("llama", "granite", "smollm3")),
        ("starcoder2", "use_bias", False),
        ("stablelm", "use_qkv_bias", True),
        ("gpt_neox", "tie_word_embeddings", True),
        ("gpt2", "tie_word_embeddings", False),
    )
}  # fmt: skip
BLOCKS = [0, 2, 2, 5]
# Blocks whose kinds lie as the family counts them, where it counts.
COUNTED = {"gemma2": [0, 1, 4, 5], "gpt_oss": [0, 1, 4, 5], "gemma3_text": [0, 2, 2, 4], "olmo3": [0, 2, 4, 1]}
COUNTED["smollm3"] = [0, 2, 3, 4]


def blocks_of(family: str) -> list[int]:
    return COUNTED.get(CASES[family][0], BLOCKS)


def save(folder: Path, case: str, **changes: object) -> Path:
    torch.manual_seed(0)
    family, fields = CASES[case]
    config = AutoConfig.for_model(family, **{**TOKENS, **FAMILIES[family], **fields, **changes})
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_it_writes_what_the_way_by_the_model_writes(case, tmp_path):
    source = save(tmp_path / "source", case)
    light = inherit_light(source, tmp_path / "light", blocks_of(case), 0, False)
    whole = cut_by_model(source, tmp_path / "whole", CutRequest(blocks_of(case), proved=False))
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
        {"hidden_act": "unheard-of"},
        {"layer_types": ["chunked_attention"] * 6},
        {"attention_bias": 1},
        {"attention_bias": True},
        {"num_hidden_layers": 10**9},
        {"num_attention_heads": 3},
        {"vocab_size": 95},
    ],
    ids=str,
)
def test_whatever_is_not_as_expected_goes_the_other_way(values, tmp_path):
    source = save(tmp_path / "source", "llama")
    change(source, **values)
    assert inherit_light(source, tmp_path / "cut", BLOCKS, 0, False) is None
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("gpt2", {"num_hidden_layers": 5}),
        ("gpt2", {"head_dim": 8}),
        ("qwen3_moe", {"decoder_sparse_step": 2}),
        ("qwen3_moe", {"mlp_only_layers": [1]}),
        ("qwen3_moe", {"num_experts": 3}),
        ("gemma2", {"layer_types": None}),
        ("qwen2", {"use_sliding_window": True}),
        ("smollm3", {"no_rope_layers": None}),
        ("smollm3", {"no_rope_layers": [1, 0, 1, 1, 0, 2]}),
        ("cohere", {"use_qk_norm": True}),
        ("opt", {"word_embed_proj_dim": 16}),
        ("opt", {"do_layer_norm_before": False}),
        ("stablelm", {"use_parallel_residual": True}),
    ],
    ids=str,
)
def test_each_family_has_what_it_cannot_be_sure_of(family, values, tmp_path):
    source = save(tmp_path / "source", family)
    change(source, **values)
    assert inherit_light(source, tmp_path / "cut", blocks_of(family), 0, False) is None


@pytest.mark.parametrize("family", COUNTED)
def test_what_readers_that_count_take_otherwise_goes_the_other_way_and_is_said(family, tmp_path):
    by_class = {"no_rope_layers" if family == "smollm3" else "layer_types": None}
    source, wrong = save(tmp_path / "source", family, **by_class), [1, 3, 5]
    assert inherit_light(source, tmp_path / "cut", wrong, 0, False) is None
    made = cut_by_model(source, tmp_path / "cut", CutRequest(wrong, proved=False))
    assert made.miscounted and f"Caution: {made.miscounted}." in (tmp_path / "cut" / "README.md").read_text()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_tensor_that_every_block_lacks_or_a_size_said_wrong_is_seen(family, tmp_path, monkeypatch):
    """What no comparison of the blocks with one another shows."""
    source = save(tmp_path / "source", family)
    whole, config = pieces_of(source), json.loads((source / "config.json").read_text())
    kinds = {piece.name: re.sub(r"\.\d+\.", ".", piece.name) for piece in whole}
    for kind in set(kinds.values()):
        held = [piece for piece in whole if kinds[piece.name] != kind]
        monkeypatch.setattr(without_torch, "pieces_of", lambda _, held=held: held)
        assert inherit_light(source, tmp_path / "cut", blocks_of(family), 0, False) is None, kind
    monkeypatch.undo()
    for key in families.FAMILIES[family].keys("D") + families.FAMILIES[family].keys("V"):
        if key in config:
            change(source, **{key: 2 * config[key]})
            assert inherit_light(source, tmp_path / "cut", blocks_of(family), 0, False) is None, key
            change(source, **{key: config[key]})
    assert inherit_light(source, tmp_path / "cut", blocks_of(family), 0, False) is not None


@pytest.mark.parametrize("kind", families.FAMILIES)
def test_what_a_config_leaves_unsaid_is_what_its_class_says(kind):
    family, made = families.FAMILIES[kind], AutoConfig.for_model(kind)
    flags = {"tie_word_embeddings", *re.findall(r"\+([a-z]\w+)", f"{family.block}\n{family.around}\n{family.last}")}
    assert {flag: getattr(made, flag) for flag in flags} == {flag: flag in family.on for flag in flags}
    for key, value in family.needs.items():
        assert isinstance(value, str) or getattr(made, key) == value, key


def test_a_config_need_not_name_its_class(tmp_path):
    source = save(tmp_path / "source", "llama")
    change(source, architectures=None)
    assert inherit_light(source, tmp_path / "cut", BLOCKS, 0, False) is not None


def test_a_block_that_does_not_exist_is_named_and_small_models_go_the_other_way(tmp_path):
    source = save(tmp_path / "source", "llama")
    with pytest.raises(InputError, match="0 to 5"):
        inherit_light(source, tmp_path / "cut", [6], 0, False)
    assert inherit_light(source, tmp_path / "cut", BLOCKS, 1 << 30, False) is None


BY_COMMAND = """
sys.argv = ["inheritune", "inherit", *sys.argv[1:], "--blocks", "0,5", "--no-prove"]
from inheritune.cli import main
try: main()
except SystemExit: pass
"""
IN_PYTHON = """
from pathlib import Path
from inheritune.surgery.commands import inherit_folder
from inheritune.surgery.requests import CutRequest
inherit_folder(Path(sys.argv[1]), Path(sys.argv[2]), CutRequest([0, 5], proved=False))
"""


@pytest.mark.parametrize("caller", [BY_COMMAND, IN_PYTHON], ids=["command", "python"])
def test_neither_torch_nor_transformers_is_loaded(caller, tmp_path):
    source = save(tmp_path / "source", "llama")
    script = f"import sys\n{caller}\nassert not {{'torch', 'transformers', 'numpy'}} & set(sys.modules)\n"
    arguments = [sys.executable, "-c", script, str(source), str(tmp_path / "cut")]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    assert len(load_file(next((tmp_path / "cut").glob("*00001*")))) > 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "cut").config.num_hidden_layers == 2
