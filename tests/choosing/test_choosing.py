from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import untrained_model
from transformers import PreTrainedModel

from inheritune.choosing import CRITERIA, Search
from inheritune.choosing.by_hand import refuse_depths
from inheritune.choosing.choice import Ordering
from inheritune.config.sections import Growth
from inheritune.decoder.stack import Stack
from inheritune.errors import RecipeError
from inheritune.report.words import about
from inheritune.surgery.in_memory import inherit


def profile(influence: list[float], ranks: list[float | None], angular: list[list[float]] | None = None) -> Any:
    layers = [SimpleNamespace(influence=i, max_rank=r) for i, r in zip(influence, ranks, strict=True)]
    lazy = [index for index, rank in enumerate(ranks) if rank == 1.0]
    return SimpleNamespace(depth=len(layers), layers=layers, lazy_layers=lazy, angular=angular)


MADE_UP = profile([0.9, 0.2, 0.05, 0.2, 0.6], [9.0, 1.0, 4.0, None, 1.0])


def order(method: str, found: Any) -> tuple[int, ...]:
    return CRITERIA[method](None, None, found).order  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("growth", "refused"),
    [({"start": 5}, ""), ({"start": 6}, "growth.start is 6"), ({"max_depth": 6}, "growth.max_depth is 6")],
)
def test_the_references_own_depth_is_the_deepest(growth: dict[str, int], refused: str) -> None:
    recipe: Any = SimpleNamespace(
        reference="x", growth=Growth(**{"max_depth": 5, **growth}), choice=SimpleNamespace(blocks=None)
    )
    with pytest.raises(RecipeError, match=refused) if refused else nullcontext():
        refuse_depths(recipe, 5)


def test_first_goes_from_the_top() -> None:
    assert order("first", MADE_UP) == (4, 3, 2, 1, 0)


def test_influence_lets_the_least_go_and_of_equals_the_deeper() -> None:
    assert order("influence", MADE_UP) == (2, 3, 1, 4, 0)
    assert "no loss of a cut was asked" in CRITERIA["influence"](None, None, MADE_UP).reason  # type: ignore[arg-type]


def test_lazy_lets_the_lowest_rank_go_and_never_a_layer_without_one() -> None:
    assert order("lazy", MADE_UP) == (4, 1, 2, 0, 3)


def test_angular_grows_one_run_to_the_side_that_turns_less() -> None:
    """`angular[n-1][i]` is the distance over n blocks from i: block 2 first, then 2-3 (0.3 < 0.5), then 1-3, 0-3."""
    distances = [[0.4, 0.3, 0.1, 0.2, 0.9], [0.6, 0.5, 0.3, 0.8], [0.7, 0.4, 0.6], [0.5, 0.9], [1.0]]
    assert order("angular", profile([0.0] * 5, [1.0] * 5, distances)) == (2, 3, 1, 0, 4)


def plain_loss(model: PreTrainedModel, tokens_BT: torch.Tensor) -> float:
    with torch.no_grad():
        logits_BTV = model(tokens_BT).logits
    return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten()).item()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_greedy_equals_trying_every_cut(family: str) -> None:
    model = untrained_model(family, initializer_range=0.2).eval()
    tokens_BT = torch.randint(300, (3, 20), generator=torch.Generator().manual_seed(0))
    kept, wanted = list(range(model.config.num_hidden_layers)), []
    while len(kept) > 1:
        losses = {b: plain_loss(inherit(model, [k for k in kept if k != b]), tokens_BT) for b in kept}
        ranked = sorted(losses.values())
        assert ranked[1] - ranked[0] > 1e-5, "the cheapest block must be clear for this test to mean anything"
        wanted.append(min(losses, key=losses.__getitem__))
        kept.remove(wanted[-1])
    choice = CRITERIA["greedy"](model, tokens_BT, None)  # type: ignore[arg-type]
    assert choice.order == (*wanted, *kept)
    assert choice.tokens == 60 and choice.flops > 0


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return untrained_model("gpt2", initializer_range=0.2).eval()


TOKENS_BT = torch.randint(300, (3, 20), generator=torch.Generator().manual_seed(0))
MANY_BT = torch.randint(300, (12, 60), generator=torch.Generator().manual_seed(0))


def greedily(model: PreTrainedModel, found: Any = MADE_UP, **how: Any) -> Ordering:
    return CRITERIA["greedy"](model, TOKENS_BT, found, Search(**how))


def test_greedy_ends_at_the_shallowest_depth_and_what_is_left_goes_by_influence(model: PreTrainedModel) -> None:
    whole, told = greedily(model), list[tuple[int, int]]()
    short = greedily(model, shallowest=3, count=lambda done, total: told.append((done, total)))
    assert short.order[:2] == whole.order[:2] and short.flops < 0.8 * whole.flops
    left = sorted(short.order[2:])
    assert list(short.order[2:]) == sorted(left, key=lambda block: (MADE_UP.layers[block].influence, -block))
    assert told == [(done, 9) for done in range(10)] and "down to 3 blocks, and the rest by influence" in short.reason
    assert "the rest" not in whole.reason


def test_greedy_ends_at_a_cut_that_no_round_could_match(model: PreTrainedModel, tmp_path: Path) -> None:
    """What a cut loses is told as it is; the cut that is hopeless is the last, also where it was found before a stop."""
    whole, lost = greedily(model), list[float]()
    greedily(model, hopeless=lambda nats: lost.append(nats) or False)
    stack = Stack(model, TOKENS_BT)
    cuts = [stack.loss(stack.run(stack.hidden0, whole.blocks(depth))) for depth in (4, 3, 2, 1)]
    assert lost == pytest.approx([cut - stack.whole_losses.mean().item() for cut in cuts], abs=1e-6)
    given = {"hopeless": lambda nats: nats == lost[1], "kept": tmp_path / "removals.jsonl"}
    short = greedily(model, **given)
    assert short.order[:2] == whole.order[:2] and short.flops < whole.flops
    assert "down to 3 blocks, where a match is too unlikely, and the rest by influence" in short.reason
    assert greedily(model, **given) == short, "nothing is searched again, or further"


def test_greedy_ends_when_its_time_is_over(model: PreTrainedModel) -> None:
    found = greedily(model, minutes=0)
    assert found.order[0] == greedily(model).order[0] and "at 4 the time was over" in found.reason
    assert sorted(found.order) == [0, 1, 2, 3, 4]


def test_what_greedy_had_no_time_for_is_told_by_the_pace_of_what_it_had(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that moves a second with each pass through a block: what the whole search takes beyond the short one."""
    made, plain = list[Stack](), Stack.__init__
    monkeypatch.setattr(
        Stack, "__init__", lambda stack, *args, **how: (made.append(stack), plain(stack, *args, **how))[1]
    )
    clock = SimpleNamespace(monotonic=lambda: float(made[-1].block_passes) if made else 0.0)
    monkeypatch.setattr("inheritune.choosing.greedy.time", clock)
    greedily(model)
    whole = clock.monotonic()
    made.clear()
    found = greedily(model, minutes=0)
    assert 0 < clock.monotonic() < whole
    assert f"(down to 1 takes at most about {about(whole - clock.monotonic())} more)" in found.reason


def test_greedy_goes_on_after_a_stop_to_the_same_choice(model: PreTrainedModel, tmp_path: Path) -> None:
    plain, place = greedily(model), tmp_path / "removals.jsonl"

    def stop(done: int, _: int) -> None:
        if done == 11:  # of five blocks 5 are tried, of four 4, and of three the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        greedily(model, kept=place, count=stop)
    told: list[int] = []
    assert greedily(model, kept=place, count=lambda done, _: told.append(done)) == plain
    assert told == [0, 9, 10, 11, 12, 13, 14]


def test_greedy_of_a_large_vocabulary_is_greedy(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = CRITERIA["greedy"](model, MANY_BT, MADE_UP)
    monkeypatch.setattr("inheritune.diagnosis.cuts.LARGE_VOCABULARY", 1)
    assert CRITERIA["greedy"](model, MANY_BT, MADE_UP).order == plain.order


def test_greedy_tells_nothing_further_apart_once_its_time_is_over(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step each, of a model whose cuts are all near each other."""
    monkeypatch.setattr("inheritune.diagnosis.cuts.LARGE_VOCABULARY", 1)
    late, whole = (
        CRITERIA["greedy"](model, MANY_BT, MADE_UP, Search(**how)) for how in ({"minutes": 0}, {"shallowest": 4})
    )
    assert late.flops < whole.flops


def test_blocks_of_a_choice_are_nested_and_in_order() -> None:
    choice = Ordering("made up", "", 5, (2, 4, 0, 1, 3))
    assert [choice.blocks(depth) for depth in range(1, 6)] == [[3], [1, 3], [0, 1, 3], [0, 1, 3, 4], [0, 1, 2, 3, 4]]
