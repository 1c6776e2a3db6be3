"""What one GPU tells of our step, beside a plain loop and nanoGPT's; of a diagnosis; and of what memory's formula says.

    python benchmarks/gpu_check.py [--tiny]

Called by `gpu_check.sh`. Random weights, random tokens, nothing fetched. `--tiny`: the same sections on tiny models.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from training_peers import NanoGPT
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from inheritune.config.sections import Training
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.diagnosis.diagnose import diagnose
from inheritune.runtime import gauge
from inheritune.runtime.device import CPU, autocast, device, make_repeatable
from inheritune.surgery.in_memory import inherit
from inheritune.surgery.proof import prove
from inheritune.training import kernels
from inheritune.training.kernels import settled
from inheritune.training.memory import step_memory
from inheritune.training.objective import TrainingLoss
from inheritune.training.optimizer import Optimizer

SHAPES: dict[str, dict[str, Any]] = {
    "GPT-2 medium": {"model_type": "gpt2", "vocab_size": 50304, "n_embd": 1024, "n_layer": 24, "n_head": 16,
                     "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "Llama 1B": {"model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
                 "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True},
}  # fmt: skip
TINY = {"n_embd": 24, "n_layer": 2, "n_head": 2, "vocab_size": 320, "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
# Each remedy left out of what a GPU gets by default, so that what it gives is seen.
WITHOUT: dict[str, dict[str, Any]] = {
    "ours": {}, "without compiled blocks": {"compile": "none"}, "kernels that need not repeat": {"repeatable": False},
    "in fp32": {"precision": "fp32"}, "activations again": {"checkpoint_activations": True},
}  # fmt: skip
# The same for what no key asks for: names of `kernels`, and what stands there instead.
SWAPPED: dict[str, dict[str, Any]] = {
    "smaller pieces of the head": {"_LARGE_CHUNK": 1 << 25}, "gelu_new spelled out": {"NewGELUActivation": ()},
}  # fmt: skip


def main() -> None:
    """Every section, each in lines of its own; one that fails says with what, and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    tiny = parser.parse_args().tiny
    print(f"device: {device()}, PyTorch {torch.__version__}")
    for precision in ("bf16", "fp32"):
        print(f"products in {precision}: {gauge.matrix_rate(precision, device()) / 1e12:.2f} TFLOP/s")
    for name, fields in SHAPES.items():
        own = {**fields, **{key: value for key, value in TINY.items() if key in fields}} if tiny else fields
        for section in (speed, profile, diagnosis, cutting):
            _tried(name, section, own, tiny)


def _tried(
    name: str, section: Callable[[dict[str, Any], bool], Iterator[str]], fields: dict[str, Any], tiny: bool
) -> None:
    try:
        for told in section(fields, tiny):
            print(f"{name}, {section.__name__}: {told}", flush=True)
    except Exception as error:
        print(
            f"{name}, {section.__name__}: FAILED, {type(error).__name__}: {str(error).splitlines()[0][:200]}",
            flush=True,
        )
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()


def speed(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """A step of two micro-batches: tokens a second, the share of the products' rate, bytes; ours with each remedy left out, a plain loop, and nanoGPT's."""
    batch_BT = _batch(fields, tiny)
    names = [*WITHOUT, *(name for name in SWAPPED if "gelu" not in name or fields["model_type"] == "gpt2")]
    for name in names:
        training = _training(batch_BT, **WITHOUT.get(name, {}))
        make_repeatable(0, training.repeatable)
        model = _model(fields)
        with patch.multiple(kernels, **SWAPPED[name]) if name in SWAPPED else nullcontext():
            told = _told(name, model, batch_BT, training, _ours(model, training, batch_BT))
        yield told
    for name, compiled in (("plain loop", False), ("plain loop, blocks compiled", True)):
        torch.use_deterministic_algorithms(False)
        model, training = _model(fields), _training(batch_BT, repeatable=False)
        for block in (
            (model.get_decoder().layers if hasattr(model, "model") else model.transformer.h)
            if compiled and not tiny
            else ()
        ):
            block.compile()
        yield _told(name, model, batch_BT, training, _plain(model, training, batch_BT))
    if fields["model_type"] == "gpt2":
        model, training = _model(fields), _training(batch_BT, repeatable=False)
        peer = NanoGPT(model, None, training.micro_batch_size, training.precision, compiled=not tiny)
        model.to(CPU)  # type: ignore[arg-type]
        yield _told("nanoGPT, model compiled", model, batch_BT, training, partial(peer, batch_BT))


def profile(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """Where our step spends its time on the device."""
    batch_BT = _batch(fields, tiny)
    model, training = _model(fields), _training(batch_BT)
    step = _ours(model, training, batch_BT)
    step()
    with torch.profiler.profile() as seen:
        step()
        _wait()
    on_gpu = device().type == "cuda"
    rows = sorted(
        seen.key_averages(), key=lambda row: -(row.self_device_time_total if on_gpu else row.self_cpu_time_total)
    )
    for row in rows[:12]:
        spent = row.self_device_time_total if on_gpu else row.self_cpu_time_total
        yield f"{spent / 1e3:8.2f} ms in {row.count} x {row.key[:80]}"


def diagnosis(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """Maps, ranks and cuts of a few sequences: seconds."""
    model = _model(fields).eval()
    for length in (16, 24) if tiny else (100, 512):
        tokens_NT = torch.randint(0, 300, (4, length), generator=torch.Generator().manual_seed(0))
        began = time.perf_counter()
        found = diagnose(model, tokens_NT, curve_sequences=2 if length < 512 else 0, untrained=False)
        yield f"{time.perf_counter() - began:.2f} s at T = {length}, {found.depth} layers, loss {found.loss:.3f}"


def cutting(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """A cut and its proof: seconds, and the most bytes held."""
    model = _model(fields).eval()
    blocks = range(1 if tiny else 8)
    began = time.perf_counter()
    proof = prove(inherit(model, list(blocks)), model, list(blocks))
    held = gauge.peak_memory(device()) / 1e9
    failed = [f"{check.name}: {check.detail}" for check in proof.checks if not check.passed]
    yield f"{time.perf_counter() - began:.2f} s, most {held:.2f} GB, {'; '.join(failed) or 'proved'}"


def _model(fields: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields)).to(device())


def _batch(fields: dict[str, Any], tiny: bool) -> Tensor:
    rows, length = (4, 16) if tiny else (16, 1024)
    return torch.randint(0, fields["vocab_size"], (rows, length + 1), generator=torch.Generator().manual_seed(0))


def _training(batch_BT: Tensor, **changes: Any) -> Training:
    tokens = batch_BT[:, 1:].numel()
    wanted = Training(tokens=tokens, batch_tokens=tokens, micro_batch_size=len(batch_BT) // 2, **changes)
    return settled(wanted, device())


def _ours(model: PreTrainedModel, training: Training, batch_BT: Tensor) -> Callable[[], float]:
    """A step as the loop takes it; gives the loss."""
    if training.checkpoint_activations:
        model.activation_checkpointing_enable({"use_reentrant": False})
    loss, optimizer = TrainingLoss(model.train(), training), Optimizer(model, training)

    def step() -> float:
        parts = loss.backward(batch_BT.to(device()), batch_BT[:, 1:].numel())
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        found = torch.stack([parts["loss"], norm.double()]).tolist()
        optimizer.step(3e-4)
        return found[0]

    return step


def _plain(model: PreTrainedModel, training: Training, batch_BT: Tensor) -> Callable[[], float]:
    """A plain loop on the model's own loss: autocast, gradients accumulated, clipped, fused AdamW."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-4, betas=(0.9, 0.95), fused=True)

    def step() -> float:
        parts = batch_BT.to(device()).split(training.micro_batch_size)
        losses = []
        for part in parts:
            with autocast(training.precision, device()):
                loss = model(
                    input_ids=part[:, :-1], labels=part[:, :-1], shift_labels=part[:, 1:].contiguous(), use_cache=False
                ).loss / len(parts)
            loss.backward()
            losses.append(loss.detach())
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(torch.stack(losses).sum())

    return step


def _told(name: str, model: PreTrainedModel, batch_BT: Tensor, training: Training, step: Callable[[], float]) -> str:
    tokens, length = batch_BT[:, 1:].numel(), batch_BT.shape[1] - 1
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    first = step()
    took = median(_seconds(step) for _ in range(4))
    flops, rate = (
        3 * forward_flops_per_token(model, length) * tokens / took,
        gauge.matrix_rate(training.precision, device()),
    )
    held, least = gauge.peak_memory(device()), step_memory(model, training, length).total
    return (
        f"{name}: {tokens / took:,.0f} tokens/s, {flops / rate:.0%} of the products' rate in {training.precision}, first loss {first:.4f},"
        f" most {held / 1e9:.2f} GB held where the formula says at least {least / 1e9:.2f}"
    )


def _seconds(step: Callable[[], float]) -> float:
    began = time.perf_counter()
    step()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if device() != CPU:
        torch.get_device_module(device()).synchronize()


if __name__ == "__main__":
    main()
