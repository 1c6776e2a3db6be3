"""Surgery on model folders for which the model is built: cut or grow, heal, prove, and put the result in place."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.counted import miscounted
from inheritune.decoder.layerlists import cut_config
from inheritune.decoder.parts import PARTS
from inheritune.disk.files import digest
from inheritune.disk.folders import require_room
from inheritune.models.begin import begin_of
from inheritune.models.export import write_model
from inheritune.models.folder import PROOF, copy_along, pieces_of, placed, require_place
from inheritune.models.hollow import Checkpoint, open_checkpoint, tower_of
from inheritune.models.load import file_text, kept_dtype, load_model, tokenizer_at, tokens_of
from inheritune.models.quiet import quiet
from inheritune.models.shards import fingerprint
from inheritune.progress import Tally, Tell, silent
from inheritune.records.model_folder import Healing, ModelOrigin
from inheritune.runtime.device import device
from inheritune.surgery.blockmap import BlockMap, require_kept
from inheritune.surgery.byte_ranges import TINY, WRITING
from inheritune.surgery.heal import heal
from inheritune.surgery.in_files import assemble_files
from inheritune.surgery.in_memory import growth, inherit, require_identities, with_outside
from inheritune.surgery.kept_tensors import repair_beside
from inheritune.surgery.proof import Proof, prove
from inheritune.surgery.record import license_of, origin_of, save_with_card
from inheritune.surgery.requests import CutRequest, GrowRequest
from inheritune.words import plural

HEAL_LENGTH, HEAL_SEQUENCES = 512, 64
PROVING = "Proof"


@quiet()
def cut_by_model(source: Path, target: Path, cut: CutRequest, force: bool = False, tell: Tell = silent) -> ModelOrigin:
    """Like `inherit_folder`, but build the model to see its structure: for any family, and with every option."""
    require_place(target, [source], force)
    if cut.heal is not None:
        file_text(cut.heal)  # an unreadable text is reported before anything is loaded
    if source.suffix == ".gguf":
        proved = replace(cut, proved=_proves(cut.proved, source.stat().st_size))
        return _in_memory(source, target, proved, force, tell)
    checkpoint = open_checkpoint(source, cut.trust)
    BlockMap.of(cut.blocks).within(checkpoint.stack.depth)
    if cut.heal is not None or cut.dtype is not None:
        proved = replace(cut, proved=_proves(cut.proved, checkpoint.size))
        return _in_memory(source, target, proved, force, tell)
    return _between_files(checkpoint, target, cut, force, tell)


@quiet()
def grow_folder(
    target: Path, reference: Path, out: Path, plan: GrowRequest, force: bool = False, tell: Tell = silent
) -> ModelOrigin:
    """Grow the model `target`, which holds the reference's blocks `plan.held`, to `plan.wanted`, in the folder `out`.

    `tell` is called as in `inherit_folder`.
    """
    require_place(out, [target, reference], force)
    own, parent = open_checkpoint(target, plan.trust), open_checkpoint(reference, plan.trust)
    block_map = growth(own.model, parent.model, plan.held, plan.wanted, plan.start)
    require_kept(plan.held, plan.wanted)
    record = ModelOrigin(
        action="grow",
        source=reference.name,
        fingerprint=print_of(reference),
        reference_depth=parent.stack.depth,
        blocks=list(plan.wanted),
        parts=sorted(PARTS),
        outside="target",
        new_blocks=plan.start,
        miscounted=miscounted(parent.config, cut_config(parent.config, plan.wanted, base=own.config)),
    )
    with placed(out, force) as folder:
        assemble_files([own, parent], block_map, folder, plan.seed, partial(tell, WRITING))
        copy_along(target, folder)
        if _proves(plan.proved, parent.size):
            _prove(folder, [target, reference], block_map, plan.trust, tell)
            record = record.model_copy(update={"proved": True})
        elif plan.start == "identity":
            require_identities(load_model(folder, trust=plan.trust, on=device()), block_map)
        save_with_card(record, folder, license_of(target) or license_of(reference))
    return record


def _between_files(checkpoint: Checkpoint, target: Path, cut: CutRequest, force: bool, tell: Tell) -> ModelOrigin:
    source = checkpoint.folder
    block_map = with_outside(BlockMap.of(cut.blocks).of_parts(cut.parts), checkpoint.model, cut.outside)
    record = _origin(source, cut, print_of(source), checkpoint.model)
    with placed(target, force) as folder:
        assemble_files([checkpoint], block_map, folder, cut.seed, partial(tell, WRITING))
        copy_along(source, folder)
        if _proves(cut.proved, checkpoint.size):
            _prove(folder, [source], block_map, cut.trust, tell)
            record = record.model_copy(update={"proved": True})
        save_with_card(record, folder, license_of(source))
    return record


def _origin(source: Path, cut: CutRequest, print_: str, model: PreTrainedModel) -> ModelOrigin:
    """The record of a cut of `model`, the one in `source`; it may be on the meta device."""
    return ModelOrigin(
        action="inherit",
        source=source.name,
        fingerprint=print_,
        reference_depth=anatomy(model).depth,
        blocks=cut.blocks,
        parts=sorted(PARTS if cut.parts is None else cut.parts),
        outside=cut.outside,
        origin=origin_of(source, cut.blocks),
        tower_of=tower_of(source, model),
        miscounted=miscounted(model.config, cut_config(model.config, cut.blocks)),
    )


def _prove(folder: Path, sources: list[Path], block_map: BlockMap, trust: bool, tell: Tell) -> None:
    """Prove the model that was written, against its sources where every block is inherited whole."""
    *against, made = _loaded([*(sources if block_map.whole else []), folder], None, trust, tell)
    proof = prove(_there(made), against or None, block_map if against else None, count=partial(tell, PROVING))
    proof.require().save(folder / PROOF)


def _loaded(places: list[Path], dtype: torch.dtype | None, trust: bool, tell: Tell) -> list[PreTrainedModel]:
    """Load these models whole into the CPU's memory, all in `dtype` or, where that is None, in the dtype of the first."""
    tell(stage := f"Loading {plural(len(places), 'model')}", 0, len(places))
    models: list[PreTrainedModel] = []
    for place in places:
        models.append(load_model(place, dtype or (models[0].dtype if models else None), trust))
        tell(stage, len(models), len(places))
    return models


def _there(model: PreTrainedModel) -> PreTrainedModel:
    """Move a model to the device for computing; a proof or repair fetches what it needs of other models from the CPU's memory."""
    return model.to(device())  # type: ignore[arg-type]


def _in_memory(source: Path, target: Path, cut: CutRequest, force: bool, tell: Tell) -> ModelOrigin:
    with nullcontext() if cut.heal is None else repair_beside(target) as kept:
        [reference] = _loaded([source], cut.dtype, cut.trust, tell)
        print_ = print_of(source)
        model = _there(inherit(reference, cut.blocks, parts=cut.parts, outside=cut.outside, seed=cut.seed))
        record = _origin(source, cut, print_, reference)
        require_room(target, sum(tensor.numel() * tensor.element_size() for tensor in model.parameters()))
        with placed(target, force) as folder:
            whole = cut.parts is None and cut.outside == "all"
            against, count = reference if whole else None, partial(tell, PROVING)
            proof = prove(model, against, cut.blocks, count=count) if cut.proved else None
            if kept is not None:
                healing = partial(_heal, source=source, made_of=print_, kept=kept, count=partial(tell, "Repair"))
                record = record.model_copy(update={"healed": healing(model, reference, cut)})
                proof = _both(proof, prove(model, count=count)) if proof else None
            tell(WRITING, 0, 1)
            packed = source.suffix == ".gguf"
            words, dtype = (tokenizer_at(source), cut.dtype or kept_dtype(source)) if packed else (None, None)
            write_model(model, folder, source=source, tokenizer=words, dtype=dtype)
            tell(WRITING, 1, 1)
            if proof:
                proof.require().save(folder / PROOF)
                record = record.model_copy(update={"proved": True})
            save_with_card(record, folder, license_of(source))
    return record


def _heal(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    cut: CutRequest,
    *,
    source: Path,
    made_of: str,
    kept: Path,
    count: Tally,
) -> Healing:
    assert cut.heal is not None
    longest = getattr(model.config, "max_position_embeddings", None) or HEAL_LENGTH
    tokenizer = tokenizer_at(source)
    tokens_BT = tokens_of(cut.heal, tokenizer, min(HEAL_LENGTH, longest), HEAL_SEQUENCES)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
    unasked = begin_of(tokenizer).unasked
    healing = heal(
        model.float(),
        reference.float(),
        cut.blocks,
        tokens_BT,
        unasked=unasked,
        count=count,
        kept=kept,
        made_of=made_of,
    )
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtypes[name])
    return healing


def _both(first: Proof, second: Proof) -> Proof:
    """One proof of the cut and of the healed model."""
    return Proof([*first.checks, *(replace(check, name=f"healed: {check.name}") for check in second.checks)])


def _proves(asked: bool | None, size: int) -> bool:
    return size <= TINY if asked is None else asked


def print_of(place: Path) -> str:
    """The fingerprint of a model folder or GGUF file, as records name their source."""
    if place.suffix == ".gguf":
        return digest(place)
    return fingerprint((place / "config.json").read_bytes(), pieces_of(place))
