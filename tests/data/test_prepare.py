"""`inheritune prepare`: what it writes, that a kill changes no byte of it, and that runs read it as it is."""

import gzip
import hashlib
import json
import lzma
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from shell import command, refused
from tiny import BEGIN, VOCABULARY, with_begin
from transformers import PreTrainedTokenizerFast

from inheritune.config.sections import Data, Source
from inheritune.data import building, store, writer
from inheritune.data.building import Job, build
from inheritune.data.coding import Coding
from inheritune.data.corpora import tokens_in_files
from inheritune.data.tokens import prepare, prepare_folder
from inheritune.errors import DataError, OutputError
from inheritune.models.begin import begin_of
from inheritune.records.prepared import SourceFile


def job(tokenizer: PreTrainedTokenizerFast, *sources: Path, share: float = 0.2) -> Job:
    coding = Coding.of(tokenizer.backend_tokenizer, tokenizer.eos_token_id)
    return Job([Source(source=str(path)) for path in sources], [], "text", share, coding)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def rows(folder: Path, side: str) -> list[list[int]]:
    tokens = store.read_side(folder, side)
    return [tokens.document(number).tolist() for number in range(len(tokens.starts))]


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_it_tells_how_far_it_is(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(building, "_SECONDS", 1e9)
    build(job(tokenizer, corpus / "words.jsonl"), tmp_path / "quick", told.append)
    assert told == []
    monkeypatch.setattr(building, "_SECONDS", 0.0)
    build(job(tokenizer, corpus / "words.jsonl"), tmp_path / "told", told.append)
    sizes = [len(store.read_side(tmp_path / "told", side)) for side in store.SIDES]
    about = (corpus / "words.jsonl").stat().st_size / 4.2
    whole = f" of about {float(f'{about:.2g}'):,.0f}" if sum(sizes) < about else ""
    assert len(told) == 150 and f"150 documents, {sum(sizes):,}{whole} tokens, " in told[-1]
    assert f" of about {float(f'{about:.2g}'):,.0f} tokens, " in told[0]


def test_a_plan_counts_what_is_prepared_and_guesses_the_rest(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path
) -> None:
    build(job(tokenizer, corpus / "words.jsonl"), tmp_path / "out", print)
    exact = sum(len(store.read_side(tmp_path / "out", side)) for side in store.SIDES)
    prepared, plain = Source(source=str(tmp_path / "out")), Source(source=str(corpus / "words.txt"))
    assert tokens_in_files([prepared]) == exact
    assert tokens_in_files([prepared, plain]) == round(exact + (corpus / "words.txt").stat().st_size / 4.2)
    assert tokens_in_files([prepared, Source(source="hf:some/text")]) is None


def test_packed_prose_is_guessed_by_how_it_is_packed(tmp_path: Path) -> None:
    """The pages of this project, packed in each way."""
    prose = b"".join(page.read_bytes() for page in sorted(Path(__file__).parents[2].glob("docs/*.md")))
    zstd = pyarrow.compress(prose, codec="zstd", asbytes=True)
    packed = {"txt": prose, "txt.gz": gzip.compress(prose), "txt.xz": lzma.compress(prose), "txt.zst": zstd}
    guessed = []
    for suffix, content in packed.items():
        (tmp_path / f"prose.{suffix}").write_bytes(content)
        guessed.append(tokens_in_files([Source(source=str(tmp_path / f"prose.{suffix}"))]))
    assert guessed == [pytest.approx(len(prose) / 4.2, rel=0.25)] * 4


@pytest.mark.parametrize("documents", [1, 40, 149, 153, 158])
def test_a_kill_after_any_document_changes_no_byte(
    tokenizer: PreTrainedTokenizerFast,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    documents: int,
) -> None:
    monkeypatch.setattr(building, "_CHUNK", 500)
    wanted = job(tokenizer, corpus / "words.jsonl", corpus / "words.txt")
    build(wanted, tmp_path / "whole", print)
    add, added = writer.Writer.add, []

    def counting(*arguments: Any) -> None:
        added.append(1)
        if len(added) > documents:
            raise Killed
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writer.Writer, "add", counting)
        with pytest.raises(Killed):
            build(wanted, tmp_path / "killed", print)
    with (tmp_path / "killed" / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"source": 0, "re')
    build(wanted, tmp_path / "killed", print)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_a_repeat_across_a_kill_stands_once(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before the kill is known after it: else a document stands twice, and on both sides."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    wanted = job(tokenizer, tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    monkeypatch.setattr(building, "_CHUNK", 500)
    document, killed = building.encoded, []

    def dying(source: Source, *rest: Any) -> Any:
        if source.source.endswith("b.jsonl") and not killed:
            killed.append(1)
            raise Killed
        return document(source, *rest)

    monkeypatch.setattr(building, "encoded", dying)
    with pytest.raises(Killed):
        build(wanted, tmp_path / "out", print)
    build(wanted, tmp_path / "out", print)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["repeats"] == len(texts)
    sides = [{tuple(row) for row in rows(tmp_path / "out", side)} for side in store.SIDES]
    assert sum(map(len, sides)) == len(texts) and not sides[0] & sides[1]


# A preparation in chunks of 65,536 tokens that is killed at a document in the midst of one: what is held back of it is lost.
KILLED = """
import os, signal
from inheritune.cli import main
from inheritune.data import building, writer
building._CHUNK, add, added = 1 << 16, writer.Writer.add, []

def dying(*given):
    added.append(1)
    if len(added) == 3_000:
        os.kill(os.getpid(), signal.SIGKILL)
    add(*given)

writer.Writer.add = dying
main()
"""


def test_killed_process_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", 1) as file:
        for number in range(4_500):
            file.write(json.dumps({"text": f"Document {number}: " + f"word{number} and more words " * 20}) + "\n")
    arguments = [str(tmp_path / "a.jsonl.gz"), "--tokenizer", "bundled:laptop", "--quiet"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    ended = subprocess.run([sys.executable, "-c", KILLED, "prepare", arguments[0], str(killed), *arguments[1:]])
    assert ended.returncode == -signal.SIGKILL
    assert len((killed / "journal.jsonl").read_text().splitlines()) > 2 and not (killed / "manifest.json").exists()
    assert command("prepare", arguments[0], str(killed), *arguments[1:]).code == 0
    assert command("prepare", arguments[0], str(whole), *arguments[1:]).code == 0
    assert digests(killed) == digests(whole)


def test_manifest_tells_sources_sides_and_hashes(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, texts: list[str]
) -> None:
    manifest = prepare_folder(job(tokenizer, corpus / "words.jsonl"), tmp_path / "out", print)
    assert sorted(digests(tmp_path / "out")) == [
        "manifest.json", "train.bin", "train.books", "train.starts", "valid.bin", "valid.books", "valid.starts",
    ]  # fmt: skip
    for side, told in (("train", manifest.sides.train), ("valid", manifest.sides.valid)):
        assert told.sha256 == digests(tmp_path / "out")[f"{side}.bin"]
        assert told.documents == told.books == len(rows(tmp_path / "out", side))
    written = list(json.loads((tmp_path / "out" / "manifest.json").read_text()))
    assert [key for key in written if key != "begin"] == [
        "format", "bytes", "sides", "tokenizer", "end", "valid_share", "sources", "repeats", "vocabulary",
    ]  # fmt: skip
    (source,) = manifest.sources
    digest = hashlib.sha256((corpus / "words.jsonl").read_bytes()).hexdigest()
    assert source.files == (SourceFile(name="words.jsonl", sha256=digest),) and source.read == len(texts)
    wanted = {(*tokenizer(text)["input_ids"], 0) for text in texts}
    assert {tuple(row) for side in store.SIDES for row in rows(tmp_path / "out", side)} == wanted


def test_a_run_reads_a_prepared_folder_as_it_is(
    tree: dict[str, Any], gpt2: Path, corpus: Path, write_recipe: Callable[..., str], tmp_path: Path
) -> None:
    out = tmp_path / "prepared"
    ended = command("prepare", str(corpus / "words.jsonl"), str(out), "--tokenizer", str(gpt2), "--valid-share", "0.2")
    assert ended.code == 0, ended
    before = digests(out)
    tree["growth"]["max_depth"] = 2
    from_text = command("run", write_recipe(tree), "--out", str(tmp_path / "text"), "--json", "--quiet")
    tree["data"]["train"] = str(out)
    prepared = command("run", write_recipe(tree), "--out", str(tmp_path / "ids"), "--json", "--quiet")
    losses = [json.loads(ended.out)["target"]["val_loss"] for ended in (from_text, prepared)]
    assert losses[0] == losses[1] and digests(out) == before


def test_saved_truncation_and_padding_are_not_applied(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, texts: list[str]
) -> None:
    from tokenizers import Tokenizer

    cutting = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    cutting.enable_truncation(5)
    cutting.enable_padding(length=9)
    coding = Coding.of(cutting, 0)
    build(Job([Source(source=str(corpus / "words.jsonl"))], [], "text", 0.2, coding), tmp_path / "out", print)
    assert max(len(row) for row in rows(tmp_path / "out", "train")) > 20
    assert cutting.truncation["max_length"] == 5


def test_half_of_a_surrogate_pair(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "\\ud83d"}\n')
    with pytest.raises(DataError, match=r"'a.jsonl#2' holds half of a surrogate pair"):
        build(job(tokenizer, tmp_path / "a.jsonl"), tmp_path / "out", print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("vocabulary", "width"), [(65_536, 2), (65_537, 4)])
def test_ids_take_two_bytes_where_they_can(vocabulary: int, width: int, tokenizer: PreTrainedTokenizerFast) -> None:
    assert Coding.of(tokenizer.backend_tokenizer, vocabulary - 1).dtype.itemsize == width


def test_folders_that_are_refused(tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, gpt2: Path) -> None:
    wanted = job(tokenizer, corpus / "words.jsonl")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    for name, said in (("file", "is a file"), ("full", "is not empty")):
        with pytest.raises(OutputError, match=said):
            prepare_folder(wanted, tmp_path / name, print)
    first = prepare_folder(wanted, tmp_path / "out", print)
    assert prepare_folder(wanted, tmp_path / "out", print) == first
    with pytest.raises(OutputError, match=r"another preparation .its valid_share differs"):
        prepare_folder(job(tokenizer, corpus / "words.jsonl", share=0.3), tmp_path / "out", print)
    with pytest.raises(OutputError, match=r"another preparation .its sources differs"):
        prepare_folder(job(tokenizer, corpus / "words.txt"), tmp_path / "out", print)
    assert "--valid-share is 1.0" in refused(
        "prepare", str(corpus / "words.txt"), str(tmp_path / "x"), "--tokenizer", str(gpt2), "--valid-share", "1"
    )


def test_prepared_by_another_tokenizer_or_damaged(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path
) -> None:
    build(job(tokenizer, corpus / "words.jsonl"), tmp_path / "out", print)
    data = Data(train=str(tmp_path / "out"))
    other = Coding.of(tokenizer.backend_tokenizer, 0).tokenizer
    other.add_tokens(["kalo"])
    with pytest.raises(DataError, match="prepared with another tokenizer"):
        prepare(data, Coding.of(other, 0), VOCABULARY + 1)
    os.truncate(tmp_path / "out" / "train.bin", 100)
    with pytest.raises(DataError, match=r"train.bin' has 100 bytes"):
        prepare(data, Coding.of(tokenizer.backend_tokenizer, 0), VOCABULARY)
    (tmp_path / "out" / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="manifest of another kind"):
        prepare(data, Coding.of(tokenizer.backend_tokenizer, 0), VOCABULARY)


def test_several_sources_keep_no_document_twice_and_tell_their_parts(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    halves = {"a": texts[:100], "b": texts[50:]}
    for name, held in halves.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in held))
    sources = [{"source": str(tmp_path / f"{name}.jsonl"), "weight": weight} for name, weight in (("a", 1), ("b", 3))]
    data = Data(train=sources, valid_share=0.3)
    train, valid = prepare(data, Coding.of(tokenizer.backend_tokenizer, 0), VOCABULARY)
    found = [tuple(side.document(n).tolist()) for side in (train, valid) for n in range(len(side.starts))]
    assert sorted(found) == sorted((*tokenizer(text)["input_ids"], 0) for text in texts)
    assert [part.weight for part in train.parts] == [1, 3] and train.parts[1].last == len(train)
    of_a = {tuple(tokenizer(text)["input_ids"]) for text in texts[:100]}
    first = [tuple(valid.document(n).tolist()[:-1]) in of_a for n in range(12)]
    assert 2 <= sum(first) <= 4, "a quarter of any first part of the validation documents comes from a"
    assert len({int(start) for start in valid.starts}) == len(valid.starts) and np.all(valid.ends > valid.starts)


def test_documents_stand_between_begin_and_end_once(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    words = with_begin(tokenizer, f"{BEGIN} $A <|endoftext|>")
    words.save_pretrained(tmp_path / "words")
    some = [f"{BEGIN}{texts[0]}", *texts[1:40]]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    own, wanted = [VOCABULARY], sorted([*tokenizer(text)["input_ids"], 0] for text in texts[:40])
    np.concatenate([own + row for row in wanted]).astype("<u2").tofile(tmp_path / "closed.bin")
    np.concatenate([own + row[:-1] for row in wanted]).astype("<u2").tofile(tmp_path / "opened.bin")
    for name in ("some.jsonl", "closed.bin", "opened.bin"):
        out = tmp_path / name.replace(".", "-")
        ended = command(
            "prepare",
            str(tmp_path / name),
            str(out),
            "--tokenizer",
            str(tmp_path / "words"),
            "--valid-share",
            "0.2",
            "--json",
        )
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["begin"] == own
        row, starts = np.fromfile(out / "train.bin", "<u2"), np.fromfile(out / "train.starts", "<i8")
        assert set(row[starts].tolist()) == {VOCABULARY} and (row == VOCABULARY).sum() == len(starts)
        assert sorted(rows(out, "train") + rows(out, "valid")) == wanted


def test_a_prepared_folder_serves_any_begin_of_text(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path
) -> None:
    words, source = with_begin(tokenizer), [Source(source=str(corpus / "words.jsonl"))]
    coding = Coding.of(words.backend_tokenizer, words.eos_token_id, begin_of(words))
    build(Job(source, [], "text", 0.2, coding), tmp_path / "out", print)
    bare = Coding.of(words.backend_tokenizer, words.eos_token_id)
    build(Job(source, [], "text", 0.2, bare), tmp_path / "bare", print)
    for own in (coding, bare):
        found = prepare(Data(train=str(tmp_path / "out")), own, VOCABULARY + 2)
        for side, name in zip(found, store.SIDES, strict=True):
            assert [side.document(n).tolist() for n in range(len(side.starts))] == rows(tmp_path / "bare", name)
    with pytest.raises(OutputError, match="its begin differs"):
        prepare_folder(Job(source, [], "text", 0.2, bare), tmp_path / "out", print)


def test_data_shorter_than_the_journal_says_are_told(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk that lost what it was given leaves them: going on would fill the gap with zeros."""
    wanted = job(tokenizer, corpus / "words.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(writer.Writer, "finish", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            build(wanted, tmp_path / "tokens", print)
    os.truncate(tmp_path / "tokens" / "train.bin", 10)
    with pytest.raises(DataError, match=r"shorter than it says.*remove"):
        build(wanted, tmp_path / "tokens", print)


def test_text_of_no_use_leaves_what_was_in_the_folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("alone")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".keep").touch()
    for name in ("mine", "new"):
        with pytest.raises(DataError):
            prepare_folder(job(tokenizer, tmp_path / "one.txt"), tmp_path / name, print)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [".keep"] and not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["train.bin", "journal.jsonl"])
def test_no_link_is_written_through(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "victim").touch()
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match=r"cannot be written"):
        prepare_folder(job(tokenizer, corpus / "words.jsonl"), tmp_path / "tokens", print)
    assert (tmp_path / "victim").stat().st_size == 0


def test_a_finished_folder_that_may_only_be_read_is_used(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = job(tokenizer, corpus / "words.jsonl")
    prepare_folder(wanted, tmp_path / "tokens", print)
    monkeypatch.setattr(building, "hold", lambda *_, **__: (_ for _ in ()).throw(PermissionError("read-only")))
    assert prepare_folder(wanted, tmp_path / "tokens", print).sides
