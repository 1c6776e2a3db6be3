"""Block maps as text and as data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inheritune.errors import InputError
from inheritune.surgery.blockmap import BlockMap, grown, parse
from inheritune.words import show

BLOCKS = st.lists(st.integers(0, 40), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("0-5,8,9-11", [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]),
        ("0-2,1-3", [0, 1, 2, 1, 2, 3]),
        (" 7 , 3 ", [7, 3]),
        ("4-4", [4]),
    ],
)
def test_texts_name_blocks(text, blocks):
    assert parse(text) == blocks


@pytest.mark.parametrize("text", ["", "5-3", "a", "1,,2", "-1", "1-", "0-5-7", "0..3", "1e3", "0-99999"])
def test_other_texts_are_refused_in_one_sentence(text):
    with pytest.raises(InputError) as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_ranges_are_shown_inclusive():
    assert show([0, 1, 2, 5]) == "0-2,5"
    assert show([3, 2, 1]) == "3,2,1"
    assert show([0, 1, 1, 2]) == "0-1,1-2"


@given(BLOCKS)
def test_what_is_shown_is_read_back(blocks):
    assert parse(show(blocks)) == blocks


@given(st.data())
def test_composing_is_cutting_twice(data):
    first = data.draw(BLOCKS)
    second = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=30))
    composed = BlockMap.of(second).compose(BlockMap.of(first))
    assert [place.block for place in composed.places] == [first[place] for place in second]


def test_a_block_out_of_range_is_named():
    with pytest.raises(InputError, match=r"Block 6 .* 0 to 5"):
        BlockMap.of([0, 6]).within(6)
    with pytest.raises(InputError, match="counted from 0"):
        BlockMap.of([0, -1])
    with pytest.raises(InputError, match="empty"):
        BlockMap.of([])


def test_growing_keeps_what_is_held_and_takes_the_rest_from_the_reference():
    places = [(place.source, place.block) for place in grown([0, 2, 2, 5], [0, 1, 2, 2, 2, 5]).places]
    assert places == [(0, 0), (1, 1), (0, 1), (0, 2), (1, 2), (0, 3)]


HELD, WANTED = [0, 2, 5], [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("start", "new"),
    [
        ("inherited", [(1, 1, False), (1, 4, False)]),
        ("identity", [(1, 1, True), (1, 4, True)]),
        ("random", [(1, None, False), (1, None, False)]),
        ("copied", [(0, 0, False), (0, 2, False)]),  # block 0 stands as near to 1 as block 2 does, and is the lower
    ],
)
def test_new_blocks_start_as_asked(start, new):
    block_map = grown(HELD, WANTED, start)
    found = [(place.source, place.block, place.silent) for place in block_map.places]
    assert [found[1], found[3]] == new
    assert [found[0], found[2], found[4]] == [(0, 0, False), (0, 1, False), (0, 2, False)]
    assert block_map.kinds == WANTED and block_map.whole == (start != "random")


def test_only_a_block_of_the_same_kind_is_copied():
    even = grown(HELD, WANTED, "copied", lambda one, other: one % 2 == other % 2)
    assert [place.block for place in even.places] == [0, 2, 1, 1, 2]
    with pytest.raises(InputError, match="kind of block 1"):
        grown([0, 2], [0, 1, 2], "copied", lambda one, other: one % 2 == other % 2)


def test_silent_places_hold_zeros_where_their_parts_close():
    block_map = grown([0], [0, 3], "identity")
    name = "h.3.attn.o_proj.weight"
    assert (block_map.targets(name, "h", 1), block_map.zeros(name, "h")) == ([], ["h.1.attn.o_proj.weight"])
    name = "h.3.attn.q_proj.weight"
    assert (block_map.targets(name, "h", 1), block_map.zeros(name, "h")) == (["h.1.attn.q_proj.weight"], [])


def test_names_outside_the_blocks_go_along_and_parts_are_chosen_by_name():
    block_map = BlockMap.of([3, 1, 3]).of_parts(["attention"])
    assert block_map.targets("model.layers.3.self_attn.q_proj.weight", "model.layers") == [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.2.self_attn.q_proj.weight",
    ]
    assert block_map.targets("model.layers.3.mlp.up_proj.weight", "model.layers") == []
    assert block_map.targets("model.layers.30.self_attn.q_proj.weight", "model.layers") == []
    assert block_map.targets("model.norm.weight", "model.layers") == ["model.norm.weight"]
    with pytest.raises(InputError, match="attention, mlp, norms"):
        BlockMap.of([0]).of_parts(["heads"])
