"""A record that is a file: read back as it was written, and one sentence for every way in which it may be damaged."""

import json
from pathlib import Path

import pytest

from inheritune.errors import OutputError
from inheritune.evidence.gap import Gap
from inheritune.records.stages import PlannedLooks, RoundEnd, Untrained

END = RoundEnd(
    step=6, tokens=1536, flops=1e9 / 3, seconds=0.1, skipped=0, ended=False, rate=1e-4 / 3, depth=2, val_loss=10 / 3,
    gap=Gap(0.1, 0.0, 0.2, "worse"),
)  # fmt: skip


def test_a_record_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    for record in (END, Untrained(losses={2: 1 / 3, 5: 3.0}, tokens=1, flops=2.0, seconds=3.0)):
        record.save(tmp_path / record.NAME)
        assert type(record).load(tmp_path / record.NAME) == record


def test_a_missing_record_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"round.json' cannot be read \(No such file .*\): remove the folders of this round"
    ):
        RoundEnd.load(tmp_path / RoundEnd.NAME)


WHOLE = END.model_dump(mode="json")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (b"", "EOF"),
        (json.dumps(WHOLE).encode()[:60], "EOF"),
        (b"[]", "object"),
        (b"\xff\xfe{}", "Invalid JSON"),
        (b"[" * 100_000, "recursion limit"),
        (json.dumps({**WHOLE, "step": "6"}).encode(), "step: "),
        (json.dumps({**WHOLE, "step": 6.5}).encode(), "step: "),
        (json.dumps({**WHOLE, "step": -1}).encode(), "step: "),
        (json.dumps({**WHOLE, "val_loss": float("nan")}).encode(), "val_loss: "),
        (json.dumps({**WHOLE, "gap": {**WHOLE["gap"], "low": float("inf")}}).encode(), "gap.low: "),
        (json.dumps({**WHOLE, "colour": "red"}).encode(), "colour: "),
        (json.dumps({key: value for key, value in WHOLE.items() if key != "gap"}).encode(), "gap: Field required"),
    ],
)
def test_a_damaged_record_is_said(damage: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / RoundEnd.NAME).write_bytes(damage)
    with pytest.raises(OutputError) as told:
        RoundEnd.load(tmp_path / RoundEnd.NAME)
    sentence = str(told.value)
    assert "round.json' is damaged (" in sentence and said in sentence and "\n" not in sentence
    assert sentence.endswith(
        "remove the folders of this round and of those after it, and the same command begins there anew"
    )


@pytest.mark.parametrize(
    "wrong", [{"confidence": 1.0}, {"confidence": 0.0}, {"reading_confidence": 1.0}, {"looks": -1}]
)
def test_looks_have_a_confidence_between_nothing_and_certainty(wrong: dict[str, float], tmp_path: Path) -> None:
    (tmp_path / PlannedLooks.NAME).write_text(json.dumps({"looks": 2, "confidence": 0.95, **wrong}))
    with pytest.raises(OutputError, match=f"is damaged .*{next(iter(wrong))}: "):
        PlannedLooks.load(tmp_path / PlannedLooks.NAME)
