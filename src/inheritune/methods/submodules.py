"""Which parts of a block matter: inherit only attention, only the MLP, or both without the norms (paper, Table 3)."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase, Start
from inheritune.surgery.in_memory import inherit


def _only(*parts: str) -> Phase:
    def start(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
        return inherit(given.reference, list(range(given.depth)), parts=parts, seed=given.seed)

    checked: Start = start
    return Phase(checked)


METHODS = {
    "attention-only": Method("attention and norms of the first blocks", (_only("attention", "norms"),)),
    "mlp-only": Method("MLPs and norms of the first blocks", (_only("mlp", "norms"),)),
    "without-norms": Method("attention and MLPs of the first blocks", (_only("attention", "mlp"),)),
}
