"""`inheritune evaluate`: a model on a text, in use and on tasks, beside a reference on the same documents."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inheritune.data.corpora import documents, named, require
from inheritune.data.documents import Document
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import parameter_count
from inheritune.errors import DataError, InputError
from inheritune.evaluation import tasks
from inheritune.evaluation.agreement import agreement, gap_by_position
from inheritune.evaluation.found import EvaluatedModel, Evaluation, TextLoss, TextMeasured, UseMeasured
from inheritune.evaluation.generation import generate
from inheritune.evaluation.going_on import going_on
from inheritune.evaluation.guard import answers, counted, guard
from inheritune.evaluation.guard_items import items
from inheritune.evaluation.measure import Against, OnText, Text, against, measure
from inheritune.evaluation.rivals import InUse, rivals
from inheritune.evaluation.wanted import Wanted, refuse
from inheritune.evidence.gap import FEW_SOURCES
from inheritune.models.chat import PLAIN, Chat, chat_of
from inheritune.models.find import locate
from inheritune.models.quiet import loading
from inheritune.models.reference import BUNDLED, Reference, load_reference, with_size
from inheritune.progress import Progress
from inheritune.records.guard import Guard
from inheritune.words import plural

_MOST = 700.0  # nats, above which exp overflows a float
_OTHER_TOKENS = "model and reference read other tokens, so they are compared in bits per byte, and not token by token"


def evaluate(
    model: str, reference: str | None = None, progress: Progress | None = None, **wanted: Any
) -> dict[str, Any]:
    """Measure `model`, and `reference` beside it where one is named: what `--json` prints.

    `wanted` are fields of `Wanted`. Losses are in fp32. Raises InputError for what the user has to mend.
    """
    return find(model, reference, progress or Progress(quiet=True), Wanted.of(wanted)).model_dump(exclude_unset=True)


def find(model: str, reference: str | None, progress: Progress, asked: Wanted) -> Evaluation:
    """As `evaluate`, but return an `Evaluation`, not plain data."""
    refuse(asked, reference is not None)
    require([named(asked.data)])  # so that missing text is reported before a model is loaded
    trust = asked.trust_remote_code
    loaded = []
    for name in (model, reference):
        if name is not None:
            with loading(progress, f"Model: {with_size(name)}"):
                loaded.append(load_reference(name, trust=trust))
    texts = _texts(asked, loaded)
    asked = _fitted(asked, min(map(_positions, loaded)))
    on_text = [_measure(one, texts, asked, progress) for one in loaded]
    models = [_model(one, own) for one, own in zip(loaded, on_text, strict=True)]
    found = Evaluation(data=_about(asked, texts), models=models)
    if reference is not None:
        beside = _beside(loaded, on_text, asked, progress)
        notes = _few(on_text[0]) + ([] if "agreement" in beside else [_OTHER_TOKENS])
        found = _noted(found.model_copy(update=beside), notes)
    right = [_answers(one, progress) for one in loaded] if asked.guard else []
    if asked.guard:
        found = found.model_copy(update={"guard": guard(items(), right[0], right[1], asked.confidence)})
    if asked.rivals:
        measured = partial(_rival, texts=texts, beside=on_text[-1], answered=right[-1:], asked=asked, progress=progress)
        use = InUse(asked.prompt, asked.new, asked.turns) if asked.generation else None
        packed, notes = rivals(loaded[0], loaded[1], measured, asked.length, use, progress)
        found = _noted(found.model_copy(update={"rivals": packed}), notes)
    if asked.tasks:
        found = _with_tasks(found, loaded, asked, progress)
    return _with_use(found, loaded, asked, progress) if asked.generation else found


def _texts(asked: Wanted, loaded: list[Reference]) -> list[Text]:
    """The first documents, the same for all models: conversations are rendered by the first model that has a chat template."""
    chats = [chat_of(one.tokenizer) for one in loaded]
    chat = next((chat for chat in chats if chat.template), PLAIN)
    found = itertools.islice(documents(asked.data, asked.field, chat), asked.documents)
    texts = [
        Text(each.text[: asked.characters], _end_follows(each, chat, asked.characters), each.book) for each in found
    ]
    if len(texts) < 2:
        raise DataError(f"{asked.data!r} holds {len(texts)} document, and an interval needs 2 or more")
    return texts


def _end_follows(document: Document, chat: Chat, characters: int) -> bool:
    """Whether an end of text follows: the document is read whole, and does not close itself as a rendered conversation may."""
    return len(document.text) <= characters and not (
        document.messages and chat.end and document.text.endswith(chat.end)
    )


def _about(asked: Wanted, texts: list[Text]) -> TextMeasured:
    return TextMeasured(
        source=asked.data, documents=len(texts), bytes=sum(len(text.text.encode()) for text in texts),
        window_tokens=asked.length, margin=asked.margin, confidence=asked.confidence,
    )  # fmt: skip


def _fitted(asked: Wanted, positions: int) -> Wanted:
    """Limit windows, prompts and new tokens to the positions that all models have."""
    room = max(2, positions // 2)
    return replace(asked, length=min(asked.length, positions), prompt=min(asked.prompt, room), new=min(asked.new, room))


def _positions(loaded: Reference) -> int:
    return loaded.positions or 1 << 20


def _measure(loaded: Reference, texts: list[Text], asked: Wanted, progress: Progress) -> OnText:
    progress.stage(f"{loaded.name}: loss on {len(texts)} documents")
    found = measure(loaded.model, loaded.tokenizer, texts, asked.length)
    progress.note(f"{loaded.name}: {found.val_loss:.4f} nats per token")
    return found


def _beside(loaded: list[Reference], on_text: list[OnText], asked: Wanted, progress: Progress) -> dict[str, object]:
    """The gap and, if both models read the same tokens, their agreement at each token and their continuations."""
    own, other = on_text
    found: dict[str, object] = {"gap": against(own, other, asked.margin, asked.confidence)}
    if _alike(own, other):
        found["gap_by_position"] = gap_by_position(own, other, asked.confidence)
        model, reference = (one.model for one in loaded)
        with progress.waiting("Both models token by token", "windows") as count:
            found["agreement"] = agreement(model, reference, own, other, asked.confidence, count)
        if asked.generation:
            with progress.waiting("How both go on"):
                found["going_on"] = going_on(model, reference, loaded[1].tokenizer, own, asked.confidence)
    return found


def _alike(own: OnText, other: OnText) -> bool:
    return len(own.rows) == len(other.rows) and all(map(np.array_equal, own.rows, other.rows))


def _answers(one: Reference, progress: Progress) -> np.ndarray:
    """Which items of the guard set a model has right."""
    given = items()
    return answers(one.model, one.tokenizer, given, count=counted(given, one.name, progress)).right


def _rival(
    packed: Reference,
    *,
    texts: list[Text],
    beside: OnText,
    answered: list[np.ndarray],
    asked: Wanted,
    progress: Progress,
) -> tuple[TextLoss, Against, Guard | None]:
    """Compare a packed model with the reference: `beside` is the reference's loss, `answered` its guard answers, if asked for."""
    own = _measure(packed, texts, asked, progress)
    able = [guard(items(), _answers(packed, progress), theirs, asked.confidence) for theirs in answered]
    return _text_loss(own), against(own, beside, asked.margin, asked.confidence), able[0] if able else None


def _text_loss(own: OnText) -> TextLoss:
    return TextLoss(
        val_loss=own.val_loss, perplexity=math.exp(min(own.val_loss, _MOST)), bits_per_byte=own.bits_per_byte,
        tokens=int(own.tokens.sum()), by_position=own.by_position,
    )  # fmt: skip


def _model(loaded: Reference, own: OnText) -> EvaluatedModel:
    depth, parameters = anatomy(loaded.model).depth, parameter_count(loaded.model)
    return EvaluatedModel(model=loaded.name, depth=depth, parameters=parameters, text=_text_loss(own))


def _with_tasks(found: Evaluation, loaded: list[Reference], asked: Wanted, progress: Progress) -> Evaluation:
    """Score each task by itself, so that one that cannot be scored does not cost the others."""
    scored, notes = [tasks.Scored([], {}) for _ in loaded], []
    for task in asked.tasks:
        progress.stage(f"{task}: {', '.join(one.name for one in loaded)}")
        try:
            each = [tasks.score(one.model, one.tokenizer, [task], asked.task_files, asked.limit) for one in loaded]
        except InputError as error:
            notes.append(f"{task} is left out: {error}")
        else:
            scored = [before + more for before, more in zip(scored, each, strict=True)]
    found = _noted(_with(found, [{"tasks": one.scores} for one in scored]), notes)
    if len(scored) < 2:
        return found
    return found.model_copy(update={"task_differences": tasks.differences(scored[0], scored[1], asked.confidence)})


def _few(own: OnText) -> list[str]:
    """A caution if the intervals rest on so few sources that a run's verdict would carry one too."""
    count = len(np.unique(own.sources))
    if count == 1 and len(own.sources) > 1:
        return [
            "all documents come from one book or file and are taken for independent, so the intervals speak of that one alone and are"
            " narrower than of others: read more of them"
        ]
    return (
        [f"the intervals rest on {plural(count, 'document')}, or books, only: read more of them"]
        if count < FEW_SOURCES
        else []
    )


def _noted(found: Evaluation, notes: list[str]) -> Evaluation:
    return found.model_copy(update={"notes": found.notes + notes}) if notes else found


def _with_use(found: Evaluation, loaded: list[Reference], asked: Wanted, progress: Progress) -> Evaluation:
    progress.stage("Generation, each time in a process of its own")
    places = [_place(one) for one in loaded]
    uses = generate(places, asked.prompt, asked.new, asked.turns, asked.dtype, asked.trust_remote_code)
    how = UseMeasured(prompt=asked.prompt, new=asked.new, turns=asked.turns, dtype=asked.dtype)
    return _with(found, [{"use": use} for use in uses]).model_copy(update={"generation": how})


def _with(found: Evaluation, more: Sequence[Mapping[str, object]]) -> Evaluation:
    """Add to each model's entry what else was measured of it."""
    models = [entry.model_copy(update=own) for entry, own in zip(found.models, more, strict=True)]
    return found.model_copy(update={"models": models})


def _place(loaded: Reference) -> Path:
    return locate(str(loaded.model.name_or_path) if loaded.name == BUNDLED else loaded.name)
