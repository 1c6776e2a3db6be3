"""When attention collapses during a training, and in which layers: the ranks of every head in checkpoints at log-spaced steps.

    python experiments/when_collapse.py RUN [RUN …] --text BOOKS.jsonl [--length 100] --out DIR

RUN is a folder of `inheritune train` that keeps its checkpoints (`training.checkpoints_kept`); the training need not be at its end.
Each is measured beside its own fresh weights on the same sequences, from documents that it does not train on. DIR gets a .jsonl for each recipe by its name, one
row a checkpoint, and collapse-while-training.png: MaxRank over depth and tokens. The gate, written before anything was measured: a
training *collapses* where at 30 million tokens at least 5% of its heads have a mean k* of at most 1.5 and none of its fresh ones do.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from inheritune.config.loading import load_recipe
from inheritune.config.recipes import TrainRecipe
from inheritune.data import corpora
from inheritune.diagnosis.diagnose import diagnose
from inheritune.models.begin import begin_of
from inheritune.models.reference import load_tokenizer
from inheritune.report.profile import Profile
from inheritune.report.style import figure_style
from inheritune.runtime.device import make_repeatable
from inheritune.training import checkpoint

SEQUENCES, EACH = 32, 4  # sequences in all, and from one document


def places(folder: Path) -> Iterator[tuple[int, Path | None]]:
    """Steps of a training, each about 1.4 times the one before, and their checkpoints; fresh weights first, the newest last."""
    found = {int(place.name.split("-")[-1]): place for place in sorted((folder / "checkpoints").glob("step-*"))}
    yield 0, None
    wanted = 1.0
    for step, place in sorted(found.items()):
        if step >= wanted or step == max(found):
            wanted = 2**0.5 * step
            yield step, place


def named(folder: Path) -> str:
    """The name of a training's recipe."""
    return load_recipe(TrainRecipe, str(folder / "config.yaml"), {}).name


def model_at(recipe: TrainRecipe, place: Path | None) -> PreTrainedModel:
    """The training's model with a checkpoint's weights, or with its initial ones if `place` is None."""
    make_repeatable(recipe.seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(**recipe.model))
    if place is not None:
        checkpoint.load(place, model)
    return model.eval()


def sequences(folder: Path, recipe: TrainRecipe, text: str, length: int) -> torch.Tensor:
    """Sequences (N, T) from evenly spaced places of a text's first documents, each after the tokens that the training puts in front."""
    tokenizer = load_tokenizer(recipe.tokenizer or str(folder / "tokenizer"))
    front = list(begin_of(tokenizer, recipe.data.begin).ids)
    length -= len(front)
    rows: list[list[int]] = []
    for document in corpora.documents(text):
        ids = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        if len(ids) >= EACH * length:
            rows += [
                front + ids[begin : begin + length] for begin in np.linspace(0, len(ids) - length, EACH).astype(int)
            ]
        if len(rows) >= SEQUENCES:
            break
    return torch.tensor(rows[:SEQUENCES])


def row(step: int, tokens: int, profile: Profile) -> dict[str, Any]:
    """What a checkpoint's profile says about collapse, as a row."""
    heads = [head for layer in profile.layers for head in layer.heads]
    low = [len(profile.lazy_heads.get(layer.index, [])) for layer in profile.layers]
    return {
        "step": step, "tokens": tokens, "loss": profile.loss, "heads": len(heads), "collapsed": low,
        "max_rank": [layer.max_rank for layer in profile.layers],
        "least_rank": min(head.rank for head in heads),
        "first_key": [float(np.mean([head.first_key for head in layer.heads])) for layer in profile.layers],
    }  # fmt: skip


def measured(folder: Path, text: str, length: int, out: Path) -> list[dict[str, Any]]:
    """A row for each of a training's checkpoints; those already in `out` are not measured again."""
    recipe = load_recipe(TrainRecipe, str(folder / "config.yaml"), {})
    kept = out / f"{recipe.name}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known, tokens_NT = {one["step"] for one in rows}, sequences(folder, recipe, text, length)
    for step, place in places(folder):
        if step in known:
            continue
        profile = diagnose(model_at(recipe, place), tokens_NT, curve_sequences=0, untrained=False)
        rows.append(row(step, step * recipe.training.batch_tokens, profile))
        with kept.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    return sorted(rows, key=lambda one: int(one["step"]))


def figure(found: dict[str, list[dict[str, Any]]]) -> Figure:
    """MaxRank over depth (up) and tokens (to the right, each checkpoint a column), one panel for each training."""
    with figure_style():
        drawn = Figure(figsize=(7.4, 2.6 * len(found)), layout="constrained")
        for axes, (name, rows) in zip(drawn.subplots(len(found), squeeze=False)[:, 0], found.items(), strict=True):
            ranks = np.array([one["max_rank"] for one in rows]).T
            shown = axes.imshow(ranks, origin="lower", aspect="auto", cmap="viridis", norm="log", vmin=1, vmax=40)
            axes.set_xticks(range(len(rows)), [f"{one['tokens'] / 1e6:.3g}" for one in rows])
            axes.set_xlabel("million tokens")
            axes.set_ylabel("layer")
            axes.set_title(name, fontsize=9)
            axes.grid(visible=False)
            bar = drawn.colorbar(shown, ax=axes, label="MaxRank", ticks=[1, 2, 5, 10, 20, 40])
            bar.ax.set_yticklabels(["1", "2", "5", "10", "20", "40"])
            bar.ax.minorticks_off()
    return drawn


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown, one line per checkpoint."""
    lines = ["| million tokens | loss | heads with mean k\\* up to 1.5 | lowest mean k\\* | MaxRank, layer by layer | most first-key share of a layer |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for one in rows:
        ranks = " ".join(f"{rank:.0f}" for rank in one["max_rank"])
        lines.append(
            f"| {one['tokens'] / 1e6:.3g} | {one['loss']:.3f} | {sum(one['collapsed'])} of {one['heads']}"
            f" | {one['least_rank']:.1f} | {ranks} | {max(one['first_key']):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--text", required=True, help="documents that the trainings do not read")
    parser.add_argument("--length", type=int, default=100, help="tokens of a sequence")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found = {named(folder): measured(folder, given.text, given.length, given.out) for folder in given.runs}
    for name, rows in found.items():
        print(f"\n**{name}**, {SEQUENCES} sequences of {given.length} tokens\n\n{table(rows)}")
    figure(found).savefig(given.out / "collapse-while-training.png", dpi=150)


if __name__ == "__main__":
    main()
