"""A folder that `ollama create` takes: the GGUF file and a Modelfile with template, parameters and stop tokens."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from inheritune.decoder.anatomy import positions_of
from inheritune.formats.turns import turns_of
from inheritune.models.folder import read_json
from inheritune.models.hollow import read_config
from inheritune.models.load import tokenizer_at

GGUF = "model.gguf"
_GENERATION = "generation_config.json"
# Ollama's names for fields of a generation config.
_PARAMETERS = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "repetition_penalty": "repeat_penalty"}
_USUAL_CONTEXT = 4096  # tokens of Ollama's default context
_NO_RULE = "# The chat template is no plain rule of turns, and is not written here: Ollama looks for one that it knows."


def modelfile(folder: Path) -> str:
    """The Modelfile of a model folder whose GGUF file stands beside it as GGUF."""
    tokenizer, told = tokenizer_at(folder), {}
    if (folder / _GENERATION).is_file():
        told = read_json(folder, _GENERATION)
    lines = [f"FROM ./{GGUF}", *_template(tokenizer)]
    if told.get("do_sample"):
        lines += [f"PARAMETER {own} {told[name]}" for name, own in _PARAMETERS.items() if _is_number(told.get(name))]
    context = positions_of(read_config(folder))
    if context and context < _USUAL_CONTEXT:
        lines.append(f"PARAMETER num_ctx {context}")
    lines += [f'PARAMETER stop "{stop}"' for stop in _stops(tokenizer, told.get("eos_token_id")) if '"' not in stop]
    return "\n".join(lines) + "\n"


def _template(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    if tokenizer.chat_template is None:
        return ['TEMPLATE """{{ .Prompt }}"""']
    turns = turns_of(tokenizer)
    written = turns.as_ollama() if turns else None
    return [f'TEMPLATE """{written}"""'] if written else [_NO_RULE]


def _stops(tokenizer: PreTrainedTokenizerBase, ends: Any) -> list[str]:
    """The texts of the tokens that end an answer."""
    ids = [end for end in (ends if isinstance(ends, list) else [ends]) if type(end) is int]
    named = [str(tokenizer.convert_ids_to_tokens(end)) for end in ids if end < len(tokenizer)]
    return sorted({*named, str(tokenizer.eos_token)} - {"None"})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
