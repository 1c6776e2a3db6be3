"""The paper's claims, tested on a reference that is trained out: each method at several lengths, and a verdict on each claim by a rule.

    python experiments/paper.py --reference MODEL --train TEXT --tune BOOKS.jsonl --held BOOKS.jsonl --tokens T --out DIR
                                [--depth 8] [--shortest 4] [--only METHOD/N ...] [--shard 1/2] [--gather] [--figure PNG]

T is the number of tokens that the reference was trained on; a cell's length is a share of it. `--shortest N` leaves out cells longer
than T/N, and `--only published/1` runs that method at that share alone. The rounds of the literal loop are `published` at T, each with
a `--depth` and a folder of its own. Learning rates are chosen first, at T/64 on the tuning books: the best of three, and of further ones
while the best is at the grid's end. Each seed of a cell is an `inheritune compare` of one method in a folder of its own, so the same
command continues after a stop, and several commands can share the work (`--shard`); cells come in the order of how much depends on
them. `--gather` trains nothing. The rules, written before any cell was trained; differences are means over seeds, paired by document,
with books as clusters (95%), and the margin M is 0.01 nats:

- *A. matches* (claims 2, 3 of the paper's section 5): `published` at its longest is not above the reference by M. In addition: it is not
  above, by M, the reference trained on for as many tokens; this alone says what depth costs.
- *B. converges faster than random*: it is below random's end at the same length, at every length where both were run.
- *C. better than random with twice the tokens*: below it at the longest length where both were run.
- *D. better than stacking, hybrid, half width; E. than distillation*: below each, at equal tokens. Both have their FLOPs in the table.
- *F. attention and MLP both matter, norms do not*: either one alone is above the whole by M, the whole without norms is not.

"Below" and "above by M" hold when the interval lies wholly there, "not above by M" when it lies wholly below M; else it cannot be told.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from inheritune.comparison.sweep import compare
from inheritune.disk.files import write_text
from inheritune.evidence.gap import Gap, gap
from inheritune.progress import Progress
from inheritune.records.cells import CellResult, ComparisonBasis
from inheritune.records.comparison import Comparison
from inheritune.records.stages import LOSSES, read_losses
from inheritune.report.style import CONTROL, INK, LAZY, MUTED, REFERENCE, TARGET, WIDE, figure_style

MARGIN, RATES, TUNED_AT = 0.01, (1.5e-3, 3e-3, 6e-3), 64
TUNED = ("published", "random", "reference", "inheritune")  # the others take the rate of the start they resemble
LIKE = {
    "stacking": "random", "stacking-twice": "random", "random-twice": "random", "logits-random": "random",
    "distilbert-random": "random",
}  # fmt: skip
RIVALS = ("stacking", "stacking-twice", "hybrid", "half-width")
TAUGHT = ("logits-inherited", "logits-random", "distilbert")
PARTS = ("attention-only", "mlp-only", "without-norms")
LOOKS = {
    "published": {"color": INK}, "inheritune": {"color": TARGET}, "reference": {"color": REFERENCE},
    "random": {"color": CONTROL, "linestyle": ":"}, "stacking": {"color": LAZY, "linestyle": "--"},
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A method at the length T / `share`, with `seeds` seeds."""

    method: str
    share: int
    seeds: int = 1

    @property
    def length(self) -> str:
        """The length in words: "T/4"."""
        return f"T/{self.share}" if self.share > 1 else "T"


CELLS = (
    *(Cell(name, 16) for name in ("published", "reference", "random", "inheritune", *RIVALS, *TAUGHT, "random-twice", *PARTS)),
    *(Cell(name, 4, 3) for name in ("published", "random", "reference", "inheritune")),
    *(Cell(name, 4) for name in ("random-twice", *RIVALS, *TAUGHT, *PARTS)),
    *(Cell(name, 1, 2) for name in ("published", "reference", "random")),
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """The cells of one experiment, in folders below `out`, and what they are made from."""

    reference: str
    train: str
    tune: str
    held: str
    tokens: int
    depth: int
    out: Path

    def rate(self, method: str) -> float:
        """The best peak rate of a method's start at T/64 on the tuning books; the grid grows until the best is inside."""
        start, rates = LIKE.get(method, method if method in TUNED else "published"), list(RATES)
        while True:
            found = self._compare(start, TUNED_AT, 0, rates, self.tune, self.out / "rates" / start)
            tried = {float(rate): loss for rate, loss in found.rows[0].tried.items() if loss is not None}
            best = min(tried, key=lambda rate: tried[rate])
            if min(rates) < best < max(rates):
                return best
            rates.append(best * 2 if best == max(rates) else best / 2)

    def run(self, cell: Cell, seed: int) -> None:
        """Train a cell on a seed, unless that was done before."""
        place = self.out / f"{cell.method}-{cell.share}-s{seed}"
        self._compare(cell.method, cell.share, seed, [self.rate(cell.method)], self.held, place)

    def trained(self, cell: Cell, file: str) -> list[Path]:
        """The paths of `file` for all seeds on which a cell was trained to its end."""
        return sorted(path.parent / file for path in self.out.glob(f"{cell.method}-{cell.share}-s*/cells/*/cell.json"))

    def losses(self, cell: Cell) -> np.ndarray | None:
        """A cell's losses by document, averaged over its seeds; None if it was not trained."""
        found = self.trained(cell, LOSSES)
        return np.mean([read_losses(one) for one in found], axis=0) if found else None

    def results(self, cell: Cell) -> list[CellResult]:
        """The results of a cell, one for each seed."""
        return [CellResult.load(one) for one in self.trained(cell, "cell.json")]

    def _compare(self, method: str, share: int, seed: int, rates: list[float], valid: str, out: Path) -> Comparison:
        tokens = self.tokens // share
        return compare(
            str(self.out / "recipe.yaml"), out=str(out), progress=Progress(), methods=[method], seeds=1, seed=seed,
            learning_rates=rates, data__valid=valid, training__tokens=tokens,
            training__warmup_tokens=min(tokens // 20, 1_000_000),
        )  # fmt: skip

    def recipe(self) -> None:
        """Write the recipe that all cells share."""
        data = {
            "train": self.train, "sequence_length": 256, "valid_documents": 40, "valid_tokens_per_document": 2048,
            "valid_read": "spread",
        }  # fmt: skip
        training = {
            "optimizer": "adamw", "schedule": "linear", "batch_tokens": 4096, "micro_batch_size": 8, "peak_lr": RATES[1],
            "weight_decay": 0.1, "evaluate_every": 250, "checkpoint_every": 250, "tokens": self.tokens,
        }  # fmt: skip
        tree = {
            "name": "paper",
            "reference": self.reference,
            "depth": self.depth,
            "methods": ["published"],
            "data": data,
        }
        write_text(
            self.out / "recipe.yaml", json.dumps(tree | {"training": training, "match": {"margin": MARGIN}}, indent=1)
        )


@dataclass(frozen=True)
class Verdicts:
    """The cells that were trained, and what the rules say about them."""

    table: Table
    cells: tuple[Cell, ...]

    @property
    def basis(self) -> ComparisonBasis:
        """The documents that all cells are measured on, and the reference's losses there."""
        return ComparisonBasis.load(next(self.table.out.glob(f"*-s[0-9]*/shards/*/{ComparisonBasis.NAME}")))

    def difference(self, one: Cell, other: Cell | None) -> Gap:
        """The gap of a cell to another one, or to the reference if `other` is None: paired by document, with books as clusters."""
        basis = self.basis
        losses = np.array(basis.losses) if other is None else self.table.losses(other)
        own = self.table.losses(one)
        assert own is not None and losses is not None
        return gap(own, losses, tokens=basis.weights, documents=basis.clusters, margin=MARGIN, confidence=0.95)

    def of(self, method: str) -> list[Cell]:
        """The cells of a method that were run, the longest first."""
        return sorted((cell for cell in self.cells if cell.method == method), key=lambda cell: cell.share)

    def pairs(self, method: str) -> Iterator[tuple[Cell, Cell]]:
        """The cells of `published` and of another method at the lengths that both have, the longest first."""
        other = {cell.share: cell for cell in self.of(method)}
        return ((cell, other[cell.share]) for cell in self.of("published") if cell.share in other)

    def lines(self) -> Iterator[str]:
        """Each claim with its figures and its verdict."""
        if own := self.of("published"):
            yield f"- A. `published` at {own[0].length} beside the reference: {self._not_above(self.difference(own[0], None))}"
        for name, more in (
            ("reference", "the reference trained on"),
            ("random", "random"),
            ("random-twice", "random, twice as long"),
        ):
            for one, other in self.pairs(name):
                found = self.difference(one, other)
                told = self._not_above(found) if name == "reference" else self._below(found)
                yield f"- {'A' if name == 'reference' else 'B' if name == 'random' else 'C'}. beside {more}, {one.length}: {told}"
        for name in (*RIVALS, *TAUGHT):
            for one, other in self.pairs(name):
                yield f"- {'D' if name in RIVALS else 'E'}. beside {name}, {one.length}: {self._below(self.difference(one, other))}"
        for name in PARTS:
            for one, other in self.pairs(name):
                yield f"- F. {name} beside the whole, {one.length}: {self._above(self.difference(other, one))}"

    def _below(self, found: Gap) -> str:
        return _told(found, "below" if found.high < 0 else "not below" if found.low > 0 else "cannot be told")

    def _not_above(self, found: Gap) -> str:
        return _told(
            found,
            "not above by the margin" if found.high < MARGIN else "above" if found.low > MARGIN else "cannot be told",
        )

    def _above(self, found: Gap) -> str:
        return _told(
            found,
            "above by the margin" if found.low > MARGIN else "not above" if found.high < MARGIN else "cannot be told",
        )


def _told(found: Gap, verdict: str) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], **{verdict}**"


def rows(verdicts: Verdicts) -> Iterator[str]:
    """The table, one line per cell: tokens, FLOPs of training and with preparation, gap to the reference."""
    yield "| method | length | seeds | peak rate | tokens | training FLOPs | with preparation | gap to the reference |"
    yield "|---|---|---|---|---|---|---|---|"
    for cell in verdicts.cells:
        found, between = verdicts.table.results(cell), verdicts.difference(cell, None)
        first = found[0]
        yield (
            f"| {cell.method} | {cell.length} | {len(found)} | {first.peak_lr:g} | {first.tokens:,} | {first.flops:.3g}"
            f" | {first.flops + first.prepared_flops:.3g} | {between.mean:+.4f} [{between.low:+.4f}, {between.high:+.4f}] |"
        )


def draw(verdicts: Verdicts) -> Figure:
    """Draw validation loss over tokens on the left, and every cell's gap with its interval on the right.

    The left panel has the cells of one length: the longest at which at least three were run.
    """
    figure = Figure(figsize=(WIDE, 5.0), layout="constrained")
    curves, gaps = figure.subplots(1, 2)
    shares = [cell.share for cell in verdicts.cells]
    share = min(shares, key=lambda share: (shares.count(share) < 3, share))
    for cell in (cell for cell in verdicts.cells if cell.share == share):
        place = verdicts.table.trained(cell, "cell.json")[0].parents[2]
        row = json.loads((place / "compare.json").read_text(encoding="utf-8"))["rows"][0]
        points = [(point["tokens"] / 1e6, point["val_loss"]) for point in row["curve"]]
        shown = LOOKS.get(cell.method, {"color": MUTED, "linewidth": 0.8})
        curves.plot(*zip(*points, strict=True), label=cell.method if cell.method in LOOKS else None, **shown)
    level = np.average(verdicts.basis.losses, weights=verdicts.basis.weights)
    curves.axhline(level, color=REFERENCE, linestyle="--", linewidth=1, label="reference as it is")
    curves.set_ylim(level - 0.1, level + 1.2)
    curves.set_xlabel("million tokens")
    curves.set_ylabel("validation loss, nats per token")
    curves.legend(frameon=False, fontsize=7)
    found = [(f"{cell.method}, {cell.length}", verdicts.difference(cell, None)) for cell in reversed(verdicts.cells)]
    for height, (_, between) in enumerate(found):
        gaps.plot([between.low, between.high], [height, height], color=INK, linewidth=1.2)
        gaps.plot(between.mean, height, "o", color=INK, markersize=3.5)
    gaps.axvspan(-1, MARGIN, color=MUTED, alpha=0.12, linewidth=0)
    gaps.set_yticks(range(len(found)), [name for name, _ in found], fontsize=7)
    gaps.set_xlim(min(between.low for _, between in found) - 0.05, max(between.high for _, between in found) + 0.05)
    gaps.set_xlabel("gap to the reference, nats per token")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("reference", "train", "tune", "held"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokens", type=int, required=True, help="what the reference was trained on")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--shortest", type=int, default=1, help="no cell longer than this part of the tokens")
    parser.add_argument("--only", nargs="+", metavar="METHOD/N", help="cells of these methods at T/N")
    parser.add_argument("--shard", default="1/1", help="I/N: every N-th cell and seed, from the I-th on")
    parser.add_argument("--gather", action="store_true", help="train nothing")
    parser.add_argument("--figure", type=Path, help="draw what was run")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    table = Table(given.reference, given.train, given.tune, given.held, given.tokens, given.depth, given.out)
    named = {f"{cell.method}/{cell.share}": cell for cell in CELLS if cell.share >= given.shortest}
    if unknown := set(given.only or ()) - set(named):
        parser.error(f"--only: no cell {', '.join(sorted(unknown))}; there are {', '.join(named)}")
    chosen = [cell for name, cell in named.items() if given.only is None or name in given.only]
    if not given.gather:
        given.out.mkdir(parents=True, exist_ok=True)
        table.recipe()
        first, count = map(int, given.shard.split("/"))
        work = [(cell, seed) for cell in chosen for seed in range(cell.seeds)]
        for cell, seed in work[first - 1 :: count]:
            table.run(cell, seed)
    verdicts = Verdicts(table, tuple(cell for cell in chosen if table.results(cell)))
    print("\n".join([*rows(verdicts), "", *verdicts.lines()]))
    if given.figure:
        with figure_style():
            draw(verdicts).savefig(given.figure, dpi=150)


if __name__ == "__main__":
    main()
