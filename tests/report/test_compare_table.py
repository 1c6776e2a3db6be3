"""What the table of a comparison says beside its numbers."""

from typing import Any

import pytest

from inheritune.methods import METHODS
from inheritune.progress import PlainConsole
from inheritune.records.comparison import Comparison
from inheritune.report.compare_figures import loss_over, time_to_loss
from inheritune.report.compare_table import markdown, terminal

GAP = {"mean": 0.1, "low": 0.05, "high": 0.15, "verdict": "worse"}


def row(method: str, flops: float, losses: list[float], to_random: float | None) -> dict[str, Any]:
    curve = [
        {"tokens": 100 * at, "flops": flops * at / len(losses), "val_loss": loss} for at, loss in enumerate(losses, 1)
    ]
    return {
        "method": method, "says": method, "needs_reference": False, "depth": 2, "parameters": 10, "peak_lr": 0.1, "seeds": [0],
        "cost": {"tokens": 100, "training_flops": flops, "prepared_flops": 0, "total_flops": flops, "seconds": 1},
        "val_loss": losses[-1], "spread": None, "gap": GAP, "difference": None, "tokens_to_random": to_random,
        "flops_to_random": None if to_random is None else flops / len(losses), "tokens_to_reference": None, "lazy_layers": 0,
        "max_ranks": [2.0, 2.0], "curve": curve, "tried": {},
    }  # fmt: skip


def comparison(budget: str, *rows: dict[str, Any]) -> Comparison:
    return Comparison.model_validate({
        "recipe": "r", "reference": "m", "reference_loss": 3.0, "reference_depth": 4, "reference_tokens": None,
        "reference_flops": None, "reference_ranks": [2.0], "reference_lazy": 0, "depth": 2, "budget": budget, "tokens": 100,
        "margin": 0.01, "confidence": 0.95, "documents": 9, "rows": list(rows), "missing": [],
    })  # fmt: skip


ROWS = (
    row("random", 100.0, [5.0], 100.0),
    row("published", 100.0, [4.0], 100.0),
    row("stacking", 80.0, [6.0, 5.5], None),
)


@pytest.mark.parametrize(("budget", "told"), [("flops", True), ("total-flops", True), ("tokens", False)])
def test_methods_that_whole_batches_leave_unequal_are_said_to_be(budget: str, told: bool) -> None:
    said = "the FLOPs are 0.80 to 1.00 of the most"
    found = comparison(budget, *ROWS)
    assert (said in markdown(found)) is told and (said in str(terminal(found).title)) is told
    assert said not in markdown(comparison(budget, *ROWS[:2])), "what is equal needs no word"


def test_a_terminal_of_80_characters_shows_the_gap_whole() -> None:
    """Also of the longest name, with a spread and a difference; the best method comes first."""
    moved = {"mean": 1.7652, "low": 1.662, "high": 1.8683, "units": "seeds"}
    wide = row(max(METHODS, key=len), 2.54e12, [6.0359], None) | {
        "spread": 0.0413,
        "difference": moved,
        "gap": GAP | {"mean": -0.1, "low": -0.2},
    }
    console = PlainConsole(width=80, color_system=None)
    with console.capture() as capture:
        console.print(terminal(comparison("tokens", wide, row("random", 100.0, [5.0], 100.0))))
    shown = [line.split() for line in capture.get().splitlines()]
    assert shown[-3:] == [
        ["method", "FLOPs", "loss", "gap", "difference"],
        ["random", "100", "5.0000", "+0.1000"],
        [wide["method"], "2.54e+12", "6.0359", "±", "0.0413", "-0.1000", "+1.7652", "[+1.6620,", "+1.8683]"],
    ]


def test_a_first_validation_below_randoms_loss_says_at_most() -> None:
    """Only where it is another's: random's own end is where it is."""
    lines = markdown(comparison("tokens", *ROWS)).splitlines()
    cell = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[-2] for line in lines if line.startswith("| ")}
    assert (cell["random"], cell["published"], cell["stacking"]) == ("100", "≤ 100", "never")
    drawn = time_to_loss(comparison("tokens", *ROWS).model_dump())
    assert {text.get_text() for text in drawn.axes[0].texts} == {"100.0", "≤ 100.0"}


def test_a_curve_of_one_validation_is_seen() -> None:
    drawn = loss_over(comparison("tokens", *ROWS).model_dump(), "tokens")
    marked = {line.get_label(): line.get_marker() for axes in drawn.axes for line in axes.get_lines()}
    assert marked["random"] == marked["published"] == "o" and marked["stacking"] == "None"
