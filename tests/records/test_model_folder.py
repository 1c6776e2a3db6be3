"""A model's origin as it is written beside its weights."""

import json
from pathlib import Path

from inheritune.records.model_folder import Healing, ModelOrigin

KEYS = [
    "action", "source", "fingerprint", "reference_depth", "blocks", "parts", "outside", "healed", "proved", "new_blocks",
    "origin", "trained_tokens", "tower_of", "miscounted", "blocks_shown", "versions",
]  # fmt: skip


def origin() -> ModelOrigin:
    return ModelOrigin(
        action="inherit", source="gpt2", fingerprint="f", reference_depth=6, blocks=[0, 1, 2, 5], parts=["mlp"], outside="all"
    )  # fmt: skip


def test_every_key_is_written_in_order_and_read_back(tmp_path: Path) -> None:
    place = tmp_path / ModelOrigin.NAME
    origin().save(place)
    written = json.loads(place.read_text())
    assert list(written) == KEYS and written["blocks_shown"] == "0-2,5" and written["healed"] is None
    assert set(written["versions"]) == {"inheritune", "torch", "transformers", "safetensors"}
    assert ModelOrigin.load(place) == origin()


def test_what_is_filled_in_later_is_written_and_printed(tmp_path: Path) -> None:
    healing = Healing(loss_before=3.0, loss_after=2.5, places=[2], tokens=64, flops=9)
    healed = origin().model_copy(update={"healed": healing, "proved": True})
    healed.save(tmp_path / ModelOrigin.NAME)
    assert ModelOrigin.load(tmp_path / ModelOrigin.NAME) == healed
    printed = json.loads(healed.as_printed())
    assert list(printed) == KEYS[:-2] and printed["proved"] is True
    assert printed["healed"] == {"loss_before": 3.0, "loss_after": 2.5, "places": [2], "tokens": 64, "flops": 9}
