"""What the environment says of a launch: read whole, or refused; never half of it."""

import pytest

from inheritune.errors import InputError
from inheritune.runtime.launch import Launch

WHOLE = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "node-0", "MASTER_PORT": "29500"}


def test_a_launch_is_read_whole() -> None:
    assert Launch.told(WHOLE) == Launch(count=4, rank=3, local_rank=1, address="node-0:29500")


def test_without_a_local_rank_the_rank_stands_for_it() -> None:
    assert Launch.told({key: value for key, value in WHOLE.items() if key != "LOCAL_RANK"}).local_rank == 3


@pytest.mark.parametrize("variables", [{}, {"WORLD_SIZE": "1"}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}])
def test_one_process_needs_no_place_to_meet(variables: dict[str, str]) -> None:
    assert Launch.told(variables) == Launch(count=1, rank=0, local_rank=0, address="")


@pytest.mark.parametrize("missing", ["WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_launch_without_one_of_its_variables(missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        Launch.told({key: value for key, value in WHOLE.items() if key != missing})


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT") for value in ("", "x", "-1", "1.0", "²", "9" * 12)]
    + [("RANK", "4"), ("LOCAL_RANK", "4"), ("WORLD_SIZE", "0"), ("MASTER_PORT", "0"), ("MASTER_PORT", "65536")],
)  # fmt: skip
def test_a_variable_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(InputError, match=name):
        Launch.told({**WHOLE, name: value})
