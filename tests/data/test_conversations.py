"""Conversations from every kind of source, as ids: transformers' own `apply_chat_template` with its mask is the oracle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shell import command, refused
from tiny import BEGIN, VOCABULARY, with_begin
from transformers import PreTrainedTokenizerFast

from inheritune.config.sections import Data, Source
from inheritune.data import store
from inheritune.data.coding import Coding
from inheritune.data.ids import encoded
from inheritune.data.tokens import outside, prepare
from inheritune.errors import DataError
from inheritune.evaluation.losses import validation
from inheritune.models.begin import begin_of
from inheritune.models.chat import chat_of

MARKED = (
    "{{ bos_token }}{% for m in messages %}{{ m.role }} {% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
UNMARKED = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "").replace("role }} {", "role }}{")


@pytest.fixture(scope="module")
def words(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a begin in front, whose template writes one too."""
    own = with_begin(tokenizer)
    own.chat_template = MARKED
    return own


@pytest.fixture(scope="module")
def conversations(texts: list[str]) -> list[list[dict[str, Any]]]:
    turns = [
        [{"role": "user", "content": text[:40]}, {"role": "assistant", "content": text[40:]}] for text in texts[:60]
    ]
    return [turn if number % 3 else [*turn, *turns[number - 1]] for number, turn in enumerate(turns)]


@pytest.fixture(scope="module")
def sources(conversations: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversations")
    rows = [{"messages": messages, "id": str(number)} for number, messages in enumerate(conversations)]
    folder.joinpath("c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder.joinpath("c.json").write_text(json.dumps(rows, indent=1))
    table = pa.table({"messages": conversations})
    pq.write_table(table, folder / "c.parquet")
    with pa.OSFile(str(folder / "c.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return folder


def coding_of(words: PreTrainedTokenizerFast, loss_on: str = "assistant") -> Coding:
    chat = chat_of(words, loss_on == "assistant")
    return Coding.of(words.backend_tokenizer, words.eos_token_id, begin_of(words), chat)


def by(source: Path, **fields: Any) -> Data:
    return Data(train=str(source), valid_share=0.3, sequence_length=32, loss_on="assistant", **fields)


@pytest.mark.parametrize("name", ["c.jsonl", "c.json", "c.parquet", "c.arrow"])
def test_ids_and_mask_are_those_of_transformers(
    name: str, sources: Path, words: PreTrainedTokenizerFast, conversations: list[Any]
) -> None:
    found = list(encoded(Source(source=str(sources / name)), "text", coding_of(words)))
    for document, messages in zip(found, conversations, strict=True):
        wanted = words.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
        assert wanted["input_ids"][0] == VOCABULARY and wanted["input_ids"][-1] == words.eos_token_id
        assert document.ids.tolist() == wanted["input_ids"][1:], "the begin stands in front of sequences, once"
        assert document.asked is not None and document.asked.tolist() == [
            bool(m) for m in wanted["assistant_masks"][1:]
        ]
        assert document.rendered


def test_a_template_without_marks_gives_the_same_by_its_prefixes(
    sources: Path, words: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast, conversations: list[Any]
) -> None:
    other = with_begin(tokenizer)
    other.chat_template = UNMARKED + "{% if add_generation_prompt %}assistant{% endif %}"
    marked = MARKED.replace("role }} {", "role }}{")
    (document, *_) = encoded(Source(source=str(sources / "c.jsonl")), "text", coding_of(other))
    wanted = words.apply_chat_template(
        conversations[0], chat_template=marked, return_assistant_tokens_mask=True, return_dict=True
    )
    assert document.ids.tolist() == wanted["input_ids"][1:] and document.asked is not None
    assert document.asked.tolist() == [bool(mark) for mark in wanted["assistant_masks"][1:]]


def test_a_prepared_folder_keeps_what_is_asked(
    sources: Path, words: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words.save_pretrained(tmp_path / "words")
    out = tmp_path / "out"
    made = (
        "prepare",
        str(sources / "c.jsonl"),
        str(out),
        "--tokenizer",
        str(tmp_path / "words"),
        "--valid-share",
        "0.3",
    )
    assert command(*made, "--loss-on", "assistant", "--quiet").code == 0
    assert "its loss_on differs" in refused(*made, "--quiet")
    coding = coding_of(words)
    direct, kept = (prepare(by(source), coding, VOCABULARY + 2) for source in (sources / "c.jsonl", out))
    new = [{"role": "user", "content": "kalo"}, {"role": "assistant", "content": "mine"}]
    rows = [{"messages": new * count} for count in range(1, 6)]
    (tmp_path / "new.json").write_text(json.dumps(rows))
    copied, _ = prepare(by(out, valid=str(tmp_path / "new.json")), coding, VOCABULARY + 2)
    for one, other in zip(direct, kept, strict=True):
        assert np.array_equal(one.ids, other.ids) and one.asked is not None and other.asked is not None
        assert np.array_equal(one.asked, other.asked) and 0 < one.asked.sum() < len(one.asked)
        assert not np.any(one.asked[one.ids == VOCABULARY]), "no loss asks for a begin"
    assert copied.asked is not None and copied.asked.sum() == sum(
        one.asked.sum() for one in kept if one.asked is not None
    )
    whole, _ = prepare(by(out).model_copy(update={"loss_on": "all"}), coding_of(words, "all"), VOCABULARY + 2)
    assert whole.asked is None and np.array_equal(whole.ids, kept[0].ids)
    other = with_begin(words)
    other.chat_template = UNMARKED
    with pytest.raises(DataError, match="another chat template"):
        prepare(by(out), coding_of(other), VOCABULARY + 2)


def test_a_folder_without_marks_serves_no_loss_on_the_assistant(
    corpus: Path, sources: Path, words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    words.save_pretrained(tmp_path / "words")
    made = ("--tokenizer", str(tmp_path / "words"), "--valid-share", "0.3", "--quiet")
    assert command("prepare", str(corpus / "words.jsonl"), str(tmp_path / "out"), *made).code == 0
    assert store.read_manifest(tmp_path / "out").chat is None
    with pytest.raises(DataError, match=r"prepare it again with --loss-on assistant"):
        prepare(by(tmp_path / "out"), coding_of(words), VOCABULARY + 2)
    for name in ("words.jsonl", "words.bin"):
        with pytest.raises(DataError, match=r"does not tell which tokens are the assistant's.*or data.loss_on: all"):
            prepare(by(corpus / name), coding_of(words), VOCABULARY + 2)
    assert "give all or assistant" in refused("prepare", "x", "y", *made, "--loss-on", "user")


def test_text_is_read_where_there_is_some_and_messages_where_they_are_named(
    words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    row = {"text": "kalo", "messages": [{"role": "user", "content": "mine"}]}
    (tmp_path / "both.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({"messages": row["messages"]}) + "\n")
    by_default, by_name = (
        [
            words.decode(found.ids)
            for found in encoded(Source(source=str(tmp_path / "both.jsonl")), field, coding_of(words, "all"))
        ]
        for field in ("text", "messages")
    )
    end = words.eos_token
    assert by_default == [f"kalo{end}", f"user mine{end}"] and by_name == [f"user mine{end}"] * 2


def test_validation_asks_for_the_assistants_tokens_alone_and_outside_texts_for_all(
    sources: Path, words: PreTrainedTokenizerFast
) -> None:
    coding, data = coding_of(words), by(sources / "c.jsonl")
    _, valid = prepare(data, coding, VOCABULARY + 2)
    documents = validation(valid, data, coding.begin)
    wanted = [
        [int(id_) for id_, asked in zip(valid.document(number), valid.asked_of(number), strict=True) if asked]
        for number in range(len(valid.starts))
    ]
    labels = [documents.labels[documents.owner == number] for number in range(len(documents.weights))]
    assert [rows[rows != -100].tolist() for rows in labels] == wanted
    assert documents.weights.tolist() == [len(row) for row in wanted]
    beside = data.model_copy(update={"outside": {"all": [Source(source=str(sources / "c.json"))]}})
    assert outside(beside, "all", coding, VOCABULARY + 2).asked is None


def test_long_conversations_are_cut_with_what_is_asked(words: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "kalo " * 500}, {"role": "assistant", "content": "mine " * 500}]
    (tmp_path / "long.jsonl").write_text(json.dumps({"messages": turn * 25}))
    found = list(encoded(Source(source=str(tmp_path / "long.jsonl")), "text", coding_of(words), by_section=True))
    assert len(found) > 20 and {document.book for document in found} == {"long.jsonl#1"}
    read = [words.decode(d.ids[d.asked]) for d in found if d.asked is not None and d.asked.any()]
    assert set(" ".join(read).replace(words.eos_token, " ").split()) == {"mine"} and BEGIN not in "".join(read)
    assert sum(piece.count("mine") for piece in read) == 25 * 500
