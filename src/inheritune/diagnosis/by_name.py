"""Diagnose a model by its name: find and load it, measure it on the user's text, and keep the results in a folder."""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.data.corpora import named, require
from inheritune.diagnosis.diagnose import diagnose, forget, natural_length
from inheritune.diagnosis.meanmaps import mean_maps, telling_heads
from inheritune.diagnosis.text import CHARACTERS_A_TOKEN, read_text
from inheritune.disk.files import reserve, whole_file, writing
from inheritune.models.begin import begin_of
from inheritune.models.find import locate
from inheritune.models.gguf import read_once
from inheritune.models.load import load_model, tokenizer_at
from inheritune.models.quiet import loading
from inheritune.models.reference import with_size
from inheritune.progress import Progress, Rates
from inheritune.records.profile import DocumentsRead
from inheritune.records.stages import PROFILE
from inheritune.report.profile import Profile
from inheritune.report.profile_table import again, answer, short_of_time
from inheritune.runtime.device import device
from inheritune.words import plural

MAPS = "maps.npz"
OTHER_SEQUENCES, MAP_SEQUENCES = 4, 16


@dataclass(frozen=True, kw_only=True)
class DiagnosisRequest:
    """The text that a model is measured on, how much of it, and what is measured (`diagnose`).

    `begin` is as in a recipe's `data.begin`. `other_length` 0 is the model's own length. `out` is the folder for the profile and its
    figures, and `against` another profile, which is drawn over this one.
    """

    text: str
    field: str
    begin: str
    length: int
    sequences: int
    curve_sequences: int
    minutes: float
    other_length: int
    threshold: float
    gradients: bool
    against: Path | None
    tokenizer: str | None
    out: Path | None
    trust_remote_code: bool


def diagnose_named(model: str, asked: DiagnosisRequest, progress: Progress) -> tuple[Profile, list[Path]]:
    """Diagnose a model; return its profile and the files written. Raises InputError for what the user has to fix."""
    other = None if asked.against is None else Profile.load(asked.against)
    require([named(asked.text)])
    out = asked.out
    if out is not None:
        with writing(out):
            reserve(out)
    place = locate(model, trust=asked.trust_remote_code)
    with loading(progress, f"Model: {with_size(model)}"), read_once(place):
        words = tokenizer_at(place if asked.tokenizer is None else locate(asked.tokenizer))
        decoder = load_model(place, trust=asked.trust_remote_code, on=device())
    tokens_NT, documents, others = _texts(decoder, words, asked)
    with nullcontext() if out is None else writing(out):
        profile = diagnose(
            decoder,
            tokens_NT,
            unasked=begin_of(words, asked.begin).unasked,
            documents=documents,
            threshold=asked.threshold,
            curve_sequences=asked.curve_sequences,
            minutes=asked.minutes,
            kept=out,
            gradients=asked.gradients,
            other_lengths=others,
            tell=Rates(progress),
            seen=_SoFar(model, out, progress).seen,
        ).model_copy(update={"model": model})
        return profile, [] if out is None else _write(profile, decoder, tokens_NT, asked.text, out, other, progress)


def _texts(
    model: PreTrainedModel, words: PreTrainedTokenizerBase, asked: DiagnosisRequest
) -> tuple[Tensor, DocumentsRead, list[Tensor]]:
    """The sequences to measure, the documents that they come from, and a few sequences of the other length if it differs."""
    second = asked.other_length or natural_length(model)
    most = max(asked.length * asked.sequences, second * OTHER_SEQUENCES)
    text = read_text(asked.text, words, CHARACTERS_A_TOKEN * most, asked.field)
    found = text.windows(words, asked.length, asked.sequences, asked.begin)
    others = [] if second == asked.length else [text.windows(words, second, OTHER_SEQUENCES, asked.begin).tokens_NT]
    return found.tokens_NT, found.documents, others


class _SoFar:
    """Reports and saves a profile as far as it is measured, so that a user who stops waiting has it."""

    def __init__(self, model: str, out: Path | None, progress: Progress):
        self.model, self.out, self.progress, self.told = model, out, progress, 0
        self.lazy: tuple[list[int], dict[int, list[int]]] = ([], {})

    def seen(self, profile: Profile) -> None:
        """Report what the first sequences show, then what more of them change, and save the profile."""
        if profile.sequences > self.told:
            found = profile.lazy_layers, profile.lazy_heads
            for line in answer(profile) if not self.told else again(profile, same=found == self.lazy):
                self.progress.note(line)
            self.told, self.lazy = profile.sequences, found
        if self.out is not None:
            profile.model_copy(update={"model": self.model}).save(self.out / PROFILE)


def _write(
    profile: Profile, model: PreTrainedModel, tokens_NT: Tensor, text: str, out: Path, other: Profile | None,
    progress: Progress,
) -> list[Path]:  # fmt: skip
    """Write the profile, the mean maps of three telling heads and every figure; return the paths."""
    from inheritune.report.profile_figures import save_figures

    profile.save(out / PROFILE)
    heads = telling_heads(profile)
    counting = partial(Rates(progress), f"Mean maps of {plural(len(heads), 'head')}")
    some_NT = tokens_NT[:: -(-len(tokens_NT) // MAP_SEQUENCES)]
    maps = {name: map_TT.numpy() for name, map_TT in mean_maps(model, some_NT, heads, counting).items()}
    with whole_file(out / MAPS) as file:
        np.savez_compressed(file, allow_pickle=False, **maps)
    against = None if other is None else other.model_dump()
    figures = save_figures(profile.model_dump(), out, maps, against, text, len(some_NT))
    if not short_of_time(profile):  # otherwise what was measured serves the same command with more minutes
        forget(out)
    return [out / PROFILE, out / MAPS, *figures]
