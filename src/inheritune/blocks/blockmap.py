"""Which source block stands at each place of the target: pure data, the one idea of surgery.

A `BlockMap` is carried out three times by the same question, `targets`: on a model in memory (`modules`),
between safetensors files (`files`) and on an optimizer's state (`training.carry`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from inheritune.blocks.parts import PARTS, part_of
from inheritune.errors import InputError

_ITEM = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
MOST_BLOCKS = 4096


@dataclass(frozen=True)
class Place:
    """What stands at one place of the target: `block` of `source` (None: a fresh block)."""

    block: int | None
    source: int = 0


@dataclass(frozen=True)
class BlockMap:
    """One `Place` for each block of the target, the parts inherited, and whence all outside the blocks comes."""

    places: tuple[Place, ...]
    parts: frozenset[str] = PARTS
    outside: int | None = 0

    @classmethod
    def of(cls, blocks: Iterable[int]) -> "BlockMap":
        """The map that takes these blocks of one source, in this order.

        Raises InputError for an empty list or a negative block.
        """
        places = tuple(Place(int(block)) for block in blocks)
        if not places:
            raise InputError("The list of blocks is empty: name at least one, for example 0-11.")
        if lowest := [place.block for place in places if place.block < 0]:  # type: ignore[operator]
            raise InputError(f"Block {lowest[0]} does not exist: blocks are counted from 0.")
        return cls(places)

    @classmethod
    def parse(cls, text: str) -> "BlockMap":
        """Read "0-5,8,9-11" (ranges are inclusive); raises InputError for anything else."""
        return cls.of(parse(text))

    @property
    def blocks(self) -> list[int]:
        """The source block at each place; asserts that no block is fresh."""
        assert all(place.block is not None for place in self.places)
        return [place.block for place in self.places if place.block is not None]

    @property
    def depth(self) -> int:
        return len(self.places)

    def within(self, depth: int) -> "BlockMap":
        """This map, if a source of `depth` blocks has all its blocks; else InputError."""
        for place in self.places:
            if place.block is not None and place.block >= depth:
                last = depth - 1
                raise InputError(f"Block {place.block} does not exist: the model's blocks are 0 to {last}.")
        return self

    def of_parts(self, parts: Iterable[str] | None) -> "BlockMap":
        """This map inheriting only these parts of each block; raises InputError for an unknown part."""
        wanted = PARTS if parts is None else frozenset(parts)
        if unknown := sorted(wanted - PARTS):
            raise InputError(f"Unknown part {unknown[0]!r}: the parts are {', '.join(sorted(PARTS))}.")
        return replace(self, parts=wanted)

    def compose(self, cut: "BlockMap") -> "BlockMap":
        """This map in terms of the source of `cut`, where this one picks from the places of `cut`."""
        self.within(cut.depth)
        return replace(self, places=tuple(cut.places[block] for block in self.blocks))

    def targets(self, name: str, path: str, source: int = 0) -> list[str]:
        """The names under which the target holds the source's tensor `name`; none if it is not inherited."""
        block, suffix = split_name(name, path)
        if block is None:
            return [name] if self.outside == source else []
        if part_of(suffix) not in self.parts:
            return []
        wanted = Place(block, source)
        return [f"{path}.{place}.{suffix}" for place, found in enumerate(self.places) if found == wanted]


def split_name(name: str, path: str) -> tuple[int | None, str]:
    """The block that a tensor's name belongs to and its name inside it; (None, name) outside the blocks."""
    if name.startswith(f"{path}."):
        block, _, suffix = name[len(path) + 1 :].partition(".")
        if block.isdigit() and suffix:
            return int(block), suffix
    return None, name


def parse(text: str) -> list[int]:
    """The blocks named by a text like "0-5,8,9-11"; ranges are inclusive, repeats are kept.

    Raises InputError for an empty text, a range that runs backwards and whatever is not a number or a range.
    """
    blocks = [block for item in text.split(",") for block in _range(item.strip(), text)]
    if len(blocks) > MOST_BLOCKS:
        raise InputError(f"{len(blocks)} blocks are more than the {MOST_BLOCKS} that a model may have.")
    return blocks


def _range(item: str, text: str) -> range:
    match = _ITEM.fullmatch(item)
    if match is None:
        raise InputError(f"Cannot read {item!r} in the blocks {text!r}: write numbers and ranges, as in 0-5,8.")
    first = int(match[1])
    last = int(match[2] or first)
    if last < first:
        raise InputError(f"The range {item} runs backwards: write {last}-{first}.")
    return range(first, last + 1)


def show(blocks: Sequence[int]) -> str:
    """The blocks as text that `parse` reads back: [0, 1, 2, 5] is "0-2,5"."""
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in _runs(blocks))


def _runs(blocks: Sequence[int]) -> Iterator[list[int]]:
    if not blocks:
        return
    run = [blocks[0]]
    for before, block in pairwise(blocks):
        if block != before + 1:
            yield run
            run = []
        run.append(block)
    yield run


def require_held(held: Sequence[int], depth: int) -> None:
    """Raise InputError unless `held` names one reference block for each of the target's blocks."""
    if len(held) != depth:
        raise InputError(f"The target has {depth} blocks, but {len(held)} held blocks were named.")


def grown(held: Sequence[int], wanted: Sequence[int]) -> BlockMap:
    """The map from a target that holds reference blocks `held` to one that holds `wanted`.

    Source 0 is the target (its places), source 1 the reference (its blocks). A block held more than once is
    used in the order in which it stands.
    """
    free: dict[int, list[int]] = defaultdict(list)
    for place, block in enumerate(held):
        free[block].append(place)
    taken = (Place(free[block].pop(0)) if free[block] else Place(block, source=1) for block in wanted)
    return BlockMap(tuple(taken))
