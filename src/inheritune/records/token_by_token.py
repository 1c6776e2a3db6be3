"""The record of two models compared token by token on a text, and of how both go on from it."""

from typing import ClassVar

from inheritune.records.entry import Count, Entry, JsonFile, Spent
from inheritune.records.outside import OutsidePlace


class Estimate(Entry):
    """A mean over tokens with its interval, paired by document, and how many tokens it rests on."""

    mean: float
    low: float
    high: float
    tokens: Count


class Agreement(Entry):
    """A model beside its reference on the same tokens; None where fewer than two documents have such tokens.

    `divergence` is KL(reference, model) in nats per token, `same_choice` the share of tokens where both would choose the same
    next one. `rare` and `copied` are losses, model minus reference, in nats per token.
    """

    divergence: Estimate | None
    same_choice: Estimate | None
    rare: Estimate | None
    copied: Estimate | None


class OfAnswers(Entry):
    """A mean over the answers of each model, and of the difference, model minus reference, with its interval."""

    model: float
    reference: float
    mean: float
    low: float
    high: float


class BothAnswers(Entry):
    """How both go on from the same words."""

    prompt: str
    model: str
    reference: str


class GoingOn(Entry):
    """Both models from the same places of a text, the likeliest token each time, to their end of text or for `most` tokens.

    `repeated` is the share of an answer's tokens that end a passage of three which stood in it before, `length` its tokens.
    """

    most: Count
    repeated: OfAnswers
    length: OfAnswers
    answers: list[BothAnswers]


class TokenByToken(Spent, JsonFile):
    """A run's target beside its reference on the starts of `documents` held-out documents; `going_on` where two are long enough."""

    NAME: ClassVar[str] = "token_by_token.json"
    documents: Count
    agreement: Agreement
    by_position: list[OutsidePlace]
    going_on: GoingOn | None
