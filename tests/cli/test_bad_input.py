"""What a user can get wrong: exit code 2, one sentence that names it, nothing written over."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from shell import command, refused
from transformers import BertConfig, BertForMaskedLM, T5Config

Refuse = Callable[..., str]


@pytest.fixture
def refuse(tree: dict[str, Any], tmp_path: Path) -> Refuse:
    """The sentence with which a run with these changes is refused."""

    def with_changes(**changes: Any) -> str:
        for key, value in changes.items():
            section, _, name = key.rpartition("__")
            (tree.setdefault(section, {}) if section else tree)[name] = value
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
        said = refused("run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--quiet")
        assert not (tmp_path / "out" / "model").exists()
        return said

    return with_changes


@pytest.fixture
def model(gpt2: Path, tmp_path: Path) -> Path:
    """A copy of the tiny reference, to be damaged."""
    return Path(shutil.copytree(gpt2, tmp_path / "model"))


def change_config(model: Path, **fields: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **fields}))


def change_weight(model: Path, change: Callable[[torch.Tensor], None]) -> str:
    weights = load_file(model / "model.safetensors")
    name = sorted(name for name in weights if "c_fc.weight" in name)[0]
    change(weights[name])
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    return name


def test_text_that_is_missing(refuse: Refuse) -> None:
    assert "there is no file 'nowhere.txt'" in refuse(data__train="nowhere.txt")


def test_text_that_is_empty(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert "empty.txt' is empty" in refuse(data__train=str(tmp_path / "empty.txt"))


def test_text_that_is_one_document(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("kalo mine")
    assert "too few" in refuse(data__train=str(tmp_path / "short.txt"))


def test_text_shorter_than_one_sequence(refuse: Refuse, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("ka mi")
    said = refuse(data__train=str(tmp_path / "short.txt"), data__valid=str(corpus / "words.jsonl"))
    assert "less than two sequences of 32" in said and "data.sequence_length" in said


def test_validation_that_is_missing(refuse: Refuse) -> None:
    assert "'nowhere.jsonl'" in refuse(data__valid="nowhere.jsonl")


def test_sequences_longer_than_the_models_positions(refuse: Refuse) -> None:
    said = refuse(data__sequence_length=128, training__micro_batch_size=2)
    assert "data.sequence_length is 128" in said and "64 positions" in said


def test_reference_that_is_no_folder(refuse: Refuse) -> None:
    assert "'./nowhere'" in refuse(reference="./nowhere")


def test_hub_id_without_network(refuse: Refuse) -> None:
    said = refuse(reference="some-one/some-model")
    assert "'some-one/some-model'" in said and "network" in said


def test_folder_that_is_no_model(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "no config.json" in refuse(reference=str(tmp_path / "folder"))


def test_file_instead_of_a_model(refuse: Refuse, corpus: Path) -> None:
    assert "words.txt" in refuse(reference=str(corpus / "words.txt"))


def test_config_without_weights(refuse: Refuse, model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "no safetensors weights" in refuse(reference=str(model))


def test_pickled_weights_are_not_read(refuse: Refuse, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    said = refuse(reference=str(model))
    assert "pytorch_model.bin is a pickle" in said


@pytest.mark.parametrize("keep", [0, 5, 400, -100])
def test_truncated_weights(refuse: Refuse, model: Path, keep: int) -> None:
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[:keep])
    assert "model.safetensors" in refuse(reference=str(model))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(refuse: Refuse, model: Path, value: float) -> None:
    name = change_weight(model, lambda weight: weight[3].fill_(value))
    said = refuse(reference=str(model))
    assert "NaN or infinity" in said and name.removeprefix("transformer.") in said


def test_weights_of_another_shape(refuse: Refuse, model: Path) -> None:
    change_config(model, n_embd=48, n_head=4)
    assert "config asks for" in refuse(reference=str(model))


def test_config_of_more_blocks_than_there_are(refuse: Refuse, model: Path) -> None:
    change_config(model, n_layer=7)
    assert "5" in refuse(reference=str(model))


def test_config_that_is_no_json(refuse: Refuse, model: Path) -> None:
    (model / "config.json").write_text("{")
    assert "config.json is not readable JSON" in refuse(reference=str(model))


def test_tokenizer_that_is_missing(refuse: Refuse, model: Path) -> None:
    for path in model.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refuse(reference=str(model))


def test_tokenizer_that_is_no_json(refuse: Refuse, model: Path) -> None:
    (model / "tokenizer.json").write_text("{")
    assert "tokenizer" in refuse(reference=str(model))


def test_tokenizer_without_an_end(refuse: Refuse, model: Path) -> None:
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert "no eos_token" in refuse(reference=str(model))


def test_unknown_model_type(refuse: Refuse, model: Path) -> None:
    change_config(model, model_type="gpt22")
    assert "gpt22" in refuse(reference=str(model))


def test_code_in_the_folder_is_not_run(refuse: Refuse, model: Path, tmp_path: Path) -> None:
    (model / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    change_config(model, model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})
    assert "evil" in refuse(reference=str(model))
    assert not (tmp_path / "ran").exists()


def test_encoder(refuse: Refuse, tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=320, **shape)).save_pretrained(tmp_path / "bert")
    assert "'bert' is an encoder" in refuse(reference=str(tmp_path / "bert"))


def test_encoder_and_decoder(refuse: Refuse, model: Path) -> None:
    T5Config().save_pretrained(model)
    assert "'t5'" in refuse(reference=str(model))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"growth__start": 6}, ["growth.start is 6", "5 blocks"]),
        ({"growth__max_depth": 9}, ["growth.max_depth is 9", "5 blocks"]),
        ({"growth__start": 0}, ["'growth.start' is 0"]),
        ({"growth__start": 3, "growth__max_depth": 2}, ["growth.start is 3", "growth.max_depth 2"]),
        ({"choice__blocks": "0-7"}, ["choice.blocks is '0-7'", "0-4"]),
        ({"choice__blocks": "3-1"}, ["3-1", "backwards"]),
        ({"choice__blocks": "a,b"}, ["'a'"]),
        ({"choice__blocks": "0,0,1"}, ["choice.blocks", "0,0,1"]),
        ({"choice__blocks": "2,1"}, ["choice.blocks", "2,1"]),
        ({"training__peek_lr": 1.0}, ["training.peek_lr", "training.peak_lr"]),
        ({"training__peak_lr": "fast"}, ["training.peak_lr", "'fast'"]),
    ],
)
def test_depths_blocks_and_keys(refuse: Refuse, changes: dict[str, Any], said: list[str]) -> None:
    sentence = refuse(**changes)
    assert all(part in sentence for part in said), sentence


@pytest.mark.parametrize("command", ["run", "train", "compare", "plan"])
def test_recipe_that_is_missing(command: str) -> None:
    """A file is told by its name, a recipe of the package by the names that there are."""
    for path in ("nowhere.yaml", "./mine.yml"):
        said = refused(command, path)
        assert f"no recipe file {path!r}: check the path" in said and "fineweb-large" not in said
    if command != "plan":  # which takes any other name for a model's
        assert "no recipe file 'my/recipe'" in refused(command, "my/recipe")
        assert "no recipe 'laptp': did you mean 'laptop'?" in refused(command, "laptp")
        assert "no recipe 'zzz': recipes in the package: fineweb-large" in refused(command, "zzz")


def test_setting_that_is_unknown(tmp_path: Path) -> None:
    assert "match.margni" in refused("run", "laptop", "--set", "match.margni=1", "--out", str(tmp_path / "out"))
    assert "key=value" in refused("run", "laptop", "--set", "margin", "--out", str(tmp_path / "out"))


def test_folder_that_cannot_be_written(tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    said = refused("run", write_recipe(tree), "--out", str(tmp_path / "file" / "out"), "--quiet")
    assert "cannot be written" in said and (tmp_path / "file").read_text() == "mine"
    said = refused("run", write_recipe(tree), "--out", str(tmp_path / "file"), "--quiet")
    assert str(tmp_path / "file") in said


def test_loss_that_turns_nan(tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path) -> None:
    """A rate that blows up: exit code 1, where checkpoints are is named, and their weights are finite."""
    tree["training"] |= {"peak_lr": 1e30, "schedule": "constant", "checkpoint_every": 1}
    ended = command("run", write_recipe(tree), "--out", str(tmp_path / "out"), "--quiet")
    assert ended.code == 1 and len(ended.err.strip().splitlines()) == 1 and "Traceback" not in ended.err
    assert "the loss is " in ended.err and "training.peak_lr" in ended.err and str(tmp_path / "out") in ended.err
    kept = sorted((tmp_path / "out" / "rounds" / "01-2-blocks" / "checkpoints").iterdir())
    assert all(torch.isfinite(tensor).all() for tensor in load_file(kept[-1] / "model.safetensors").values())
