"""Public-domain books as the text of an experiment: ten to train on, a passage of each of twenty others to validate on.

git clone https://github.com/rcdm-uga/Gutenberg_Text CLONE
python experiments/book_texts.py CLONE OUT

OUT receives `books.jsonl`, one book per line, and `held.jsonl`, one passage per line. No author is in both. Headers and
licences of Project Gutenberg are left out, and the lines of a paragraph are joined. A passage is a thousand characters from
the middle of a book, so that a run and `evaluate` both read it whole.
"""

import argparse
import csv
import json
import re
import subprocess
from pathlib import Path

COMMIT = "a0b16d35a9851168ce9ac649851c17b7ab08d48e"
CHARACTERS = 1000
BOOKS = Path(__file__).parent / "real-models" / "books.tsv"


def body(raw: str) -> str:
    """The text between the markers of Project Gutenberg, one paragraph per line."""
    inside = re.split(r"^\*\*\* ?(?:START|END) OF [^*]*\*\*\*", raw.replace("\r\n", "\n"), flags=re.MULTILINE)[1]
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", inside))
    return "\n\n".join(part for part in paragraphs if part and "Gutenberg" not in part)


def passage(text: str) -> str:
    """A thousand characters from the first paragraph of the text's second half."""
    return text[text.index("\n\n", len(text) // 2) + 2 :][:CHARACTERS]


def write(clone: Path, out: Path) -> None:
    """Write both files, in the order of `books.tsv`."""
    out.mkdir(parents=True, exist_ok=True)
    sides: dict[str, list[str]] = {"train": [], "held": []}
    for side, path in csv.reader(BOOKS.open(encoding="utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE):
        raw = subprocess.run(["git", "-C", str(clone), "show", f"{COMMIT}:{path}"], check=True, capture_output=True)
        text = body(raw.stdout.decode("utf-8"))
        sides[side].append(json.dumps({"title": Path(path).stem, "text": passage(text) if side == "held" else text}))
    (out / "books.jsonl").write_text("".join(f"{row}\n" for row in sides["train"]), encoding="utf-8")
    (out / "held.jsonl").write_text("".join(f"{row}\n" for row in sides["held"]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, help="a clone of the books")
    parser.add_argument("out", type=Path, help="a folder")
    given = parser.parse_args()
    write(given.clone, given.out)


if __name__ == "__main__":
    main()
