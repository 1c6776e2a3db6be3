"""What llama.cpp continues prompts with, greedily; needs xllamacpp, and nothing of ours.

    python experiments/greedy_llama.py MODEL.gguf GREEDY.json OUT.json

GREEDY.json is what `greedy_tokens.py` wrote: the same prompts, as text, are continued by as many tokens. Keys and values
are kept in float32, as transformers keeps them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import xllamacpp


def serve(model: Path) -> Any:
    """A server of one model on one thread."""
    given = xllamacpp.CommonParams()
    given.model.path = str(model)
    given.n_ctx, given.n_parallel, given.warmup = 256, 1, False
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = 1
    given.cache_type_k = given.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    given.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return xllamacpp.Server(given)


def continued(server: Any, prompt: str, count: int) -> list[int]:
    """The ids that follow."""
    asked = {"prompt": prompt, "n_predict": count, "temperature": 0, "logprobs": 1, "ignore_eos": True}
    return [token["id"] for token in server.handle_completions(asked)["choices"][0]["logprobs"]["content"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("greedy", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    known, server = json.loads(given.greedy.read_text(encoding="utf-8")), serve(given.model)
    found = [{"prompt": row["prompt"], "tokens": continued(server, row["prompt"], len(row["tokens"]))} for row in known]
    given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
