"""Measurements on one GPU: our training step beside a plain loop's and nanoGPT's, a diagnosis, and memory beside what its formula says.

    python benchmarks/gpu_check.py [--tiny]

Called by `gpu_check.sh`. Random weights, random tokens, nothing fetched. What matters most comes first, since compiling takes most of
the time.
`--tiny`: the same sections on tiny models.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from training_peers import NanoGPT
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
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
# A model that is far too small to keep a GPU busy: steps of 4,096 tokens.
SMALL: dict[str, Any] = {"model_type": "gpt2", "vocab_size": 2048, "n_positions": 256, "n_embd": 48, "n_layer": 8, "n_head": 2,
                         "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
# What a GPU gets by default without one of its remedies, to show what that remedy gains.
WITHOUT: dict[str, dict[str, Any]] = {
    "blocks compiled, not recorded": {"compile": "blocks"}, "without compiled blocks": {"compile": "none"},
    "kernels that need not repeat": {"repeatable": False}, "in fp32": {"precision": "fp32"},
    "activations again, so not recorded": {"checkpoint_activations": True},
}  # fmt: skip
# The same for remedies that no key of the recipe switches off: names in `kernels`, and what replaces them.
SWAPPED: dict[str, dict[str, Any]] = {
    "smaller pieces of the head": {"_LARGE_CHUNK": 1 << 25}, "gelu_new spelled out": {"NewGELUActivation": ()},
}  # fmt: skip


Step = Callable[[], float]
_WARM = 3  # untimed steps after the first: the second step of all is recorded as a CUDA graph


def main() -> None:
    """Print every section; one that fails prints its error, and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    tiny = parser.parse_args().tiny
    make_repeatable(0)
    print(f"device: {device()}, PyTorch {torch.__version__}")
    for precision in ("bf16", "fp32"):
        print(f"products in {precision}: {gauge.matrix_rate(precision, device()) / 1e12:.2f} TFLOP/s", flush=True)
    shapes = {name: _fitted(fields, tiny) for name, fields in SHAPES.items()}
    for name, fields in shapes.items():
        _tried(name, speed, fields, tiny)
    _tried("GPT-2 8 x 48", small, _fitted(SMALL, tiny), tiny)
    for section in (profile, diagnosis, cutting, remedies):
        for name, fields in shapes.items():
            _tried(name, section, fields, tiny)


def _fitted(fields: dict[str, Any], tiny: bool) -> dict[str, Any]:
    return {**fields, **{key: value for key, value in TINY.items() if key in fields}} if tiny else fields


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


def speed(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """The speed and memory of a step of two micro-batches: ours, nanoGPT's and a plain loop's; ours and nanoGPT's also in turns.

    Each line has tokens per second, the share of the rate that matrix products reach, and bytes.
    """
    batch_BT = _batch(fields, tiny)
    told, ours = _measured("ours", _ours, fields, batch_BT)
    yield told
    if fields["model_type"] == "gpt2":
        told, peer = _measured("nanoGPT, model compiled", partial(_nanogpt, compiled=not tiny), fields, batch_BT)
        yield told
        yield f"ours and nanoGPT in turns: {_in_turns(ours, peer)}"
        del peer
    del ours
    for name, compiled in (("plain loop, blocks compiled", True), ("plain loop", False)):
        yield _measured(name, partial(_plain, compiled=compiled and not tiny), fields, batch_BT)[0]


def small(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """A step of one micro-batch of a small model: by default, and with less compiled."""
    batch_BT = _batch(fields, tiny, 256)
    for precision in ("fp32", "bf16"):
        for name, compiled in (("ours", "auto"), ("blocks compiled, not recorded", "blocks"), ("neither", "none")):
            wanted = _quick(tiny, {"precision": precision, "compile": compiled, "micro_batch_size": len(batch_BT)})
            yield _measured(name, _ours, fields, batch_BT, **wanted)[0]


def remedies(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """Our step with each remedy left out."""
    batch_BT = _batch(fields, tiny)
    for name, changes in WITHOUT.items():
        yield _measured(name, _ours, fields, batch_BT, **_quick(tiny, changes))[0]
    for name, swap in SWAPPED.items():
        if "gelu" not in name or fields["model_type"] == "gpt2":
            with patch.multiple(kernels, **swap):
                yield _measured(name, _ours, fields, batch_BT)[0]


def profile(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """Where our step spends its time on the device: the run time of the kernels, which may be less than the time the step waits for them."""
    batch_BT, gpu = _batch(fields, tiny), device().type == "cuda"
    step = _ours(_model(fields), _training(batch_BT), batch_BT)
    for _ in range(1 + _WARM):
        step()
    took = median(_seconds(step) for _ in range(4))
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CUDA if gpu else kinds.CPU]) as seen:
        step()
        _wait()
    spent = {
        (row.key, row.count): row.self_device_time_total if gpu else row.self_cpu_time_total
        for row in seen.key_averages()
    }
    yield f"{sum(spent.values()) / 1e3:.2f} ms in all kernels of a step of {took * 1e3:.2f} ms"
    for (key, count), time_spent in sorted(spent.items(), key=lambda one: -one[1])[:12]:
        yield f"{time_spent / 1e3:8.2f} ms in {count} x {key[:80]}"


def diagnosis(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """The seconds of a diagnosis of a few sequences: maps, ranks and cuts."""
    model = _model(fields).eval()
    for length in (16, 24) if tiny else (100, 512):
        tokens_NT = torch.randint(0, 300, (4, length), generator=torch.Generator().manual_seed(0))
        began = time.perf_counter()
        found = diagnose(model, tokens_NT, curve_sequences=2 if length < 512 else 0, untrained=False)
        yield f"{time.perf_counter() - began:.2f} s at T = {length}, {found.depth} layers, loss {found.loss:.3f}"


def cutting(fields: dict[str, Any], tiny: bool) -> Iterator[str]:
    """The seconds and the peak memory of a cut and its proof."""
    stood = _begun()
    model = _model(fields).eval()
    blocks = range(1 if tiny else 8)
    began = time.perf_counter()
    proof = prove(inherit(model, list(blocks)), model, list(blocks))
    failed = [f"{check.name}: {check.detail}" for check in proof.checks if not check.passed]
    yield f"{time.perf_counter() - began:.2f} s, most {_held(stood)}, {'; '.join(failed) or 'proved'}"


def _model(fields: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields)).to(device())


def _batch(fields: dict[str, Any], tiny: bool, length: int = 1024) -> Tensor:
    rows, length = (4, 16) if tiny else (16, length)
    return torch.randint(0, fields["vocab_size"], (rows, length + 1), generator=torch.Generator().manual_seed(0))


def _quick(tiny: bool, changes: dict[str, Any]) -> dict[str, Any]:
    """The same changes; for tiny models, nothing is compiled either."""
    return {**changes, **({"compile": "none"} if tiny else {})}


def _training(batch_BT: Tensor, **changes: Any) -> Training:
    tokens = batch_BT[:, 1:].numel()
    wanted = {"tokens": tokens, "batch_tokens": tokens, "micro_batch_size": len(batch_BT) // 2, **changes}
    return settled(Training(**wanted), device())


def _ours(model: PreTrainedModel, training: Training, batch_BT: Tensor) -> Step:
    """A step as our training loop takes it; it returns the loss."""
    if training.checkpoint_activations:
        model.activation_checkpointing_enable({"use_reentrant": False})
    loss, optimizer = TrainingLoss(model.train(), training, say=print), Optimizer(model, training)

    def step() -> float:
        torch.use_deterministic_algorithms(training.repeatable, warn_only=True)
        parts = loss.backward(batch_BT.to(device()), batch_BT[:, 1:].numel())
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        found = torch.stack([parts["loss"], norm.double()]).tolist()
        optimizer.step(3e-4)
        return found[0]

    return step


def _plain(model: PreTrainedModel, training: Training, batch_BT: Tensor, compiled: bool) -> Step:
    """A plain loop on the model's own loss: autocast, gradients accumulated, clipped, fused AdamW."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-4, betas=(0.9, 0.95), fused=True)
    for block in anatomy(model).blocks if compiled else ():
        block.compile()

    def step() -> float:
        torch.use_deterministic_algorithms(False)
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


def _nanogpt(model: PreTrainedModel, training: Training, batch_BT: Tensor, compiled: bool) -> Step:
    peer = NanoGPT(model, None, training.micro_batch_size, training.precision, compiled)
    model.to(CPU)  # type: ignore[arg-type]

    def step() -> float:
        torch.use_deterministic_algorithms(False)
        return peer(batch_BT)

    return step


def _measured(
    name: str, make: Callable[..., Step], fields: dict[str, Any], batch_BT: Tensor, **changes: Any
) -> tuple[str, Step]:
    """Time a step made by `make`; return its figures as a sentence, and the step itself."""
    stood = _begun()
    model, training = _model(fields), _training(batch_BT, **changes)
    step = make(model, training, batch_BT)
    first = step()
    for _ in range(_WARM):
        step()
    took = median(_seconds(step) for _ in range(4))
    tokens, length = batch_BT[:, 1:].numel(), batch_BT.shape[1] - 1
    flops = 3 * forward_flops_per_token(model, length) * tokens / took
    share = flops / gauge.matrix_rate(training.precision, device())
    least = step_memory(model, training, length).total if make is _ours else None
    return (
        f"{name}: {tokens / took:,.0f} tokens/s, {took * 1e3:.2f} ms a step, {share:.0%} of the products' rate in {training.precision},"
        f" first loss {first:.4f}, most {_held(stood)}{f' where the formula says at least {least / 1e9:.2f}' if least else ''}"
    ), step


def _in_turns(ours: Step, peer: Step) -> str:
    """Time eight steps of each, in alternation; tell by how much ours is faster."""
    took = [(_seconds(ours), _seconds(peer)) for _ in range(8)]
    mine, theirs = (median(column) for column in zip(*took, strict=True))
    each = [other / own for own, other in took]
    return f"{theirs / mine:.2f} times nanoGPT's tokens a second (single turns {min(each):.2f} to {max(each):.2f})"


def _begun() -> tuple[int, int]:
    """Free what is no longer used and reset the peaks; return the bytes allocated and reserved before a model is made."""
    gc.collect()
    if device().type != "cuda":
        return 0, 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()


def _held(stood: tuple[int, int]) -> str:
    """The peak memory beyond `stood`, as text: that of a CUDA graph is reserved, and allocated only while the graph is recorded."""
    allocated = f"{(gauge.peak_memory(device()) - stood[0]) / 1e9:.2f} GB held"
    if device().type != "cuda":
        return allocated
    return f"{allocated} and {(torch.cuda.max_memory_reserved() - stood[1]) / 1e9:.2f} GB reserved"


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
