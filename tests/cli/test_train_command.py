import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from shell import command, refused
from tiny import FAMILIES, LENGTH
from transformers import AutoModelForCausalLM, AutoTokenizer

from inheritune.models.reference import load_reference


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> str:
    tree: dict[str, Any] = {
        "name": "fresh",
        "model": {"model_type": "gpt2", "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, **FAMILIES["gpt2"]},
        "data": {"train": str(corpus / "words.jsonl"), "sequence_length": LENGTH, "valid_share": 0.2},
        "training": {"tokens": 2560, "batch_tokens": 256, "peak_lr": 1e-2, "evaluate_every": 4, "checkpoint_every": 4},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return str(tmp_path / "recipe.yaml")


def test_trains_a_model_that_can_be_a_reference(recipe: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = command("train", recipe, "--out", str(out), "--json")
    assert ended.code == 0, ended
    printed = json.loads(ended.out)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["val_loss"] for row in rows if row["kind"] == "validation"]
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, 11))
    assert len(losses) == 3 and losses[-1] < losses[0] and printed["val_loss"] == losses[-1]
    model = AutoModelForCausalLM.from_pretrained(out / "model")
    assert printed["parameters"] == model.num_parameters() and printed["tokens"] == 2560
    assert AutoTokenizer.from_pretrained(out / "model").decode([0]) == "<|endoftext|>"
    assert load_reference(str(out / "model")).trained_tokens == 2560
    weights = (out / "model" / "model.safetensors").read_bytes()
    again = command("train", recipe, "--out", str(out), "--quiet")
    assert (again.code, again.out, again.err) == (0, "", "")
    assert (out / "model" / "model.safetensors").read_bytes() == weights


def test_config_that_transformers_does_not_build(recipe: str, tmp_path: Path) -> None:
    said = refused("train", recipe, "--out", str(tmp_path / "out"), "--set", "model.model_type=gpt22", "--quiet")
    assert "model: transformers" in said and "gpt22" in said


def test_sequences_longer_than_the_models_positions(recipe: str, tmp_path: Path) -> None:
    given = ("train", recipe, "--out", str(tmp_path / "out"), "--quiet", "--set", "data.sequence_length=128")
    assert "data.sequence_length is 128 and the model has 64 positions" in refused(*given)
    assert not (tmp_path / "out").exists()


def test_missing_model_type(recipe: str, tmp_path: Path) -> None:
    tree = yaml.safe_load(Path(recipe).read_text())
    del tree["model"]["model_type"]
    Path(recipe).write_text(yaml.safe_dump(tree))
    assert "model_type" in refused("train", recipe, "--out", str(tmp_path / "out"), "--quiet")


@pytest.mark.parametrize("schedule", ["constant", "wsd"])
def test_a_run_goes_on_to_more_tokens_with_the_same_bits(schedule: str, recipe: str, tmp_path: Path) -> None:
    """Ten steps, then ten more, are the run of twenty; under `wsd` from before the two that fell."""
    shape = ("--set", f"training.schedule={schedule}", "--quiet")
    short, long = (str(tmp_path / name) for name in ("short", "long"))
    more = ("--set", "training.tokens=5120")
    assert command("train", recipe, "--out", short, *shape).code == 0
    assert command("train", recipe, "--out", short, *shape, *more).code == 0
    assert command("train", recipe, "--out", long, *shape, *more).code == 0
    weights = [(Path(place) / "model" / "model.safetensors").read_bytes() for place in (short, long)]
    assert weights[0] == weights[1]
    rows = [json.loads(line) for line in (Path(short) / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "step"] == list(range(1, 21))


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_rate_that_falls_from_the_start_is_refused_more_tokens(schedule: str, recipe: str, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"), "--set", f"training.schedule={schedule}", "--quiet")
    assert command("train", recipe, *out).code == 0
    said = refused("train", recipe, *out, "--set", "training.tokens=5120")
    assert "steps done would have had other rates" in said and "`wsd` and `constant` can be given more" in said
