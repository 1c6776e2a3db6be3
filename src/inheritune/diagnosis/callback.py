"""A callback for transformers' Trainer, and for TRL's: which layers and heads turn lazy as the model trains, and when?"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import is_deepspeed_zero3_enabled

from inheritune.decoder.costs import forward_flops_per_token
from inheritune.diagnosis.sequences import TokenRows, unpadded
from inheritune.diagnosis.watch import Glance, glance
from inheritune.errors import InputError, OutputError
from inheritune.models.begin import begin_of
from inheritune.records.entry import Spent
from inheritune.records.rows import WatchRow
from inheritune.training.metrics import Metrics


class CollapseCallback(TrainerCallback):
    """Measures the attention of a Trainer's model before the first step and after every `every` steps, always on the same text.

    `texts` are strings, of which the first `length` tokens are read, begin of text included, or token ids: (N, T) or a list of
    sequences. The numbers go to the Trainer's own log: `collapse/lazy_layers`, `collapse/lazy_heads`, `collapse/lazy_share` of
    all heads, and each layer's `collapse/max_rank/layer_3`. With `log`, each look is a line of that JSONL file too, a row of
    kind `watch` as in a run's `metrics.jsonl`, which names the lazy heads. The training is the same to the bit as without.

    Raises InputError for a model that is no decoder or is sharded by FSDP or ZeRO-3, for tokens that are not ids of the model, for
    texts if the Trainer has no tokenizer, and, as training begins, for a `log` that holds another training.
    """

    def __init__(
        self,
        trainer: Trainer,
        texts: Sequence[str] | TokenRows,
        *,
        every: int,
        length: int = 256,
        threshold: float = 0.90,
        log: str | Path | None = None,
    ) -> None:
        if every < 1:
            raise InputError(f"every is {every}: give the steps between two looks, 1 or more.")
        if not 0 < threshold < 1:
            raise InputError(f"The threshold is {threshold}: give a share between 0 and 1, such as 0.90.")
        if trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled():
            raise InputError("The model is spread over processes: attention can be watched where each holds it whole.")
        self.trainer, self.every, self.threshold = trainer, every, threshold
        self.sequences = unpadded(_decoder(trainer), _as_ids(texts, trainer.processing_class, length), None)
        self.log = None if log is None else Metrics(Path(log))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at the model before its first step; if a training resumes, drop the log's rows from after its checkpoint."""
        if not state.is_world_process_zero:
            return
        if state.global_step == 0:
            if self.log is not None and self.log.rows():
                raise OutputError(f"{str(self.log.path)!r} holds another training: name another log.")
            self._look(state, control)
        elif self.log is not None:
            self.log.keep(lambda row: isinstance(row, WatchRow) and row.step <= state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at the model after every `every` steps."""
        if state.is_world_process_zero and state.global_step % self.every == 0:
            self._look(state, control)

    def _look(self, state: TrainerState, control: TrainerControl) -> None:
        model, began = _decoder(self.trainer), time.perf_counter()
        seen = glance(model, self.sequences, state.global_step, self.threshold)
        if self.log is not None:
            self.log.add(self._row(seen, state, model, time.perf_counter() - began))
        # Trainer's own `log`: TRL's would also emit, and reset, its running means. It clears `should_log`, which is restored.
        wanted = control.should_log
        Trainer.log(self.trainer, _numbers(seen))
        control.should_log = wanted

    def _row(self, seen: Glance, state: TrainerState, model: PreTrainedModel, seconds: float) -> WatchRow:
        lengths = [len(sequence) for sequence in self.sequences]
        flops = sum(length * forward_flops_per_token(model, length) for length in lengths)
        return WatchRow(
            **asdict(seen),
            round=1,
            depth=len(seen.max_rank),
            tokens=int(state.num_input_tokens_seen),
            flops=float(state.total_flos + self.trainer.current_flos),
            cost=Spent(tokens=sum(lengths), flops=float(flops), seconds=seconds),
        )


def _as_ids(texts: Sequence[str] | TokenRows, tokenizer: Any, length: int) -> TokenRows:
    """Tokenise strings as documents, each cut to `length` tokens; return token ids as they are."""
    if isinstance(texts, str):
        raise InputError("texts is one string: give a list of strings, or token ids.")
    if isinstance(texts, Tensor | np.ndarray):
        return texts
    strings = [text for text in texts if isinstance(text, str)]
    if not strings:
        return cast(TokenRows, texts)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError(
            "Texts need a tokenizer and this Trainer has none: give it processing_class, or give token ids."
        )
    begin = begin_of(tokenizer)
    bare = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in strings]
    return [begin.before(np.asarray(ids, dtype=np.int64))[:length].tolist() for ids in bare]


def _decoder(trainer: Trainer) -> PreTrainedModel:
    """The decoder that a Trainer trains, without the wrapper of a PEFT adapter, whose layers are inside it."""
    return cast(PreTrainedModel, getattr(trainer.model, "get_base_model", lambda: trainer.model)())


def _numbers(seen: Glance) -> dict[str, float]:
    shares = [share for share in seen.lazy_share if share is not None]
    return {
        "collapse/lazy_layers": len(seen.lazy),
        "collapse/lazy_heads": sum(map(len, seen.lazy_heads.values())),
        "collapse/lazy_share": sum(shares) / max(1, len(shares)),
        **{f"collapse/max_rank/layer_{layer}": rank for layer, rank in enumerate(seen.max_rank) if rank is not None},
    }
