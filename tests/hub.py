"""A stand-in of the hub's HTTP API, made of folders, on a port of this machine: one revision of each repository.

And the command line, in a process of its own, that asks it.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def inheritune_at(
    endpoint: str, home: Path, *arguments: str, patience: int = 60, first: str = "pass", **variables: str
) -> subprocess.CompletedProcess[str]:
    """`inheritune ARGUMENTS` with the hub at an address, and what is fetched from it kept at `home`.

    It waits `patience` seconds for an answer: a slow machine takes longer than the few that a user waits. `first` is Python that its
    process does before.
    """
    code = f"{first}; from inheritune.models import find; find.SECONDS = {patience}; from inheritune.cli import main; main()"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | variables
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@contextmanager
def stand_in(models: dict[str, Path], datasets: dict[str, Path], revision: str) -> Iterator[tuple[str, list[str]]]:
    """Serves repositories by id at `revision` and `main`; gives the address, and the paths asked for so far."""
    asked: list[str] = []
    repositories = {("models", name): path for name, path in models.items()}
    repositories |= {("datasets", name): path for name, path in datasets.items()}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(path := unquote(urlsplit(self.path).path))
            status, headers, body = _answer(repositories, path.strip("/").split("/"), revision)
            first, partial = 0, self.headers.get("Range", "")
            if partial and status == 200 and "ETag" in headers:
                first, last = partial.removeprefix("bytes=").split("-")
                whole, first = len(body), int(first)
                body, status = body[first : int(last) + 1 if last else whole], 206
                headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{whole}"
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: Any) -> None: ...

    with served(Hub) as address:
        yield address, asked


@contextmanager
def served(answers: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server on a port of this machine, as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _answer(
    repositories: dict[tuple[str, str], Path], parts: list[str], revision: str
) -> tuple[int, dict[str, str], bytes]:
    api = parts[0] == "api"
    kind = parts.pop(1) if api and len(parts) > 1 else parts.pop(0) if parts[0] == "datasets" else "models"
    owner, name, *rest = (parts[1:] if api else parts) + ["", ""]
    folder, rest = repositories.get((kind, f"{owner}/{name}")), [part for part in rest if part]
    if folder is None:
        return 404, {"X-Error-Code": "RepoNotFound"}, b""
    commit = hashlib.sha1(str(folder).encode()).hexdigest()
    if len(rest) > 1 and rest[1] not in (revision, "main", commit):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not api:
        return _file(folder / "/".join(rest[2:]), commit)
    if rest[:1] == ["tree"]:
        inside = folder / "/".join(rest[2:])
        return (
            (200, {}, json.dumps([_entry(path, folder) for path in sorted(inside.rglob("*"))]).encode())
            if inside.is_dir()
            else (404, {"X-Error-Code": "EntryNotFound"}, b"")
        )
    siblings = [{"rfilename": str(path.relative_to(folder))} for path in files]
    about = {"id": f"{owner}/{name}", "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
    return 200, {}, json.dumps({**about, "likes": 0, "gated": False}).encode()


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"type": "directory", "path": str(path.relative_to(folder)), "size": 0, "oid": "0" * 40}
    oid = hashlib.sha1(path.read_bytes()).hexdigest()
    return {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": oid}


def _file(path: Path, commit: str) -> tuple[int, dict[str, str], bytes]:
    if not path.is_file():
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
    content = path.read_bytes()
    etag = hashlib.sha1(content).hexdigest()
    return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}, content
