"""Diagnosis: what every layer and head of a trained decoder does, measured on one's own text.

Shapes: N sequences, H heads, T tokens, L blocks.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.anatomy import anatomy, positions_of, text_config
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.decoder.kinds import window_at
from inheritune.decoder.stack import Stack
from inheritune.diagnosis.contrasts import Contrasts
from inheritune.diagnosis.curves import inheritance_curves
from inheritune.diagnosis.deadline import Deadline, TimeOver
from inheritune.diagnosis.gradients import Norms, gradient_norms
from inheritune.diagnosis.kept_measures import KeptMeasures
from inheritune.diagnosis.layers import lazy_heads, summarise
from inheritune.diagnosis.measuring import Measures, by_length, measure_sequences
from inheritune.diagnosis.sequences import TokenRows, unpadded
from inheritune.diagnosis.statistics import mean_and_error
from inheritune.diagnosis.subject import NamedModel, Texts, on_text, on_tokens
from inheritune.diagnosis.suggestion import at_chance, suggest
from inheritune.errors import InputError, ModelError
from inheritune.progress import Tally, Tell, ending, silent
from inheritune.records.entry import Spent
from inheritune.records.profile import NO_TIME, Contrast, Curves, Cut, DocumentsRead
from inheritune.records.stages import CONTRASTS, CUTS, MAPS
from inheritune.report.profile import Profile
from inheritune.words import plural

GRADIENT_SEQUENCES = 8
FIRST_LOOK = 16
LONGEST_CONTRAST = 1024


def diagnose(
    model: NamedModel,
    tokens: TokenRows | None = None,
    *,
    text: Texts | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    length: int = 100,
    sequences: int = 100,
    threshold: float = 0.90,
    attention_mask: TokenRows | None = None,
    unasked: int = 0,
    documents: DocumentsRead | None = None,
    curve_sequences: int = 12,
    minutes: float | None = None,
    kept: Path | None = None,
    gradients: bool = False,
    untrained: bool = True,
    other_lengths: Sequence[TokenRows] = (),
    tell: Tell = silent,
    seen: Callable[[Profile], None] = silent,
) -> Profile:
    """Measure every layer and head of a decoder on `tokens`, (N, T) ids or a list of sequences, or on `text` (paper, section 2).

    `model` is a loaded model, or a folder, .gguf file or hub id. `text` is a source as `--text` takes it (a file, a folder, a
    glob), or a list of texts, from which `sequences` sequences of `length` tokens are read, each behind its begin of text, with
    `tokenizer` or the model's own.

    Padding named by `attention_mask` is cut off before the model sees it. The losses leave out a sequence's first token and the
    `unasked` ones after it: those of a begin of text (`Begin.unasked`). `documents` are those that the tokens come from, for the
    profile. `untrained` adds the same attention measures for freshly initialised weights, `other_lengths` for tokens of other
    lengths. Losses of cuts are measured on the first `curve_sequences` sequences (0: no cuts, and so no suggestion). These contrasts
    and cuts take `minutes` at most, the contrasts half of that; what there was no time for is named in the profile's `left_out`.
    `gradients` adds the norms of the gradients of W_Q and W_K on as many sequences, whatever the time. What is measured is kept in
    the folder `kept`, so that it is not measured again after a stop; `forget` removes it.

    `tell` is called with each stage's name, the number of its parts that are done, and their total. `seen` is called with the profile
    as far as it is measured: first with ranks and lazy heads of a few sequences, then after each stage. Raises InputError for
    tokens that are not ids of this model, too long or too few, and for text that is missing or too short; ModelError for a model
    that cannot be loaded and for weights that give NaN.
    """
    if not 0 < threshold < 1:
        raise InputError(f"The threshold is {threshold}: give a share between 0 and 1, such as 0.90.")
    if tokens is not None and text is None:
        decoder, rows = on_tokens(model, tokens, attention_mask, unasked)
    elif text is not None and tokens is None and attention_mask is None:
        decoder, rows, unasked, documents = on_text(model, text, tokenizer, length, sequences)
    else:
        raise InputError(
            "A diagnosis reads tokens, or text: give one of both, and an attention_mask with tokens alone."
        )
    name = decoder.config.name_or_path if isinstance(model, PreTrainedModel) else str(model)
    found = _Found(decoder, name or decoder.config.model_type, threshold, time.perf_counter())
    others = [unpadded(decoder, other, None) for other in other_lengths]
    known = KeptMeasures(None if kept is None else kept / MAPS, rows, threshold, unasked)
    measure = partial(measure_sequences, decoder, threshold=threshold, unasked=unasked, known=known)
    for found.sequences, found.measured in _looks(rows, measure, partial(tell, _stage(rows))):
        _refuse_nan(found.measured)
        found.documents = documents if len(found.sequences) == len(rows) else None
        seen(found.profile())
    deadline = Deadline.after(minutes)
    place = None if kept is None else kept / CONTRASTS
    elsewhere = Contrasts(
        decoder, found.measured, threshold, seconds=known.seconds, length=min(map(len, rows)),
        deadline=deadline.half(), tell=tell, place=place,
    )  # fmt: skip
    for contrast in elsewhere.measure(rows if untrained else [], others):
        found.contrasts += [contrast] if contrast else []
        found.left_out = elsewhere.left_out
        seen(found.profile())
    if curve_sequences:
        found.left_out = [*elsewhere.left_out, f"losses of cuts {NO_TIME}"]
        with suppress(TimeOver), deadline.ending(decoder):
            stack = Stack(decoder, _alike(rows, curve_sequences), unasked)
            place = None if kept is None else kept / CUTS
            found.curves, found.without = _curves(stack, found.measured.angular_SS, tell, deadline, place)
            found.left_out = elsewhere.left_out
        seen(found.profile())
    if gradients:
        few = rows[: curve_sequences or GRADIENT_SEQUENCES]
        count = partial(tell, f"Gradients on {plural(len(few), 'sequence')}")
        found.norms = gradient_norms(decoder, few, count, unasked=unasked)
        seen(found.profile())
    return found.profile()


def forget(kept: Path) -> None:
    """Remove what a diagnosis kept in this folder while it went on."""
    for name in (MAPS, CONTRASTS, CUTS):
        (kept / name).unlink(missing_ok=True)


@dataclass
class _Found:
    """What is measured so far, and the profile that it makes."""

    model: PreTrainedModel
    name: str
    threshold: float
    began: float
    sequences: list[Tensor] = field(default_factory=list)
    documents: DocumentsRead | None = None
    measured: Measures = field(init=False)
    curves: Curves | None = None
    without: dict[int, Cut] = field(default_factory=dict)
    norms: list[Norms | None] | None = None
    contrasts: list[Contrast] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def profile(self) -> Profile:
        """The profile of what is measured so far."""
        lengths = [len(sequence) for sequence in self.sequences]
        windows = [window_at(self.model.config, index) for index in range(len(self.measured.heads))]
        layers = summarise(self.measured, self.curves, self.without, self.norms, windows)
        loss, loss_se = mean_and_error(self.measured.losses_N)
        config = text_config(self.model.config)
        chance = math.log(config.vocab_size)
        trained_length = getattr(config, "max_position_embeddings", None)
        return Profile(
            model=self.name,
            depth=len(layers),
            sequences=len(lengths),
            tokens=sum(lengths),
            documents=self.documents,
            shortest=min(lengths),
            longest=max(lengths),
            trained_length=trained_length,
            threshold=self.threshold,
            loss=loss,
            loss_se=loss_se,
            chance_loss=chance,
            at_chance=at_chance(loss, chance),
            layers=layers,
            lazy_heads=lazy_heads(layers),
            angular=_runs(self.measured.angular_SS),
            curves=self.curves,
            contrasts=self.contrasts,
            left_out=self.left_out,
            suggestion=suggest(layers, self.curves, loss, chance),
            caveats=caveats(self.threshold, max(lengths), trained_length),
            seconds=time.perf_counter() - self.began,
        )


def _looks(
    sequences: list[Tensor], measure: Callable[..., Measures], count: Tally
) -> Iterator[tuple[list[Tensor], Measures]]:
    """Yield the sequences read and their measures: first of a few, spread over all, for an early answer; then of all."""
    every = -(-len(sequences) // FIRST_LOOK)
    first, rest = sequences[::every], [row for place, row in enumerate(sequences) if place % every]
    measured = measure(first, count=lambda done, _: count(done, len(sequences)))
    yield first, measured
    if rest:
        more = measure(rest, count=lambda done, _: count(len(first) + done, len(sequences)))
        yield sequences, Measures.joined([measured, more])


def natural_length(model: PreTrainedModel) -> int:
    """The length that the model was trained at, as far as its config says, but at most 1024."""
    return min(positions_of(model.config) or LONGEST_CONTRAST, LONGEST_CONTRAST)


def _refuse_nan(measured: Measures) -> None:
    if not measured.losses_N.isfinite().all():
        raise ModelError(
            "The model's loss on this text is not finite: its weights are damaged or its dtype too narrow."
        )


def _alike(sequences: list[Tensor], most: int) -> Tensor:
    """The first sequences of the most frequent length, (B, T)."""
    return torch.stack(max(by_length(sequences).values(), key=len)[:most])


def _curves(
    stack: Stack, angular_SS: Tensor, tell: Tell, deadline: Deadline, kept: Path | None
) -> tuple[Curves, dict[int, Cut]]:
    stage = f"Losses of cuts on {plural(len(stack.whole_losses), 'sequence')}"
    return inheritance_curves(stack, angular_SS, partial(ending(tell, deadline.until), stage), deadline, kept)


def _stage(sequences: list[Tensor]) -> str:
    return f"Maps and losses of {plural(len(sequences), 'sequence')}, T = {max(map(len, sequences))}"


def _runs(angular_SS: Tensor) -> list[list[float]]:
    """Row n - 1 holds the angular distance across every run of n blocks, by its first block."""
    return [angular_SS.diagonal(offset=length).tolist() for length in range(1, len(angular_SS))]


def caveats(threshold: float, longest: int, trained_length: int | None) -> list[str]:
    """What the ranks and masses hide, in sentences for their reader."""
    trained = "a length that its config does not tell" if trained_length is None else f"up to {trained_length} tokens"
    return [
        f"k* ignores the weakest {1 - threshold:.0%} of a map's squared norm: with 80% of each row on one key and 20% of "
        "sharp routing it is 1, so a rank of 1 says that one key dominates, not that nothing else happens.",
        f"k* and m* grow with the length, here T = {longest}, and the model reads {trained}: uniform causal attention has "
        "(5, 30) at T = 100 and (7, 221) at T = 1024. Another length stands beside where one was measured.",
        "An untrained softmax can have rank 1 too: compare with the untrained weights before calling it damage.",
        "A head of rank 1 that writes much (output) is not useless; removing a lazy layer is judged by the loss without it.",
    ]


def cost(model: PreTrainedModel, profile: Profile) -> Spent:
    """The cost of a diagnosis, of forward passes alone: the measuring one, the contrasts' through the blocks, and the curves'."""
    head = 2 * anatomy(model).head.get_parameter("weight").numel()

    def flops(tokens: int, length: int, heads: float, blocks: float = profile.depth) -> float:
        return tokens * (blocks * (forward_flops_per_token(model, length) - head) / profile.depth + heads * head)

    spent = flops(profile.tokens, profile.longest, 1)
    spent += sum(flops(one.sequences * one.length, one.length, 0) for one in profile.contrasts)
    if curves := profile.curves:
        spent += flops(curves.tokens, curves.tokens // curves.sequences, curves.head_passes, curves.block_passes)
    return Spent(tokens=profile.tokens, flops=spent, seconds=profile.seconds)
