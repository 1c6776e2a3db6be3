"""The table of families in docs/families.md: every kind of surgery on every family's tiny model, proved.

    python benchmarks/families.py > docs/families-table.md

"yes": the proof passed. Otherwise what was refused or failed, in words, below the table.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from families import DEPTH, FAMILIES, FIRST, GAPS, OTHERS, REFUSED, REPEATS, from_files, reference

from inheritune.errors import InherituneError
from inheritune.surgery.heal import heal
from inheritune.surgery.in_memory import grow, inherit
from inheritune.surgery.proof import prove

TOKENS_BT = torch.randint(3, 96, (16, 24), generator=torch.Generator().manual_seed(0))


def cut(blocks: list[int]) -> Callable[[str], None]:
    def tried(family: str) -> None:
        model = reference(family)
        prove(inherit(model, blocks), model, blocks).require()

    return tried


def grown(family: str) -> None:
    model = reference(family)
    whole = grow(inherit(model, FIRST), model, held=FIRST, wanted=range(DEPTH))
    prove(whole, model, range(DEPTH)).require()


def parts(family: str) -> None:
    prove(inherit(reference(family), FIRST, parts=["attention"])).require()


def healed(family: str) -> None:
    model = reference(family)
    target = inherit(model, [0, 1, 5])
    heal(target, model, [0, 1, 5], TOKENS_BT)
    prove(target).require()


def files(family: str) -> None:
    from_files(reference(family), FIRST if family in REFUSED else GAPS)


COLUMNS: dict[str, Callable[[str], None]] = {
    "first n": cut(FIRST),
    "gaps": cut(GAPS),
    "repeats": cut(REPEATS),
    "grow": grown,
    "parts": parts,
    "heal": healed,
    "from files": files,
}


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    reasons: list[str] = []
    print(f"| family | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for family in [*FAMILIES, *OTHERS, *REFUSED]:
        cells = []
        for name, tried in COLUMNS.items():
            try:
                tried(family)
                cells.append("yes")
            except InherituneError as error:
                reasons.append(f"{family}, {name}: {error}")
                cells.append(f"no ({len(reasons)})")
        print(f"| {family} | {' | '.join(cells)} |", flush=True)
    print()
    print("\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1)))
    print(f"\ntorch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
