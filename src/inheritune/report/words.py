"""How the report and the model card write numbers: the same everywhere, short, with their sign and unit."""

import math
from collections.abc import Sequence

from inheritune.result import GapResult

_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
MINUS = "\N{MINUS SIGN}"


def count(value: float | None) -> str:
    """A large number in three digits: 1_228_800 is "1.23 M"; None is an en dash."""
    if value is None:
        return "–"
    for index, (scale, letter) in enumerate(_SCALES):
        if value < scale:
            continue
        digits = f"{value / scale:.3g}"
        # 999_999 rounds to a thousand thousands, which is a million
        if float(digits) >= 1000 and index > 0:
            digits, letter = "1", _SCALES[index - 1][1]
        return f"{float(digits):g} {letter}"
    return f"{value:.3g}" if value != int(value) else str(int(value))


def flops(value: float) -> str:
    """Floating-point operations, as 1.4 × 10¹³."""
    if value < 1e4:
        return f"{value:.0f}"
    power = math.floor(math.log10(value))
    lead = f"{value / 10**power:.1f}"
    if lead == "10.0":
        lead, power = "1.0", power + 1
    return f"{lead} × 10{str(power).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def duration(seconds: float) -> str:
    """Wall-clock time in its two largest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign, a true minus; what rounds to nothing has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def interval(gap: GapResult) -> str:
    """A gap with its interval: "+0.005 [+0.002, +0.008]"."""
    return f"{signed(gap.mean)} [{signed(gap.low)}, {signed(gap.high)}]"


def percent(part: float, whole: float) -> str:
    """A share in whole per cent; shares below one per cent keep a digit."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f}%" if 0 < share < 1 else f"{share:.0f}%"


def ranges(blocks: Sequence[int]) -> str:
    """Block indices with their runs closed up: [0, 1, 2, 5, 7, 8] is "0–2, 5, 7–8"."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and block == runs[-1][-1] + 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def plural(number: int, noun: str) -> str:
    """ "1 block", "2 blocks", with thin groups of thousands."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def perplexity(loss: float) -> str:
    """exp(loss) in three digits; beyond a million it says only that."""
    return f"{math.exp(loss):.3g}" if loss < math.log(1e6) else "> 1 M"
