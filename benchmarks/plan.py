"""What `inheritune plan` predicts against what runs then take: peak memory and seconds, on made-up and real models.

    OMP_NUM_THREADS=1 python benchmarks/plan.py [--only NAME …] [--models DIR] [--out FILE]

Each setting is planned with `--probe`, run to its end in a process of its own, and compared: the peak memory of the process (as the
system reports it), and the seconds of the stages that the run's ledger keeps, each with the plan's. `DIR` holds
SmolLM2-135M-Instruct.Q4_1.gguf and gemma-3-270m-q4_k_m.gguf; without it the real models are left out. Seconds mean something only on a
quiet machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

PHASES = ("diagnosis", "choice", "heal", "training", "validation")  # those in both a plan and a ledger
_GPT2 = {"model_type": "gpt2", "n_layer": 6, "n_embd": 384, "n_head": 6, "n_positions": 512}
_LLAMA = {
    "model_type": "llama", "num_hidden_layers": 8, "hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 1024, "vocab_size": 16_000,
}  # fmt: skip
_SHORT = {"tokens": 16_384, "batch_tokens": 4_096, "micro_batch_size": 4, "peak_lr": 1e-4, "evaluate_every": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "bundled": {"reference": "bundled:laptop", "start": 21, "length": 256, "training": {**_SHORT, "optimizer": "muon"}},
    "gpt2": {"reference": _GPT2, "start": 4, "length": 512, "training": _SHORT},
    "gpt2 taught, bf16": {"reference": _GPT2, "start": 4, "length": 512, "taught": True, "training": {**_SHORT, "precision": "bf16"}},
    "llama": {"reference": _LLAMA, "start": 6, "length": 512, "taught": True, "training": _SHORT},
    "llama recomputed": {"reference": _LLAMA, "start": 6, "length": 1024, "training": {**_SHORT, "checkpoint_activations": True}},
    "llama, controls": {"reference": _LLAMA, "start": 6, "length": 512, "controls": True, "training": _SHORT},
    "SmolLM2-135M": {"reference": "SmolLM2-135M-Instruct.Q4_1.gguf", "start": 26, "length": 256,
                     "training": {**_SHORT, "tokens": 8_192, "batch_tokens": 2_048, "micro_batch_size": 2}},
    "Gemma 3 270M": {"reference": "gemma-3-270m-q4_k_m.gguf", "start": 15, "length": 256,
                     "training": {**_SHORT, "tokens": 4_096, "batch_tokens": 2_048, "micro_batch_size": 2}},
}  # fmt: skip


def main() -> None:
    """Plan, run and compare each setting; print a row for each."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", nargs="*", default=list(SETTINGS))
    asked.add_argument("--models", type=Path)
    asked.add_argument("--out", type=Path, default=Path("plan.jsonl"))
    given = asked.parse_args()
    for name in given.only:
        setting = SETTINGS[name]
        if isinstance(setting["reference"], str) and setting["reference"].endswith(".gguf") and given.models is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = {"setting": name, **compared(recipe(name, setting, Path(folder), given.models), Path(folder))}
        with given.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def recipe(name: str, setting: dict[str, Any], folder: Path, models: Path | None) -> Path:
    """Write the recipe of a setting and return its path; a made-up reference is made beside it."""
    reference = setting["reference"]
    if isinstance(reference, dict):
        make_model(reference, folder / "reference")
        reference = str(folder / "reference")
    elif models is not None and reference.endswith(".gguf"):
        reference = str((models / reference).resolve())
    tree = {
        "name": "planned", "reference": reference, "controls": setting.get("controls", False),
        "data": {"train": "bundled:docstrings", "sequence_length": setting["length"], "valid_documents": 24, "valid_tokens_per_document": 256},
        "diagnosis": {"sequences": 4, "length": 64, "minutes": 0.5},
        "choice": {"method": "greedy" if setting["length"] == 512 else "influence", "sequences": 2, "heal_tokens": 4096},
        "growth": {"start": setting["start"], "max_depth": setting["start"]},
        "objective": {"cross_entropy": 0.5, "logits": 0.5} if setting.get("taught") else {},
        "training": setting["training"],
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return folder / "recipe.yaml"


def make_model(config: dict[str, Any], place: Path) -> None:
    """Make a model of random weights with the bundled tokenizer, in a process of its own, so that its memory does not count in this one."""
    code = """
import json, sys
from transformers import AutoConfig, AutoModelForCausalLM
from inheritune.models.reference import load_tokenizer
config = AutoConfig.for_model(**{"vocab_size": 4096, "bos_token_id": 0, "eos_token_id": 0, **json.loads(sys.argv[1])})
AutoModelForCausalLM.from_config(config).save_pretrained(sys.argv[2])
load_tokenizer("bundled:laptop").save_pretrained(sys.argv[2])
"""
    subprocess.run([sys.executable, "-c", code, json.dumps(config), str(place)], check=True)


def compared(recipe_path: Path, folder: Path) -> dict[str, Any]:
    """The figures of the plan beside those of the run."""
    command = [sys.executable, "-m", "inheritune"]
    planned = subprocess.run(
        [*command, "plan", str(recipe_path), "--probe", "--json"], check=True, capture_output=True, text=True
    )
    plan = json.loads(planned.stdout)
    peak = peak_of([*command, "run", str(recipe_path), "--out", str(folder / "run"), "--quiet"])
    phases = json.loads((folder / "run" / "result.json").read_text())["ledger"]["phases"]
    seconds = {stage["name"]: stage["seconds"] for stage in plan["stages"]}
    took = {name: phases[name]["seconds"] for name in PHASES if name in phases}
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    in_round = max(row["memory"] for row in rows if row["kind"] == "step")
    memory = {stage["name"]: stage["memory"] for stage in plan["stages"]}
    return {
        "memory": peak, "planned memory": max(memory.values()), "memory error": max(memory.values()) / peak - 1,
        "memory after the round": in_round, "planned": memory,
        "seconds": sum(took.values()), "planned seconds": sum(seconds[name] for name in took),
        "seconds error": sum(seconds[name] for name in took) / sum(took.values()) - 1,
        "by stage": {name: [round(seconds[name], 1), round(took[name], 1)] for name in took},
    }  # fmt: skip


def peak_of(command: list[str]) -> int:
    """Run a command and return its peak memory in bytes, as the system reports it at the end. Raises SystemExit if it fails."""
    child = os.posix_spawn(command[0], command, dict(os.environ))
    _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
