import numpy as np
import pytest

from inheritune.data.batches import Batches
from inheritune.data.tokens import Tokens
from inheritune.errors import DataError

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
