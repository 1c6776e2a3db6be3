"""The options of an evaluation, and the checks of them before anything is measured."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from inheritune.data.files import require_regular
from inheritune.errors import InputError
from inheritune.evaluation import tasks

GGUF = "gguf"  # the only kind of rivals


@dataclass(frozen=True)
class Wanted:
    """What to measure, and how: the command's options by their names.

    At most `documents` documents of the text `data` are read, each up to `characters` characters, in windows of `length` tokens; `field`
    names the text of a row. `generation` times `new` tokens after a prompt of `prompt` tokens, `turns` times. `margin` is in nats per
    token.
    """

    data: str = "bundled:docstrings"
    field: str = "text"
    documents: int = 100
    characters: int = 8_000
    length: int = 1024
    tasks: tuple[str, ...] = ()
    task_files: Path | None = None
    limit: int | None = None
    guard: bool = False
    rivals: str | None = None
    generation: bool = True
    prompt: int = 64
    new: int = 64
    turns: int = 3
    dtype: str = "float32"
    margin: float = 0.01
    confidence: float = 0.95
    trust_remote_code: bool = False

    @classmethod
    def of(cls, named: dict[str, Any]) -> "Wanted":
        """The options that are named, and defaults for the others; InputError for an unknown name."""
        known = [field.name for field in fields(cls)]
        for name in named:
            if name not in known:
                hint = "the text is named by `data`" if name == "text" else f"give some of {', '.join(known)}"
                raise InputError(f"evaluate() has no {name!r}: {hint}")
        return cls(**named)


def refuse(asked: Wanted, has_reference: bool) -> None:
    """Raise InputError for options that cannot be carried out, before anything is measured."""
    if not asked.margin > 0:
        raise InputError(f"the margin is {asked.margin:g}: it should be greater than 0 (--margin)")
    if asked.task_files and not asked.tasks:
        raise InputError(f"no task of {str(asked.task_files)!r} is named: give --tasks")
    if asked.task_files:
        _require_task_files(asked.task_files)
    if asked.guard and not has_reference:
        raise InputError("the guard set compares with a reference: name it with --reference, or leave --guard out")
    if asked.rivals not in (None, GGUF):
        raise InputError(f"--rivals {asked.rivals!r} are unknown: write {GGUF}")
    if asked.rivals and not has_reference:
        raise InputError("rivals are the reference in fewer bits: name it with --reference, or leave --rivals out")
    if asked.tasks:
        tasks.library()  # so that a missing lm-eval is reported before the losses are measured


def _require_task_files(folder: Path) -> None:
    """Raise InputError for pipes and devices, on which lm-eval would wait without end: it opens whatever has the name of a task file."""
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is no folder: give one of lm-eval task files (--task-files)")
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            require_regular(path)
