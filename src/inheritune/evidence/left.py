"""The gap that a round of training leaves of a cut's loss, with its uncertainty: a law fitted to recorded rounds.

Of a cut that loses `lost` nats untrained, a round leaves `_PART * lost ** _BEND`, and less the more tokens per parameter it
has: half of that at `_HALF` tokens per parameter, a fifth at ten times as many. So `_FEWEST` tokens, the
shortest recorded round, reduce a cut of 1 nat to a third, and the rest shrinks slowly. A shorter round is taken to do as much
less as it has fewer tokens. The constants are fitted by `benchmarks/left.py` to 31 rounds on seven references;
docs/results/left.md has the errors on references that the fit has not seen.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

_PART, _BEND, _HALF, _STEEPNESS = 0.337, 0.861, 0.527, 0.629
# Tokens per parameter: only two recorded rounds had as many or more, so a longer round is promised no more.
_MOST = 5.0
_FEWEST = 16_384  # tokens of the shortest recorded round
# Text that is read more often than this teaches little more (Muennighoff et al. 2023, arXiv 2305.16264, abstract).
READINGS = 4
# One standard deviation between references: in proportion, and in nats. Between rounds of one reference the latter is smaller.
_SPREAD, _APART, _WITHIN = 0.354, 0.011, 0.004


@dataclass(frozen=True)
class ExpectedGap:
    """The gap in nats per token that is expected after a round, for a cut that loses `lost` untrained."""

    lost: float
    mean: float
    deviation: float

    def chance_below(self, margin: float) -> float:
        """The probability that the gap is below `margin`."""
        return NormalDist(self.mean, self.deviation).cdf(margin)

    def __str__(self) -> str:
        said = f"the cut loses {self.lost:.3f} nats untrained, of which {self.mean:.3f} ± {self.deviation:.3f}"
        return f"{said} is expected to be left after a round"


def new_tokens(tokens: int, text_tokens: int | None) -> int:
    """The tokens that count of a round of `tokens` on a text of `text_tokens` (None: unknown): four readings of it at most."""
    return tokens if text_tokens is None else min(tokens, READINGS * text_tokens)


def left_after(lost: float, tokens: float, parameters: float) -> ExpectedGap:
    """The gap that a round of `tokens` leaves of `lost` nats, for a reference of so many `parameters`."""
    whole = max(lost, 0.0)
    after_few = _PART * whole**_BEND / _fold(tokens, parameters)
    undone = max(0.0, 1 - tokens / _FEWEST)
    mean = after_few + undone * max(0.0, whole - after_few)
    return ExpectedGap(lost, mean, math.hypot(_SPREAD * mean, _APART))


def taken_off(tokens: float, parameters: float) -> float:
    """The share that a round of `tokens` takes off the gap that a few steps leave."""
    return 1 - 1 / _fold(tokens, parameters)


def tokens_that_halve(parameters: int) -> int:
    """Tokens of a round that halve the gap that a few steps leave."""
    return round(_HALF * parameters)


def _fold(tokens: float, parameters: float) -> float:
    """How many times smaller the gap is after a round of `tokens` than after a few steps."""
    return 1 + (min(tokens / parameters, _MOST) / _HALF) ** _STEEPNESS


def after_seen(wanted: ExpectedGap, seen: ExpectedGap, gap: float) -> ExpectedGap:
    """Update what is expected of the cut `wanted`, now that the cut `seen` of the same reference has come to `gap`."""
    mean = wanted.mean * max(gap, 0.0) / seen.mean if seen.mean else wanted.mean
    return ExpectedGap(wanted.lost, mean, math.hypot(_SPREAD * mean, _WITHIN))


# The untrained loss of a cut that was not measured: proportional to a power of the share of blocks left out, fitted to 16 cuts
# of six references, most chosen greedily; two in three lie within the factor e to `_LOST_SPREAD`.
_LOST, _LOST_BEND, _LOST_SPREAD = 3.5, 1.6, 0.6
_NODES = [NormalDist().inv_cdf((node + 0.5) / 20) for node in range(20)]


@dataclass(frozen=True)
class LikelyGap:
    """The gap after a round of an unmeasured cut: its untrained loss (low, median, high) and its gap (low, mean, high), of 80%, and a chance."""

    lost: tuple[float, float, float]
    gap: tuple[float, float, float]
    chance: float


def likely_after(share: float, tokens: float, parameters: float, margin: float) -> LikelyGap:
    """The gap that a round of `tokens` leaves if `share` of the blocks is left out of a reference of so many `parameters`.

    `chance` is the probability of a gap below `margin`, averaged over cuts that lose more and less.
    """
    lost = [_LOST * share**_LOST_BEND * math.exp(_LOST_SPREAD * node) for node in _NODES]
    after = [left_after(each, tokens, parameters) for each in lost]
    gaps = sorted(gap.mean + gap.deviation * node for gap in after for node in _NODES)
    tail = len(gaps) // 10
    chance = sum(gap.chance_below(margin) for gap in after) / len(after)
    whole = (_LOST * share**_LOST_BEND * math.exp(_LOST_SPREAD * NormalDist().inv_cdf(p)) for p in (0.1, 0.5, 0.9))
    low, middle, high = whole
    return LikelyGap((low, middle, high), (gaps[tail], sum(gaps) / len(gaps), gaps[-tail - 1]), chance)
