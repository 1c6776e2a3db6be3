"""What a model costs: parameters, and the FLOPs of its matrix products."""

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.blocks.anatomy import anatomy, text_config

EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts", "moe_top_k")


def parameter_count(model: PreTrainedModel) -> int:
    """The number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def forward_flops_per_token(model: PreTrainedModel, sequence_length: int) -> int:
    """FLOPs of one token's forward pass in a sequence of `sequence_length` tokens.

    Two for each multiplication in a matrix product: the linear layers (the head's, tied or not; of a mixture of
    experts those that one token is sent to) and attention's two products over the full square of positions.
    """
    found = anatomy(model)
    linear = 2 * (_linear(found.blocks, model.config) + found.head.weight.numel())
    return linear + sum(4 * sequence_length * _attention_width(block, model.config) for block in found.blocks)


def _linear(blocks: nn.ModuleList, config: PretrainedConfig) -> int:
    """Multiplications of the blocks' linear layers for one token."""
    total = 0.0
    for name, module in blocks.named_modules():
        share = _share(name, module, config)
        for own in module.parameters(recurse=False):
            if own.dim() == 3 or (own.dim() == 2 and isinstance(module, nn.Linear | Conv1D)):
                total += own.numel() * share
    return round(total)


def _share(name: str, module: nn.Module, config: PretrainedConfig) -> float:
    """The share of this module that one token uses: below 1 for routed experts."""
    if "experts" not in name.split(".") or "shared" in name:
        return 1.0
    plain = text_config(config)
    routed = next((getattr(plain, field) for field in EXPERTS_PER_TOKEN if getattr(plain, field, None)), None)
    held = next((own.shape[0] for own in module.parameters(recurse=False) if own.dim() == 3), None)
    held = held or getattr(plain, "num_experts", None) or getattr(plain, "num_local_experts", None)
    return routed / held if routed and held else 1.0


def _attention_width(block: nn.Module, config: PretrainedConfig) -> int:
    """Heads times head width, averaged over keys and values where they differ."""
    if not any("attn" in name or "attention" in name for name, _ in block.named_children()):
        return 0
    plain = text_config(config)
    heads = plain.num_attention_heads
    if getattr(plain, "v_head_dim", None):
        return heads * (plain.qk_nope_head_dim + plain.qk_rope_head_dim + plain.v_head_dim) // 2
    return heads * (getattr(plain, "head_dim", None) or plain.hidden_size // heads)
