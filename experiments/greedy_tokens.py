"""What transformers continues three prompts with, greedily, in float32.

    python experiments/greedy_tokens.py MODEL OUT.json

MODEL is a folder, which plain transformers loads without us, or a GGUF file, which is loaded as our commands load it. Of
each step the margin is kept, the difference in nats between the first choice and the second: where it is small, another
implementation of the same model may choose otherwise.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from inheritune.models.reference import load_reference

PROMPTS = (
    "Once upon a time, in a house by the sea,",
    "The captain looked at the letter again and said",
    "There are three reasons why a ship",
)
COUNT = 24


def load(place: str) -> tuple[Any, Any]:
    """Model and tokenizer."""
    if place.endswith(".gguf"):
        loaded = load_reference(place, None)
        return loaded.model, loaded.tokenizer
    return AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32), AutoTokenizer.from_pretrained(place)


@torch.no_grad()
def continued(model: Any, tokenizer: Any, prompt: str) -> dict[str, Any]:
    """The ids that follow a prompt, the text that they are, and each one's margin."""
    ids_BT = tokenizer(prompt, return_tensors="pt").input_ids
    found = model.generate(
        ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=COUNT, min_new_tokens=COUNT, do_sample=False,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    tokens = found.sequences[0, ids_BT.shape[1] :].tolist()
    best = [logits_BV[0].topk(2).values for logits_BV in found.logits]
    margins = [round((first - second).item(), 4) for first, second in best]
    return {"prompt": prompt, "tokens": tokens, "text": tokenizer.decode(tokens), "margins": margins}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load(given.model)
    found = [continued(model, tokenizer, prompt) for prompt in PROMPTS]
    given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
