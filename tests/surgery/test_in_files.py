"""Between files: the same bits as in memory and in an optimizer's state, and nothing half written."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from families import DEPTH, reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from inheritune.decoder import fold
from inheritune.decoder.outputs import PLAIN_OUTPUTS
from inheritune.decoder.parts import PARTS, closes, part_of
from inheritune.decoder.stack import Stack
from inheritune.errors import InputError, ModelError, OutputError
from inheritune.models.hollow import open_checkpoint
from inheritune.models.load import load_model
from inheritune.surgery import by_model
from inheritune.surgery.blockmap import STARTS, BlockMap
from inheritune.surgery.commands import inherit_folder
from inheritune.surgery.in_files import assemble_files
from inheritune.surgery.in_memory import OUTSIDE, assemble, growth, inherit, with_outside
from inheritune.surgery.on_optimizer import carry
from inheritune.surgery.requests import CutRequest, GrowRequest

LISTS = st.lists(st.integers(0, DEPTH - 1), min_size=1, max_size=8)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The tiny models on disk, in several shards each."""
    root = tmp_path_factory.mktemp("models")
    for family in ("gpt2", "gemma3_text", "qwen3_moe", "scaled"):
        reference(family).save_pretrained(root / family, max_shard_size="60KB")
    return root


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


PARTS_LISTS = st.one_of(st.none(), st.lists(st.sampled_from(sorted(PARTS)), min_size=1, unique=True))
HARD = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(out: Path) -> PreTrainedModel:
    """The model of a folder that no other code than that of transformers has touched."""
    return AutoModelForCausalLM.from_pretrained(out)


@pytest.mark.parametrize("family", ["gpt2", "gemma3_text", "qwen3_moe", "scaled"])
@settings(HARD, max_examples=6)
@given(blocks=LISTS, parts=PARTS_LISTS, outside=st.sampled_from(OUTSIDE), seed=st.integers(0, 9))
def test_files_and_memory_cut_the_same_bits(family, folders, tmp_path_factory, blocks, parts, outside, seed):
    out, source = tmp_path_factory.mktemp("cut"), open_checkpoint(folders / family)
    block_map = with_outside(BlockMap.of(blocks).of_parts(parts), source.model, outside)
    assemble_files([source], block_map, out, seed)
    meant = inherit(read(folders / family), blocks, parts=parts, outside=outside, seed=seed)
    meant.save_pretrained(out / "meant")
    assert same(weights(out), weights(out / "meant"))
    assert json.loads((out / "config.json").read_text()) == json.loads((out / "meant/config.json").read_text())
    assert same(read(out).state_dict(), meant.state_dict())


@pytest.mark.parametrize("family", ["gpt2", "scaled"])
@settings(HARD, max_examples=6)
@given(held=LISTS, wanted=LISTS, start=st.sampled_from(STARTS), parts=PARTS_LISTS)
def test_files_memory_and_optimizer_carry_out_the_same_map(
    family, folders, tmp_path_factory, held, wanted, start, parts
):
    """Two sources, repeats, parts, copies, identities and fresh blocks: one map, three executors, the same bits."""
    out, model = tmp_path_factory.mktemp("grown"), read(folders / family)
    target = inherit(model, held)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter += 1.0
    target.save_pretrained(out / "target")
    (out / "files").mkdir()
    block_map = growth(target, model, held, wanted, start).of_parts(parts)
    assemble_files(
        [open_checkpoint(out / "target"), open_checkpoint(folders / family)], block_map, out / "files", seed=3
    )
    made = assemble([target, model], block_map, seed=3)
    grown = made.state_dict()
    assert same(read(out / "files").state_dict(), grown)
    # Moments that are the weights themselves, so that what is carried is told by what is inherited: f in a weight is
    # 1/f in its moment.
    states = [{name: {"w": p.detach()} for name, p in source.named_parameters()} for source in (target, model)]
    carried = carry(states, block_map, "transformer.h", made.config)
    unfolded = {name: own["w"] for name, own in carried.items()}
    for name, factor in fold.factors(made.config, "transformer.h", block_map.before).items():
        unfolded[name] = fold.scaled(unfolded[name], factor)
    assert all(torch.equal(own, grown[name]) for name, own in unfolded.items())
    fresh_or_zero = {
        name
        for name in dict(made.named_parameters())
        for place in [name.split(".")[2]]
        if ".h." in name
        for own in [block_map.places[int(place)]]
        if own.block is None or part_of(name.split(".", 3)[3]) not in own.parts or (own.silent and closes(name))
    }
    assert set(carried) == set(dict(made.named_parameters())) - fresh_or_zero


def test_shards_stay_shards_and_what_goes_along_goes_along(folders, tmp_path):
    source = folders / "gemma3_text"
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE", "generation_config.json"):
        (source / name).write_text("{}")
    (source / "README.md").write_text("---\nlicense: gemma\n---\nwords")
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    record = inherit_folder(source, tmp_path / "cut", CutRequest([0, 1, 5]))
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    names = {path.name for path in (tmp_path / "cut").iterdir()}
    assert {"tokenizer.json", "chat_template.jinja", "LICENSE", "proof.json", "inheritune.json"} <= names
    assert "license: gemma" in (tmp_path / "cut/README.md").read_text()
    assert record.fingerprint in (tmp_path / "cut/README.md").read_text()
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    index = json.loads((tmp_path / "cut/model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(weights(tmp_path / "cut"))
    assert list(tmp_path.iterdir()) == [tmp_path / "cut"]


def test_a_cut_of_a_cut_says_whose_blocks_it_has(folders, tmp_path):
    first = inherit_folder(folders / "gpt2", tmp_path / "first", CutRequest([0, 2, 3, 5]))
    second = inherit_folder(tmp_path / "first", tmp_path / "second", CutRequest([1, 2, 2]))
    assert first.origin is None
    assert second.origin == {"source": "gpt2", "fingerprint": first.fingerprint, "blocks": "2-3,3"}
    assert "`2-3,3`" in (tmp_path / "second/README.md").read_text()


def test_weights_keep_their_dtype(tmp_path):
    inherit(reference("llama"), [0, 1, 2]).to(torch.bfloat16).save_pretrained(tmp_path / "source")
    inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest([0, 2]))
    assert {tensor.dtype for tensor in weights(tmp_path / "cut").values()} == {torch.bfloat16}
    assert load_model(tmp_path / "cut").dtype == torch.bfloat16


def test_an_existing_folder_is_replaced_only_by_force(folders, tmp_path):
    out = tmp_path / "cut"
    inherit_folder(folders / "gpt2", out, CutRequest([0, 1]))
    before = weights(out)
    with pytest.raises(OutputError, match="--force"):
        inherit_folder(folders / "gpt2", out, CutRequest([0]))
    assert same(weights(out), before)
    inherit_folder(folders / "gpt2", out, CutRequest([0]), force=True)
    assert weights(out).keys() < before.keys()


OWN = {  # what a target may have of its own: config fields, and what becomes of its weights
    "positions": (
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, "max_position_embeddings": 256},
        None,
    ),
    "words": ({"vocab_size": 104}, lambda name, own: torch.cat([own, own[:8]]) if own.shape[0] == 96 else own),
    "dtype": ({"dtype": "bfloat16"}, lambda name, own: own.bfloat16()),
}


@pytest.mark.parametrize("start", ["inherited", "identity"])
@pytest.mark.parametrize("change", OWN)
def test_a_target_grows_by_its_own_config(change, start, tmp_path):
    """It keeps its positions, its words and its dtype, the new block's too; the reference has others."""
    reference("llama").save_pretrained(tmp_path / "whole")
    inherit_folder(tmp_path / "whole", tmp_path / "target", CutRequest([0, 1, 2]))
    fields, turn = OWN[change]
    change_json(tmp_path / "target/config.json", **fields)
    if turn:
        held = {name: turn(name, own) for name, own in weights(tmp_path / "target").items()}
        save_file(held, tmp_path / "target/model.safetensors", {"format": "pt"})
    plan = GrowRequest([0, 1, 2], [0, 1, 2, 4], start=start)
    assert by_model.grow_folder(tmp_path / "target", tmp_path / "whole", tmp_path / "grown", plan).proved
    grown, target = (load_model(tmp_path / name) for name in ("grown", "target"))
    told = json.loads((tmp_path / "grown/config.json").read_text())
    assert {name: told[name] for name in fields} == fields and told["num_hidden_layers"] == 4
    assert {own.dtype for own in weights(tmp_path / "grown").values()} == {target.dtype}
    if start == "identity":
        tokens_BT = torch.arange(24).view(2, 12)
        assert torch.equal(grown(tokens_BT).logits, target(tokens_BT).logits)


def test_what_a_block_computes_with_may_not_be_the_targets_own(tmp_path):
    reference("llama").save_pretrained(tmp_path / "whole")
    inherit_folder(tmp_path / "whole", tmp_path / "target", CutRequest([0, 1, 2]))
    change_json(tmp_path / "target/config.json", rms_norm_eps=1e-3)
    plan = GrowRequest([0, 1, 2], [0, 1, 2, 4])
    with pytest.raises(ModelError, match=r"block 3 would not be what it was.*look at rms_norm_eps in its config"):
        by_model.grow_folder(tmp_path / "target", tmp_path / "whole", tmp_path / "grown", plan)


@pytest.mark.parametrize("place", ["gpt2", "gpt2/inside", "."])
def test_source_and_target_may_not_hold_one_another(folders, place):
    with pytest.raises(OutputError, match="another"):
        inherit_folder(folders / "gpt2", folders / place, CutRequest([0]), force=True)


@pytest.mark.parametrize("fault", ["disk", "proof", "room"])
def test_a_failure_leaves_nothing_and_keeps_what_was_there(folders, tmp_path, monkeypatch, fault):
    out = tmp_path / "cut"
    inherit_folder(folders / "gpt2", out, CutRequest([0, 1]))
    before = weights(out)

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if fault == "disk":
        monkeypatch.setattr("inheritune.surgery.byte_ranges.write_shard", full)
    if fault == "room":
        monkeypatch.setattr("inheritune.disk.folders.SPARE", 1 << 60)
    if fault == "proof":
        monkeypatch.setattr(by_model, "load_model", lambda *_, **__: inherit(reference("gpt2"), [3]))
    with pytest.raises(Exception, match=r"No space left|free|fails the check"):
        inherit_folder(folders / "gpt2", out, CutRequest([0, 5]), force=True)
    assert same(weights(out), before)
    assert list(tmp_path.iterdir()) == [out]


def test_a_kill_leaves_no_model_under_the_name(folders, tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from inheritune.surgery import byte_ranges, commands, requests\n"
        "whole = byte_ranges.write_shard\n"
        "def slow(shard, path): whole(shard, path); print('shard', flush=True); time.sleep(60)\n"
        "byte_ranges.write_shard = slow\n"
        "commands.inherit_folder(Path(sys.argv[1]), Path(sys.argv[2]), requests.CutRequest([0, 1]))\n"
    )
    arguments = [sys.executable, "-c", script, str(folders / "gpt2"), str(tmp_path / "cut")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"shard\n"
        process.send_signal(signal.SIGKILL)
    time.sleep(0.05)
    assert not (tmp_path / "cut").exists()
    inherit_folder(folders / "gpt2", tmp_path / "cut", CutRequest([0, 1]))
    assert (tmp_path / "cut" / "proof.json").exists()


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def missing_shard(folder: Path) -> None:
    next(folder.glob("*-00002-of-*")).unlink()


def index_names_more(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    change_json(path, weight_map={**weight_map, "transformer.h.9.ghost": next(iter(weight_map.values()))})


def index_swaps_files(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    files = sorted(set(weight_map.values()))
    change_json(
        path, weight_map={name: files[(files.index(file) + 1) % len(files)] for name, file in weight_map.items()}
    )


def index_climbs_out(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    change_json(path, weight_map=dict.fromkeys(weight_map, "../other/model.safetensors"))


def link_leaves(folder: Path) -> None:
    shard = next(folder.glob("*-00002-of-*"))
    shard.rename(folder.parent / "elsewhere.safetensors")
    shard.symlink_to(folder.parent / "elsewhere.safetensors")


def truncated(folder: Path) -> None:
    shard = next(folder.glob("*-00002-of-*"))
    shard.write_bytes(shard.read_bytes()[:-10])


def header_cut(folder: Path) -> None:
    next(folder.glob("*-00002-of-*")).write_bytes(b"\x10")


def header_huge(folder: Path) -> None:
    next(folder.glob("*-00002-of-*")).write_bytes((1 << 60).to_bytes(8, "little") + b"{}")


def header_no_json(folder: Path) -> None:
    next(folder.glob("*-00002-of-*")).write_bytes((4).to_bytes(8, "little") + b"{{{{")


def packed(folder: Path) -> None:
    for shard in folder.glob("*.safetensors"):
        save_file({name: tensor.to(torch.int8) for name, tensor in load_file(shard).items()}, shard)


def shapes_disagree(folder: Path) -> None:
    change_json(folder / "config.json", n_inner=48)


def more_blocks_than_weights(folder: Path) -> None:
    change_json(folder / "config.json", n_layer=7)


def quantised(folder: Path) -> None:
    change_json(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


def unknown_type(folder: Path) -> None:
    change_json(folder / "config.json", model_type="gpt9")


def encoder(folder: Path) -> None:
    change_json(folder / "config.json", model_type="bert")


def mistyped(folder: Path) -> None:
    change_json(folder / "config.json", n_embd="wide")


def nested(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000 + "]" * 100_000)


def no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{'model_type': 'gpt2'}")


def huge_json(folder: Path) -> None:
    with (folder / "config.json").open("r+b") as stream:
        stream.truncate(65 << 20)


def pickle_only(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


BAD = {
    missing_shard: "missing",
    index_climbs_out: "lead out",
    link_leaves: "leads out of the folder",
    truncated: "promises",
    header_cut: "truncated",
    header_huge: "truncated",
    header_no_json: "header",
    packed: "packed",
    shapes_disagree: "config asks for",
    more_blocks_than_weights: "no transformer.h.6",
    quantised: "quantised",
    unknown_type: "gpt9",
    encoder: "bert",
    mistyped: "config",
    nested: "not readable JSON",
    no_json: "not readable JSON",
    huge_json: "bytes",
    pickle_only: "pickle",
    no_config: "no config.json",
}


@pytest.mark.parametrize("harm", BAD, ids=lambda harm: harm.__name__)
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_written(harm, folders, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for path in (folders / "gpt2").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    harm(source)
    with pytest.raises(ModelError, match=BAD[harm]) as error:
        inherit_folder(source, tmp_path / "cut", CutRequest([0, 1]))
    assert "\n" not in str(error.value) and error.value.exit_code == 2
    assert not [path for path in tmp_path.iterdir() if "cut" in path.name]


def left_over_index(folder: Path) -> None:
    """The whole model in one file, and an index whose shards hold another's weights."""
    for shard in folder.glob("*-of-*"):
        save_file({name: tensor * 2 for name, tensor in load_file(shard).items()}, shard, {"format": "pt"})
    reference("gpt2").save_pretrained(folder / "one")
    (folder / "one/model.safetensors").rename(folder / "model.safetensors")


def shards_gone(folder: Path) -> None:
    left_over_index(folder)
    for shard in folder.glob("*-of-*"):
        shard.unlink()


def index_lists_tied_head(folder: Path) -> None:
    path = folder / "model.safetensors.index.json"
    weight_map = json.loads(path.read_text())["weight_map"]
    change_json(path, weight_map={**weight_map, "lm_head.weight": next(iter(weight_map.values()))})


def head_beside_its_tie(folder: Path) -> None:
    path = next(folder.glob("*-00001-of-*"))
    held = load_file(path)
    head = reference("gpt2").lm_head.weight.detach().clone()
    save_file({**held, "lm_head.weight": head}, path, {"format": "pt"})


def head_that_its_config_ties_to_another(folder: Path) -> None:
    """transformers takes the files' word and ties neither."""
    path = next(folder.glob("*-00001-of-*"))
    head = reference("gpt2").lm_head.weight.detach() * 2
    save_file({**load_file(path), "lm_head.weight": head}, path, {"format": "pt"})


def shard_holds_another_tensor_first(folder: Path) -> None:
    """Of a tensor that stands in two shards, transformers keeps the later one."""
    path = next(folder.glob("*-00001-of-*"))
    wte = torch.zeros_like(reference("gpt2").transformer.h[5].mlp.c_proj.weight)
    save_file({**load_file(path), "transformer.h.5.mlp.c_proj.weight": wte}, path, {"format": "pt"})


def names_without_what_wraps_the_decoder(folder: Path) -> None:
    for shard in folder.glob("*-of-*"):
        held = {name.removeprefix("transformer."): tensor for name, tensor in load_file(shard).items()}
        save_file({**held, "h.1.attn.bias": torch.ones(1, 1, 8, 8)}, shard, {"format": "pt"})


ODD = [
    *(left_over_index, shards_gone, index_names_more, index_swaps_files, index_lists_tied_head, head_beside_its_tie),
    head_that_its_config_ties_to_another,
    *(shard_holds_another_tensor_first, names_without_what_wraps_the_decoder),
]


@pytest.mark.parametrize("change", ODD, ids=lambda change: change.__name__)
def test_what_transformers_loads_is_what_is_cut(change, folders, tmp_path):
    shutil.copytree(folders / "gpt2", tmp_path / "source")
    change(tmp_path / "source")
    meant = inherit(read(tmp_path / "source"), [0, 5])
    inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest([0, 5]))
    assert same(read(tmp_path / "cut").state_dict(), meant.state_dict())
    assert same(load_model(tmp_path / "cut").state_dict(), meant.state_dict())


@pytest.mark.parametrize("flag", sorted(PLAIN_OUTPUTS))
def test_what_a_config_asks_for_beside_the_logits_reaches_no_pass(flag, tmp_path):
    reference("mixtral").save_pretrained(tmp_path / "source")
    change_json(tmp_path / "source/config.json", **{flag: not PLAIN_OUTPUTS[flag]})
    inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest([0, 5]))
    written = json.loads((tmp_path / "cut/config.json").read_text())
    assert written.get(flag, PLAIN_OUTPUTS[flag]) is (
        PLAIN_OUTPUTS[flag] if flag == "output_attentions" else not PLAIN_OUTPUTS[flag]
    )
    model = load_model(tmp_path / "source")
    inherit_folder(tmp_path / "source", tmp_path / "float", CutRequest([0, 5], dtype=torch.bfloat16))
    assert json.loads((tmp_path / "float/config.json").read_text()).get(flag) == written.get(flag)
    assert Stack(model, torch.arange(24).view(2, 12)).whole_losses.isfinite().all()


def test_shards_without_an_index_are_told_from_no_weights(folders, tmp_path):
    shutil.copytree(folders / "gpt2", tmp_path / "source")
    (tmp_path / "source/model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"holds model-00001-of-.*, but neither model.safetensors nor"):
        inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest([0]))


def test_a_cache_of_the_hub_may_link_to_its_blobs(folders, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in (folders / "gpt2").iterdir():
        (blobs / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / path.name)
    assert inherit_folder(snapshot, tmp_path / "cut", CutRequest([0])).reference_depth == DEPTH


@pytest.mark.parametrize("blocks", [[6], [0, 99]])
def test_blocks_out_of_range_are_named(folders, tmp_path, blocks):
    with pytest.raises(InputError, match="0 to 5"):
        inherit_folder(folders / "gpt2", tmp_path / "cut", CutRequest(blocks))
