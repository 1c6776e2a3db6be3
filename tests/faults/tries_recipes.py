"""Recipes that cannot be carried out as they are written."""

from collections.abc import Callable
from typing import Any

import yaml
from tries import Ground, Try

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def changed(name: str, says: tuple[str, ...], /, **changes: Any) -> Try:
    """The tiny recipe with other values."""
    return Try(name, lambda ground: ground.run(**changes), says)


def written(name: str, text: str | bytes, *says: str) -> Try:
    """A recipe of exactly this text."""
    return Try(name, lambda ground: ground.recipe(text), says)


def more(text: str) -> Callable[[Ground], list[str]]:
    """The tiny recipe with lines after it."""
    return lambda ground: ground.recipe(yaml.safe_dump(ground.tree) + text)


def setting(*settings: str) -> Callable[[Ground], list[str]]:
    """The tiny recipe, changed on the command line."""
    return lambda ground: [*ground.run(), *(part for one in settings for part in ("--set", one))]


def without(key: str) -> Callable[[Ground], list[str]]:
    """The tiny recipe without a section."""
    return lambda ground: ground.recipe(yaml.safe_dump({k: v for k, v in ground.tree.items() if k != key}))


def other_run(**changes: Any) -> Callable[[Ground], list[str]]:
    """A run in the folder of a run with other values."""

    def command(ground: Ground) -> list[str]:
        from inheritune.config.loading import check
        from inheritune.config.recipes import RunRecipe
        from inheritune.runs.folder import close_folder, open_folder

        close_folder(open_folder(ground.out, check(RunRecipe, ground.tree)))
        return ground.run(**changes)

    return command


RECIPES = [
    Try("unknown key", more("colour: red\n"), ("'colour'", "inheritune config")),
    changed("mistyped key", ("'training.peek_lr'", "'training.peak_lr'"), training__peek_lr=1e-4),
    changed("mistyped section", ("'trainin'", "'training'"), trainin={"tokens": 1}),
    changed("key of another section", ("'match.tokens'", "training.tokens"), match__tokens=5),
    Try("a section is missing", without("training"), ("lacks 'training'", "inheritune config")),
    Try("a section is a value", more("limits: 5\n"), ("'limits'", "5")),
    Try("a section is empty", more("limits:\n"), ("'limits'", "None")),
    changed("a word where a number belongs", ("'training.peak_lr'", "'fast'", "number"), training__peak_lr="fast"),
    changed("a unit in a number", ("'training.tokens'", "'10M'", "10_000_000"), training__tokens="10M"),
    changed("a fraction of a token", ("'training.tokens'", "1536.5"), training__tokens=1536.5),
    changed("yes where a number belongs", ("'training.tokens'", "True"), training__tokens=True),
    changed("a number below the least", ("'training.micro_batch_size'", "0"), training__micro_batch_size=0),
    changed("a number above the most", ("'match.confidence'", "2"), match__confidence=2.0),
    changed("an infinite learning rate", ("'training.peak_lr'", "inf", "finite"), training__peak_lr=float("inf")),
    changed("a margin that is no number", ("'match.margin'", "nan"), match__margin=float("nan")),
    changed("an unknown choice", ("'training.optimizer'", "'sgd'", "adamw"), training__optimizer="sgd"),
    changed("warm-up longer than the run", ("warmup_tokens (4,096)", "tokens (1,536)"), training__warmup_tokens=4096),
    changed(
        "warm-up and decay longer than the run",
        ("warmup_tokens", "decay_share", "1,536"),
        training__schedule="wsd",
        training__decay_share=0.9,
        training__warmup_tokens=512,
    ),
    changed("a final rate above the peak", ("'training.final_lr'", "2.0"), training__final_lr=2.0),
    changed("a batch above the run", ("batch_tokens (4,096)", "tokens (1,536)"), training__batch_tokens=4096),
    changed(
        "a batch that is no whole sequences",
        ("batch_tokens (250)", "sequence_length (32)"),
        training__batch_tokens=250,
    ),
    changed(
        "a micro-batch above the batch",
        ("micro_batch_size (16)", "batch_tokens (256)"),
        training__micro_batch_size=16,
    ),
    changed(
        "a sequence beyond the positions",
        ("data.sequence_length is 128", "64 positions"),
        data__sequence_length=128,
        training__micro_batch_size=2,
    ),
    changed("a diagnosis beyond the positions", ("diagnosis.length is 100", "64"), diagnosis__length=100),
    changed("limits below one round", ("limits.max_tokens (100)", "1,536"), limits={"max_tokens": 100}),
    changed("a start below 1", ("'growth.start'", "0"), growth__start=0),
    changed("a start above the depth", ("growth.start is 6", "5 blocks"), growth__start=6, growth__max_depth=None),
    changed("an end above the depth", ("growth.max_depth is 9", "5 blocks"), growth__max_depth=9),
    changed("a start above the end", ("growth.start is 3", "growth.max_depth 2"), growth__start=3),
    changed("blocks that are no numbers", ("'a'", "'a,b'"), choice__blocks="a,b"),
    changed("blocks beyond the depth", ("choice.blocks is '0-7'", "0-4"), choice__blocks="0-7"),
    changed("blocks that run backwards", ("3-1", "1-3"), choice__blocks="3-1"),
    changed("blocks twice", ("choice.blocks is '0,0,1'",), choice__blocks="0,0,1"),
    changed("a name that climbs out", ("'name'", "'../../mine'", "letters"), name="../../mine"),
    Try("a key twice", more("seed: 1\nseed: 2\n"), ("'seed'", "twice")),
    written("an empty recipe", "", "recipe.yaml", "empty"),
    written("a recipe that is a list", "- a\n- b\n", "recipe.yaml", "list"),
    written("broken YAML", "name: [tiny\n", "recipe.yaml", "line 2"),
    written("a recipe that is no text", bytes(range(128, 256)) * 4, "recipe.yaml", "UTF-8"),
    written("a YAML bomb of aliases", _BOMB, "recipe.yaml", "alias"),
    written("YAML of absurd depth", "a: " + "[" * 5000, "recipe.yaml", "deep"),
    written("a recipe of absurd size", "a: 1\n" + "#" * (2 << 20), "recipe.yaml", "262,144"),
    written("YAML that builds objects", "name: !!python/object/apply:os.getcwd []\n", "recipe.yaml", "python"),
    written("a number of absurd length", "seed: " + "9" * 5000 + "\n", "recipe.yaml"),
    written("a date that is none", "name: 2001-99-99\n", "lacks 'data'"),
    written("keys that are no words", "{1: 2, [a]: b}\n", "recipe.yaml"),
    Try("a recipe that is missing", lambda ground: ["run", "./mine.yaml"], ("'./mine.yaml'", "laptop")),
    Try("a recipe that is a folder", lambda ground: ["run", str(ground.model)], ("model'", "recipe")),
    Try("--set without a value", setting("match.margin"), ("'match.margin'", "key=value")),
    Try("--set of an unknown key", setting("match.margni=1"), ("'match.margni'", "'match.margin'")),
    Try("--set inside a value", setting("name.first=1"), ("name.first", "holds no keys")),
    Try("--set of broken YAML", setting("name=[a"), ("name", "'[a'")),
    Try("another recipe's run folder", other_run(seed=3), ("seed = 0", "3", "--out")),
    Try(
        "another rate in a run's folder",
        other_run(training__peak_lr=2e-4),
        ("training.peak_lr = 0.0001", "0.0002", "--out"),
    ),
]
