"""Surgery on a tiny model of every decoder that the installed transformers knows: docs/results/surgery-decoders.md.

    python benchmarks/decoders.py [MODEL_TYPE ...]

A type's config is shrunk by the usual names of its fields (and by `OWN` where that would break a rule of the type), built with
random weights, and operated on: cut to the first n blocks, with gaps and with repeats, grown back, grown by identities, cut
between files. "yes" means that the proof passed; otherwise the sentence of the refusal is printed. A traceback is a fault of ours
and is printed as such.
"""

import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from families import from_files
from shrink import DEPTH, shrink

from inheritune.decoder.anatomy import refuse_unsupported, text_config
from inheritune.errors import InherituneError
from inheritune.surgery.in_memory import grow, inherit
from inheritune.surgery.proof import prove

MOST = 30_000_000
FIRST, GAPS, REPEATS = [0, 1, 2], [0, 2, 5], [0, 1, 1, 4]
LATENT = {"num_key_value_heads": 4, "first_k_dense_replace": 2, "n_routed_experts": 4, "num_experts_per_tok": 2}
LINEAR = {"layer_types": ["full_attention", "linear_attention", "linear_attention"] * 2}
WINDOWS = {"layer_types": ["sliding_attention", "full_attention"] * 3}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"), LATENT),
    **dict.fromkeys(("glm_moe_dsa", "minicpm3", "sarvam_mla", "youtu"), LATENT),
    "bailing_hybrid": {**LATENT, "qk_head_dim": 16},
    "kimi_linear": {**LATENT, "qk_head_dim": 16, **LINEAR},
    **dict.fromkeys(("olmo_hybrid", "qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "minimax", "lara_mini"), LINEAR),
    **dict.fromkeys(("cohere2", "exaone4"), WINDOWS),
    **{kind: {"head_dim": 8} for kind in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "dory": {"n_input_layers": 2, "n_recurrent_layers": 2, "n_output_layers": 2},
    "zaya": {"num_experts_per_tok": 1},
    "xlnet": {"d_head": 8},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"] * 3},
    "bamba": {"attn_layer_indices": [0, 3]},
    "granitemoehybrid": {"layer_types": ["attention", "mamba"] * 3},
    "falcon_h1": {"mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 0, "expert_layer_period": 2, "use_mamba_kernels": False},
    "recurrent_gemma": {"block_types": ["attention", "recurrent"]},
    "lfm2_moe": {"layer_types": ["full_attention", "conv"] * 3},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "nemotron_h": {"layers_block_type": ["attention", "mamba", "moe"] * 2, "hybrid_override_pattern": None},
    **{kind: {"hidden_size_per_layer_input": 0} for kind in ("gemma4_text", "gemma4_unified_text")},
    "gemma3n_text": {**WINDOWS, "num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.9] + [0.0] * 5},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 2},
    "zamba2": {"hybrid_layer_ids": [1, 3, 5], "layers_block_type": ["mamba", "hybrid"] * 3, "mamba_ngroups": 1},
}


def shrunk(kind: str) -> transformers.PretrainedConfig:
    """A type's own config with small sizes; a composite config is left as it is."""
    config = AutoConfig.for_model(kind)
    return config if text_config(config) is not config else shrink(kind, **OWN.get(kind, {}))


def built(kind: str) -> PreTrainedModel | str:
    """The tiny model, or the reason why there is none."""
    try:
        refuse_unsupported(AutoConfig.for_model(kind))
        config = shrunk(kind)
        refuse_unsupported(config)
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())
        if count > MOST:
            return f"not tried: {count / 1e6:.0f} M parameters once shrunk so"
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float().eval()
    except InherituneError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"not built from this tiny config: {_line(error)}"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


def cut(blocks: list[int]) -> Callable[[PreTrainedModel], None]:
    return lambda model: prove(inherit(model, blocks), model, blocks).require() and None


def grown(model: PreTrainedModel) -> None:
    whole = grow(inherit(model, FIRST), model, held=FIRST, wanted=range(DEPTH))
    prove(whole, model, range(DEPTH)).require()


def files(model: PreTrainedModel) -> None:
    """Check that a cut between files equals the cut in memory: with gaps, or with the first blocks if gaps are refused."""
    try:
        cut(GAPS)(model)
        blocks = GAPS
    except InherituneError:
        blocks = FIRST
    from_files(model, blocks)


def identities(model: PreTrainedModel) -> None:
    target, tokens_BT = inherit(model, FIRST), torch.arange(3, 27).view(2, 12)
    deeper = grow(target, model, held=FIRST, wanted=range(5), start="identity")
    with torch.no_grad():
        assert torch.equal(deeper(tokens_BT, use_cache=False).logits, target(tokens_BT, use_cache=False).logits)


COLUMNS: dict[str, Callable[[PreTrainedModel], None]] = {
    **{"first n": cut(FIRST), "gaps": cut(GAPS), "repeats": cut(REPEATS)},
    **{"grown": grown, "identities": identities, "from files": files},
}


def _line(error: BaseException) -> str:
    said = re.sub(rf"{tempfile.gettempdir()}/\w+/", "", str(error))
    return " ".join(said.split())[:160] or type(error).__name__


def tried(action: Callable[[PreTrainedModel], None], model: PreTrainedModel) -> str:
    try:
        action(model)
    except InherituneError as error:
        return _line(error)
    except Exception as error:
        return f"TRACEBACK {type(error).__name__}: {_line(error)}"
    return "yes"


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    kinds = sys.argv[1:] or sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    counts: Counter[str] = Counter()
    print(f"| type | {' | '.join(COLUMNS)} | why not |\n|---|{'---|' * len(COLUMNS)}---|")
    for kind in kinds:
        model = built(kind)
        if isinstance(model, str):
            counts[model.split(":")[0]] += 1
            print(f"| {kind} |{' |' * len(COLUMNS)} {model[:200]} |", flush=True)
            continue
        cells = {name: tried(action, model) for name, action in COLUMNS.items()}
        reasons = dict.fromkeys(cell for cell in cells.values() if cell != "yes")
        counts["all yes" if not reasons else "a traceback" if "TRACEBACK" in str(reasons) else "some refused"] += 1
        shown = " | ".join("yes" if cell == "yes" else "no" for cell in cells.values())
        print(f"| {kind} | {shown} | {'; '.join(reasons)} |", flush=True)
    print("\n" + ", ".join(f"{what}: {count}" for what, count in counts.most_common()))
    print(f"\n{len(kinds)} types, torch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
