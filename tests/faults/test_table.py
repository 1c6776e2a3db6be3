"""Each try of the table ends as it should."""

from pathlib import Path

import pytest
from tries import NotHere, Try, carry_out, make_base
from tries_table import TABLE

TRIES = [(kind, tried) for kind, tries in TABLE.items() for tried in tries]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(("kind", "tried"), TRIES, ids=[f"{kind}: {tried.name}" for kind, tried in TRIES])
def test_refused(kind: str, tried: Try, base: Path, tmp_path: Path) -> None:
    try:
        ended, wrong = carry_out(tried, base, tmp_path / "ground")
    except NotHere as reason:
        pytest.skip(str(reason))
    assert not wrong, f"{wrong}\nexit code {ended.code}\n{ended.err}{ended.out[-300:]}"


def test_names_are_told_apart() -> None:
    names = [tried.name for _, tried in TRIES]
    assert len(names) == len(set(names)) >= 400
