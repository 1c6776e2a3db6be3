"""What using a model costs, measured: time to the first token, tokens per second of generation, peak memory.

Each measurement is a fresh process, so that peak memory is the model's own; models take turns, so that a machine that
slows down slows all of them.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from transformers import PreTrainedModel

from inheritune.errors import ModelError
from inheritune.evaluation.continuation import greedy_logits
from inheritune.models.load import DTYPES, load_model
from inheritune.runtime import gauge
from inheritune.runtime.device import device


@dataclass(frozen=True)
class Use:
    """The cost of generating one sequence greedily: seconds to the first token, tokens per second after it, and memory in bytes.

    `peak_bytes` is the process's resident peak (on an accelerator, the peak allocated there); `base_bytes` what the
    process held before the model was loaded.
    """

    first_token_seconds: float
    tokens_per_second: float
    peak_bytes: int
    base_bytes: int


def generate(models: Sequence[Path], prompt: int, new: int, turns: int, dtype: str, trust: bool = False) -> list[Use]:
    """Median over `turns` of each model's use, on a prompt of `prompt` tokens and `new` tokens after it."""
    seen: list[list[Use]] = [[] for _ in models]
    for _ in range(turns):
        for place, model in enumerate(models):
            seen[place].append(_in_own_process(model, prompt, new, dtype, trust))
    return [middle(uses) for uses in seen]


def middle(uses: Sequence[Use]) -> Use:
    """The median of each measurement."""
    found = {name: median(getattr(use, name) for use in uses) for name in asdict(uses[0])}
    return Use(
        found["first_token_seconds"], found["tokens_per_second"], int(found["peak_bytes"]), int(found["base_bytes"])
    )


def _in_own_process(model: Path, prompt: int, new: int, dtype: str, trust: bool) -> Use:
    arguments = [str(model), str(prompt), str(new), dtype, str(torch.get_num_threads()), *(["trust"] if trust else [])]
    command = [sys.executable, "-m", "inheritune.evaluation.generation", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or ["the process was killed: too little memory?"]
        raise ModelError(f"{model} cannot generate here ({lines[-1]}): --no-generation leaves this out")
    return Use(**json.loads(ended.stdout))


def _use(place: Path, prompt: int, new: int, dtype: str, trust: bool) -> Use:
    base = gauge.peak_memory(device())
    model = load_model(place, DTYPES[dtype], trust, device())
    ids = torch.arange(prompt, device=device())[None] % model.config.get_text_config().vocab_size
    for _ in range(2):  # the first is warm-up
        times = token_seconds(model, ids, new)
    return Use(times[0], (new - 1) / sum(times[1:]), gauge.peak_memory(device()), base)


def token_seconds(model: PreTrainedModel, ids_1T: torch.Tensor, new: int) -> list[float]:
    """Seconds that each new token takes, decoded greedily."""
    began, times = time.perf_counter(), list[float]()
    for logits_1V in greedy_logits(model, ids_1T, new):
        logits_1V[0, 0].item()  # waits for an accelerator
        ended = time.perf_counter()
        times.append(ended - began)
        began = ended
    return times


def _main(model: str, prompt: str, new: str, dtype: str, threads: str, trust: str = "") -> None:
    torch.set_num_threads(int(threads))
    print(json.dumps(asdict(_use(Path(model), int(prompt), int(new), dtype, bool(trust)))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
