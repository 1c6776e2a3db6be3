"""A Trainer that is watched trains as one that is not, and says which of its layers and heads turn lazy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import untrained_model
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments, default_data_collator, set_seed

from inheritune import CollapseCallback, diagnose
from inheritune.errors import InputError, OutputError
from inheritune.records.log import rows_of
from inheritune.records.rows import WatchRow

Make = Callable[..., Trainer]
STEPS, EVERY = 6, 2


@pytest.fixture
def rows_NT() -> Tensor:
    return torch.randint(0, 320, (12, 16), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def trainer(rows_NT: Tensor, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Make:
    """A Trainer of a tiny model with dropout, so that a random number drawn beside would be seen."""

    def make(**changes: Any) -> Trainer:
        set_seed(5)
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"), max_steps=STEPS, per_device_train_batch_size=2, logging_steps=3,
            disable_tqdm=True, use_cpu=True, report_to="none", include_num_input_tokens_seen="all",
            **{"save_strategy": "no", **changes},
        )  # fmt: skip
        examples = [{"input_ids": row, "labels": row} for row in rows_NT]
        model = untrained_model("gpt2", attn_pdrop=0.1, resid_pdrop=0.1, embd_pdrop=0.1)
        return Trainer(model, arguments, default_data_collator, examples, processing_class=tokenizer)

    return make


def said(trainer: Trainer, own: bool) -> list[dict[str, float]]:
    """The Trainer's log without its times: the callback's entries, or all others."""
    entries = [row for row in trainer.state.log_history if ("collapse/lazy_heads" in row) == own]
    return [{name: value for name, value in row.items() if "second" not in name and "runtime" not in name} for row in entries]  # fmt: skip


def test_a_watched_training_is_the_same_to_the_bit(trainer: Make, rows_NT: Tensor, tmp_path: Path) -> None:
    states, logs, drawn, modes = [], [], [], []
    for watched in (False, True):
        one = trainer()
        if watched:
            one.add_callback(CollapseCallback(one, rows_NT[:3], every=EVERY, log=tmp_path / "collapse.jsonl"))
        one.train()
        states.append(one.model.state_dict())
        logs.append(said(one, own=False))
        drawn.append(torch.rand(3))
        modes.append([module.training for module in one.model.modules()])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert logs[0] == logs[1] and sum("loss" in row for row in logs[0]) == STEPS // 3
    assert torch.equal(*drawn) and modes[0] == modes[1]


def test_its_rows_are_a_diagnosis_of_the_model_at_that_step(trainer: Make, rows_NT: Tensor, tmp_path: Path) -> None:
    one, place = trainer(), tmp_path / "collapse.jsonl"
    before = diagnose(one.model, rows_NT[:3], curve_sequences=0, untrained=False)
    one.add_callback(CollapseCallback(one, rows_NT[:3].tolist(), every=EVERY, log=str(place)))
    one.train()
    after = diagnose(one.model, rows_NT[:3], curve_sequences=0, untrained=False)
    rows = rows_of(place, WatchRow)
    assert [row.step for row in rows] == [0, 2, 4, 6] and [row.tokens for row in rows] == [0, 64, 128, 192]
    for row, profile in ((rows[0], before), (rows[-1], after)):
        assert row.max_rank == [layer.max_rank for layer in profile.layers] and row.lazy_heads == profile.lazy_heads
        assert row.depth == 5 and row.cost.tokens == 3 * 16
    logged = said(one, own=True)
    assert [entry["step"] for entry in logged] == [0, 2, 4, 6]
    assert logged[-1]["collapse/max_rank/layer_4"] == rows[-1].max_rank[4]
    assert logged[-1]["collapse/lazy_heads"] == sum(map(len, after.lazy_heads.values()))


def test_texts_are_read_as_the_tokenizer_of_the_trainer_reads_them(
    trainer: Make, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> None:
    watching = CollapseCallback(trainer(), texts[:2], every=1, length=12)
    assert [row.tolist() for row in watching.sequences] == [tokenizer(text)["input_ids"][:12] for text in texts[:2]]


def test_a_training_that_goes_on_keeps_the_rows_before_its_checkpoint(
    trainer: Make, rows_NT: Tensor, tmp_path: Path
) -> None:
    place, saving = tmp_path / "collapse.jsonl", {"save_strategy": "steps", "save_steps": 4}
    whole = trainer(**saving)
    whole.add_callback(CollapseCallback(whole, rows_NT[:2], every=EVERY, log=place))
    whole.train()
    first = rows_of(place, WatchRow)
    again = trainer(**saving)
    again.add_callback(CollapseCallback(again, rows_NT[:2], every=EVERY, log=place))
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    assert [(row.step, row.max_rank) for row in rows_of(place, WatchRow)] == [(row.step, row.max_rank) for row in first]
    anew = trainer()
    anew.add_callback(CollapseCallback(anew, rows_NT[:2], every=EVERY, log=place))
    with pytest.raises(OutputError, match="holds another training: name another log"):
        anew.train()
    assert len(rows_of(place, WatchRow)) == 4


def test_what_cannot_be_watched_is_said_before_training(trainer: Make, rows_NT: Tensor) -> None:
    one = trainer()
    for wrong, message in (
        ({"texts": rows_NT, "every": 0}, "every is 0"),
        ({"texts": rows_NT, "every": 1, "threshold": 1.0}, "threshold is 1.0"),
        ({"texts": "one text", "every": 1}, "a list of strings"),
        ({"texts": rows_NT + 400, "every": 1}, "not in the model's vocabulary of 320"),
    ):
        with pytest.raises(InputError, match=message):
            CollapseCallback(one, **wrong)
    one.processing_class = None
    with pytest.raises(InputError, match="Texts need a tokenizer"):
        CollapseCallback(one, ["a text"], every=1)
    one.is_fsdp_enabled = True
    with pytest.raises(InputError, match="spread over processes"):
        CollapseCallback(one, rows_NT, every=1)


def test_an_adapter_s_decoder_is_watched(trainer: Make, rows_NT: Tensor) -> None:
    one = trainer()
    inside = one.model

    class Adapted(torch.nn.Module):
        def get_base_model(self) -> torch.nn.Module:
            return inside

    one.model = Adapted()
    assert len(CollapseCallback(one, rows_NT, every=1).sequences) == len(rows_NT)
