"""A folder goes on only with the content that it was begun with."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from restored import restored
from safetensors.numpy import load_file, save_file
from shell import command, refused
from tiny import FAMILIES, LENGTH, recipe_tree

from inheritune.records.made_of import FileMark, MadeOf
from inheritune.records.stages import Launched
from inheritune.runs import made_of as made

Write = Callable[[dict[str, Any]], str]


@pytest.fixture(scope="module")
def finished(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of one round, and the reference and the text that it was made of."""
    folder = tmp_path_factory.mktemp("begun") / "all"
    shutil.copytree(gpt2, folder / "reference")
    shutil.copy(corpus / "words.jsonl", folder)
    tree = recipe_tree(folder / "reference", folder / "words.jsonl")
    tree["growth"], tree["training"]["tokens"] = {"start": 2, "max_depth": 2}, 512
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    assert command("run", str(folder / "recipe.yaml"), "--out", str(folder / "out"), "--quiet").code == 0
    return folder


@pytest.fixture
def begun(finished: Path, tmp_path: Path) -> Iterator[tuple[Path, ...]]:
    """Of that run, which may be changed: recipe, folder, reference, text."""
    with restored(finished, tmp_path / "aside") as folder:
        yield tuple(folder / name for name in ("recipe.yaml", "out", "reference", "words.jsonl"))


def go_on(begun: tuple[Path, ...]) -> tuple[str, ...]:
    return ("run", str(begun[0]), "--out", str(begun[1]), "--quiet")


def test_rotated_lines_are_another_text(begun: tuple[Path, ...]) -> None:
    """The same documents in another order: the losses kept so far would be paired with those of others."""
    _, out, _, text = begun
    lines, before = text.read_text().splitlines(keepends=True), (out / "result.json").read_bytes()
    text.write_text("".join(lines[1:] + lines[:1]))
    said = refused(*go_on(begun))
    assert "the text of data.train" in said and "data.valid" in said and "name another --out" in said
    assert (out / "result.json").read_bytes() == before
    text.write_text("".join(lines))
    assert command(*go_on(begun)).code == 0


def test_one_changed_weight_is_another_reference(begun: tuple[Path, ...]) -> None:
    weights = begun[2] / "model.safetensors"
    tensors = load_file(weights)
    tensors["transformer.ln_f.bias"][-1] += 1e-3
    save_file(tensors, weights, {"format": "pt"})
    assert "the reference's model.safetensors changed" in refused(*go_on(begun))


def test_another_config_of_the_same_weights_is_another_reference(begun: tuple[Path, ...]) -> None:
    config = json.loads((begun[2] / "config.json").read_text())
    (begun[2] / "config.json").write_text(json.dumps(config | {"layer_norm_epsilon": 1e-2}))
    assert "the reference's config.json changed" in refused(*go_on(begun))


def test_content_counts_and_not_times_and_places(begun: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A touched text and reference, and a cache that is made anew, are the same content."""
    recipe, out, reference, text = begun
    for path in (*reference.iterdir(), text):
        os.utime(path, (1e9, 1e9))
    monkeypatch.setenv("INHERITUNE_CACHE", str(recipe.parent / "another-cache"))
    before = (out / "made_of.json").read_bytes()
    assert command(*go_on(begun)).code == 0
    assert (out / "made_of.json").read_bytes() == before


def test_a_folder_without_the_record_says_so_in_its_verdict(begun: tuple[Path, ...]) -> None:
    (begun[1] / "made_of.json").unlink()
    assert command(*go_on(begun)).code == 0
    assert "was begun without made_of.json" in json.loads((begun[1] / "result.json").read_text())["message"]
    assert not (begun[1] / "made_of.json").exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"texts": {}}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_record_is_said(begun: tuple[Path, ...], damage: bytes) -> None:
    (begun[1] / "made_of.json").write_bytes(damage)
    assert "made_of.json' is damaged" in refused(*go_on(begun))


def test_a_large_file_is_told_by_samples_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is not read whole, each end and every 64th are; a change between the samples shows by its time alone."""
    monkeypatch.setattr(made, "READ_WHOLE", 1 << 20)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(16 << 20))

    def marks(at: int | None) -> MadeOf:
        with weights.open("r+b") as file:
            if at is not None:
                file.seek(at)
                file.write(b"x")
        os.utime(weights, ns=(0, 7))
        return MadeOf(texts={}, tokenizer="", reference=made.marks(tmp_path))

    first = marks(None)
    assert not first.reference["model.safetensors"].whole
    assert list(first.differences(marks(None))) == []
    assert list(first.differences(marks((16 << 20) - 1))) == ["the reference's model.safetensors"]
    last = marks(70_000)  # the first sample ends at 65,536, the second begins at 265,263
    os.utime(weights, ns=(0, 8))
    touched = MadeOf(texts={}, tokenizer="", reference=made.marks(tmp_path))
    assert list(last.differences(touched)) == [
        "the reference's model.safetensors (its time of change: it is too large to be read whole)"
    ]
    assert list(last.elsewhere.differences(touched.elsewhere)) == []


def test_files_that_came_or_went_are_told() -> None:
    one = FileMark(size=1, digest="a")
    before, now = (MadeOf(texts={}, tokenizer="", reference={name: one}) for name in ("old", "young"))
    assert list(before.differences(now)) == ["the reference's old (gone)", "the reference's young (added)"]


def test_training_from_random_weights_is_bound_too(corpus: Path, tmp_path: Path, write_recipe: Write) -> None:
    text = tmp_path / "words.jsonl"
    shutil.copy(corpus / "words.jsonl", text)
    recipe = write_recipe(
        {
            "name": "fresh",
            "model": {
                "model_type": "gpt2",
                "vocab_size": 300,
                "bos_token_id": 0,
                "eos_token_id": 0,
                **FAMILIES["gpt2"],
            },
            "data": {"train": str(text), "sequence_length": LENGTH, "valid_share": 0.2},
            "training": {"tokens": 512, "batch_tokens": 256},
        }
    )
    given = ("train", recipe, "--out", str(tmp_path / "out"), "--quiet")
    assert command(*given).code == 0
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[1:] + lines[:1]))
    assert "the text of data.train" in refused(*given)


def test_shards_and_cells_of_a_comparison_have_one_content(
    tree: dict[str, Any], corpus: Path, tmp_path: Path, write_recipe: Write
) -> None:
    text, out = tmp_path / "words.jsonl", str(tmp_path / "out")
    shutil.copy(corpus / "words.jsonl", text)
    tree["data"]["train"] = str(text)
    tree["training"]["tokens"] = 256
    kept = {key: tree[key] for key in ("name", "reference", "data", "diagnosis", "training")}
    recipe = write_recipe({**kept, "methods": ["published", "random"], "depth": 2, "seeds": 1})
    assert command("compare", recipe, "--out", out, "--shard", "1/2", "--quiet").code == 0
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[1:] + lines[:1]))
    assert "was begun with other content" in refused("compare", recipe, "--out", out, "--shard", "1/2", "--quiet")
    said = refused("compare", recipe, "--out", out, "--shard", "2/2", "--quiet")
    assert "was begun with other content than" in said and not list(tmp_path.glob("out/cells/random*"))


def test_a_folder_that_a_launch_has_begun_is_bound_like_any_other(tmp_path: Path) -> None:
    Launched(processes=4).save(tmp_path / Launched.NAME)
    assert made.bind(tmp_path, MadeOf(texts={}, tokenizer="t", reference={})) == []
    assert (tmp_path / MadeOf.NAME).exists()
