"""Keep the progress bars and notes of transformers and of the hub's client out of our output, and report the progress ourselves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub.utils import logging as hub
from transformers import modeling_gguf_pytorch_utils
from transformers.utils import logging

from inheritune.progress import Progress, Tally


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings of the two; all is as it was afterwards."""
    level, bars, hub_level = logging.get_verbosity(), logging.is_progress_bar_enabled(), hub.get_verbosity()
    logging.set_verbosity_error()
    hub.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def reading(count: Tally) -> Iterator[None]:
    """Within the context, tell `count` how many tensors are read from a model folder or unpacked from a GGUF file, and of how many."""

    def counted(items: Any, **_: object) -> Iterator[Any]:
        for done, item in enumerate(items, 1):
            yield item
            count(done, len(items))

    def bar(factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return counted(args[0]) if args and hasattr(args[0], "__len__") else factory(*args, **options)

    before, unpacking = logging.set_tqdm_hook(bar), modeling_gguf_pytorch_utils.tqdm
    modeling_gguf_pytorch_utils.tqdm = counted
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
        modeling_gguf_pytorch_utils.tqdm = unpacking


@contextmanager
def loading(progress: Progress, what: str) -> Iterator[None]:
    """Show the loading of a model as a stage: first its header, config and tokenizer are read, then its tensors are counted."""
    with progress.waiting(what, "tensors", "reading its header, config and tokenizer") as count, reading(count):
        yield
