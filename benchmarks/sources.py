"""Train from each kind of source, by the command line alone, and tell whether all of them give the same tokens.

    python benchmarks/sources.py TEXT.txt WORK_FOLDER [--documents 60]

The first documents of TEXT, as the library reads them, are written as every kind; the last tenth of them is validation text for
all. Each run is `inheritune train` on the bundled tokenizer: two small blocks, four steps. The same documents in the same order must give the
same tokens, and so the same loss to its last digit; a mixture draws them in another order.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import shutil
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inheritune.cli import main as inheritune
from inheritune.data import store
from inheritune.data.corpora import documents
from inheritune.models.reference import load_tokenizer

VOCABULARY = 4096  # of the bundled tokenizer
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
RECIPE = {
    "name": "source", "tokenizer": "bundled:laptop",
    "model": {"model_type": "llama", "vocab_size": VOCABULARY, **SHAPE},
    "training": {"tokens": 4096, "batch_tokens": 1024, "micro_batch_size": 8, "peak_lr": 1e-2},
}  # fmt: skip


def main() -> None:
    """Make the sources, run each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("work", type=Path)
    parser.add_argument("--documents", type=int, default=60)
    given = parser.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    texts = [document.text for document in itertools.islice(documents(given.text), given.documents)]
    held = len(texts) // 10
    (given.work / "valid.jsonl").write_bytes(rows(texts[-held:]))
    print("| source | documents | tokens | their hash | validation loss |\n|---|---|---|---|---|")
    for name, source in made(given.work, texts[:-held]).items():
        count, tokens, digest, loss = run(given.work, source)
        print(f"| {name} | {count:,} | {tokens:,} | {digest} | {loss!r} |", flush=True)


def rows(texts: list[str]) -> bytes:
    """Documents as JSON lines."""
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def made(work: Path, texts: list[str]) -> dict[str, object]:
    """Write the documents as every kind of source; return `data.train` by the source's name in the table."""
    whole, lines = "\n\n".join(texts), rows(texts)
    files = {
        "a.txt": whole.encode(), "b.txt.xz": lzma.compress(whole.encode()), "c.jsonl": lines,
        "d.jsonl.gz": gzip.compress(lines), "e.jsonl.zst": pa.compress(lines, codec="zstd", asbytes=True),
        "named.jsonl": lines.replace(b'{"text": ', b'{"body": '),
        "part-1.jsonl": rows(texts[: len(texts) // 3]), "part-2.jsonl": rows(texts[len(texts) // 3 :]),
    }  # fmt: skip
    for name, content in files.items():
        (work / name).write_bytes(content)
    (work / "folder").mkdir()
    for number, text in enumerate(texts):
        (work / "folder" / f"{number:05}.md").write_text(text)
    table = pa.table({"text": texts})
    pq.write_table(table, work / "f.parquet")
    with pa.OSFile(str(work / "g.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with contextlib.redirect_stderr(io.StringIO()):
        datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(work / "saved"))
    tokenizer = load_tokenizer("bundled:laptop")
    ids = [[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for text in texts]
    np.concatenate([np.asarray(row, dtype="<u2") for row in ids]).tofile(work / "h.bin")
    command(
        "prepare", str(work / "c.jsonl"), str(work / "prepared"), "--tokenizer", "bundled:laptop", "--valid-share", "0"
    )
    single = ["a.txt", "b.txt.xz", "folder", "c.jsonl", "d.jsonl.gz", "e.jsonl.zst", "part-*.jsonl", "f.parquet"]
    single += ["g.arrow", "saved", "h.bin", "prepared"]
    kinds: dict[str, object] = {name: str(work / name) for name in single}
    kinds["named.jsonl, its field named"] = {"source": str(work / "named.jsonl"), "field": "body"}
    weighted = (("part-1.jsonl", 2), ("part-2.jsonl", 1))
    kinds["part-1.jsonl twice as often as part-2.jsonl"] = [
        {"source": str(work / name), "weight": weight} for name, weight in weighted
    ]
    return kinds


def run(work: Path, source: object) -> tuple[int, int, str, float]:
    """Train from a source; return the numbers of documents and tokens, the documents' hash, and the validation loss."""
    for name in ("cache", "out"):
        shutil.rmtree(work / name, ignore_errors=True)
    os.environ["INHERITUNE_CACHE"] = str(work / "cache")
    data = {"train": source, "valid": str(work / "valid.jsonl"), "sequence_length": 128}
    (work / "recipe.yaml").write_text(json.dumps({**RECIPE, "data": data}))
    command("train", str(work / "recipe.yaml"), "--out", str(work / "out"))
    (folder,) = (work / "cache" / "tokens").iterdir()
    tokens = store.read_side(folder, "train")
    count = len(tokens.starts)
    documents = b"".join(tokens.document(number).tobytes() for number in range(count))
    found = json.loads((work / "out" / "result.json").read_text())
    return count, len(tokens), hashlib.sha256(documents).hexdigest()[:8], found["val_loss"]


def command(*arguments: str) -> None:
    """Run `inheritune ARGUMENTS --quiet` in this process."""
    sys.argv = ["inheritune", *arguments, "--quiet"]
    try:
        inheritune()
    except SystemExit as ended:
        if ended.code:
            raise


if __name__ == "__main__":
    main()
