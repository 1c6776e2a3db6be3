# ruff: noqa: RUF001  (an en dash stands between the ends of a run)
import pytest

from inheritune.words import plural, ranges


@pytest.mark.parametrize(
    ("blocks", "said"),
    [([], ""), ([4], "4"), ([0, 1, 2, 5, 7, 8], "0–2, 5, 7–8"), ([0, 1, 0, 1], "0–1, 0–1")],
)
def test_ranges_close_up_runs_only(blocks: list[int], said: str) -> None:
    assert ranges(blocks) == said


@pytest.mark.parametrize(("number", "said"), [(0, "0 cuts"), (1, "1 cut"), (2, "2 cuts"), (1234, "1,234 cuts")])
def test_only_one_is_no_plural(number: int, said: str) -> None:
    assert plural(number, "cut") == said
