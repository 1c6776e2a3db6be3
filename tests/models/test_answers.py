"""Names in the hub's answers: those of its own kind pass, those that lead out are refused before anything is written."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hub
import pytest

from inheritune.errors import ModelError
from inheritune.models import answers
from inheritune.models.answers import inspect, watch_answers

COMMIT = "0123456789abcdef" * 2 + "01234567"


def response(path: str = "/owner/name/resolve/main/config.json", content: object = None, **headers: str) -> Any:
    return SimpleNamespace(
        headers={key.replace("_", "-"): value for key, value in headers.items()},
        url=SimpleNamespace(path=path),
        request=SimpleNamespace(method="GET"),
        read=lambda: json.dumps(content).encode(),
    )


@pytest.mark.parametrize(
    "etag", [f'"{COMMIT}"', f'W/"{COMMIT}"', '"d41d8cd98f00b204e9800998ecf8427e-2"', '"0x8DC=+"', "a.b"]
)
def test_names_as_hubs_give_them(etag: str) -> None:
    inspect(response(etag=etag, x_linked_etag=etag, x_repo_commit=COMMIT))
    content = {"sha": COMMIT, "siblings": [{"rfilename": "sub/model.safetensors"}], "tags": ["../as/it/likes"]}
    inspect(response("/api/models/owner/name", content))
    inspect(
        response("/api/models/owner/name/tree/main", [{"path": "a/b..c.json", "oid": COMMIT, "lfs": {"oid": "0" * 64}}])
    )


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "/etc/x", "a\\b", "C:x", "a\0b", ""])
def test_names_that_lead_out(name: str) -> None:
    for header in ("etag", "x_linked_etag", "x_repo_commit"):
        with pytest.raises(ModelError, match="leads out of its cache"):
            inspect(response(**{header: f'"{name}"' if "etag" in header else name}))
    for content in ({"sha": name}, [{"path": "x", "oid": name}], [{"path": "x", "lfs": {"sha256": name}}]):
        with pytest.raises(ModelError, match="leads out of its cache"):
            inspect(response("/api/models/owner/name", content))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\\..\\x"])
def test_paths_that_lead_out(path: str) -> None:
    for content in ({"siblings": [{"rfilename": path}]}, [{"path": path}]):
        with pytest.raises(ModelError, match="leads out of its cache"):
            inspect(response("/api/models/owner/name", content))
    inspect(response("/owner/name/resolve/main/config.json", {"path": path}))  # a file's content, not an answer


def test_every_client_is_looked_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is made anew, after a broken connection."""
    from huggingface_hub import close_session, get_session
    from huggingface_hub.utils import _http

    monkeypatch.setattr(answers, "_watched", False)
    before = _http._GLOBAL_CLIENT_FACTORY
    try:
        watch_answers()
        for _ in range(2):
            assert inspect in get_session().event_hooks["response"] and get_session().event_hooks["request"]
            close_session()
    finally:
        _http.set_client_factory(before)


def test_a_hub_that_names_places_elsewhere_writes_nothing_there(
    gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_it_is = hub._file

    def elsewhere(path: Path, commit: str) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = as_it_is(path, commit)
        return status, {**headers, "ETag": f'"{"../" * 12}{tmp_path}/outside-{path.name}"'}, body

    monkeypatch.setattr(hub, "_file", elsewhere)
    with hub.stand_in({"owner/tiny": gpt2}, {}, "v1") as (endpoint, _):
        ended = hub.inheritune_at(
            endpoint, tmp_path / "home", "inherit", "owner/tiny", str(tmp_path / "cut"), "--blocks", "0"
        )
    assert ended.returncode == 2 and "the hub's answer holds the etag" in ended.stderr, ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) in (["home"], [])
