"""The guard set on a real model, on cuts of it and on other models: what each answers right, beside its loss on a text.

    python experiments/guard_real.py OUT --text held.jsonl whole=SmolLM2.gguf 26=0-12,16,18-29 20=0-4,7-11,18-24,27-29 healed=cut20

The first is the whole model, a folder or a GGUF file; each of the others is a folder, or a list of blocks of the first. A model's
answers and losses are kept in OUT: the same command continues after a stop, asks no model twice, and prints the table, which is also
written to OUT/table.md. Seconds are processor seconds. A task ranks the models if no cut answers surely more items right than the
one before it, and the last cut surely fewer than the whole model (95%).
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inheritune.data.corpora import documents
from inheritune.disk.files import write_text
from inheritune.evaluation.guard import answers, counted, guard
from inheritune.evaluation.guard_items import items
from inheritune.evaluation.measure import Text, measure
from inheritune.evidence.gap import gap
from inheritune.models.reference import Reference, load_reference
from inheritune.progress import Progress
from inheritune.surgery.in_memory import inherit

CHARACTERS, LENGTH = 4_000, 1_024


class Found(NamedTuple):
    """Which items a model answers right, each document's nats per token and number of tokens, and the processor seconds of the items."""

    right: list[float]
    losses: list[float]
    tokens: list[float]
    seconds: float

    @property
    def loss(self) -> float:
        """Nats per token over all documents."""
        return float(np.average(self.losses, weights=self.tokens))


def asked(name: str, one: Reference, texts: Sequence[Text]) -> Found:
    """Ask a model all items, and measure its losses on the texts."""
    given, began = items(), time.process_time()
    right = answers(one.model, one.tokenizer, given, count=counted(given, name, Progress())).right
    seconds = time.process_time() - began
    own = measure(one.model, one.tokenizer, texts, LENGTH)
    return Found(right.tolist(), (own.nats / own.tokens).tolist(), own.tokens.tolist(), seconds)


def all_found(named: Sequence[tuple[str, str]], texts: Sequence[Text], out: Path) -> list[Found]:
    """What was found of every model; models that were asked before are read from their files."""
    whole = None
    for name, what in named:
        if (out / f"{name}.json").exists():
            continue
        if Path(what).exists():
            one = load_reference(what)
        else:
            whole = whole or load_reference(named[0][1])
            one = replace(whole, model=inherit(whole.model, what))
        write_text(out / f"{name}.json", json.dumps(asked(name, one, texts)) + "\n")
    return [Found(*json.loads((out / f"{name}.json").read_text(encoding="utf-8"))) for name, _ in named]


def table(names: Sequence[str], found: Sequence[Found]) -> Iterator[str]:
    """The table as Markdown: the share of right answers by task, and differences from the whole model with their intervals."""
    whole, *others = found
    told = [guard(items(), np.asarray(one.right), np.asarray(whole.right), 0.95) for one in others]
    yield f"| | items | chance | {' | '.join(names)} |"
    yield "|---" * (3 + len(names)) + "|"
    for rows in zip(*(one.rows for one in told), strict=True):
        cells = [f"{row.model:.2f}, {row.mean:+.2f} [{row.low:+.2f}, {row.high:+.2f}]" for row in rows]
        yield f"| {rows[0].task} | {rows[0].items} | {rows[0].by_chance:.2f} | {rows[0].reference:.2f} | {' | '.join(cells)} |"
    yield f"| verdict | | | | {' | '.join(one.told for one in told)} |"
    gaps = [gap(one.losses, whole.losses, whole.tokens) for one in others]
    cells = [
        f"{one.loss:.3f}, {it.mean:+.2f} [{it.low:+.2f}, {it.high:+.2f}]" for one, it in zip(others, gaps, strict=True)
    ]
    yield f"| nats per token | | | {whole.loss:.3f} | {' | '.join(cells)} |"
    yield f"| processor seconds | | | {' | '.join(f'{one.seconds:.0f}' for one in found)} |"


def ranking(deepest_first: Sequence[Found]) -> Iterator[str]:
    """Whether each task ranks these models; a line for each task."""
    right = np.asarray([one.right for one in deepest_first])
    for task in dict.fromkeys(item.task for item in items()):
        own = np.asarray([item.task == task for item in items()]) & np.isfinite(right).all(0)
        never_up = all(gap(after[own], before[own]).low <= 0 for before, after in pairwise(right))
        ranks = never_up and gap(right[-1][own], right[0][own]).high < 0
        yield f"- {task}: {', '.join(f'{row[own].mean():.2f}' for row in right)}: {'ranks' if ranks else 'does not rank'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "models", nargs="+", metavar="NAME=PLACE", help="the whole model first; others also NAME=BLOCKS of it"
    )
    parser.add_argument("--text", required=True, help="held out text, as data.train takes it")
    parser.add_argument("--documents", type=int, default=20)
    given = parser.parse_args()
    named = [(name, what) for name, _, what in (each.partition("=") for each in given.models)]
    read = islice(documents(given.text), given.documents)
    texts = [Text(each.text[:CHARACTERS], len(each.text) <= CHARACTERS) for each in read]
    given.out.mkdir(parents=True, exist_ok=True)
    found = all_found(named, texts, given.out)
    cuts = [one for (_, what), one in zip(named, found, strict=True) if one is found[0] or not Path(what).exists()]
    lines = [*table([name for name, _ in named], found), "", *(ranking(cuts) if len(cuts) > 1 else ())]
    write_text(given.out / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
