"""A made-up run folder with every file a finished run leaves, and the parts to spoil it with."""

import json
import math
import random
from pathlib import Path
from typing import Any

DEPTHS = {
    16: [0, 1, 2, 3, 6, 7, 8, 9, 11, 13, 14, 18, 19, 20, 22, 23],
    18: [0, 1, 2, 3, 6, 7, 8, 9, 11, 12, 13, 14, 15, 18, 19, 20, 22, 23],
    20: [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 18, 19, 20, 21, 22, 23],
}
REFERENCE_LOSS = 3.566
ROUND_TOKENS = 1_228_800
STEP_TOKENS = 8_192
GAPS = {
    16: {"mean": 0.071, "low": 0.065, "high": 0.077, "verdict": "worse"},
    18: {"mean": 0.029, "low": 0.0246, "high": 0.0334, "verdict": "worse"},
    20: {"mean": 0.0041, "low": 0.0003, "high": 0.0079, "verdict": "matched"},
}
RANKS = [9.1, 14.2, 11.8, 21.5, 17.0, 1.9, 12.2, 8.4, 7.7, 5.1, 1.0, 6.2]
RANKS += [3.4, 4.0, 2.9, 2.6, 1.0, 1.0, 3.1, 2.2, 2.4, 1.4, 1.8, 3.9]


def result_data() -> dict[str, Any]:
    """A matched run's result.json as plain data, for a test to change."""
    return {
        "outcome": "matched",
        "message": "20 of 24 blocks match the reference within 0.010 nats per token, after 3 rounds.",
        "reference": {
            "model": "bundled:laptop",
            "depth": 24,
            "parameters": 1_463_616,
            "val_loss": REFERENCE_LOSS,
            "trained_tokens": 8_200_000,
            "tokens_per_parameter": 5.6,
            "footprint": {"weight_bytes": 5_866_840, "dtype": "float32", "cache_bytes_per_token": 12_288},
        },
        "target": {
            "depth": 20,
            "blocks": DEPTHS[20],
            "parameters": 1_263_680,
            "val_loss": 3.5701,
            "written_loss": None,
            "footprint": {"weight_bytes": 5_065_720, "dtype": "float32", "cache_bytes_per_token": 10_240},
        },
        "rounds": [_round(depth) for depth in DEPTHS],
        "margin": 0.01,
        "confidence": 0.95,
        "decisions": [{"round": number, "action": action, "reason": reason} for number, action, reason in _decisions()],
        "controls": None,
        "ledger": _ledger(),
        "model_dir": "runs/laptop/model",
        "report": "runs/laptop/report.html",
        "seed": 0,
        "versions": {
            "python": "3.11.2",
            "torch": "2.13.0+cpu",
            "transformers": "5.24.0",
            "inheritune": "0.1.0",
            "platform": "Linux-6.1-x86_64",
        },
        "command": "inheritune run laptop --out runs/laptop",
        "validation": {
            "documents": 400,
            "tokens": 158_204,
            "looks": 3,
            "look_confidence": 0.967,
            "tokens_needed": 60_000,
            "precision": "fp32",
        },
        "outside": [],
        "guard": None,
        "token_by_token": None,
        "side_by_side": None,
        "recipe": None,
        "planned": None,
    }


def control_data() -> list[dict[str, Any]]:
    """Both controls: the reference trained on ends below the target, the random start far above."""
    return [
        _control("reference", 24, -0.020, 0.004, "surpassed", 1.08e13, "worse"),
        _control("random", 20, 1.412, 0.02, "worse", 9.3e12, "surpassed"),
    ]


def samples_data() -> dict[str, Any]:
    """Two documents side by side: of the first, one token is marked and one strongly."""
    best = {"place": "best", "document": 3, "gap": -0.12, "pieces": ["A", " ship", " sails"], "lost": [0.0, 0.5, 2.25],
            "prompt": 2, "reference": " home", "target": " on"}  # fmt: skip
    worst = {**best, "place": "worst", "document": 0, "gap": 0.4, "lost": [0.0, -3.0, 0.49]}
    return {
        "samples": [best, worst],
        "reference_speed": 100.0,
        "target_speed": 125.0,
        "tokens": 10,
        "flops": 1e6,
        "seconds": 1.0,
    }


def write_run(folder: Path, result: dict[str, Any] | None = None) -> Path:
    """A finished run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "profile.json").write_text(json.dumps(_profile()))
    (folder / "choice.json").write_text(json.dumps(_choice()))
    (folder / "result.json").write_text(json.dumps(result or result_data()))
    _write_log(folder / "metrics.jsonl", _log())
    return folder


def write_controls(folder: Path) -> None:
    """The logs of both controls beside the run's."""
    for name, start, end in (("reference", 0.03, -0.020), ("random", 5.0, 1.412)):
        (folder / "controls" / name).mkdir(parents=True)
        _write_log(folder / "controls" / name / "metrics.jsonl", _round_log(1, 20, start, end, 0))


def _round(depth: int) -> dict[str, Any]:
    return {
        "depth": depth,
        "blocks": DEPTHS[depth],
        "steps": 150,
        "tokens": ROUND_TOKENS,
        "flops": 4.7e11 * depth,
        "seconds": 7.6 * depth,
        "val_loss": REFERENCE_LOSS + GAPS[depth]["mean"],
        "gap": GAPS[depth],
        "further": None,
    }


def _decisions() -> list[tuple[int, str, str]]:
    said = []
    for number, (depth, gap) in enumerate(GAPS.items(), 1):
        interval = f"gap {gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        if gap["verdict"] == "worse":
            ending = f"above the margin 0.010, so growing to {depth + 2}"
        else:
            ending = "below the margin 0.010, so the target matches"
        action = "grow" if gap["verdict"] == "worse" else "stop"
        said.append((number, action, f"{depth} blocks: {interval} {ending}"))
    return said


def _control(
    name: str, depth: int, mean: float, half: float, verdict: str, flops: float, beside_verdict: str
) -> dict[str, Any]:
    beside = GAPS[20]["mean"] - mean
    return {
        "name": name,
        "depth": depth,
        "tokens": ROUND_TOKENS,
        "flops": flops,
        "seconds": 174.0,
        "val_loss": REFERENCE_LOSS + mean,
        "gap": {"mean": mean, "low": mean - half, "high": mean + half, "verdict": verdict},
        "learning_rate": 3e-4,
        "target": {"mean": beside, "low": beside - half, "high": beside + half, "verdict": beside_verdict},
    }


def _ledger() -> dict[str, Any]:
    phases = {
        "diagnosis": {"tokens": 1_600, "flops": 4.7e9, "seconds": 2.1},
        "choice": {"tokens": 3_072 * 60, "flops": 2.1e11, "seconds": 18.4},
        "heal": {"tokens": 32_768 * 3, "flops": 9.6e10, "seconds": 6.2},
        "training": {"tokens": 3 * ROUND_TOKENS, "flops": 2.54e13, "seconds": 410.4},
        "validation": {"tokens": 12 * 158_204, "flops": 4.9e12, "seconds": 52.0},
    }
    total = {key: sum(phase[key] for phase in phases.values()) for key in ("tokens", "flops", "seconds")}
    return {"phases": phases, "total": total}


def _profile() -> dict[str, Any]:
    reason = "20 of 24 blocks are suggested: 3 layers are lazy (10, 16, 17) and one nearly so (21)."
    layers = [{"max_rank": rank, "lazy": rank == 1.0} for rank in RANKS]
    contrasts = [{"name": "untrained", "max_rank": [5.0 + 0.2 * math.sin(layer) for layer in range(24)]}]
    return {
        "layers": layers,
        "threshold": 0.9,
        "contrasts": contrasts,
        "suggestion": {"depth": 20, "blocks": DEPTHS[20], "reason": reason},
    }


def _choice() -> dict[str, Any]:
    reason = "Greedy removal by zero-step loss: at each step the block whose loss is least missed goes."
    depths = {str(depth): blocks for depth, blocks in DEPTHS.items()}
    return {"method": "greedy", "reason": reason, "order": [16, 10, 17, 5, 21, 4, 15, 12], "depths": depths}


def _log() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    starts = {16: 0.58, 18: 0.34, 20: 0.21}
    for number, (depth, gap) in enumerate(GAPS.items(), 1):
        base = (number - 1) * ROUND_TOKENS
        if number > 1:
            rows.append({"kind": "growth", "round": number, "step": 0, "tokens": base, "from": depth - 2, "to": depth})
        rows += _round_log(number, depth, starts[depth], float(gap["mean"]), base)
        _, action, reason = _decisions()[number - 1]
        rows.append({"kind": "decision", "round": number, "action": action, "reason": reason})
    return rows


def _round_log(number: int, depth: int, start: float, end: float, base: int) -> list[dict[str, Any]]:
    """Steps and validations of a round whose gap falls from `start` to `end`."""
    noise = random.Random(f"{number}-{depth}-{start}")
    rows: list[dict[str, Any]] = []
    for step in range(0, 151):
        place = {"round": number, "depth": depth, "step": step, "tokens": base + step * STEP_TOKENS}
        share = step / 150
        gap = end + (start - end) * math.exp(-5 * share) * (1 - share)
        if step % 30 == 0:
            loss = REFERENCE_LOSS + gap
            rows.append(
                {
                    "kind": "validation",
                    **place,
                    "val_loss": loss,
                    "reference_loss": REFERENCE_LOSS,
                    "gap": {"mean": gap, "low": gap - 0.005, "high": gap + 0.005, "verdict": "worse"},
                }
            )
        loss = REFERENCE_LOSS + gap + noise.gauss(0.02, 0.08)
        rows.append({"kind": "step", **place, "flops": 1e10 * step, "loss": loss, "lr": 1e-3 * (1 - share)})
    return rows


def _write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


CONFIG = """\
name: laptop
seed: 0
reference: bundled:laptop
data:
  train: bundled:docstrings
  sequence_length: 256
choice:
  method: greedy
  heal: true
growth:
  start: 16
  add: 2
training:
  optimizer: adamw
  peak_lr: 0.001
  schedule: linear
  tokens: 1228800
  batch_tokens: 8192
match:
  margin: 0.01
  confidence: 0.95
"""
