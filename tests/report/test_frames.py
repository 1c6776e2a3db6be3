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
    tokens_NT = arange(2 * 16).view(2, 16)
    profile = inheritune.diagnose(
        untrained_model("gpt2"), tokens_NT, curve_sequences=0, other_lengths=[tokens_NT[:, :8]]
    )
    table = profile.to_frame()
    assert {str(kind) for kind in table.dtypes} == {"float64"} and table["query_gradient"].isna().all()
    untrained, shorter = profile.contrasts
    assert (untrained.name, shorter.length) == ("untrained", 8)
    assert list(table.index) == [(layer, head) for layer in range(5) for head in range(2)]
    for (layer, head), row in table.iterrows():
        assert row["rank"] == profile.layers[layer].heads[head].rank
        assert row["influence"] == profile.layers[layer].influence
        assert row["max_rank"] == profile.layers[layer].max_rank == table.loc[layer]["rank"].max()
        assert (row["max_rank_untrained"], row["max_rank_at_8"]) == (untrained.max_rank[layer], shorter.max_rank[layer])
    assert isinstance(profile.plot(), Figure)


def test_what_was_not_measured_has_no_column_and_a_model_without_heads_no_row() -> None:
    profile = inheritune.diagnose(untrained_model("gpt2"), arange(32).view(2, 16), curve_sequences=0, untrained=False)
    assert [name for name in profile.to_frame() if name.startswith("max_rank")] == ["max_rank"]
    headless = [layer.model_copy(update={"heads": []}) for layer in profile.layers]
    assert profile.model_copy(update={"layers": headless}).to_frame().empty


def test_a_result_as_a_table() -> None:
    result = Result.model_validate(result_data())
    table = result.to_frame()
    assert list(table["depth"]) == [16, 18, 20] and list(table.index) == [1, 2, 3]
    assert list(table["gap_mean"]) == [done.gap.mean for done in result.rounds]
    assert list(table["gap_verdict"]) == ["worse", "worse", "matched"]
