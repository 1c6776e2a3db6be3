"""Cutting a sharded 4 GB checkpoint between files, beside a plain copy of the same bytes and mergekit's passthrough.

    python benchmarks/surgery.py WORK_FOLDER [--mergekit PATH_TO_MERGEKIT_YAML] [--size-gb 4]

Makes the checkpoint on the spot (a stock Llama shape, bfloat16, random bytes), cuts 0-11,20-23 of 24 blocks, and
removes what it wrote. Each measurement is a process of its own; its peak memory is the kernel's (VmHWM). The
cache is warm where not said otherwise: "cold" drops the page cache first, which needs root.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

KEPT = "0-11,20-23"
DEPTH, HIDDEN, INNER, VOCABULARY = 24, 2304, 8704, 32_000


def make(folder: Path, size_gb: float) -> None:
    """A checkpoint of about this size, in shards of about 1 GB, and what the cut holds of it."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    depth = max(4, round(DEPTH * size_gb / 4))
    config = LlamaConfig(
        num_hidden_layers=depth,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_attention_heads=18,
        num_key_value_heads=18,
        vocab_size=VOCABULARY,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LlamaForCausalLM(config).state_dict().items()}
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    shards: list[dict[str, torch.Size]] = [{}]
    size = 0
    for name, shape in shapes.items():
        if size > 1e9:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += 2 * shape.numel()
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {name: torch.randint(0, 2**14, tuple(shape), dtype=torch.int16) for name, shape in shard.items()}
        save_file({name: tensor.view(torch.bfloat16) for name, tensor in tensors.items()}, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    plan(folder, folder.parent / "bytes")


def ours(source: Path, out: Path) -> None:
    from inheritune.blocks.blockmap import parse
    from inheritune.blocks.surgery import Cut, inherit_folder

    began = time.perf_counter()
    inherit_folder(source, out, Cut(parse(KEPT), proved=False))
    report(began)


def imports(source: Path, out: Path) -> None:
    """What stands in memory before anything is copied: the interpreter and the libraries."""
    from transformers import LlamaForCausalLM

    import inheritune.blocks.surgery

    assert inheritune.blocks.surgery and LlamaForCausalLM
    report(time.perf_counter())


def interpreter(source: Path, out: Path) -> None:
    report(time.perf_counter())


def copy(source: Path, out: Path) -> None:
    """The bytes that the cut holds, by ranges through an 8 MB buffer, synced to disk."""
    kept = (out.parent / "bytes").read_text().splitlines()
    began = time.perf_counter()
    out.mkdir()
    buffer = memoryview(bytearray(8 << 20))
    for line in kept:
        name, first, last = line.split()
        with (source / name).open("rb", buffering=0) as stream, (out / name).open("ab", buffering=0) as target:
            stream.seek(int(first))
            left = int(last) - int(first)
            while left:
                read = stream.readinto(buffer[: min(left, len(buffer))])
                target.write(buffer[:read])
                left -= read
    for file in out.iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    report(began)


def report(began: float) -> None:
    seconds = time.perf_counter() - began
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": round(seconds, 2), "peak_mb": int(peak.split()[1]) // 1024}))


def plan(source: Path, where: Path) -> None:
    """Write down which ranges of which files the cut holds, neighbours joined."""
    from inheritune.blocks.blockmap import BlockMap
    from inheritune.blocks.files import open_checkpoint

    checkpoint, block_map = open_checkpoint(source), BlockMap.parse(KEPT)
    ranges: list[list[object]] = []
    for piece in checkpoint.pieces:
        if not block_map.targets(piece.name, checkpoint.path):
            continue
        if ranges and ranges[-1][0] == piece.file.name and ranges[-1][2] == piece.start:
            ranges[-1][2] = piece.end
        else:
            ranges.append([piece.file.name, piece.start, piece.end])
    where.write_text("\n".join(" ".join(map(str, entry)) for entry in ranges))


def measure(what: str, source: Path, out: Path, cold: bool) -> dict[str, float]:
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    if cold:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    command = [sys.executable, __file__, str(source.parent), "--only", what]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def mergekit(tool: str, source: Path, out: Path) -> dict[str, float]:
    """The same cut by mergekit's passthrough, lazily, as its own command."""
    shutil.rmtree(out, ignore_errors=True)
    slices = [{"sources": [{"model": str(source), "layer_range": span}]} for span in ([0, 12], [20, 24])]
    recipe = source.parent / "mergekit.yml"
    recipe.write_text(json.dumps({"slices": slices, "merge_method": "passthrough", "dtype": "bfloat16"}))
    began = time.perf_counter()
    process = subprocess.Popen([tool, str(recipe), str(out), "--lazy-unpickle", "--low-cpu-memory"])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, "mergekit failed"
    return {"seconds": round(time.perf_counter() - began, 2), "peak_mb": usage.ru_maxrss // 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--mergekit")
    parser.add_argument("--size-gb", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    source, out = arguments.work / "source", arguments.work / "cut"
    if arguments.only:
        made = arguments.only == "make"
        globals()[arguments.only](source, arguments.size_gb if made else out)
        return
    own = [sys.executable, __file__, str(arguments.work), "--size-gb", str(arguments.size_gb), "--only", "make"]
    subprocess.run(own, check=True)
    size = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    print(f"{size / 1e9:.2f} GB, {KEPT} kept; {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    print(json.dumps({what: measure(what, source, out, cold=False) for what in ("interpreter", "imports")}))
    for cold in (False, True):
        for _ in range(arguments.repeats):
            found = {what: measure(what, source, out, cold) for what in ("copy", "ours")}
            ratio = found["ours"]["seconds"] / found["copy"]["seconds"]
            print(json.dumps({"cache": "cold" if cold else "warm", "ratio": round(ratio, 3), **found}), flush=True)
    if arguments.mergekit:
        print(json.dumps({"mergekit": mergekit(arguments.mergekit, source, out)}))
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
