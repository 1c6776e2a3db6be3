"""A comparison as a table: for people, as Markdown and as CSV."""

import csv
import io
from pathlib import Path

from rich.table import Table

from inheritune.disk.files import write_text
from inheritune.records.comparison import Comparison, Row, at_most
from inheritune.words import code_span, literal

_HEADS = (
    "method", "blocks", "peak lr", "seeds", "tokens", "FLOPs", "with preparation", "reference FLOPs", "loss", "gap",
    "difference", "tokens to random's loss", "lazy",
)  # fmt: skip
_NOTED = 0.05  # share of the most FLOPs by which methods may differ without a note
_LEGEND = (
    "Loss: mean over seeds, ± their standard deviation. Gap: from the reference, losses averaged over seeds, so that its interval is over"
    " documents and leaves the seeds out. Difference: from the first method, paired as the title says. Tokens to random's loss: of the first"
    " seed; ≤ where its first validation lay below already."
)
_GAP = 9
_SHORT = {0: "method", 6: "total\nFLOPs", 8: "loss", _GAP: "gap", 10: "difference"}


def terminal(found: Comparison) -> Table:
    """The table for a terminal: the columns that fit 80 characters, best method first, and gaps without interval and verdict."""
    table = Table(box=None, title=_title(found, found.reference), title_justify="left", padding=(0, 1, 0, 0))
    for head in _SHORT.values():
        table.add_column(head, no_wrap=True)
    for row in sorted(found.rows, key=lambda row: row.val_loss):
        values = _cells(found, row)
        values[_GAP] = f"{row.gap.mean:+.4f}"
        table.add_row(*[values[at] for at in _SHORT])
    return table


def markdown(found: Comparison) -> str:
    """The whole table as Markdown, with what is missing below it."""
    lines = [
        _title(found, code_span(found.reference)),
        "",
        "| " + " | ".join(_HEADS) + " |",
        "|---" * len(_HEADS) + "|",
    ]
    lines += ["| " + " | ".join(_cells(found, row)) + " |" for row in found.rows]
    lines += ["", _LEGEND, "", *(f"- `{row.method}`: {row.says}" for row in found.rows)]
    lines += ["", *(f"- Missing: {literal(line)}" for line in missing_lines(found))]
    return "\n".join(lines).strip() + "\n"


def missing_lines(found: Comparison) -> list[str]:
    """What is missing, a line for each reason."""
    names: dict[str, list[str]] = {}
    for left in found.missing:
        names.setdefault(left.reason, []).append(left.name)
    return [f"{', '.join(cells)}: {reason}" for reason, cells in names.items()]


def as_csv(found: Comparison) -> str:
    """The comparison as CSV: one line per method, numbers not rounded."""
    stream = io.StringIO()
    rows = [_flat(row) for row in found.rows]
    writer = csv.DictWriter(stream, list(rows[0]) if rows else ["method"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def write_tables(found: Comparison, folder: Path) -> None:
    """Write `compare.md` and `compare.csv` beside `compare.json`."""
    write_text(folder / "compare.md", markdown(found))
    write_text(folder / "compare.csv", as_csv(found))


def _title(found: Comparison, reference: str) -> str:
    paid = "" if found.reference_flops is None else f" (its training, counted apart: {found.reference_flops:.3g} FLOPs)"
    return (
        f"{reference}: loss {found.reference_loss:.4f} with {found.reference_depth} blocks{paid}; targets of {found.depth}, "
        f"equal in {found.budget} ({found.tokens:,} tokens of the target{_unequal(found)}); losses in nats per token{_paired(found)}"
    )


def _unequal(found: Comparison) -> str:
    """A note on how far methods that were to be equal in FLOPs differ, since they train in whole batches; empty if by little."""
    if found.budget == "tokens" or not found.rows:
        return ""
    spent = [row.cost.training_flops if found.budget == "flops" else row.cost.total_flops for row in found.rows]
    if min(spent) > (1 - _NOTED) * max(spent):
        return ""
    return (
        f", in whole batches, so that the FLOPs are {min(spent) / max(spent):.2f} to 1.00 of the most: a smaller training.batch_tokens or"
        " more tokens bring them nearer"
    )


def _paired(found: Comparison) -> str:
    units = sorted({row.difference.units for row in found.rows if row.difference})
    return f"; differences from {found.rows[0].method}, paired by {' or '.join(units)}" if units else ""


def _cells(found: Comparison, row: Row) -> list[str]:
    gap, paid = row.gap, row.needs_reference and found.reference_flops is not None
    spread = "" if row.spread is None else f" ± {row.spread:.4f}"
    moved, random = row.difference, any(each.method == "random" for each in found.rows)
    return [
        row.method, str(row.depth), f"{row.peak_lr:g}", str(len(row.seeds)), f"{row.cost.tokens:,.0f}",
        f"{row.cost.training_flops:.3g}", f"{row.cost.total_flops:.3g}",
        f"{found.reference_flops:.3g}" if paid else ("unknown" if row.needs_reference else "none"),
        f"{row.val_loss:.4f}{spread}", f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] {gap.verdict}",
        f"{moved.mean:+.4f} [{moved.low:+.4f}, {moved.high:+.4f}]" if moved else "",
        _to_random(row) if row.tokens_to_random is not None else ("never" if random else "unknown"),
        "" if row.lazy_layers is None else str(row.lazy_layers),
    ]  # fmt: skip


def _to_random(row: Row) -> str:
    mark = at_most(row.method, row.tokens_to_random, [point.tokens for point in row.curve])
    return f"{mark}{row.tokens_to_random:,.0f}"


def _flat(row: Row) -> dict[str, str | float | None]:
    plain = row.model_dump(exclude={"curve", "max_ranks", "tried", "cost", "gap", "difference", "seeds"})
    nested = {"cost": row.cost, "gap": row.gap, "difference": row.difference}
    for name, entry in nested.items():
        plain |= {f"{name}_{key}": value for key, value in (entry.model_dump() if entry else {}).items()}
    if row.difference is None:
        plain |= {f"difference_{key}": None for key in ("mean", "low", "high", "units")}
    return plain | {"seeds": len(row.seeds)}
