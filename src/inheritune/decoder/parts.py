"""Which part of a block a tensor belongs to, and which tensors close a part, by their names: pure data."""

import re

ATTENTION, MLP, NORMS = "attention", "mlp", "norms"
PARTS = frozenset({ATTENTION, MLP, NORMS})

_NORM_NAMES = ("norm", "ln_", "layernorm")
_MIXER_NAMES = ("attn", "attention", "mixer", "mamba", "conv", "ssm", "temporal", "time_mix", "recurrent")

# The matrices by which a block's parts add to the residual.
_CLOSING = re.compile(
    r"(^|\.)(o_proj|c_proj|out_proj|[wW]o|dense|dense_4h_to_h|down_proj|fc2|fc_out|w2|output_linear)"
    r"(\.(weight|bias)|_bias|$)"
)


def closes(suffix: str) -> bool:
    """Whether the tensor `suffix`, a name inside its block, closes a part: zero, the part adds nothing."""
    return _CLOSING.search(suffix) is not None


def part_of(suffix: str) -> str:
    """The part ("attention", "mlp" or "norms") that holds the tensor `suffix`, a name inside its block.

    A norm that stands inside the attention (queries, keys) belongs to the attention; what is neither a norm
    nor the attention (or what stands for it: Mamba, convolution, recurrence) belongs to the MLP.
    """
    module = suffix.split(".", 1)[0].lower()
    if any(word in module for word in _NORM_NAMES):
        return NORMS
    return ATTENTION if any(word in module for word in _MIXER_NAMES) else MLP


def split_name(name: str, path: str) -> tuple[int | None, str]:
    """The block that a tensor's name belongs to and its name inside it; (None, name) outside the blocks."""
    if name.startswith(f"{path}."):
        block, _, suffix = name[len(path) + 1 :].partition(".")
        if block.isdigit() and suffix:
            return int(block), suffix
    return None, name
