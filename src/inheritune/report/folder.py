"""Read a run folder for the report, whether it is complete or not.

A run may be going on, or have been killed: any file may be missing, and a log's last line may be half written.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from inheritune.config.strict_yaml import value_of
from inheritune.disk.files import read_whole
from inheritune.errors import InputError
from inheritune.records.estimate import RunEstimate
from inheritune.records.result import Result

CurvePoint = tuple[float, float]
RowData = Mapping[str, Any]
MOST_LOG = 4 << 30  # bytes
T = TypeVar("T")
Record = TypeVar("Record", RunEstimate, Result)


@dataclass(frozen=True)
class Curve:
    """One round of training: (tokens so far in the run, loss in nats per token) as logged."""

    round: int
    depth: int
    training: list[CurvePoint] = field(default_factory=list)
    validation: list[CurvePoint] = field(default_factory=list)
    gaps: list[CurvePoint] = field(default_factory=list)


@dataclass(frozen=True)
class RunFolder:
    """All that a run folder says. None: the file is not there; `notices` says what could not be read."""

    path: Path
    config: RowData | None
    profile: RowData | None
    choice: RowData | None
    plan: RunEstimate | None
    result: Result | None
    rows: list[RowData]
    controls: dict[str, list[Curve]]
    proofs: dict[str, RowData]
    notices: list[str]

    @property
    def curves(self) -> list[Curve]:
        """The rounds in order, with tokens counted over the whole run."""
        return curves(self.rows)

    def of_kind(self, kind: str) -> list[RowData]:
        """The log's rows of one kind, in order."""
        return [row for row in self.rows if row.get("kind") == kind]

    def logged(self, kind: str, key: str) -> list[float]:
        """The numbers that the log's rows of one kind have under a key, in order."""
        return [float(row[key]) for row in self.of_kind(kind) if _is_number(row.get(key))]


def read_run(path: Path) -> RunFolder:
    """Read a run folder. Raises InputError if there is no such folder or nothing of a run in it."""
    if not path.is_dir():
        raise InputError(f"There is no run folder at {path}; name the folder that `inheritune run --out` wrote.")
    if not any((path / name).exists() for name in ("config.yaml", "metrics.jsonl", "result.json")):
        raise InputError(f"{path} is not a run folder: it holds no config.yaml, metrics.jsonl or result.json.")
    notices: list[str] = []
    ended = (path / "result.json").exists()  # the result holds what was planned, too
    return RunFolder(
        path=path,
        config=_read(path / "config.yaml", _yaml_mapping, notices),
        profile=_read(path / "profile.json", _json_mapping, notices),
        choice=_read(path / "choice.json", _json_mapping, notices),
        plan=None if ended else _read_record(RunEstimate, path / RunEstimate.NAME, notices),
        result=_read_record(Result, path / "result.json", notices),
        rows=_read_log(path / "metrics.jsonl", notices),
        controls={
            log.parent.name: curves(_read_log(log, notices)) for log in sorted(path.glob("controls/*/metrics.jsonl"))
        },
        proofs={
            place.parent.name: proof
            for place in sorted(path.glob("rounds/*/proof.json"))
            if (proof := _read(place, _json_mapping, notices)) is not None
        },
        notices=notices,
    )


def curves(rows: Iterable[RowData]) -> list[Curve]:
    """The log's rounds, with tokens counted over the whole run, whether the log counts them anew in each round or not."""
    found: dict[int, Curve] = {}
    offset = latest = 0.0
    for row in rows:
        if row.get("kind") not in ("step", "validation") or not _is_number(row.get("tokens")):
            continue
        tokens, number = float(row["tokens"]), int(row.get("round", 1))
        if number not in found and tokens + offset < latest:
            offset = latest
        latest = max(latest, tokens + offset)
        curve = found.setdefault(number, Curve(number, int(row.get("depth", 0))))
        _add(curve, row, tokens + offset)
    return list(found.values())


def _add(curve: Curve, row: RowData, tokens: float) -> None:
    # If the loss has distillation terms too, only its cross-entropy on the text is drawn.
    read = {
        "cross_entropy" if "cross_entropy" in row else "loss": curve.training,
        "val_loss": curve.validation,
    }
    for key, points in read.items():
        if _is_number(row.get(key)):
            points.append((tokens, float(row[key])))
    gap = row.get("gap")
    if isinstance(gap, Mapping) and _is_number(gap.get("mean")):
        curve.gaps.append((tokens, float(gap["mean"])))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _read(path: Path, parse: Callable[[str], T], notices: list[str]) -> T | None:
    if not path.exists():
        return None
    try:
        return parse(read_whole(path, MOST_LOG).decode())
    except (OSError, ValueError, RecursionError) as error:
        notices.append(f"{path.name} could not be read: {' '.join(str(error).split())}")
        return None


def _read_log(path: Path, notices: list[str]) -> list[RowData]:
    return _read(path, lambda text: _rows(text, path.name, notices), notices) or []


def _read_record(kind: type[Record], path: Path, notices: list[str]) -> Record | None:
    if not path.exists():
        return None
    try:
        return kind.load(path)
    except InputError as error:
        notices.append(str(error))
        return None


def _json_mapping(text: str) -> RowData:
    return _mapping(json.loads(text))


def _yaml_mapping(text: str) -> RowData:
    return _mapping(value_of(text))


def _mapping(value: object) -> RowData:
    if not isinstance(value, dict):
        raise ValueError("it does not hold a mapping")
    return value


def _rows(text: str, name: str, notices: list[str]) -> list[RowData]:
    """Parse one JSON object per line. A last line cut short by a kill is silently left out; any other is reported."""
    lines = text.splitlines()
    rows: list[RowData] = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_mapping(json.loads(line)))
        except ValueError:
            if number < len(lines):
                notices.append(f"{name}: line {number} could not be read and was left out.")
    return rows
