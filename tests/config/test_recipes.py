"""The paper's recipes against the paper's numbers; every one names its sources."""

from importlib import resources

import pytest

from inheritune.config.loading import load_recipe, recipe_names
from inheritune.config.recipes import CompareRecipe, RunRecipe, TrainRecipe

# blocks of the reference, blocks at the start, width, heads, peak rate, tokens of a step (paper, section 4; v4's batches)
PAPER = {
    "gpt2-medium": (24, 12, 1024, 16, 3e-4, 384 * 1024),
    "gpt2-large": (36, 18, 1280, 20, 2e-4, 128 * 1024),
    "gpt2-xlarge": (48, 24, 1600, 25, 1.5e-4, 128 * 1024),
    "fineweb-medium": (24, 16, 1024, 16, 3e-4, 96 * 1024),
    "fineweb-large": (32, 16, 1280, 20, 2e-4, 96 * 1024),
}
TODAY = ["smollm2-135m", "smollm2-360m", "smollm2-1.7b", "qwen3-0.6b", "llama-3.2-1b", "olmo-2-1b", "pythia-410m"]


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_numbers(name: str) -> None:
    depth, start, width, heads, rate, batch = PAPER[name]
    reference, run = load_recipe(TrainRecipe, f"{name}-reference", {}), load_recipe(RunRecipe, name, {})
    model = reference.model
    assert (model["n_layer"], model["n_embd"], model["n_head"]) == (depth, width, heads)
    assert model["scale_attn_by_inverse_layer_idx"] and model["vocab_size"] == 50_304
    assert (run.growth.start, run.growth.add, run.growth.literal, run.choice.method) == (start, 2, True, "first")
    assert not run.choice.heal and run.reference == f"runs/{name}-reference/model"
    for training in (reference.training, run.training):
        assert (training.peak_lr, training.batch_tokens, training.tokens) == (rate, batch, 100_000 * batch)
        assert training.peak_lr * training.final_lr == pytest.approx(1e-5, rel=0.01)
        assert training.warmup_tokens == 2_000 * batch and training.schedule == "cosine"
        assert (training.weight_decay, training.beta1, training.beta2, training.clip) == (0.1, 0.9, 0.95, 1.0)
    assert run.data == reference.data and run.data.sequence_length == 1024


def test_openllama_is_thirteen_blocks_and_eight_passes_of_the_mixture() -> None:
    run = load_recipe(RunRecipe, "openllama-3b", {})
    assert run.choice.blocks == "0-12" and run.limits.max_rounds == 1
    assert [source.weight for source in run.data.train] == [67, 15, 4.5, 4.5, 4.5, 2.5, 2]
    assert run.training.tokens == 64_000 * 131_072 and run.training.warmup_tokens == 1_000 * 131_072


@pytest.mark.parametrize("name", TODAY)
def test_todays_models_run_as_we_run(name: str) -> None:
    run = load_recipe(RunRecipe, name, {})
    assert run.choice.heal and run.choice.method == "greedy" and not run.growth.literal
    assert run.objective == load_recipe(RunRecipe, "laptop", {}).objective, "taught as the default is"
    assert run.data.train[0].source == "hf:HuggingFaceFW/fineweb-edu"


def test_the_replica_compares_at_the_shape_it_trained() -> None:
    reference, compare = (
        load_recipe(TrainRecipe, "replica-24-reference", {}),
        load_recipe(CompareRecipe, "replica-24", {}),
    )
    assert reference.model["n_layer"] == 24 and compare.depth == 16 and compare.seeds == 3
    assert compare.data == reference.data and reference.model["n_head"] % 2 == 0
    assert compare.training == reference.training and compare.training.peak_lr in compare.learning_rates
    assert {"published", "inheritune", "random", "random-twice"} == set(compare.methods[:4])


@pytest.mark.parametrize("name", [name for name in recipe_names() if name in (*PAPER, *TODAY, "openllama-3b")])
def test_a_recipe_of_the_paper_says_where_its_values_stand(name: str) -> None:
    text = (resources.files("inheritune.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
    assert "2404.08634" in text and "paper" in text.partition("name:")[0]
