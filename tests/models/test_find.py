"""Models and datasets by the hub's id, through the real client, from the command line, against a stand-in of the hub."""

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import inheritune_at, stand_in

from inheritune.errors import ModelError
from inheritune.models import find
from inheritune.models.reference import load_tokenizer


def test_a_run_from_ids_alone(
    gpt2: Path,
    texts: list[str],
    tree: dict[str, Any],
    write_recipe: Callable[..., str],
    tmp_path: Path,
) -> None:
    dataset = tmp_path / "dataset"
    (dataset / "data").mkdir(parents=True)
    pq.write_table(pa.table({"text": texts}), dataset / "data" / "train-00000-of-00001.parquet")
    tree |= {"reference": "owner/tiny", "revision": "v1"}
    tree["data"] |= {"train": [{"source": "hf:owner/words", "revision": "v1"}]}
    tree["growth"]["max_depth"] = 2
    recipe, out = write_recipe(tree), tmp_path / "out"
    cache, home = str(tmp_path / "cache"), tmp_path / "home"
    with stand_in({"owner/tiny": gpt2}, {"owner/words": dataset}, "v1") as (endpoint, asked):
        asking = partial(inheritune_at, endpoint, home, INHERITUNE_CACHE=cache)
        undrawn = "from inheritune.report import pictures; pictures.drawn_twice = lambda name, draw: ''"
        ended = asking("run", recipe, "--out", str(out), "--quiet", "--json", first=undrawn)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["reference"]["model"] == "owner/tiny"
        assert any("/revision/v1" in path for path in asked) and any("/datasets/owner/words" in path for path in asked)
        refused = asking("run", recipe, "--set", "revision=v2", "--out", str(tmp_path / "other"))
        assert refused.returncode == 2 and "has no revision 'v2'" in refused.stderr
    ended = asking("inherit", "owner/other", str(tmp_path / "cut"), "--blocks", "0", patience=1)
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert "no folder 'owner/other' is here" in line and "network" in line


def test_a_silent_hub_is_waited_for_no_longer_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where the name server hangs, which the client's own timeout does not cover."""
    released = threading.Event()
    monkeypatch.setattr("huggingface_hub.get_session", lambda: released.wait(60))
    monkeypatch.setattr(find, "SECONDS", 0.2)
    began = time.monotonic()
    assert not find.hub_answers("owner/name") and time.monotonic() - began < 30
    released.set()


@pytest.mark.parametrize("revision", [None, "main", "v1.0", "0123abcd", "a" * 39, "a" * 41, "A" * 40, f"{'a' * 40}\n"])
def test_code_is_trusted_at_a_whole_commit_alone(revision: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch, a tag or a commit's first letters may come to mean other code: refused before anything is fetched."""
    monkeypatch.setattr(find, "_fetched", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(ModelError, match="pin `revision` to a whole commit"):
        find.locate("owner/name", revision, trust=True)


def test_code_is_fetched_at_the_commit_that_was_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str | None, bool]] = []
    monkeypatch.setattr(
        find, "_fetched", lambda _, revision, wanted: asked.append((revision, "*.py" in wanted)) or tmp_path
    )
    for trust in (True, False):
        assert find.locate("owner/name", "0" * 40, trust=trust) == tmp_path
    assert asked == [("0" * 40, True), ("0" * 40, False)]


def test_a_tokenizer_comes_without_the_weights(monkeypatch: pytest.MonkeyPatch, gpt2: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(find, "_fetched", lambda _source, _revision, wanted: asked.extend(wanted) or gpt2)
    load_tokenizer("owner/name")
    assert "*.json" in asked and not any(name.endswith("safetensors") for name in asked)
