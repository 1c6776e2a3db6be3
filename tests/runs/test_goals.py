"""What a user wants, and what the policy makes of it: the cheapest match, the smallest, or the best of a size."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tiny import untrained_model
from transformers import PreTrainedModel

import inheritune
from inheritune.choosing.choice import Ordering
from inheritune.config.sections import Growth, Size
from inheritune.errors import RecipeError
from inheritune.evidence.gap import Gap
from inheritune.runs import planning
from inheritune.runs.actions import Finished, GoOn, History, Plan, Seen, Stop
from inheritune.runs.policy import next_action
from inheritune.runs.size import deepest
from inheritune.surgery.in_memory import inherit

CHOICE = Ordering("made up", "", 5, (3, 1, 2, 4, 0))


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return untrained_model("gpt2").eval()


def parameters(model: PreTrainedModel) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("depth", [1, 3, 4])
def test_the_deepest_cut_that_fits_is_counted_on_the_cut_itself(model: PreTrainedModel, depth: int) -> None:
    """Exactly as large as asked for is no larger; one parameter less is a block less."""
    held = parameters(inherit(model, CHOICE.blocks(depth)))
    for size, dtype in (
        (Size(parameters=held), torch.float32),
        (Size(memory=4 * held + 3), torch.float32),
        (Size(memory=2 * held), torch.float16),
    ):
        assert deepest(size, model, dtype) == depth
    if depth > 1:
        assert deepest(Size(parameters=held - 1), model, torch.float32) == depth - 1
    assert deepest(Size(depth=depth), model, torch.float32) == depth


def test_a_size_that_no_cut_has_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(RecipeError, match="10 parameters, and one block"):
        deepest(Size(parameters=10), model, torch.float32)
    for size in (Size(parameters=parameters(model)), Size(depth=5)):
        with pytest.raises(RecipeError, match="which the reference meets with all its 5 blocks"):
            deepest(size, model, torch.float32)


@pytest.mark.parametrize(("times", "depth"), [(1.2, 4), (1.5, 3), (2.0, 1)])
def test_a_cut_is_faster_by_what_its_blocks_take(
    model: PreTrainedModel, times: float, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 ms outside the blocks and 10 ms a block: 60 ms in all, so 50, 40 and 30 ms are asked for; 30 ms leave 2 blocks."""
    monkeypatch.setattr("inheritune.runs.size._seconds", lambda cut: 0.01 + 0.01 * cut.config.n_layer)
    assert deepest(Size(latency=times - 1e-6), model, torch.float32) == {4: 4, 3: 3, 1: 2}[depth]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [("memory", "200MB", 200_000_000), ("memory", "1.5 GB", 1_500_000_000), ("parameters", "135M", 135_000_000), ("parameters", "1B", 10**9),
     ("latency", "1.5x", 1.5), ("parameters", 12, 12), ("memory", "7", 7)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(key: str, text: Any, value: float) -> None:
    assert getattr(Size(**{key: text}), key) == value


@pytest.mark.parametrize(
    "tree",
    [{}, {"depth": 3, "memory": "1GB"}, {"memory": "much"}, {"memory": "-1GB"}, {"latency": "1x"}, {"depth": 0}, {"parameters": "0M"}, {"latency": "nanx"}],
)  # fmt: skip
def test_what_is_no_size_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Size(**tree)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"goal": "fit"}, "belong together"),
        ({"target": {"depth": 3}}, "belong together"),
        ({"goal": "fit", "target": {"depth": 3}, "start": 2}, "leave start and max_depth out"),
        ({"goal": "smallest", "literal": True}, "knows no goal smallest"),
    ],
)
def test_goals_that_contradict_the_rest_are_refused(tree: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Growth(**tree)


def test_a_model_of_a_size_has_one_round_and_claims_no_match() -> None:
    plan = Plan(3, 1, 3, 0.01, 100, 1, 8, literal=False, fit=True)
    doomed = tuple(Seen(10 * n, 100, Gap(1.0, 0.9, 1.1, "worse"), 1.0) for n in range(1, 9))
    assert next_action(History(3, True, (), doomed), plan) == GoOn()
    for verdict in ("worse", "matched"):
        done = Finished(3, Gap(0.1, 0.0, 0.2, verdict), 100, 1.0, 1.0, doomed)
        action = next_action(History(3, False, (done,)), plan)
        assert isinstance(action, Stop) and action.outcome == "fitted" and "no match is claimed" in action.reason


def rounds(**limits: Any) -> int:
    given = {"max_tokens": None, "max_rounds": 4} | limits
    recipe = SimpleNamespace(
        growth=Growth(goal="smallest"),
        training=SimpleNamespace(tokens=1000, batch_tokens=64),
        limits=SimpleNamespace(**given),
    )
    return planning.round_tokens(recipe)  # type: ignore[arg-type]


def test_the_smallest_depth_has_all_tokens_that_the_limits_allow_in_whole_steps() -> None:
    assert rounds() == 4000 // 64 * 64 and rounds(max_tokens=5000) == 5000 // 64 * 64


def test_a_run_to_a_size_and_one_to_the_smallest_depth(tree: dict[str, Any], tmp_path: Path) -> None:
    """The first ends after one round at the depth that fits; the second trains one round on all tokens of the limits."""
    steps = {}
    for name, growth, limits in (
        ("fit", {"goal": "fit", "target": {"depth": 3}}, {}),
        ("smallest", {"goal": "smallest", "max_depth": 4}, {"max_tokens": 4000}),
    ):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**tree, "growth": growth, "limits": limits}))
        found = inheritune.run(str(tmp_path / "recipe.yaml"), out=str(tmp_path / name))
        steps[name] = [round_.steps for round_ in found.rounds]
        if name == "fit":
            assert found.outcome == "fitted" and found.target.depth == 3 and "No match is claimed" in found.message
            assert found.validation.looks == 1
        else:
            assert sum(round_.tokens for round_ in found.rounds) <= 4000
    assert steps["fit"] == [1536 // 256] and steps["smallest"][0] == 4000 // 256
