"""Task scores against lm-eval's own way of loading the same folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from inheritune.errors import InputError
from inheritune.evaluation.tasks import differences, score

lm_eval = pytest.importorskip("lm_eval")


@pytest.fixture
def files(tmp_path: Path, texts: list[str]) -> Path:
    """A multiple-choice task: which of two words goes on."""
    rows = [{"context": t[:40], "choices": [t[41:50], t[60:70]], "label": at % 2} for at, t in enumerate(texts[:12])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "next_word", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{context}}", "doc_to_target": "label",
        "doc_to_choice": "choices", "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    (tmp_path / "next_word.yaml").write_text(yaml.safe_dump(task))
    return tmp_path


def test_scores_equal_lm_evals_own(
    references: Callable[[str], Path], tokenizer: PreTrainedTokenizerFast, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(files / "cache"))
    place = references("gpt2")
    model = AutoModelForCausalLM.from_pretrained(place)
    own = score(model, tokenizer, ["next_word"], files, limit=10)
    manager = lm_eval.tasks.TaskManager(include_path=str(files), include_defaults=False)
    theirs = lm_eval.simple_evaluate(
        model="hf",
        device="cpu",
        model_args=f"pretrained={place},dtype=float32",
        tasks=["next_word"],
        task_manager=manager,
        limit=10,
    )["results"]["next_word"]
    (row,) = own.scores
    assert (row.value, row.error, row.documents) == (theirs["acc,none"], theirs["acc_stderr,none"], 10)
    (same,) = differences(own, own, 0.95)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    values = own.values["next_word", "acc"]
    other = score(AutoModelForCausalLM.from_pretrained(references("qwen3")), tokenizer, ["next_word"], files, limit=10)
    (paired,) = differences(own, other, 0.95)
    assert paired.mean == pytest.approx(sum(values.values()) / 10 - other.scores[0].value)
    with pytest.raises(InputError, match="no_such_task"):
        score(model, tokenizer, ["no_such_task"], files, limit=2)
