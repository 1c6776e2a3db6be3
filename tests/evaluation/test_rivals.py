"""Packed models against the same weights rounded in memory; what cannot be packed costs the rest nothing."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_file import write_gguf
from shell import command, refused
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from inheritune.errors import ModelError
from inheritune.evaluation import rivals as rivals_module
from inheritune.evaluation.found import TextLoss
from inheritune.evaluation.guard import answers, guard
from inheritune.evaluation.guard_items import items
from inheritune.evaluation.measure import Against, Text, measure
from inheritune.evaluation.rivals import InUse, rivals
from inheritune.models import llama_cpp
from inheritune.models.reference import load_reference
from inheritune.progress import Progress


def rounded(folder: Path, width: str) -> PreTrainedModel:
    """The weights as the stand-in keeps them: in halves, or in 64ths."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float() if width == "f16" else (weight * 64).round() / 64)
    return model


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp's converter by our own writer; no quantiser."""

    def convert(folder: Path, out: Path, width: str) -> None:
        write_gguf(out, rounded(folder, width), AutoTokenizer.from_pretrained(folder))

    def quantise(gguf: Path, out: Path, kind: str) -> None:
        raise ModelError("no quantiser of llama.cpp is here.")

    monkeypatch.setattr(llama_cpp, "convert", convert)
    monkeypatch.setattr(llama_cpp, "quantise", quantise)


@pytest.fixture
def pair(references: Callable[[str], Path], tmp_path: Path) -> tuple[Path, Path]:
    """A model, and its reference."""
    assert command("inherit", str(references("llama")), str(tmp_path / "cut"), "--blocks", "0,1,3").code == 0
    return tmp_path / "cut", references("llama")


def test_each_is_measured_as_it_is_packed(
    pair: tuple[Path, Path], packs: None, texts: list[str], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:4]))
    drawn = tmp_path / "figures" / "memory.svg"
    asked = ["--rivals", "gguf", "--figure", str(drawn), "--guard", "--data", str(rows), "--length", "32"]
    ended = command("evaluate", str(pair[0]), "--reference", str(pair[1]), *asked, "--no-generation", "--json")
    found = json.loads(ended.out)
    sides = [(one["side"], one["bits"]) for one in found["rivals"]]
    assert sides == [("reference", "q8_0"), ("model", "f16"), ("model", "q8_0")]
    reference = load_reference(str(pair[1]))
    tokenizer, theirs = reference.tokenizer, answers(reference.model, reference.tokenizer, items()).right
    for one in found["rivals"]:
        model = rounded(pair[one["side"] == "reference"], one["bits"])
        alone = measure(model, tokenizer, [Text(text) for text in texts[:4]], 32)
        assert one["text"]["val_loss"] == pytest.approx(alone.val_loss, abs=1e-6)
        gap = one["gap"]["nats_per_token"]["mean"]
        assert gap == pytest.approx(alone.val_loss - found["models"][1]["text"]["val_loss"], abs=1e-6)
        blocks, heads, wide = (
            getattr(model.config, name) for name in ("num_hidden_layers", "num_key_value_heads", "head_dim")
        )
        assert one["memory_bytes"] == one["disk_bytes"] + 32 * blocks * 2 * heads * wide * 2
        assert one["disk_bytes"] > 2 * sum(weight.numel() for weight in model.parameters())
        able = guard(items(), answers(model, tokenizer, items()).right, theirs, 0.95)
        assert one["guard"] == able.model_dump() and able.rows and "use" not in one
    few, *packed = found["notes"]
    assert few.startswith("the intervals rest on 4 documents")
    assert len(packed) == 2 and all("q4_k_m is left out: no quantiser" in note for note in packed)
    assert drawn.read_text().count("q8_0") == 2 and "nats per token" in drawn.read_text()


def test_speed_is_told_in_turns(
    pair: tuple[Path, Path], packs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a reference that is a GGUF file itself, too."""
    reference = load_reference(str(pair[1]))
    write_gguf(tmp_path / "reference.gguf", reference.model, reference.tokenizer)
    seen: list[str] = []

    def speed(gguf: Path, prompt: int, new: int, threads: int) -> dict[str, float]:
        seen.append(f"{gguf.parent.name} {gguf.stem}")
        rate = {0: 10.0, 1: 90.0, 2: 30.0}[(len(seen) - 1) // 3]
        return {"first_token_seconds": 0.5, "tokens_per_second": rate, "peak_bytes": 9, "base_bytes": 1}

    monkeypatch.setattr(llama_cpp, "speed", speed)
    loaded = [load_reference(str(place)) for place in (pair[0], tmp_path / "reference.gguf")]
    told = TextLoss(val_loss=1.0, perplexity=2.0, tokens=1), Against(None, None), None  # type: ignore[arg-type]
    asked: Any = partial(rivals, *loaded, lambda packed: told, 8, InUse(4, 4, 3), Progress(quiet=True))
    found, notes = asked()
    assert seen == ["reference q8_0", "model f16", "model q8_0"] * 3 and len(notes) == 2
    assert {(one.use.tokens_per_second, one.use.first_token_seconds, one.use.peak_bytes) for one in found} == {
        (30.0, 0.5, 9)
    }

    def nothing(*_: object) -> dict[str, float]:
        raise ModelError("no runner of llama.cpp is here.")

    monkeypatch.setattr(llama_cpp, "speed", nothing)
    found, notes = asked()
    assert len(found) == 3 and notes[-1] == "speed in llama.cpp is left out: no runner of llama.cpp is here."


def test_what_cannot_be_shown_is_refused_first(pair: tuple[Path, Path], tmp_path: Path) -> None:
    names = "evaluate", str(pair[0]), "--reference", str(pair[1])
    assert "write gguf" in refused(*names, "--rivals", "awq")
    assert "--rivals gguf" in refused(*names, "--figure", str(tmp_path / "a.svg"))
    assert "is a folder" in refused(*names, "--rivals", "gguf", "--figure", str(tmp_path))
    assert "name it with --reference" in refused("evaluate", str(pair[0]), "--rivals", "gguf")


def test_a_packed_model_is_measured_where_models_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def loaded(*_: object, on: object) -> None:
        asked.append(on)
        raise ModelError("far enough")

    monkeypatch.setattr(rivals_module, "device", lambda: "there")
    monkeypatch.setattr(rivals_module, "load_model", loaded)
    with pytest.raises(ModelError, match="far enough"):
        rivals_module._rival("model", "q8_0", None, tmp_path, lambda _: None, 1)  # type: ignore[arg-type, return-value]
    assert asked == ["there"]
