"""Text that is missing, damaged, too short, or not what its name says."""

import gzip
import json
import lzma
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from tries import Ground, Try

Use = Callable[[Ground], list[str]]

_BOMB = gzip.compress((json.dumps({"text": "a" * (1 << 20)}) + "\n").encode() * 33)


def text(name: str, content: str | bytes, **changes: Any) -> Use:
    """A file of this name and content as training text."""
    return lambda ground: ground.run(data__train=str(ground.file(name, content)), **changes)


def packed(pack: Callable[[bytes], bytes], name: str, keep: int | None = None) -> Use:
    """The corpus, packed, its file cut off."""
    return lambda ground: text(name, pack(ground.text.read_bytes())[:keep])(ground)


def table(name: str = "t.parquet", keep: int | None = None, **columns: list[Any]) -> Use:
    """A Parquet file of these columns, cut off."""

    def command(ground: Ground) -> list[str]:
        import pyarrow
        import pyarrow.parquet

        path = ground.path / name
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return text(name, path.read_bytes()[:keep])(ground)

    return command


def messages(ground: Ground) -> list[str]:
    """Conversations of a million messages each, all of them empty, in some kilobytes."""
    import pyarrow

    empty = pyarrow.nulls(1 << 20, pyarrow.string())
    objects = pyarrow.StructArray.from_arrays([empty, empty], ["role", "content"])
    row = pyarrow.ListArray.from_arrays([0, len(empty)], objects)
    return groups(ground, pyarrow.table({"messages": row}), 33)


def nulls(ground: Ground) -> list[str]:
    """Thirty-four million rows in some ten kilobytes."""
    import pyarrow

    return groups(ground, pyarrow.table({"text": pyarrow.nulls(1 << 20, pyarrow.string())}), 33)


def groups(ground: Ground, table: Any, count: int) -> list[str]:
    """A Parquet file of the same rows over and over."""
    import pyarrow.parquet

    path = ground.path / "t.parquet"
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for _ in range(count):
            writer.write_table(table)
    return ground.run(data__train=str(path))


def saved(**changes: Any) -> Use:
    """A dataset that was saved, read in some other way."""

    def command(ground: Ground) -> list[str]:
        from datasets import Dataset, DatasetDict

        rows = [json.loads(line) for line in ground.text.read_text().splitlines()]
        DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(ground.path / "saved")
        return ground.run(data__train={"source": str(ground.path / "saved"), **changes})

    return command


def ids(values: list[int], odd: bytes = b"") -> Use:
    """nanoGPT's row of ids."""
    return text("ids.bin", np.asarray(values, dtype="<u2").tobytes() + odd)


def beyond(ground: Ground) -> list[str]:
    """Ninety documents, each of another length, of which one has an id that the model does not have."""
    return ids([id_ for length in range(1, 91) for id_ in [*([7] * length), 999 if length == 40 else 8, 0]])(ground)


def emptied(ground: Ground) -> list[str]:
    (ground.path / "folder").mkdir()
    return ground.run(data__train=str(ground.path / "folder"))


def mixed(ground: Ground) -> list[str]:
    ground.file("folder/picture.png", b"\x89PNG")
    return ground.run(data__train=str(ground.path / "folder"))


def enormous(ground: Ground) -> list[str]:
    path = ground.file("line.jsonl", '{"text": "')
    os.truncate(path, 1 << 38)
    return ground.run(data__train=str(path))


def itself(ground: Ground) -> list[str]:
    return ground.run(data__valid=str(ground.text))


def same_content(ground: Ground) -> list[str]:
    return ground.run(data__valid=str(ground.file("copy.jsonl", ground.text.read_bytes())))


def repeated(ground: Ground) -> list[str]:
    copy = ground.file("copy.jsonl", ground.text.read_bytes())
    return ground.run(data__train=[str(ground.text), str(copy)])


def prepare(*options: str) -> Use:
    """The corpus prepared with these options."""
    return lambda ground: [
        "prepare", str(ground.text), str(ground.path / "dest"), "--tokenizer", str(ground.model), *options
    ]  # fmt: skip


def prepared(change: Callable[[Ground], None]) -> Use:
    """A prepared folder, damaged."""

    def command(ground: Ground) -> list[str]:
        from shell import command

        dest = ground.path / "tokens"
        ended = command(
            "prepare", str(ground.text), str(dest), "--tokenizer", str(ground.model), "--valid-share", "0.3"
        )
        assert ended.code == 0, ended.err
        change(ground)
        return ground.run(data__train=str(dest))

    return command


def cut(ground: Ground) -> None:
    os.truncate(ground.path / "tokens" / "train.bin", 100)


def manifest(ground: Ground) -> None:
    (ground.path / "tokens" / "manifest.json").write_text("{")


def unfinished(ground: Ground) -> None:
    (ground.path / "tokens" / "manifest.json").unlink()


def source(value: Any) -> Use:
    """Another source."""
    return lambda ground: ground.run(data__train=value)


TEXT = [
    Try("no such text", source("nowhere.txt"), ("'nowhere.txt'", "give a file")),
    Try("no such validation text", lambda g: g.run(data__valid="nowhere.jsonl"), ("'nowhere.jsonl'", "give a file")),
    Try("a pattern without hits", source("nowhere/*.txt"), ("'nowhere/*.txt'", "no file")),
    Try("an empty file", text("empty.txt", ""), ("empty.txt", "empty")),
    Try("nothing but blanks", text("blank.txt", " \n\n \n"), ("blank.txt", "no text")),
    Try("an empty folder", emptied, ("folder", "no text")),
    Try("a folder with something else", mixed, ("picture.png", ".txt")),
    Try("one document", text("short.txt", "kalo mine"), ("short.txt", "too few", "data.valid")),
    Try(
        "text shorter than one sequence",
        lambda g: text("short.txt", "ka mi", data__valid=str(g.text))(g),
        ("two sequences of 32", "data.sequence_length"),
    ),
    Try("binary rubbish", text("rubbish.txt", bytes(range(256)) * 40), ("rubbish.txt", "UTF-8")),
    Try("NUL characters", text("nul.txt", "ka\0lo\n\n" * 90), ("nul.txt", "NUL")),
    Try("another encoding", text("latin.txt", "caf\xe9 ".encode("latin-1") * 90), ("latin.txt", "UTF-8", "convert")),
    Try("UTF-16 without its mark", text("wide.txt", ("kalo\n\n" * 90).encode("utf-16-le")), ("wide.txt", "UTF-8")),
    Try("a broken .gz", packed(gzip.compress, "words.jsonl.gz", 300), ("words.jsonl.gz", "damaged")),
    Try("a .gz that is none", text("words.jsonl.gz", b"hello"), ("words.jsonl.gz", "damaged")),
    Try("a broken .xz", packed(lzma.compress, "words.jsonl.xz", 300), ("words.jsonl.xz", "damaged")),
    Try("a .zst that is none", text("words.jsonl.zst", b"hello"), ("words.jsonl.zst", "damaged")),
    Try("a .gz that unpacks to a thousand times its size", text("t.jsonl.gz", _BOMB), ("t.jsonl.gz", "unpacks to more than 250 times")),
    Try("Parquet rows of a million messages", messages, ("t.parquet", "unpacks to more than 250 times")),
    Try("a Parquet column of nulls alone, without end", nulls, ("t.parquet", "unpacks to more than 250 times")),
    Try("a truncated Parquet file", table(keep=60, text=["ka lo"] * 9), ("t.parquet", "damaged")),
    Try("Parquet without the column", table(content=["ka lo"] * 9), ("t.parquet", "'text'", "content")),
    Try("a Parquet column of numbers", table(text=[1, 2, 3]), ("t.parquet", "'text'", "data.field")),
    Try("an Arrow file that is none", text("t.arrow", b"hello"), ("t.arrow", "damaged")),
    Try("a line that is no JSON", text("bad.jsonl", '{"text": "ka"}\n{\n'), ("line 2", "bad.jsonl", "JSON")),
    Try("a line that is no object", text("bad.jsonl", "[1]\n"), ("line 1", "bad.jsonl", "'text'")),
    Try("a line without the field", text("bad.jsonl", '{"content": "ka"}\n'), ("line 1", "'text'", "data.field")),
    Try("a field that is no text", text("bad.jsonl", '{"text": 5}\n'), ("line 1", "'text'")),
    Try("JSON of absurd depth", text("deep.jsonl", '{"text":' + "[" * 99_999 + "\n"), ("line 1", "deep.jsonl")),
    Try("half a character in JSON", text("half.jsonl", '{"text": "\\ud800"}\n' * 90), ("half.jsonl",)),
    Try("one enormous line", enormous, ("line 1", "line.jsonl", "MB")),
    Try("no such split", saved(split="test"), ("'test'", "train")),
    Try("no such column in a dataset", saved(field="body"), ("'body'", "text")),
    Try("a split of no dataset", lambda g: source({"source": str(g.text), "split": "train"})(g), ("no dataset", "`split`")),
    Try("a dataset of the hub without network", source("hf:some/dataset"), ("'hf:some/dataset'", "network")),
    Try("a weight of nothing", lambda g: source([{"source": str(g.text), "weight": 0.0}])(g), ("weight", "0.0")),
    Try("no sources", source([]), ("data.train", "[]")),
    Try("ids beyond the vocabulary", beyond, ("999", "320", "tokenizer")),
    Try("ids of an odd length", ids([5, 6, 0] * 99, b"\x01"), ("ids.bin", "odd number of bytes")),
    Try("validation that is the training text", itself, ("data.valid", "words.jsonl")),
    Try("validation of the same content", same_content, ("words.jsonl", "data.valid", "give other text")),
    Try("a source of nothing but repeats", repeated, ("copy.jsonl", "another source", "leave it out")),
    Try("too few documents to prepare", prepare("--valid-share", "0.001"), ("words.jsonl", "too few", "--valid-share")),
    Try("a field to prepare that is not there", prepare("--field", "body"), ("line 1", "'body'", "--field")),
    Try("prepared text, cut off", prepared(cut), ("train.bin", "100 bytes", "prepare it again")),
    Try("prepared text with a broken manifest", prepared(manifest), ("manifest.json", "prepare")),
    Try("prepared text without its manifest", prepared(unfinished), ("tokens",)),
    Try("a path of absurd length", source("a" * 5000), ("aaa",)),
]  # fmt: skip
