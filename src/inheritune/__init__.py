"""Inheritune: a pretrained language model in, a smaller one that is as good out.

Importing the package loads neither torch nor transformers; each name loads its module on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from inheritune.errors import (
    DataError,
    InherituneError,
    InputError,
    Interrupted,
    ModelError,
    OutputError,
    ProofError,
    RecipeError,
    TrainingError,
)

if TYPE_CHECKING:
    from inheritune.comparison.status import status
    from inheritune.comparison.sweep import compare
    from inheritune.diagnosis.callback import CollapseCallback
    from inheritune.diagnosis.diagnose import diagnose
    from inheritune.evaluation.evaluate import evaluate
    from inheritune.evidence.forecast import Forecast, forecast
    from inheritune.evidence.gap import Gap, gap
    from inheritune.report.profile import Profile
    from inheritune.runs.plan import plan
    from inheritune.runs.pretrain import train
    from inheritune.runs.run import run
    from inheritune.surgery.in_memory import grow, inherit
    from inheritune.surgery.proof import prove

__version__ = "0.1.0"

_LAZY = {
    "CollapseCallback": "diagnosis.callback",
    "Forecast": "evidence.forecast",
    "Gap": "evidence.gap",
    "Profile": "report.profile",
    "compare": "comparison.sweep",
    "diagnose": "diagnosis.diagnose",
    "evaluate": "evaluation.evaluate",
    "forecast": "evidence.forecast",
    "gap": "evidence.gap",
    "grow": "surgery.in_memory",
    "inherit": "surgery.in_memory",
    "plan": "runs.plan",
    "prove": "surgery.proof",
    "run": "runs.run",
    "status": "comparison.status",
    "train": "runs.pretrain",
}

__all__ = [
    "CollapseCallback",
    "DataError",
    "Forecast",
    "Gap",
    "InherituneError",
    "InputError",
    "Interrupted",
    "ModelError",
    "OutputError",
    "Profile",
    "ProofError",
    "RecipeError",
    "TrainingError",
    "compare",
    "diagnose",
    "evaluate",
    "forecast",
    "gap",
    "grow",
    "inherit",
    "plan",
    "prove",
    "run",
    "status",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'inheritune' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"inheritune.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_LAZY]
