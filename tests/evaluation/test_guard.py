"""The guard set's items read back by rules of their own, answers by plain torch, and verdicts on made-up answers."""

import re

import numpy as np
import pytest
import torch
from rich.console import Console
from shell import refused
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

from inheritune.cli.evaluate import _guard_table
from inheritune.evaluation.guard import TOLERANCE, answers, guard
from inheritune.evaluation.guard_items import Item, items
from inheritune.evidence.gap import gap
from inheritune.report.story import able

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
WOMEN = {"Anna", "Clara", "Emma", "Grace", "Julia", "Laura", "Nora", "Paula", "Sarah", "Mary"}


def of(task: str) -> list[Item]:
    return [item for item in items(60, seed=4) if item.task.startswith(task)]


def test_a_seed_gives_the_same_items_and_another_others() -> None:
    assert items(5, 1) == items(5, 1) != items(5, 2)
    assert all(len(set(item.choices)) == len(item.choices) > 1 for item in items())
    assert len({item.text for item in items()}) == len(items())


def test_a_copied_word_is_right() -> None:
    for item in of("copy"):
        first, *_, second = (part.split() for part in item.text.split(". "))
        assert first[: len(second)] == second and item.choices[0].strip() == first[len(second)]
        assert len(set(first)) == len(first) and {word.strip() for word in item.choices} <= set(first)
    for item in of("word after"):
        listed, asked = item.text.split(". ")
        assert f" {asked}{item.choices[0]} " in f" {listed} "
    for item in of("lookup"):
        role = re.search(r"The (\w+) is$", item.text)[1]
        assert f"The {role} is{item.choices[0]}." in item.text and item.text.count(f"The {role} is") == 2
        assert all(f" is{name}." in item.text for name in item.choices)


def test_arithmetic_is_right() -> None:
    for item in of("sums"):
        *shown, asked = item.text.split("\n")
        lines = [*(line.split("=") for line in shown), [asked[:-1], item.choices[0]]]
        assert len(lines) == 9 and all(sum(map(int, left.split("+"))) == int(right) for left, right in lines)
    for item in of("counting down"):
        tens, words = zip(*re.findall(r"(\w+)-(\w+)", f"{item.text}{item.choices[0]}"), strict=True)
        one, two, three, four = map(NUMBERS.index, words)
        assert len(set(tens)) == 1
        assert one - two == two - three == three - four > 0


def test_words_agree_with_whom_they_are_of() -> None:
    for item in of("agreement"):
        noun, near = re.fullmatch(r"The (\w+) (?:near|behind|beside|that) the (\w+)(?: \w+)?", item.text).groups()
        assert noun.endswith("s") != near.endswith("s")
        assert (item.choices[0] in (" are", " were", " have")) == noun.endswith("s")
    for item in of("reflexives"):
        *others, actor = re.match(r"(\w+) told (\w+) that (\w+) ", item.text).groups()
        women = {name in WOMEN for name in others}
        assert women == {actor not in WOMEN} and item.choices[0] == (" herself" if actor in WOMEN else " himself")


def test_answers_are_the_likeliest_first_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    model = untrained_model("llama", initializer_range=0.3).eval()
    given = [Item("x", "a b c d e", ("a", "b", "c")), Item("x", "e d c", ("b", "d")), Item("x", "a", ("a", "a"))]
    found = answers(model, tokenizer, given).right
    for item, right in zip(given[:2], found[:2], strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer(item.text)["input_ids"]])).logits[0, -1]
        firsts = [tokenizer(choice)["input_ids"][0] for choice in item.choices]
        assert right == (logits[firsts[0]] == max(logits[first] for first in firsts))
    assert np.isnan(found[2]), "choices that begin with the same token"


def test_an_item_that_a_model_cannot_read_is_not_asked(tokenizer: PreTrainedTokenizerFast) -> None:
    given = [Item("x", "kalo mine " * words, ("a", "b")) for words in (2, 60)]
    found = answers(untrained_model("gpt2"), tokenizer, given)
    assert [bool(one) for one in np.isnan(found.right)] == [False, True]
    assert found.tokens == len(tokenizer(given[0].text)["input_ids"])


def test_nothing_can_be_told_where_no_item_can_be_asked() -> None:
    nothing = np.full(200, np.nan)
    found = guard(MADE, nothing, nothing, 0.95)
    assert (found.rows, found.verdict) == ([], "cannot tell") and "no item" in able(found)


MADE = [Item(task, "", ("a", "b")) for task in ("one", "two") for _ in range(100)]


def made_up(one: int, two: int) -> np.ndarray:
    """How many of each task's hundred items are right."""
    return np.asarray([float(at < count) for count in (one, two) for at in range(100)])


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "lost"),
    [
        ((90, 80), (90, 80), "able", []),
        ((60, 80), (90, 80), "lost", ["one", "all"]),
        ((86, 76), (90, 80), "cannot tell", []),
        ((95, 90), (90, 80), "able", []),
    ],
)
def test_what_was_lost_is_told_by_task(
    ours: tuple[int, int], theirs: tuple[int, int], verdict: str, lost: list[str]
) -> None:
    found = guard(MADE, made_up(*ours), made_up(*theirs), 0.95)
    assert (found.verdict, found.lost) == (verdict, lost) and TOLERANCE == 0.05
    one, _, both = found.rows
    assert (one.model, one.reference, one.items, both.items) == (ours[0] / 100, theirs[0] / 100, 100, 200)
    assert (one.lost, one.won) == (max(0, theirs[0] - ours[0]), max(0, ours[0] - theirs[0]))
    wanted = gap(made_up(*ours)[:100], made_up(*theirs)[:100], confidence=0.975)
    assert (one.low, one.high) == pytest.approx((wanted.low, wanted.high))


def test_its_numbers_stay_in_their_lines_in_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    found = guard(items(), *np.random.default_rng(0).integers(0, 2, (2, len(items()))).astype(float), 0.95)
    for width, first in ((80, "model"), (100, "items")):
        Console(width=width).print(_guard_table(found, width))
        said = capsys.readouterr().out
        assert said.splitlines()[1].split()[0] == first and max(map(len, said.splitlines())) <= width
        for row in found.rows:
            assert (
                f"{row.model:.2f}  " in said
                and f"{row.mean:+.3f} [{row.low:+.3f}, {row.high:+.3f}] {row.lost}, {row.won} " in said
            )


@pytest.mark.parametrize(("right", "verdict"), [(50, "cannot tell"), (62, "able")])
def test_a_reference_at_chance_has_nothing_to_lose(right: int, verdict: str) -> None:
    """Of 200 items with two choices 100 are right by chance, give or take 14; both models answer alike."""
    found = guard(MADE, made_up(right, right), made_up(right, right), 0.95)
    assert found.verdict == verdict and ("no better than chance" in able(found)) == (verdict == "cannot tell")


def test_items_that_one_tokenizer_cannot_tell_apart_are_left_out() -> None:
    ours, theirs = made_up(50, 50), made_up(50, 50)
    ours[:10] = np.nan
    assert [row.items for row in guard(MADE, ours, theirs, 0.95).rows] == [90, 100, 190]


def test_the_guard_needs_a_reference(references) -> None:  # type: ignore[no-untyped-def]
    assert "name it with --reference" in refused("evaluate", str(references("gpt2")), "--guard")
