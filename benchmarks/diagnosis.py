"""What a diagnosis costs compared with plain forward passes, and how much memory it takes.

    OMP_NUM_THREADS=2 python benchmarks/diagnosis.py MODEL --text FILE [--sequences 100] [--length 100] [--whole]

Every batch is run once plainly and once with measuring; processor time is counted, so that other loads matter little. The
measuring pass gives everything that needs no surgery: maps, hidden states, losses. `--whole` then runs the whole diagnosis with its defaults
(curves of cuts, untrained weights) for comparison.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import evaluating
from inheritune.diagnosis.diagnose import diagnose
from inheritune.diagnosis.measuring import batches, measure_sequences
from inheritune.diagnosis.text import spread_windows
from inheritune.models.load import load_model, tokenizer_at


def processor_seconds(act: Callable[[], object]) -> float:
    start = time.process_time()
    act()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", default="bundled:docstrings")
    parser.add_argument("--sequences", type=int, default=100)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--whole", action="store_true", help="also the whole diagnosis, with curves and contrasts")
    given = parser.parse_args()
    model = load_model(given.model, torch.float32)
    tokens_NT = spread_windows(given.text, tokenizer_at(given.model), given.length, given.sequences)
    plain, measured = [], []
    with evaluating(model):
        for tokens_BT in batches(list(tokens_NT), model, anatomy(model)):
            plain.append(processor_seconds(lambda part=tokens_BT: model(part, use_cache=False)))
            measured.append(processor_seconds(lambda part=tokens_BT: measure_sequences(model, list(part), 0.9)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    ratios = torch.tensor(measured) / torch.tensor(plain)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {tuple(tokens_NT.shape)} tokens")
    print(
        "| plain, s | measured, s | ratio, summed | ratio by batch, least to most | peak, GiB |\n|---|---|---|---|---|"
    )
    print(
        f"| {sum(plain):.1f} | {sum(measured):.1f} | {sum(measured) / sum(plain):.2f}"
        f" | {ratios.min():.2f} to {ratios.max():.2f} | {peak:.2f} |"
    )
    if given.whole:
        seconds = processor_seconds(lambda: diagnose(model, tokens_NT))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"\nThe whole diagnosis: {seconds:.1f} s, peak {peak:.2f} GiB.")


if __name__ == "__main__":
    main()
