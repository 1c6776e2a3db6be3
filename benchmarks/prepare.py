"""Prepare a corpus in three formats, compare with the tokenizers library's own batch rate, and kill and continue each preparation.

    python benchmarks/prepare.py CORPUS_FOLDER WORK_FOLDER [--megabytes 200] [--tokenizer bundled:laptop]

CORPUS_FOLDER holds train*.jsonl.xz files with a field `text`. Each measurement is a process of its own, whose processor time and
peak memory are reported by the kernel. The library's rate is that of `encode_batch_fast` on the same documents, read beforehand,
with the ids thrown away. Starting Python, torch and transformers is measured on a tiny text, and given separately.
"""

import argparse
import gzip
import hashlib
import json
import lzma
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

FORMATS = ("corpus.jsonl.gz", "corpus.parquet", "corpus-txt")


def main() -> None:
    """Make the corpus, measure, kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--tokenizer", default="bundled:laptop")
    parser.add_argument("--library", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.library:
        library(given.work / "corpus.parquet", given.tokenizer)
        return
    given.work.mkdir(parents=True, exist_ok=True)
    size = make(given.corpus, given.work, given.megabytes << 20)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {' '.join(sys.argv)}")
    print(f"{size / 1e6:.0f} MB of text, tokenizer {given.tokenizer}\n")
    own = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--library"], capture_output=True, text=True, check=True
    )
    rate = json.loads(own.stdout)
    start = measured(given, given.work / "tiny.txt", "tiny")
    print(
        "| what | seconds | MB/s | CPU seconds | of the library's rate | by CPU time | peak memory, MB |\n|---|---|---|---|---|---|---|"
    )
    print(f"| start-up (a tiny text) | {start['wall']:.1f} | | {start['cpu']:.1f} | | | {start['peak']:.0f} |")
    print(
        f"| `encode_batch_fast` | {rate['wall']:.1f} | {size / 1e6 / rate['wall']:.2f} | {rate['cpu']:.1f} | 1 | 1 | |"
    )
    for name in FORMATS:
        found = measured(given, given.work / name, f"out-{name}")
        wall, cpu = found["wall"] - start["wall"], found["cpu"] - start["cpu"]
        print(
            f"| {name} | {wall:.1f} | {size / 1e6 / wall:.2f} | {cpu:.1f} | {rate['wall'] / wall:.2f} | {rate['cpu'] / cpu:.2f} |"
            f" {found['peak']:.0f} |"
        )
    print()
    for name in FORMATS:
        killed(given, given.work / name, f"out-{name}")
    same = {digests(given.work / f"out-{name}")["train.bin"] for name in FORMATS[:2]}
    print(f"JSONL and Parquet gave {'the same' if len(same) == 1 else 'DIFFERENT'} tokens")


def make(corpus: Path, work: Path, most: int) -> int:
    """Write the corpus as packed JSONL, Parquet and a folder of texts; return its size in bytes of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (work / "tiny.txt").write_text("a b\n\n" * 4000)
    (work / "corpus-txt").mkdir(exist_ok=True)
    size = 0
    schema = pa.schema([("text", pa.string())])
    with (
        gzip.open(work / "corpus.jsonl.gz", "wt", 1) as rows,
        pq.ParquetWriter(work / "corpus.parquet", schema) as table,
    ):
        for number, text in enumerate(texts(corpus)):
            rows.write(json.dumps({"text": text}) + "\n")
            table.write_table(pa.table({"text": [text]}, schema))
            (work / "corpus-txt" / f"{number:05}.txt").write_text(text)
            size += len(text.encode())
            if size >= most:
                break
    return size


def texts(corpus: Path) -> Iterator[str]:
    """The texts of all packed JSONL files of a folder."""
    for path in sorted(corpus.glob("train*.jsonl.xz")):
        with lzma.open(path) as lines:
            yield from (json.loads(line)["text"] for line in lines)


def library(parquet: Path, name: str) -> None:
    """Print how long the tokenizers library alone takes for the documents of a Parquet file, batch by batch."""
    import pyarrow.parquet as pq

    from inheritune.models.reference import load_tokenizer

    tokenizer = load_tokenizer(name).backend_tokenizer
    documents = pq.read_table(parquet)["text"].to_pylist()
    tokenizer.encode_batch_fast(documents[:1])
    wall, cpu = time.perf_counter(), time.process_time()
    for first in range(0, len(documents), 16):
        tokenizer.encode_batch_fast(documents[first : first + 16], add_special_tokens=False)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))


def command(given: argparse.Namespace, source: Path, out: str) -> list[str]:
    """The command line of `inheritune prepare`, as a user calls it."""
    return [
        sys.executable, "-m", "inheritune", "prepare", str(source), str(given.work / out),
        "--tokenizer", given.tokenizer, "--valid-share", "0", "--quiet",
    ]  # fmt: skip


def measured(given: argparse.Namespace, source: Path, out: str) -> dict[str, float]:
    """Run one preparation; return its seconds, processor seconds and peak memory in MB."""
    shutil.rmtree(given.work / out, ignore_errors=True)
    began = time.perf_counter()
    process = subprocess.Popen(command(given, source, out))
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"{source} was not prepared"
    wall = time.perf_counter() - began
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}


def killed(given: argparse.Namespace, source: Path, out: str) -> None:
    """Kill a preparation with SIGKILL when half of its tokens are written, go on, and compare every file's hash."""
    whole, again = given.work / out, given.work / "killed"
    shutil.rmtree(again, ignore_errors=True)
    half = (whole / "train.bin").stat().st_size // 2
    process = subprocess.Popen(command(given, source, "killed"))
    while not (again / "train.bin").exists() or (again / "train.bin").stat().st_size < half:
        assert process.poll() is None, f"{source} was done before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = (again / "train.bin").stat().st_size
    assert not (again / "manifest.json").exists()
    subprocess.run(command(given, source, "killed"), check=True)
    same = digests(whole) == digests(again)
    print(
        f"{source.name}: killed at {left / 1e6:.0f} MB of tokens, continued: {'the same' if same else 'DIFFERENT'} hashes"
    )
    shutil.rmtree(again)


def digests(folder: Path) -> dict[str, str]:
    """Each file's SHA-256."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    main()
