"""A Modelfile: its template, read as Ollama reads it, gives what transformers renders."""

import json
from pathlib import Path

import jinja2
import pytest
from tiny import with_begin
from transformers import PreTrainedTokenizerFast

from inheritune.formats.ollama import modelfile
from inheritune.formats.turns import turns_of

CHATML = (
    "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
DEFAULT = "{% if messages[0]['role'] != 'system' %}<s>system\nBe kind.</s>\n{% endif %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
SAID = [
    {"role": "system", "content": "kalo"},
    {"role": "user", "content": "kalo mine"},
    {"role": "assistant", "content": "ruso tiva"},
    {"role": "user", "content": "kaka"},
]
# What the template uses of Go's language, in Jinja's.
GO = {
    '{{ $last := "" }}': '{% set all = namespace(last="") %}',
    "{{ range .Messages }}": "{% for message in messages %}",
    "{{ if eq .Role ": "{% if message.role == ",
    "{{ else if eq .Role ": "{% elif message.role == ",
    "{{ if eq $last ": "{% if all.last == ",
    "{{ else if eq $last ": "{% elif all.last == ",
    "{{ .Content }}": "{{ message.content }}",
    "{{ $last = .Role }}{{ end }}": "{% set all.last = message.role %}{% endfor %}",
    "{{ end }}": "{% endif %}",
    '" }}': '" %}',
}


def as_ollama_reads(template: str, messages: list[dict[str, str]]) -> str:
    for own, other in GO.items():
        template = template.replace(own, other)
    return jinja2.Environment(keep_trailing_newline=True).from_string(template).render(messages=messages)


@pytest.mark.parametrize(
    "template",
    [CHATML, DEFAULT + CHATML, NO_SYSTEM + CHATML, "{{ bos_token }}" + CHATML, CHATML.replace("</s>\n", "</s>")],
)
@pytest.mark.parametrize("messages", [SAID, SAID[1:], SAID[1:2], SAID[:2]])
def test_the_template_gives_what_transformers_renders(
    template: str, messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerFast
) -> None:
    """The begin of text too is left to whoever reads it, where the tokenizer puts it in front."""
    own = with_begin(tokenizer)
    own.chat_template = template
    turns = turns_of(own)
    assert turns is not None
    if template.startswith(NO_SYSTEM) and messages[0]["role"] == "system":
        assert turns.system is None
        return
    wanted = own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert as_ollama_reads(turns.as_ollama() or "", messages) == wanted.removeprefix(str(own.bos_token))


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
        "{% for m in messages %}{% if loop.last %}<last>{% endif %}{{ m.content }}{{ loop.index }}{% endfor %}",
        "{{ messages[0].content }}",
        None,
    ],
)
def test_what_is_no_rule_of_turns_is_not_written(template: str | None, tokenizer: PreTrainedTokenizerFast) -> None:
    own = with_begin(tokenizer)
    own.chat_template = template
    assert turns_of(own) is None


def folder_with(tokenizer: PreTrainedTokenizerFast, place: Path, **generation: object) -> Path:
    tokenizer.save_pretrained(place)
    (place / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_positions": 64}))
    (place / "generation_config.json").write_text(json.dumps(generation))
    return place


def test_a_base_models_modelfile(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    found = modelfile(folder_with(tokenizer, tmp_path, temperature=0.7))
    assert found == (
        'FROM ./model.gguf\nTEMPLATE """{{ .Prompt }}"""\nPARAMETER num_ctx 64\nPARAMETER stop "<|endoftext|>"\n'
    )


def test_a_chat_models_modelfile(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    own = with_begin(tokenizer)
    own.chat_template = CHATML
    end = own.convert_tokens_to_ids("<second>")
    found = modelfile(folder_with(own, tmp_path, do_sample=True, temperature=0.7, top_k=40, eos_token_id=[0, end]))
    assert 'TEMPLATE """{{ $last := "" }}' in found and "<s>assistant\n" in found
    assert "PARAMETER temperature 0.7\nPARAMETER top_k 40\n" in found
    assert found.endswith('PARAMETER stop "<second>"\nPARAMETER stop "<|endoftext|>"\n')
    own.chat_template = "{{ messages[0].content }}"
    told = modelfile(folder_with(own, tmp_path))
    assert "TEMPLATE" not in told and "# The chat template is no plain rule" in told
