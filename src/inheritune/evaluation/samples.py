"""Two models side by side on a held-out text: how much more each token costs the one, and how both continue it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.evaluation.continuation import greedy_logits, pieces
from inheritune.evaluation.token_losses import label_losses
from inheritune.records.samples import SamplePlace

SHOWN, PROMPT, NEW = 96, 32, 32  # tokens that are shown, of the prompt, and new


@dataclass(frozen=True)
class GoneOn:
    """A model's continuation of a prompt, its number of tokens, and the tokens per second after the first."""

    text: str
    tokens: int
    speed: float


def token_gaps(
    target: PreTrainedModel, reference: PreTrainedModel, ids_T: np.ndarray, labels_T: np.ndarray
) -> np.ndarray:
    """Target minus reference loss of each token of a window in nats, (T,); 0 where the label is ignored."""
    target_T, reference_T = (label_losses(model, ids_T[None], labels_T[None])[0] for model in (target, reference))
    return target_T - reference_T


def go_on(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids_T: np.ndarray, most: int = NEW) -> GoneOn:
    """Continue `ids_T` greedily by `most` tokens, at least one, past an end of text too."""
    ids_1T, clock = torch.from_numpy(ids_T.astype(np.int64))[None].to(model.device), list[float]()

    def timed() -> Iterator[int]:
        for logits_1V in greedy_logits(model, ids_1T, most):
            token = int(logits_1V.argmax())
            clock.append(time.perf_counter())
            yield token

    text = "".join(pieces(tokenizer, timed()))
    taken = clock[-1] - clock[0]
    return GoneOn(text, len(clock), (len(clock) - 1) / taken if taken > 0 else 0.0)


def spread(gaps: np.ndarray) -> dict[SamplePlace, int]:
    """Which documents have the smallest gap, the one in the middle, and the largest; of two documents there is no middle."""
    order = np.argsort(gaps, kind="stable").tolist()
    named: dict[SamplePlace, int] = {"best": order[0], "middle": order[len(order) // 2], "worst": order[-1]}
    return {name: index for name, index in named.items() if name != "middle" or index not in (order[0], order[-1])}
