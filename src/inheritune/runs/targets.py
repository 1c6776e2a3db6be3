"""How a round's target is made: cut out of the reference, proved and repaired, or grown from the target before."""

import math
from functools import partial
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.models.folder import PROOF
from inheritune.models.quiet import quiet
from inheritune.progress import Progress, Rates, Tally
from inheritune.records.stages import REPAIR, RoundStart
from inheritune.runs.bench import Bench
from inheritune.runs.folder import timed
from inheritune.surgery.heal import heal
from inheritune.surgery.in_memory import assemble, growth, inherit
from inheritune.surgery.on_optimizer import carry
from inheritune.surgery.proof import prove
from inheritune.training import checkpoint
from inheritune.training.optimizer import OptimizerState


class Target(NamedTuple):
    """A target before its round: the model, the optimizer's state that it begins with, and what it was made of."""

    model: PreTrainedModel
    optimizer: OptimizerState
    start: RoundStart


def cut_out(bench: Bench, blocks: list[int], beside: Path, folder: Path, progress: Progress) -> Target:
    """Cut a target of the reference's `blocks`, repaired where the recipe says so; the proof goes into the folder `beside`.

    Partial results of the repair are kept in the run's `folder`, so that a stop does not lose them. Raises ProofError for a cut that
    fails its proof.
    """
    model = bench.cut(blocks)
    with quiet():
        prove(model, bench.set_aside(), blocks, count=_proving(progress)).require().save(beside / PROOF)
    if bench.recipe.choice.heal:
        return Target(model, {}, _repair(bench, model, blocks, folder / REPAIR, progress))
    return Target(model, {}, RoundStart(blocks=blocks, tokens=0, flops=0.0, seconds=0.0))


def grow_from(
    bench: Bench, trained: Path, held: list[int], blocks: list[int], beside: Path, progress: Progress
) -> Target:
    """Grow the target of the checkpoint `trained`, which holds the reference's blocks `held`, to `blocks`.

    Its optimizer's state goes along; the proof goes into the folder `beside`. Raises ProofError for a target that fails it.
    """
    reference, seed = bench.set_aside(), bench.recipe.seed
    target = inherit(reference, held, seed=seed)
    state, _ = checkpoint.load(trained, target)
    block_map = growth(target, reference, held, blocks, bench.recipe.growth.new_blocks)
    grown = assemble([target, reference], block_map, seed, on=bench.home)
    against = ([target, reference], block_map) if block_map.whole else (None, None)
    with quiet():
        prove(grown, *against, count=_proving(progress)).require().save(beside / PROOF)
    carried = carry([state, {}], block_map, anatomy(grown).path, grown.config)
    return Target(grown, carried, RoundStart(blocks=blocks, tokens=0, flops=0.0, seconds=0.0))


def _proving(progress: Progress) -> Tally:
    return partial(Rates(progress), "Proof")


def _repair(bench: Bench, model: PreTrainedModel, blocks: list[int], kept: Path, progress: Progress) -> RoundStart:
    length = bench.recipe.data.sequence_length
    tokens_BT = bench.sequences(max(2, bench.recipe.choice.heal_tokens // length), length)
    unasked, count = bench.begin.unasked, partial(Rates(progress), "Repair")
    progress.goes_on("The repair", kept)
    healing, seconds = timed(
        lambda: heal(model, bench.set_aside(), blocks, tokens_BT, unasked=unasked, count=count, kept=kept)
    )
    worse = healing.loss_after > healing.loss_before
    told = ", which is no better: choice.heal: false leaves it out" if worse else ""
    progress.note(
        f"Repaired in {seconds:.0f} s: on tokens that the repair did not use, the cut's loss went from {healing.loss_before:.3f} to"
        f" {healing.loss_after:.3f}{told}"
    )
    return RoundStart(
        blocks=blocks, tokens=healing.tokens, flops=healing.flops, seconds=seconds, places=healing.places,
        loss_before=_finite(healing.loss_before), loss_after=_finite(healing.loss_after),
    )  # fmt: skip


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None
