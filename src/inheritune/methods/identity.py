"""Identity expansion: a shallower cut, then blocks that begin as identities until the depth is reached (as LLaMA-Pro)."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import grow, inherit


def _start(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    """Inherit the first blocks, of which each fourth begins as an identity."""
    wanted = list(range(given.depth))
    held = [block for block in wanted if block % 4 != 3] if given.depth > 3 else wanted[:-1] or wanted
    target = inherit(given.reference, held, seed=given.seed)
    return grow(target, given.reference, held=held, wanted=wanted, start="identity", seed=given.seed)


METHODS = {"identity": Method("each fourth of the first blocks begins as an identity (LLaMA-Pro)", (Phase(_start),))}
