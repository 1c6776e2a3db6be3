"""Gather a folder of finished cells into a comparison, from files alone, whoever trained them."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from inheritune.comparison.cell import Cell
from inheritune.config.recipes import CompareRecipe
from inheritune.errors import OutputError
from inheritune.evidence.gap import gap
from inheritune.methods import METHODS
from inheritune.records.cells import CellResult, ComparisonBasis, Failure
from inheritune.records.comparison import Comparison, Cost, Interval, Left, Point, Row
from inheritune.records.gap import GapResult
from inheritune.records.made_of import MadeOf
from inheritune.records.rows import METRICS, ValidationRow
from inheritune.records.stages import LOSSES, PROFILE, REFERENCE_PROFILE, read_losses
from inheritune.report.profile import Profile
from inheritune.training.metrics import Metrics


def gather(recipe: CompareRecipe, folder: Path) -> Comparison:
    """Gather the cells under `folder`; those that are not there yet are listed. Raises OutputError if there are none at all."""
    refuse_mixed(folder)
    about = next(iter(sorted(folder.glob(f"shards/*/{ComparisonBasis.NAME}"))), None)
    if about is None:
        raise OutputError(f"{str(folder)!r} holds no cells: run `inheritune compare` without --gather first")
    basis = ComparisonBasis.load(about)
    gathering = _Gathering(recipe, folder, basis)
    rows = [gathering.row(method) for method in recipe.methods]
    profile = Profile.load(next(iter(sorted(folder.glob(f"shards/*/{REFERENCE_PROFILE}")))))
    return Comparison(
        recipe=recipe.name, reference=recipe.reference, reference_loss=basis.reference_loss,
        reference_depth=basis.reference_depth, reference_tokens=basis.reference_tokens,
        reference_flops=basis.reference_flops, reference_ranks=[layer.max_rank for layer in profile.layers],
        reference_lazy=len(profile.lazy_layers), depth=basis.depth, budget=recipe.budget,
        tokens=recipe.training.tokens, margin=recipe.match.margin, confidence=recipe.match.confidence,
        documents=len(basis.weights), rows=[row for row in rows if row], missing=gathering.missing,
    )  # fmt: skip


def refuse_mixed(folder: Path) -> None:
    """Raise OutputError if shards and cells, made on one machine or several, were begun with different content."""
    paths = sorted((*folder.glob(f"shards/*/{MadeOf.NAME}"), *folder.glob(f"cells/*/{MadeOf.NAME}")))
    for first, path in pairwise(paths):
        if found := list(MadeOf.load(first).elsewhere.differences(MadeOf.load(path).elsewhere)):
            raise OutputError(
                f"{str(path.parent)!r} was begun with other content than {str(first.parent)!r} ({', '.join(found)}): move it away, or name"
                " another --out"
            )


class _Gathering:
    def __init__(self, recipe: CompareRecipe, folder: Path, basis: ComparisonBasis):
        self.recipe, self.folder, self.basis = recipe, folder, basis
        self.missing: list[Left] = []
        self.chosen = {method: self._choose(method) for method in recipe.methods}
        self.random = self._first_loss("random")

    def row(self, method: str) -> Row | None:
        """A method's row; None where none of its cells is finished."""
        found = self.chosen[method]
        if not found:
            return None
        first, losses = found[0], self._losses(found)
        curve = self._curve(first)
        prepared = fmean(each.prepared_flops for each in found)
        training = fmean(each.flops for each in found)
        profile = Profile.load(self._place(first) / PROFILE)
        against = gap(
            losses.mean(0), self.basis.losses, tokens=self.basis.weights, documents=self.basis.clusters,
            margin=self.recipe.match.margin, confidence=self.recipe.match.confidence,
        )  # fmt: skip
        return Row(
            method=method, says=METHODS[method].says, needs_reference=METHODS[method].needs_reference, depth=first.depth,
            parameters=first.parameters, peak_lr=first.peak_lr, seeds=[each.seed for each in found],
            cost=Cost(
                tokens=fmean(each.tokens for each in found), training_flops=training, prepared_flops=prepared,
                total_flops=training + prepared, seconds=fmean(each.seconds for each in found),
            ),
            val_loss=fmean(each.val_loss for each in found),
            spread=stdev(each.val_loss for each in found) if len(found) > 1 else None,
            gap=GapResult.of(against),
            difference=self._difference(method, found),
            tokens_to_random=_reached(curve, self.random, "tokens"),
            flops_to_random=_plus(_reached(curve, self.random, "flops"), prepared),
            tokens_to_reference=_reached(curve, self.basis.reference_loss, "tokens"),
            lazy_layers=len(profile.lazy_layers), max_ranks=[layer.max_rank for layer in profile.layers],
            curve=curve, tried=self._tried(method),
        )  # fmt: skip

    def _choose(self, method: str) -> list[CellResult]:
        """The method's cells at the rate that was best on the first seed."""
        refused = self.folder / "cells" / Failure.OF_METHOD.format(method)
        if refused.exists():
            self.missing.append(Left(name=method, reason=Failure.load(refused).reason))
            return []
        seeds = self.recipe.all_seeds()
        grid = [self._read(Cell(method, seeds[0], rate)) for rate in self.recipe.rates()]
        done = [found for found in grid if found]
        if not done:
            return []
        best = min(done, key=lambda found: found.val_loss)
        others = [self._read(Cell(method, seed, best.peak_lr)) for seed in seeds[1:]]
        return [best, *[found for found in others if found]]

    def _read(self, cell: Cell) -> CellResult | None:
        place = self.folder / "cells" / cell.name
        if (place / CellResult.NAME).exists():
            return CellResult.load(place / CellResult.NAME)
        failed = place / Failure.NAME
        reason = Failure.load(failed).reason if failed.exists() else "not trained yet"
        self.missing.append(Left(name=cell.name, reason=reason))
        return None

    def _tried(self, method: str) -> dict[str, float | None]:
        seed = self.recipe.all_seeds()[0]
        places = {
            rate: self.folder / "cells" / Cell(method, seed, rate).name / CellResult.NAME
            for rate in self.recipe.rates()
        }
        return {f"{r:g}": CellResult.load(p).val_loss if p.exists() else None for r, p in places.items()}

    def _place(self, found: CellResult) -> Path:
        return self.folder / "cells" / Cell(found.method, found.seed, found.peak_lr).name

    def _losses(self, found: Sequence[CellResult]) -> np.ndarray:
        """Each document's loss by seed, (seeds, documents)."""
        return np.stack([read_losses(self._place(each) / LOSSES, len(self.basis.losses)) for each in found])

    def _first_loss(self, method: str) -> float | None:
        """A method's final loss on its first seed; the others' curves, also of the first seed, are asked when they reach it."""
        found = self.chosen.get(method)
        return found[0].val_loss if found else None

    def _difference(self, method: str, found: list[CellResult]) -> Interval | None:
        """The difference from the first method: paired by seed where there are several, else by document."""
        first = self.recipe.methods[0]
        others = {each.seed: each for each in self.chosen[first]}
        pairs = [(each, others[each.seed]) for each in found if each.seed in others]
        if method == first or not pairs:
            return None
        confidence = self.recipe.match.confidence
        if len(pairs) > 1:
            moved = gap(
                [own.val_loss for own, _ in pairs], [other.val_loss for _, other in pairs], confidence=confidence
            )
            return Interval(mean=moved.mean, low=moved.low, high=moved.high, units="seeds")
        own, other = (self._losses([each])[0] for each in pairs[0])
        moved = gap(own, other, self.basis.weights, self.basis.clusters, confidence=confidence)
        return Interval(mean=moved.mean, low=moved.low, high=moved.high, units="documents")

    def _curve(self, found: CellResult) -> list[Point]:
        """The validations of all phases; a phase that is copied into the next one is part of the cost."""
        rows = Metrics(self._place(found) / METRICS).of(ValidationRow)
        return [Point(tokens=row.tokens, flops=row.flops, val_loss=row.val_loss) for row in rows]


def _reached(curve: Sequence[Point], loss: float | None, what: str) -> float | None:
    """Tokens or FLOPs at which a curve first comes down to `loss`, interpolated linearly between validations; None if it never does."""
    before = None
    for point in curve:
        here = getattr(point, what)
        if loss is not None and point.val_loss <= loss:
            if before is None or before.val_loss <= point.val_loss:
                return float(here)
            share = (before.val_loss - loss) / (before.val_loss - point.val_loss)
            return float(getattr(before, what) + share * (here - getattr(before, what)))
        before = point
    return None


def _plus(value: float | None, more: float) -> float | None:
    return None if value is None else value + more
