"""Two models continuing from the same places of a text: how much each repeats itself, and how long its answers are."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.anatomy import positions_of
from inheritune.decoder.stack import evaluating
from inheritune.evaluation.agreement import copied
from inheritune.evaluation.continuation import greedy_logits
from inheritune.evaluation.measure import OnRows
from inheritune.evidence.gap import clusters, gap
from inheritune.records.token_by_token import BothAnswers, GoingOn, OfAnswers

PROMPTS, PROMPT, NEW = 16, 32, 64  # places, and at each the tokens of the prompt and the new ones


def going_on(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: OnRows,
    confidence: float,
) -> GoingOn | None:
    """Compare both models' continuations of documents spread over `text`; None if fewer than two are long enough."""
    firsts = np.unique(text.owner, return_index=True)[1].tolist()
    length = min(PROMPT, max(len(text.rows[place]) for place in firsts) // 2)
    there = [place for place in firsts if len(text.rows[place]) > length]
    if len(there) < 2:
        return None
    picked = [there[at] for at in np.linspace(0, len(there) - 1, min(PROMPTS, len(there))).astype(int)]
    prompts_BT = np.stack([text.rows[place][:length] for place in picked]).astype(np.int64)
    most = min(NEW, *((positions_of(one.config) or length + NEW) - length for one in (model, reference)))
    sides = [_answers(one, prompts_BT, most, tokenizer.eos_token_id) for one in (model, reference)]
    books = text.sources[text.owner[picked]]
    told = ([str(tokenizer.decode(ids)) for ids in rows] for rows in (prompts_BT.tolist(), *sides))
    return GoingOn(
        most=most,
        repeated=_of_answers([[copied(ids).mean() if len(ids) else 0.0 for ids in side] for side in sides], books, confidence),
        length=_of_answers([list(map(len, side)) for side in sides], books, confidence),
        answers=[BothAnswers(prompt=a, model=b, reference=c) for a, b, c in zip(*told, strict=True)],
    )  # fmt: skip


def _answers(model: PreTrainedModel, prompts_BT: np.ndarray, most: int, end: int | None) -> list[np.ndarray]:
    """The ids that a model continues each prompt with, up to its end of text."""
    ids_BT = torch.from_numpy(prompts_BT).to(model.device)
    with evaluating(model):
        chosen = [logits_BV.argmax(-1).cpu() for logits_BV in greedy_logits(model, ids_BT, most)]
    answers = torch.stack(chosen, dim=1).numpy()
    return [ids[: np.argmax(ids == end)] if end in ids else ids for ids in answers]


def _of_answers(sides: Sequence[Sequence[float]], books: np.ndarray, confidence: float) -> OfAnswers:
    ours, theirs = sides
    found = gap(ours, theirs, documents=clusters(books), confidence=confidence)
    return OfAnswers(
        model=float(np.mean(ours)), reference=float(np.mean(theirs)), mean=found.mean, low=found.low, high=found.high
    )
