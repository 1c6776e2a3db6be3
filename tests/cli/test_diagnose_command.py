"""`inheritune diagnose` on a tiny model of our own, through the command line."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import with_begin
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from inheritune import Profile
from inheritune.cli import main
from inheritune.diagnosis.text import spread_windows
from inheritune.evaluation.token_losses import token_losses
from inheritune.models.load import load_model, tokenizer_at
from inheritune.records.profile import DocumentsRead

WORDS = [f"w{i}" for i in range(60)]
FIGURES = ["attention-maps", "heads", "influence", "inheritance-curve", "rank-and-mass"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    words = Tokenizer(WordLevel({"<end>": 0, "<unk>": 1} | {w: i + 2 for i, w in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unk>").save_pretrained(folder)
    config = LlamaConfig(
        num_hidden_layers=3,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        vocab_size=64,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(" ".join(np.random.default_rng(0).choice(WORDS, 2000)))
    return path


def run(*arguments: object) -> int:
    import sys

    old = sys.argv
    sys.argv = ["inheritune", "diagnose", *map(str, arguments)]
    try:
        main()
        return 0
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = old


def test_a_profile_and_its_figures_are_written(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(model, "--text", text, "--length", 20, "--sequences", 4, "--out", tmp_path / "d") == 0
    profile = Profile.load(tmp_path / "d" / "profile.json")
    assert (profile.depth, profile.sequences, profile.longest) == (3, 4, 20)
    assert [one.length for one in profile.contrasts] == [20, 64]
    for name in FIGURES:
        assert (tmp_path / "d" / f"{name}.svg").read_text().startswith("<?xml")
        assert (tmp_path / "d" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    maps = np.load(tmp_path / "d" / "maps.npz")
    assert len(maps.files) == 3 and all(np.allclose(maps[name].sum(1), 1, atol=1e-5) for name in maps.files)
    printed, told = capsys.readouterr()
    assert (
        "MaxRank" in printed
        and "No depth is suggested: the model is at chance" in " ".join(printed.split())
        and "at chance" in printed
    )
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        line.rpartition("/")[2] for line in printed.splitlines() if "/d/" in line
    }
    assert "Lazy heads (mean k* up to 1.5), " in told and "Lazy heads (mean k* up to 1.5), " in " ".join(
        printed.split()
    )
    assert told.index("Lazy heads") < told.index("Losses of cuts")
    assert "Losses of cuts on 4 sequences" in told and re.search(r"\d of \d+, [\d.e+]+ a second, 0:00 left", told)
    again = tmp_path / "again"
    against = ["--against", tmp_path / "d" / "profile.json", "--out", again]
    assert run(model, "--text", text, "--length", 20, "--sequences", 2, "--curve-sequences", 0, *against) == 0
    assert (again / "against.svg").exists() and not (again / "inheritance-curve.svg").exists()


def test_no_loss_asks_for_a_begin_of_two_tokens(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Oracle: what `evaluate` and a run have of the same sequences."""
    folder = shutil.copytree(model, tmp_path / "model")
    with_begin(PreTrainedTokenizerFast.from_pretrained(model), "<unk> <end> $A").save_pretrained(folder)
    assert run(folder, "--text", text, "--length", 20, "--sequences", 4, "--json") == 0
    profile, reference = Profile.model_validate(json.loads(capsys.readouterr().out)), load_model(folder)
    rows = spread_windows(str(text), tokenizer_at(folder), 20, 4).numpy()
    assert (rows[:, :2] == [1, 0]).all()
    losses = np.concatenate(token_losses(reference, list(rows), unasked=1))
    assert profile.loss == pytest.approx(losses.mean(), abs=1e-5)
    assert profile.curves is not None and profile.curves.whole_loss == pytest.approx(losses.mean(), abs=1e-5)


def test_with_json_nothing_else_is_printed(model: Path, text: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(model, "--text", text, "--length", 20, "--sequences", 2, "--json") == 0
    profile = Profile.model_validate(json.loads(capsys.readouterr().out))
    assert (profile.depth, profile.model) == (3, str(model))
    rows = text.with_name("rows.jsonl")
    rows.write_text(json.dumps({"id": "w0", "body": text.read_text()}) + "\n")
    assert run(model, "--text", rows, "--field", "body", "--length", 20, "--sequences", 2, "--json") == 0
    assert Profile.model_validate(json.loads(capsys.readouterr().out)).tokens == profile.tokens


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--text": "absent.txt"}, "absent.txt"),
        ({"--length": 5000}, "5000"),
        ({"--length": 65}, "64 positions"),
        ({"--threshold": 2}, "threshold"),
        ({"--against": "absent.json"}, "absent.json"),
        ({"--out": "/proc/nothing/here"}, "/proc/nothing"),
    ],
)
def test_wrong_input_ends_in_one_sentence(
    change: dict[str, object], message: str, model: Path, text: Path, capsys: pytest.CaptureFixture
) -> None:
    options = {"--text": text, "--length": 20, "--sequences": 2, "--curve-sequences": 0} | change
    assert run(model, "--quiet", *(part for pair in options.items() for part in pair)) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("inheritune: ") and len(error.strip().splitlines()) == 1


def test_a_missing_model_is_named(text: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("./nowhere", "--text", text) == 2
    assert "nowhere" in capsys.readouterr().err
    assert run("bundled:lapto", "--text", text) == 2
    assert "bundled:laptop" in capsys.readouterr().err
    assert run(text.parent, "--text", text) == 2
    assert "holds no model" in capsys.readouterr().err


def test_a_stop_says_whether_anything_is_kept(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inheritune.diagnosis.by_name.diagnose", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    given = (model, "--text", text, "--length", 20, "--sequences", 4, "--quiet")
    assert run(*given) == 143
    said = "inheritune: stopped: nothing was kept; with --out FOLDER what is measured is: inheritune diagnose "
    assert capsys.readouterr().err.startswith(said)
    assert run(*given, "--out", tmp_path / "d") == 143
    assert capsys.readouterr().err.startswith("inheritune: stopped: this goes on from what is kept: ")


def test_what_was_measured_serves_the_same_command_with_more_minutes(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Oracle: the same command that had the time from the first."""
    how = (model, "--text", text, "--length", 20, "--sequences", 20, "--out")
    kept = tmp_path / "d" / "maps.jsonl"
    assert run(*how, tmp_path / "d", "--minutes", 0) == 0 and kept.exists()
    assert "give more --minutes" in " ".join(capsys.readouterr().out.split())
    before = kept.read_text()
    assert run(*how, tmp_path / "d") == 0 and not kept.exists() and before
    told = capsys.readouterr().err
    assert "the same layers and heads are lazy" in told and "20 sequences of 20 tokens from one document" in told
    assert run(*how, tmp_path / "whole") == 0
    profiles = [Profile.load(tmp_path / name / "profile.json") for name in ("d", "whole")]
    assert profiles[0].layers == profiles[1].layers and profiles[0].curves == profiles[1].curves
    assert profiles[0].documents == DocumentsRead(read=1, of=1, whole=True)
