"""The entry to cutting model folders: a cut for which no model has to be built loads no torch."""

from functools import partial
from pathlib import Path

from inheritune.progress import Tell, silent
from inheritune.records.model_folder import ModelOrigin
from inheritune.surgery.byte_ranges import TINY, WRITING
from inheritune.surgery.requests import CutRequest
from inheritune.surgery.without_torch import inherit_light


def inherit_folder(
    source: Path, target: Path, cut: CutRequest, force: bool = False, tell: Tell = silent
) -> ModelOrigin:
    """Cut the model `source` (a folder or a GGUF file) into the new folder `target`; the source is only read.

    `tell` is called with each stage's name, how many of its parts are done, and how many there are. Raises InputError for what is
    wrong with source, blocks or target, and ProofError where the cut fails its proof; then nothing is written.
    """
    record = None
    if source.is_dir() and cut.plain and not cut.proved:
        least, count = TINY if cut.proved is None else 0, partial(tell, WRITING)
        record = inherit_light(source, target, cut.blocks, least, force, count)
    if record is None:
        from inheritune.surgery.by_model import cut_by_model

        record = cut_by_model(source, target, cut, force, tell)
    return record
