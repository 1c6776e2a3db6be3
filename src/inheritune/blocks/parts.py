"""Which part of a block a tensor belongs to, by its name: pure data."""

ATTENTION, MLP, NORMS = "attention", "mlp", "norms"
PARTS = frozenset({ATTENTION, MLP, NORMS})

_NORM_NAMES = ("norm", "ln_", "layernorm")
_MIXER_NAMES = ("attn", "attention", "mixer", "mamba", "conv", "ssm", "temporal", "time_mix", "recurrent")


def part_of(suffix: str) -> str:
    """The part ("attention", "mlp" or "norms") that holds the tensor `suffix`, a name inside its block.

    A norm that stands inside the attention (queries, keys) belongs to the attention; what is neither a norm
    nor the attention (or what stands for it: Mamba, convolution, recurrence) belongs to the MLP.
    """
    module = suffix.split(".", 1)[0].lower()
    if any(word in module for word in _NORM_NAMES):
        return NORMS
    return ATTENTION if any(word in module for word in _MIXER_NAMES) else MLP
