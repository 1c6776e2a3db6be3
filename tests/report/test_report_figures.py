# ruff: noqa: RUF001  (the page's own minus, dash and times signs)
"""What the figures draw, read back from their own artists; how they look was looked at."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from inheritune.report import style
from inheritune.report.block_figures import block_map_figure, rank_figure
from inheritune.report.figures import GapRow, control_figure, gap_figure, loss_figure, smooth, training_figure
from inheritune.report.folder import Curve, _add

ROUNDS = [GapRow("16 blocks", 0.07, 0.06, 0.08), GapRow("20 blocks", 0.004, 0.001, 0.007)]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def words_in(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_smoothing_keeps_a_constant_and_the_last_point() -> None:
    points = [(float(tokens), 2.5) for tokens in range(5000)]
    shown = smooth(points)
    assert {loss for _, loss in shown} == {2.5}
    assert shown[0][0] == 0 and shown[-1][0] == 4999
    assert len(shown) <= 301


def test_smoothing_is_the_mean_of_the_neighbours() -> None:
    assert smooth([(0, 1.0), (1, 2.0), (2, 6.0)]) == [(0, 1.5), (1, 3.0), (2, 4.0)]
    assert smooth([]) == []


def test_each_round_is_a_line_of_its_own_named_once_and_no_figure_has_both_losses() -> None:
    curves = [Curve(n, 14 + 2 * n, [(n, 4.0), (n + 1, 3.9)], [(n + 1, 3.8)]) for n in (1, 2)]
    figure, beside = loss_figure(curves, 3.566), training_figure(curves)
    assert labels(figure) == ["target", "reference (3.566)"]
    assert words_in(figure) == words_in(beside) == ["16 blocks", "18 blocks"]
    shown = [list(line.get_ydata()) for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert shown == [[3.8], [3.8]]
    trained = [
        list(line.get_ydata())
        for line in beside.axes[0].lines
        if len(line.get_ydata()) > 1 and line.get_color() == style.INK
    ]
    assert np.allclose(trained, 3.95)  # each point is the mean of its neighbours
    heights = {float(y) for line in figure.axes[0].lines if line.get_color() != style.MUTED for y in line.get_ydata()}
    assert heights == {3.8, 3.566}


def test_the_high_start_of_a_training_is_out_of_view_and_the_reference_in_view() -> None:
    training = [(float(step), 3.5 + 6 * 0.9**step) for step in range(200)]
    low, high = training_figure([Curve(1, 4, training)]).axes[0].get_ylim()
    assert low < 3.5 < high < 6
    low, high = loss_figure([Curve(1, 4, training, [(199.0, 3.6)])], 3.4).axes[0].get_ylim()
    assert low < 3.4 < 3.6 < high < 3.7


def test_gaps_stand_at_their_intervals() -> None:
    axes = gap_figure(ROUNDS, 0.01).axes[0]
    intervals = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 2.2]
    assert intervals == [[0.06, 0.08], [0.001, 0.007]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["16 blocks", "20 blocks"]


def test_a_far_control_is_an_arrow_with_its_number_and_does_not_flatten_the_rest() -> None:
    figure = gap_figure([*ROUNDS, GapRow("random start", 1.4, 1.3, 1.5, control=True)], 0.01)
    assert figure.axes[0].get_xlim() == gap_figure(ROUNDS, 0.01).axes[0].get_xlim()
    assert "+1.40" in words_in(figure)


def test_a_control_out_of_view_says_so() -> None:
    figure = control_figure({"target": [(0, 0.2), (1, 0.004)], "random start": [(0, 5.0), (1, 1.4)]}, 0.01)
    assert labels(figure) == ["target", "random start (far above, +1.40)"]


def test_a_control_that_was_looked_at_once_is_seen() -> None:
    """A line of one point draws nothing by itself."""
    figure = control_figure({"target": [(4, 0.2)], "random start": [(4, 0.1)]}, 0.01)
    marks = [line.get_marker() for line in figure.axes[0].lines]
    assert len(set(marks)) == 2 and "None" not in marks


def test_ranks_are_grouped_by_lazy_and_kept_and_gaps_stay_empty() -> None:
    figure = rank_figure([8.0, 1.0, None, 1.0], lazy=[1, 3], kept=[0, 3])
    groups = {line.get_label(): list(line.get_xdata()) for line in figure.axes[0].lines}
    assert groups["not lazy, in the target"] == [0]
    assert groups["lazy, in the target"] == [3]
    assert groups["lazy, left out"] == [1]


def test_untrained_ranks_are_drawn_for_contrast() -> None:
    figure = rank_figure([8.0, 1.0], lazy=[1], untrained=[5.0, 5.1])
    assert labels(figure) == ["not lazy", "lazy", "untrained weights"]


@pytest.mark.parametrize("width", [style.WIDE, style.NARROW])
def test_the_block_map_fills_what_the_target_holds(width: float) -> None:
    figure = block_map_figure(26, [0, 1, 1, 25], lazy=[7], width=width)
    filled = [index for index, patch in enumerate(figure.axes[0].patches) if patch.get_facecolor()[3] > 0]
    assert len(figure.axes[0].patches) == 26
    assert filled == [0, 1, 25]
    assert words_in(figure)[:3] == ["0", "1×2", "2"]
    assert len(figure.axes[0].lines) == 1


def test_inline_svg_is_the_same_twice_and_fetches_nothing() -> None:
    first, second = (style.inline_svg(gap_figure(ROUNDS, 0.01), "gap") for _ in range(2))
    assert first == second
    assert first.startswith("<svg") and "http" not in first
    assert "var(--target)" in first and style.TARGET not in first
    references = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', first))
    assert references and references <= set(re.findall(r'id="([^"]+)"', first))


def test_names_from_outside_are_text_in_a_figure() -> None:
    svg = style.inline_svg(gap_figure([GapRow("<script>$x^2$", 0.0, -0.01, 0.01)], 0.01), "gap")
    assert "&lt;script&gt;$x^2$" in svg and "<script" not in svg


def test_what_is_drawn_of_training_is_like_the_references_loss() -> None:
    """Half text, half a teacher's logits: 1.7 in all beside the reference's 3.9 would be no loss of the text."""
    curve = Curve(1, 4)
    _add(curve, {"loss": 1.72, "cross_entropy": 3.4, "logits": 0.04}, 100.0)
    _add(curve, {"loss": 3.9}, 200.0)
    assert curve.training == [(100.0, 3.4), (200.0, 3.9)]
