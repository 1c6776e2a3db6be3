"""Random damage: what is read is read, or refused as an InherituneError, soon and within bounded memory.

`INHERITUNE_FUZZ=N` tries N examples of each instead of the few that the suite has time for.
"""

import json
import math
import os
import re
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import yaml
from gguf_file import gguf_bytes, write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from pyarrow import parquet
from tiny import untrained_model
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tries import make_base

from inheritune.config.loading import check, parse_setting, to_yaml
from inheritune.config.recipes import RunRecipe, TrainRecipe
from inheritune.config.strict_yaml import read_yaml
from inheritune.data.coding import Coding
from inheritune.data.corpora import documents
from inheritune.data.files import files
from inheritune.data.kinds.token_row import TokenRow
from inheritune.errors import InherituneError
from inheritune.models.begin import Begin
from inheritune.models.folder import pieces_of, read_json
from inheritune.models.gguf_header import read_gguf_header
from inheritune.models.load import load_model
from inheritune.models.reference import load_tokenizer
from inheritune.models.shards import read_header
from inheritune.records.entry import JsonFile
from inheritune.records.made_of import MadeOf
from inheritune.records.stages import CheckpointState, ReferenceLosses, RoundEnd, read_losses
from inheritune.surgery.blockmap import MOST_BLOCKS, parse
from inheritune.surgery.record import license_of
from inheritune.words import show

EXAMPLES = int(os.environ.get("INHERITUNE_FUZZ", "0"))
MOST_MEMORY = 512 << 20  # bytes that the whole of a fuzzer may add to the process
SECONDS = 60  # for one example, on a machine that does much else

TREE = {
    "name": "tiny",
    "reference": "r",
    "data": {"train": "t", "sequence_length": 32},
    "training": {"tokens": 1024, "batch_tokens": 256, "micro_batch_size": 2},
    "choice": {"blocks": "0-2"},
    "growth": {"start": 2},
}
WORDS = [
    *"-,.#&*!|>'\"%@`[]{}:?~ \n\t0x",
    "a",
    "null",
    "1e9",
    ".inf",
    "<<",
    "!!int",
    "&a",
    "*a",
    "---",
    "9" * 30,
    "\x1b",
    "\ud800",
]
json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def fuzzed(few: int) -> Callable[..., Any]:
    """`few` examples in the suite, which repeat from run to run."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=EXAMPLES or few, deadline=1000 * SECONDS, derandomize=not EXAMPLES, database=None,
        suppress_health_check=checks,
    )  # fmt: skip


def tried(act: Callable[[], object]) -> bool:
    """Whether it is read; an answer of another kind than ours fails the test."""
    try:
        act()
    except InherituneError as error:
        assert str(error).strip() and len(str(error)) < 2000
        return False
    return True


@pytest.fixture(autouse=True)
def _memory() -> Any:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MEMORY


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("fuzzed")) / "model"


@pytest.fixture(scope="module")
def whole_gguf(model: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("packed") / "a.gguf"
    write_gguf(path, untrained_model("llama"), load_tokenizer(str(model)))
    return path.read_bytes()


@some.composite
def edited(draw: some.DrawFn, content: bytes, most: int = 4) -> bytes:
    """The content with some bytes changed, cut out, doubled or put in."""
    for _ in range(draw(some.integers(1, most))):
        at = draw(some.integers(0, len(content)))
        to = draw(some.integers(at, min(len(content), at + 40)))
        new = draw(
            some.binary(max_size=9)
            | some.just(content[at:to] * 2)
            | some.sampled_from([b"[" * 3000, b"null", b"-1", b"1e999"])
        )
        content = content[:at] + new + content[to:]
    return content


@some.composite
def changed(draw: some.DrawFn, tree: Any) -> Any:
    """The tree with one place in it changed to anything."""
    if not isinstance(tree, dict | list) or not tree or draw(some.integers(0, 4)) == 0:
        return draw(json_values)
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = draw(some.sampled_from(keys))
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[key] = draw(changed(tree[key]))
    return copy


def read_recipe(text: str) -> None:
    tree = read_yaml(text)
    for kind in (RunRecipe, TrainRecipe):
        if tried(lambda kind=kind: check(kind, tree)):
            recipe = check(kind, tree)
            assert check(kind, read_yaml(to_yaml(recipe))) == recipe


@fuzzed(60)
@given(edited(yaml.safe_dump(TREE).encode()))
def test_recipes_of_changed_bytes(content: bytes) -> None:
    tried(lambda: read_recipe(content.decode("utf-8", "replace")))


@fuzzed(60)
@given(some.lists(some.sampled_from(WORDS), max_size=40).map("".join))
def test_recipes_of_yaml_at_random(text: str) -> None:
    tried(lambda: read_recipe(text))
    tried(lambda: parse_setting(f"seed={text}"))


@fuzzed(60)
@given(changed(TREE))
def test_recipes_of_other_values(tree: Any) -> None:
    tried(lambda: read_recipe(yaml.safe_dump(tree)))


@fuzzed(80)
@given(some.text(alphabet="0123456789-, x\u0663\x00", max_size=30) | some.text(max_size=30))
def test_block_lists(text: str) -> None:
    if tried(lambda: parse(text)):
        blocks = parse(text)
        assert 0 < len(blocks) <= MOST_BLOCKS and parse(show(blocks)) == blocks


def written(content: bytes, name: str, act: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        tried(lambda: act(Path(folder)))


HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
}


@fuzzed(80)
@given(changed(HEADER) | some.just(HEADER), some.integers(-2, 2), some.data())
def test_safetensors_headers(header: Any, more: int, data: Any) -> None:
    raw = json.dumps(header).encode()
    content = max(0, len(raw) + more).to_bytes(8, "little") + raw + bytes(24)
    content = data.draw(some.just(content) | edited(content))
    written(content, "w.safetensors", lambda folder: read_header(folder / "w.safetensors"))


@fuzzed(80)
@given(edited(gguf_bytes()))
def test_gguf_headers(content: bytes) -> None:
    def read(folder: Path) -> None:
        header = read_gguf_header(folder / "a.gguf")
        assert all(tensor.start < tensor.end <= len(content) for tensor in header.tensors)

    written(content, "a.gguf", read)


@fuzzed(10)
@given(some.data())
def test_gguf_files(whole_gguf: bytes, data: Any) -> None:
    """Damage in what the header says, of a file that holds a model."""
    head = data.draw(edited(whole_gguf[:2000], most=2))
    written(head + whole_gguf[2000:], "a.gguf", lambda folder: load_model(folder / "a.gguf"))
    written(head + whole_gguf[2000:], "a.gguf", lambda folder: load_tokenizer(str(folder / "a.gguf")))


@fuzzed(60)
@given(changed({"metadata": {}, "weight_map": {"a": "w.safetensors", "b": "../w.safetensors"}}), some.data())
def test_safetensors_indices(index: Any, data: Any) -> None:
    content = json.dumps(index).encode()
    content = data.draw(some.just(content) | edited(content))

    def read(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raw = json.dumps(HEADER).encode()
        (folder / "w.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(24))
        assert all(piece.file.parent == folder for piece in pieces_of(folder))

    written(content, "model.safetensors.index.json", read)


# As llm.c writes them: a header that promises 40 ids of two bytes.
_HEADED = np.asarray([20240520, 1, 40, *[0] * 253], dtype="<i4").tobytes() + np.arange(40, dtype="<u2").tobytes()


@fuzzed(60)
@given(some.sampled_from([b"", _HEADED]), some.binary(max_size=200) | edited(_HEADED))
def test_rows_of_ids(before: bytes, content: bytes) -> None:
    def read(folder: Path) -> None:
        coding = Coding(Tokenizer(BPE()), 0, Begin())
        for file in files(str(folder / "ids.bin"), ".bin"):
            assert sum(len(found.ids) for found in TokenRow().encoded(file, coding)) <= len(before + content)

    written(before + content, "ids.bin", read)


@fuzzed(25)
@given(some.data())
def test_tokenizers(model: Path, data: Any) -> None:
    whole = (model / "tokenizer.json").read_bytes()
    content = data.draw(edited(whole) | changed(json.loads(whole)).map(lambda tree: json.dumps(tree).encode()))
    about = (model / "tokenizer_config.json").read_bytes()

    def read(folder: Path) -> None:
        (folder / "tokenizer_config.json").write_bytes(about)
        words = load_tokenizer(str(folder))
        words.backend_tokenizer.encode_batch_fast(["ka lo mi"], add_special_tokens=False)

    written(content, "tokenizer.json", read)


@fuzzed(60)
@given(edited(b'{"model_type": "gpt2", "n_layer": 2, "a": [1, {"b": null}]}'))
def test_json(content: bytes) -> None:
    written(content, "config.json", lambda folder: read_json(folder, "config.json"))


POSITION = {"step": 3, "tokens": 768, "flops": 1e6, "seconds": 0.5, "skipped": 0, "ended": False, "rate": 1e-4}
GAP = {"mean": 0.1, "low": 0.0, "high": 0.2, "verdict": "worse"}
RECORDS: list[tuple[type[JsonFile], dict[str, Any]]] = [
    (CheckpointState, {"position": POSITION, "hashes": {"model.safetensors": "ab"}}),
    (RoundEnd, {**POSITION, "depth": 2, "val_loss": 2.0, "gap": GAP}),
    (ReferenceLosses, {"tokens": 9, "flops": 1.0, "seconds": 0.1, "val_loss": 2.0, "losses": [1.0, 3.0]}),
    (
        MadeOf,
        {"texts": {"data.train": "ab"}, "tokenizer": "cd", "reference": {"config.json": {"size": 1, "digest": "ef"}}},
    ),
]


def numbers(tree: Any) -> list[float]:
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tree] if isinstance(tree, int | float) else [number for part in parts for number in numbers(part)]


def test_what_is_damaged_is_read_when_it_is_whole(tmp_path: Path) -> None:
    for kind, tree in RECORDS:
        (tmp_path / "state.json").write_text(json.dumps(tree))
        kind.load(tmp_path / "state.json")
    (tmp_path / "losses.npy").write_bytes(LOSSES_FILE)
    assert read_losses(tmp_path / "losses.npy", documents=3).tolist() == [0.0, 0.0, 0.0]


@fuzzed(60)
@given(some.sampled_from(RECORDS), some.data())
def test_state_files(record: tuple[type[JsonFile], dict[str, Any]], data: Any) -> None:
    """What is read of a damaged one holds finite numbers, and is written and read back as it is."""
    kind, tree = record
    whole = json.dumps(tree).encode()
    content = data.draw(edited(whole) | changed(tree).map(lambda other: json.dumps(other).encode()))

    def read(folder: Path) -> None:
        found = kind.load(folder / "state.json")
        assert all(map(math.isfinite, numbers(found.model_dump(mode="json"))))
        found.save(folder / "again.json")
        assert kind.load(folder / "again.json") == found

    written(content, "state.json", read)


LOSSES_FILE = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }".ljust(117)
    + b"\n"
    + bytes(24)
)


@fuzzed(60)
@given(edited(LOSSES_FILE))
def test_files_of_losses(content: bytes) -> None:
    def read(folder: Path) -> None:
        assert np.isfinite(read_losses(folder / "losses.npy")).all()

    written(content, "losses.npy", read)


CARD = b"---\nlicense: apache-2.0\ntags: [a, {b: c}]\nmodel-index:\n- name: x\n  results: []\n---\n# A model\n"


@fuzzed(60)
@given(edited(CARD))
def test_cards(content: bytes) -> None:
    """What is read of one is a licence's name, and nothing else that stands there."""

    def read(folder: Path) -> None:
        name = license_of(folder)
        assert name is None or re.fullmatch(r"[\w.+-]+", name)

    written(content, "README.md", read)


def tables() -> dict[str, bytes]:
    """A file of each kind of table, with nulls, letters of several bytes and more than one batch."""
    rows = pyarrow.table({"text": ["ka lo mi", None, "\u00e9\u4e2d" * 9, ""] * 3, "number": [1, 2, 3, 4] * 3})
    made: dict[str, bytes] = {}
    for name, write in (
        ("file.arrow", lambda sink: _in_batches(pyarrow.ipc.new_file(sink, rows.schema), rows)),
        ("stream.arrow", lambda sink: _in_batches(pyarrow.ipc.new_stream(sink, rows.schema), rows)),
        ("a.parquet", lambda sink: parquet.write_table(rows, sink, row_group_size=5)),
    ):
        sink = pyarrow.BufferOutputStream()
        write(sink)
        made[name] = sink.getvalue().to_pybytes()
    return made


def _in_batches(writer: Any, rows: Any) -> None:
    with writer:
        writer.write_table(rows, max_chunksize=5)


TABLES = tables()


def test_whole_tables_are_read(tmp_path: Path) -> None:
    for name, content in TABLES.items():
        (tmp_path / name).write_bytes(content)
        assert [each.text for each in documents(str(tmp_path / name))] == ["ka lo mi", "\u00e9\u4e2d" * 9] * 3, name


@fuzzed(60)
@given(some.sampled_from(sorted(TABLES)), some.data())
def test_tables(name: str, data: Any) -> None:
    """Damaged offsets, lengths and schemas of Arrow and Parquet: read, or refused, and never memory that is not the file's."""

    def read(folder: Path) -> None:
        for each in documents(str(folder / name)):
            assert isinstance(each.text, str)

    written(data.draw(edited(TABLES[name])), name, read)
