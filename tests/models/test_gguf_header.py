"""A GGUF header is read as it was written, and refused in one sentence where it says what the file does not hold."""

import os

import pytest
from gguf_file import PAIRS, TENSORS, gguf_bytes, listed, number, pair, tensor, text

from inheritune.errors import ModelError
from inheritune.models.gguf_header import GgufTensor, read_gguf_header

pytest.importorskip("gguf")
HUGE = 1 << 60


def test_values_and_tensors_are_read(tmp_path):
    (tmp_path / "a.gguf").write_bytes(gguf_bytes([*PAIRS, pair("one", 9, listed(5, number("i", -3)))]))
    header = read_gguf_header(tmp_path / "a.gguf")
    told = {"general.architecture": "llama", "llama.block_count": 2, "llama.rope.freq_base": 10000.0}
    assert header.values == told | {"one": -3}  # a list of several is passed over
    assert header.tensors[:2] == [
        GgufTensor("token_embd.weight", 16, 0, 64),
        GgufTensor("blk.0.attn_norm.weight", 8, 64, 96),
    ]
    assert header.numbers == 32


def test_rows_are_as_wide_as_their_packing(tmp_path):
    q4_0, q8_0 = 2, 8  # 32 numbers in 18 bytes, and in 34
    packed = [tensor("a", 64, 3, start=0, kind=q4_0), tensor("b", 32, start=128, kind=q8_0)]
    none = [PAIRS[0], pair("llama.block_count", 4, number("I", 0))]
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(none, packed, held=162))
    assert [(own.start, own.end) for own in read_gguf_header(tmp_path / "a.gguf").tensors] == [(0, 108), (128, 162)]
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(none, packed, held=161))
    with pytest.raises(ModelError, match="ends before its tensors do"):
        read_gguf_header(tmp_path / "a.gguf")


def counted(value: bytes, kind: int = 4) -> list[bytes]:
    return [PAIRS[0], pair("llama.block_count", kind, value)]


REFUSED = {
    "other bytes": (b"GGML" + gguf_bytes()[4:], "not a GGUF file"),
    "nothing": (b"", "not a GGUF file"),
    "a later version": (gguf_bytes(version=4), "version 4"),
    "the other byte order": (gguf_bytes(version=3 << 24), "version 50331648"),
    "more tensors than a model has": (gguf_bytes()[:8] + number("Q", HUGE) + gguf_bytes()[16:], "tensors"),
    "more tensors than are told of": (gguf_bytes()[:8] + number("Q", 4) + gguf_bytes()[16:], "fetch it again"),
    "more pairs than a model has": (
        gguf_bytes()[:16] + number("Q", HUGE) + gguf_bytes()[24:],
        "pairs of name and value",
    ),
    "cut off in the header": (gguf_bytes()[:150], "ends before its header does"),
    "cut off in the tensors": (gguf_bytes(held=127), "ends before its tensors do"),
    "a name without end": (gguf_bytes([number("Q", HUGE)]), "bytes of a name"),
    "a text without end": (gguf_bytes([text("a") + number("I", 8) + number("Q", HUGE)]), "bytes of a text"),
    "a list without end": (
        gguf_bytes([text("a") + number("I", 9) + number("I", 4) + number("Q", HUGE)]),
        "items of a list",
    ),
    "a list beyond the file": (gguf_bytes([pair("a", 9, number("I", 10) + number("Q", 1 << 20))]), "before its header"),
    "texts beyond the file": (gguf_bytes([pair("a", 9, number("I", 8) + number("Q", 1 << 20))]), "before its header"),
    "a list of lists": (gguf_bytes([pair("a", 9, listed(9, listed(4), listed(4)))]), "unknown kind 9"),
    "a kind that is none": (gguf_bytes([pair("a", 13, bytes(8))]), "unknown kind 13"),
    "blocks that are not there": (
        gguf_bytes(counted(number("I", 3))),
        r"block_count = 3, but its tensors are of 2 blocks",
    ),
    "blocks that are not told of": (gguf_bytes(counted(number("I", 1))), r"block_count = 1, but its tensors are of 2"),
    "two thousand million blocks": (gguf_bytes(counted(number("I", 2 * 10**9))), "block_count = 2000000000: more than"),
    "as many in a list of one": (gguf_bytes(counted(listed(4, number("I", 2 * 10**9)), 9)), "block_count = 2000000000"),
    "as many as a float": (gguf_bytes(counted(number("d", 2e9), 12)), r"block_count = 2000000000\.0"),
    "no count of blocks": (gguf_bytes(PAIRS[:1]), "block_count = None"),
    "no blocks, and a count": (gguf_bytes(tensors=TENSORS[:1]), "tensors are of 0 blocks"),
    "a block left out": (gguf_bytes(tensors=[TENSORS[0], TENSORS[1], tensor("blk.5.a", 8, start=96)]), "of 2 blocks"),
    "too many experts": (gguf_bytes([*PAIRS, pair("llama.expert_count", 4, number("I", 1 << 30))]), "expert_count"),
    "no kind of model": (gguf_bytes(PAIRS[1:]), "general.architecture"),
    "a kind that is no name": (
        gguf_bytes([pair("general.architecture", 8, text("")), *PAIRS[1:]]),
        "general.architecture",
    ),
    "one part of three": (gguf_bytes([*PAIRS, pair("split.count", 2, number("H", 3))]), "one of 3 parts: join them"),
    "no alignment": (gguf_bytes([*PAIRS, pair("general.alignment", 4, number("I", 0))]), r"general\.alignment = 0"),
    "tensors over one another": (gguf_bytes(tensors=[*TENSORS, tensor("a", 8, start=32)]), "overlap"),
    "two of one name": (gguf_bytes(tensors=[*TENSORS[:2], tensor("blk.0.attn_norm.weight", 8, start=96)]), "one name"),
    "a start between the lines": (gguf_bytes(tensors=[tensor("a", 8, start=8)]), "overlap"),
    "no axes": (gguf_bytes(tensors=[tensor("a", start=0)]), "with 0 axes"),
    "five axes": (gguf_bytes(tensors=[tensor("a", 1, 1, 1, 1, 1, start=0)]), "with 5 axes"),
    "no numbers": (gguf_bytes(tensors=[tensor("a", 8, 0, start=0)]), "not GGUF"),
    "a packing that is none": (gguf_bytes(tensors=[tensor("a", 8, start=0, kind=99)]), "not GGUF"),
    "half a pack": (gguf_bytes(tensors=[tensor("a", 8, start=0, kind=2)]), "not GGUF"),
    "an axis without end": (gguf_bytes(tensors=[tensor("a", HUGE, HUGE, start=0)]), "ends before its tensors do"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_the_file_does_not_hold_is_refused(fault, tmp_path):
    content, said = REFUSED[fault]
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=said) as told:
        read_gguf_header(tmp_path / "a.gguf")
    assert len(str(told.value)) < 300 + len(str(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.gguf")
    with pytest.raises(ModelError, match="is no file"):
        read_gguf_header(tmp_path / "a.gguf")
