"""Model folders that are missing, damaged, contradictory or of another kind."""

import json
import shutil
import struct
from collections.abc import Callable
from typing import Any

import torch
from gguf_file import write_gguf
from safetensors.torch import load_file, save_file
from tiny import untrained_model
from transformers import AutoTokenizer
from tries import Ground, Try

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
Weights = dict[str, torch.Tensor]
Command = Callable[[Ground], list[str]]


def config(**fields: Any) -> Command:
    """A config that says something else."""

    def command(ground: Ground) -> list[str]:
        ground.change_json("config.json", **fields)
        return ground.run()

    return command


def weights(change: Callable[[Weights], None], use: Callable[[Ground], list[str]] = Ground.run) -> Command:
    """Other weights in the file."""

    def command(ground: Ground) -> list[str]:
        held = load_file(ground.model / WEIGHTS)
        change(held)
        save_file(held, ground.model / WEIGHTS, {"format": "pt"})
        return use(ground)

    return command


def put(name: str, value: float) -> Callable[[Weights], None]:
    """One element of a tensor is something else."""

    def change(held: Weights) -> None:
        held[name].view(-1)[7] = value

    return change


def kept(bytes_: int) -> Command:
    """The weights' file cut off."""

    def command(ground: Ground) -> list[str]:
        path = ground.model / WEIGHTS
        path.write_bytes(path.read_bytes()[:bytes_])
        return ground.run()

    return command


def sharded(
    change: Callable[[Ground, dict[str, Any]], None], use: Callable[[Ground], list[str]] = Ground.run
) -> Command:
    """The model in two files with an index, then changed."""

    def command(ground: Ground) -> list[str]:
        held = load_file(ground.model / WEIGHTS)
        (ground.model / WEIGHTS).unlink()
        names = sorted(held)
        index: dict[str, Any] = {"metadata": {}, "weight_map": {}}
        for number, part in enumerate((names[::2], names[1::2])):
            file = f"part-{number}.safetensors"
            save_file({name: held[name] for name in part}, ground.model / file, {"format": "pt"})
            index["weight_map"] |= dict.fromkeys(part, file)
        change(ground, index)
        (ground.model / INDEX).write_text(json.dumps(index))
        return use(ground)

    return command


def truncated_shard(ground: Ground, index: dict[str, Any]) -> None:
    path = ground.model / "part-1.safetensors"
    path.write_bytes(path.read_bytes()[:-50])


def only(name: str, content: str | None, use: Callable[[Ground], list[str]] = Ground.run) -> Command:
    """A file of the model with another content, or without it."""

    def command(ground: Ground) -> list[str]:
        if content is None:
            (ground.model / name).unlink()
        else:
            (ground.model / name).write_text(content)
        return use(ground)

    return command


def adapter(ground: Ground) -> list[str]:
    (ground.model / "config.json").rename(ground.model / "adapter_config.json")
    (ground.model / WEIGHTS).rename(ground.model / "adapter_model.safetensors")
    return ground.run()


def endless(ground: Ground) -> list[str]:
    ground.change_json("tokenizer_config.json", eos_token=None)
    return ground.run()


def no_tokenizer(ground: Ground) -> list[str]:
    for path in ground.model.glob("tokenizer*"):
        path.unlink()
    return ground.run()


def larger_tokenizer(ground: Ground) -> list[str]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ground.model)
    tokenizer.add_tokens(["one more"])
    tokenizer.save_pretrained(ground.model)
    with ground.text.open("a") as text:
        text.write(json.dumps({"text": "one more"}) + "\n")
    return ground.run()


def of_family(make: Callable[[Ground], None]) -> Command:
    """Another model altogether."""

    def command(ground: Ground) -> list[str]:
        (ground.model / "config.json").unlink()
        make(ground)
        return ground.run()

    return command


def bert(ground: Ground) -> None:
    from transformers import BertConfig, BertForMaskedLM

    shape = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=320, **shape)).save_pretrained(ground.model)


def t5(ground: Ground) -> None:
    from transformers import T5Config

    T5Config().save_pretrained(ground.model)


def code(ground: Ground) -> list[str]:
    ground.file("model/evil.py", f"open({str(ground.path / 'result.json')!r}, 'w')")
    ground.change_json("config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    return ground.run()


def growing(blocks: str) -> Command:
    """The model grown from itself."""
    return lambda ground: [
        "grow", str(ground.model), str(ground.path / "dest"), "--from", str(shutil.copytree(ground.model, ground.path / "parent")),
        "--blocks", blocks, "--held", "0-4", "--quiet",
    ]  # fmt: skip


def packed(name: str, form: str, value: int) -> Command:
    """A GGUF file in whose header one number is another; it is evaluated."""

    def command(ground: Ground) -> list[str]:
        path = ground.path / "tiny.gguf"
        write_gguf(path, untrained_model("llama"), AutoTokenizer.from_pretrained(ground.model))
        content = path.read_bytes()
        at = content.index(name.encode()) + len(name) + 4
        path.write_bytes(content[:at] + struct.pack(form, value) + content[at + struct.calcsize(form) :])
        return ["evaluate", str(path), "--text", str(ground.text), "--length", "16", "--quiet", "--no-generation"]

    return command


def splitting(pattern: str) -> Command:
    """A tokenizer that splits by this regex."""

    def command(ground: Ground) -> list[str]:
        path = ground.model / "tokenizer.json"
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        path.write_text(json.dumps({**json.loads(path.read_text()), "pre_tokenizer": split}))
        return ground.run()

    return command


_NORM = "transformer.h.1.ln_1.weight"
MODELS = [
    Try("no folder", lambda ground: ground.run(reference="./nowhere"), ("'./nowhere'", "folder")),
    Try("no model in the folder", lambda ground: ground.run(reference=str(ground.path)), ("config.json",)),
    Try("a file instead of a folder", lambda ground: ground.run(reference=str(ground.text)), ("words.jsonl", "folder")),
    Try("a hub id without network", lambda ground: ground.run(reference="some/model"), ("'some/model'", "network")),
    Try("config without weights", only(WEIGHTS, None), ("no safetensors weights",)),
    Try("weights without config", only("config.json", None), ("config.json",)),
    Try("a config that is no JSON", only("config.json", "{"), ("config.json", "JSON")),
    Try("a config that is a list", only("config.json", "[]"), ("config.json", "JSON object")),
    Try("weights of no bytes", kept(0), (WEIGHTS, "truncated")),
    Try("weights cut off in the header", kept(400), (WEIGHTS, "truncated")),
    Try("weights cut off in the numbers", kept(100_000), (WEIGHTS, "fetch it again")),
    Try("a shard is missing", sharded(lambda g, _: (g.model / "part-1.safetensors").unlink()), ("part-1.safetensors",)),
    Try("a shard is cut off", sharded(truncated_shard), ("part-1.safetensors", "fetch it again")),
    Try("a cut without a shard", sharded(lambda g, _: (g.model / "part-1.safetensors").unlink(), Ground.inherit), ("part-1.safetensors",)),
    Try("an index without a map", sharded(lambda _, index: index.pop("weight_map")), ("weight_map",)),
    Try("weights of another shape", config(n_embd=48, n_head=4), ("(72,)", "config asks for (144,)")),
    Try("more blocks than there are", config(n_layer=7), ("h.5.", "config asks for")),
    Try("fewer blocks than there are", config(n_layer=3), ("h.3.", "3 blocks")),
    Try("no block at all", config(n_layer=0), ("n_layer", "0")),
    Try("a depth that is a word", config(n_layer="five"), ("n_layer", "five")),
    Try("a width of nothing", config(n_embd=0), ("n_embd", "0")),
    Try("heads that do not divide the width", config(n_head=7), ("7",)),
    Try("weights that are whole numbers", weights(lambda w: w.update({_NORM: torch.ones(24, dtype=torch.int64)})), (_NORM, "I64")),
    Try("packed weights", weights(lambda w: w.update({_NORM: torch.ones(24, dtype=torch.uint8)})), (_NORM, "packed")),
    Try("a weight is missing", weights(lambda w: w.pop(_NORM)), (_NORM,)),
    Try("NaN in the weights", weights(put(_NORM, float("nan"))), ("NaN", "h.1.ln_1.weight", "damaged")),
    Try("infinity in the weights", weights(put(_NORM, float("inf"))), ("infinity", "h.1.ln_1.weight", "damaged")),
    Try("NaN in a model to be cut", weights(put(_NORM, float("nan")), Ground.inherit), ("NaN", "h.1.ln_1.weight")),
    Try("a thousand million labels", config(num_labels=10**9), ("num_labels = 1000000000", "no model's")),
    Try("a thousand million heads of a list", config(attention_types=[[["global"], 10**9]]), ("attention_types", "no model's")),
    Try("layers that never end", config(num_mtp_layers=10**9), ("num_mtp_layers", "no model's")),
    Try("a vocabulary that is not there", config(vocab_size=2**40), ("wte.weight", "1099511627776")),
    Try("positions that are not there", config(n_positions=2**40), ("wpe.weight", "1099511627776")),
    Try("a norm of no number", config(layer_norm_epsilon=float("nan")), ("NaN", "damaged")),
    Try("a GGUF that counts fewer blocks", packed("llama.block_count", "<I", 3), ("block_count = 3", "4 blocks")),
    Try("a GGUF that counts blocks without end", packed("llama.block_count", "<I", 2 * 10**9), ("block_count", "no model's")),
    Try("a GGUF of another width", packed("llama.embedding_length", "<I", 10**9), ("tiny.gguf", "its header tells of")),
    Try("a GGUF that promises more tensors", packed("GGUF", "<I", 10**9), ("tiny.gguf", "tensors")),
    Try("a regex without end", splitting("(a+)+$"), ("takes too long", "(a+)+$")),
    Try("a head that is missing", config(tie_word_embeddings=False), ("lm_head.weight",)),
    Try("an unknown type", config(model_type="gpt22"), ("'gpt22'",)),
    Try("no type", config(model_type=None), ("model_type",)),
    Try("an encoder", of_family(bert), ("'bert'", "encoder")),
    Try("an encoder with a decoder", of_family(t5), ("'t5'", "encoder-decoder")),
    Try("quantised weights", config(quantization_config={"quant_method": "gptq", "bits": 4}), ("quantised",)),
    Try("code in the folder", code, ("evil",)),
    Try("an adapter", adapter, ("adapter", "merge")),
    Try("a tokenizer is missing", no_tokenizer, ("tokenizer.json",)),
    Try("a tokenizer that is no JSON", only("tokenizer.json", "{"), ("tokenizer.json",)),
    Try("a text with a token beyond the embedding", larger_tokenizer, ("token 320", "320 embeddings")),
    Try("a tokenizer without an end", endless, ("eos_token",)),
    Try("a cut of an unknown type", only("config.json", '{"model_type": "gpt22"}', Ground.inherit), ("'gpt22'",)),
    Try("blocks beyond the model's", lambda ground: ground.inherit(blocks="0-9"), ("Block 5", "0 to 4")),
    Try("no blocks", lambda ground: ground.inherit(blocks=""), ("blocks", "0-5")),
    Try("an unknown part", lambda ground: ground.inherit("--parts", "head"), ("'head'", "attention")),
    Try("an unknown dtype", lambda ground: ground.inherit("--dtype", "int8"), ("'int8'", "bfloat16")),
    Try("growth beyond the reference", growing("0-5"), ("Block 5", "0 to 4")),
    Try("proof of no model", lambda ground: ["prove", str(ground.path), "--quiet"], ("config.json",)),
    Try("diagnosis of no model", lambda ground: ["diagnose", "./nowhere"], ("./nowhere",)),
]  # fmt: skip
