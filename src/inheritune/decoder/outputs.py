"""The config flags that forward passes rely on: outputs beside the logits are asked for in the call, never by the config."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from inheritune.decoder.anatomy import text_config
from inheritune.decoder.names import CACHES

# Flags that users set in a config for other uses, as passes here need them; each changes the form or the cost of a plain pass.
PLAIN_OUTPUTS = {
    **{"output_attentions": False, "output_hidden_states": False, "output_router_logits": False},
    **{"return_dict": True, "use_cache": True},
}
# Flags that need another attention implementation than the one in use, so that transformers refuses to write them.
UNWRITTEN = frozenset({"output_attentions"})


def kept_flags(config: dict[str, Any]) -> dict[str, bool]:
    """The flags that a config.json sets and that may be written again."""
    return {name: config[name] for name in PLAIN_OUTPUTS if type(config.get(name)) is bool and name not in UNWRITTEN}


def set_flags(config: PretrainedConfig, flags: dict[str, bool]) -> None:
    """Set those of `flags` that a config has, in place, in its part for the decoder too."""
    for part in {id(own): own for own in (config, text_config(config))}.values():
        for name, value in flags.items():
            if getattr(part, name, None) not in (None, value):
                setattr(part, name, value)


def last_alone(model: PreTrainedModel) -> dict[str, int]:
    """The argument that makes a pass compute the logits of the last position alone; empty where the model does not take it."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def kept_cache(model: PreTrainedModel, output: Any) -> dict[str, Any]:
    """The cache in the output of a pass, as an argument for the model's next pass; empty where it keeps none."""
    accepted = inspect.signature(model.forward).parameters
    name = next((name for name in CACHES if name in accepted and output.get(name) is not None), None)
    return {name: output[name]} if name else {}


@contextmanager
def answering(head: nn.Module, answer: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within the context, a model's `head` returns `answer(states)` in place of its product."""
    head.forward = answer  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del head.forward
