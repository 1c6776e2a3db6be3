"""What every cut or grown model must pass before it is trusted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy, text_config
from inheritune.errors import InputError, ModelError, ProofError
from inheritune.progress import Tally, silent
from inheritune.records.model_folder import CheckRecord, ProofRecord
from inheritune.runtime.device import room_for, whole_products
from inheritune.runtime.memory import ran_out
from inheritune.surgery import checks
from inheritune.surgery.blockmap import BlockMap
from inheritune.surgery.in_memory import as_map

Question = tuple[str, Callable[[], str | None]]


@dataclass(frozen=True)
class Check:
    """One question to a model: its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Proof:
    """The checks that a model was put through, with their results."""

    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def require(self) -> "Proof":
        """This proof, if it holds; raises ProofError naming the first check that failed."""
        for check in self.checks:
            if not check.passed:
                raise ProofError(f"The model fails the check {check.name!r}: {check.detail}")
        return self

    def save(self, path: Path | str) -> None:
        """Write the proof as JSON."""
        checks = [CheckRecord(**asdict(check)) for check in self.checks]
        ProofRecord(passed=self.passed, checks=checks).save(Path(path))


def prove(
    model: PreTrainedModel,
    reference: PreTrainedModel | Sequence[PreTrainedModel] | None = None,
    blocks: Sequence[int] | str | BlockMap | None = None,
    *,
    count: Tally = silent,
) -> Proof:
    """Put `model` through every check; given the `reference` and the `blocks` cut from it (None: its first ones), compare them too.

    A grown model is compared with two models, the target and the reference, by the map from both. A check that raises an error has
    failed, and its detail names the error; `count` counts checks. The models are left as they were. If the model is on a GPU, it and
    those that it is compared with are there in turns, the others meanwhile in the CPU's memory. Raises InputError for a map that does
    not inherit every block whole, as such a model has nothing to be compared with, and ModelError where memory does not suffice.
    """
    sources = [] if reference is None else [reference] if isinstance(reference, PreTrainedModel) else list(reference)
    block_map = as_map(range(anatomy(model).depth) if blocks is None else blocks)
    if sources and not block_map.whole:
        raise InputError("Only blocks that are inherited whole can be held against a reference.")
    modes = [(asked, asked.training) for asked in (model, *sources)]
    for asked, _ in modes:
        asked.eval()
    questions, found = list(_questions(model, sources, block_map)), list[Check]()
    count(0, len(questions))
    try:
        with whole_products(), room_for([model], sources, model.device):
            for name, question in questions:
                found.append(_ask(name, question))
                count(len(found), len(questions))
    finally:
        for asked, training in modes:
            asked.train(training)
    return Proof(found)


def _questions(model: PreTrainedModel, sources: Sequence[PreTrainedModel], block_map: BlockMap) -> Iterator[Question]:
    tokens_BT = checks.some_tokens(model)
    yield "every weight is a number", lambda: checks.finite(model)
    yield "every block knows its place", lambda: checks.places(model)
    yield "tied weights are tied", lambda: checks.ties(model, sources[-1] if sources else None)
    yield "cached generation equals uncached", lambda: checks.cached(model, tokens_BT)
    if (window := checks.window_of(text_config(model.config))) > checks.WIDE:
        name = f"cached generation equals uncached, past a window narrowed from {window} to {checks.NARROW} tokens"
        yield name, lambda: _narrowly(model, tokens_BT)
    yield "gradients reach every parameter", lambda: checks.gradients(model, sources, block_map, tokens_BT)
    yield "saved and loaded, it is the same", lambda: checks.reloaded(model, tokens_BT)
    if sources:
        name = "logits equal the reference's with its blocks so arranged"
        yield name, lambda: checks.arranged(model, sources, block_map, tokens_BT)


def _narrowly(model: PreTrainedModel, tokens_BT: Tensor) -> str | None:
    with checks.narrowed(model):
        return checks.cached(model, tokens_BT)


def _ask(name: str, question: Callable[[], str | None]) -> Check:
    """Run a check, which returns None or a sentence on what is wrong; raises ModelError where memory does not suffice for it."""
    try:
        wrong = question()
    except Exception as error:
        if ran_out(error):
            raise ModelError(
                f"The check {name!r} does not fit into memory, so nothing is proved: free some, or take a larger machine"
            ) from error
        wrong = f"{type(error).__name__}: {error}".split("\n")[0]
    return Check(name, wrong is None, wrong or "as it should be")
