"""What it costs to match a reference, by strategy: total FLOPs until the target is shown to match, including every failed attempt.

    python experiments/compute_to_match.py --seeds 0 1 2 --out runs/yardstick                      # the bundled reference
    python experiments/compute_to_match.py --recipe RECIPE --reference MODEL --data TRAIN --valid HELD --trained-tokens N \\
        --literal-set training.peak_lr=2e-3 --scratch-peak 1.6e-2 --seeds 0 1 2 --out runs/yardstick-mine

Every cell is a run folder under --out: the same command continues after a stop, and nothing is done twice. The
strategies' rules are fixed here, before any of them is run:

  ours      the recipe (`--recipe`, default `laptop`) as it stands.
  literal   the recipe `paper-literal`: the first half of the blocks, everything outside them inherited, whole rounds on a
            cosine; where a round does not match, the target is cut out of the reference again with two more blocks, up to
            all blocks but one. There are two variants: a round has a quarter of the reference's training tokens, or all of
            them; the cheaper one that matches counts. The whole-length variant ends where its training would cost more
            than the quarter variant's, since it can then not be the cheaper; where the quarter did not match, it ends at
            --most-flops, if given. If neither matches, the cost is at least what both spent.
  one-shot  the first n blocks, at the depth where the literal ends, for one of its rounds.
  late      no parent: one block from random weights at a constant rate for 80% of the tokens; then, at once, the literal's
            last depth (copies of the block, and of its optimizer state) for the other 20%, of which the last half decays.
            FLOPs: the literal's total.
  random    the literal's last depth from random weights. FLOPs: the literal's total.
  whole     a control: the whole reference, trained on for as many tokens as `ours`.

Total FLOPs are the run's ledger: diagnosis, choice, probes, repair, every round, every validation. Late and random
spend theirs on training alone, to their advantage.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from inheritune.config.loading import load_recipe, parse_setting
from inheritune.config.recipes import RunRecipe
from inheritune.decoder.anatomy import anatomy
from inheritune.models.reference import load_reference
from inheritune.progress import Progress
from inheritune.records.rows import METRICS
from inheritune.records.stages import Position, RoundEnd
from inheritune.runs.bench import Bench
from inheritune.runs.controls import Controls
from inheritune.runs.folder import close_folder, open_folder
from inheritune.runs.rounds import RoundFolder, newest_checkpoint
from inheritune.runs.run import run
from inheritune.runtime.device import make_repeatable
from inheritune.surgery.in_memory import fresh, grow, growth
from inheritune.surgery.on_optimizer import carry
from inheritune.training import checkpoint
from inheritune.training.costs import step_flops
from inheritune.training.metrics import Metrics

STRATEGIES = ("ours", "literal", "one-shot", "late", "random", "whole")
Row = dict[str, Any]


class Yardstick:
    """All cells of one seed."""

    def __init__(self, given: argparse.Namespace, seed: int):
        self.given, self.folder = given, given.out / f"seed-{seed}"
        self.text = {"seed": seed, **_text(given)}
        self.extra = dict(map(parse_setting, given.set))
        self.literal_extra = dict(map(parse_setting, given.literal_set))

    def rows(self) -> Iterator[Row]:
        """The rows of the chosen strategies; a strategy that another one needs is run as well."""
        for name in self.given.strategies:
            yield from {
                "ours": self.ours, "literal": self.literal, "one-shot": self.one_shot, "late": self.late,
                "random": lambda: self.control("random"), "whole": lambda: self.control("reference"),
            }[name]()  # fmt: skip

    def ours(self) -> list[Row]:
        """The recipe as it stands."""
        return [self._cell("ours", self.given.recipe, **self.extra)]

    def literal(self) -> list[Row]:
        """Both variants, then the one that counts."""
        quarter = self._literal("literal, quarter rounds", self._tokens() // 4)
        matched = quarter["outcome"] == "matched"
        most = {"limits.max_flops": quarter["training_flops"] if matched else self.given.most_flops}
        whole = self._literal("literal, whole rounds", self._tokens(), **most)
        found = [row for row in (quarter, whole) if row["outcome"] == "matched"]
        spent = quarter["flops"] + whole["flops"]
        counts = min(found, key=lambda row: row["flops"]) if found else {**quarter, "flops": spent, "least": True}
        return [quarter, whole, {**counts, "strategy": "literal"}]

    def one_shot(self) -> list[Row]:
        """The literal's last depth, in a single round."""
        last = self.literal()[-1]
        depths = {"growth.start": last["depth"], "growth.max_depth": last["depth"], "limits.max_rounds": 1}
        return [self._literal("one-shot", last["round_tokens"], **depths)]

    def control(self, name: str) -> list[Row]:
        """Random weights at the literal's FLOPs, or the reference trained on for as many tokens as `ours`."""
        bench, folder = self._bench(name)
        try:
            if name == "random":
                last = self.literal()[-1]
                tokens = int(last["flops"] / self._flops_per_token(bench, last["depth"]))
                depth = last["depth"]
            else:
                tokens, depth = self.ours()[0]["tokens"], anatomy(bench.model).depth
            end, rate = Controls(bench, folder, Progress(quiet=True), depth, tokens).train(name)
            found = {**end.model_dump(), "learning_rate": rate}
        finally:
            close_folder(folder)
        return [{"strategy": {"reference": "whole"}.get(name, name), **found, **_verdict(found["gap"])}]

    def late(self) -> list[Row]:
        """One late expansion from scratch."""
        last, (bench, folder) = self.literal()[-1], self._bench("late")
        try:
            each = 0.8 * self._flops_per_token(bench, 1) + 0.2 * self._flops_per_token(bench, last["depth"])
            tokens = last["flops"] / each
            shallow = fresh(bench.model, 1, bench.recipe.seed)
            first = self._stage(bench, folder / "late-1", shallow, {}, Position(), 0.8 * tokens, schedule="constant")
            state, _ = checkpoint.load(newest_checkpoint(folder / "late-1"), shallow)
            wanted = list(range(last["depth"]))
            deep = grow(shallow, bench.model, held=[0], wanted=wanted, start="copied", seed=bench.recipe.seed)
            block_map = growth(shallow, bench.model, [0], wanted, "copied")
            carried = carry([state, {}], block_map, anatomy(deep).path, deep.config)
            done = Position(first.step, first.tokens, first.flops)
            fall = {"schedule": "wsd", "decay_share": 0.5, "warmup_tokens": 0}
            second = self._stage(bench, folder / "late-2", deep, carried, done, 0.2 * tokens, **fall)
        finally:
            close_folder(folder)
        sums = {"flops": first.flops + second.flops, "tokens": first.tokens + second.tokens}
        return [{"strategy": "late", **second.model_dump(), **sums, **_verdict(asdict(second.gap))}]

    def _stage(
        self, bench: Bench, place: Path, model: Any, state: Any, before: Position, tokens: float, **schedule: Any
    ) -> RoundEnd:
        if checkpoint.latest(place / "checkpoints") is None:
            checkpoint.save(place / "checkpoints", model, state, Position())
        training = bench.recipe.training.model_copy(update={"tokens": int(tokens), **schedule})
        depth, metrics = anatomy(model).depth, Metrics(place / METRICS)
        checkpoint.load(newest_checkpoint(place), model)
        return RoundFolder(
            bench, Progress(quiet=True), place, metrics, number=1, depth=depth, training=training, before=before
        ).train(model)

    def _literal(self, name: str, tokens: int, **extra: Any) -> Row:
        return self._cell(name, "paper-literal", **self.literal_extra, **{"training.tokens": tokens}, **extra)

    def _cell(self, name: str, recipe: str, **settings: Any) -> Row:
        """The row of one run, which is made unless its folder already has the result."""
        place = self.folder / name.replace(", ", "-").replace(" ", "-")
        if not (place / "result.json").exists():
            run(recipe, out=str(place), progress=Progress(), **{**self.text, **settings})
        found = json.loads((place / "result.json").read_text(encoding="utf-8"))
        target = next(row for row in reversed(found["rounds"]) if row["blocks"] == found["target"]["blocks"])
        training = found["ledger"]["phases"]["training"]
        return {
            "strategy": name, "outcome": found["outcome"], "depth": found["target"]["depth"],
            "flops": found["ledger"]["total"]["flops"], "training_flops": training["flops"], "tokens": training["tokens"],
            "round_tokens": target["tokens"], "gap": target["gap"], "rounds": [row["depth"] for row in found["rounds"]],
        }  # fmt: skip

    def _tokens(self) -> int:
        """How many tokens the reference was trained on. Raises SystemExit if that is not known."""
        if self.given.trained_tokens:
            return self.given.trained_tokens
        known = load_reference(self.text.get("reference", "bundled:laptop"), None).trained_tokens
        if known is None:
            raise SystemExit("how many tokens the reference was trained on is not known: give --trained-tokens")
        return known

    def _bench(self, name: str) -> tuple[Bench, Path]:
        """Open a cell's bench and folder; cells from random weights have a peak rate of their own."""
        peak = {} if name == "reference" else {"training.peak_lr": self.given.scratch_peak}
        recipe = load_recipe(RunRecipe, "paper-literal", {**self.text, **self.literal_extra, **peak})
        folder = open_folder(self.folder / name, recipe)
        make_repeatable(recipe.seed)
        return Bench(recipe, folder, load_reference(recipe.reference, recipe.revision)), folder

    def _flops_per_token(self, bench: Bench, depth: int) -> float:
        training, length = bench.recipe.training, bench.recipe.data.sequence_length
        return step_flops(fresh(bench.model, depth, 0), training, length) / training.batch_tokens


def _verdict(gap: dict[str, Any]) -> Row:
    return {"outcome": "matched" if gap["verdict"] in ("matched", "surpassed") else "not_matched"}


def _text(given: argparse.Namespace) -> dict[str, Any]:
    pairs = {"reference": given.reference, "data.train": given.data, "data.valid": given.valid}
    return {key: value for key, value in pairs.items() if value is not None}


def table(rows: list[Row]) -> str:
    """The rows as Markdown, with FLOPs relative to the literal's of the same seed."""
    lines = [
        "| strategy | seed | blocks | FLOPs until the match | of the literal's | training tokens | gap [interval] | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    literal = {row["seed"]: row["flops"] for row in rows if row["strategy"] == "literal"}
    for row in rows:
        gap, whole = row["gap"], literal.get(row["seed"])
        sign = "" if row["outcome"] == "matched" else "≥ "
        share = f"{row['flops'] / whole:.2f}" if whole else ""
        lines.append(
            f"| {row['strategy']} | {row['seed']} | {row['depth']} | {sign}{row['flops']:.3g} | {share} | {row['tokens']:,}"
            f" | {gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}] | {gap['verdict']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="laptop", help="what `ours` runs")
    parser.add_argument("--reference", help="folder or hub id, instead of the recipes' own")
    parser.add_argument("--data", help="training text")
    parser.add_argument("--valid", help="validation text that nothing was tuned on")
    parser.add_argument(
        "--trained-tokens", type=int, help="what the reference was trained on, if its folder does not say"
    )
    parser.add_argument("--set", action="append", default=[], help="key=value for ours")
    parser.add_argument("--literal-set", action="append", default=[], help="key=value for the others")
    parser.add_argument("--scratch-peak", type=float, default=1.6e-2, help="peak rate from random weights")
    parser.add_argument("--most-flops", type=float, help="training FLOPs of a literal variant that cannot end else")
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for seed in given.seeds:
        for row in Yardstick(given, seed).rows():
            rows.append({"seed": seed, **row})
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            (given.out / "table.json").write_text(json.dumps(rows, indent=1))
            (given.out / "table.md").write_text(table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
