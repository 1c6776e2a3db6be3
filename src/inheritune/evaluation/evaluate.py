"""`inheritune evaluate`: a model on a text, in use and on tasks, beside a reference on the same documents."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inheritune.data.corpora import documents
from inheritune.data.documents import Document
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import parameter_count
from inheritune.errors import DataError, InputError
from inheritune.evaluation import tasks
from inheritune.evaluation.agreement import agreement
from inheritune.evaluation.found import EvaluatedModel, Evaluation, TextLoss, TextMeasured, UseMeasured
from inheritune.evaluation.generation import generate
from inheritune.evaluation.guard import answers, guard
from inheritune.evaluation.guard_items import items
from inheritune.evaluation.measure import OnText, Text, against, measure
from inheritune.models.chat import PLAIN, Chat, chat_of
from inheritune.models.find import locate
from inheritune.models.reference import BUNDLED, Reference, load_reference, with_size
from inheritune.progress import Progress, Rates
from inheritune.records.guard import Guard

_MOST = 700.0  # nats, from which on exp is beyond a float


@dataclass(frozen=True)
class Wanted:
    """What to measure, and how."""

    data: str = "bundled:docstrings"
    field: str = "text"
    documents: int = 100
    characters: int = 8_000
    length: int = 1024
    tasks: tuple[str, ...] = ()
    task_files: Path | None = None
    limit: int | None = None
    guard: bool = False
    generation: bool = True
    prompt: int = 64
    new: int = 64
    turns: int = 3
    dtype: str = "float32"
    margin: float = 0.01
    confidence: float = 0.95
    trust_remote_code: bool = False


def evaluate(
    model: str, reference: str | None = None, progress: Progress | None = None, **wanted: Any
) -> dict[str, Any]:
    """Measure `model`, and `reference` beside it where one is named: what `--json` prints.

    `wanted` are fields of `Wanted`. Losses are in fp32. Raises InputError for what the user has to mend.
    """
    return find(model, reference, progress or Progress(quiet=True), Wanted(**wanted)).model_dump(exclude_unset=True)


def find(model: str, reference: str | None, progress: Progress, asked: Wanted) -> Evaluation:
    """As `evaluate`, which gives the same as plain data."""
    _refuse(asked, reference is not None)
    trust = asked.trust_remote_code
    loaded = []
    for name in (model, reference):
        if name is not None:
            with progress.waiting(f"Model: {with_size(name)}"):
                loaded.append(load_reference(name, trust=trust))
    texts = _texts(asked, loaded)
    asked = _fitted(asked, min(map(_positions, loaded)))
    on_text = [_measure(one, texts, asked, progress) for one in loaded]
    models = [_model(one, own) for one, own in zip(loaded, on_text, strict=True)]
    found = Evaluation(data=_about(asked, texts), models=models)
    if reference is not None:
        found = found.model_copy(update=_beside(loaded, on_text, asked, progress))
    if asked.guard:
        found = found.model_copy(update={"guard": _guarded(loaded, asked, progress)})
    if asked.tasks:
        found = _with_tasks(found, loaded, asked, progress)
    return _with_use(found, loaded, asked, progress) if asked.generation else found


def _refuse(asked: Wanted, has_reference: bool) -> None:
    if not asked.margin > 0:
        raise InputError(f"the margin is {asked.margin:g}: it should be greater than 0 (--margin)")
    if asked.task_files and not asked.tasks:
        raise InputError(f"no task of {str(asked.task_files)!r} is named: give --tasks")
    if asked.guard and not has_reference:
        raise InputError("the guard set compares with a reference: name it with --reference, or leave --guard out")
    if asked.tasks:
        tasks.library()  # told before the losses are measured


def _texts(asked: Wanted, loaded: list[Reference]) -> list[Text]:
    """The first documents, the same for all models: conversations are rendered by the first one that has a chat template."""
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
    """Whether a document is read whole, and does not close itself as a rendered conversation may."""
    return len(document.text) <= characters and not (
        document.messages and chat.end and document.text.endswith(chat.end)
    )


def _about(asked: Wanted, texts: list[Text]) -> TextMeasured:
    return TextMeasured(
        source=asked.data, documents=len(texts), bytes=sum(len(text.text.encode()) for text in texts),
        window_tokens=asked.length, margin=asked.margin, confidence=asked.confidence,
    )  # fmt: skip


def _fitted(asked: Wanted, positions: int) -> Wanted:
    """No more than the positions that each of the models has."""
    room = max(2, positions // 2)
    return replace(asked, length=min(asked.length, positions), prompt=min(asked.prompt, room), new=min(asked.new, room))


def _positions(loaded: Reference) -> int:
    return loaded.positions or 1 << 20


def _measure(loaded: Reference, texts: list[Text], asked: Wanted, progress: Progress) -> OnText:
    progress.stage(f"{loaded.name}: loss on {len(texts)} documents")
    return measure(loaded.model, loaded.tokenizer, texts, asked.length)


def _beside(loaded: list[Reference], on_text: list[OnText], asked: Wanted, progress: Progress) -> dict[str, object]:
    """The gap, and where both read the same tokens how far they agree at each."""
    own, other = on_text
    found: dict[str, object] = {"gap": against(own, other, asked.margin, asked.confidence)}
    if len(own.rows) == len(other.rows) and all(map(np.array_equal, own.rows, other.rows)):
        with progress.waiting("Both models token by token"):
            found["agreement"] = agreement(loaded[0].model, loaded[1].model, own, other, asked.confidence)
    return found


def _guarded(loaded: list[Reference], asked: Wanted, progress: Progress) -> Guard:
    given, found = items(), []
    for one in loaded:
        count = partial(Rates(progress), f"{one.name}: {len(given)} items of the guard set")
        found.append(answers(one.model, one.tokenizer, given, count=count).right)
    return guard(given, found[0], found[1], asked.confidence)


def _model(loaded: Reference, own: OnText) -> EvaluatedModel:
    text = TextLoss(
        val_loss=own.val_loss, perplexity=math.exp(min(own.val_loss, _MOST)), bits_per_byte=own.bits_per_byte,
        tokens=int(own.tokens.sum()), by_position=own.by_position,
    )  # fmt: skip
    depth, parameters = anatomy(loaded.model).depth, parameter_count(loaded.model)
    return EvaluatedModel(model=loaded.name, depth=depth, parameters=parameters, text=text)


def _with_tasks(found: Evaluation, loaded: list[Reference], asked: Wanted, progress: Progress) -> Evaluation:
    scored = []
    for one in loaded:
        progress.stage(f"{one.name}: {', '.join(asked.tasks)}")
        scored.append(tasks.score(one.model, one.tokenizer, asked.tasks, asked.task_files, asked.limit))
    rows = [{"tasks": one.scores} for one in scored]
    found = _with(found, rows)
    if len(scored) < 2:
        return found
    return found.model_copy(update={"task_differences": tasks.differences(scored[0], scored[1], asked.confidence)})


def _with_use(found: Evaluation, loaded: list[Reference], asked: Wanted, progress: Progress) -> Evaluation:
    progress.stage("Generation, each time in a process of its own")
    places = [_place(one) for one in loaded]
    uses = generate(places, asked.prompt, asked.new, asked.turns, asked.dtype, asked.trust_remote_code)
    how = UseMeasured(prompt=asked.prompt, new=asked.new, turns=asked.turns, dtype=asked.dtype)
    return _with(found, [{"use": use} for use in uses]).model_copy(update={"generation": how})


def _with(found: Evaluation, more: Sequence[Mapping[str, object]]) -> Evaluation:
    """Each model's entry with what was measured of it next."""
    models = [entry.model_copy(update=own) for entry, own in zip(found.models, more, strict=True)]
    return found.model_copy(update={"models": models})


def _place(loaded: Reference) -> Path:
    return locate(str(loaded.model.name_or_path) if loaded.name == BUNDLED else loaded.name)
