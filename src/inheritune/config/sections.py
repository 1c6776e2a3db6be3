"""The sections of a recipe as pydantic models: every key has a type and a description, and no other key is accepted."""

import re
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Upper bounds: no run needs more, and what is computed from them stays exact and within memory.
MOST_TOKENS = 1 << 50
MOST_IN_A_STEP = 1 << 27  # tokens
MOST_STEPS = 1 << 30
MOST_MEASURED = 1 << 20  # sequences of a diagnosis or a choice
MOST_LAYERS = 4096
MOST_RATE = 1e30  # beyond it fp32 overflows


class Section(BaseModel):
    """A part of a recipe: no unknown keys, strict types, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Objective(Section):
    """What training minimises: cross-entropy, and terms computed against a teacher (in `run`, the reference)."""

    cross_entropy: float = Field(1.0, ge=0, le=1000, description="Weight of the cross-entropy with the text.")
    logits: float = Field(
        0.0, ge=0, le=1000, description="Weight of the divergence from the teacher's next-token distribution."
    )
    temperature: float = Field(
        1.0, ge=0.01, le=100, description="Both distributions' temperature; the term is scaled by its square."
    )
    direction: Literal["forward", "reverse"] = Field(
        "forward", description="`forward` is KL(teacher, model), `reverse` is KL(model, teacher)."
    )
    hidden: float = Field(
        0.0, ge=0, le=1000, description="Weight of the distance from the teacher's hidden states after its blocks."
    )
    hidden_loss: Literal["cosine", "mse"] = Field(
        "mse", description="`mse` is a share of the teacher's mean square, `cosine` is one minus the cosine."
    )
    layers: dict[int, int] | None = Field(
        None,
        description="Block of the model: block of the teacher, for `hidden`; without it, in `run`, each block and the one it was inherited from, else those at the same share of depth.",
    )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term by its name."""
        return {"cross_entropy": self.cross_entropy, "logits": self.logits, "hidden": self.hidden}

    @property
    def taught(self) -> bool:
        """Whether a teacher is needed."""
        return bool(self.logits or self.hidden)

    def by_origin(self, blocks: Sequence[int]) -> "Objective":
        """Compare each block's hidden states with those of the teacher's block that it was made of (`blocks`), unless `layers` is set."""
        return self if self.layers else self.model_copy(update={"layers": dict(enumerate(blocks))})

    @model_validator(mode="after")
    def _something(self) -> "Objective":
        if not (self.cross_entropy or self.taught):
            raise ValueError("one of cross_entropy, logits and hidden must be above 0")
        if any(block < 0 for pair in (self.layers or {}).items() for block in pair):
            raise ValueError("layers names blocks from 0")
        return self


class Source(Section):
    """One source of text: what it is, and its share where there are several."""

    source: str = Field(
        min_length=1,
        description="A file, a folder, a glob, a folder of `inheritune prepare`, `hf:ID` of the hub, or `bundled:docstrings`.",
    )
    weight: float = Field(
        1.0, ge=1e-6, le=1e6, description="Its share of the training tokens, beside the others' weights."
    )
    field: str | None = Field(None, description="The field of a row that holds the text; without it `data.field`.")
    name: str | None = Field(None, description="Which configuration of a hub dataset.")
    split: str | None = Field(None, description="Which split of a dataset; without it `train`.")
    revision: str | None = Field(None, description="Revision of a hub dataset.")


def _as_list(value: Any) -> Any:
    """Expand the short form: `corpus.jsonl` stands for `[{source: corpus.jsonl}]`."""
    listed = [value] if isinstance(value, str | dict) else value
    if not isinstance(listed, list):
        return listed
    return [{"source": item} if isinstance(item, str) else item for item in listed]


_AsList = BeforeValidator(_as_list)


Sources = Annotated[list[Source], _AsList, Field(min_length=1)]


def named_sources(sources: list[Source]) -> str:
    """The sources by name, quoted, for a sentence."""
    return ", ".join(repr(source.source) for source in sources)


class Data(Section):
    """The text: where it comes from, and how it becomes sequences."""

    train: Sources = Field(description="Training text: one source, or a list of them with `weight`.")
    valid: Annotated[list[Source] | None, _AsList] = Field(
        None, min_length=1, description="Validation text; without it a share of `train`'s documents is held out."
    )
    outside: dict[str, Sources] = Field(
        {}, description="Further texts by name, on which target and reference are compared too, beside the verdict."
    )
    outside_tokens: int = Field(65_536, ge=2, le=MOST_TOKENS, description="Most tokens read of each outside text.")
    field: str = Field(
        "text",
        description="The field of a row that holds the text, or `messages`; without `text`, `messages` are read.",
    )
    valid_share: float = Field(0.05, gt=0, lt=1, description="Share of documents held out where `valid` is absent.")
    valid_documents: int = Field(
        400, ge=2, le=MOST_TOKENS, description="Most validation documents used, of those that have at least 2 tokens."
    )
    valid_tokens_per_document: int = Field(
        1024, ge=2, le=MOST_TOKENS, description="Tokens read of each validation document."
    )
    valid_read: Literal["spread", "start"] = Field(
        "spread",
        description="Where in a longer validation document they stand: at places all over it, or at its start.",
    )
    sequence_length: int = Field(1024, ge=2, le=MOST_IN_A_STEP, description="Tokens in one training sequence.")
    loss_on: Literal["all", "assistant"] = Field(
        "all",
        description="Which tokens losses ask for, in training and validation: `all`, or those of the assistant's turns in `messages`.",
    )
    begin: str = Field(
        "auto",
        min_length=1,
        description="What stands in front of every sequence: `auto`, as the model's tokenizer begins a text; `none`; or a token.",
    )

    @property
    def sources(self) -> list[Source]:
        """All sources that a run reads: training, validation and outside texts."""
        return [*self.train, *(self.valid or []), *chain.from_iterable(self.outside.values())]


class Training(Section):
    """How weights are trained: the same loop for references, targets and controls."""

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="`adamw`, or `muon` for the blocks' matrices with AdamW for the rest."
    )
    peak_lr: float = Field(3e-4, gt=0, le=MOST_RATE, description="Peak learning rate.")
    final_lr: float = Field(
        0.0, ge=0, le=1, description="Learning rate at the end of the decay, as a share of the peak."
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        "cosine", description="Shape of the decay after warm-up."
    )
    decay_share: float = Field(0.2, gt=0, le=1, description="Share of a round that a `wsd` schedule spends decaying.")
    warmup_tokens: int = Field(
        0, ge=0, le=MOST_TOKENS, description="Tokens of linear warm-up at the start of each round."
    )
    tokens: int = Field(
        gt=0,
        le=MOST_TOKENS,
        description="Training tokens, rounded up to whole steps: of the whole run for `train`, of each round for `run`, of each method for `compare`.",
    )
    batch_tokens: int = Field(16_384, gt=0, le=MOST_IN_A_STEP, description="Tokens in one optimizer step.")
    micro_batch_size: int = Field(8, ge=1, le=MOST_IN_A_STEP, description="Sequences in one forward and backward pass.")
    weight_decay: float = Field(
        0.1, ge=0, le=10, description="Decoupled weight decay of the 2-D weights inside the blocks."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second moment.")
    clip: float = Field(1.0, gt=0, description="Largest norm of the whole gradient.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Precision of forward and backward: bf16 on a CUDA GPU and fp32 elsewhere, or as named; weights and optimizer stay fp32.",
    )
    compile: Literal["auto", "graph", "blocks", "none"] = Field(
        "auto",
        description="`blocks` are compiled, all of a kind by one compilation; with `graph` one process on a CUDA GPU also records"
        " what a micro-batch does and replays it: so on a CUDA GPU and `none` elsewhere, or as named.",
    )
    repeatable: bool = Field(
        True, description="Ask for kernels that give the same bits each time; on a GPU they cost time."
    )
    evaluate_every: int = Field(
        100, ge=1, le=MOST_STEPS, description="Steps between evaluations on the validation documents."
    )
    checkpoint_every: int = Field(100, ge=1, le=MOST_STEPS, description="Steps between checkpoints.")
    checkpoints_kept: int = Field(2, ge=1, le=10_000, description="How many of a round's last checkpoints are kept.")
    checkpoint_activations: bool = Field(
        False, description="Compute a block's inside again in the backward pass: less memory, a third more time."
    )
    max_skipped: int = Field(
        3,
        ge=0,
        le=MOST_STEPS,
        description="Steps in a row whose loss or gradient may be no finite number; each is skipped and said.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.warmup_tokens >= self.tokens:
            raise ValueError(f"warmup_tokens ({self.warmup_tokens:,}) must be below tokens ({self.tokens:,})")
        if self.schedule == "wsd" and self.warmup_tokens + self.decay_share * self.tokens > self.tokens:
            raise ValueError(
                f"warmup_tokens ({self.warmup_tokens:,}) and a decay_share of {self.decay_share:g} are longer than tokens"
                f" ({self.tokens:,})"
            )
        if self.batch_tokens > self.tokens:
            raise ValueError(f"batch_tokens ({self.batch_tokens:,}) must not exceed tokens ({self.tokens:,})")
        if self.tokens > MOST_STEPS * self.batch_tokens:
            raise ValueError(
                f"tokens ({self.tokens:,}) are more than {MOST_STEPS:,} steps of batch_tokens ({self.batch_tokens:,})"
            )
        return self


class Diagnosis(Section):
    """How the reference is measured before blocks are chosen."""

    sequences: int = Field(16, ge=2, le=MOST_MEASURED, description="Sequences whose attention maps are measured.")
    length: int = Field(100, ge=8, le=MOST_IN_A_STEP, description="Tokens of each (the paper uses 100).")
    threshold: float = Field(0.9, gt=0, lt=1, description="Share of squared singular values that rank k* must hold.")
    minutes: float = Field(
        3.0,
        ge=0,
        description="Minutes for untrained weights and losses of cuts, after the maps; how many had no time is said.",
    )
    watch_every: int = Field(
        0,
        ge=0,
        le=MOST_STEPS,
        description="Steps between the same measurements of the target while it trains; 0: none.",
    )


class Choice(Section):
    """Which blocks the target starts from."""

    method: Literal["first", "lazy", "influence", "angular", "greedy"] = Field(
        "greedy", description="The criterion that orders the blocks."
    )
    sequences: int = Field(12, ge=1, le=MOST_MEASURED, description="Sequences that a measured criterion reads.")
    minutes: float = Field(20.0, ge=0, description="Minutes that `greedy` may search; the rest goes by influence.")
    blocks: str | None = Field(
        None,
        description="The target's blocks by hand, as `0-11` or `0,1,2,9-14`: overrides `method` for the start.",
    )
    heal: bool = Field(True, description="Repair the cut in closed form before training.")
    heal_tokens: int = Field(32_768, ge=256, le=MOST_TOKENS, description="Tokens that the repair reads.")


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?(?:([kMGT])B|([kMGBT]?))", re.IGNORECASE)


def _amount(value: Any) -> Any:
    """Parse `135M` or `1.5 G` as a number, in any case; a final B for bytes (`200MB`) is ignored. Other values are returned as they are."""
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    return int(float(found[1]) * _UNITS[(found[2] or found[3]).upper()]) if found else value


def _times(value: Any) -> Any:
    """Parse `1.5x` as a number. Other values are returned as they are."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)[xX]", value) if isinstance(value, str) else None
    return float(found[1]) if found else value


class Size(Section):
    """The largest size that a model may have, given in exactly one of four ways."""

    depth: int | None = Field(None, ge=1, le=MOST_LAYERS, description="Blocks.")
    parameters: Annotated[int | None, BeforeValidator(_amount)] = Field(
        None, ge=1, le=MOST_TOKENS, description="Parameters, as `100M` or a number."
    )
    memory: Annotated[int | None, BeforeValidator(_amount)] = Field(
        None, ge=1, le=MOST_TOKENS, description="Bytes of the weights as they are written, as `200MB` or a number."
    )
    latency: Annotated[float | None, BeforeValidator(_times)] = Field(
        None,
        gt=1,
        le=1000,
        description="How many times faster than the reference a token is generated here, as `1.5x`.",
    )

    @property
    def told(self) -> str:
        """The size in words, as in `12 blocks`."""
        (name, value), *_ = self.model_dump(exclude_none=True).items()
        unit = {"depth": "blocks", "parameters": "parameters", "memory": "bytes", "latency": "times the speed"}[name]
        return f"{value:,} {unit}"

    @model_validator(mode="after")
    def _one(self) -> "Size":
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("name one of depth, parameters, memory and latency")
        return self


class Growth(Section):
    """How the target grows: from which depth, to which, in which steps."""

    goal: Literal["cheapest", "smallest", "fit"] = Field(
        "cheapest",
        description="`cheapest`: a match for the least training; `smallest`: the smallest depth that can match within `limits`;"
        " `fit`: the best model of the size in `target`, its gap told and no match claimed.",
    )
    target: Size | None = Field(None, description="With `goal: fit`, the size that the model may have.")
    start: int | None = Field(
        None, ge=1, le=MOST_LAYERS, description="Depth to start at, instead of one chosen by what cuts lose."
    )
    add: int = Field(
        2, ge=1, le=MOST_LAYERS, description="Blocks added after a round that did not match (the paper adds 2)."
    )
    new_blocks: Literal["inherited", "copied", "identity", "random"] = Field(
        "inherited",
        description="How added blocks start: from the reference, from the target's nearest, adding nothing, or random.",
    )
    max_depth: int | None = Field(
        None, ge=1, le=MOST_LAYERS, description="Deepest target tried; without it, one block less than the reference."
    )
    literal: bool = Field(
        False,
        description="The paper's loop: rounds are whole, and each is cut out of the reference again; else a round ends as"
        " soon as it is forecast to fail, and the trained target grows.",
    )

    @model_validator(mode="after")
    def _one_goal(self) -> "Growth":
        if (self.goal == "fit") != (self.target is not None):
            raise ValueError("goal fit and target belong together: name both, or neither")
        if self.goal == "fit" and (self.start or self.max_depth):
            raise ValueError("goal fit takes its depth from target: leave start and max_depth out")
        if self.literal and self.goal != "cheapest":
            raise ValueError(f"literal is the paper's loop, which knows no goal {self.goal}: leave one of them out")
        return self


class Match(Section):
    """What counts as a match, declared before the run."""

    margin: float = Field(
        0.01, gt=0, le=100, description="Largest gap, in nats per token, that still counts as a match."
    )
    confidence: float = Field(0.95, gt=0.5, le=0.9999, description="Confidence of the two-sided interval of the gap.")


class RunMatch(Match):
    """What counts as a match in a run, and whether the guard set tests what a loss does not show."""

    guard: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="Ask target and reference the guard set too, as `evaluate --guard` does: the share of its items that may be lost"
        " (0.05: a twentieth).",
    )


class Limits(Section):
    """Where a run ends even without a match. These may change when a run is continued."""

    max_rounds: int = Field(8, ge=1, le=MOST_LAYERS, description="Most rounds trained.")
    max_tokens: int | None = Field(None, gt=0, le=MOST_TOKENS, description="Most training tokens, over all rounds.")
    max_flops: float | None = Field(None, gt=0, description="Most training FLOPs, over all rounds.")
    max_seconds: float | None = Field(None, gt=0, description="Most seconds of training, over all rounds.")


class Processes(Section):
    """How the processes of a torchrun launch work together. These may change when a run is continued."""

    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="`ddp`: each process holds the model; `fsdp`: weights and optimizer are spread over them."
    )
    timeout_seconds: float = Field(
        600,
        gt=0.01,
        le=1_000_000,
        description="Seconds that processes wait for one that is lost before the run ends and names it.",
    )
