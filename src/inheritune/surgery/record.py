"""What is written beside a cut model: the machine's record of where it came from, and a card for people."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from inheritune.config.strict_yaml import value_of
from inheritune.disk.files import write_text
from inheritune.errors import InputError
from inheritune.models.folder import CARD, RECORD, read_json
from inheritune.records.model_folder import ModelOrigin
from inheritune.surgery.blockmap import BlockMap
from inheritune.words import code_span, show

_FRONT = 1 << 16  # bytes of a card that are looked at
_LICENSE = re.compile(r"[\w.+-]{1,60}")


def save_with_card(origin: ModelOrigin, folder: Path, license_name: str | None) -> None:
    """Write where a model came from into its folder: the record, and a model card made of it."""
    origin.save(folder / RECORD)
    write_text(folder / CARD, _card(origin, license_name))


def held_blocks(folder: Path) -> list[int]:
    """The reference's blocks that a model holds, as its record says; raises InputError without a record."""
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder} has no {RECORD}: say which of the reference's blocks it holds (--held 0-11).")
    blocks = read_json(folder, RECORD).get("blocks")
    if not isinstance(blocks, list) or not blocks or not all(type(block) is int for block in blocks):
        raise InputError(f"{folder / RECORD} names no blocks: say which ones the model holds (--held 0-11).")
    return blocks


def trained_tokens(folder: Path) -> int | None:
    """How many tokens a model was trained on since it was cut, as its record says; None for a plain cut."""
    tokens = read_json(folder, RECORD).get("trained_tokens") if (folder / RECORD).is_file() else None
    return tokens if type(tokens) is int else None


def origin_of(source: Path, blocks: Sequence[int]) -> dict[str, str] | None:
    """Where blocks of a model that was itself cut come from: its own reference's name, fingerprint and blocks."""
    try:
        held = BlockMap.of(held_blocks(source))
        composed = BlockMap.of(blocks).compose(held)
    except InputError:
        return None
    record = read_json(source, RECORD)
    return {**{name: str(record.get(name)) for name in ("source", "fingerprint")}, "blocks": show(composed.kinds)}


def license_of(folder: Path) -> str | None:
    """The licence that a model's card names, if it has a card that names one."""
    if not (folder / CARD).is_file():
        return None
    with (folder / CARD).open("rb") as file:
        text = file.read(_FRONT).decode(errors="replace")
    if not text.startswith("---"):
        return None
    try:
        front = value_of(text.split("---", 2)[1])
    except (ValueError, IndexError):
        return None
    name = front.get("license") if isinstance(front, dict) else None
    return name if isinstance(name, str) and _LICENSE.fullmatch(name) else None


def _card(record: ModelOrigin, license_name: str | None) -> str:
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["inheritune"]}
    front |= {"license": license_name} if license_name else {}
    lines = [
        f"# {len(record.blocks)} of {record.reference_depth} blocks of {code_span(record.source)}",
        "",
        f"Blocks, counted from 0: `{record.blocks_shown}`. Parts of each block: {', '.join(record.parts)}. "
        f"Outside the blocks: {record.outside}.",
        "",
        f"Source fingerprint: {code_span(record.fingerprint)}.",
    ]
    if record.tower_of:
        lines += [
            "",
            f"The source is a {code_span(record.tower_of)} model; this is its text tower, which reads text alone.",
        ]
    if record.miscounted:
        lines += ["", f"Caution: {record.miscounted}."]
    if record.origin:
        source, blocks, mark = (code_span(record.origin[name]) for name in ("source", "blocks", "fingerprint"))
        lines += ["", f"The source was itself made of {source}: these are its blocks {blocks}, fingerprint {mark}."]
    if record.healed:
        healed = record.healed
        lines += ["", f"Healed in closed form at places {show(healed.places)}: "]
        lines[-1] += f"{healed.loss_before:.3f} to {healed.loss_after:.3f} nats per token on {healed.tokens} tokens."
    lines += ["", "Made with " + ", ".join(f"{name} {number}" for name, number in record.versions.items()) + "."]
    return f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n" + "\n".join(lines) + "\n"
