"""What is left of a cut's loss after a round of training, and how sure that is: a law of recorded rounds.

Of a cut that loses `lost` nats untrained a round leaves `_PART * lost ** _BEND`, and less the more tokens it has for each
parameter: half at `_HALF` tokens a parameter, a fifth at ten times as many. So a few thousand tokens take
a cut of 1 nat back to a third, and what is left then goes slowly. The constants are fitted by `benchmarks/left.py`
to 31 rounds on seven references; docs/results/left.md has its errors on references that it has not seen.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

_PART, _BEND, _HALF, _STEEPNESS = 0.337, 0.861, 0.527, 0.629
# Tokens a parameter: two recorded rounds had as many or more, so of a longer one no more is promised.
_MOST = 5.0
# Text that is read more often than this teaches little more (Muennighoff et al. 2023, arXiv 2305.16264, abstract).
READINGS = 4
# One deviation between references: in proportion, and in nats. Between rounds of one reference there is less of the second.
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
    """What a round of `tokens` is worth on a text of `text_tokens` (None: unknown), of which no more than four readings count."""
    return tokens if text_tokens is None else min(tokens, READINGS * text_tokens)


def left_after(lost: float, tokens: float, parameters: float) -> ExpectedGap:
    """What a round of `tokens` leaves of `lost` nats, in a model whose reference has `parameters`."""
    mean = _PART * max(lost, 0.0) ** _BEND / _fold(tokens, parameters)
    return ExpectedGap(lost, mean, math.hypot(_SPREAD * mean, _APART))


def taken_off(tokens: float, parameters: float) -> float:
    """The share that a round of `tokens` takes off the gap that a few steps leave."""
    return 1 - 1 / _fold(tokens, parameters)


def tokens_that_halve(parameters: int) -> int:
    """Tokens of a round that leave half of the gap that a few steps leave."""
    return round(_HALF * parameters)


def _fold(tokens: float, parameters: float) -> float:
    """How many times smaller the gap is after a round of `tokens` than after a few steps."""
    return 1 + (min(tokens / parameters, _MOST) / _HALF) ** _STEEPNESS


def after_seen(wanted: ExpectedGap, seen: ExpectedGap, gap: float) -> ExpectedGap:
    """What is expected of a cut, now that another one of the same reference was seen to come to `gap`."""
    mean = wanted.mean * max(gap, 0.0) / seen.mean if seen.mean else wanted.mean
    return ExpectedGap(wanted.lost, mean, math.hypot(_SPREAD * mean, _WITHIN))


# What a cut loses untrained, where it was not measured: 16 cuts of six references, most chosen greedily, in proportion to a
# power of the share of blocks that is left out; two in three lie within the factor e to `_LOST_SPREAD`.
_LOST, _LOST_BEND, _LOST_SPREAD = 3.5, 1.6, 0.6
_NODES = [NormalDist().inv_cdf((node + 0.5) / 20) for node in range(20)]


@dataclass(frozen=True)
class LikelyGap:
    """The gap after a round of a cut that nobody has measured: the cut's loss and the gap, (low, mean, high) of 80%, and a chance."""

    lost: tuple[float, float, float]
    gap: tuple[float, float, float]
    chance: float


def likely_after(share: float, tokens: float, parameters: float, margin: float) -> LikelyGap:
    """What a round of `tokens` leaves where `share` of the blocks is left out of a reference of so many parameters.

    `chance` is that of a gap below `margin`, over cuts that lose more and less.
    """
    lost = [_LOST * share**_LOST_BEND * math.exp(_LOST_SPREAD * node) for node in _NODES]
    after = [left_after(each, tokens, parameters) for each in lost]
    gaps = sorted(gap.mean + gap.deviation * node for gap in after for node in _NODES)
    tail = len(gaps) // 10
    chance = sum(gap.chance_below(margin) for gap in after) / len(after)
    whole = (_LOST * share**_LOST_BEND * math.exp(_LOST_SPREAD * NormalDist().inv_cdf(p)) for p in (0.1, 0.5, 0.9))
    low, middle, high = whole
    return LikelyGap((low, middle, high), (gaps[tail], sum(gaps) / len(gaps), gaps[-tail - 1]), chance)
