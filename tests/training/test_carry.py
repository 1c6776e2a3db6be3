import torch

from inheritune.training.carry import carry


def test_state_follows_its_block_to_its_new_place() -> None:
    """A target of blocks 0, 3 grows to 0, 1, 3: block 3 moves from place 1 to 2, and place 1 is new."""
    state = {f"h.{place}.w": {"m": torch.tensor(float(block))} for place, block in enumerate([0, 3])}
    state["wte.weight"] = {"m": torch.tensor(7.0)}
    found = carry(state, [0, 3], [0, 1, 3], "h")
    assert {name: values["m"].item() for name, values in found.items()} == {
        "h.0.w": 0.0,
        "h.2.w": 3.0,
        "wte.weight": 7.0,
    }
