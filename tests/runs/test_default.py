"""The default run, shortened: the command of the README on the bundled reference and text, its verdict within bounds."""

import json
from pathlib import Path

from shell import command
from transformers import AutoModelForCausalLM

SHORTER = (
    "training.tokens=24576 training.warmup_tokens=4096 training.evaluate_every=3 limits.max_rounds=1 growth.start=18"
    " growth.max_depth=19 choice.sequences=2 choice.heal=true choice.heal_tokens=8192 diagnosis.sequences=2 diagnosis.minutes=0 data.valid_documents=60"
)


def test_a_shortened_default_run_comes_near_to_the_reference(tmp_path: Path) -> None:
    """A thirty-fourth of a round: 18 of 24 blocks, repaired and trained on 24,576 tokens, are worse, and by little."""
    settings = [word for setting in SHORTER.split() for word in ("--set", setting)]
    ended = command("run", "--out", str(tmp_path / "out"), "--json", *settings)
    assert ended.code == 0, ended
    result = json.loads(ended.out)
    (done,) = result["rounds"]
    assert (result["outcome"], done["depth"], done["steps"]) == ("budget_spent", 18, 6)
    assert 3.7 < result["reference"]["val_loss"] < 4.3
    assert 0.1 < done["gap"]["low"] < done["gap"]["high"] < 0.25 and done["gap"]["verdict"] == "worse"
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    gaps = [row["gap"]["mean"] for row in rows if row["kind"] == "validation"]
    assert len(gaps) == 2 and gaps[0] > gaps[1] == done["gap"]["mean"], "training brings it nearer"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "model").config.num_hidden_layers == 18
