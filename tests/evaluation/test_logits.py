"""A head passed in pieces, against one pass of the whole model."""

import numpy as np
import pytest
import torch
from families import reference
from tiny import untrained_model

from inheritune.evaluation import logits as module
from inheritune.evaluation.agreement import _apart
from inheritune.evaluation.token_losses import token_losses

ROW = np.random.default_rng(0).integers(1, 60, 49)


@pytest.mark.parametrize("family", ["llama", "gemma2", "cohere", "granite", "phi"])
def test_pieces_are_the_logits_of_one_pass(family: str) -> None:
    """A plain product; with a softcap, two scales and a bias after it."""
    model = reference(family).eval()
    ids_BT = torch.from_numpy(ROW[None, :48]).view(2, 24)
    with torch.no_grad():
        whole = model(ids_BT).logits.flatten(0, 1)
        pieces = list(module.logits_in_pieces(model, ids_BT, 10))
        (once,) = module.logits_in_pieces(model, ids_BT, 48)
        assert torch.equal(once, whole) and list(map(len, pieces)) == [10, 10, 10, 10, 8]
        torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-5, rtol=1e-5)
        assert torch.equal(model(ids_BT).logits.flatten(0, 1), whole), "the model is left as it was"


def test_losses_and_agreement_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pieces that another model's memory or the tokens left out at the beginning do not fit, too."""
    models = [untrained_model("llama", seed, initializer_range=0.3).eval() for seed in (1, 2)]
    rows = [np.tile(ROW, 8), ROW]

    def found() -> list[np.ndarray]:
        apart = [each for asked in (392, 391, 200, 1) for each in _apart(*models, rows[0], min(asked, 391))]
        return [*token_losses(models[0], rows, unasked=3), *apart]

    once = found()
    monkeypatch.setattr(module, "MOST", 130 * models[0].config.vocab_size)
    assert module.rows_at_once(models[0]) == 130
    for one, other in zip(found(), once, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
