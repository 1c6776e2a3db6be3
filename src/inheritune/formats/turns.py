"""A chat template as fixed texts between turns, where it is that simple, and as a template of Ollama's."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from inheritune.errors import DataError
from inheritune.models.begin import begin_of
from inheritune.models.chat import Message, Renderer, chat_of

_LONGEST = 1 << 20  # characters
_OPENING = """{{ $last := "" }}{{ range .Messages }}"""
_SYSTEM = """{{ if eq .Role "system" }}%s{{ .Content }}%s"""
_USER = (
    """{{ %s eq .Role "user" }}{{ if eq $last "" }}%s{{ else if eq $last "assistant" }}%s{{ end }}{{ .Content }}%s"""
)
_CLOSING = """{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ $last = .Role }}{{ end }}"""


@dataclass(frozen=True)
class Turns:
    """The texts before a conversation's first turn, after a user's turn and after the model's; `system`: those around a system message."""

    opening: str
    after_user: str
    after_assistant: str
    system: tuple[str, str] | None

    def as_ollama(self) -> str | None:
        """The same as a template of Ollama's; None where a text holds template syntax, or quotes that would end it in a Modelfile."""
        texts = [self.opening, self.after_user, self.after_assistant, *(self.system or ())]
        if any(mark in text for text in texts for mark in ("{{", "}}", '""')):
            return None
        system = _SYSTEM % self.system if self.system else ""
        user = _USER % ("else if" if system else "if", self.opening, self.after_assistant, self.after_user)
        return _OPENING + system + user + _CLOSING


def turns_of(tokenizer: PreTrainedTokenizerBase) -> Turns | None:
    """The texts between turns by a tokenizer's chat template; None where there is no template, or it is not that simple.

    The begin of text is left out where whoever reads the text puts it there itself.
    """
    with Renderer(chat_of(tokenizer), _LONGEST) as renderer:
        try:
            opening, after_user, after_assistant, *again, _ = _between(renderer, "user assistant user assistant user")
            if again != [after_user, after_assistant]:
                return None
            system = _system(renderer, after_user, after_assistant)
        except DataError:
            return None
    begin = str(tokenizer.bos_token or "") if begin_of(tokenizer) else ""
    around = system and (system[0].removeprefix(begin), system[1])
    return Turns(opening.removeprefix(begin), after_user, after_assistant, around)


def _system(renderer: Renderer, *between: str) -> tuple[str, str] | None:
    """The texts around a system message; None where the template takes none, or writes the other turns differently with one."""
    try:
        before, after, *rest, _ = _between(renderer, "system user assistant user")
    except DataError:
        return None
    return (before, after) if rest == list(between) else None


def _between(renderer: Renderer, roles: str) -> list[str]:
    """The texts before, between and after the turns of a conversation; DataError where a turn's words are not in it unchanged."""
    said: list[Message] = [{"role": role, "content": f"word{place}said"} for place, role in enumerate(roles.split())]
    text = renderer.render("a conversation", said).text
    found = []
    for message in said:
        before, own, text = text.partition(message["content"])
        if not own:
            raise DataError("the chat template leaves a turn out")
        found.append(before)
    return [*found, text]
