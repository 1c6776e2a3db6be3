"""The embedded corpus as files, with validation text that no recipe was tuned on.

    python benchmarks/held_docstrings.py DEST

DEST/train.jsonl holds the documents that the default run trains on. DEST/held.jsonl holds the rest of the documents that it validates
on, beyond the 512 tokens that it reads: the same kind of text, never trained on by the bundled reference, never looked at in tuning.
"""

import json
import sys
from pathlib import Path

from inheritune.config.loading import load_recipe
from inheritune.config.recipes import RunRecipe
from inheritune.data.corpora import documents
from inheritune.data.kinds.docstrings import DOCSTRINGS
from inheritune.data.tokens import on_validation_side
from inheritune.models.reference import load_reference

LEAST = 64  # tokens that must be left of a document


def main(dest: Path) -> None:
    data = load_recipe(RunRecipe, "laptop", {}).data
    tokenizer, seen = load_reference("bundled:laptop", None).tokenizer, data.valid_tokens_per_document
    dest.mkdir(parents=True, exist_ok=True)
    with (dest / "train.jsonl").open("w") as train, (dest / "held.jsonl").open("w") as held:
        for document in documents(DOCSTRINGS):
            if not on_validation_side(document.name, data.valid_share):
                print(json.dumps({"id": document.name, "text": document.text}), file=train)
                continue
            rest = tokenizer(document.text)["input_ids"][seen:]
            if len(rest) >= LEAST:
                print(json.dumps({"id": document.name, "text": tokenizer.decode(rest)}), file=held)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
