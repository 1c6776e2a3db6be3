from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE

from inheritune.data.coding import Coding
from inheritune.data.files import File
from inheritune.data.kinds.token_row import TokenRow
from inheritune.errors import DataError
from inheritune.models.begin import Begin


def bin_of(path: Path) -> list[list[int]]:
    coding = Coding(Tokenizer(BPE()), 0, Begin())
    return [found.ids.tolist() for found in TokenRow().encoded(File(path, path.name, ".bin"), coding)]


def test_bin_with_the_header_of_llm_c(tmp_path: Path) -> None:
    ids = np.asarray([5, 6, 0, 7, 0, 8], dtype="<u2")
    header = np.zeros(256, dtype="<i4")
    header[:3] = 20240520, 1, len(ids)
    (tmp_path / "a.bin").write_bytes(header.tobytes() + ids.tobytes())
    (tmp_path / "b.bin").write_bytes(ids.tobytes())
    assert bin_of(tmp_path / "a.bin") == bin_of(tmp_path / "b.bin") == [[5, 6, 0], [7, 0], [8]]
    header[2] = 7
    (tmp_path / "a.bin").write_bytes(header.tobytes() + ids.tobytes())
    with pytest.raises(DataError, match=r"promises 7 tokens, and holds\s+6"):
        bin_of(tmp_path / "a.bin")
