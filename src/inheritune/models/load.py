"""Models from folders and GGUF files, with the user's mistakes in words."""

import copy
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.anatomy import plain_numbers, refuse_unsupported
from inheritune.decoder.outputs import PLAIN, set_flags
from inheritune.errors import InputError, ModelError, plain
from inheritune.models.begin import begin_of
from inheritune.models.distrust import require_memory
from inheritune.models.folder import pieces_of, require_own_files
from inheritune.models.gguf import read_once
from inheritune.models.hollow import Checkpoint, open_checkpoint
from inheritune.models.quiet import quiet
from inheritune.models.shards import WIDTHS
from inheritune.models.stored import Unread

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


def load_model(path: Path, dtype: torch.dtype | None = None, trust: bool = False) -> PreTrainedModel:
    """The model of a folder or a GGUF file, in the dtype it is kept in (GGUF: float32) or the one asked for.

    `trust`: code that the model brings may run. Raises ModelError for what cannot be loaded, and where weights are missing, not
    asked for, or misshapen.
    """
    options: dict[str, Any] = {"dtype": dtype or "auto"}
    kind: Any = AutoModelForCausalLM
    folder: Path | None = path
    if path.suffix == ".gguf":
        _require_gguf(path)
        folder, options = path.parent, {"dtype": dtype or torch.float32, "gguf_file": path.name}
    else:
        found = open_checkpoint(path, trust)
        require_memory([held.piece for held in found.tensors], 2 if dtype in HALVES else None, path)
        kind, config = type(found.model), copy.deepcopy(found.config)
        set_flags(config, PLAIN)
        options |= {"config": config, "use_safetensors": True}
        if found.tower_of is not None:
            folder, options = None, {**options, **_lazily(found, dtype)}
    try:
        with quiet(), _hushed(path):
            model, report = kind.from_pretrained(folder, output_loading_info=True, **options)
    except Exception as error:
        cause = str(error).split("\n")[0][:200]
        raise ModelError(f"{path} cannot be loaded: {type(error).__name__}: {cause}") from error
    if path.suffix == ".gguf":
        model.config = plain_numbers(model.config)
    refuse_unsupported(model.config, type(model))
    for kind in ("missing_keys", "mismatched_keys"):
        if report.get(kind):
            raise ModelError(f"{path} does not fit its config: {kind} {sorted(map(str, report[kind]))[0]}.")
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"The weights of {path} hold NaN or infinity in {name!r}: this model is damaged.")
    return model.eval()


def _lazily(found: Checkpoint, dtype: torch.dtype | None) -> dict[str, Any]:
    """What makes `from_pretrained` read just these tensors, one by one, under the names that they have here."""
    state = {held.piece.name: Unread(held.piece) for held in found.tensors}
    kept = found.config.dtype or next(iter(state.values()))[...].dtype
    return {"state_dict": state, "dtype": dtype or kept, "use_safetensors": None}


@contextmanager
def _hushed(path: Path) -> Iterator[None]:
    """Reading GGUF draws progress bars that no setting takes away, and reads the same things over and over."""
    if path.suffix != ".gguf":
        yield
        return
    with redirect_stderr(StringIO()), read_once(path):
        yield


def _require_gguf(path: Path) -> None:
    """Raise ModelError where `path` is no GGUF file, or what reads one is not installed."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file, whatever its name says: fetch it again.")
    for name in ("gguf", "accelerate"):
        if find_spec(name) is None:
            raise ModelError(f"{path} needs the package {name!r}, which is not here: pip install 'inheritune[gguf]'.")


def tokenizer_at(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or a GGUF file; raises ModelError where there is none."""
    require_own_files(path)
    gguf = {}
    if path.suffix == ".gguf":
        _require_gguf(path)
        gguf = {"gguf_file": path.name}
    try:
        with quiet(), _hushed(path):
            found = AutoTokenizer.from_pretrained(path.parent if gguf else path, trust_remote_code=False, **gguf)
    except Exception as error:
        if path.is_dir() and not any(path.glob("*.json")):
            raise ModelError(f"{path} holds no model: give a folder with config.json and tokenizer.json.") from None
        if words := _sentencepiece(path):
            raise ModelError(
                f"{path} has {words}, a SentencePiece tokenizer, and no tokenizer.json that can be loaded: pip install"
                " sentencepiece, or save it as tokenizer.json (save_pretrained of a fast tokenizer)."
            ) from error
        raise ModelError(
            f"{path} has no tokenizer that can be loaded ({plain(error)[:200]}): fetch its tokenizer.json again."
        ) from error
    _require_template_names(found, path)
    return found


def _sentencepiece(path: Path) -> str | None:
    """The name of a folder's tokenizer where that is a SentencePiece model alone."""
    names = sorted(own.name for own in path.glob("*.model")) if path.is_dir() else []
    return names[0] if names and not (path / "tokenizer.json").is_file() else None


def _require_template_names(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Raise ModelError for a chat template whose name is none of a file: it is written to one."""
    templates = tokenizer.chat_template
    for name in templates if isinstance(templates, dict) else ():
        if not re.fullmatch(r"\w[\w.-]{0,99}", name):
            raise ModelError(
                f"{path} has a chat template named {plain(name)!r}: give it a name of letters, digits and .-_"
            )


def tokens_of(text: Path, tokenizer: PreTrainedTokenizerBase, length: int, most: int) -> torch.Tensor:
    """The first `most` sequences of `length` tokens of a text, (B, T), each with the tokenizer's begin of text in it.

    Raises InputError if it is too short.
    """
    try:
        content = text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{text} cannot be read as UTF-8 text: {error}.") from error
    # Eight bytes a token are more than any tokenizer needs.
    begin = begin_of(tokenizer)
    found = tokenizer(content[: 8 * length * most], add_special_tokens=False, verbose=False)["input_ids"]
    ids = begin.without(np.asarray(found))
    own = length - len(begin)
    count = min(most, len(ids) // own)
    if count < 1:
        raise InputError(f"{text} has {len(ids)} tokens; at least {own} are needed.")
    return torch.from_numpy(np.stack([begin.before(row) for row in ids[: count * own].reshape(count, own)]))
