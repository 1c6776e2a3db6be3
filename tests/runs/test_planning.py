"""What the policy is told beforehand, against the models themselves."""

from types import SimpleNamespace

import pytest
import torch
from tiny import untrained_model

from inheritune.choosing.choice import Ordering
from inheritune.config.sections import Growth, Limits, Match, Objective, Training
from inheritune.decoder.costs import parameter_count
from inheritune.evidence.left import left_after
from inheritune.models.begin import Begin
from inheritune.progress import Progress
from inheritune.runs.planning import _left, _untrained, hopeless, plan_looks
from inheritune.surgery.in_memory import inherit
from inheritune.training.costs import step_flops

CHOICE = Ordering("made up", "", 5, (3, 1, 2, 4, 0))


def bench(optimizer: str = "muon", logits: float = 0.0, again: bool = False) -> SimpleNamespace:
    training = Training(tokens=1024, batch_tokens=64, optimizer=optimizer, checkpoint_activations=again)
    tokens_BT = torch.randint(300, (3, 16), generator=torch.Generator().manual_seed(0))
    recipe = SimpleNamespace(
        training=training,
        data=SimpleNamespace(sequence_length=16),
        choice=SimpleNamespace(sequences=3, blocks=None),
        growth=Growth(start=2),
        match=Match(),
        limits=Limits(),
        objective=Objective(logits=logits),
    )
    return SimpleNamespace(
        begin=Begin(),
        progress=Progress(),
        precision_of_cuts="fp32",
        train_tokens=range(10**6),
        recipe=recipe,
        model=untrained_model("gpt2").eval(),
        sequences=lambda count, length: tokens_BT[:count, :length],
    )


def test_untrained_losses_are_those_of_the_cut_model(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    given = bench()
    found = _untrained(given, tmp_path, CHOICE, 2)
    assert sorted(found) == [2, 3, 4, 5]
    stage, first, *_ = capsys.readouterr().out.splitlines()
    assert stage == "Losses of cuts before any training, to the first from which none matches" and first.startswith(
        "  1 of 3, "
    )
    tokens_BT = given.sequences(3, 16)
    for depth, loss in found.items():
        with torch.no_grad():
            logits_BTV = inherit(given.model, CHOICE.blocks(depth))(tokens_BT).logits
        wanted = torch.nn.functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten())
        assert loss == pytest.approx(wanted.item(), abs=1e-5)
    assert _untrained(None, tmp_path, CHOICE, 2) == found, "a continued run reads what was measured"  # type: ignore[arg-type]


def test_no_cut_is_measured_below_one_that_is_hopeless(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Unless the recipe asks for it. With few tokens a cut of 0.2 nats ends far above the margin, with many it may match."""
    given = bench()
    given.recipe.growth, given.recipe.match = Growth(), Match(margin=1e-9)
    given.recipe.training = given.recipe.training.model_copy(update={"tokens": 64})
    given.model = untrained_model("gpt2", initializer_range=0.4).eval()
    found = _untrained(given, tmp_path, CHOICE, 1)
    lost = {depth: loss - found[5] for depth, loss in found.items()}
    ends = hopeless(given)
    assert len(found) < 5 and ends(lost[min(found)]) and not any(ends(lost[depth]) for depth in sorted(found)[1:])
    for loss, tokens in ((0.2, 64), (0.2, 1 << 40)):
        given.recipe.training = given.recipe.training.model_copy(update={"tokens": tokens})
        chance = left_after(loss, tokens, sum(weight.numel() for weight in given.model.parameters())).chance_below(1e-9)
        assert hopeless(given)(loss) == (chance < 1 / 6)
    given.recipe.growth = Growth(literal=True)
    assert not hopeless(given)(100.0)


def test_a_limit_of_flops_leaves_each_depth_its_own_tokens(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Of 16 steps of the shallower cut, as many FLOPs pay for fewer of the deeper one."""
    given = bench()
    each = {depth: step_flops(given.model, given.recipe.training, 16, None, CHOICE.blocks(depth)) for depth in (2, 4)}
    given.recipe.limits = Limits(max_flops=8.0 * each[2])
    found = _left(given, CHOICE, {2: 5.5, 4: 5.1, 5: 5.0})
    parameters = sum(weight.numel() for weight in given.model.parameters())
    for depth, lost in ((2, 5.5 - 5.0), (4, 5.1 - 5.0)):
        assert found[depth] == left_after(lost, 64 * int(8 * each[2] / each[depth]), parameters)


def test_what_is_left_is_told_by_tokens_and_parameters() -> None:
    given = bench()
    found = _left(given, CHOICE, {3: 5.5, 4: 5.1, 5: 5.0})
    parameters = sum(weight.numel() for weight in given.model.parameters())
    assert found == {
        3: left_after(0.5, 1024, parameters), 4: left_after(5.1 - 5.0, 1024, parameters), 5: left_after(0.0, 1024, parameters)
    }  # fmt: skip


def test_every_look_of_a_run_is_paid_for() -> None:
    """Four fifths of 10% on both sides, shared among three looks; where a look may read on, a quarter of its share is for that."""
    alone, reading = plan_looks(3, 0, 0.9), plan_looks(3, 2, 0.9)
    assert (alone.looks, alone.reads) == (3, 0) and alone.confidence == pytest.approx(1 - 0.16 / 3)
    assert (reading.looks, reading.reads) == (3, 2) and reading.confidence == pytest.approx(1 - 0.12 / 3)
    assert reading.reading_confidence == pytest.approx(1 - 0.04 / 3 / 2)


def test_text_that_is_read_more_than_four_times_is_worth_four_readings() -> None:
    given = bench()
    given.recipe.growth, lost = Growth(), {5: 1.0, 3: 1.5}
    given.train_tokens = range(200)
    found = _left(given, CHOICE, lost)[3]
    assert (
        found == left_after(0.5, 4 * 200, parameter_count(given.model))
        and found.mean > left_after(0.5, 1024, parameter_count(given.model)).mean
    )
    given.train_tokens = range(256)
    assert _left(given, CHOICE, lost)[3] == left_after(0.5, 1024, parameter_count(given.model))
