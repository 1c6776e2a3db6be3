"""Numbers at the edge, as people write them into recipes and commands: refused before anything is measured."""

from collections.abc import Callable

import yaml
from tries import Ground, Try

_WHOLE, _NUMBER, _FINITE = "write a whole number", "write a number", "write a finite number"
_TEXT, _NAME = "write text, in quotes", "letters, digits"
_HUGE = str(1 << 62)


def written(key: str, text: str) -> Callable[[Ground], list[str]]:
    """The tiny recipe in which a key's value is exactly this text; growth holds nothing else."""

    def command(ground: Ground) -> list[str]:
        section, _, name = key.rpartition(".")
        tree = ground.tree
        if section == "growth":
            tree["growth"] = {}
        (tree.setdefault(section, {}) if section else tree)[name] = "HERE"
        return ground.recipe(yaml.safe_dump(tree).replace("HERE", text))

    return command


def given(*arguments: str) -> Callable[[Ground], list[str]]:
    """A command with MODEL, TEXT and DEST in place of the ground's."""

    def command(ground: Ground) -> list[str]:
        places = {"MODEL": ground.model, "TEXT": ground.text, "DEST": ground.path / "dest"}
        return [str(places.get(argument, argument)) for argument in arguments]

    return command


# key: what is written there, and a part of the answer beside the key.
_REFUSED: dict[str, dict[str, str]] = {
    "training.tokens": {
        **dict.fromkeys(("190:20:30", "0x600", "0o3000", "03000", "1__536", "1_", "1e3", ".inf", ".nan", "yes"), _WHOLE),
        **dict.fromkeys(("'1536'", "1,536", "1536 tokens", "~", "[1536]", "{a: 1}", "2001-01-01", "!!float 1536"), _WHOLE),
        "-1536": "greater than 0",
        "0": "greater than 0",
        "١٥٣٦": _WHOLE,
        _HUGE: "less than or equal",
    },
    "training.peak_lr": {"1:30.5": _NUMBER, "on": _NUMBER, ".nan": _FINITE, "-.inf": _FINITE, "-1": "greater than 0",
                         "0": "greater than 0", "1e308": "less than or equal"},
    "training.final_lr": {"1.0000001": "less than or equal to 1", "-1e-9": "greater than or equal to 0"},
    "training.weight_decay": {"1e308": "less than or equal", "-0.1": "greater than or equal to 0"},
    "training.clip": {"0": "greater than 0", ".inf": _FINITE},
    "training.beta1": {"1": "less than 1", "-0.1": "greater than or equal to 0"},
    "training.beta2": {"1": "less than 1"},
    "training.batch_tokens": {"0": "greater than 0", "-256": "greater than 0", _HUGE: "less than or equal"},
    "training.micro_batch_size": {"-8": "greater than or equal to 1", "8.0": _WHOLE},
    "training.warmup_tokens": {"-1": "greater than or equal to 0", _HUGE: "less than or equal"},
    "training.decay_share": {"0": "greater than 0", "1.1": "less than or equal to 1"},
    "training.evaluate_every": {"0": "greater than or equal to 1", "-1": "greater than or equal to 1"},
    "training.checkpoint_every": {"0": "greater than or equal to 1"},
    "training.checkpoints_kept": {"0": "greater than or equal to 1"},
    "training.max_skipped": {"-1": "greater than or equal to 0"},
    "training.checkpoint_activations": {"1": "true or false", "'yes'": "true or false"},
    "match.margin": {"1e308": "less than or equal", "0": "greater than 0", "-0.0": "greater than 0", "1%": _NUMBER},
    "match.guard": {"0": "greater than 0", "0.6": "less than or equal", "yes": _NUMBER},
    "match.confidence": {"0.9999999999999999": "less than or equal", "1": "less than or equal", "0.5": "greater than 0.5",
                         "0": "greater than 0.5", "-1": "greater than 0.5", "95": "less than or equal", "95%": _NUMBER},
    "growth.start": {"0": "greater than or equal to 1", "-1": "greater than or equal to 1", "1.5": _WHOLE,
                     "5": "growth.max_depth is not given, so 4", "6": "5 blocks", _HUGE: "less than or equal"},
    "growth.add": {"0": "greater than or equal to 1", "-1": "greater than or equal to 1"},
    "growth.max_depth": {"0": "greater than or equal to 1", "6": "5 blocks", "-2": "greater than or equal to 1"},
    "data.sequence_length": {"0": "greater than or equal to 2", "1": "greater than or equal to 2",
                             "-32": "greater than or equal to 2", _HUGE: "less than or equal"},
    "data.valid_share": {"0": "greater than 0", "1": "less than 1", "-0.1": "greater than 0", "1e-320": "0 for validation",
                         "0.999999": "0 for training"},
    "data.valid_documents": {"1": "greater than or equal to 2"},
    "data.valid_tokens_per_document": {"1": "greater than or equal to 2", _HUGE: "less than or equal"},
    "data.outside_tokens": {"1": "greater than or equal to 2"},
    "data.begin": {"''": "at least 1 character", "[1]": _TEXT, "99": _TEXT, '"\\x1b[2J"': "\\x1b[2J"},
    "diagnosis.sequences": {"1": "greater than or equal to 2"},
    "diagnosis.length": {"7": "greater than or equal to 8", "65": "64 positions", "-1": "greater than or equal to 8"},
    "diagnosis.threshold": {"0": "greater than 0", "1": "less than 1"},
    "diagnosis.minutes": {"-1": "greater than or equal to 0", ".inf": _FINITE},
    "diagnosis.watch_every": {"-1": "greater than or equal to 0"},
    "choice.sequences": {"0": "greater than or equal to 1"},
    "choice.minutes": {"-1": "greater than or equal to 0"},
    "choice.heal_tokens": {"255": "greater than or equal to 256"},
    "choice.blocks": {"0-4": "growth.max_depth 2", "4": _TEXT, "1e3": _TEXT, "-1": _TEXT},
    "seed": {"-1": "greater than or equal to 0", "1.0": _WHOLE, "yes": _WHOLE, "0x1": _WHOLE, "1:00": _WHOLE},
    "name": {"''": _NAME, "'..'": _NAME, "con/..": _NAME, "'a b'": _NAME, '"\\u202e"': _NAME, '"a\\nb"': _NAME,
             "x" * 101: _NAME, "no": _TEXT, "1e5": _TEXT, "~": _TEXT, "'.hidden'": _NAME},
    "limits.max_rounds": {"0": "greater than or equal to 1"},
    "limits.max_tokens": {"0": "greater than 0", "-5": "greater than 0", "1e6": _WHOLE},
    "limits.max_flops": {"0": "greater than 0", ".inf": _FINITE, "-1e9": "greater than 0"},
    "limits.max_seconds": {"0": "greater than 0", "1:30": _NUMBER},
    "processes.timeout_seconds": {"0": "greater than 0.01", "1e308": "less than or equal"},
    "processes.parallel": {"dp": "'ddp' or 'fsdp'"},
    "objective.cross_entropy": {"-1": "greater than or equal to 0", "1e308": "less than or equal to 1000"},
    "objective.logits": {"1e308": "less than or equal to 1000"},
    "objective.temperature": {"0": "0.01", "1e-320": "0.01", "1e308": "less than or equal to 100"},
    "objective.hidden": {"-0.1": "greater than or equal to 0"},
    "objective.layers": {"{a: 0}": _WHOLE, "{0.5: 1}": _WHOLE, "[1]": "mapping"},
    "track": {"[sql]": "'tensorboard'", "wandb": "list"},
    "model_dtype": {"int4": "'bfloat16'"},
    "controls": {"1": "true or false"},
}  # fmt: skip
_YAML = {"99999999999999999999": "64 bits", "!!int 190:20": "decimal digits", "!!int ''": "decimal digits",
         "!!float 1:30": "decimal digits"}  # fmt: skip
_DIAGNOSE = (
    "diagnose",
    "MODEL",
    "--text",
    "TEXT",
    "--quiet",
    "--sequences",
    "2",
    "--length",
    "16",
    "--curve-sequences",
    "0",
)
_EVALUATE = ("evaluate", "MODEL", "--data", "TEXT", "--quiet", "--no-generation", "--documents", "4")
_CUT = ("inherit", "MODEL", "DEST", "--outside", "none", "--blocks")
_COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "diagnose --length beyond the text": ((*_DIAGNOSE, "--length", "99999999999"), ("99999999999", "--length")),
    "diagnose --other-length 1": ((*_DIAGNOSE, "--other-length", "1"), ("1 tokens", "at least 2")),
    "diagnose --threshold nan": ((*_DIAGNOSE, "--threshold", "nan"), ("nan", "between 0 and 1")),
    "diagnose --threshold 1": ((*_DIAGNOSE, "--threshold", "1"), ("1.0", "between 0 and 1")),
    "diagnose --threshold -1": ((*_DIAGNOSE, "--threshold", "-1"), ("-1.0", "between 0 and 1")),
    "evaluate --margin nan": ((*_EVALUATE, "--margin", "nan"), ("nan", "--margin")),
    "evaluate --margin 0": ((*_EVALUATE, "--margin", "0"), ("the margin is 0", "--margin")),
    "evaluate --margin -1": ((*_EVALUATE, "--margin", "-1"), ("-1", "--margin")),
    "evaluate --characters 2": ((*_EVALUATE, "--characters", "2"), ("4 documents", "--characters")),
    "evaluate --dtype int8": ((*_EVALUATE, "--dtype", "int8"), ("'int8'", "bfloat16")),
    "inherit --seed beyond 64 bits": ((*_CUT, "0-2", "--seed", "9" * 23), ("Overflow",)),
    "inherit --blocks beyond reason": ((*_CUT, "0-99999999999"), ("0-99999999999", "ranges")),
    "inherit --blocks 20,000 times": ((*_CUT, ",".join("0" * 20_000)), ("20000 blocks", "4096")),
    "inherit --blocks of other digits": ((*_CUT, "0-²"), ("²", "ranges")),
    "prepare --valid-share nan": (("prepare", "TEXT", "DEST", "--tokenizer", "MODEL", "--valid-share", "nan"), ("nan", "below 1")),
    "prepare --valid-share 1": (("prepare", "TEXT", "DEST", "--tokenizer", "MODEL", "--valid-share", "1"), ("1.0", "below 1")),
    "prepare --valid-share -0.1": (("prepare", "TEXT", "DEST", "--tokenizer", "MODEL", "--valid-share", "-0.1"), ("-0.1", "below 1")),
    "compare --shard ²/3": (("compare", "--shard", "²/3"), ("²/3", "i/n")),
    "compare --shard 0/0": (("compare", "--shard", "0/0", "--out", "DEST"), ("0/0", "from 1")),
}  # fmt: skip

NUMBERS = [
    Try(
        "more steps than can be counted", written("training.tokens", "1000000000000"), ("1,073,741,824 steps", "(256)")
    ),
    *(
        Try(f"{key}: {text[:40]}", written(key, text), (key, says))
        for key, answers in _REFUSED.items()
        for text, says in answers.items()
    ),
    *(
        Try(f"a number: {text}", written("training.tokens", text), ("recipe.yaml", says))
        for text, says in _YAML.items()
    ),
    *(Try(name, given(*arguments), says) for name, (arguments, says) in _COMMANDS.items()),
]
