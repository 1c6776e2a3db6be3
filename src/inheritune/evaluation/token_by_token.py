"""Compare a target with its reference token by token on the starts of held-out documents, as a run does beside the guard set."""

import time

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.config.sections import Match
from inheritune.data.tokens import Tokens
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.evaluation import held_out
from inheritune.evaluation.agreement import COMPARED, agreement
from inheritune.evaluation.going_on import NEW, PROMPT, PROMPTS, going_on
from inheritune.evaluation.measure import OnRows
from inheritune.evaluation.outside import Openings, gaps_by_position, starts
from inheritune.evaluation.token_losses import token_losses
from inheritune.models.begin import Begin
from inheritune.records.token_by_token import TokenByToken

_MOST = 65_536  # tokens whose losses are measured of each model


def held_out_starts(tokens: Tokens, length: int, positions: int | None, begin: Begin) -> Openings:
    """The starts of held-out documents, equally many of each book, up to the full context or half of `_MOST` tokens."""
    return starts(tokens, held_out.in_turn(tokens).tolist(), context(length, positions), _MOST, begin)


def context(length: int, positions: int | None) -> int:
    """The most tokens that are read of one start; `length`, of the run's sequences, stands for unknown `positions`."""
    return min(positions or length, _MOST // 2)


def most_read(held_out_tokens: int | None) -> int:
    """The most tokens that each model reads, given how many are held out (None: unknown)."""
    read = min(_MOST, held_out_tokens or _MOST)
    return read + min(read, COMPARED) + PROMPTS * (PROMPT + NEW)


def token_by_token(
    target: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Openings,
    match: Match,
    unasked: int = 0,
) -> TokenByToken:
    """Agreement, losses by position, and continuations of both models, in float32; `unasked` is that of `Begin`."""
    began, owner = time.perf_counter(), np.arange(len(text.rows))
    own, other = (
        OnRows(rows=text.rows, losses=token_losses(one, text.rows, unasked=unasked), owner=owner, sources=text.sources)
        for one in (target, reference)
    )
    agreed = agreement(target, reference, own, other, match.confidence)
    gone_on = going_on(target, reference, tokenizer, own, match.confidence)
    read = sum(map(len, own.losses)) + (agreed.divergence.tokens if agreed.divergence else 0)
    read += len(gone_on.answers) * (PROMPT + gone_on.most) if gone_on else 0
    length = max(map(len, own.losses))
    return TokenByToken(
        documents=len(text.rows), agreement=agreed, by_position=gaps_by_position(own.losses, other.losses, text.sources, match),
        going_on=gone_on, tokens=2 * read, seconds=time.perf_counter() - began,
        flops=float(read) * sum(forward_flops_per_token(one, length) for one in (target, reference)),
    )  # fmt: skip
