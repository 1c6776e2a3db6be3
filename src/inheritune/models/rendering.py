"""The process that renders conversations: `python -m inheritune.models.rendering`, a line of JSON for each on standard input and output.

A template's effects stay in this process: transformers compiles and sandboxes it, and limits on the process end one that loops or
fills the memory. The date is fixed, so that the same messages give the same text tomorrow.
"""

import json
import re
import sys
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypedDict

from inheritune.runtime import system

SECONDS, MEMORY = 10, 1 << 30  # processor seconds and bytes that a conversation may take
DAY = (2024, 7, 26)
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
Span = tuple[int, int]


class Render(Protocol):
    """Renders messages as text; with `follow`, gives the spans of the template's `generation` blocks too."""

    def __call__(
        self, messages: list[Any], follow: bool = False, add_generation_prompt: bool = False
    ) -> tuple[str, list[Span]]: ...


class _OneDay(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> "_OneDay":
        return cls(*DAY)


def sandboxed(template: str, special_tokens: dict[str, Any]) -> Render:
    """transformers' own rendering with one template."""
    from transformers.utils import chat_template_utils

    chat_template_utils.datetime = _OneDay  # type: ignore[attr-defined,misc]

    def render(
        messages: list[Any], follow: bool = False, add_generation_prompt: bool = False
    ) -> tuple[str, list[Span]]:
        wanted: dict[str, Any] = {
            "return_assistant_tokens_mask": follow,
            "add_generation_prompt": add_generation_prompt,
        }
        found: Any = chat_template_utils.render_jinja_template(
            [messages], chat_template=template, **wanted, **special_tokens
        )
        texts, spans = found
        return texts[0], spans[0] if follow else []

    return render


def by_prefix(render: Render, messages: list[Any], text: str) -> list[Span]:
    """The spans of the assistant's turns, by rendering the messages before and up to each; ValueError where `text` does not begin so."""
    spans = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            before, _ = render(messages[:number], add_generation_prompt=True)
            after, _ = render(messages[: number + 1])
            if not (after.startswith(before) and text.startswith(after)):
                raise ValueError(
                    f"it writes message {number + 1} otherwise when others follow, so the assistant's tokens cannot be told: take a"
                    " template with {% generation %}, or data.loss_on: all"
                )
            spans.append((len(before), len(after)))
    return spans


class Rendering(TypedDict, total=False):
    """A line of the answer: the text, with the assistant's spans where these are asked for, or an error in words."""

    text: str
    assistant: list[Span] | None
    error: str


def _answer(render: Render, follow: bool, of_assistant: bool, longest: int, messages: list[Any]) -> Rendering:
    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    text, spans = render(messages, follow)
    if len(text) > longest:
        return {"error": f"it makes {len(text):,} characters of it, more than {longest >> 20} MB"}
    if of_assistant and not follow:
        spans = by_prefix(render, messages, text)
    return {"text": text, "assistant": spans if of_assistant else None}


def _main() -> None:
    template, special_tokens, of_assistant, longest, seconds = json.loads(sys.stdin.readline())
    render = sandboxed(template, special_tokens)
    answer = partial(_answer, render, of_assistant and bool(_GENERATION.search(template)), of_assistant, longest)
    system.bound_memory(MEMORY)
    for line in sys.stdin:
        system.bound_time(seconds)
        try:
            found = answer(json.loads(line)["messages"])
        except Exception as error:
            found = Rendering(error=str(error) or type(error).__name__)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main()
