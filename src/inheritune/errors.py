"""Every error a user can meet, as one small tree.

InherituneError
├── InputError            the user's input is wrong: exit code 2
│   ├── RecipeError       an unknown, mistyped or contradictory recipe key
│   ├── ModelError        a model folder that is missing, damaged or not supported
│   ├── DataError         text that is missing, empty, damaged or too short
│   └── OutputError       a folder that cannot be written, or that belongs to another run
├── ProofError            a cut or grown model that is not what it should be: exit code 2
├── TrainingError         training that cannot go on (a loss that is not finite): exit code 1
├── WorkerError           a process of a torchrun launch that died or hangs: exit code 1
└── Interrupted           stopped by Ctrl-C (130) or SIGTERM (143), and can be continued

Each message is one sentence that names the value and says what to do.
"""


def plain(text: object) -> str:
    """Return a text as one line that is safe in a terminal: control characters escaped, the middle of a long text left out."""
    line = " ".join(str(text).split())
    line = line if len(line) <= 1000 else f"{line[:500]} ... {line[-500:]}"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


def last_line(said: str) -> str:
    """Return the last line of a program's output that is not blank, as `plain` text of at most 300 characters; empty if all are."""
    lines = [line for line in said.splitlines() if line.strip()]
    return plain(lines[-1])[:300] if lines else ""


class InherituneError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class InputError(InherituneError):
    """The user's input is wrong."""

    exit_code = 2


class RecipeError(InputError):
    """A recipe that cannot be carried out as written."""


class ModelError(InputError):
    """A model that is missing, damaged or not supported."""


class DataError(InputError):
    """Text or tokens that are missing, empty, damaged or too short."""


class OutputError(InputError):
    """A place that cannot be written, or that belongs to something else."""


class ProofError(InherituneError):
    """A cut or grown model that is not what it should be."""

    exit_code = 2


class TrainingError(InherituneError):
    """Training that cannot go on."""


class WorkerError(InherituneError):
    """A process of a torchrun launch died or hangs; raised in the processes that are left."""

    def __init__(self, lost: list[int], count: int, told_here: bool, kept: str = "none"):
        who = (
            f"process {', '.join(map(str, lost))} of {count} (counted from 0)" if lost else f"one of {count} processes"
        )
        super().__init__(f"{who} died or hangs; the last checkpoint is {kept}, and the same command goes on from there")
        self.lost, self.count, self.told_here = lost, count, told_here


class Interrupted(InherituneError):
    """Stopped by a signal: a sentence on what work is lost, and the exit code."""

    def __init__(self, said: str, exit_code: int):
        super().__init__(said)
        self.exit_code = exit_code
