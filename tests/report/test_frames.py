"""Tables and figures for notebooks hold what the records hold."""

import pytest
from made_up_run import result_data
from matplotlib.figure import Figure
from tiny import untrained_model
from torch import arange

import inheritune
from inheritune.records.result import Result

pytest.importorskip("pandas")


def test_a_profile_as_a_table_and_as_a_figure() -> None:
    profile = inheritune.diagnose(
        untrained_model("gpt2"), arange(2 * 16).view(2, 16), curve_sequences=0, untrained=False
    )
    table = profile.to_frame()
    assert list(table.index) == [(layer, head) for layer in range(5) for head in range(2)]
    for (layer, head), row in table.iterrows():
        assert row["rank"] == profile.layers[layer].heads[head].rank
        assert row["influence"] == profile.layers[layer].influence
    assert isinstance(profile.plot(), Figure)


def test_a_result_as_a_table() -> None:
    result = Result.model_validate(result_data())
    table = result.to_frame()
    assert list(table["depth"]) == [16, 18, 20] and list(table.index) == [1, 2, 3]
    assert list(table["gap_mean"]) == [done.gap.mean for done in result.rounds]
    assert list(table["gap_verdict"]) == ["worse", "worse", "matched"]
