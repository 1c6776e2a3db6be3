"""The algorithm's hands: each step done on the bench, written to the run folder, and not done twice."""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from inheritune.choosing import CRITERIA, Choice, Search
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.diagnosis.diagnose import diagnose
from inheritune.disk.folders import whole_folder
from inheritune.errors import RecipeError
from inheritune.evidence.gap import Gap
from inheritune.evidence.ledger import Spent
from inheritune.evidence.power import DIFFERENCE, tokens_needed
from inheritune.evidence.sequential import look_confidence
from inheritune.models.load import DTYPES
from inheritune.models.quiet import quiet
from inheritune.progress import Progress, Rates
from inheritune.records.profile import Profile
from inheritune.runs.actions import Action, Finished, Grow, Inherit, Plan, Stop
from inheritune.runs.algorithm import Ask
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once, timed
from inheritune.runs.planning import make_plan, of_steps
from inheritune.runs.rounds import Round, blocks_name, latest
from inheritune.runs.trackers import trackers
from inheritune.runtime import processes
from inheritune.surgery.blockmap import parse, show
from inheritune.surgery.heal import heal
from inheritune.surgery.in_memory import assemble, growth, inherit
from inheritune.surgery.on_optimizer import carry
from inheritune.surgery.proof import prove
from inheritune.training import checkpoint
from inheritune.training.checkpoint import Position
from inheritune.training.metrics import Metrics, Row
from inheritune.training.optimizer import State
from inheritune.training.schedule import learning_rate
from inheritune.words import plural

_NAMES = {Inherit: "inherit", Grow: "grow", Stop: "stop"}


class FolderLab:
    """Carries the algorithm's steps out in a run folder."""

    def __init__(self, recipe: RunRecipe, folder: Path, bench: Bench, progress: Progress):
        self.recipe, self.folder, self.bench, self.progress = recipe, folder, bench, progress
        self.metrics = Metrics(folder / "metrics.jsonl", trackers(recipe.track, recipe.name, folder))
        self.depth = anatomy(bench.model).depth
        self.chosen = self._by_hand()
        self._refuse_depths()
        self.blocks: dict[int, list[int]] = {}
        self.looks, self.confidence = 1, recipe.match.confidence

    def diagnose(self) -> Profile:
        """Measure the reference; `profile.json` and `diagnosis.json` (its cost)."""
        place = self.folder / "profile.json"
        self.progress.stage(f"Diagnosis of {self.bench.reference.name}, {self.depth} blocks")

        def measure() -> dict[str, Any]:
            wanted, kept = self.recipe.diagnosis, self.folder / "cuts.jsonl"
            profile = diagnose(
                self.bench.model,
                self.bench.sequences(wanted.sequences, wanted.length),
                threshold=wanted.threshold,
                minutes=wanted.minutes,
                kept=kept,
                tell=Rates(self.progress),
            )
            profile.save(place)
            kept.unlink(missing_ok=True)
            return asdict(self._diagnosis_cost(profile))

        once(self.folder / "diagnosis.json", measure)
        profile = Profile.load(place)
        lazy = f"lazy: {show(profile.lazy_layers)}" if profile.lazy_layers else "none is lazy"
        self.progress.note(f"of {self.depth} layers {lazy}; {profile.suggestion.reason}")
        return profile

    def choose(self, profile: Profile) -> Choice:
        """Order the blocks; `choice.json`."""
        wanted = self.recipe.choice

        def measure() -> dict[str, Any]:
            tokens_BT = self.bench.sequences(wanted.sequences, self.recipe.data.sequence_length)
            choice, seconds = timed(lambda: CRITERIA[wanted.method](self.bench.model, tokens_BT, profile, search))
            order = self._with_hand(choice.order)
            depths = {
                n: [b for b in range(self.depth) if b not in order[: self.depth - n]] for n in range(1, self.depth + 1)
            }
            return {**asdict(choice), "order": order, "seconds": seconds, "depths": depths}

        count = partial(Rates(self.progress), f"Choice of blocks: {wanted.method}")
        search = Search(self._shallowest(), wanted.minutes, self.folder / "removals.jsonl", count)
        found = once(self.folder / "choice.json", measure)
        if search.kept:
            search.kept.unlink(missing_ok=True)
        choice = Choice(
            found["method"],
            found["reason"],
            self.depth,
            tuple(found["order"]),
            found["tokens"],
            found["flops"],
        )
        self.progress.note(f"Choice: {choice.reason}. First to go: {', '.join(map(str, choice.order[:6]))}")
        return choice

    def plan(self, choice: Choice) -> Plan:
        """Depths and limits, from the recipe and what the cuts lose untrained (`untrained.json`)."""
        plan = make_plan(self.bench, self.folder, choice, len(self.chosen) if self.chosen else None)
        self.looks, self.confidence = plan.looks, look_confidence(self.recipe.match.confidence, plan.looks)
        self.progress.note(
            f"At most {plural(plan.looks, 'look')} may call a match, each at {100 * self.confidence:.3g}% confidence, so that the whole"
            f" run errs in less than {100 * (1 - self.recipe.match.confidence):.2g}%"
        )
        return plan

    def inherit(self, round_: int, choice: Choice, depth: int) -> None:
        """Cut the first target, prove it, repair it."""
        blocks = choice.blocks(depth)

        def cut(beside: Path) -> tuple[PreTrainedModel, State, dict[str, Any]]:
            target = inherit(self.bench.model, blocks, seed=self.recipe.seed)
            with quiet():
                prove(target, self.bench.model, blocks).require().save(beside / "proof.json")
            return target, {}, self._heal(target, blocks)

        self._begin(round_, blocks, cut)

    def grow(self, round_: int, choice: Choice, depth: int) -> None:
        """The target of the round before, deeper by the next blocks of the choice; its optimizer state goes along."""
        if self.recipe.growth.literal:
            return self.inherit(round_, choice, depth)
        held, blocks = self.blocks[round_ - 1], choice.blocks(depth)

        def deeper(beside: Path) -> tuple[PreTrainedModel, State, dict[str, Any]]:
            reference, seed = self.bench.model, self.recipe.seed
            target = inherit(reference, held, seed=seed)
            state, _ = checkpoint.load(latest(self._folder(round_ - 1)), target)
            block_map = growth(target, reference, held, blocks, self.recipe.growth.new_blocks)
            grown = assemble([target, reference], block_map, seed)
            against = ([target, reference], block_map) if block_map.whole else (None, None)
            with quiet():
                prove(grown, *against).require().save(beside / "proof.json")
            carried = carry([state, {}], block_map, anatomy(grown).path, grown.config)
            return grown, carried, {**asdict(Spent()), "growth": self._grown(round_, grown)}

        self._begin(round_, blocks, deeper)
        self._note_once(self.started(round_)["growth"])

    def _grown(self, round_: int, model: PreTrainedModel) -> Row:
        """A growth step for the metrics: the validation loss on both sides of it, and what the learning rate does."""
        before, after = self.round(round_).before, self.bench.compare(model)
        rates = [row["lr"] for row in self.metrics.rows() if row["kind"] == "step"]
        return {
            "kind": "growth", "round": round_, "step": before.step, "tokens": before.tokens, "flops": before.flops,
            "from": len(self.blocks[round_ - 1]), "to": len(self.blocks[round_]),
            "new_blocks": self.recipe.growth.new_blocks,
            "loss_before": self.finished(round_ - 1)["val_loss"], "loss_after": after.val_loss,
            "lr_before": rates[-1], "lr": learning_rate(self.recipe.training, 0),
            "cost": {"tokens": after.tokens, "flops": after.flops, "seconds": after.seconds},
        }  # fmt: skip

    def train(self, round_: int, steps: int, ask: Ask) -> None:
        """Train the round's target to its end, or to where `ask` ends it."""
        once(self._folder(round_) / "steps.json", lambda: {"steps": steps})
        round_of = self.round(round_)
        if not (round_of.folder / "round.json").exists():
            self.progress.stage(f"Round {round_}: {round_of.depth} blocks ({show(self.blocks[round_])})")
        round_of.train(self.target(round_), ask)

    def compare(self, round_: int) -> Finished:
        """What the round's end gave."""
        found = self.finished(round_)
        gap, seen = Gap(**found["gap"]), self.round(round_).seen()
        if round_ == 1:
            self.progress.note(
                f"{self.tokens_needed(gap):,} validation tokens of this kind would show a difference of {DIFFERENCE:g} nats"
                f" per token; there are {self.bench.documents.tokens:,}"
            )
        return Finished(found["depth"], gap, found["tokens"], found["flops"], found["seconds"], seen)

    def tokens_needed(self, gap: Gap) -> int:
        """Validation tokens that would show a small difference, from one that was measured."""
        return tokens_needed(gap, self.bench.documents.tokens, self.confidence)

    def note(self, round_: int, action: Action) -> None:
        """Say what was decided, and keep it in the metrics once."""
        name = _NAMES.get(type(action))
        if name is None:
            return
        row = {
            "kind": "decision",
            "round": max(1, round_ - (name != "inherit")),
            "action": name,
            "reason": action.reason,
        }
        self._note_once(row)
        self.progress.note(action.reason[0].upper() + action.reason[1:])

    def finished(self, round_: int) -> dict[str, Any]:
        """A finished round as it was written down."""
        return json.loads((self._folder(round_) / "round.json").read_text(encoding="utf-8"))

    def started(self, round_: int) -> dict[str, Any]:
        """How a round started: its blocks, and the repair's cost and gain."""
        return json.loads((self._folder(round_) / "start.json").read_text(encoding="utf-8"))

    def target(self, round_: int) -> PreTrainedModel:
        """The round's target with the weights of its newest checkpoint."""
        model = inherit(self.bench.model, self.blocks[round_], seed=self.recipe.seed)
        checkpoint.load(latest(self._folder(round_)), model)
        return model

    @property
    def model_dtype(self) -> torch.dtype:
        """The dtype that the model is written in."""
        wanted = self.recipe.model_dtype
        return self.bench.reference.dtype if wanted == "auto" else DTYPES[wanted]

    def round(self, round_: int) -> Round:
        """The round as something to train."""
        before = Position()
        for done in map(self.finished, range(1, round_)):
            before.step, before.tokens = before.step + done["step"], before.tokens + done["tokens"]
            before.flops, before.seconds = before.flops + done["flops"], before.seconds + done["seconds"]
        return Round(
            self.bench, self.progress, self._folder(round_), self.metrics,
            number=round_, depth=len(self.blocks[round_]), training=self._training(round_), before=before,
            confidence=self.confidence, objective=self.recipe.objective,
        )  # fmt: skip

    def _training(self, round_: int) -> Training:
        """The round's training: as many steps as the limits left it when it began."""
        place = self._folder(round_) / "steps.json"
        steps = json.loads(place.read_text(encoding="utf-8"))["steps"] if place.exists() else None
        return self.recipe.training if steps is None else of_steps(self.recipe.training, steps)

    def _folder(self, round_: int) -> Path:
        return self.folder / "rounds" / blocks_name(round_, self.blocks[round_])

    def _begin(
        self, round_: int, blocks: list[int], make: Callable[[Path], tuple[PreTrainedModel, State, dict[str, Any]]]
    ) -> None:
        """Make a round's first checkpoint in a folder beside, and move it into place when it is whole."""
        self.blocks[round_] = blocks
        place = self._folder(round_)

        def begin() -> None:
            if place.exists():
                return
            with whole_folder(place) as beside:
                model, state, start = make(beside)
                checkpoint.save(beside / "checkpoints", model, state, Position())
                once(beside / "start.json", lambda: {"blocks": blocks, **start})

        processes.on_main(begin)

    def _note_once(self, row: Row) -> None:
        if row not in self.metrics.rows():
            self.metrics.add(row)

    def _heal(self, model: PreTrainedModel, blocks: list[int]) -> dict[str, Any]:
        if not self.recipe.choice.heal:
            return asdict(Spent())
        length = self.recipe.data.sequence_length
        tokens_BT = self.bench.sequences(max(2, self.recipe.choice.heal_tokens // length), length)
        healing, seconds = timed(lambda: heal(model, self.bench.model, blocks, tokens_BT))
        worse = healing.loss_after > healing.loss_before
        told = ", which is no better: choice.heal: false leaves it out" if worse else ""
        self.progress.note(
            f"Repaired in {seconds:.0f} s: loss {healing.loss_before:.3f} to {healing.loss_after:.3f} before any training{told}"
        )
        spent = Spent(healing.tokens, healing.flops, seconds)
        return {
            **asdict(spent),
            "loss_before": healing.loss_before,
            "loss_after": healing.loss_after,
            "places": healing.places,
        }

    def _by_hand(self) -> list[int] | None:
        if self.recipe.choice.blocks is None:
            return None
        blocks = parse(self.recipe.choice.blocks)
        if blocks != sorted(set(blocks)) or blocks[-1] >= self.depth:
            raise RecipeError(
                f"choice.blocks is {self.recipe.choice.blocks!r}: name blocks of 0-{self.depth - 1}, rising, each once"
            )
        return blocks

    def _shallowest(self) -> int:
        """The least depth that can be asked for; what is named by hand is ordered beside all other blocks."""
        growth = self.recipe.growth
        if self.chosen:
            return 1
        return growth.start or (self.depth // 2 if growth.literal else 1)

    def _with_hand(self, order: tuple[int, ...]) -> list[int]:
        """The criterion's order, with the blocks chosen by hand going last."""
        chosen = self.chosen or []
        return [b for b in order if b not in chosen] + [b for b in order if b in chosen]

    def _refuse_depths(self) -> None:
        for key, value in (
            ("growth.start", self.recipe.growth.start),
            ("growth.max_depth", self.recipe.growth.max_depth),
        ):
            if value is not None and value > self.depth:
                raise RecipeError(f"{key} is {value} and the reference has {self.depth} blocks: make it at most that")
        start, deepest = self.recipe.growth.start, self.recipe.growth.max_depth
        if start and deepest and start > deepest:
            raise RecipeError(f"growth.start is {start} and growth.max_depth {deepest}: start at most there")

    def _diagnosis_cost(self, profile: Profile) -> Spent:
        """Forward passes alone: the measuring one, the contrasts', and the curve's block passes."""
        whole = forward_flops_per_token(self.bench.model, profile.longest)
        read = profile.tokens + sum(contrast.length * contrast.sequences for contrast in profile.contrasts)
        if curves := profile.curves:
            head = 2 * anatomy(self.bench.model).head.get_parameter("weight").numel()
            passes = curves.block_passes * (whole - head) / profile.depth + curves.head_passes * head
            return Spent(profile.tokens, read * whole + curves.sequences * profile.longest * passes, profile.seconds)
        return Spent(profile.tokens, float(read * whole), profile.seconds)
