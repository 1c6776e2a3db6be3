"""A profile in a terminal: a table of layers, the suggested depth, and what a rank hides."""

import shlex
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from inheritune.records.profile import NO_TIME, SURE, DocumentsRead, Layer, ProfileRecord
from inheritune.report import words
from inheritune.words import nouns, plural, ranges, show

COLUMNS = ("mass", "k*≤1.5", "sink", "nats", "out", "infl", "exit", "w/o")
LEGEND = (
    "mass: mean m* of the heads; k*≤1.5: share of heads whose mean k* is at most that; sink: attention on the first key; nats: entropy; out: a head's norm over the residual's; infl: block "
    "influence; exit, w/o: loss of an exit after the layer, and without it"
)
_UNMEASURED = " -: not measured."
_SHOWN = 5  # numbers of removed blocks


def answer(profile: ProfileRecord) -> Iterator[str]:
    """The main findings of a diagnosis in a few lines: ranks, masses, lazy layers, and lazy heads by name."""
    yield f"On {_measured(profile)}, loss {profile.loss:.3f}:"
    yield f"MaxRank by layer: {' '.join(_number(layer.max_rank, 1) for layer in profile.layers)}"
    yield f"mass by layer: {' '.join(_number(layer.mass, 1) for layer in profile.layers)}"
    yield lazy(profile)


def again(profile: ProfileRecord, same: bool) -> Iterator[str]:
    """What more sequences show: only what is new, since the table at the end has the rest."""
    said = f"On {_measured(profile)}, loss {profile.loss:.3f}"
    yield f"{said}: the same layers and heads are lazy" if same else f"{said}:"
    if not same:
        yield lazy(profile)


def lazy(profile: ProfileRecord) -> str:
    """The lazy layers, and the lazy heads by name, in a sentence each, with how certain they are."""
    named = [
        f"layer {layer}: {nouns(len(heads), 'head')} {ranges(heads)}" for layer, heads in profile.lazy_heads.items()
    ]
    names = f": {'; '.join(named)}" if named else ""
    return (
        f"Lazy in the strict sense (k* is 1 in every head on every sequence): {_strict(profile)}. "
        f"Lazy heads (mean k* up to 1.5), {_counted(profile)}{names}."
    )


def _strict(profile: ProfileRecord) -> str:
    """The lazy layers, or the nearest one, with the share of sequences and its interval."""
    nearest = max(profile.layers, key=lambda layer: layer.lazy_sequences or 0)
    if not nearest.lazy_sequences:
        return "no layer"
    on = f"on {round(nearest.lazy_sequences * profile.sequences)} of {plural(profile.sequences, 'sequence')}"
    if nearest.lazy_sequences_low is not None and nearest.lazy_sequences_high is not None:
        on += f" (95% interval of the share: {nearest.lazy_sequences_low:.0%} to {nearest.lazy_sequences_high:.0%})"
    lazy_layers = profile.lazy_layers
    if lazy_layers:
        return f"{nouns(len(lazy_layers), 'layer')} {ranges(lazy_layers)}, {on}"
    return f"no layer; the nearest is layer {nearest.index}, {on}"


def _counted(profile: ProfileRecord) -> str:
    """How many heads are lazy, how many of them surely, and how many others may be."""
    heads = [head for layer in profile.layers for head in layer.heads]
    count = sum(map(len, profile.lazy_heads.values()))
    sure = sum(head.lazy_probability >= SURE for head in heads)
    possible = sum(head.lazy_probability > 1 - SURE for head in heads)
    others = f"; {plural(possible - count, 'other')} may be" if possible > count else ""
    return f"{count} of {len(heads)}" + (f" ({sure} surely, {count - sure} open{others})" if possible else "")


def table_lines(profile: ProfileRecord) -> Iterator[Table | str]:
    """What a terminal shows of a profile, from top to bottom, for rich to print."""
    yield _table(profile)
    yield lazy(profile)
    yield "What a rank hides:"
    yield from (f"- {caveat}" for caveat in profile.caveats)
    yield from left_out(profile, "--minutes")
    yield from () if profile.at_chance else cheapest_cuts(profile)
    yield from suggested(profile)


def short_of_time(profile: ProfileRecord) -> bool:
    """Whether more minutes would measure more."""
    curves = profile.curves
    return any(NO_TIME in what for what in profile.left_out) or bool(curves and (curves.left_out or curves.cut_short))


def left_out(profile: ProfileRecord, minutes: str) -> Iterator[str]:
    """What was not measured, and, in `minutes`, the name of the setting that gives it more time."""
    if profile.left_out:
        yield f"Left out: {'; '.join(profile.left_out)}."
    if short_of_time(profile):
        left = profile.curves.seconds_left if profile.curves else None
        takes = "" if left is None else f": the cuts that were left out take about {words.about(left)}"
        yield f"For what had no time, give more {minutes}{takes}."


def cheapest_cuts(profile: ProfileRecord) -> Iterator[str]:
    """The least costly measured cut for each of the first few numbers of removed blocks.

    Only numbers for which more than the first blocks were tried.
    """
    curves = profile.curves
    chosen = [*curves.run, *curves.scattered] if curves else []
    measured = [*chosen, *(curves.first if curves else [])]
    tried = {cut.removed for cut in chosen}
    few = [[cut for cut in measured if cut.removed == count] for count in range(1, _SHOWN + 1) if count in tried]
    best = [min(cuts, key=lambda cut: cut.rise) for cuts in few if cuts]
    if best:
        yield "The least costly cuts that were measured, before any training:"
    for cut in best:
        gone = [block for block in range(profile.depth) if block not in cut.blocks]
        yield f"- {plural(len(cut.blocks), 'block')}, without {show(gone)}: {cut.rise:+.3f} nats"


def suggested(profile: ProfileRecord) -> Iterator[str]:
    """The suggested depth, why, what that rests on, and the command that makes the model."""
    suggestion = profile.suggestion
    depth = f"Suggested depth {suggestion.depth} of {profile.depth}" if suggestion.depth else "No depth is suggested"
    yield f"{depth}: {suggestion.reason}"
    yield f"It rests on {suggestion.rests_on}."
    if suggestion.blocks is not None:
        yield f"To make the suggested one: inheritune inherit {shlex.quote(profile.model)} smaller --blocks {show(suggestion.blocks)}"


def _ranks(profile: ProfileRecord) -> str:
    """Return the caption of the first columns: MaxRank, and the contrasts beside it."""
    names = [contrast.name for contrast in profile.contrasts]
    beside = [
        *(["untrained weights (fresh)"] if "untrained" in names else []),
        *(["other lengths (T)"] if any(name != "untrained" for name in names) else []),
    ]
    said = "MaxRank: the largest mean rank k* of a layer's heads ± its standard error"
    return f"{said}, beside that of {' and of '.join(beside)}. " if beside else f"{said}. "


def _table(profile: ProfileRecord) -> Table:
    chance = f", at chance (a guess's is {profile.chance_loss:.3f})" if profile.at_chance else ""
    title = f"{profile.model}: {_measured(profile)}, loss {profile.loss:.3f}{chance}"
    curves = profile.curves
    on = f", on {plural(curves.sequences, 'sequence')}; whole: the whole model's on the same." if curves else "."
    table = Table(
        title=title, caption=_ranks(profile) + LEGEND + on + _UNMEASURED, box=SIMPLE_HEAD, show_edge=False, padding=0
    )
    beside = ["fresh" if contrast.name == "untrained" else f"T {contrast.length}" for contrast in profile.contrasts]
    sees = ["sees"] if any(layer.window for layer in profile.layers) else []
    for name in ("layer", *sees, "MaxRank", *beside, *COLUMNS):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in profile.layers:
        index, *row = _row(layer, [contrast.max_rank[layer.index] for contrast in profile.contrasts])
        table.add_row(index, *([_sees(layer)] if sees else []), *row)
    if curves:
        whole = [_number(curves.whole_loss, 2), _number(curves.whole_loss, 3)]
        table.add_row("whole", *[""] * (len(table.columns) - 3), *whole)
    return table


def _sees(layer: Layer) -> str:
    """How many tokens a layer's queries look back to."""
    return "-" if not layer.heads else "all" if layer.window is None else f"{layer.window:,}"


def _measured(profile: ProfileRecord) -> str:
    return f"{plural(profile.sequences, 'sequence')} of {profile.longest} tokens{_from(profile.documents)}"


def _from(documents: DocumentsRead | None) -> str:
    """From how many documents the sequences come, where that is known."""
    if documents is None:
        return ""
    if documents.of == 1:
        return " from one document"
    return f" from {documents.read:,} of {'' if documents.whole else 'the first '}{documents.of:,} documents"


def _row(layer: Layer, beside: list[float | None]) -> list[str]:
    def mean(name: str) -> float | None:
        values = [getattr(head, name) for head in layer.heads]
        return sum(values) / len(values) if values and None not in values else None

    return [
        f"{layer.index}{' lazy' if layer.lazy else ''}",
        _plus_minus(layer.max_rank, layer.max_rank_se),
        *(_number(rank, 1) for rank in beside),
        _number(layer.mass, 1),
        "-" if layer.lazy_share is None else f"{layer.lazy_share:.0%}",
        _number(mean("first_key"), 2),
        _number(mean("entropy"), 2),
        _number(mean("output"), 3),
        _number(layer.influence, 3),
        _number(layer.exit_loss, 2),
        _number(layer.without_loss, 3),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _plus_minus(value: float | None, error: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ± {error:.1f}"
