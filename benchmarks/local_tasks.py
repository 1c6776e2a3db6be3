"""Write lm-eval task files for evaluation sets that are on this machine: `python benchmarks/local_tasks.py SETS DEST`.

SETS is a folder of `<name>.jsonl[.xz]` files, one object per line, of these shapes: `context`, `choices`, `label`;
`contexts`, `continuation`, `label` (partial scoring, as WinoGrande's); `context`, `continuation` (LAMBADA);
`good`, `bad` (BLiMP); or `<name>.txt[.xz]` in WikiText's form. DEST gets `<name>.yaml` and `<name>.jsonl` for each.
"""

import json
import lzma
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_ACCURACY = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
_BY_LENGTH = {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}
_SHAPES: dict[frozenset[str], dict[str, Any]] = {
    frozenset({"context", "choices", "label"}): {
        "output_type": "multiple_choice", "doc_to_text": "{{context}}", "doc_to_target": "label",
        "doc_to_choice": "choices", "metric_list": [_ACCURACY, _BY_LENGTH],
    },
    frozenset({"contexts", "continuation", "label"}): {
        "output_type": "multiple_choice", "doc_to_text": "label", "doc_to_target": "continuation",
        "doc_to_choice": "contexts", "metric_list": [_ACCURACY],
    },
    frozenset({"context", "continuation"}): {
        "output_type": "loglikelihood", "doc_to_text": "{{context}}", "doc_to_target": "{{' ' + continuation}}",
        "metric_list": [{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}, _ACCURACY],
    },
    frozenset({"good", "bad"}): {
        "output_type": "multiple_choice", "doc_to_text": "", "doc_to_target": 0,
        "doc_to_choice": "{{[good, bad]}}", "metric_list": [_ACCURACY],
    },
    frozenset({"page"}): {
        "output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{page}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
}  # fmt: skip


def main(sets: Path, dest: Path) -> None:
    """Write every set's files; a set of another shape is reported and left out."""
    dest.mkdir(parents=True, exist_ok=True)
    for path in sorted([*sets.glob("*.jsonl*"), *sets.glob("*.txt*")]):
        name = "local_" + re.sub(r"\.(jsonl|txt)(\.xz)?$", "", path.name).replace("-", "_")
        documents = list(_pages(path) if ".txt" in path.suffixes else map(_stripped, map(json.loads, _lines(path))))
        shape = next((task for keys, task in _SHAPES.items() if keys <= documents[0].keys()), None)
        if shape is None:
            print(f"{path.name}: unknown shape {sorted(documents[0])}")
            continue
        rows = dest / f"{name}.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in documents), encoding="utf-8")
        files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows.resolve())}}}
        task = {"task": name, **files, "test_split": "test", **shape, "metadata": {"version": 1.0}}
        (dest / f"{name}.yaml").write_text(yaml.safe_dump(task, sort_keys=False), encoding="utf-8")
        print(f"{name}: {len(documents)} documents")


def _lines(path: Path) -> Iterator[str]:
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        yield from file


def _stripped(row: dict[str, Any]) -> dict[str, Any]:
    """Strip the space before a continuation, since lm-eval puts one there itself."""
    for key in ("choices", "continuation"):
        if key in row:
            row[key] = [each.strip() for each in row[key]] if key == "choices" else row[key].strip()
    return row


def _pages(path: Path) -> Iterator[dict[str, str]]:
    page = ""
    for line in _lines(path):
        if re.fullmatch(r" = [^=].* = \n", line) and page.strip():
            yield {"page": page}
            page = ""
        page += line
    yield {"page": page}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
