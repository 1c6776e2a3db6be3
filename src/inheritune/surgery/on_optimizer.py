"""Carry out a block map on optimizers' states, by parameter name."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PretrainedConfig

from inheritune.decoder import fold
from inheritune.surgery.blockmap import BlockMap

OptimizerState = dict[str, dict[str, Tensor]]
# When a parameter is multiplied by f, its state is multiplied by f to this power.
_POWERS = {"exp_avg": -1, "exp_avg_sq": -2, "momentum_buffer": -1}


def carry(states: Sequence[OptimizerState], block_map: BlockMap, path: str, config: PretrainedConfig) -> OptimizerState:
    """The state of the model that `block_map` makes of the models that `states` belong to, by parameter name.

    `path` is where the blocks stand ("transformer.h"), `config` the new model's. A copied block takes the state
    of the block that it copies; a block whose source keeps no state (give {}) starts with a fresh one. Where a
    block's move is folded into its queries (`decoder.fold`), the moments are scaled as its gradients are.
    """
    carried = {
        name: {key: value.clone() for key, value in own.items()}  # a block copied twice has two states
        for number, state in enumerate(states)
        for old, own in state.items()
        for name in block_map.targets(old, path, number)
    }
    for name, factor in fold.factors(config, path, block_map.before).items():
        for key in _POWERS.keys() & carried.get(name, {}).keys():
            carried[name][key] = fold.scaled(carried[name][key], factor ** _POWERS[key])
    return carried
