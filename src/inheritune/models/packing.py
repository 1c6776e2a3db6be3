"""Estimate the bytes of a model as a GGUF file packed by llama.cpp's quantiser, by the shapes of its matrices."""

from torch.nn import Parameter
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy, embedding_rows
from inheritune.models.llama_cpp import PACKED, Packed

_Q8_0 = 8.5  # bits a weight
# Bits a weight of q4_k_m: of a matrix, and of the head, tied embeddings included; then of both where a row is no multiple of 256, as its
# formats need.
_Q4_K_M, _ITS_HEAD = 4.85, 6.5625
_Q4_K_M_OTHER, _ITS_HEAD_OTHER = 5.8, _Q8_0
_ROW = 256
_WORD_BYTES = 30  # of a token's text, kind and merge


def packed_bytes(model: PreTrainedModel) -> dict[str, int]:
    """Estimated bytes of the GGUF file by each packing: within a fiftieth of what three models took."""
    words = _WORD_BYTES * embedding_rows(model)
    head = anatomy(model).head.get_parameter("weight")
    return {
        kind: words + round(sum(_bits(each, each is head, kind) for each in model.parameters()) / 8) for kind in PACKED
    }


def _bits(weight: Parameter, is_head: bool, kind: Packed) -> float:
    if weight.ndim < 2:
        return 32.0 * weight.numel()  # norms and biases stay in fp32
    if kind == "q8_0":
        return _Q8_0 * weight.numel()
    whole = weight.shape[-1] % _ROW == 0
    if is_head:
        return (_ITS_HEAD if whole else _ITS_HEAD_OTHER) * weight.numel()
    return (_Q4_K_M if whole else _Q4_K_M_OTHER) * weight.numel()
