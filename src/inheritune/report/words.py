"""How the report and the model card write numbers: the same everywhere, short, with their sign and unit."""

import math

from inheritune.records.gap import GapResult
from inheritune.records.guard import GuardRow
from inheritune.records.token_by_token import Estimate, OfAnswers
from inheritune.words import EN_DASH

_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def large_number(value: float | None) -> str:
    """A large number in three digits: 1_228_800 is "1.23 M"; None is an en dash."""
    if value is None:
        return EN_DASH
    for index, (scale, letter) in enumerate(_SCALES):
        if value < scale:
            continue
        digits = f"{value / scale:.3g}"
        # 999_999 rounds to a thousand thousands, which is a million
        if float(digits) >= 1000 and index > 0:
            digits, letter = "1", _SCALES[index - 1][1]
        return f"{float(digits):g} {letter}"
    return f"{value:g}"


def size(count: int) -> str:
    """Bytes in the largest decimal unit that they fill: 253_113_024 is "253 MB"."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"


def flops(value: float) -> str:
    """Floating-point operations as a power of ten, to two digits."""
    if value < 1e4:
        return f"{value:.0f}"
    power = math.floor(math.log10(value))
    lead = f"{value / 10**power:.1f}"
    if lead == "10.0":
        lead, power = "1.0", power + 1
    return f"{lead} {TIMES} 10{str(power).translate(SUPERSCRIPTS)}"


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


def about(seconds: float) -> str:
    """An estimated time: two digits in its largest unit, as in "3.4 min" and "28 h"."""
    for scale, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 0.995 * scale:
            return f"{float(f'{seconds / scale:.2g}'):,g} {unit}"
    return "under 1 s"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign, a true minus; what rounds to zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def interval(gap: GapResult | GuardRow | Estimate | OfAnswers, digits: int = 4) -> str:
    """A gap with its interval: "+0.0051 [+0.0023, +0.0079]"."""
    mean, low, high = (signed(value, digits) for value in (gap.mean, gap.low, gap.high))
    return f"{mean} [{low}, {high}]"


def plain_interval(found: Estimate) -> str:
    """A value that cannot be below 0, with its interval: "0.0512 [0.0430, 0.0594]"."""
    return f"{found.mean:.4f} [{found.low:.4f}, {found.high:.4f}]"


def percent(part: float, whole: float) -> str:
    """A share in whole per cent; shares below one per cent keep a digit."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f}%" if 0 < share < 1 else f"{share:.0f}%"


def perplexity(loss: float) -> str:
    """exp(loss) in three digits or as a whole number; beyond a million only "> 1 M"."""
    if loss > math.log(1e6):
        return "> 1 M"
    value = math.exp(loss)
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def sentence(text: str) -> str:
    """A reason as a sentence of its own: a capital first, a full stop last."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
