"""Tiny things that tests are made of: words, models of three families, and a recipe that runs in seconds."""

import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, processors
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 320
BEGIN = "<begin>"
LENGTH = 32
_NEW = {
    "num_hidden_layers": 4,
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 12,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {
        "n_layer": 5,
        "n_embd": 24,
        "n_head": 2,
        "n_positions": 64,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "llama": _NEW,
    "qwen3": {**_NEW, "tie_word_embeddings": True},
    "gemma2": _NEW,
}
_SYLLABLES = ["ka", "lo", "mi", "ne", "ru", "so", "ti", "va"]
_WORDS = [first + second for first in _SYLLABLES for second in _SYLLABLES]


def words(source: random.Random, count: int) -> str:
    """Words of which each allows three to follow it."""
    place, chosen = source.randrange(len(_WORDS)), []
    for _ in range(count):
        chosen.append(_WORDS[place])
        place = (place * 5 + source.choice((1, 7, 19))) % len(_WORDS)
    return " ".join(chosen)


def untrained_model(family: str, seed: int = 1, **changes: Any) -> PreTrainedModel:
    """A family's tiny model as its config initialises it."""
    torch.manual_seed(seed)
    fields = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, **FAMILIES[family], **changes}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields))


def trained_model(family: str, texts: list[str], tokenizer: PreTrainedTokenizerFast, **changes: Any) -> PreTrainedModel:
    """The same after 60 plain steps of AdamW, enough for its blocks to matter."""
    model = untrained_model(family, **changes)
    row = torch.tensor([id_ for text in texts for id_ in [*tokenizer(text)["input_ids"], 0]])
    rows = row[: len(row) // LENGTH * LENGTH].view(-1, LENGTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(60):
        batch_BT: Tensor = rows[torch.arange(16) + 16 * step % (len(rows) - 16)]
        model(batch_BT, labels=batch_BT).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def in_bf16(reference: Path, place: Path) -> Path:
    """A copy of a reference's folder with its weights as most are published."""
    AutoModelForCausalLM.from_pretrained(reference, dtype=torch.bfloat16).save_pretrained(place)
    PreTrainedTokenizerFast.from_pretrained(reference).save_pretrained(place)
    return place


def with_begin(tokenizer: PreTrainedTokenizerFast, single: str = f"{BEGIN} $A") -> PreTrainedTokenizerFast:
    """A tokenizer that puts special tokens around a text, as `single` says; `BEGIN` has the id `VOCABULARY`."""
    own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.add_special_tokens([BEGIN, "<second>"])
    around = [(token, own.token_to_id(token)) for token in single.split() if token != "$A"]
    own.post_processor = processors.TemplateProcessing(single=single, special_tokens=around)
    return PreTrainedTokenizerFast(tokenizer_object=own, bos_token=BEGIN, eos_token=tokenizer.eos_token)


def recipe_tree(reference: Path, text: Path) -> dict[str, Any]:
    """A run of two rounds at most, a few steps each, that never matches of itself."""
    return {
        "name": "tiny",
        "reference": str(reference),
        "data": {
            "train": str(text),
            "sequence_length": LENGTH,
            "valid_share": 0.2,
            "valid_documents": 12,
            "valid_tokens_per_document": 48,
            "valid_read": "start",
        },
        "diagnosis": {"sequences": 2, "length": 16},
        "choice": {"method": "greedy", "sequences": 2, "heal": False, "heal_tokens": 256},
        "growth": {"start": 2, "add": 1, "max_depth": 3},
        "training": {
            "tokens": 1536,
            "batch_tokens": 256,
            "micro_batch_size": 8,
            "peak_lr": 1e-4,
            "evaluate_every": 3,
            "checkpoint_every": 2,
        },
        "match": {"margin": 1e-6},
    }
