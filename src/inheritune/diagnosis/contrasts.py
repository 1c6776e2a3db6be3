"""Contrasts to a diagnosis: the same attention measures of untrained weights, and of the model at other lengths."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.diagnosis.deadline import Deadline, Pace, TimeOver
from inheritune.diagnosis.layers import contrast
from inheritune.diagnosis.measuring import Measures, batches, measure_sequences
from inheritune.disk.kept import Kept, ids_digest
from inheritune.models.quiet import quiet
from inheritune.progress import Tell, ending
from inheritune.records.profile import NO_TIME, Contrast
from inheritune.runtime.device import CPU, room_for
from inheritune.runtime.gauge import free_memory
from inheritune.words import plural

UNTRAINED = "untrained"
MOST_SEQUENCES = 8


class Contrasts:
    """Measures contrasts of a model until the deadline; each is kept at `place`, so that it is not measured again after a stop.

    `measured` is what was measured of the model before; by it a kept file is known, after a stop, to be of the same model.
    A sequence of `length` tokens took `seconds` there. `left_out` names what there was no time or memory for.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        measured: Measures,
        threshold: float,
        *,
        seconds: float,
        length: int,
        deadline: Deadline,
        tell: Tell,
        place: Path | None,
    ):
        self.model, self.threshold, self.deadline, self.tell = model, threshold, deadline, ending(tell, deadline.until)
        self.seconds, self.length = seconds, length
        config = hashlib.sha256(model.config.to_json_string().encode()).hexdigest()
        self.kept = Kept(place, {"losses": measured.losses_N.tolist(), "threshold": threshold, "config": config})
        self.left_out: list[str] = []

    def measure(self, sequences: list[Tensor], others: Sequence[list[Tensor]]) -> Iterator[Contrast | None]:
        """Yield a contrast for untrained weights on the first `sequences`, then one for the model on each of `others`; None if left out."""
        few = sequences[:MOST_SEQUENCES]
        for name, rows in [*([(UNTRAINED, few)] if few else []), *(("trained", other) for other in others)]:
            asked = {"name": name, "tokens": ids_digest([row.tolist() for row in rows])}
            known = next((each for each in self.kept.results if {**each, **asked} == each), None)
            yield Contrast(**known["contrast"]) if known else self._anew(name, rows, asked)

    def _anew(self, name: str, rows: list[Tensor], asked: dict[str, str]) -> Contrast | None:
        longest = max(map(len, rows))
        what = "maps of untrained weights" if name == UNTRAINED else f"maps at T = {longest}"
        size = sum(each.numel() * each.element_size() for each in self.model.parameters())
        beside = size * (1 if self.model.device == CPU else 2)  # a model on a GPU is moved to the CPU meanwhile
        if name == UNTRAINED and beside > free_memory(CPU):
            self.left_out.append(f"{what} (no memory for a second model of {size / 1e9:.1f} GB)")
            return None
        try:
            measured = self._measures(name, rows, longest)
        except TimeOver:
            self.left_out.append(f"{what} {NO_TIME}")
            return None
        found = contrast(name, longest, measured)
        if found.sequences < len(rows):
            self.left_out.append(
                f"{what} on {len(rows) - found.sequences} of {plural(len(rows), 'sequence')} {NO_TIME}"
            )
        else:
            self.kept.add({**asked, "contrast": found.model_dump()})
        return found

    def _measures(self, name: str, rows: list[Tensor], longest: int) -> Measures:
        """Measure the maps; raises TimeOver if there is no time for the first sequences, or seems to be none."""
        if self.deadline.over(self._expected(rows)):
            raise TimeOver
        stage = f"Maps of {plural(len(rows), 'sequence')}, T = {longest}{', untrained' if name == UNTRAINED else ''}"
        self.tell(stage, 0, len(rows))  # before the weights are drawn, which takes a while
        model, others = (fresh(self.model), [self.model]) if name == UNTRAINED else (self.model, [])
        with room_for([model], others, self.model.device), self.deadline.ending(model):
            return measure_sequences(
                model,
                rows,
                threshold=self.threshold,
                count=partial(self.tell, stage),
                losses=False,
                late=Pace(self.deadline).late,
            )

    def _expected(self, rows: list[Tensor]) -> float:
        """The seconds that the first batch of these sequences seems to take.

        The square of the length is a bound that held where it was tried: the blocks' products grow with T, the maps with T^2, and of
        some maps all eigenvalues are taken, with T^3. Together they grew with T^0.7 to T^1.8 (50 to 256 tokens, 100 to 1,024).
        """
        count, length = next(batches(rows, self.model, anatomy(self.model))).shape
        return self.seconds * count * max(1.0, length / self.length) ** 2


def fresh(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same architecture with freshly initialised weights, on the CPU."""
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(model.config, dtype=model.dtype)
