"""Models and tokenizers in: from a folder, the hub or the package, refused in one sentence where they are no use."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from inheritune.blocks.anatomy import refuse_unsupported
from inheritune.blocks.checkpoint import open_checkpoint
from inheritune.blocks.quiet import quiet
from inheritune.errors import ModelError
from inheritune.runtime.device import device

BUNDLED = "bundled:laptop"


@dataclass(frozen=True)
class Reference:
    """A pretrained model with its tokenizer, in fp32, and how many tokens it was trained on, where that is known."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    trained_tokens: int | None


def load_reference(source: str, revision: str | None = None) -> Reference:
    """A reference from a folder, a hub id or the package; ModelError says what is wrong with it."""
    place = _place(source)
    local = Path(place).exists()
    if local:
        open_checkpoint(Path(place))
    elif place.count("/") > 1 or place.startswith((".", "/", "~")):
        raise ModelError(f"there is no model folder {place!r}: give a Hugging Face folder, a hub id or {BUNDLED!r}")
    model = _load(place, revision)
    refuse_unsupported(model.config)
    _refuse_not_finite(model, source)
    tokenizer = load_tokenizer(place, revision)
    _refuse_larger(tokenizer, model, source)
    model.to(device())  # type: ignore[arg-type]
    return Reference(source, model, tokenizer, _trained_tokens(Path(place)))


def _place(source: str) -> str:
    """A bundled model's folder; anything else as it is."""
    return str(resources.files("inheritune") / "assets" / "laptop-reference") if source == BUNDLED else source


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder or hub id; ModelError if there is none, or it names no end of text."""
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(_place(source), revision=revision)
    except Exception as error:
        raise ModelError(
            f"{source!r} has no tokenizer that transformers reads ({_first_line(error)}): add tokenizer.json"
        ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{source!r} has no fast tokenizer: add tokenizer.json")
    # Where the files are missing, transformers makes up a tokenizer of special tokens alone.
    if set(tokenizer.get_vocab()) <= set(tokenizer.get_added_vocab()):
        raise ModelError(f"{source!r} has no tokenizer: add tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {source!r} has no eos_token, which closes each document: set one")
    return tokenizer


def embedding_rows(model: PreTrainedModel) -> int:
    """How many tokens a model has embeddings for."""
    return model.get_input_embeddings().get_parameter("weight").shape[0]


def _load(place: str, revision: str | None) -> PreTrainedModel:
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place,
                revision=revision,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        online = (
            ""
            if Path(place).exists()
            else ", and no folder of that name is here: give a folder, or check the id and the network"
        )
        raise ModelError(f"the model {place!r} cannot be loaded ({_first_line(error)}){online}") from None
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"the weights of {place!r} lack {missing[0]!r}, which its config asks for")
    return model


def _refuse_not_finite(model: PreTrainedModel, source: str) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"the weights of {source!r} hold NaN or infinity in {name!r}: this model is damaged")


def _refuse_larger(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, source: str) -> None:
    rows = embedding_rows(model)
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer of {source!r} has {len(tokenizer)} tokens and its embedding {rows} rows: they do not belong together"
        )


def _trained_tokens(place: Path) -> int | None:
    """What `inheritune train` wrote beside a model of its own."""
    note = place / "training.json"
    return json.loads(note.read_text(encoding="utf-8")).get("tokens") if note.is_file() else None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
