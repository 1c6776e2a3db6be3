"""What a packed file is expected to take, against files that llama.cpp's quantiser wrote, to a fiftieth."""

import pytest
from transformers import Gemma3TextConfig, LlamaConfig, PretrainedConfig

from inheritune.models.hollow import hollow
from inheritune.models.packing import packed_bytes

SMOLLM2 = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}  # fmt: skip
LLAMA_8B = LlamaConfig(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
    tie_word_embeddings=False,
)  # fmt: skip
GEMMA_270M = Gemma3TextConfig(
    vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4, num_key_value_heads=1,
    head_dim=256, tie_word_embeddings=True,
)  # fmt: skip


@pytest.mark.parametrize(
    ("config", "kind", "took"),
    [
        (LlamaConfig(num_hidden_layers=29, **SMOLLM2), "q8_0", 141_045_696),
        (LlamaConfig(num_hidden_layers=29, **SMOLLM2), "q4_k_m", 103_126_464),
        (LlamaConfig(num_hidden_layers=27, **SMOLLM2), "q8_0", 133_515_168),
        (LlamaConfig(num_hidden_layers=27, **SMOLLM2), "q4_k_m", 98_201_760),
        (GEMMA_270M, "q4_k_m", 253_113_024),
        (LLAMA_8B, "q4_k_m", 4_920_734_272),
    ],
    ids=str,
)
def test_a_packed_file_is_expected_as_it_was_written(config: PretrainedConfig, kind: str, took: int) -> None:
    """Rows of 576 and 640 are no multiples of 256, and are packed in wider formats; those of 4096 are."""
    assert packed_bytes(hollow(config))[kind] == pytest.approx(took, rel=0.02)
