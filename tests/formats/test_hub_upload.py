"""Uploading, to a stand-in of the hub on a port of this machine."""

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hub import inheritune_at, served


class Held:
    """What the stand-in was told: repositories by name with whether they are private, and their files."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}


@contextmanager
def hub() -> Iterator[tuple[str, Held]]:
    held = Held()

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/api/models/").partition("?")[0].partition("/revision")[0]
            if not self.path.startswith("/api/models/"):
                return self._say(200, {})
            if name not in held.private:
                return self._say(404, {}, {"X-Error-Code": "RepoNotFound"})
            self._say(200, {"id": name, "sha": "1" * 40, "siblings": [], "private": held.private[name], "tags": []})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self._body()
            lines = [json.loads(line) for line in body.splitlines()]
            if self.path == "/api/validate-yaml":
                faulty = "licence: odd" in lines[0]["content"]
                said = "licence is odd"
                return self._say(
                    400 if faulty else 200,
                    {"error": said, "errors": [{"message": said}] if faulty else [], "warnings": []},
                )
            if self.path == "/api/repos/create":
                name = f"{lines[0].get('organization', 'me')}/{lines[0]['name']}"
                held.private[name] = lines[0].get("private", lines[0].get("visibility") == "private")
                return self._say(200, {"url": f"http://{self.headers['Host']}/{name}", "id": name})
            if "/preupload/" in self.path:
                modes = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in lines[0]["files"]
                ]
                return self._say(200, {"files": modes})
            for line in lines:
                if line["key"] == "file":
                    held.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._say(
                200,
                {
                    "success": True,
                    "commitUrl": f"http://{self.headers['Host']}/me/x/commit/1",
                    "commitOid": "1" * 40,
                    "hookOutput": "",
                },
            )

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _say(self, status: int, told: Any, headers: dict[str, str] | None = None) -> None:
            content = json.dumps(told).encode()
            self.send_response(status)
            for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    with served(Hub) as address:
        yield address, held


@pytest.fixture
def model(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text('{"model_type": "gpt2"}')
    (place / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n# A model\n")
    (place / ".hidden").write_text("not for others")
    return place


def exported(
    endpoint: str, home: Path, *arguments: str, token: str = "hf_stand_in"
) -> subprocess.CompletedProcess[str]:
    login = {"HF_TOKEN": token} if token else {}
    return inheritune_at(endpoint, home, "export", *arguments, **login)


def test_an_upload_is_private_says_itself_and_replaces_nothing(model: Path, tmp_path: Path) -> None:
    with hub() as (endpoint, held):
        given = [str(model), "--to", "hub", "--out", "me/x"]
        first = exported(endpoint, tmp_path / "home", *given)
        assert first.returncode == 0, first.stderr
        head, *files = first.stdout.splitlines()[:3]
        assert head == f"Uploading 2 files, 0.0 MB, to {endpoint}/me/x, private"
        assert [line.split(",")[0].strip() for line in files] == ["README.md", "config.json"]
        assert held.private == {"me/x": True}
        assert held.files == {name: (model / name).read_bytes() for name in ("config.json", "README.md")}
        again = exported(endpoint, tmp_path / "home", *given)
        assert again.returncode == 2 and f"{endpoint}/me/x exists" in again.stderr
        (model / "README.md").write_text("---\nlicence: odd\n---\n")
        faulty = exported(endpoint, tmp_path / "home", str(model), "--to", "hub", "--out", "me/y")
        assert (
            faulty.returncode == 2 and "the hub refuses the card" in faulty.stderr and "licence is odd" in faulty.stderr
        )
        assert "me/y" not in held.private


def test_without_a_login_nothing_is_sent(model: Path, tmp_path: Path) -> None:
    with hub() as (endpoint, held):
        ended = exported(endpoint, tmp_path / "home", str(model), "--to", "hub", "--out", "me/x", token="")
        assert ended.returncode == 2 and "nobody is logged in" in ended.stderr and not held.private
