"""A default never refuses what a user did set."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from inheritune.config.loading import load_for_positions, load_recipe
from inheritune.config.recipes import RunRecipe
from inheritune.errors import RecipeError

# What is set, and then: tokens, batch_tokens, micro_batch_size, warmup_tokens, sequence_length.
LAPTOP: list[tuple[dict[str, int], tuple[int, ...]]] = [
    ({}, (600_000, 4096, 8, 28_672, 256)),
    ({"training.tokens": 400_000}, (400_000, 4096, 8, 28_672, 256)),
    ({"training.tokens": 20_000}, (20_000, 4096, 8, 20_000 * 28_672 // 600_000, 256)),
    ({"training.tokens": 1000}, (1000, 768, 3, 1000 * 28_672 // 600_000, 256)),
    ({"training.batch_tokens": 256}, (600_000, 256, 1, 28_672, 256)),
    ({"training.micro_batch_size": 32}, (600_000, 8192, 32, 28_672, 256)),
    ({"training.tokens": 1000, "training.micro_batch_size": 1}, (1000, 768, 1, 1000 * 28_672 // 600_000, 256)),
    ({"data.sequence_length": 100}, (600_000, 4000, 8, 28_672, 100)),
    ({"limits.max_tokens": 100_000}, (100_000, 4096, 8, 28_672, 256)),
]


def numbers(recipe: RunRecipe) -> tuple[int, ...]:
    own = recipe.training
    return own.tokens, own.batch_tokens, own.micro_batch_size, own.warmup_tokens, recipe.data.sequence_length


@pytest.mark.parametrize(("given", "wanted"), LAPTOP)
def test_what_is_not_set_gives_way(given: dict[str, int], wanted: tuple[int, ...]) -> None:
    assert numbers(load_recipe(RunRecipe, "laptop", given)) == wanted


@pytest.mark.parametrize(
    "given",
    [
        {"training.tokens": 20_000, "training.warmup_tokens": 20_000},
        {"training.batch_tokens": 256, "training.micro_batch_size": 2},
        {"training.batch_tokens": 300, "data.sequence_length": 200},
        {"limits.max_tokens": 5000, "training.tokens": 10_000},
    ],
)
def test_what_is_set_and_contradicts_itself_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="contradicts itself"):
        load_recipe(RunRecipe, "laptop", given)


def written(place: Path, **training: Any) -> str:
    tree = {"name": "mine", "reference": "x", "data": {"train": "t.jsonl"}, "training": {"tokens": 20_000, **training}}
    place.write_text(yaml.safe_dump(tree))
    return str(place)


def test_a_file_of_ones_own_is_set_by_hand_and_the_rest_are_defaults(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    for given, wanted in (
        ({}, (20_000, 16_384, 8, 0, 1024)),
        ({"batch_tokens": 256}, (20_000, 256, 1, 0, 256)),
        ({"batch_tokens": 3000}, (20_000, 3000, 3, 0, 1000)),
        ({"tokens": 1000}, (1000, 1000, 1, 0, 1000)),
    ):
        assert numbers(load_recipe(RunRecipe, written(mine, **given), {})) == wanted
    with pytest.raises(RecipeError, match="warmup_tokens"):
        load_recipe(RunRecipe, written(mine, warmup_tokens=9000), {"training.tokens": 8000})


def test_lengths_of_the_default_fit_the_models_positions(tmp_path: Path) -> None:
    mine = load_recipe(RunRecipe, written(tmp_path / "mine.yaml"), {})
    short = load_for_positions(mine, 64)
    assert numbers(short) == (20_000, 16_384, 8, 0, 64) and short.diagnosis.length == 64
    assert load_for_positions(mine, 4096) is mine
    by_hand = load_recipe(RunRecipe, str(tmp_path / "mine.yaml"), {"data.sequence_length": 128})
    assert load_for_positions(by_hand, 64).data.sequence_length == 128, "the run refuses it by name"
