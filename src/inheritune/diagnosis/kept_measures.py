"""Measures of batches, kept so that a stop does not lose them."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from inheritune.diagnosis.measuring import Measures
from inheritune.disk.kept import Answer, Kept, ids_digest


class KeptMeasures:
    """The measures of the batches of these sequences, kept in a file so that they are not measured again after a stop.

    The first batch is always measured again, since its losses show whether the model is still the same. `seconds` is what a
    sequence took in the last batch that was measured.
    """

    def __init__(self, place: Path | None, sequences: Sequence[Tensor], threshold: float, unasked: int):
        self.place = place
        self.asked = {
            "tokens": ids_digest([sequence.tolist() for sequence in sequences]),
            "threshold": threshold,
            "unasked": unasked,
        }
        self.kept: Kept | None = None
        self.known: Iterator[Answer] = iter(())
        self.seconds = 0.0

    def __call__(self, measure: Callable[[], Measures]) -> Measures:
        """The next batch's measures: the kept ones, or those of `measure`, which are then kept."""
        if self.kept is None:
            found = self._timed(measure)
            self.kept = Kept(self.place, {**self.asked, "losses": found.losses_N.tolist()})
            self.known = iter(list(self.kept.results))
            return found
        if (known := next(self.known, None)) is not None:
            return _measures(known)
        found = self._timed(measure)
        self.kept.add(_record(found))
        return found

    def _timed(self, measure: Callable[[], Measures]) -> Measures:
        began = time.monotonic()
        found = measure()
        self.seconds = (time.monotonic() - began) / len(found.losses_N)
        return found


def _record(found: Measures) -> Answer:
    heads = [{name: values_BH.tolist() for name, values_BH in layer.items()} for layer in found.heads]
    influence, angles, losses = (each.tolist() for each in (found.influence_NL, found.angles_SS, found.losses_N))
    return {"heads": heads, "influence": influence, "angles": angles, "losses": losses}


def _measures(record: Answer) -> Measures:
    heads = [{name: _doubles(values) for name, values in layer.items()} for layer in record["heads"]]
    angles_SS = torch.tensor(record["angles"], dtype=torch.float32)
    return Measures(heads, _doubles(record["influence"]), angles_SS, _doubles(record["losses"]))


def _doubles(values: list[object]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
