"""What a model costs: parameters, and the FLOPs of its matrix products."""

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.decoder.anatomy import anatomy, text_config
from inheritune.decoder.names import ATTENTION_WORDS, EXPERTS_PER_TOKEN, HEAD_WIDTHS, ROUTERS


def parameter_count(model: PreTrainedModel) -> int:
    """The number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flops_per_token(model: PreTrainedModel, sequence_length: int) -> int:
    """FLOPs of one token's forward pass in a sequence of `sequence_length` tokens.

    Two for each multiplication in a matrix product: the linear layers (the head's, tied or not; of a mixture
    of experts those that one token is sent to) and attention's two products over all pairs of positions.
    """
    found = anatomy(model)
    blocks = sum(block_flops_per_token(block, model.config, sequence_length) for block in found.blocks)
    return blocks + 2 * found.head.get_parameter("weight").numel()


def block_flops_per_token(block: nn.Module, config: PretrainedConfig, sequence_length: int) -> int:
    """FLOPs of one token's pass through one block, as in `forward_flops_per_token`."""
    return 2 * _linear(block, config) + 4 * sequence_length * _attention_width(block, config)


def _linear(block: nn.Module, config: PretrainedConfig) -> int:
    """Multiplications of a block's linear layers for one token."""
    total = 0.0
    for name, module in block.named_modules():
        for own in module.parameters(recurse=False):
            if own.dim() == 3 or (own.dim() == 2 and _is_product(module)):
                total += own.numel() * _share(name, module, config)
    return round(total)


def _is_product(module: nn.Module) -> bool:
    """A linear layer, or a router that holds its matrix itself."""
    return isinstance(module, nn.Linear | Conv1D) or type(module).__name__.endswith(ROUTERS)


def _share(name: str, module: nn.Module, config: PretrainedConfig) -> float:
    """The share of this module that one token uses: below 1 for routed experts."""
    held = next((own.shape[0] for own in module.parameters(recurse=False) if own.dim() == 3), None)
    if held is None or "experts" not in name.split("."):
        return 1.0
    plain = text_config(config)
    routed = next((getattr(plain, field) for field in EXPERTS_PER_TOKEN if getattr(plain, field, None)), held)
    return routed / held


def _attention_width(block: nn.Module, config: PretrainedConfig) -> int:
    """Heads times head width, averaged over keys and values where they differ; 0 without attention."""
    if not any(word in name for name, _ in block.named_children() for word in ATTENTION_WORDS):
        return 0
    plain = text_config(config)
    heads = plain.num_attention_heads
    widths = [getattr(plain, name, None) or 0 for name in HEAD_WIDTHS]
    if widths[-1]:
        return heads * sum(widths) // 2
    return heads * (getattr(plain, "head_dim", None) or plain.hidden_size // heads)
