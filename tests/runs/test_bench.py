"""What the bench says of the documents that a verdict rests on, and how it pairs them."""

from types import SimpleNamespace

import numpy as np
import pytest

from inheritune.config.sections import Match
from inheritune.evaluation.losses import ValidationSet
from inheritune.evidence.gap import gap
from inheritune.models.begin import Begin
from inheritune.progress import Progress
from inheritune.runs import bench
from inheritune.runs.bench import Bench


def made_up(sources: list[int] | None) -> Bench:
    """40 documents of three tokens each, with a reference that has one nat per token on all of them."""
    owner, labels = np.arange(40), np.ones((40, 3), int)
    documents = ValidationSet(labels, labels, owner, None if sources is None else np.asarray(sources))
    recipe = SimpleNamespace(match=Match(), training=SimpleNamespace(precision="fp32"))
    made = Bench.__new__(Bench)
    vars(made).update(
        documents=documents,
        recipe=recipe,
        reference_measured=SimpleNamespace(losses=[1.0] * 40),
        progress=Progress(quiet=True),
    )
    return made


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (None, ""),
        ([*range(10)] * 4, ""),
        ([0, 1, 2, 3] * 10, "rests on 4 books or files only"),
        ([7] * 40, "all validation documents come from one"),
    ],
)
def test_few_sources_are_said(sources: list[int] | None, said: str) -> None:
    found = bench._few_sources([made_up(sources).documents])
    assert bool(found) == bool(said) and all(said in caution for caution in found)


def test_documents_of_one_source_are_one_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.random.default_rng(0).normal(1, 0.1, 40)
    monkeypatch.setattr(bench, "document_losses", lambda *_: losses)
    monkeypatch.setattr(ValidationSet, "flops", lambda *_: 0.0)
    sources = [0, 1, 2, 3] * 10
    found = made_up(sources).compare(None)
    wanted = gap(losses, np.ones(40), documents=sources)
    assert (found.gap.low, found.gap.high) == pytest.approx((wanted.low, wanted.high))
    assert found.gap.low != pytest.approx(gap(losses, np.ones(40)).low, abs=1e-3)


def test_a_bench_for_another_seed_has_its_order_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bench, "_batches", lambda self: f"batches of seed {self.recipe.seed}")
    first = Bench.__new__(Bench)
    first.recipe, first.batches = SimpleNamespace(seed=0), "batches of seed 0"
    second = first.under(SimpleNamespace(seed=1))  # type: ignore[arg-type]
    assert (first.batches, second.batches) == ("batches of seed 0", "batches of seed 1")


def test_what_is_measured_on_is_spread_evenly_over_the_text() -> None:
    """Of 100 tokens four rows of ten, from the first to the last, each with its begin in front; of a short text as many as fit."""
    made = Bench.__new__(Bench)
    vars(made).update(home="cpu", begin=Begin((7,)), train_tokens=_Text(100))
    assert made.sequences(4, 10).tolist() == [[7, *range(first, first + 9)] for first in (0, 30, 60, 90)]
    vars(made).update(train_tokens=_Text(25))
    assert made.sequences(4, 10)[:, 1].tolist() == [0, 15]


class _Text:
    """Tokens 0, 1, 2 and so on."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, first: int, last: int) -> np.ndarray:
        return np.arange(first, last)
