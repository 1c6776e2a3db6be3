"""A reference whose file is in bf16 is kept so in the CPU's memory, and nobody who computes with it sees that."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import LENGTH, in_bf16
from torch import nn
from transformers import PreTrainedModel

from inheritune.comparison.cell import Work
from inheritune.config.sections import Objective
from inheritune.decoder.anatomy import anatomy, is_tied
from inheritune.methods import METHODS, Given
from inheritune.models.reference import load_reference
from inheritune.records.result import RANDOM
from inheritune.runs.bench import Bench
from inheritune.runs.controls import Controls, names
from inheritune.runtime.device import CPU
from inheritune.surgery.in_memory import fresh, inherit
from inheritune.training.halves import in_halves

pytestmark = pytest.mark.device


def bench_of(place: Path) -> tuple[Bench, PreTrainedModel]:
    """A bench that hands out its reference, and a copy of that on the CPU."""
    bench, reference = Bench.__new__(Bench), load_reference(str(place))
    recipe = SimpleNamespace(seed=0, training=SimpleNamespace(precision="bf16"))
    vars(bench).update(reference=reference, recipe=recipe, home=reference.model.device)
    return bench, copy.deepcopy(reference.model).cpu()


def assert_same(model: nn.Module, meant: nn.Module) -> None:
    """The same bits in the same dtypes, also of what is computed from the config."""
    own, others = ([*each.parameters(), *each.buffers()] for each in (model, meant))
    for one, other in zip(own, others, strict=True):
        assert one.dtype == other.dtype and torch.equal(one.cpu(), other)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gemma2"])
def test_a_reference_kept_narrow_gives_what_it_gave(
    family: str, references: Callable[[str], Path], tmp_path: Path
) -> None:
    """Itself, its cut and it as a teacher, to the bit; what is tied stays so."""
    bench, given = bench_of(in_bf16(references(family), tmp_path))
    kept = bench.kept_narrow()
    assert {weight.device for weight in kept.parameters()} == {CPU}
    assert 2 * sum(weight.nbytes for weight in kept.parameters()) == sum(each.nbytes for each in given.parameters())
    gives: list[tuple[Callable[[], PreTrainedModel | None], PreTrainedModel]] = [
        (bench.set_aside, given), (lambda: bench.cut([0, 2, 3]), inherit(given, [0, 2, 3])),
        (lambda: bench.teacher(Objective(logits=1.0)), in_halves(given)), (lambda: bench.model, given),
    ]  # fmt: skip
    for give, meant in gives:
        own = give()
        assert own is not None and is_tied(own) == is_tied(meant)
        assert_same(own, meant)
    assert bench.model.device == bench.home != CPU


def test_a_weight_that_bf16_does_not_hold_is_kept_whole(references: Callable[[str], Path], tmp_path: Path) -> None:
    bench, _ = bench_of(in_bf16(references("llama"), tmp_path))
    whole = next(anatomy(bench.model).blocks[1].parameters())
    whole.data.view(-1)[5] += 2.0**-12
    given = copy.deepcopy(bench.model).cpu()
    kept = bench.kept_narrow()
    assert [weight is whole for weight in kept.parameters() if weight.dtype == torch.float32] == [True]
    assert_same(bench.model, given)


@pytest.mark.parametrize("name", names(Objective()))
def test_a_control_starts_from_what_it_did(name: str, references: Callable[[str], Path], tmp_path: Path) -> None:
    bench, given = bench_of(in_bf16(references("gemma2"), tmp_path))
    meant = fresh(given, 2, 0) if name == RANDOM else given
    bench.kept_narrow()
    controls = Controls.__new__(Controls)
    vars(controls).update(bench=bench, depth=2)
    made = controls._start(name)
    assert_same(made, meant)
    assert made.device == bench.home
    assert {weight.dtype for weight in bench.reference.model.parameters()} == {torch.bfloat16}


def test_a_later_phase_starts_from_the_reference_in_fp32(references: Callable[[str], Path], tmp_path: Path) -> None:
    """`late-expansion` draws new blocks as the reference has them, which the training of the phase before has left narrow."""
    bench, _ = bench_of(in_bf16(references("gpt2"), tmp_path / "reference"))
    work, given = Work.__new__(Work), Given(bench.model, 3, 0, LENGTH, bench.sequences)
    vars(work).update(folder=tmp_path, method=METHODS["late-expansion"], bench=bench, given=given)
    first, last = (phase.start for phase in work.method.phases)
    before = first(given, None)
    meant = copy.deepcopy(last(given, before)).cpu()
    bench.kept_narrow()
    assert_same(work._begin(2, before), meant)
