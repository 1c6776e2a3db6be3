"""Inspect the hub's answers, which name files of its cache: names that would lead out of it are refused as they come in."""

import json
import re
from typing import Any

from inheritune.errors import ModelError

_HEADERS = ("etag", "x-linked-etag", "x-repo-commit")
_NAMES = frozenset({"sha", "oid", "sha256", "xetHash", "blobId"})  # of folders and files in the cache
_PATHS = frozenset({"rfilename", "path"})  # of files in a repository
_NAME = re.compile(r"(?!\.+$)[^/\\:\0]+")
_watched = False


def watch_answers() -> None:
    """Inspect every answer of the hub from now on, in this process: ModelError for a name that leads out of its folder.

    The hub's client makes paths of an ETag and of a commit without checking them.
    """
    global _watched
    if _watched:
        return
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    make = _http._GLOBAL_CLIENT_FACTORY  # the user's own, where one was set

    def watching() -> Any:
        client = make()
        hooks = client.event_hooks
        client.event_hooks = {**hooks, "response": [*hooks.get("response", []), inspect]}
        return client

    set_client_factory(watching)
    _watched = True


def inspect(response: Any) -> None:
    """Raise ModelError where a response of the hub holds a name or path that leads out of its folder."""
    for header in _HEADERS:
        if (value := response.headers.get(header)) is not None:
            _require(_NAME.fullmatch(value.removeprefix("W/").strip('"')), header, value)
    if response.url.path.startswith("/api/") and response.request.method != "HEAD":
        try:
            content = json.loads(response.read())
        except (ValueError, RecursionError):
            return  # the client reports what is wrong with it
        _inspect_json(content)


def _inspect_json(content: Any) -> None:
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, str):
            _require(key not in _NAMES or _NAME.fullmatch(value), key, value)
            _require(key not in _PATHS or _stays(value), key, value)
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _inspect_json(value)


def _stays(path: str) -> bool:
    return not path.startswith(("/", "\\")) and ".." not in re.split(r"[/\\]", path)


def _require(right: object, what: str, value: str) -> None:
    if not right:
        raise ModelError(
            f"the hub's answer holds the {what} {value!r:.80}, which leads out of its cache: do not trust this hub"
        )
