"""What every cut or grown model must pass before it is trusted."""

import inspect
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.blocks.anatomy import anatomy, text_config
from inheritune.blocks.blockmap import BlockMap
from inheritune.blocks.modules import as_map
from inheritune.blocks.quiet import quiet
from inheritune.blocks.stack import Stack
from inheritune.errors import InputError, ProofError

# Shapes: B sequences, T tokens, V vocabulary.

CACHES = ("cache", "past_key_values", "cache_params")
# A scan in pieces rounds differently; a block that reads another's cache is off by far more.
CACHED = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02}
# Equal but for a folded scale and for kernels that round by where a tensor lies in memory.
ARRANGED = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.02, torch.float16: 0.005}
# Parameters that only choose among experts or positions: no gradient reaches them in any model.
CHOOSERS = ("correction_bias", "expert_bias", "indexer", "position_bias")


@dataclass(frozen=True)
class Check:
    """One question to a model: its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Proof:
    """The checks that a model was put to."""

    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def require(self) -> "Proof":
        """This proof, if it holds; raises ProofError naming the first check that failed."""
        for check in self.checks:
            if not check.passed:
                raise ProofError(f"The model fails the check {check.name!r}: {check.detail}")
        return self

    def save(self, path: Path | str) -> None:
        """Write the proof as JSON."""
        content = {"passed": self.passed, "checks": [asdict(check) for check in self.checks]}
        Path(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def prove(
    model: PreTrainedModel,
    reference: PreTrainedModel | Sequence[PreTrainedModel] | None = None,
    blocks: Sequence[int] | str | BlockMap | None = None,
) -> Proof:
    """Put `model` to every check; with the `reference` and the `blocks` cut from it, hold it against that.

    A grown model is held against two models, the target and the reference, and the map from both. A check that
    raises has failed, and says with what. The model is left as it was. Raises InputError for a map that does not
    inherit every block whole: there is nothing to hold such a model against.
    """
    tokens_BT = _tokens(model)
    questions: list[tuple[str, Callable[[], str | None]]] = [
        ("every weight is a number", lambda: _finite(model)),
        ("every block knows its place", lambda: _places(model)),
        ("tied weights are tied", lambda: _ties(model)),
        ("cached generation equals uncached", lambda: _cached(model, tokens_BT)),
        ("gradients reach every parameter", lambda: _gradients(model, tokens_BT)),
        ("saved and loaded, it is the same", lambda: _reloaded(model, tokens_BT)),
    ]
    if reference is not None:
        sources = [reference] if isinstance(reference, PreTrainedModel) else list(reference)
        block_map = as_map(range(anatomy(model).depth) if blocks is None else blocks)
        if not block_map.whole:
            raise InputError("Only blocks that are inherited whole can be held against a reference.")
        question = "logits equal the reference's with its blocks so arranged"
        questions.append((question, lambda: _arranged(model, sources, block_map, tokens_BT)))
    training = model.training
    model.eval()
    checks = [_ask(name, question) for name, question in questions]
    model.train(training)
    return Proof(checks)


def _ask(name: str, question: Callable[[], str | None]) -> Check:
    """A question answers None, or with the first thing that is wrong."""
    try:
        wrong = question()
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}".split("\n")[0]
    return Check(name, wrong is None, wrong or "as it should be")


def _tokens(model: PreTrainedModel) -> Tensor:
    """Fixed tokens (2, T), longer than a sliding window where that is short."""
    plain = text_config(model.config)
    window = getattr(plain, "sliding_window", None) or 0
    longest = getattr(plain, "max_position_embeddings", None) or 4096
    length = min(longest, max(24, window + 8) if window <= 256 else 24)
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(3, _vocabulary(model), (2, length), generator=generator)
    return tokens_BT.to(model.device)


def _vocabulary(model: PreTrainedModel) -> int:
    return model.get_input_embeddings().get_parameter("weight").shape[0]


def _finite(model: PreTrainedModel) -> str | None:
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            return f"{name} holds NaN or infinity."
    return None


def _places(model: PreTrainedModel) -> str | None:
    found = anatomy(model)
    for place, block in enumerate(found.blocks):
        for name, module in block.named_modules():
            index = getattr(module, "layer_idx", place)
            if index is not None and index != place:
                return f"{found.path}.{place}.{name} believes to be block {index}."
    return None


def _ties(model: PreTrainedModel) -> str | None:
    if not getattr(text_config(model.config), "tie_word_embeddings", False):
        return None
    same = model.get_input_embeddings().weight is anatomy(model).head.weight
    return None if same else "The config ties the head to the token embeddings, but they are two tensors."


@torch.no_grad()
def _cached(model: PreTrainedModel, tokens_BT: Tensor) -> str | None:
    whole_BTV = _logits(model, tokens_BT)
    prompt = tokens_BT.shape[1] // 2
    output = model(tokens_BT[:, :prompt], use_cache=True)
    accepted = inspect.signature(model.forward).parameters
    name = next((name for name in CACHES if name in accepted and output.get(name) is not None), None)
    if name is None:
        return None
    parts = [output.logits]
    for place in range(prompt, tokens_BT.shape[1]):
        cache = {name: output[name]}
        output = model(tokens_BT[:, place : place + 1], use_cache=True, **cache)
        parts.append(output.logits)
    return _differ(torch.cat(parts, dim=1), whole_BTV, tolerance=CACHED[model.dtype])


def _gradients(model: PreTrainedModel, tokens_BT: Tensor) -> str | None:
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    saved = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.requires_grad_(True).zero_grad()
    model(tokens_BT, labels=tokens_BT, use_cache=False).loss.backward()
    asked = [pair for pair in model.named_parameters() if not any(word in pair[0] for word in CHOOSERS)]
    unreached = [name for name, parameter in asked if parameter.grad is None]
    for name, parameter in model.named_parameters():
        parameter.grad = saved[name]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return f"No gradient reaches {unreached[0]}." if unreached else None


@torch.no_grad()
def _reloaded(model: PreTrainedModel, tokens_BT: Tensor) -> str | None:
    with tempfile.TemporaryDirectory() as folder, quiet():
        model.save_pretrained(folder)
        loaded: Any = type(model).from_pretrained(folder, dtype=model.dtype, output_loading_info=True)
    again, report = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            return f"{kind.replace('_', ' ')}: {sorted(map(str, report[kind]))[0]}."
    again.to(model.device).eval()
    kept = again.state_dict()
    for name, tensor in model.state_dict().items():
        if not torch.equal(tensor, kept[name]):
            return f"{name} differs after it was saved and loaded."
    return _differ(_logits(again, tokens_BT), _logits(model, tokens_BT), tolerance=0.0)


@torch.no_grad()
def _arranged(
    model: PreTrainedModel, sources: Sequence[PreTrainedModel], block_map: BlockMap, tokens_BT: Tensor
) -> str | None:
    """The sources' own blocks, each called as its own model calls it; a silent one is left out."""
    stacks = [Stack(source, tokens_BT) for source in sources]
    whence = stacks[block_map.outside or 0]
    hidden_BTD = whence.hidden0
    for place in block_map.places:
        if place.block is not None and not place.silent:
            hidden_BTD = stacks[place.source].run(hidden_BTD, [place.block])
    return _differ(_logits(model, tokens_BT), whence.logits(hidden_BTD), tolerance=ARRANGED[model.dtype])


def _logits(model: PreTrainedModel, tokens_BT: Tensor) -> Tensor:
    return model(tokens_BT, use_cache=False).logits


def _differ(seen_BTV: Tensor, wanted_BTV: Tensor, tolerance: float) -> str | None:
    """None, or the first position at which two logits differ by more than the tolerance (relative)."""
    scale = max(1.0, wanted_BTV.abs().max().item())
    apart_BT = (seen_BTV.float() - wanted_BTV.float()).abs().amax(dim=-1) / scale
    wrong = (~(apart_BT <= tolerance)).nonzero().tolist()
    if not wrong:
        return None
    row, position = wrong[0]
    return f"Logits differ by {apart_BT[row, position]:.2g}, first at position {position} of sequence {row}."
