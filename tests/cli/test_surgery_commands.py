"""inherit, grow and prove as a user meets them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
import torch
from launch import forked
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from inheritune.cli import main
from inheritune.decoder.stack import run_until
from inheritune.surgery.heal import heal
from inheritune.surgery.refit import refit

WORDS = [f"w{number}" for number in range(61)]


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A tiny model folder with a tokenizer."""
    folder = tmp_path_factory.mktemp("source") / "tiny"
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = LlamaConfig(num_hidden_layers=6, vocab_size=64, max_position_embeddings=64, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"[UNK]": 0, **{word: at + 1 for at, word in enumerate(WORDS)}}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(folder)
    return folder


@pytest.fixture
def inheritune(monkeypatch, capsys):
    """Runs the command line; gives its exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inheritune", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
            sys.exit(0)
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


def test_a_model_is_cut_grown_and_proved(inheritune, source, tmp_path):
    code, out, _ = inheritune("inherit", source, tmp_path / "cut", "--blocks", "0-1,5")
    assert code == 0 and "3 of 6 blocks (0-1,5)" in out and "proved" in out
    code, out, _ = inheritune("grow", tmp_path / "cut", tmp_path / "grown", "--from", source, "--blocks", "0-2,5")
    assert code == 0 and "4 of 6 blocks (0-2,5)" in out
    code, out, _ = inheritune("prove", tmp_path / "grown", "--against", source)
    assert code == 0 and "FAILED" not in out and "so arranged" in out
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "grown").config.num_hidden_layers == 4


def test_json_is_all_that_is_printed(inheritune, source, tmp_path):
    code, out, _ = inheritune("inherit", source, tmp_path / "cut", "--blocks", "0,3", "--json")
    assert code == 0
    assert json.loads(out)["blocks"] == [0, 3]
    code, out, _ = inheritune("prove", tmp_path / "cut", "--json")
    assert json.loads(out)["passed"] is True


def test_healing_says_what_it_won_and_leaves_a_stock_model(inheritune, source, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(WORDS[(7 * at * at) % 61] for at in range(2000)))
    code, out, _ = inheritune("inherit", source, tmp_path / "cut", "--blocks", "0-2,5", "--heal", text, "--prove")
    assert code == 0 and "healed: " in out and "nats per token" in out
    record = json.loads((tmp_path / "cut/inheritune.json").read_text())
    assert record["healed"]["places"] == [2]
    _, report = AutoModelForCausalLM.from_pretrained(tmp_path / "cut", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    code, out, _ = inheritune("prove", tmp_path / "cut", "--against", source)
    assert code == 2 and "FAILED" in out  # a healed model is no plain cut


def test_a_healed_model_keeps_its_dtype_and_is_proved_itself(inheritune, source, tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(WORDS[(7 * at * at) % 61] for at in range(2000)))
    options = ("--blocks", "0-2,5", "--heal", text, "--prove")
    assert inheritune("inherit", source, tmp_path / "cut", *options, "--dtype", "bfloat16")[0] == 0
    tensors = load_file(tmp_path / "cut" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    names = [check["name"] for check in json.loads((tmp_path / "cut/proof.json").read_text())["checks"]]
    healed = [name.removeprefix("healed: ") for name in names if name.startswith("healed: ")]
    assert set(healed) < set(names) and "cached generation equals uncached" in healed

    def harmful(model, *rest, **how):
        healing = heal(model, *rest, **how)
        model.model.layers[2].mlp.down_proj.weight.data[0, 0] = float("nan")
        return healing

    monkeypatch.setattr("inheritune.surgery.by_model.heal", harmful)
    code, _, err = inheritune("inherit", source, tmp_path / "harmed", *options)
    assert code == 2 and "healed: every weight is a number" in err and not (tmp_path / "harmed").exists()


def test_a_repair_that_is_killed_goes_on_where_it_was(inheritune, source, tmp_path, monkeypatch):
    """Two gaps: a kill after the first is refitted leaves one fit to the same command, and none of the reference's passes."""
    text, cut, beside = tmp_path / "text.txt", tmp_path / "cut", tmp_path / ".cut.inheritune-repair"
    text.write_text(" ".join(WORDS[(7 * at * at) % 61] for at in range(2000)))
    options = ("--blocks", "0,2,5", "--heal", text, "--no-prove")
    assert inheritune("inherit", source, tmp_path / "whole", *options)[0] == 0

    def attempt(command: tuple, die_before_fit: int = 9) -> tuple[int, str]:
        """The command's exit code in a process of its own; its passes through the reference (p) and its fits (f)."""
        done = tmp_path / "done"
        done.write_text("")

        def counted(call, letter):
            def calling(*given):
                if letter == "f" and done.read_text().count("f") == die_before_fit:
                    os.kill(os.getpid(), signal.SIGKILL)
                done.write_text(done.read_text() + letter)
                return call(*given)

            return calling

        def act():
            monkeypatch.setattr("inheritune.surgery.heal.refit", counted(refit, "f"))
            monkeypatch.setattr("inheritune.surgery.heal.run_until", counted(run_until, "p"))
            monkeypatch.setattr(sys, "argv", ["inheritune", *map(str, command)])
            with suppress(SystemExit):
                main()

        return os.waitstatus_to_exitcode(os.waitpid(forked(act), 0)[1]), done.read_text()

    def files(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}

    command = ("inherit", source, cut, *options)
    assert attempt(command, die_before_fit=1) == (-signal.SIGKILL, "pf")
    assert {path.name for path in beside.iterdir()} == {"reference-1.safetensors", "block-0.safetensors"}
    (beside / ".block-1.safetensors.0123456789ab.inheritune").write_bytes(b"half")  # a kill in the middle of a file
    assert not cut.exists() and attempt(command) == (0, "f")
    assert files(cut) == files(tmp_path / "whole") and not beside.exists()

    other, another = tmp_path / "other", tmp_path / "another"
    assert attempt(("inherit", source, other, *options), die_before_fit=1)[1] == "pf"
    model = AutoModelForCausalLM.from_pretrained(source)
    model.model.layers[1].mlp.down_proj.weight.data.mul_(1.5)  # in a block that the cut leaves out
    shutil.copytree(source, another)
    model.save_pretrained(another)
    assert attempt(("inherit", another, other, *options)) == (0, "pff")
    assert inheritune("inherit", another, tmp_path / "again", *options)[0] == 0
    assert files(other) == files(tmp_path / "again")


def test_a_repair_that_ctrl_c_stops_says_that_it_goes_on(inheritune, source, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("inheritune.surgery.heal.refit", stopped)
    text, options = tmp_path / "text.txt", ("--blocks", "0,5", "--no-prove")
    text.write_text(" ".join(WORDS[(7 * at * at) % 61] for at in range(2000)))
    code, _, err = inheritune("inherit", source, tmp_path / "cut", *options, "--heal", text)
    assert code == 130 and "the same command goes on with the repair" in err


def test_what_is_not_ours_beside_a_repair_is_not_touched(inheritune, source, tmp_path):
    text, beside = tmp_path / "text.txt", tmp_path / ".cut.inheritune-repair"
    text.write_text(" ".join(WORDS))
    beside.mkdir()
    (beside / "mine.txt").write_text("mine")
    code, _, err = inheritune("inherit", source, tmp_path / "cut", "--blocks", "0,5", "--heal", text)
    assert code == 2 and "in the way" in err and (beside / "mine.txt").read_text() == "mine"
    (beside / "mine.txt").rename(beside / "block-0.safetensors")
    text.write_text("")  # refused: what is ours goes
    code, _, err = inheritune("inherit", source, tmp_path / "cut", "--blocks", "0,5", "--heal", text)
    assert code == 2 and not beside.exists()


def test_stages_are_told_beside_the_result(inheritune, source, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(" ".join(WORDS[(7 * at * at) % 61] for at in range(2000)))
    proof = ["Loading 2 models", "Proof"]
    for command, stages in (
        (("inherit", source, tmp_path / "cut", "--blocks", "0,5", "--prove"), ["Writing the weights", *proof]),
        (
            ("inherit", source, tmp_path / "healed", "--blocks", "0,5", "--heal", text, "--prove"),
            ["Loading 1 model", "Proof", "Repair", "Proof", "Writing the weights"],
        ),
        (
            ("grow", tmp_path / "cut", tmp_path / "grown", "--from", source, "--blocks", "0-2,5"),
            ["Writing the weights", "Loading 3 models", "Proof"],
        ),
        (
            ("prove", tmp_path / "cut", "--against", source),
            [f"Reference: {source}", f"Model: {tmp_path / 'cut'}", "Proof"],
        ),
    ):
        code, _, err = inheritune(*command)
        lines = err.splitlines()
        assert code == 0 and [line for line in lines if not line.startswith("  ")] == stages
        assert any(line.startswith("  1 of ") for line in lines)
    assert inheritune("prove", tmp_path / "cut", "--quiet")[2] == ""
    code, _, err = inheritune("inherit", source, tmp_path / "light", "--blocks", "0,5", "--no-prove")  # without torch
    assert (code, err.splitlines()) == (0, ["Writing the weights"])


def test_parts_outside_and_dtype(inheritune, source, tmp_path):
    options = ("--parts", "attention,norms", "--outside", "none", "--dtype", "bfloat16", "--seed", 3)
    code, _, _ = inheritune("inherit", source, tmp_path / "cut", "--blocks", "0-5", *options)
    assert code == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "cut", dtype="auto")
    parent = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    own, other = model.model.layers[3], parent.model.layers[3]
    assert model.dtype == torch.bfloat16
    assert torch.equal(own.self_attn.q_proj.weight, other.self_attn.q_proj.weight)
    assert not torch.equal(own.mlp.up_proj.weight, other.mlp.up_proj.weight)
    assert not torch.equal(model.model.embed_tokens.weight, parent.model.embed_tokens.weight)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--blocks", "0-9"], "Block 6 does not exist"),
        (["--blocks", "5-2"], "backwards"),
        (["--blocks", "zero"], "Cannot read 'zero'"),
        (["--blocks", ","], "Cannot read ''"),
        (["--blocks", "0", "--parts", "heads"], "Unknown part 'heads'"),
        (["--blocks", "0", "--outside", "some"], "outside='some'"),
        (["--blocks", "0", "--dtype", "int4"], "'int4'"),
        (["--blocks", "0", "--heal", "no-such-text"], "no-such-text"),
    ],
)
def test_wrong_options_end_in_one_sentence(inheritune, source, tmp_path, options, words):
    code, out, err = inheritune("inherit", source, tmp_path / "cut", *options)
    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1 and "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["/no/such/model", "./missing"])
def test_a_missing_source_is_named(inheritune, tmp_path, name):
    code, _, err = inheritune("inherit", name, tmp_path / "cut", "--blocks", "0")
    assert code == 2 and name in err


def test_growing_drops_no_block(inheritune, source, tmp_path):
    inheritune("inherit", source, tmp_path / "cut", "--blocks", "0-2,5")
    code, _, err = inheritune("grow", tmp_path / "cut", tmp_path / "grown", "--from", source, "--blocks", "0-1")
    assert code == 2 and "would drop 2,5" in err and not (tmp_path / "grown").exists()


def test_growing_asks_for_what_it_cannot_know(inheritune, source, tmp_path):
    arguments = ("grow", source, tmp_path / "grown", "--from", source, "--blocks", "0-5")
    code, _, err = inheritune(*arguments)
    assert code == 2 and "--held" in err
    code, _, err = inheritune(*arguments, "--held", "0-3")
    assert code == 2 and "4 held blocks" in err


@pytest.mark.parametrize("new", ["copied", "identity", "random"])
def test_new_blocks_start_as_asked(inheritune, source, tmp_path, new):
    inheritune("inherit", source, tmp_path / "cut", "--blocks", "0-1,5")
    arguments = ("grow", tmp_path / "cut", tmp_path / "grown", "--from", source, "--blocks", "0-2,5", "--new", new)
    assert inheritune(*arguments)[0] == 0
    grown, cut, parent = (
        AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "grown", tmp_path / "cut", source)
    )
    own, tokens_BT = grown.model.layers[2], torch.arange(24).view(2, 12)
    same = {
        "copied": torch.equal(own.mlp.up_proj.weight, parent.model.layers[1].mlp.up_proj.weight),
        "identity": torch.equal(grown(tokens_BT).logits, cut(tokens_BT).logits),
        "random": not torch.equal(own.mlp.up_proj.weight, parent.model.layers[2].mlp.up_proj.weight),
    }
    assert same[new]
    assert json.loads((tmp_path / "grown/inheritune.json").read_text())["new_blocks"] == new


def test_an_unknown_start_is_named(inheritune, source, tmp_path):
    code, _, err = inheritune(
        "grow", source, tmp_path / "grown", "--from", source, "--blocks", "0", "--held", "0-5", "--new", "warm"
    )
    assert code == 2 and "'warm'" in err and not list(tmp_path.iterdir())


def test_help_loads_no_torch():
    script = (
        "import sys; sys.argv = ['inheritune', 'inherit', '--help']\n"
        "from inheritune.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
