"""The peers of `training.py`: nanoGPT's step, on nanoGPT's own model where a checkout is named, and the HF Trainer.

Without a checkout the model is one written after nanoGPT's structure: plain linear layers with biases, fused attention, tied
head, the loss alone returned. The step is that of nanoGPT's train.py: mean cross-entropy of each micro-batch, gradients accumulated and
clipped, AdamW. All models are on the device of the model that they start from. On a CPU, nanoGPT itself runs in fp32 whatever dtype is
asked for, without fused AdamW; the tuned peer runs in bf16 with fused AdamW.
"""

import contextlib
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

RATE = 3e-4


def _adamw(model: nn.Module, fused: bool = True) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=fused or None)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.c_proj(mixed.transpose(1, 2).flatten(2))
        return x + self.out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class _GPT(nn.Module):
    def __init__(self, source: PreTrainedModel):
        super().__init__()
        config = source.config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(_Block(config.n_embd, config.n_head) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.load_state_dict(_renamed(source))

    def forward(self, ids_BT: Tensor, labels_BT: Tensor) -> Tensor:
        x = self.wte(ids_BT) + self.wpe(torch.arange(ids_BT.shape[1], device=ids_BT.device))
        for block in self.h:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), labels_BT.flatten())


def _own(source: PreTrainedModel, checkout: Path) -> nn.Module:
    """nanoGPT's own GPT, from the `model.py` of a checkout, with the source's weights."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    assert spec and spec.loader
    module, config = importlib.util.module_from_spec(spec), source.config
    with contextlib.redirect_stdout(None):
        spec.loader.exec_module(module)
        model = module.GPT(
            module.GPTConfig(
                config.n_positions, config.vocab_size, config.n_layer, config.n_head, config.n_embd, dropout=0.0
            )
        )
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # Conv1D's, transposed as in its own from_pretrained
    model.load_state_dict({name: t.T if name.endswith(turned) else t for name, t in source.state_dict().items()})
    return model


def _renamed(source: PreTrainedModel) -> dict[str, Tensor]:
    """The GPT-2's weights under the peer's names, those of Conv1D transposed."""
    found = {}
    for name, tensor in source.transformer.state_dict().items():
        product = ".h." in f".{name}" and tensor.ndim == 2
        name = name.replace("mlp.c_proj", "out").replace("attn.c_", "c_").replace("mlp.", "")
        found[name] = (tensor.T if product else tensor).clone()
    return found


class NanoGPT:
    """nanoGPT's step: one forward pass returns the loss, which is divided by the number of micro-batches."""

    def __init__(self, source: PreTrainedModel, checkout: Path | None, micro: int, precision: str, compiled: bool):
        self.on, self.micro = source.device, micro
        self.model = (_own(source, checkout) if checkout else _GPT(source)).to(self.on)
        self.optimizer = _adamw(self.model, fused=precision == "bf16" or self.on.type != "cpu")
        self.forward = torch.compile(self.model) if compiled else self.model
        half = torch.autocast(self.on.type, torch.bfloat16)
        self.context = half if precision == "bf16" else contextlib.nullcontext()

    def __call__(self, batch_BT: Tensor) -> float:
        parts, losses = batch_BT.to(self.on).split(self.micro), list[Tensor]()
        for part in parts:
            with self.context:
                out = self.forward(part[:, :-1].contiguous(), part[:, 1:].contiguous())
                loss = (out[1] if isinstance(out, tuple) else out) / len(parts)
            loss.backward()
            losses.append(loss.detach())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(torch.stack(losses).sum())


class _InOrder(Trainer):
    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class _Timed(TrainerCallback):
    """Measure the seconds from the start of a step to its end, so that making a Trainer for each turn is not counted."""

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.began, self.seconds = clock, 0.0, 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = self.clock()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = self.clock() - self.began


class HFTrainer:
    """One step of the HF Trainer, with model and optimizer kept from call to call; `timed` holds the seconds it took."""

    def __init__(self, model: PreTrainedModel, micro: int, precision: str, compiled: bool, clock: Callable[[], float]):
        self.timed = _Timed(clock)
        self.model, self.micro, self.half = model, micro, precision == "bf16"
        self.optimizer = _adamw(model)
        for block in model.transformer.h if compiled else ():
            block.compile()

    def __call__(self, batch_BT: Tensor) -> float:
        rows = [{"input_ids": row[:-1], "labels": row[1:], "shift_labels": row[1:]} for row in batch_BT]
        with tempfile.TemporaryDirectory() as scratch:
            wanted = TrainingArguments(
                scratch, max_steps=1, per_device_train_batch_size=self.micro, use_cpu=self.model.device.type == "cpu", bf16=self.half,
                gradient_accumulation_steps=len(rows) // self.micro, logging_steps=1, save_strategy="no",
                remove_unused_columns=False, max_grad_norm=1.0, disable_tqdm=True, report_to="none", log_level="error",
            )  # fmt: skip
            constant = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _step: 1.0)
            trainer = _InOrder(
                self.model, wanted, train_dataset=rows, optimizers=(self.optimizer, constant), callbacks=[self.timed]
            )
            with contextlib.redirect_stdout(None):
                trainer.train()
        return trainer.state.log_history[0]["loss"]
