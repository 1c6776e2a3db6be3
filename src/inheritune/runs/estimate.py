"""Estimate what a run will take, stage by stage, from a recipe and a model's shape, with the counts that the run's own ledger uses."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from typing import Any, get_args

import torch
from transformers import PreTrainedModel

from inheritune.choosing.greedy import passes_of_search
from inheritune.config.recipes import RunRecipe
from inheritune.decoder.anatomy import anatomy, embedding_rows, positions_of, text_config
from inheritune.decoder.costs import forward_flops_per_token, parameter_count
from inheritune.decoder.layerlists import cut_config
from inheritune.decoder.stack import CHUNK_LOGITS, CHUNK_TOKENS
from inheritune.diagnosis.curves import passes_of_curves
from inheritune.diagnosis.cuts import first_places
from inheritune.evaluation.guard_items import about_tokens
from inheritune.evaluation.logits import rows_at_once
from inheritune.evaluation.samples import NEW, PROMPT, SHOWN
from inheritune.evaluation.token_by_token import context, most_read
from inheritune.models.export import cache_bytes_per_token
from inheritune.models.hollow import hollow
from inheritune.models.packing import packed_bytes
from inheritune.records.estimate import (
    Machinery,
    MemoryEstimate,
    PlannedModel,
    RunEstimate,
    StageEstimate,
    in_all,
)
from inheritune.records.result import PACKED, Footprint
from inheritune.records.samples import SamplePlace
from inheritune.runs.actions import most_looks
from inheritune.runs.controls import RANDOM, TAUGHT, names
from inheritune.runs.hardware import THIS
from inheritune.runs.own_rate import short
from inheritune.runs.planning import round_tokens
from inheritune.runs.reach import reach, starting, tokens_for_even
from inheritune.runtime.device import CPU
from inheritune.training.activations import kept_for_backward
from inheritune.training.checkpoint import COPY_ROOM
from inheritune.training.costs import step_flops
from inheritune.training.halves import halved_bytes
from inheritune.training.memory import StepMemory, rounded_bytes, step_memory
from inheritune.training.pace import ReachedRate
from inheritune.training.schedule import rounded_up, steps_of

_PROGRAM = 450_000_000  # bytes of Python, torch and transformers
# What a step touches of memory, over what autograd keeps: on the CPU freed memory is kept and reused in other sizes (docs/results/plan.md).
_HEAP = 1.55
_BEGIN_TOKENS = 16 * 128 * 3
# A token that is read alone takes as long as so many tokens of a row, since all weights pass through memory for it.
_ALONE = 20
_REFIT_PASSES = 6  # passes through a block, to see how its MLP is added and what it is given
_READ_BYTES = 3e8  # bytes of weights that are read, widened and checked in a second
_CALL_SECONDS = 2e-3  # for a pass through a block or the head, however few tokens it reads
_MAP_SECONDS = 4e-4  # for each head's map of 100 tokens


class Outlook:
    """A run to be estimated: its recipe and its reference's shape.

    `weight_bytes` are those of the reference's files, `dtype` is the dtype of the target's.
    """

    def __init__(
        self, recipe: RunRecipe, reference: PreTrainedModel, *, weight_bytes: int, dtype: torch.dtype,
        machine: Machinery, pace: ReachedRate, text_tokens: int | None = None, depth: int | None = None,
    ):  # fmt: skip
        self.recipe, self.reference, self.weight_bytes, self.dtype = recipe, reference, weight_bytes, dtype
        self.machine, self.pace, self.text_tokens = machine.model_copy(update={"tried": pace.tried}), pace, text_tokens
        self.whole, self.parameters = anatomy(reference).depth, parameter_count(reference)
        self.depth = depth or starting(recipe, reference, dtype, text_tokens)
        self.length, self.training = recipe.data.sequence_length, recipe.training
        self.teacher = reference if recipe.objective.taught else None

    def estimate(self) -> RunEstimate:
        """Return the whole plan."""
        recipe, stages = self.recipe, list(self._stages())
        advice = list(self._advice(in_all(stages)))
        found = RunEstimate(
            name=recipe.name, machine=self.machine, margin=recipe.match.margin,
            reference=self._model(self.reference, self.weight_bytes),
            target=self._model(self._cut(self.depth), None),
            round_tokens=(tokens := round_tokens(recipe)), asked_tokens=rounded_up(recipe.training, tokens),
            goal=recipe.growth.goal, choice=None if recipe.choice.blocks else recipe.choice.method, text_tokens=self.text_tokens,
            stages=stages, further_round=self._round(self.depth), most_rounds=self._most_rounds(),
            step=self._step_memory(self._step(self.depth)),
            reach=reach(recipe, self.whole, self.parameters, self.text_tokens),
            tokens_for_even=tokens_for_even(recipe, self.depth / self.whole, self.parameters), fits=not advice, advice=advice,
            asked_bytes=recipe.growth.target.memory if recipe.growth.target else None, packed_bytes=packed_bytes(self._cut(self.depth)),
        )  # fmt: skip
        low, high = found.span(found.total.seconds)
        cost = None if self.machine.price is None else (found.cost(low), found.cost(high))
        return found.model_copy(update={"seconds_in_all": (low, high), "cost_in_all": cost})

    def _most_rounds(self) -> int:
        growth, limits = self.recipe.growth, self.recipe.limits
        if growth.goal != "cheapest":
            return 1
        looks = most_looks(self.depth, growth.max_depth or self.whole - 1, growth.add)
        by_tokens = limits.max_tokens // self.training.tokens if limits.max_tokens else looks
        return max(1, min(looks, limits.max_rounds, by_tokens))

    @lru_cache  # noqa: B019
    def _cut(self, depth: int) -> PreTrainedModel:
        """A target's shape, without weights: only the number of its blocks matters here."""
        if depth == self.whole:
            return self.reference
        return hollow(cut_config(self.reference.config, range(depth)), type(self.reference)).float()

    def _model(self, model: PreTrainedModel, weight_bytes: int | None) -> PlannedModel:
        parameters = parameter_count(model)
        packed = weight_bytes is not None and weight_bytes < 2 * parameters
        name = PACKED if packed else str(self.dtype).removeprefix("torch.")
        held = parameters * self.dtype.itemsize if weight_bytes is None else weight_bytes
        cache = _unless_unknown(partial(cache_bytes_per_token, model, self.dtype))
        footprint = Footprint(weight_bytes=held, dtype=name, cache_bytes_per_token=cache)
        return PlannedModel(depth=anatomy(model).depth, parameters=parameters, footprint=footprint)

    @lru_cache  # noqa: B019
    def _step(self, depth: int) -> StepMemory:
        """The memory of a training step of a cut, the reference's not counted."""
        cut = self._cut(depth)
        on = CPU if self._on_cpu else torch.device("cuda")
        found = step_memory(cut, self.training, self.length, share=self._spread, on=on)
        kept = _unless_unknown(partial(kept_for_backward, cut, self.training, self.length))
        # What autograd keeps includes the blocks' rounded matrices.
        if kept and not self.training.checkpoint_activations:
            kept -= rounded_bytes(cut, self.training, anatomy(cut).blocks) - rounded_bytes(cut, self.training, [])
        touched = (kept or found.activations) * (_HEAP if self._on_cpu else 1.0)
        logits = found.logits * (1 + self.recipe.objective.taught)
        return replace(found, activations=round(touched), logits=logits)

    @property
    def _steps(self) -> int:
        return round_tokens(self.recipe) // self.training.batch_tokens

    @property
    def _spread(self) -> int:
        """The number of processes that a model's weights are spread over."""
        return self.machine.processes if self.recipe.processes.parallel == "fsdp" else 1

    def _step_memory(self, step: StepMemory) -> MemoryEstimate:
        return MemoryEstimate(
            reference=self._beside, weights=step.weights + step.rounded, gradients=step.gradients + step.added, states=step.states,
            activations=step.activations, logits=step.logits, program=_PROGRAM,
        )  # fmt: skip

    @property
    def _wide(self) -> int:
        """Bytes of the reference's weights in float32, as every stage holds them."""
        return 4 * self.parameters

    @property
    def _beside(self) -> int:
        """Bytes of the reference's weights during a training. On a GPU: none where it is set aside, its copy in halves where it teaches in bf16."""
        if self._on_cpu:
            return self._wide
        if self.teacher is None:
            return 0
        return halved_bytes(self.teacher) if self.training.precision == "bf16" else self._wide

    @property
    def _on_cpu(self) -> bool:
        return self.machine.name == THIS

    def _wide_cut(self, depth: int) -> int:
        return 4 * parameter_count(self._cut(depth))

    def _stages(self) -> Iterator[StageEstimate]:
        yield self._load()
        yield self._reading(
            "begin of text", _BEGIN_TOKENS, flops := _BEGIN_TOKENS * self._forward, flops / self.pace.reading
        )
        yield self._diagnosis()
        yield self._choice()
        yield self._heal()
        yield self._round(self.depth)
        yield self._validation()
        if self.recipe.controls:
            yield from self._controls()
        if self.recipe.match.guard is not None:
            yield self._guard()
        yield self._samples()
        yield self._saving()

    def _load(self) -> StageEstimate:
        seconds = (self._wide + self.weight_bytes) / _READ_BYTES
        memory = _PROGRAM + self._wide + self.weight_bytes
        return StageEstimate(name="load", tokens=0, flops=0, seconds=seconds, memory=memory)

    def _diagnosis(self) -> StageEstimate:
        """Maps of trained and of untrained weights, and losses of cuts; all but the first end with `diagnosis.minutes`."""
        wanted = self.recipe.diagnosis
        tokens = wanted.sequences * wanted.length
        maps = 2 * tokens * self._forward
        passes = passes_of_curves(self.whole)
        cuts = self._cuts(*passes, min(12, wanted.sequences), wanted.length)
        within = min((maps / 2 + cuts) / self.pace.measuring + sum(passes) * _CALL_SECONDS, 60 * wanted.minutes)
        heads = getattr(text_config(self.reference.config), "num_attention_heads", 1) * self.whole
        drawn = wanted.sequences * heads * _MAP_SECONDS * (wanted.length / 100) ** 2
        seconds = maps / 2 / self.pace.measuring + within + drawn
        return self._reading("diagnosis", 2 * tokens, maps + cuts, seconds, self._wide * self._on_cpu)

    def _cuts(self, blocks: float, cuts: int, sequences: int, length: int) -> float:
        """FLOPs of the losses of cuts: passes through blocks, and the head's product at the places that are read first."""
        places = max(1, length - 1)
        read = first_places(places, sequences, embedding_rows(self.reference)) / places
        return sequences * length * (blocks * self._block + cuts * read * self._head)

    def _choice(self) -> StageEstimate:
        """Greedy tries to leave out each remaining block, at each depth down to the shallowest wanted; then each depth's cut is read once."""
        choice = self.recipe.choice
        tokens, shallowest = choice.sequences * self.length, self.recipe.growth.start or 1
        passes = self.whole
        if choice.method == "greedy":
            passes += passes_of_search(self.whole, shallowest)
        rate = self.pace.measuring if self._on_cpu else self.pace.reading  # as `Bench.precision_of_cuts`
        flops = min(tokens * (passes * self._block + self._head * passes / self.whole), 60 * choice.minutes * rate)
        cuts = tokens * sum(depth * self._block + self._head for depth in range(self.depth, self.whole + 1))
        return self._reading("choice", tokens, flops + cuts, (flops + cuts) / rate)

    def _heal(self) -> StageEstimate:
        """The first target is cut, proved and repaired. An eighth of the tokens is held out of the fit, and read before and after it."""
        cut, tokens = self._wide_cut(self.depth), self.recipe.choice.heal_tokens if self.recipe.choice.heal else 0
        width = text_config(self.reference.config).hidden_size
        inner = getattr(text_config(self.reference.config), "intermediate_size", None) or 4 * width
        gaps, fit, held = min(self.whole - self.depth, self.depth), tokens * 7 / 8, tokens / 8
        flops = fit * self._block * (self.whole + self.depth + _REFIT_PASSES * gaps) + fit * gaps * 2 * inner * (
            inner + width
        )
        flops += 2 * held * (self.depth * self._block + self._head)
        seconds = flops / self.pace.measuring + 8 * cut / _READ_BYTES
        # A GPU holds one model at a time, so there the hidden states stand beside the reference alone.
        states = tokens * width * 4 * (gaps + 2)
        return self._reading("heal", tokens, flops, seconds, 2 * cut * self._on_cpu + states)

    def _round(self, depth: int, taught: bool = True) -> StageEstimate:
        steps, processes = self._steps, self.machine.processes
        tokens = steps * self.training.batch_tokens
        alone = step_flops(self.reference, self.training, self.length, blocks=range(depth)) * steps
        teaching = tokens * self._forward if taught and self.teacher is not None else 0
        seconds = alone / self.pace.training + teaching / self.pace.reading
        seconds = seconds / processes + steps * self.pace.update * self._wide_cut(depth) / 4
        step = self._step(depth)
        still = _PROGRAM + self._beside + step.weights
        whole = still + step.beside_weights
        saving = (
            whole if steps > self.training.checkpoint_every else still + step.states
        )  # steps go on while it is written
        memory = max(whole, saving + self._copied(step, saving))
        kept = self.training.checkpoints_kept + 1
        return StageEstimate(
            name="training", tokens=tokens, flops=alone + teaching, seconds=seconds, memory=memory,
            disk=kept * 3 * self._wide_cut(depth),
        )  # fmt: skip

    def _copied(self, step: StepMemory, held: int) -> int:
        """Bytes of the copy that a checkpoint is written from; 0 unless on the CPU with room for it beside the `held` bytes."""
        copy = step.weights + step.states
        return copy if self._on_cpu and COPY_ROOM * copy < self.machine.memory - held else 0

    def _validation(self) -> StageEstimate:
        """The reference once, and the target at each look of a round."""
        data, steps = self.recipe.data, self._steps
        most = data.valid_documents * data.valid_tokens_per_document
        if self._held_out is not None:
            most = min(most, self._held_out)
        looks = -(-steps // self.training.evaluate_every) + (self.dtype != torch.float32)
        own = forward_flops_per_token(self._cut(self.depth), self.length)
        outside = len(data.outside) * data.outside_tokens
        tokens = most * (1 + looks) + outside * 2
        flops = most * (self._forward + looks * own) + outside * (self._forward + own)
        beside = self._step(self.depth).beside_weights * self._on_cpu  # on a GPU the round's memory covers the looks
        return self._reading("validation", tokens, flops, flops / self.pace.reading, beside)

    @property
    def _held_out(self) -> int | None:
        """The approximate number of tokens held out of the training text; None where it is not known."""
        data = self.recipe.data
        known = self.text_tokens is not None and data.valid is None
        return round(data.valid_share * (self.text_tokens or 0)) if known else None

    def _guard(self) -> StageEstimate:
        """Both models answer the guard set and are compared token by token, in fp32, with three copies of a piece's logits in memory."""
        both = self._forward + forward_flops_per_token(self._cut(self.depth), self.length)
        asked, read = about_tokens(), most_read(self._held_out)
        flops = asked * (both - 2 * self._head) + read * both
        longest = context(self.length, positions_of(self.reference.config))
        logits = min(longest, rows_at_once(self.reference)) * embedding_rows(self.reference)
        beside = self._wide_cut(self.depth) + 3 * 4 * logits
        return self._reading("guard", 2 * (asked + read), flops, flops / self.pace.measuring, beside)

    def _controls(self) -> Iterator[StageEstimate]:
        """Each control trains for the round's tokens; those of the reference first try three learning rates at least."""
        trials = 3 * steps_of(short(self.training, 1.0)) / self._steps
        for name in names(self.recipe.objective):
            depth, more = (self.depth, 1.0) if name == RANDOM else (self.whole, 1 + trials)
            found = self._round(depth, taught=name == TAUGHT)
            spent = {"tokens": round(found.tokens * more), "flops": found.flops * more, "seconds": found.seconds * more}
            yield found.model_copy(update={"name": f"control: {name}", **spent})

    def _samples(self) -> StageEstimate:
        """Reference and target side by side on some documents, which are read and then continued one token at a time, in fp32."""
        read, gone_on = len(get_args(SamplePlace)) * (SHOWN + PROMPT), len(get_args(SamplePlace)) * NEW
        both = sum(forward_flops_per_token(model, SHOWN) for model in (self.reference, self._cut(self.depth)))
        calls = gone_on * (self.whole + self.depth) * _CALL_SECONDS
        seconds = (read + _ALONE * gone_on) * both / self.pace.measuring + calls
        return self._reading(
            "samples", 2 * (read + gone_on), (read + gone_on) * both, seconds, self._wide_cut(self.depth)
        )

    def _saving(self) -> StageEstimate:
        cut = self._wide_cut(self.depth)
        written = cut // 4 * self.dtype.itemsize
        return StageEstimate(
            name="saving", tokens=0, flops=0, seconds=cut / _READ_BYTES, memory=_PROGRAM + self._wide + 2 * cut,
            disk=written,
        )  # fmt: skip

    def _reading(self, name: str, tokens: int, flops: float, seconds: float, beside: int = 0) -> StageEstimate:
        """A stage of passes through the reference, with three copies of a piece of its logits in memory."""
        rows = min(CHUNK_TOKENS, max(1, CHUNK_LOGITS // embedding_rows(self.reference)))
        logits = 3 * 4 * rows * embedding_rows(self.reference)
        memory = _PROGRAM + self._wide + beside + logits
        return StageEstimate(name=name, tokens=tokens, flops=flops, seconds=seconds, memory=memory)

    @cached_property
    def _forward(self) -> int:
        """FLOPs of a token's pass through the reference."""
        return forward_flops_per_token(self.reference, self.length)

    @property
    def _block(self) -> float:
        """FLOPs of a token's pass through a block."""
        return (self._forward - self._head) / self.whole

    @cached_property
    def _head(self) -> int:
        return 2 * anatomy(self.reference).head.get_parameter("weight").numel()

    def _advice(self, total: StageEstimate) -> Iterator[str]:
        """Yield for memory and disk, where they do not suffice, the first setting that makes the run fit, or that none does."""
        if total.memory > self.machine.memory:
            there, name = f"{self.machine.memory / 1e9:.1f} GB", self.machine.name
            there = f"{there} are free on {name} now" if name.startswith(THIS) else f"{name} has {there}"
            ways = (
                f"{way} makes it fit{at}"
                for way, at, other in self._smaller()
                if other.most_memory() <= self.machine.memory
            )
            way = next(ways, "no setting makes it fit, so take more memory or a smaller reference")
            yield f"Too little memory: it takes {total.memory / 1e9:.1f} GB, and {there}; {way}."
        if total.disk > self.machine.disk:
            yield (
                f"Too little disk: its checkpoints take {total.disk / 1e9:.1f} GB, and {self.machine.disk / 1e9:.1f} GB are free;"
                " free some, name another disk with --out, or keep fewer (training.checkpoints_kept=1)."
            )

    def most_memory(self) -> int:
        """The most bytes that any stage takes."""
        return max(stage.memory for stage in self._stages())

    def _smaller(self) -> Iterator[tuple[str, str, "Outlook"]]:
        """Yield settings that take less memory, the least change first: the setting, its price in words, and the run with it."""
        sizes = [
            self.training.micro_batch_size >> halved for halved in range(1, self.training.micro_batch_size.bit_length())
        ]
        for size in sizes:
            yield f"training.micro_batch_size={size}", " (the result stays the same)", self._with(micro_batch_size=size)
        least = sizes[-1] if sizes else 1
        said = f"training.micro_batch_size={least} with training.checkpoint_activations=true"
        yield said, " (a third more time)", self._with(micro_batch_size=least, checkpoint_activations=True)
        if self.recipe.controls:
            yield "controls=false", " (the reference trained on takes the most)", self._with_recipe(controls=False)

    def _with(self, **training: Any) -> "Outlook":
        return self._with_recipe(training=self.training.model_copy(update=training))

    def _with_recipe(self, **changes: Any) -> "Outlook":
        return Outlook(
            self.recipe.model_copy(update=changes), self.reference, weight_bytes=self.weight_bytes, dtype=self.dtype,
            machine=self.machine, pace=self.pace, text_tokens=self.text_tokens, depth=self.depth,
        )  # fmt: skip


def _unless_unknown(compute: Callable[[], int | None]) -> int | None:
    """Return what `compute` finds on tensors without data; None for a family whose own code needs their numbers."""
    try:
        return compute()
    except Exception:
        return None
