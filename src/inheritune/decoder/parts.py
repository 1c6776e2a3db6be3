"""Which part of a block a tensor belongs to, and which tensors close a part, by their names."""

from inheritune.decoder.names import CLOSING, MIXER_WORDS, NORM_WORDS

ATTENTION, MLP, NORMS = "attention", "mlp", "norms"
PARTS = frozenset({ATTENTION, MLP, NORMS})


def closes(suffix: str) -> bool:
    """Whether the tensor `suffix`, a name inside its block, closes a part: if it is zero, the part adds nothing to the residual."""
    return CLOSING.search(suffix) is not None


def part_of(suffix: str) -> str:
    """The part ("attention", "mlp" or "norms") that holds the tensor `suffix`, a name inside its block.

    A norm that stands inside the attention (queries, keys) belongs to the attention; what is neither a norm
    nor the attention (or what stands for it: Mamba, convolution, recurrence) belongs to the MLP.
    """
    module = suffix.split(".", 1)[0].lower()
    if any(word in module for word in NORM_WORDS):
        return NORMS
    return ATTENTION if any(word in module for word in MIXER_WORDS) else MLP


def split_name(name: str, path: str) -> tuple[int | None, str]:
    """The block that a tensor's name belongs to and its name inside it; (None, name) outside the blocks."""
    if name.startswith(f"{path}."):
        block, _, suffix = name[len(path) + 1 :].partition(".")
        if block.isdigit() and suffix:
            return int(block), suffix
    return None, name
