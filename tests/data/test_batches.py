from dataclasses import replace

import numpy as np
import pytest

from inheritune.data import batches as batches_module
from inheritune.data.batches import Batches
from inheritune.data.store import Part
from inheritune.data.tokens import Tokens
from inheritune.errors import DataError
from inheritune.models.begin import Begin

LENGTH, SEQUENCES = 8, 3


def counting(count: int) -> Tokens:
    """Token i is the number i, so that a batch says where it was read."""
    return Tokens(np.arange(count), np.array([0]))


def starts(batches: Batches, epoch: int) -> list[int]:
    """Where the sequences of an epoch start, read off its batches."""
    places = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
    return [int(batches[place // SEQUENCES][place % SEQUENCES, 0]) for place in places]


def test_a_batch_is_a_pure_function_of_seed_and_index() -> None:
    forwards, backwards = Batches(counting(500), 4, SEQUENCES, LENGTH), Batches(counting(500), 4, SEQUENCES, LENGTH)
    kept = [forwards[index] for index in range(60)]
    for index in reversed(range(60)):
        assert np.array_equal(backwards[index], kept[index])
    other = Batches(counting(500), 5, SEQUENCES, LENGTH)
    assert not np.array_equal(other[0], kept[0])


def test_a_sequence_is_a_stretch_of_text_with_its_next_token() -> None:
    batch = Batches(counting(500), 0, SEQUENCES, LENGTH)[3]
    assert batch.shape == (SEQUENCES, LENGTH + 1)
    assert np.all(np.diff(batch, axis=1) == 1)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_epoch_reads_every_sequence_once(epoch: int) -> None:
    batches = Batches(counting(500), 1, SEQUENCES, LENGTH)
    found = sorted(starts(batches, epoch))
    assert np.all(np.diff(found) == LENGTH)
    assert len(found) == batches.per_epoch >= 500 // LENGTH - 2


def test_epochs_differ_in_order_and_offset() -> None:
    batches = Batches(counting(500), 1, SEQUENCES, LENGTH)
    first, second = starts(batches, 0), starts(batches, 1)
    assert first != second and {start % LENGTH for start in first} != {start % LENGTH for start in second}
    assert first != sorted(first)


def test_every_token_is_within_reach() -> None:
    """No offset leads over the end: of many epochs, all tokens are met and none beyond."""
    batches = Batches(counting(45), 2, SEQUENCES, LENGTH)
    met = {int(token) for index in range(400) for token in batches[index].ravel()}
    assert met == set(range(max(met) + 1)) and max(met) >= 45 - LENGTH


def test_text_shorter_than_two_sequences() -> None:
    with pytest.raises(DataError, match=r"16 tokens, less than two sequences of 8"):
        Batches(counting(16), 0, SEQUENCES, LENGTH)


def mixed(first: int, second: int, weights: tuple[float, float]) -> Tokens:
    """Tokens below 10,000 are of the first part, the others of the second."""
    ids = np.concatenate([np.arange(first), 10_000 + np.arange(second)])
    parts = (Part("a", 0, first, weights[0]), Part("b", first, first + second, weights[1]))
    return Tokens(ids, np.array([0, first]), parts)


def test_a_mixture_draws_its_parts_by_weight_and_each_goes_through_whole_passes() -> None:
    batches = Batches(mixed(3000, 500, (1, 3)), 0, SEQUENCES, LENGTH)
    firsts = np.concatenate([batches[index][:, 0] for index in range(2000)])
    of_b = firsts >= 10_000
    assert abs(of_b.mean() - 0.75) < 0.02
    count = (500 - 1) // LENGTH - 1
    one_pass = np.sort(firsts[of_b][:count])
    assert np.all(np.diff(one_pass) == LENGTH), "the first pass over b meets every sequence once"
    rows = np.concatenate([batches[index] for index in range(50)])
    assert np.all(np.diff(rows, axis=1) == 1), "no sequence runs over from one part to the other"


def test_each_of_three_parts_goes_through_whole_passes() -> None:
    sizes = (500, 700, 900)
    bounds = np.cumsum((0, *sizes))
    parts = tuple(Part(str(at), bounds[at], bounds[at + 1], 1.0) for at in range(3))
    batches = Batches(Tokens(np.arange(bounds[-1]), bounds[:-1], parts), 0, SEQUENCES, LENGTH)
    firsts = np.concatenate([batches[index][:, 0] for index in range(1000)])
    for at, size in enumerate(sizes):
        own = firsts[(bounds[at] <= firsts) & (firsts < bounds[at + 1])]
        assert np.all(np.diff(np.sort(own[: (size - 1) // LENGTH - 1])) == LENGTH)


def test_a_mixture_is_a_pure_function_of_seed_and_index() -> None:
    tokens = mixed(3000, 500, (1, 1))
    forwards = Batches(tokens, 4, SEQUENCES, LENGTH)
    kept = [forwards[index] for index in range(30)]
    late = 3 * batches_module._PLACES // SEQUENCES
    kept_late = forwards[late]
    fresh = Batches(tokens, 4, SEQUENCES, LENGTH)
    assert np.array_equal(fresh[late], kept_late)
    assert all(np.array_equal(fresh[index], kept[index]) for index in reversed(range(30)))


def test_one_part_is_drawn_as_if_there_were_no_parts() -> None:
    plain = Batches(counting(500), 4, SEQUENCES, LENGTH)
    whole = Batches(Tokens(np.arange(500), np.array([0]), (Part("a", 0, 500, 2.0),)), 4, SEQUENCES, LENGTH)
    assert all(np.array_equal(plain[index], whole[index]) for index in range(40))


def test_a_part_that_is_too_short_is_named() -> None:
    with pytest.raises(DataError, match="b has 16 tokens"):
        Batches(mixed(500, 16, (1, 1)), 0, SEQUENCES, LENGTH)


@pytest.mark.parametrize("ids", [(9_001,), (9_001, 9_002), (9_001, 9_002, 9_003)])
def test_a_begin_of_text_opens_every_sequence_and_no_token_is_asked_for_twice(ids: tuple[int, ...]) -> None:
    begin = Begin(ids)
    plain, opened = (Batches(counting(500), 1, SEQUENCES, LENGTH, begin) for begin in (Begin(), begin))
    for index in range(60):
        without, found = plain[index], opened[index]
        assert found.shape == without.shape and np.all(found[:, : len(ids)] == ids)
        labels, asked = found[:, 1 + begin.unasked :], opened.asked(index)
        if begin.unasked:
            assert asked is not None and not asked[:, : begin.unasked].any() and asked[:, begin.unasked :].all()
        else:
            assert asked is None
        assert np.array_equal(labels, without[:, 1 : 1 + labels.shape[1]]), "the same tokens, in the same order"


@pytest.mark.parametrize("begin", [(), (9_001,), (9_001, 9_002)])
def test_what_is_asked_stands_beside_its_tokens(begin: tuple[int, ...]) -> None:
    """Odd numbers are asked for, in a row whose documents stand behind begins on the disk."""
    documents = [part.tolist() for part in np.split(np.arange(400), [30, 31, 90, 300])]
    row = on_disk(documents, begin)
    found = Batches(replace(row, asked=row.ids % 2 == 1), 3, SEQUENCES, LENGTH, Begin(begin))
    for index in (7, 0, 30):
        labels, asked = found[index][:, 1:], found.asked(index)
        assert asked is not None and np.array_equal(asked, (labels % 2 == 1) & (labels < 9_000))


def on_disk(documents: list[list[int]], begin: tuple[int, ...]) -> Tokens:
    """Documents as `prepare` writes them, each behind a begin."""
    rows = [[*begin, *document] for document in documents]
    starts = np.cumsum([0, *map(len, rows[:-1])])
    return Tokens(np.concatenate(rows), starts, begin=len(begin))


@pytest.mark.parametrize("begin", [(), (9_001,), (9_001, 9_002)])
def test_the_begins_on_disk_are_no_part_of_the_row(begin: tuple[int, ...]) -> None:
    sizes = [3, 1, 1, 7, 40, 2, 5]
    plain = np.arange(sum(sizes))
    documents = [part.tolist() for part in np.split(plain, np.cumsum(sizes)[:-1])]
    tokens = on_disk(documents, begin)
    assert len(tokens) == len(plain) and [tokens.document(n).tolist() for n in range(len(sizes))] == documents
    for first in range(len(plain) + 1):
        for last in range(first, len(plain) + 3):
            assert np.array_equal(tokens.read(first, last), plain[first:last]), (first, last)
    for index in range(20):
        assert np.array_equal(Batches(tokens, 1, 2, 6)[index], Batches(on_disk(documents, ()), 1, 2, 6)[index])
