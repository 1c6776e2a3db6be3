"""`inheritune export`, with stand-ins of llama.cpp's tools and of mlx-lm's converter: what is written, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shell import alone_on_path, command, refused
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

from inheritune.formats import gguf
from inheritune.models import llama_cpp
from inheritune.models.find import BUNDLED
from inheritune.records.model_folder import ModelOrigin

CONVERTER = """
import sys
from pathlib import Path

def main():
    _, folder, _, out, _, width = sys.argv
    if "broken" in folder:
        Path(out).write_text("half")
        sys.exit("ERROR:hf-to-gguf:Model OddForCausalLM is not supported")
    Path(out).write_text(f"GGUF {width}")
"""
MLX = '#!/bin/sh\n/bin/mkdir "$4" && echo "mlx of $2" > "$4/model"\n'


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on PATH, with a converter and a quantiser; the runner says whatever `said` holds."""
    quantiser = '#!/bin/sh\necho "$3 of $(/bin/cat "$1")" > "$2"\n'
    monkeypatch.chdir(tmp_path)
    return alone_on_path(tmp_path, {"convert_hf_to_gguf.py": CONVERTER, "llama-quantize": quantiser}, monkeypatch)


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    place = tmp_path / "run" / "model"
    untrained_model("llama", hidden_size=32, head_dim=16, max_position_embeddings=128).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """A llama.cpp that agrees with transformers before packing, and takes another last token after it."""
    kept: list[list[int]] = []

    def greedy(file: Path, prompts: list[str], count: int) -> list[list[int]]:
        tokens = [own.tokens for own in kept]
        return [[*row[:-1], -1] for row in tokens] if "Q4_K_M" in file.read_text() else tokens

    def remembered(*given: object) -> list:
        kept[:] = first_tokens(*given)
        return kept

    first_tokens = gguf.first_tokens
    monkeypatch.setattr(gguf, "first_tokens", remembered)
    monkeypatch.setattr(llama_cpp, "can_run", lambda: True)
    monkeypatch.setattr(llama_cpp, "greedy", greedy)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_a_runs_model_as_gguf(tools: Path, model: Path, runner: None, tmp_path: Path) -> None:
    """Named after its run, packed, and checked before and after that."""
    ended = command("export", "run", "--to", "gguf", "--quantise", "q4_k_m", "--quiet")
    assert ended.code == 0, ended
    place, about, before, after = ended.out.splitlines()
    assert place == "run-q4_k_m.gguf" and Path(place).read_text() == "Q4_K_M of GGUF f32\n"
    assert about.endswith("weights as q4_k_m") and before.startswith("llama.cpp, before packing: 72 of 72 tokens")
    assert after.startswith("llama.cpp: 69 of 72 tokens") and "expected" in after and "expected" not in before
    assert names(tmp_path) == ["run", "run-q4_k_m.gguf", "tools"]


def test_another_model_is_not_handed_over(tools: Path, model: Path, runner: None, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(llama_cpp, "greedy", lambda file, prompts, count: [[-1] * count for _ in prompts])
    monkeypatch.setattr("inheritune.evaluation.first_tokens.NEAR", 0.0)
    assert "llama.cpp computes another model of these weights: 0 of 72 tokens" in refused(
        "export", "run", "--to", "gguf", "--quiet"
    )
    assert names(tmp_path) == ["run", "tools"]
    ended = command("export", "run", "--to", "gguf", "--no-check", "--quiet", "--json")
    told = json.loads(ended.out)
    assert told["out"] == "run.gguf" and told["gguf"]["unchecked"] == "it was not asked for"


def test_what_is_not_checked_is_said_and_a_count_of_layers_too(tools: Path, model: Path, monkeypatch) -> None:
    monkeypatch.setattr(llama_cpp, "can_run", lambda: False)
    record = ModelOrigin(
        action="inherit", source="s", fingerprint="f", reference_depth=6, blocks=[0, 1], parts=[], outside="all",
        miscounted="layer_types says otherwise",
    )  # fmt: skip
    record.save(model / ModelOrigin.NAME)
    ended = command("export", str(model), "--to", "gguf", "--quiet")
    assert "not checked in llama.cpp: no runner of llama.cpp is here: pip install xllamacpp" in ended.out
    assert ended.out.endswith("caution: layer_types says otherwise\n")


def test_force_replaces_a_gguf_file_and_no_other(tools: Path, model: Path, runner: None) -> None:
    Path("own.txt").write_text("mine")
    for force in ((), ("--force",)):  # which is not offered where it would not help
        assert "own.txt is no GGUF file" in refused(
            "export", "run", "--to", "gguf", "--out", "own.txt", "--quiet", *force
        )
    assert Path("own.txt").read_text() == "mine"
    Path("own.gguf").write_text("GGUF of before")
    assert "give --force" in refused("export", "run", "--to", "gguf", "--out", "own.gguf", "--quiet")
    assert command("export", "run", "--to", "gguf", "--out", "own.gguf", "--force", "--quiet").code == 0
    assert Path("own.gguf").read_text() != "GGUF of before"


def test_a_folder_for_ollama(tools: Path, model: Path, runner: None, tmp_path: Path) -> None:
    assert command("export", "run", "--to", "ollama", "--out", "here", "--quiet").code == 0
    assert names(tmp_path / "here") == ["Modelfile", "model.gguf"]
    assert (tmp_path / "here" / "Modelfile").read_text().startswith("FROM ./model.gguf\n")
    assert "here exists" in refused("export", "run", "--to", "ollama", "--out", "here", "--quiet")
    assert command("export", "run", "--to", "ollama", "--out", "here", "--quiet", "--force").code == 0


def test_eight_bits_need_no_quantiser(tools: Path, model: Path, runner: None, monkeypatch) -> None:
    (tools / "llama-quantize").unlink()
    monkeypatch.setattr(llama_cpp, "_python_with", lambda package: None)
    assert command("export", "run", "--to", "gguf", "--quantise", "q8_0", "--quiet").code == 0
    assert Path("run-q8_0.gguf").read_text() == "GGUF q8_0"
    assert "no quantiser of llama.cpp" in refused("export", "run", "--to", "gguf", "--quantise", "q4_k_m")


def test_mlx_by_its_own_converter(tools: Path, model: Path, tmp_path: Path) -> None:
    assert "pip install mlx-lm" in refused("export", "run", "--to", "mlx")
    (tools / "mlx_lm.convert").write_text(MLX)
    (tools / "mlx_lm.convert").chmod(0o755)
    assert command("export", "run", "--to", "mlx", "--quiet").out == "run-mlx\n"
    assert (tmp_path / "run-mlx" / "model").read_text() == "mlx of run/model\n"
    (tools / "mlx_lm.convert").write_text("#!/bin/sh\necho 'no such type' >&2\nexit 1\n")
    assert "mlx-lm's converter does not take run/model: no such type" in refused(
        "export", "run", "--to", "mlx", "--out", "other", "--quiet"
    )
    assert "other" not in names(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere/x", "--to", "gguf"], "no folder 'nowhere/x' is here"),
        (["empty", "--to", "gguf"], "no config.json"),
        (["unfinished", "--to", "gguf"], "is a run without a model yet"),
        (["run", "--to", "gguf", "--out", "taken"], "taken is no GGUF file"),
        (["run", "--to", "gguf", "--out", "empty"], "is a folder"),
        (["run", "--to", "gguf", "--out", "no/where.gguf"], "no is no folder"),
        (["run", "--to", "hub"], "give --out OWNER/NAME"),
        (["run", "--to", "hub", "--out", "a/b/c"], "no name of a repository"),
        (["run", "--to", "mlx", "--quantise", "q8_0"], "--quantise q8_0 is of GGUF"),
        (["run", "--to", "gguf", "--public"], "--public is of the hub"),
        ([BUNDLED, "--to", "gguf", "--quantise", "q8_0"], "hidden size is 48"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(
    given: list[str], said: str, tools: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.yaml").write_text("name: x\n")
    (tmp_path / "taken").write_text("mine")
    before = names(tmp_path)
    assert said in refused("export", *given, "--quiet")
    assert names(tmp_path) == before and (tmp_path / "taken").read_text() == "mine"


def test_what_the_converter_refuses_leaves_nothing(tools: Path, model: Path, tmp_path: Path) -> None:
    model.rename(tmp_path / "broken")
    said = refused("export", "broken", "--to", "gguf", "--quiet")
    assert said.endswith("does not take broken: ERROR:hf-to-gguf:Model OddForCausalLM is not supported")
    assert names(tmp_path) == ["broken", "run", "tools"]


def test_a_missing_tool_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    """Torch alone takes seconds."""
    code = (
        "import sys\nfrom inheritune.cli import main\ntry:\n    main()\nfinally:\n"
        "    print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    given = [sys.executable, "-c", code, "export", str(tmp_path), "--to", "gguf"]
    ended = subprocess.run(given, env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "[]\n")
    assert ended.stderr.startswith("inheritune: no converter of llama.cpp is here: pip install ")
