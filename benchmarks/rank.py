"""The time of k* of attention maps: ours against numpy's `svd(compute_uv=False)` and against Gram eigenvalues, by class of map.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 python benchmarks/rank.py [MODEL --text FILE] [--each 8]

The three are interleaved map by map in float32 with the same threads. Times are medians over maps of processor time, so that
other loads count little; ratios are of summed times, and the last two of wall time. Every k* is compared with that of a float64
singular value decomposition. About two minutes on a quiet machine.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inheritune.decoder.stack import evaluating
from inheritune.diagnosis.probe import probing
from inheritune.diagnosis.rank import approximate_rank
from inheritune.diagnosis.text import spread_windows
from inheritune.models.load import load_model, tokenizer_at

THRESHOLD = 0.90
CLOSE = 1e-6


def svd(map_TT: Tensor) -> None:
    np.linalg.svd(map_TT.numpy(), compute_uv=False)


def gram(map_TT: Tensor) -> None:
    torch.linalg.eigvalsh(map_TT.mT @ map_TT)


def ours(map_TT: Tensor) -> None:
    approximate_rank(map_TT[None, None], THRESHOLD)


WAYS: dict[str, Callable[[Tensor], None]] = {"svd": svd, "gram": gram, "ours": ours}


@dataclass
class Measured:
    processor: dict[str, float]
    wall: dict[str, float]
    rank: int
    wrong: bool


def measure(map_TT: Tensor) -> Measured:
    processor, wall = {}, {}
    for name, way in WAYS.items():
        start, wall_start = time.process_time(), time.perf_counter()
        way(map_TT)
        processor[name], wall[name] = time.process_time() - start, time.perf_counter() - wall_start
    squares = np.linalg.svd(map_TT.double().numpy(), compute_uv=False) ** 2
    held = squares.cumsum() / squares.sum()
    rank = int((held < THRESHOLD).sum()) + 1
    close = bool((abs(held - THRESHOLD) < CLOSE).any())
    return Measured(processor, wall, rank, not close and approximate_rank(map_TT[None, None], THRESHOLD).item() != rank)


def row(name: str, length: int, maps: list[Measured]) -> str:
    total = {way: sum(one.processor[way] for one in maps) for way in WAYS}
    wall = {way: sum(one.wall[way] for one in maps) for way in WAYS}
    medians = " | ".join(f"{1e3 * float(np.median([one.processor[way] for one in maps])):.2f}" for way in WAYS)
    each = float(np.median([one.processor["svd"] / one.processor["ours"] for one in maps]))
    ratios = f"{total['svd'] / total['ours']:.1f} | {each:.1f} | {total['gram'] / total['ours']:.2f}"
    walls = f"{wall['svd'] / wall['ours']:.1f} | {wall['gram'] / wall['ours']:.2f}"
    return f"| {name} | {length} | {len(maps)} | {medians} | {ratios} | {walls} | {sum(one.wrong for one in maps)} |"


def made_up(length: int, count: int) -> Iterator[tuple[str, Tensor]]:
    """Random and adversarial maps: diffuse, sharp, local, a sink against each, and shares near the threshold."""
    torch.manual_seed(0)
    rows = torch.arange(length)
    future = rows[None] > rows[:, None]
    previous = torch.eye(length).roll(1, 0).tril()
    sink = torch.zeros(length, length)
    sink[:, 0] = 1
    for _ in range(count):
        noise = torch.randn(length, length)
        for name, logits in (
            ("random, diffuse", 0.5 * noise),
            ("random, sharp", 4 * noise),
            ("local", noise - 0.3 * (rows[:, None] - rows[None])),
        ):
            yield name, logits.masked_fill(future, -torch.inf).softmax(-1)
        for share in (0.5, 0.74, 0.76):
            yield "sink and previous token", share * sink + (1 - share) * previous


def of_model(folder: Path, text: str, length: int, every: int) -> Iterator[tuple[str, Tensor]]:
    model = load_model(folder, torch.float32)
    tokens_BT = spread_windows(text, tokenizer_at(folder), length, 1)
    found: list[Tensor] = []

    class Keeper:
        def saw_map(self, _layer: int, maps_BHTT: Tensor) -> None:
            found.extend(maps_BHTT.flatten(0, 1).clone())

        def saw_output(self, _layer: int, _share_BH: Tensor) -> None: ...

    with evaluating(model), probing(model, Keeper()):
        model(tokens_BT, use_cache=False)
    for map_TT in found[::every]:
        yield folder.name, map_TT


def _range(rank: int) -> str:
    bounds = (1, 16, 64, 256)
    low = next((f"k* up to {bound}" for bound in bounds if rank <= bound), "k* above 256")
    return "k* = 1" if rank == 1 else low


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--text", default="bundled:docstrings")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--every", type=int, default=7, help="use every n-th head of the model")
    parser.add_argument("--each", type=int, default=2, help="rounds of made-up maps")
    arguments = parser.parse_args()
    print(
        f"torch {torch.__version__}, numpy {np.__version__}, {torch.get_num_threads()} thread(s), float32, ms a map\n"
    )
    print(
        "| class | T | maps | svd | gram | ours | svd/ours, summed | median | gram/ours | wall svd/ours | wall gram/ours | wrong k* |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for length in arguments.lengths:
        classes: dict[str, list[Measured]] = {}
        warm = torch.rand(length, length).tril()
        for way in WAYS.values():
            way(warm)
        for name, map_TT in made_up(length, arguments.each):
            classes.setdefault(name, []).append(measure(map_TT))
        if arguments.model:
            for name, map_TT in of_model(arguments.model, arguments.text, length, arguments.every):
                measured = measure(map_TT)
                classes.setdefault(f"{name}, all", []).append(measured)
                classes.setdefault(f"{name}, {_range(measured.rank)}", []).append(measured)
        for name, maps in sorted(classes.items()):
            print(row(name, length, maps), flush=True)


if __name__ == "__main__":
    main()
