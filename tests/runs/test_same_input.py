"""Run, compare, evaluate and diagnose give a reference the same to read, so its loss is the same; and a run asks whether it is right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shell import command, refused
from tiny import BEGIN, LENGTH, VOCABULARY, trained_model, with_begin
from transformers import PreTrainedTokenizerFast

import inheritune
from inheritune.comparison.sweep import compare
from inheritune.config.loading import load_recipe
from inheritune.config.recipes import RunRecipe
from inheritune.evaluation.beginnings import Beginnings
from inheritune.models.reference import load_reference
from inheritune.progress import Progress
from inheritune.runs import bench
from inheritune.runs.bench import Bench

SIZE = 20  # tokens of every document


@pytest.fixture(scope="module")
def begun(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A reference whose tokenizer puts around a text what `single` says."""

    def reference(single: str) -> Path:
        place = tmp_path_factory.mktemp("begun")
        trained_model("llama", texts, tokenizer, vocab_size=VOCABULARY + 2).save_pretrained(place)
        with_begin(tokenizer, single).save_pretrained(place)
        return place

    return reference


def documents_of_one_size(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Twelve texts of exactly `SIZE` tokens."""
    starts = (tokenizer.decode(tokenizer(text)["input_ids"][:SIZE]) for text in texts)
    return [text for text in starts if len(tokenizer(text)["input_ids"]) == SIZE][:12]


@pytest.mark.parametrize("single", ["$A", f"{BEGIN} <second> $A <|endoftext|>"])
def test_all_commands_agree_on_the_references_loss(
    single: str, begun: Callable[[str], Path], texts: list[str], tokenizer: PreTrainedTokenizerFast, tree: dict[str, Any],
    write_recipe: Callable[..., str], tmp_path: Path,
) -> None:  # fmt: skip
    reference, held = str(begun(single)), tmp_path / "held.jsonl"
    held.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents_of_one_size(texts, tokenizer)))
    tree["reference"], tree["data"]["valid"] = reference, str(held)
    tree["growth"]["max_depth"] = 2
    by_run = inheritune.run(write_recipe(tree), str(tmp_path / "run")).reference.val_loss
    written = json.loads((tmp_path / "run" / "reference.json").read_text())
    for key in ("growth", "choice", "match"):
        del tree[key]
    tree["training"]["tokens"] = 512
    compare(write_recipe({**tree, "methods": ["published"], "depth": 2}), str(tmp_path / "compare"))
    about = json.loads((tmp_path / "compare/shards/1-of-1/about.json").read_text())
    evaluated = command("evaluate", reference, "--data", str(held), "--no-generation", "--json", "--quiet")
    begin = len(single.split("$A")[0].split())
    length, asked = SIZE + 1 + begin, SIZE + bool(begin)
    counts = ("--sequences", "99", "--curve-sequences", "0", "--length", str(length), "--other-length", str(length))
    diagnosed = command("diagnose", reference, "--data", str(held), *counts, "--json", "--quiet")
    assert written["val_loss"] == by_run and written["tokens"] == 12 * asked
    assert about["reference_loss"] == pytest.approx(by_run, abs=1e-6)
    assert json.loads(evaluated.out)["models"][0]["text"]["val_loss"] == pytest.approx(by_run, abs=1e-6)
    assert json.loads(diagnosed.out)["loss"] == pytest.approx(by_run, abs=1e-6)


def test_every_row_that_a_reference_reads_opens_with_the_begin(
    begun: Callable[[str], Path], tree: dict[str, Any], corpus: Path, write_recipe: Callable[..., str], tmp_path: Path
) -> None:
    tree["reference"], tree["data"]["outside"] = str(begun(f"{BEGIN} <second> $A")), {"x": str(corpus / "words.txt")}
    recipe = load_recipe(RunRecipe, write_recipe(tree), {})
    found = Bench(recipe, tmp_path, load_reference(recipe.reference))
    rows = [*found.documents.ids, *found.batches[3], *found.sequences(4, 16).tolist(), *found.outside["x"].rows]
    assert all(tuple(row[:2]) == (VOCABULARY, VOCABULARY + 1) for row in rows)
    assert found.documents.ids.shape[1] <= LENGTH and max(map(len, found.outside["x"].rows)) <= 65
    assert (found.documents.labels[:, 0] == -100).all() and not (found.documents.labels >= VOCABULARY).any()
    assert {*json.loads((tmp_path / "begin.json").read_text())["losses"]} == {
        f"{BEGIN}<second>", "none", "<|endoftext|>", BEGIN,
    }  # fmt: skip


def test_another_begin_that_is_better_is_refused_unless_the_recipe_names_one(
    tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "compare_beginnings", lambda *_: Beginnings([5.64, 3.3], 1, 100))
    recipe, out = write_recipe(tree), tmp_path / "out"
    said = refused("run", recipe, "--out", str(out), "--quiet")
    assert "5.64 nats per token on this text with data.begin 'none'" in said and "3.30 with '<|endoftext|>'" in said
    assert not out.exists(), "nothing is spent"
    own = load_recipe(RunRecipe, recipe, {"data.begin": "none"})
    assert any("3.30 with" in caution for caution in Bench(own, tmp_path, load_reference(own.reference)).cautions())
    assert "did you mean '<|endoftext|>'" in refused(
        "run", recipe, "--set", "data.begin=<|endoftxt|>", "--out", str(out)
    )


def test_what_the_reference_is_asked_is_told_while_it_takes_its_time(
    tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load_recipe(RunRecipe, write_recipe(tree), {})
    reference = load_reference(recipe.reference)
    stages = ("Begin of text: the reference is asked", "Reference's loss on the validation documents")
    for told in (True, False):  # and is not asked again
        assert Bench(recipe, tmp_path, reference, Progress()).reference_loss > 0
        said = capsys.readouterr().out
        assert [stage in said for stage in stages] == [told, told]


def test_a_loss_above_what_a_models_size_explains_is_said(
    tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(RunRecipe, write_recipe(tree), {})
    found = Bench(recipe, tmp_path, load_reference(recipe.reference))
    found.reference_measured = found.reference_measured.model_copy(update={"val_loss": 5.0})
    assert not any("its size" in caution for caution in found.cautions()), "a toy is allowed to be one"
    monkeypatch.setattr(bench, "parameter_count", lambda _: 10**12)
    (said,) = [caution for caution in found.cautions() if "its size" in caution]
    text = found.reference.tokenizer.decode([t for row in found.documents.labels for t in row if t > 0])
    nats = 5.0 * found.documents.tokens / len(text.encode())
    assert f"5.00 nats per token or {nats:.2f} per byte" in said
