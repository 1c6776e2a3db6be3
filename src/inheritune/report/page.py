"""report.html: one self-contained page about a run, from its folder's files alone.

It fetches nothing and runs no script. It can be written at any moment of a run, and says what is missing.
"""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup
from pydantic import ValidationError

from inheritune.config.strict_yaml import text_of
from inheritune.disk.files import make_folder, write_text
from inheritune.records.entry import Spent
from inheritune.records.gap import GapResult
from inheritune.records.result import Footprint, Result
from inheritune.records.rows import ValidationRow
from inheritune.records.samples import Sample, SideBySide
from inheritune.report import story, words
from inheritune.report.card import TEMPLATES
from inheritune.report.folder import RowData, RunFolder, read_run
from inheritune.report.heads import heads_shown
from inheritune.report.pictures import layers_of, pictures
from inheritune.report.plan_words import held_in_words, in_two_lines
from inheritune.report.style import standalone_svg
from inheritune.words import harmless, ranges

_LOST, _LOST_MUCH = 0.5, 2.0  # nats by which a token costs the target more, for the two marks
_CONTEXT = 1024  # tokens of a text in memory
_LOOKS = 20  # rows of the table of looks


def write_report(run_folder: Path, standing: Sequence[str] = (), state: str | None = None) -> Path:
    """Write `report.html` into a run folder, and return its path.

    `standing` are the lines in which `status` says how far an unfinished run is, and `state` is its word for that. Raises InputError if
    the folder is missing or is no run folder.
    """
    run = read_run(run_folder)
    path = run_folder / "report.html"
    write_text(path, harmless(_page(run, standing, state)))
    return path


def write_svgs(run_folder: Path) -> list[Path]:
    """Write each figure of a run's page as `figures/NAME.svg` in its folder. Raises what `write_report` raises."""
    page, found = _page(read_run(run_folder), (), None), list[Path]()
    make_folder(run_folder / "figures")
    for svg in re.findall(r'<div class="(?:wide|chart[^"]*)">(<svg\b.*?</svg>)</div>', page, re.DOTALL):
        name = re.search(r'id="([\w-]+?)-wide-', svg)
        assert name is not None, "each figure's ids begin with its name"
        found.append(run_folder / "figures" / f"{name[1]}.svg")
        write_text(found[-1], standalone_svg(svg))
    return found


@cache
def environment() -> jinja2.Environment:
    """The Jinja environment with our filters for numbers, cached so that each template compiles once; text from outside is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "count": words.large_number,
        "flops": words.flops,
        "duration": words.duration,
        "signed": words.signed,
        "interval": words.interval,
        "ranges": ranges,
        "sentence": words.sentence,
    }
    return environment


def _page(run: RunFolder, standing: Sequence[str], state: str | None) -> str:
    result = run.result
    template = environment().get_template("report.html.j2")
    return template.render(
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        name=_model_name(run),
        result=result,
        verdict=story.verdict(run, state),
        notices=run.notices,
        standing=standing,
        looks=[] if result else _looks(run),
        plan=[] if result or run.plan is None else list(in_two_lines(run.plan)),
        comparison=_comparison(result) if result else [],
        reference_training=story.reference_training(result) if result else "",
        speed_told=story.speed_told(result) if result else "",
        packing_told=story.packing_told(result) if result else "",
        marked=_marked,
        guard=story.able(result.guard) if result and result.guard else "",
        by_token=list(story.token_rows(result.token_by_token)) if result and result.token_by_token else [],
        decisions=_decisions(run),
        choice=run.choice,
        proof=_proof(run),
        controls=story.controls(result) if result else [],
        control_label=story.control_label,
        ledger=_ledger(result) if result else [],
        spent=story.spent(result) if result else "",
        pace=story.pace(run) if result else "",
        planned=list(held_in_words(result)) if result else [],
        suggestion=_suggestion(run.profile),
        caveats=_caveats(run.profile),
        threshold=f"{100 * ((run.profile or {}).get('threshold') or 0.9):g}%",
        recipe=text_of(dict(run.config)) if run.config else "",
        pictures=pictures(run),
        heads=heads_shown(layers_of(run), (run.profile or {}).get("lazy_heads") or {}),
    )


def _model_name(run: RunFolder) -> str:
    if run.result:
        return run.result.reference.model
    named = (run.config or {}).get("reference")
    return named if isinstance(named, str) else run.path.name


def _comparison(result: Result) -> list[tuple[str, str, str, str]]:
    """Rows of reference beside target: what, the reference's, the target's, the difference."""
    reference, target = result.reference, result.target
    return [
        ("Blocks", str(reference.depth), str(target.depth), _change(reference.depth, target.depth)),
        (
            "Parameters",
            words.large_number(reference.parameters),
            words.large_number(target.parameters),
            _change(reference.parameters, target.parameters),
        ),
        (
            "Validation loss",
            f"{reference.val_loss:.4f}",
            f"{target.val_loss:.4f}",
            words.signed(target.val_loss - reference.val_loss),
        ),
        ("Perplexity", *_perplexities(reference.val_loss, target.val_loss)),
        *_footprints(reference.footprint, target.footprint),
        *_speeds(result.side_by_side),
    ]


def _speeds(shown: SideBySide | None) -> list[tuple[str, str, str, str]]:
    """The row of generation speed in tokens per second, if the run has measured it."""
    if shown is None or not shown.reference_speed:
        return []
    before, after = shown.reference_speed, shown.target_speed
    return [("Tokens per second", f"{before:,.3g}", f"{after:,.3g}", "on the documents shown")]


def _marked(sample: Sample) -> list[tuple[str, str]]:
    """The tokens of a sample, each with the CSS class of its mark: lost1, lost2, or none."""
    marks = [("lost2" if lost >= _LOST_MUCH else "lost1" if lost >= _LOST else "") for lost in sample.lost]
    return list(zip(sample.pieces, marks, strict=True))


def _footprints(reference: Footprint | None, target: Footprint | None) -> list[tuple[str, str, str, str]]:
    """Rows of what both models take on the disk, and what each token adds to their KV caches."""
    if reference is None or target is None:
        return []
    dtypes = target.dtype if target.dtype == reference.dtype else f"{reference.dtype} and {target.dtype}"
    rows = [(f"Weights on disk ({dtypes})", reference.weight_bytes, target.weight_bytes)]
    if reference.cache_bytes_per_token and target.cache_bytes_per_token:
        rows.append(("KV cache per token", reference.cache_bytes_per_token, target.cache_bytes_per_token))
        sizes = [one.weight_bytes + _CONTEXT * (one.cache_bytes_per_token or 0) for one in (reference, target)]
        rows.append((f"Weights and cache at {_CONTEXT:,} tokens", sizes[0], sizes[1]))
    return [(name, words.size(one), words.size(other), _change(one, other)) for name, one, other in rows]


def _perplexities(reference: float, target: float) -> tuple[str, str, str]:
    ratio = 100 * (math.exp(min(target - reference, 50)) - 1)
    return words.perplexity(reference), words.perplexity(target), f"{words.signed(ratio, 1)}%"


def _change(before: float, after: float) -> str:
    return f"{words.signed(100 * (after / before - 1), 0)}%" if before else ""


def _decisions(run: RunFolder) -> list[tuple[int, str]]:
    if run.result:
        return [(decision.round, decision.reason) for decision in run.result.decisions]
    return [(row.get("round", 0), str(row.get("reason", ""))) for row in run.of_kind("decision")]


def _proof(run: RunFolder) -> list[str]:
    """The checks that the saved target passed before its training; in an unfinished run, those of the newest proof."""
    wanted = f"-{run.result.target.depth}-blocks" if run.result else ""
    found = [proof for name, proof in run.proofs.items() if name.endswith(wanted) and proof.get("passed")]
    checks = found[-1].get("checks") if found else None
    return [str(check.get("name")) for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []


class LedgerLine(NamedTuple):
    """A phase of the run, what it spent, and its share of all FLOPs in percent."""

    phase: str
    spent: Spent
    share: float


def _ledger(result: Result) -> list[LedgerLine]:
    whole = result.ledger.total.flops
    return [
        LedgerLine(phase, spent, 100 * spent.flops / whole if whole else 0.0)
        for phase, spent in result.ledger.phases.items()
    ]


class LookLine(NamedTuple):
    """A look (a validation) at the target in an unfinished run."""

    round: int
    depth: int
    step: int
    tokens: int
    val_loss: float
    gap: GapResult | None


def _looks(run: RunFolder) -> list[LookLine]:
    """The last looks, of those that the log holds whole."""
    found = list[LookLine]()
    for row in run.of_kind("validation"):
        with suppress(ValidationError):
            known = {key: value for key, value in row.items() if key in ValidationRow.model_fields}  # without the seal
            look = ValidationRow.model_validate(known)
            gap = GapResult.of(look.gap) if look.gap else None
            found.append(LookLine(look.round, look.depth, look.step, look.tokens, look.val_loss, gap))
    return found[-_LOOKS:]


def _suggestion(profile: RowData | None) -> str:
    suggestion = (profile or {}).get("suggestion")
    return str(suggestion.get("reason", "")) if isinstance(suggestion, dict) else ""


def _caveats(profile: RowData | None) -> list[str]:
    caveats = (profile or {}).get("caveats")
    return [str(caveat) for caveat in caveats] if isinstance(caveats, list) else []
