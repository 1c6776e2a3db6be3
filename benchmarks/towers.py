"""For every model that reads more than text: does its text tower alone give the same on text? The second table of docs/families.md.

    python benchmarks/towers.py [MODEL_TYPE ...]

Each type that transformers knows and AutoModelForCausalLM does not is made tiny by the usual names of its sizes, saved, and cut between
files to all its blocks and to 0, 2, 5. "yes": the logits for a text equal the whole model's, bit by bit, and the cut is proved.
`decoder/names.py` lists those types; here all are tried.
"""

import sys
import warnings
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForMultimodalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from families import GAPS, LARGER, from_files, larger
from shrink import DEPTH, shrink

from inheritune.models import tower

MOST = 3_000_000
TOKENS_BT = torch.randint(3, 90, (2, 24), generator=torch.Generator().manual_seed(0))
KINDS = sorted({*MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, *LARGER} - {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} | {*LARGER})


def tried(kind: str) -> str:
    """The class that a cut of one type has, and whether it equals the whole model on text: the last cells of its row."""
    with torch.device("meta"):
        whole = AutoModelForMultimodalLM.from_config(shrink(kind, **LARGER.get(kind, {})))
    if (count := sum(parameter.numel() for parameter in whole.parameters())) > MOST:
        return f"| not made tiny: {count:,} parameters |"
    made = from_files(larger(kind), list(range(DEPTH)))
    with torch.no_grad():
        apart = larger(kind)(TOKENS_BT, use_cache=False).logits - made(TOKENS_BT, use_cache=False).logits
    from_files(larger(kind), GAPS)
    return f"{type(made).__name__} | {'yes' if not apart.any() else f'no: logits differ by {apart.abs().max():.2g}'} |"


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tower.KEPT_WHOLE = frozenset(KINDS)
    print("| type | what comes out | from files |\n|---|---|---|")
    for kind in sys.argv[1:] or KINDS:
        try:
            print(f"| {kind} | {tried(kind)}", flush=True)
        except Exception as error:
            print(f"| {kind} | | {type(error).__name__}: {' '.join(str(error).split())[:120]} |", flush=True)
    print(f"\ntorch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
