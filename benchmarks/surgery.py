"""Cutting a sharded 4 GB checkpoint between files, beside a plain copy of the same bytes and mergekit's passthrough.

    python benchmarks/surgery.py WORK_FOLDER [--mergekit PATH_TO_MERGEKIT_YAML] [--size-gb 4]

Makes the checkpoint on the spot (a stock Llama shape, bfloat16, random bytes), cuts 0-11,20-23 of 24 blocks, and
removes what it wrote. Each measurement is a process of its own. `copy` counts from its first byte to its last sync;
`ours` (the command) and mergekit (its command) count everything, the interpreter's start included. Peak memory is the
kernel's. For a cold cache the whole page cache is dropped, where that is allowed, or else the source's pages are given back.
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
from statistics import median

KEPT = "0-11,20-23"
DEPTH, HIDDEN, INNER, VOCABULARY = 24, 2304, 8704, 32_000  # for 4 GB


def make(folder: Path, size_gb: float) -> None:
    """Write a checkpoint of about this size, in shards of about 1 GB, and the list of its bytes that the cut holds."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    scale = (size_gb / 4) ** 0.5
    config = LlamaConfig(
        num_hidden_layers=DEPTH,
        hidden_size=18 * round(HIDDEN / 18 * scale),
        intermediate_size=round(INNER * scale),
        num_attention_heads=18,
        num_key_value_heads=18,
        vocab_size=VOCABULARY,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
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


def interpreter(source: Path, out: Path) -> None:
    """Report what a Python process takes that does nothing."""
    report(time.perf_counter())


def copy(source: Path, out: Path) -> None:
    """Copy the bytes that the cut holds, range by range through an 8 MB buffer, and sync them to disk."""
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
    from inheritune.models.folder import pieces_of
    from inheritune.surgery.blockmap import BlockMap

    block_map = BlockMap.parse(KEPT)
    ranges: list[list[object]] = []
    for piece in pieces_of(source):
        if not block_map.targets(piece.name, "model.layers"):
            continue
        if ranges and ranges[-1][0] == piece.file.name and ranges[-1][2] == piece.start:
            ranges[-1][2] = piece.end
        else:
            ranges.append([piece.file.name, piece.start, piece.end])
    where.write_text("\n".join(" ".join(map(str, entry)) for entry in ranges))


def settle(source: Path, out: Path, cold: bool) -> None:
    """Clear the traces of the run before: remove its output, flush the disk, and cache the source whole or not at all."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    if not cold:
        for file in source.glob("*.safetensors"):
            with file.open("rb", buffering=0) as stream:
                while stream.read(8 << 20):
                    pass
        return
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        for file in source.glob("*.safetensors"):
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(source: Path) -> float:
    """The share of the source's bytes in the page cache, by fincore; NaN where fincore is not installed."""
    if shutil.which("fincore") is None:
        return float("nan")
    files = sorted(map(str, source.glob("*.safetensors")))
    told = subprocess.run(["fincore", "-b", "-n", "-o", "RES,SIZE", *files], check=True, capture_output=True, text=True)
    held, size = (sum(map(int, column)) for column in zip(*map(str.split, told.stdout.splitlines()), strict=True))
    return round(held / size, 3)


def measure(what: str, source: Path, out: Path, cold: bool, tool: str = "") -> dict[str, float]:
    settle(source, out, cold)
    cached = {"source_cached": cached_share(source)}
    if what == "ours":
        command = [sys.executable, "-m", "inheritune", "inherit", str(source), str(out), "--blocks", KEPT, "--no-prove"]
        return cached | timed(command)
    if what == "mergekit":
        return cached | mergekit(tool, source, out)
    command = [sys.executable, __file__, str(source.parent), "--only", what]
    return cached | json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def timed(command: list[str]) -> dict[str, float]:
    """A command's seconds from start to end, and its peak memory in MB. Raises SystemExit if it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} failed:\n{told[-2000:]}")
    return {"seconds": round(time.perf_counter() - began, 2), "peak_mb": usage.ru_maxrss // 1024}


def mergekit(tool: str, source: Path, out: Path) -> dict[str, float]:
    """Time the same cut by mergekit's passthrough, loading lazily, as its own command."""
    slices = [{"sources": [{"model": str(source), "layer_range": span}]} for span in ([0, 12], [20, 24])]
    recipe = source.parent / "mergekit.yml"
    recipe.write_text(json.dumps({"slices": slices, "merge_method": "passthrough", "dtype": "bfloat16"}))
    return timed([tool, str(recipe), str(out), "--lazy-unpickle", "--low-cpu-memory"])


def table(cache: str, rows: list[dict[str, dict[str, float]]]) -> None:
    """Print the medians over the repeats, as Markdown."""
    print(
        f"\n| {cache} cache, medians of {len(rows)} (mergekit: one) | seconds | of the plain copy | peak MB |\n|---|---|---|---|"
    )
    middle = {
        what: {key: median(row[what][key] for row in rows if what in row) for key in ("seconds", "peak_mb")}
        for what in rows[0]
    }
    for what, found in middle.items():
        share = found["seconds"] / middle["copy"]["seconds"]
        print(f"| {what} | {found['seconds']:.1f} | {share:.2f} | {found['peak_mb']:.0f} |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--mergekit", default="")
    parser.add_argument("--size-gb", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=4.5, help="for all measurements: then no more repeats")
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
    print(json.dumps({"interpreter": measure("interpreter", source, out, cold=True)}), flush=True)
    for cold in (False, True):
        rows: list[dict[str, dict[str, float]]] = []
        began = time.perf_counter()
        for number in range(arguments.repeats):
            if (time.perf_counter() - began) * (number + 1) > 30 * arguments.minutes * max(number, 1):
                break
            tools = ["copy", "ours"] + ["mergekit"] * (bool(arguments.mergekit) and number == 0)
            rows.append({what: measure(what, source, out, cold, arguments.mergekit) for what in tools})
            print(json.dumps({"cache": "cold" if cold else "warm", **rows[-1]}), flush=True)
        table("cold" if cold else "warm", rows)
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
