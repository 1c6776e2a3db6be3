"""What a run's message says beside its verdict."""

import pytest
from made_up_run import control_data, result_data

from inheritune.records.result import Control, Result
from inheritune.runs.outcome import ALONE, _beside_whole


def result(gap: dict[str, object], controls: list[dict[str, object]]) -> Result:
    data = result_data()
    data["rounds"][-1]["gap"] = gap
    return Result.model_validate(data | {"controls": controls or None})


SURPASSED = {"mean": -0.14, "low": -0.17, "high": -0.11, "verdict": "surpassed"}
MATCHED = {"mean": 0.004, "low": 0.0, "high": 0.008, "verdict": "matched"}


@pytest.mark.parametrize(("gap", "said"), [(SURPASSED, ALONE), (MATCHED, "")])
def test_a_target_that_learnt_the_text_is_told_from_one_that_is_better(gap: dict[str, object], said: str) -> None:
    """The reference was not trained on these tokens, and nobody has looked what they make of it."""
    found = result(gap, [])
    assert _beside_whole(found.rounds[-1], [], 0.01) == said
    random = [Control.model_validate(one) for one in control_data() if one["name"] == "random"]
    assert _beside_whole(found.rounds[-1], random, 0.01) == said, "a random start says nothing of the reference"


def test_what_the_same_tokens_make_of_the_whole_stands_beside_the_verdict() -> None:
    controls = [one | {"target": MATCHED | {"mean": 0.02, "low": 0.01, "high": 0.03}} for one in control_data()]
    found = result(SURPASSED, controls)
    said = _beside_whole(found.rounds[-1], found.controls or [], 0.01)
    assert said == ". It stands +0.0200 [+0.0100, +0.0300] behind what the same tokens make of the reference itself"
    assert _beside_whole(found.rounds[-1], found.controls or [], 0.03) == ""
