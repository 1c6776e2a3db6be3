import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from rounds import BATCH, LENGTH, batches, train_round, training
from tiny import FAMILIES, untrained_model
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div
from transformers import PreTrainedModel

from inheritune.config.sections import Objective as Wanted
from inheritune.errors import RecipeError
from inheritune.training import kernels
from inheritune.training.objective import TrainingLoss

BATCH_BT = torch.from_numpy(batches()[0])
TOKENS = BATCH_BT[:, 1:].numel()


def gradients(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_autograd(model: PreTrainedModel, loss: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return {n: g for (n, _), g in zip(model.named_parameters(), found, strict=True) if g is not None}


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-4) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= rtol * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("micro", [1, 3, 4, 8])
def test_micro_batches_sum_to_the_gradient_of_the_whole(micro: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the head's rows and tiles too: two of 320 logits at once, and 100 of the matrix's rows."""
    monkeypatch.setattr(kernels, "_CHUNK", 3 * 320)
    monkeypatch.setattr(kernels, "_TILE", 100)
    model = untrained_model("gpt2")
    whole = cross_entropy(model(BATCH_BT[:, :-1]).logits.flatten(0, 1), BATCH_BT[:, 1:].flatten())
    wanted = by_autograd(model, whole)
    found = TrainingLoss(model, training(micro_batch_size=micro)).backward(BATCH_BT, TOKENS)
    assert found == {"loss": pytest.approx(whole.item(), rel=1e-6)}
    assert_same(gradients(model), wanted)


@pytest.mark.parametrize("micro", [1, 3, 8])
def test_only_labels_that_are_asked_for_count(micro: int) -> None:
    """Micro-batches without any among them, and the distance of hidden states too."""
    model, teacher = untrained_model("gpt2"), untrained_model("gpt2", seed=2)
    asked = torch.rand(BATCH_BT[:, 1:].shape, generator=torch.Generator().manual_seed(1)) < 0.3
    asked[1] = asked[3:6] = False
    model(BATCH_BT[:, :-1])
    outputs = [each(BATCH_BT[:, :-1], output_hidden_states=True) for each in (model, teacher)]
    text = cross_entropy(outputs[0].logits[asked], BATCH_BT[:, 1:][asked])
    ours, theirs = (each.hidden_states[-2][asked] for each in outputs)
    distance = 1 - cosine_similarity(ours, theirs.detach(), dim=-1).mean()
    wanted = by_autograd(model, text + 0.5 * distance)
    last = len(outputs[0].hidden_states) - 3
    objective = Wanted(hidden=0.5, hidden_loss="cosine", layers={last: last})
    found = TrainingLoss(model, training(micro_batch_size=micro), objective, teacher).backward(
        BATCH_BT, int(asked.sum()), asked
    )
    assert found["cross_entropy"] == pytest.approx(text.item(), rel=1e-5)
    assert found["hidden"] == pytest.approx(distance.item(), rel=1e-4)
    assert_same(gradients(model), wanted)


def test_a_batch_of_which_nothing_is_asked_moves_nothing() -> None:
    model = untrained_model("gpt2")
    none = torch.zeros(BATCH_BT[:, 1:].shape, dtype=torch.bool)
    assert TrainingLoss(model, training()).backward(BATCH_BT, 1, none) == {"loss": 0.0}
    assert all(not gradient.any() for gradient in gradients(model).values())
    assert gradients(model).keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize(
    ("family", "changes", "apart"),
    [
        ("gpt2", {}, True),
        ("gpt2", {"tie_word_embeddings": False}, True),
        ("llama", {}, True),
        ("qwen3", {}, True),
        ("gemma2", {"final_logit_softcapping": 0.5, "pad_token_id": 0}, False),
        ("cohere", {"logit_scale": 0.5, "pad_token_id": 0}, False),
        ("phi", {}, False),  # its head has a bias
    ],
)
def test_every_family_gets_its_own_gradient_whether_the_head_stands_apart_or_not(
    family: str, changes: dict[str, Any], apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiny.FAMILIES", {family: FAMILIES["llama"], **FAMILIES})
    model = untrained_model(family, **changes).train()
    wanted = by_autograd(model, cross_entropy(model(BATCH_BT[:, :-1]).logits.flatten(0, 1), BATCH_BT[:, 1:].flatten()))
    objective = TrainingLoss(model, training(micro_batch_size=3))
    objective.backward(BATCH_BT, TOKENS)
    assert objective.head.apart is apart
    assert_same(gradients(model), wanted)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_a_weight_is_a_factor_of_the_loss_and_its_gradient(weight: float) -> None:
    model = untrained_model("gpt2")
    whole = weight * cross_entropy(model(BATCH_BT[:, :-1]).logits.flatten(0, 1), BATCH_BT[:, 1:].flatten())
    wanted = by_autograd(model, whole)
    found = TrainingLoss(model, training(), Wanted(cross_entropy=weight)).backward(BATCH_BT, TOKENS)
    assert found["loss"] == pytest.approx(whole.item(), rel=1e-6)
    assert_same(gradients(model), wanted)


def test_half_precision_agrees_as_far_as_it_can() -> None:
    model = untrained_model("gpt2")
    whole = cross_entropy(model(BATCH_BT[:, :-1]).logits.flatten(0, 1), BATCH_BT[:, 1:].flatten())
    wanted = by_autograd(model, whole)
    found = TrainingLoss(model, training(precision="bf16")).backward(BATCH_BT, TOKENS)
    assert found["loss"] == pytest.approx(whole.item(), rel=1e-3)
    assert_same(gradients(model), wanted, rtol=0.05)


def taught(student: Tensor, teacher: Tensor, temperature: float, direction: str) -> Tensor:
    """The divergence by torch's own function."""
    ours, theirs = (x.flatten(0, 1).div(temperature).log_softmax(-1) for x in (student, teacher))
    first, second = (ours, theirs) if direction == "forward" else (theirs, ours)
    return kl_div(first, second, reduction="batchmean", log_target=True) * temperature**2


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("hidden_loss", ["mse", "cosine"])
def test_all_terms_together_by_autograd(direction: str, hidden_loss: str) -> None:
    model, teacher = untrained_model("gpt2", n_layer=2), untrained_model("gpt2", seed=5)
    with torch.no_grad():
        teacher.transformer.wte.weight.mul_(8)
    wanted = Wanted(
        cross_entropy=0.6, logits=0.4, temperature=2.0, direction=direction, hidden=0.3, hidden_loss=hidden_loss,
        layers={0: 1, 1: 3},
    )  # fmt: skip
    ids, labels = BATCH_BT[:, :-1], BATCH_BT[:, 1:].flatten()
    kept: dict[tuple[str, int], Tensor] = {}
    for who, blocks in (("own", model.transformer.h), ("other", teacher.transformer.h)):
        for index, block in enumerate(blocks):
            block.register_forward_hook(lambda _m, _a, out, key=(who, index): kept.__setitem__(key, out))
    ours, theirs = model(ids).logits, teacher(ids).logits.detach()
    distances = []
    for own, other in wanted.layers.items():
        one, two = kept["own", own], kept["other", other].detach()
        if hidden_loss == "cosine":
            distances.append(1 - cosine_similarity(one, two, dim=-1).mean())
        else:
            distances.append((one - two).square().mean() / two.square().mean())
    parts = {
        "cross_entropy": cross_entropy(ours.flatten(0, 1), labels),
        "logits": taught(ours, theirs, 2.0, direction),
        "hidden": torch.stack(distances).mean(),
    }
    loss = 0.6 * parts["cross_entropy"] + 0.4 * parts["logits"] + 0.3 * parts["hidden"]
    expected = by_autograd(model, loss)
    objective = TrainingLoss(model, training(micro_batch_size=8), wanted, teacher)
    found = objective.backward(BATCH_BT, TOKENS)
    assert found == {name: pytest.approx(value.item(), rel=1e-5) for name, value in {"loss": loss, **parts}.items()}
    assert parts["logits"] > 0.01 and parts["hidden"] > 0.01
    assert_same(gradients(model), expected)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("term", [{"logits": 1.0}, {"logits": 1.0, "direction": "reverse"}, {"hidden": 1.0}])
def test_the_teachers_term_alone_moves_a_student_to_it(term: dict[str, Any], tmp_path: Path) -> None:
    """No cross-entropy at all: whatever the student learns, it has from the teacher."""
    teacher, student = untrained_model("gpt2", seed=5), untrained_model("gpt2")
    with torch.no_grad():
        teacher.transformer.wte.weight.mul_(8)
    rows: list[dict[str, Any]] = []
    train_round(
        tmp_path, student, observe=rows.append, peak_lr=1e-2, tokens=30 * BATCH * LENGTH,
        wanted=Wanted(cross_entropy=0.0, **term), teacher=teacher,
    )  # fmt: skip
    name = "hidden" if "hidden" in term else "logits"
    assert rows[0][name] > 0.1 and rows[-1][name] < 0.5 * rows[0][name]
    assert rows[-1]["loss"] == rows[-1][name]


def test_a_teacher_that_is_the_student_gives_no_pull() -> None:
    model = untrained_model("gpt2")
    teacher = copy.deepcopy(model)
    found = TrainingLoss(model, training(), Wanted(cross_entropy=0, logits=1, hidden=1), teacher).backward(
        BATCH_BT, TOKENS
    )
    assert found["loss"] == pytest.approx(0, abs=1e-6)
    assert all(gradient.abs().max() < 1e-5 for gradient in gradients(model).values())


def test_default_pairs_stand_at_the_same_share_of_depth() -> None:
    model, teacher = untrained_model("gpt2", n_layer=2), untrained_model("gpt2", n_layer=5)
    assert TrainingLoss(model, training(), Wanted(hidden=1.0), teacher).pairs == [(0, 2), (1, 4)]


@pytest.mark.parametrize(
    ("wanted", "changes", "message"),
    [
        ({"hidden": 1.0}, {"n_embd": 48}, "the model is 24 wide and its teacher 48"),
        ({"logits": 1.0}, {"vocab_size": 640}, "the model has 320 logits and its teacher 640"),
        ({"hidden": 1.0, "layers": {0: 9}}, {}, "pairs 0 with 9: there are 5 and 5 blocks"),
    ],
)
def test_teachers_that_cannot_be_compared_are_refused(
    wanted: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        TrainingLoss(untrained_model("gpt2"), training(), Wanted(**wanted), untrained_model("gpt2", **changes))


def test_a_missing_teacher_is_told() -> None:
    with pytest.raises(RecipeError, match="need a teacher"):
        TrainingLoss(untrained_model("gpt2"), training(), Wanted(logits=1.0))


def test_loss_far_beyond_what_fp32_can_exponentiate() -> None:
    model = untrained_model("gpt2")
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(1e4)
    found = TrainingLoss(model, training()).backward(BATCH_BT, TOKENS)
    reference = nn.functional.cross_entropy(model(BATCH_BT[:, :-1]).logits.flatten(0, 1), BATCH_BT[:, 1:].flatten())
    assert math.isfinite(found["loss"]) and found["loss"] == pytest.approx(reference.item(), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_activations_computed_again_in_bf16_give_the_same_gradient(family: str) -> None:
    """The backward pass computes the blocks again with the attention of the forward pass."""
    found = []
    for again in (False, True):
        model = untrained_model(family).train()
        if again:
            model.activation_checkpointing_enable({"use_reentrant": False})
        TrainingLoss(model, training(precision="bf16", checkpoint_activations=again)).backward(BATCH_BT, TOKENS)
        found.append(gradients(model))
    assert_same(*found)
