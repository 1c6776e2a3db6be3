"""The table of docs/reliability.md: every try is carried out, and its answer is printed as Markdown.

    python benchmarks/faults.py > docs/faults-table.md     # about three minutes
    python benchmarks/faults.py --fuzz 2000                # the fuzzers, with 2,000 examples of each

Exits 1 if any try did not end as it should.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "faults")]
os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--fuzz", type=int, help="examples of each fuzzer, instead of the table")
    fuzz = arguments.parse_args().fuzz
    if fuzz:
        import pytest

        os.environ["INHERITUNE_FUZZ"] = str(fuzz)
        return pytest.main(["-v", "--durations=0", str(TESTS / "faults" / "test_fuzz.py")])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INHERITUNE_CACHE"] = str(Path(folder) / "cache")
        return table(Path(folder))


def table(folder: Path) -> int:
    """Print a table of each kind of try; return 1 if any try went wrong, else 0."""
    from tries import make_base
    from tries_table import TABLE

    (folder / "base").mkdir()
    base, failed, made = make_base(folder / "base"), 0, 0
    for kind, tries in TABLE.items():
        print(f"\n### {kind}\n\n| try | exit code | answer |\n|---|---:|---|")
        for tried in tries:
            made += 1
            code, said, wrong = outcome(tried, base, folder / str(made))
            failed += bool(wrong)
            print(
                f"| {tried.name} | {code} | {said}{' **WRONG: ' + '; '.join(wrong) + '**' if wrong else ''} |",
                flush=True,
            )
    print(f"\n{made} tries, {failed} of them not as they should be.")
    return min(1, failed)


def outcome(tried, base: Path, place: Path) -> tuple[str, str, list[str]]:
    """The exit code, the sentence that was answered, without this machine's paths, and what is wrong with them."""
    from tries import NotHere, carry_out

    try:
        ended, wrong = carry_out(tried, base, place)
    except NotHere as reason:
        return "", f"not tried here: {reason}", []
    said = ended.err.strip().removeprefix("inheritune: ").replace(f"{place}/", "").replace(str(place), ".")
    said = re.sub(r"(.{150}).{20,}(.{90})", r"\1 ... \2", said)
    return str(ended.code), re.sub(r"([|<>*\\`_])", r"\\\1", said), wrong


if __name__ == "__main__":
    sys.exit(main())
