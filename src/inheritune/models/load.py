"""Load models from folders and GGUF files, with errors that explain the user's mistakes."""

import copy
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import is_accelerate_available

from inheritune.decoder.anatomy import plain_numbers, refuse_unsupported
from inheritune.decoder.outputs import PLAIN_OUTPUTS, set_flags
from inheritune.disk.files import read_whole
from inheritune.errors import InputError, ModelError, plain
from inheritune.models.begin import begin_of
from inheritune.models.distrust import require_memory
from inheritune.models.folder import pieces_of, require_own_files
from inheritune.models.gguf import gguf_config, hushed, require_gguf
from inheritune.models.hollow import Checkpoint, buffer_bytes, open_checkpoint
from inheritune.models.patterns import require_quick
from inheritune.models.quiet import quiet
from inheritune.models.shards import WIDTHS
from inheritune.models.stored import Unread
from inheritune.runtime.device import CPU

MOST_TEXT = 4 << 30  # bytes of a text that is read at once
HALVES = (torch.float16, torch.bfloat16)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def dtype_named(name: str | None) -> torch.dtype | None:
    """The torch dtype of this name; raises InputError for one that weights are not kept in."""
    if name is None:
        return None
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is unknown: choose {', '.join(DTYPES)}.")
    return DTYPES[name]


def kept_dtype(place: Path) -> torch.dtype:
    """The dtype in which most of a model folder's numbers are kept; for a GGUF file, whose numbers are packed, bfloat16."""
    if place.suffix == ".gguf":
        return torch.bfloat16
    counts: Counter[str] = Counter()
    for piece in pieces_of(place):
        counts[piece.dtype] += piece.size // WIDTHS.get(piece.dtype, 1)
    named = {"F64": torch.float32, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    return named.get(counts.most_common(1)[0][0], torch.float32)


def load_model(
    path: Path, dtype: torch.dtype | None = None, trust: bool = False, on: torch.device = CPU
) -> PreTrainedModel:
    """The model of a folder or a GGUF file on a device, in the dtype it is kept in (GGUF: float32) or the one asked for.

    `trust`: code that the model brings may run. Raises ModelError for what cannot be loaded, and where weights are missing, not
    asked for, misshapen, or of no use.
    """
    with quiet(), hushed(path):
        kind, folder, options = _gguf(path, dtype) if path.suffix == ".gguf" else _folder(path, dtype, trust, on)
        try:
            model, report = kind.from_pretrained(folder, output_loading_info=True, **options)
        except Exception as error:
            raise ModelError(f"{path} cannot be loaded: {type(error).__name__}: {plain(error)[:200]}") from error
    if path.suffix == ".gguf":
        model.config = plain_numbers(model.config)
        model.config.name_or_path = str(path)  # not the folder that it stands in
        # transformers calls quantised what it has unpacked, and refuses to turn it to another dtype or to save it
        model.is_quantized, model.hf_quantizer = False, None
    model.to(on)  # type: ignore[arg-type]
    refuse_unsupported(model.config, type(model))
    for lack in ("missing_keys", "mismatched_keys"):
        if report.get(lack):
            raise ModelError(f"{path} does not fit its config: {lack} {sorted(map(str, report[lack]))[0]}.")
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"The weights of {path} hold NaN or infinity in {name!r}: this model is damaged.")
    _require_use(model.eval(), path)
    return model


def _gguf(path: Path, dtype: torch.dtype | None) -> tuple[Any, Path, dict[str, Any]]:
    """The class, the place and the options with which transformers reads a GGUF file."""
    wide = dtype or torch.float32
    config = gguf_config(path, wide.itemsize)
    return AutoModelForCausalLM, path.parent, {"dtype": wide, "gguf_file": path.name, "config": config}


def _folder(
    path: Path, dtype: torch.dtype | None, trust: bool, on: torch.device
) -> tuple[Any, Path | None, dict[str, Any]]:
    """The same for a model folder; where the place is None, the tensors are among the options."""
    found = open_checkpoint(path, trust)
    require_memory(_needed(found, dtype), path, on)
    config = copy.deepcopy(found.config)
    set_flags(config, PLAIN_OUTPUTS)
    options: dict[str, Any] = {"dtype": dtype or "auto", "config": config, "use_safetensors": True, **straight_to(on)}
    if found.tower_of is None:
        return type(found.model), path, options
    return type(found.model), None, options | _lazily(found, dtype)


def straight_to(on: torch.device) -> dict[str, Any]:
    """Options by which `from_pretrained` puts each tensor on a device as it is read, not all on the CPU first; none without accelerate."""
    return {"device_map": {"": on}} if on != CPU and is_accelerate_available() else {}


@torch.no_grad()
def _require_use(model: PreTrainedModel, path: Path) -> None:
    """Raise ModelError where a model cannot compute two tokens: errors of a config that do not affect shapes show only then."""
    try:
        logits_BTV = model(input_ids=torch.tensor([[0, 1]], device=model.device), use_cache=False).logits
    except Exception as error:
        raise ModelError(
            f"{path} cannot be used, {plain(error)[:200] or type(error).__name__}: its config asks for what its weights"
            " do not give, so fetch it again."
        ) from error
    if not (logits_BTV < math.inf).all():
        raise ModelError(f"{path} computes NaN or infinity for two tokens: its config or its weights are damaged.")


def _needed(found: Checkpoint, dtype: torch.dtype | None) -> int:
    """Bytes of memory that a checkpoint takes: as wide as in its files, or as the dtype asked for where that is narrower."""
    width = dtype.itemsize if dtype in HALVES else None
    pieces = (held.piece for held in found.tensors)
    weights = sum(math.prod(piece.shape) * width if width else piece.size for piece in pieces)
    return weights + buffer_bytes(found.model)


def _lazily(found: Checkpoint, dtype: torch.dtype | None) -> dict[str, Any]:
    """Options by which `from_pretrained` reads only this checkpoint's tensors, one by one, under the names that they have in it."""
    state = {held.piece.name: Unread(held.piece) for held in found.tensors}
    kept = found.config.dtype or next(iter(state.values()))[...].dtype
    return {"state_dict": state, "dtype": dtype or kept, "use_safetensors": None}


def tokenizer_at(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or a GGUF file; raises ModelError where there is none."""
    require_own_files(path)
    gguf = {}
    if path.suffix == ".gguf":
        require_gguf(path)
        gguf = {"gguf_file": path.name}
    try:
        with quiet(), hushed(path):
            found = AutoTokenizer.from_pretrained(path.parent if gguf else path, trust_remote_code=False, **gguf)
    except Exception as error:
        if path.is_dir() and not any(path.glob("*.json")):
            raise ModelError(f"{path} holds no model: give a folder with config.json and tokenizer.json.") from None
        if words := _sentencepiece(path):
            raise ModelError(
                f"{path} has {words}, a SentencePiece tokenizer, and no tokenizer.json that can be loaded: pip install"
                " sentencepiece, or save it as tokenizer.json (save_pretrained of a fast tokenizer)."
            ) from error
        mend = "fetch it again, or give a folder with tokenizer.json" if gguf else "fetch its tokenizer.json again"
        raise ModelError(f"{path} has no tokenizer that can be loaded ({plain(error)[:200]}): {mend}.") from error
    _require_template_names(found, path)
    if isinstance(found, PreTrainedTokenizerFast):
        require_quick(found.backend_tokenizer, path)
    return found


def _sentencepiece(path: Path) -> str | None:
    """The name of a folder's SentencePiece model, where it has no `tokenizer.json`; else None."""
    names = sorted(own.name for own in path.glob("*.model")) if path.is_dir() else []
    return names[0] if names and not (path / "tokenizer.json").is_file() else None


def _require_template_names(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Raise ModelError for a chat template whose name is no plain file name: it is written to a file of that name."""
    templates = tokenizer.chat_template
    for name in templates if isinstance(templates, dict) else ():
        if not re.fullmatch(r"\w[\w.-]{0,99}", name):
            raise ModelError(
                f"{path} has a chat template named {plain(name)!r}: give it a name of letters, digits and .-_"
            )


def file_text(text: Path) -> str:
    """A text file whole; InputError where it cannot be read as UTF-8."""
    try:
        return read_whole(text, MOST_TEXT).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{text} cannot be read as UTF-8 text: {error}.") from error


def tokens_of(text: Path, tokenizer: PreTrainedTokenizerBase, length: int, most: int) -> torch.Tensor:
    """The first `most` sequences of `length` tokens of a text, (B, T), each of which opens with the tokenizer's begin of text.

    Raises InputError if it is too short.
    """
    content = file_text(text)
    # Eight bytes a token are more than any tokenizer needs.
    begin = begin_of(tokenizer)
    found = tokenizer(content[: 8 * length * most], add_special_tokens=False, verbose=False)["input_ids"]
    ids = begin.without(np.asarray(found))
    own = length - len(begin)
    count = min(most, len(ids) // own)
    if count < 1:
        raise InputError(f"{text} has {len(ids)} tokens; at least {own} are needed.")
    return torch.from_numpy(np.stack([begin.before(row) for row in ids[: count * own].reshape(count, own)]))
