"""The first tokens that a model continues with, decoded greedily, compared with those of another program."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.anatomy import positions_of
from inheritune.evaluation.continuation import greedy_logits
from inheritune.records.entry import Count, Entry

PROMPTS = (
    "Once upon a time, in a house by the sea,",
    "The captain looked at the letter again and said",
    "There are three reasons why a ship",
)
COUNT = 24
# Nats between the best token and the second, below which rounding may swap them: 16-bit products of the same weights
# differ at margins up to 0.03, another model at 0.25 (docs/results/real-models.md).
NEAR = 0.1


@dataclass(frozen=True)
class FirstTokens:
    """The tokens that follow a prompt, and the margin of each over the second-best token, in nats."""

    prompt: str
    tokens: list[int]
    margins: list[float]


class SameTokens(Entry):
    """How many tokens are equal before the first that differs, over all prompts; `parted` is the largest margin at such a token."""

    equal: Count
    total: Count
    parted: float | None = None

    @property
    def other_model(self) -> bool:
        """Whether they differ at a choice that rounding cannot swap."""
        return self.parted is not None and self.parted > NEAR

    def __str__(self) -> str:
        at = "" if self.parted is None else f", and parts where the best choice leads by {self.parted:.3f} nats at most"
        return f"{self.equal} of {self.total} tokens as transformers chooses them in float32{at}"


def first_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[FirstTokens]:
    """The tokens that a model continues each of PROMPTS with: COUNT, or as many as it has positions for."""
    prompts = [tokenizer(prompt, return_tensors="pt").input_ids.to(model.device) for prompt in PROMPTS]
    room = (positions_of(model.config) or sys.maxsize) - max(ids_1T.shape[1] for ids_1T in prompts)
    count = min(COUNT, room)
    return [_after(model, prompt, ids_1T, count) for prompt, ids_1T in zip(PROMPTS, prompts, strict=True) if count > 0]


def _after(model: PreTrainedModel, prompt: str, ids_1T: torch.Tensor, count: int) -> FirstTokens:
    tokens: list[int] = []
    margins: list[float] = []
    for logits_1V in greedy_logits(model, ids_1T, count):
        best = logits_1V[0].float().topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
    return FirstTokens(prompt, tokens, margins)


def same_tokens(ours: Sequence[FirstTokens], theirs: Sequence[Sequence[int]]) -> SameTokens:
    """Count how many of another program's tokens equal ours, prompt by prompt."""
    equal, parted = 0, []
    for own, other in zip(ours, theirs, strict=True):
        pairs = zip(own.tokens, other, strict=True)
        same = next((place for place, (one, two) in enumerate(pairs) if one != two), len(own.tokens))
        equal += same
        parted += own.margins[same : same + 1]
    return SameTokens(equal=equal, total=sum(len(own.tokens) for own in ours), parted=max(parted, default=None))
