"""A decoder run block by block, in any order, without changing it.

Shapes: B sequences, T tokens, D hidden size, V vocabulary. Some families carry more than one stream, so a hidden
state may have further axes between T and D; only the first axis is relied on.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from inheritune.decoder.anatomy import anatomy, require_known, text_config
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.runtime import processes
from inheritune.runtime.device import autocast, whole_products
from inheritune.runtime.memory import return_freed_memory

# Enough rows for full-speed matrix products, few enough for a chunk's logits to stay small.
CHUNK_TOKENS = 2048
CHUNK_LOGITS = 1 << 26


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run without gradients, in evaluation mode, with fp32 products in fp32; every module's own mode is restored, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad(), whole_products():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Reached(Exception):
    """Raised to end a forward pass at the module where it should end."""


def run_until(model: PreTrainedModel, module: nn.Module, tokens_BT: Tensor) -> None:
    """Run a forward pass that ends where `module` would be called: for hooks on what comes before it."""

    def end(*_: object) -> None:
        raise _Reached

    hook = module.register_forward_pre_hook(end, prepend=True)
    try:
        model(tokens_BT, use_cache=False)
    except _Reached:
        pass
    finally:
        hook.remove()


class Stack:
    """The blocks of a decoder on fixed tokens, each callable with the masks and positions that it receives in the model.

    `tokens_BT` are unpadded token ids; no loss asks for the first and the `unasked` after it (those of a begin of text).
    `hidden0` (B, T, D) is the input of block 0, `whole_token_losses` (B, T-1-unasked) the unchanged model's loss on each
    token that is asked for. `block_passes` counts whole-batch passes through one block, `head_passes` those through final
    norm and head, where a pass over a part of the positions counts as that part; the forward pass that captures the calls
    counts in both. Without `losses` it ends before the head, and there are no `whole_token_losses`. All passes, the capturing
    one too, run at `precision`.

    Where there are enough sequences, processes that work together each run a share of them: hidden states are of that share,
    losses of all sequences. All processes have to make the same calls.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokens_BT: Tensor,
        unasked: int = 0,
        *,
        losses: bool = True,
        precision: str = "fp32",
    ) -> None:
        return_freed_memory()
        self.model, self.unasked, self.precision = model, unasked, precision
        self.blocks = anatomy(model).blocks
        self.depth = len(self.blocks)
        require_known(model, int(tokens_BT.max()))
        device = next(model.parameters()).device
        rows = min(CHUNK_TOKENS, CHUNK_LOGITS // text_config(model.config).vocab_size)
        size = max(1, rows // tokens_BT.shape[1])
        parts = tokens_BT.long().to(device).split(size)
        self._spread = len(parts) >= processes.count() > 1
        own = processes.own_rows(len(parts)) if self._spread else slice(0, len(parts))
        self.tokens, self._rows = parts[own], slice(size * own.start, size * own.stop)
        self._asked_tokens = tokens_BT.numel()
        self._calls: list[list[_Call]] = []
        with self._measuring():
            whole = [self._capture(part, losses) for part in self.tokens]
        self.hidden0 = torch.cat([hidden for hidden, _ in whole])
        self.whole_token_losses = self._of_all(torch.cat([found for _, found in whole]))
        self.block_passes, self.head_passes = self.depth, float(losses)

    @property
    def whole_losses(self) -> Tensor:
        """Loss of the unchanged model, (B,), mean nats per token of each sequence."""
        return self.whole_token_losses.mean(1)

    @property
    def flops(self) -> float:
        """FLOPs of all passes so far, with each block counted as the mean of the blocks."""
        length = self.tokens[0].shape[1]
        whole, head = (
            forward_flops_per_token(self.model, length),
            2 * anatomy(self.model).head.get_parameter("weight").numel(),
        )
        return self._asked_tokens * (self.block_passes * (whole - head) / self.depth + self.head_passes * head)

    def run(self, hidden: Tensor, blocks: Iterable[int]) -> Tensor:
        """The hidden state (B, T, D) after the named blocks in that order; `hidden` itself is left as it was."""
        order = list(blocks)
        self.block_passes += len(order)
        if not order:
            return hidden
        with self._measuring():
            return torch.cat([self._run(i, part, order) for i, part in enumerate(self._parts(hidden))])

    def logits(self, hidden: Tensor) -> Tensor:
        """Final norm, head and whatever the family does after its blocks: (B, T, V)."""
        self.head_passes += 1
        with self._measuring():
            return torch.cat([self._logits(i, part) for i, part in enumerate(self._parts(hidden))])

    def losses(self, hidden: Tensor) -> Tensor:
        """Loss of each sequence, (B,) in float64: mean nats per predicted token, if `hidden` is what the last block gave."""
        self.head_passes += 1
        with self._measuring():
            parts = enumerate(self._parts(hidden))
            return self._of_all(
                torch.cat([self._asked(self._logits(i, part), self.tokens[i]).mean(1) for i, part in parts])
            )

    def losses_at(self, hidden: Tensor, places_BN: Tensor) -> Tensor:
        """Losses at these columns of `whole_token_losses`, (B, N) in float64, for `hidden`: the head's product is taken there alone."""
        self.head_passes += places_BN.shape[1] / self.whole_token_losses.shape[1]
        found = []
        with self._measuring():
            for i, (part, places) in enumerate(
                zip(self._parts(hidden), self._parts(places_BN[self._rows] + self.unasked), strict=True)
            ):
                rows = torch.arange(len(part), device=part.device)[:, None]
                logits = self._logits(i, part[rows, places]).flatten(0, 1).float()
                following = self.tokens[i].gather(1, places + 1)
                found.append(F.cross_entropy(logits, following.flatten(), reduction="none").view_as(places).double())
        return self._of_all(torch.cat(found))

    def loss(self, hidden: Tensor) -> float:
        """Mean of `losses`, nats per token."""
        return self.losses(hidden).mean().item()

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        with evaluating(self.model), autocast(self.precision, self.model.device):
            yield

    def _of_all(self, own_B: Tensor) -> Tensor:
        """Gather what every process has for its sequences, in the order of the sequences."""
        if not self._spread:
            return own_B
        return torch.cat(processes.of_all(own_B.cpu())).to(own_B.device)

    def _asked(self, logits_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
        return next_token_losses(logits_BTV, tokens_BT, self.unasked)

    def _parts(self, hidden: Tensor) -> tuple[Tensor, ...]:
        return hidden.split([part.shape[0] for part in self.tokens])

    def _run(self, chunk: int, hidden: Tensor, order: list[int]) -> Tensor:
        for index in order:
            hidden = self._calls[chunk][index](self.blocks[index], hidden)
        return hidden

    def _capture(self, tokens_BT: Tensor, losses: bool) -> tuple[Tensor, Tensor]:
        entered: list[Tensor] = []
        calls = [_Call(entered) for _ in range(self.depth)]
        hooks = [call.watch(block) for call, block in zip(calls, self.blocks, strict=True)]
        found_BT = torch.empty(len(tokens_BT), 0, dtype=torch.float64)
        try:
            if losses:
                found_BT = self._asked(self.model(tokens_BT, use_cache=False).logits, tokens_BT)
            else:
                run_until(self.model, anatomy(self.model).head, tokens_BT)
        finally:
            for remove in hooks:
                remove()
        self._calls.append(calls)
        return entered[0], found_BT

    def _logits(self, chunk: int, hidden: Tensor) -> Tensor:
        like = self.tokens[chunk][:, : hidden.shape[1]]  # some models give their output the shape of their input
        with self._passing_through(chunk, hidden):
            return self.model(like, use_cache=False).logits

    @contextmanager
    def _passing_through(self, chunk: int, hidden: Tensor) -> Iterator[None]:
        """Within the context, every block returns `hidden` unread: a forward pass is embeddings, then final norm and head on `hidden`."""
        kept = [block.__dict__.get("forward") for block in self.blocks]
        try:
            for call, block in zip(self._calls[chunk], self.blocks, strict=True):
                block.forward = call.handing_out(hidden)
            yield
        finally:
            for block, forward in zip(self.blocks, kept, strict=True):
                del block.forward
                if forward is not None:
                    block.forward = forward


def next_token_losses(logits_BTV: Tensor, tokens_BT: Tensor, unasked: int = 0) -> Tensor:
    """Cross-entropy of each token but the first and the `unasked` after it, (B, T-1-unasked) in float64, nats.

    One sequence after the other, so that no copy of all logits is made.
    """
    pairs = zip(logits_BTV[:, unasked:-1], tokens_BT[:, 1 + unasked :], strict=True)
    return torch.stack([F.cross_entropy(logits_TV.float(), row, reduction="none") for logits_TV, row in pairs]).double()


class _Call:
    """How the model called one block: all arguments but the hidden state, and the form of its output.

    The first block to be called puts its input hidden state into `entered`. A block that the model skips (one that looks at
    images, where there are none) returns its input.
    """

    def __init__(self, entered: list[Tensor]) -> None:
        self._entered = entered
        self.called = False
        self.rest: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.by_name = False
        self.extras: int | None = None

    def watch(self, block: nn.Module) -> Callable[[], None]:
        before = block.register_forward_pre_hook(self._before, with_kwargs=True)
        after = block.register_forward_hook(self._after)

        def remove() -> None:
            before.remove()
            after.remove()

        return remove

    def _before(self, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.kwargs = {key: None if isinstance(value, Cache) else value for key, value in kwargs.items()}
        self.by_name = not args
        hidden = self.kwargs.pop("hidden_states") if self.by_name else args[0]
        self.called = True
        if not self._entered:
            self._entered.append(hidden)
        self.rest = tuple(None if isinstance(value, Cache) else value for value in args[1:])

    def _after(self, _block: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self.extras = len(output) - 1 if isinstance(output, tuple | list) else None

    def __call__(self, block: nn.Module, hidden: Tensor) -> Tensor:
        if not self.called:
            return hidden
        output = (
            block(hidden_states=hidden, **self.kwargs) if self.by_name else block(hidden, *self.rest, **self.kwargs)
        )
        return output[0] if isinstance(output, tuple | list) else output

    def handing_out(self, hidden: Tensor) -> Callable[..., Any]:
        output = hidden if self.extras is None else (hidden, *(None,) * self.extras)
        return lambda *_args, **_kwargs: output
