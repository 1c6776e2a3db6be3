"""Conversations as text: messages rendered by the chat template of the model's own tokenizer.

A template is a program that comes with a model. transformers' sandbox runs it, in a process of its own with bounds on its
time and memory (`rendering.py`).
"""

import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from inheritune.errors import DataError, plain
from inheritune.models import rendering

Message = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, and where the assistant's turns stand in it (first and end character of each), if that was asked."""

    text: str
    assistant: list[tuple[int, int]] | None


@dataclass(frozen=True)
class Chat:
    """A tokenizer's chat template, if it has one, with the special tokens that a template may name.

    `of_assistant`: losses are asked for in the assistant's turns alone.
    """

    template: str | None = None
    special_tokens: dict[str, Any] | None = None
    of_assistant: bool = False

    @property
    def end(self) -> str:
        """The end of text."""
        return (self.special_tokens or {}).get("eos_token", "")

    @property
    def fingerprint(self) -> str:
        """A hash of what a conversation's text depends on."""
        return hashlib.sha256(json.dumps([self.template, self.special_tokens]).encode()).hexdigest()


PLAIN = Chat()  # of a tokenizer that renders no conversations


def chat_of(tokenizer: PreTrainedTokenizerBase, of_assistant: bool = False) -> Chat:
    """How `tokenizer` renders conversations; of several templates, the one named `default`."""
    found = tokenizer.chat_template
    template = found.get("default") if isinstance(found, dict) else found
    return Chat(template, dict(tokenizer.special_tokens_map), of_assistant)


class Renderer:
    """Context manager that renders conversations one at a time, in a process that starts with the first and ends with the context."""

    def __init__(self, chat: Chat, longest: int):
        self.chat, self.longest = chat, longest
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def render(self, name: str, messages: list[Message]) -> Rendered:
        """Render a conversation as text; raises DataError where it is malformed, or the template makes no text of it."""
        _require_messages(name, messages)
        if self.chat.template is None:
            raise DataError(
                f"{name} holds messages, and the tokenizer has no chat template that makes text of them: take a model that"
                " has one, or name a field of text"
            )
        found = self._asked(messages)
        if error := found.get("error"):
            raise DataError(f"the chat template makes no text of {name}: {plain(error)[:300]}")
        text, spans = found["text"], found["assistant"]
        closed, end = text.rstrip(), self.chat.end
        if end and closed.endswith(end):  # whitespace after it would lead to a turn that never comes
            text = closed
        return Rendered(text, spans and [(first, min(last, len(text))) for first, last in spans])

    def _asked(self, messages: list[Any]) -> rendering.Rendering:
        process = self._running()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps({"messages": messages}, default=str) + "\n")
            process.stdin.flush()
            if line := process.stdout.readline():
                return json.loads(line)
        except BrokenPipeError:
            pass
        code, self.process = process.wait(), None
        if code == -getattr(signal, "SIGXCPU", 0):
            return {"error": f"it does not end within {rendering.SECONDS} s"}
        return {"error": f"its process ended ({code}), by too much memory or from outside"}

    def _running(self) -> "subprocess.Popen[str]":
        if self.process is None:
            command = [sys.executable, "-m", rendering.__name__]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(command, text=True, encoding="utf-8", **pipes)  # type: ignore[call-overload]
            assert self.process is not None and self.process.stdin
            chat, bounds = self.chat, [self.longest, rendering.SECONDS]
            self.process.stdin.write(
                json.dumps([chat.template, chat.special_tokens, chat.of_assistant, *bounds]) + "\n"
            )
        return self.process


def _require_messages(name: str, messages: list[Message]) -> None:
    for number, message in enumerate(messages, 1):
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise DataError(f"message {number} of {name} has no role: give each message a role and a content")
        if not isinstance(content, str) and not (content is None and message.get("tool_calls")):
            raise DataError(
                f"message {number} of {name} has no text as its content: give each message a role and a content"
            )
