"""What a run's files must say, computed from its models and tokens with plain torch and numpy, sharing nothing with the package."""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

Recipe = dict[str, Any]


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def rows_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["kind"] == kind]


def documents_of(cache: Path, side: str, outside: bool = False) -> list[np.ndarray]:
    """The ids of the one prepared text's documents; `outside`, of the one that is not trained on."""
    found = [path for path in cache.rglob("manifest.json") if (read(path)["sides"]["train"]["tokens"] == 0) == outside]
    (manifest,) = found
    ids = np.fromfile(manifest.parent / f"{side}.bin", f"<u{read(manifest)['bytes']}").astype(np.int64)
    return np.split(ids, np.fromfile(manifest.parent / f"{side}.starts", "<i8")[1:])


def batches(ids: np.ndarray, recipe: Recipe) -> Iterator[np.ndarray]:
    """Sequences cut without gaps from a fresh offset in each pass, in a fresh order, dealt out batch by batch."""
    length = recipe["data"]["sequence_length"]
    count = (len(ids) - 1) // length - 1

    def sequences() -> Iterator[np.ndarray]:
        for number in range(1 << 20):
            random = np.random.Generator(np.random.Philox(key=[recipe.get("seed", 0), number]))
            offset = int(random.integers(length))
            for place in random.permutation(count):
                yield ids[offset + place * length :][: length + 1]

    dealt = sequences()
    while True:
        yield np.stack([next(dealt) for _ in range(recipe["training"]["batch_tokens"] // length)])


def rate(training: dict[str, Any], step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to 0."""
    warmup = training["warmup_tokens"] // training["batch_tokens"]
    if step < warmup:
        return training["peak_lr"] * (step + 1) / (warmup + 1)
    return training["peak_lr"] * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def model_of(place: Path, config: Path, depth: int) -> PreTrainedModel:
    """The model that a checkpoint holds: the config's, of this depth."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(config, n_layer=depth))
    missing, unexpected = model.load_state_dict(load_file(place / "model.safetensors"), strict=False)
    assert not unexpected and all("lm_head" in name for name in missing), "the head is tied"
    return model


def adamw(model: PreTrainedModel, training: dict[str, Any], place: Path) -> torch.optim.Optimizer:
    """Decay on the blocks' matrices alone, and the checkpoint's moments."""
    named = dict(model.named_parameters())
    decayed = [p for name, p in named.items() if ".h." in name and p.ndim == 2]
    plain = [p for name, p in named.items() if not (".h." in name and p.ndim == 2)]
    groups = [{"params": decayed, "weight_decay": training["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    for key, tensor in load_file(place / "optimizer.safetensors").items():
        name, _, kind = key.rpartition("|")
        optimizer.state[named[name]][kind] = tensor
    return optimizer


def replay(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, text: list[np.ndarray], training: dict[str, Any]
) -> list[float]:
    """The loss of each step, dropout drawn from a number that the batch gives; the model is trained in place."""
    model.train()
    losses = []
    for step, batch in enumerate(text):
        digest = hashlib.blake2b(batch.tobytes(), digest_size=7, salt=b"0").digest()
        torch.manual_seed(int.from_bytes(digest, "big"))
        total = 0.0
        for rows in torch.from_numpy(batch).split(training["micro_batch_size"]):
            logits = model(rows[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
            (loss / batch[:, 1:].size).backward()
            total += loss.item() / batch[:, 1:].size
        torch.nn.utils.clip_grad_norm_(model.parameters(), training["clip"])
        for group in optimizer.param_groups:
            group["lr"] = rate(training, step, len(text))
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


@torch.no_grad()
def document_losses(model: PreTrainedModel, documents: list[np.ndarray], length: int) -> np.ndarray:
    """Nats per token of each document, read in windows that each begin with the last token of the one before."""
    model.eval()
    means = []
    for document in map(torch.from_numpy, documents):
        losses = []
        for start in range(0, len(document) - 1, length):
            window = document[start : start + length + 1]
            losses.append(
                torch.nn.functional.cross_entropy(model(window[None, :-1]).logits[0], window[1:], reduction="none")
            )
        means.append(torch.cat(losses).double().mean().item())
    return np.asarray(means)


def gap(
    target: np.ndarray, reference: np.ndarray, weights: np.ndarray, confidence: float
) -> tuple[float, float, float]:
    """Mean difference of the documents' losses, weighted by tokens, with a jackknife interval over documents."""
    apart = target - reference
    mean = float((weights * apart).sum() / weights.sum())
    without = [np.average(np.delete(apart, at), weights=np.delete(weights, at)) for at in range(len(apart))]
    error = math.sqrt((len(apart) - 1) / len(apart) * sum((each - mean) ** 2 for each in without))
    freedom = weights.sum() ** 2 / (weights**2).sum() - 1
    reach = student(confidence, freedom) * error
    return mean, mean - reach, mean + reach


def student(confidence: float, freedom: float) -> float:
    """Two-sided quantile of Student's t, by summing its density."""
    t = np.linspace(0, 60, 600_001)
    density = (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    below = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(np.interp(confidence, below / below[-1], t))


def verdict(low: float, high: float, margin: float) -> str:
    if high < margin:
        return "surpassed" if high < 0 else "matched"
    return "worse" if low > margin else "cannot tell"
