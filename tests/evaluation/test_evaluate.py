"""A model on a text against plain sums, and the command as a user meets it."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import command, refused
from tiny import BEGIN, VOCABULARY, untrained_model, with_begin
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from inheritune.cli.evaluate import _print
from inheritune.data.vocabulary import train_tokenizer
from inheritune.errors import InputError
from inheritune.evaluation import tasks
from inheritune.evaluation.by_position import by_position
from inheritune.evaluation.evaluate import evaluate
from inheritune.evaluation.found import Evaluation
from inheritune.evaluation.generation import Use
from inheritune.evaluation.measure import OnText, Text, against, measure
from inheritune.evaluation.token_losses import token_losses


def plain_sums(model: PreTrainedModel, windows: list[list[int]], begin: int) -> tuple[float, int]:
    """Nats and tokens of windows, of which the first `begin` ids, or one, are only read."""
    nats = tokens = 0
    for window in windows:
        ids, read = torch.tensor([window]), max(1, begin)
        with torch.no_grad():
            logits = model(ids).logits[0, read - 1 : -1]
        nats += torch.nn.functional.cross_entropy(logits, ids[0, read:], reduction="sum").item()
        tokens += len(window) - read
    return nats, tokens


def test_bits_per_byte_and_nats_are_plain_sums(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    model, some = untrained_model("llama").eval(), [*texts[:3], "à ë 中"]
    windows, without_end = [], 0.0
    for text in some:
        ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        windows += [ids[start : start + 17] for start in range(0, len(ids) - 1, 16)]
        last = (len(ids) - 2) // 16 * 16
        without_end += plain_sums(model, [ids[last:]], 0)[0] - plain_sums(model, [ids[last:-1]], 0)[0]
    found, (nats, tokens) = (
        measure(model, tokenizer, [Text(text) for text in some], length=16),
        plain_sums(model, windows, 0),
    )
    size = sum(len(text[len(tokenizer.decode(tokenizer(text)["input_ids"][0])) :].encode()) for text in some)
    assert found.val_loss == pytest.approx(nats / tokens, rel=1e-5)
    assert found.bits_per_byte == pytest.approx((nats - without_end) / math.log(2) / size, rel=1e-5)


@pytest.mark.parametrize("single", [f"{BEGIN} $A", f"{BEGIN} <second> $A <|endoftext|>"])
def test_every_byte_is_predicted_behind_a_begin_of_text(
    single: str, texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    model, words = untrained_model("llama", vocab_size=VOCABULARY + 2).eval(), with_begin(tokenizer, single)
    begin = [VOCABULARY, VOCABULARY + 1][: single.count("<") - single.count("<|")]
    windows, step = [], 17 - len(begin)
    for text in texts[:3]:
        ids = tokenizer(text)["input_ids"]
        windows += [begin + ids[start : start + step] for start in range(0, len(ids), step)]
    nats, tokens = plain_sums(model, windows, len(begin))
    found = measure(model, words, [Text(text, whole=False) for text in texts[:3]], length=16)
    assert found.val_loss == pytest.approx(nats / tokens, rel=1e-5)
    size = sum(len(text.encode()) for text in texts[:3])
    assert found.bytes.sum() == size and found.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_a_margin_in_bits_is_that_of_a_references_token() -> None:
    """Ten documents of 100 tokens and 400 bytes, each 2 nats worse: 0.02 nats a token, which is 0.005 nats a byte."""
    nats, tokens, sizes = np.full(10, 300.0), np.full(10, 100.0), np.full(10, 400.0)
    reference, model = (
        OnText(
            nats=nats + more,
            tokens=tokens,
            text_nats=nats + more,
            bytes=sizes,
            sources=np.arange(len(nats)),
            rows=[],
            losses=[],
            owner=np.arange(0),
        )
        for more in (0.0, 2.0)
    )
    for margin, verdict in ((0.021, "matched"), (0.019, "worse")):
        found = against(model, reference, margin, 0.95)
        assert found.nats_per_token is not None
        assert found.bits_per_byte.verdict == found.nats_per_token.verdict == verdict
        assert found.nats_per_token.mean == pytest.approx(0.02)
        assert found.bits_per_byte.mean == pytest.approx(0.005 / math.log(2))
        assert found.margin_bits_per_byte == pytest.approx(margin / 4 / math.log(2))


def test_loss_by_position_is_the_mean_over_windows_that_reach_it() -> None:
    rows = [np.asarray([1.0, 2.0, 3.0, 5.0, 9.0]), np.asarray([3.0, 4.0])]
    assert [(p.first, p.last, p.loss, p.tokens) for p in by_position(rows)] == [
        (0, 0, 2.0, 2), (1, 1, 3.0, 2), (2, 3, 4.0, 2), (4, 4, 9.0, 1),
    ]  # fmt: skip


def test_windows_of_unlike_lengths_do_not_see_their_padding() -> None:
    model, rows = untrained_model("gpt2").eval(), [np.arange(3, 20), np.arange(5, 9), np.arange(2, 32)]
    together = token_losses(model, rows)
    for row, losses in zip(rows, together, strict=True):
        assert losses == pytest.approx(token_losses(model, [row])[0], abs=1e-5)


def test_tokens_that_differ_are_compared_in_bits_alone(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    model = untrained_model("gpt2")
    own = measure(model, tokenizer, [Text(text) for text in texts[:4]], 32)
    assert against(own, own, 0.01, 0.95).nats_per_token is not None
    other = measure(model, tokenizer, [Text(text.upper()) for text in texts[:4]], 32)
    assert against(own, other, 0.01, 0.95).nats_per_token is None


def test_another_tokenizer_is_said_and_the_rest_is_measured(gpt2: Path, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(gpt2, tmp_path / "other")
    train_tokenizer(["another text of other words"] * 3, VOCABULARY).save_pretrained(tmp_path / "other")
    where = ("--data", str(corpus / "words.jsonl"), "--documents", "10", "--guard", "--no-generation")
    ended = command("evaluate", str(gpt2), "--reference", str(tmp_path / "other"), *where, "--json")
    found = json.loads(ended.out)
    assert found["notes"] == [
        "model and reference read other tokens, so they are compared in bits per byte, and not token by token"
    ]
    assert found["gap"]["nats_per_token"] is None and "agreement" not in found
    assert found["gap"]["bits_per_byte"]["verdict"] and found["guard"]["verdict"]


def test_the_command_compares_with_a_reference(
    references: Callable[[str], Path], corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt2, llama = str(references("gpt2")), str(references("llama"))
    where = ("--data", str(corpus / "words.jsonl"), "--documents", "8", "--no-generation")
    ended = command("evaluate", gpt2, "--reference", llama, *where, "--json", "--quiet")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    own, other = found["models"]
    gap, place = found["gap"]["nats_per_token"], found["gap_by_position"][1]
    assert gap["mean"] == pytest.approx(own["text"]["val_loss"] - other["text"]["val_loss"])
    assert "use" not in own
    monkeypatch.setenv("COLUMNS", "200")
    _print(Evaluation.model_validate(found))
    said = capsys.readouterr().out
    assert f"On {found['data']['documents']} documents " in said
    printed = {line.split("  ")[0].strip(): line for line in said.splitlines()}
    for name, values in (
        ("blocks", [str(own["depth"]), str(other["depth"])]),
        ("loss, nats per token", [f"{own['text']['val_loss']:.4f}", f"{gap['mean']:+.4f} [{gap['low']:+.4f}"]),
        ("same next token as the reference", [f"{found['agreement']['same_choice']['mean']:.4f}"]),
        ("1-1", [f"{own['text']['by_position'][1]['loss']:.4f}", f"{place['mean']:+.4f} [{place['low']:+.4f}"]),
    ):
        assert all(value in printed[name] for value in values), printed


def test_how_both_go_on_is_told_where_generation_is_measured(
    references: Callable[[str], Path], corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules["inheritune.evaluation.evaluate"], "generate", lambda places, *_: [Use(1, 1, 1, 1)] * 2
    )
    monkeypatch.setenv("COLUMNS", "200")
    names = [str(references(family)) for family in ("gpt2", "llama")]
    found = evaluate(*names, data=str(corpus / "words.jsonl"), documents=5)
    gone = found["going_on"]
    assert capsys.readouterr() == ("", ""), "called from Python, it says nothing"
    _print(Evaluation.model_validate(found))
    said = capsys.readouterr().out
    for name in ("repeated", "length"):
        assert f"{gone[name]['model']:.4f}" in said and f"{gone[name]['mean']:+.4f} [{gone[name]['low']:+.4f}" in said
    answers = [f"Both go on from: {one['prompt']}" in said for one in gone["answers"]]
    assert answers == [True] * 3 + [False] * 2 and f"  {names[1]}: {gone['answers'][2]['reference'].strip()}\n" in said


def test_generation_is_measured_in_a_process_of_its_own(gpt2: Path, corpus: Path) -> None:
    data = str(corpus / "words.jsonl")
    found = evaluate(str(gpt2), data=data, documents=2, turns=1)
    own = found["models"][0]
    assert found["generation"] == {"prompt": 32, "new": 32, "turns": 1, "dtype": "float32"}
    assert own["use"]["tokens_per_second"] > 0 and own["use"]["first_token_seconds"] > 0
    assert own["use"]["peak_bytes"] > own["use"]["base_bytes"] + 4 * own["parameters"]


def test_what_cannot_be_evaluated_is_said(gpt2: Path, tmp_path: Path) -> None:
    assert "float8" in refused("evaluate", str(gpt2), "--dtype", "float8")
    assert "no file" in refused("evaluate", str(gpt2), "--data", "nothing.txt")
    assert "margin is -1" in refused("evaluate", str(gpt2), "--margin", "-1")
    assert "--tasks" in refused("evaluate", str(gpt2), "--task-files", "sets")
    (tmp_path / "one.jsonl").write_text('{"text": "alone"}\n')
    assert "2 or more" in refused("evaluate", str(gpt2), "--data", str(tmp_path / "one.jsonl"))


def test_a_name_that_evaluate_does_not_have_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"^evaluate\(\) has no 'text': the text is named by `data`$"):
        evaluate("bundled:laptop", text="mine.txt")
    with pytest.raises(InputError, match=r"^evaluate\(\) has no 'lenght': give some of data, field, .*, length, "):
        evaluate("bundled:laptop", lenght=4)


def test_missing_lm_eval_is_told_before_anything_is_measured(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr(sys.modules["inheritune.evaluation.evaluate"], "load_reference", None)
    assert "not installed" in refused("evaluate", str(gpt2), "--tasks", "piqa")


def test_a_task_that_cannot_be_scored_costs_the_others_nothing(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(model: PreTrainedModel, tokenizer: object, names: list[str], files: None, limit: None) -> tasks.Scored:
        if names == ["nowhere"]:
            raise InputError("lm-eval knows no such task")
        score = tasks.Score(names[0], "acc", 0.5, None, 2, True)
        return tasks.Scored([score], {(names[0], "acc"): {0: 1.0, 1: 0.0}})

    monkeypatch.setattr(tasks, "score", score)
    monkeypatch.setattr(tasks, "library", lambda: None)
    ended = command(
        "evaluate",
        str(gpt2),
        "--reference",
        str(gpt2),
        "--tasks",
        "one,nowhere,two",
        "--no-generation",
        "--documents",
        "3",
    )
    assert ended.code == 0 and "one acc" in ended.out and "two acc" in ended.out
    assert "Nowhere is left out: lm-eval knows no such task." in ended.out
