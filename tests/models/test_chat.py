"""Conversations as text: transformers' own rendering is the oracle, and what a template does wrong is told in one sentence."""

from typing import Any

import pytest
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from inheritune.errors import DataError
from inheritune.models import rendering
from inheritune.models.chat import Chat, Renderer, chat_of
from inheritune.models.rendering import by_prefix, sandboxed

END = "<|endoftext|>"
MESSAGES = [
    {"role": "system", "content": "kalo"},
    {"role": "user", "content": "kalo mine"},
    {"role": "assistant", "content": "ruso tiva"},
    {"role": "user", "content": "kaka"},
    {"role": "assistant", "content": "lolo mimi"},
]
CHATML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
MARKED = "{% for m in messages %}<s>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}\n{% endfor %}"


def rendered(template: str | None, messages: list[dict[str, Any]], of_assistant: bool = False) -> Any:
    with Renderer(Chat(template, {"eos_token": END}, of_assistant), 1 << 20) as renderer:
        return renderer.render("'c#1'", messages)


def test_it_is_what_transformers_renders(tokenizer: PreTrainedTokenizerFast) -> None:
    own = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<b>", eos_token=END)
    own.chat_template = {"default": "{{ bos_token }}" + CHATML, "tool_use": "tools"}
    called = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    with Renderer(chat_of(own), 1 << 20) as renderer:
        for messages in (MESSAGES, MESSAGES[1:3], [*MESSAGES[:2], called]):
            found = renderer.render("c", messages)
            assert found.text == own.apply_chat_template(messages, tokenize=False) and found.assistant is None


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_the_assistants_turns_are_told(template: str) -> None:
    found = rendered(template, MESSAGES, True)
    turns = [found.text[first:last].rstrip("\n") for first, last in found.assistant]
    assert turns == ["ruso tiva</s>", "lolo mimi</s>"]


def test_a_conversation_that_closes_itself_ends_there() -> None:
    template = "{% for m in messages %}{{ m.content }}{{ eos_token }}\n{% endfor %}"
    found = rendered(template, MESSAGES, True)
    assert found.text.endswith(f"lolo mimi{END}") and found.text[slice(*found.assistant[-1])] == f"lolo mimi{END}"


def test_the_day_is_always_the_same() -> None:
    assert rendered("{{ strftime_now('%d %b %Y') }}", MESSAGES).text == "26 Jul 2024"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('no system role') }}", "makes no text of 'c#1': no system role"),
        ("{{ 'x' * 10**12 }}", "MemoryError"),
        ("{{ 'x' * 2**21 }}", "2,097,152 characters of it, more than 1 MB"),
        (
            "{% set r = range(99999) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
            "does not end within 1 s",
        ),
        (None, "no chat template that makes text of them"),
    ],
)
def test_a_template_of_no_use_is_told(template: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "end within" in said:  # all others end by themselves, on a slow machine later
        monkeypatch.setattr(rendering, "SECONDS", 1)
    with pytest.raises(DataError, match=said):
        rendered(template, MESSAGES)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"content": "kalo"}], "message 1 of 'c#1' has no role"),
        ([{"role": "user", "content": "kalo"}, {"role": "assistant"}], "message 2 of 'c#1' has no text"),
        ([{"role": "user", "content": [{"type": "text", "text": "kalo"}]}], "message 1 of 'c#1' has no text"),
        ([{"role": 1, "content": "kalo"}], "message 1 of 'c#1' has no role"),
        ([{"from": "human", "value": "kalo"}], "give each message a role and a content"),
    ],
)
def test_messages_that_are_none_are_told(messages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        rendered(CHATML, messages)


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages[9].x.y }}"]
)
def test_a_template_reaches_nothing_but_its_messages(template: str) -> None:
    with pytest.raises(TemplateError):
        sandboxed(template, {})(MESSAGES)


def test_the_process_serves_on_after_an_error_and_begins_anew_after_its_end() -> None:
    template = "{% for m in messages %}{% if m.content == 'raise' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}"
    with Renderer(Chat(template, {}), 1 << 20) as renderer:
        with pytest.raises(DataError):
            renderer.render("c", [{"role": "user", "content": "raise"}])
        assert renderer.process
        renderer.process.kill()
        with pytest.raises(DataError, match="its process ended"):
            renderer.render("c", MESSAGES[:1])
        assert renderer.render("c", MESSAGES[:2]).text == "kalokalo mine"


def test_turns_that_are_written_otherwise_when_others_follow_are_refused() -> None:
    """As templates that leave out earlier thoughts do."""
    kept = "{{ m.content if loop.last or m.role != 'assistant' else '' }}"
    render = sandboxed("{% for m in messages %}[{{ m.role }}]" + kept + "{% endfor %}", {})
    with pytest.raises(ValueError, match="writes message 3 otherwise"):
        by_prefix(render, MESSAGES, render(MESSAGES)[0])
    text, _ = render(MESSAGES[:3])
    ((first, last),) = by_prefix(render, MESSAGES[:3], text)
    assert text[first:last] == "[assistant]ruso tiva"
