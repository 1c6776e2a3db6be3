import numpy as np
import pytest

from inheritune.config.sections import Data
from inheritune.data.tokens import Tokens
from inheritune.evaluation.held_out import chosen, parts


def tokens(books: list[int] | None, size: int = 5) -> Tokens:
    count = 12 if books is None else len(books)
    return Tokens(np.arange(count * size), np.arange(count) * size, books=None if books is None else np.asarray(books))


def by(**fields: object) -> Data:
    return Data(train="x", **{"sequence_length": 10, "valid_tokens_per_document": 40, **fields})


def test_documents_of_their_own_are_the_first_that_can_be_read() -> None:
    short = Tokens(np.arange(9), np.array([0, 1, 4, 5, 7]))
    assert chosen(short, 2).tolist() == [1, 3] and chosen(short, 9).tolist() == [1, 3, 4]


def test_every_book_gives_as_many_sections_spread_over_it() -> None:
    books = [0] * 8 + [1] * 2 + [2] * 8
    assert chosen(tokens(books), 3).tolist() == [0, 8, 10]
    assert chosen(tokens(books), 6).tolist() == [0, 4, 8, 9, 10, 14]
    assert chosen(tokens(books), 10).tolist() == [0, 2, 4, 6, 8, 9, 10, 12, 14, 16]
    assert chosen(tokens(books), 99).tolist() == list(range(18))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 64, 100])
def test_any_number_of_a_books_sections_is_spread_over_it(count: int) -> None:
    for most in range(1, count + 1):
        found = chosen(tokens([3] * count), most)
        assert len(set(found)) == most
        assert max(np.diff([*found, count])) <= 2 * -(-count // most) and found[0] == 0


def test_short_documents_are_read_whole() -> None:
    (found,) = parts(np.arange(40), 7, by())
    assert found.tolist() == list(range(40))
    (found,) = parts(np.arange(41), 7, by(valid_read="start"))
    assert found.tolist() == list(range(40))


def test_long_documents_are_read_all_over() -> None:
    found = [parts(np.arange(1000), number, by()) for number in range(200)]
    for rows in found:
        assert [len(row) for row in rows] == [10] * 4
        assert [int(row[0]) // 250 for row in rows] == [0, 1, 2, 3] and all(
            np.diff(row).tolist() == [1] * 9 for row in rows
        )
    read = np.bincount(np.concatenate([row for rows in found for row in rows]), minlength=1000)
    assert (read > 0).mean() > 0.95 and read.max() < 4 * read.mean()
    assert found[0][0][0] == 0 and np.array_equal(parts(np.arange(1000), 9, by())[2], found[9][2])


@pytest.mark.parametrize(("size", "length"), [(2, 10), (3, 1024), (48, 32), (1024, 1024), (512, 256), (50, 7)])
def test_no_more_is_read_than_asked_for(size: int, length: int) -> None:
    for number in range(20):
        rows = parts(
            np.arange(size + 1 + number * 17), number, by(valid_tokens_per_document=size, sequence_length=length)
        )
        assert size - len(rows) < sum(map(len, rows)) <= size and all(
            2 <= len(row) <= length or length < 2 for row in rows
        )
        assert all(row[-1] <= size + number * 17 for row in rows)
