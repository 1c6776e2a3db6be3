"""Memory and time of models of several sizes on 1, 8 and 64 GPUs, by the formulas of the guard and the plan: the tables of `docs/scale.md`.

    python benchmarks/scale.py

No weight is read or made: the models are only shapes.
"""

from dataclasses import dataclass

import torch
from transformers import AutoConfig, PreTrainedModel

from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import parameter_count
from inheritune.models.hollow import hollow
from inheritune.training.costs import step_flops
from inheritune.training.halves import halved_bytes
from inheritune.training.memory import step_memory

LENGTH, BATCH = 4096, 1 << 19
MOST = 0.9 * 80e9  # bytes of an H100 that a step may use
RATE, REACHED = 989e12, 0.4  # its FLOP/s in bf16, and the share of them that a step is assumed to reach
INSIDE, BETWEEN, NODE = 300e9, 50e9, 8  # bytes per second inside a node of eight cards and, per card, between nodes
SIZES = {
    "0.1 B": (576, 1536, 30, 9, 3, 49152, True),
    "1 B": (2048, 8192, 16, 32, 8, 128256, True),
    "3 B": (3072, 8192, 28, 24, 8, 128256, True),
    "8 B": (4096, 14336, 32, 32, 8, 128256, False),
}


def shape(hidden: int, inner: int, depth: int, heads: int, shared: int, vocabulary: int, tied: bool) -> PreTrainedModel:
    """A Llama of these sizes, without weights."""
    config = AutoConfig.for_model(
        "llama", hidden_size=hidden, intermediate_size=inner, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=shared, vocab_size=vocabulary, tie_word_embeddings=tied, max_position_embeddings=8192,
    )  # fmt: skip
    return hollow(config).float()


@dataclass(frozen=True)
class Line:
    """One size on a number of cards: how it is spread, bytes held by a card, and the seconds of a step's products and of what is sent."""

    way: str
    micro: int
    held: int
    products: float
    sent: float


def line(reference: PreTrainedModel, cards: int) -> Line:
    """A target of half the reference's blocks, with the reference set aside, spread in the simplest way that fits."""
    blocks = list(range(anatomy(reference).depth // 2))
    for way, micro, again in (("ddp", 4, False), ("ddp", 1, False), ("fsdp", 2, False), ("fsdp", 1, True)):
        training = Training(
            tokens=BATCH, batch_tokens=BATCH, micro_batch_size=micro, precision="bf16", checkpoint_activations=again
        )
        share = cards if way == "fsdp" else 1
        step = step_memory(reference, training, LENGTH, share=share, blocks=blocks, on=torch.device("cuda"))
        held = step.total + (share - 1) * step.gradients  # gradients are whole until a step's end
        if held < MOST:
            break
    weights = step_memory(reference, training, LENGTH, blocks=blocks).weights
    products = step_flops(reference, training, LENGTH, blocks=blocks) / (cards * RATE * REACHED)
    passes = max(1, BATCH // (LENGTH * micro * cards))
    gathered = (
        passes * weights if way == "fsdp" else weights
    )  # fsdp: in bf16, for the forward and the backward pass; ddp: the second half of an all-reduce
    sent = (gathered + weights) * (cards - 1) / cards / (INSIDE if cards <= NODE else BETWEEN)
    return Line(way + (", activations again" if again else ""), micro, held, products, sent)


def stages(reference: PreTrainedModel) -> dict[str, tuple[float, float]]:
    """GB at a stage beside what the stage computes with: as it was with all models on the card, a CPU's copy and whole gradients, and as it is."""
    whole = 4 * parameter_count(reference) / 1e9
    inside = sum(p.numel() for p in anatomy(reference).blocks.parameters()) * 4 / 1e9
    cut = whole - inside / 2
    grown = cut + inside / anatomy(reference).depth
    largest = max(p.numel() for p in reference.parameters()) * 4 / 1e9
    return {
        "loading, on the CPU": (whole, 0.0),
        "diagnosis: of the reference and of untrained weights": (2 * whole, whole),
        "diagnosis, on the CPU: untrained weights, and the reference set aside": (whole, 2 * whole),
        "cutting": (whole + cut, cut),
        "proof: of the cut, its gradients, the cut loaded again, and the reference": (
            whole + 3 * cut,
            max(whole, cut + largest),
        ),
        "growth by a block, proved: the same, and the target before": (
            whole + cut + 3 * grown,
            max(whole, grown + largest),
        ),
        "repair: of the reference and the cut": (whole + cut, whole),
        "cutting and repair, on the CPU: what is set aside": (cut, whole),
        "proof, on the CPU: what is set aside": (cut, whole + cut),
        "growth, on the CPU: what is set aside": (grown, whole + cut + grown),
        "training, of the reference": (whole, 0.0),
        "training, of the reference where it teaches in bf16": (whole, halved_bytes(reference) / 1e9),
        "training, on the CPU: the reference kept narrow, of a file in bf16": (0.0, whole / 2),
        "training, on the CPU: the reference, of a file in float32": (0.0, whole),
    }


def main() -> None:
    """Print the tables."""
    print(
        "| parameters | cards | way | micro-batch | held of a card, GB | products, s | sent, s | a step of 0.5 M tokens, s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, sizes in SIZES.items():
        reference = shape(*sizes)
        for cards in (1, 8, 64):
            found = line(reference, cards)
            fits = f"{found.held / 1e9:.1f}" + ("" if found.held < MOST else ": does not fit")
            longest = max(found.products, found.sent)
            print(f"| {name} | {cards} | {found.way} | {found.micro} | {fits} | {found.products:.2f} | {found.sent:.2f} | {longest:.2f} to {found.products + found.sent:.2f} |")  # fmt: skip
    for name in ("1 B", "8 B"):
        print(f"\n| {name}: GB at a stage | before | now |\n|---|---|---|")
        for stage, (before, now) in stages(shape(*SIZES[name])).items():
            print(f"| {stage} | {before:.1f} | {now:.1f} |")


if __name__ == "__main__":
    main()
