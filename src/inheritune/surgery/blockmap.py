"""Which source block stands at each place of the target: pure data, the one idea of surgery.

A `BlockMap` is carried out three times by the same question, `targets`: on models in memory (`in_memory`),
between safetensors files (`in_files`) and on an optimizer's state (`on_optimizer`).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from inheritune.decoder.parts import ATTENTION, PARTS, closes, part_of, split_name
from inheritune.errors import InputError
from inheritune.words import show

_ITEM = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
MOST_BLOCKS = 4096
STARTS = ("inherited", "copied", "identity", "random")


@dataclass(frozen=True)
class Place:
    """What stands at one place of the target: these `parts` of `block` of `source` (None: a fresh block).

    `kind` is the block of the last source whose kind the place has (sliding or full attention, dense or experts).
    A `silent` place adds nothing to the residual: the tensors that close its parts are zero.
    """

    block: int | None
    kind: int
    source: int = 0
    parts: frozenset[str] = PARTS
    silent: bool = False

    def takes(self, block: int, suffix: str, source: int) -> bool:
        """Whether the source's tensor `suffix` of `block` comes to this place."""
        own = self.block == block and self.source == source and part_of(suffix) in self.parts
        return own and not (self.silent and closes(suffix))


@dataclass(frozen=True)
class BlockMap:
    """One `Place` for each block of the target, and where all tensors outside the blocks come from.

    `outside` is their source (None: none is inherited), `only` the names of those that are inherited (None: all).
    """

    places: tuple[Place, ...]
    outside: int | None = 0
    only: frozenset[str] | None = None

    @classmethod
    def of(cls, blocks: Iterable[int]) -> "BlockMap":
        """The map that takes these blocks of one source, in this order.

        Raises InputError for an empty list or a negative block.
        """
        places = tuple(Place(int(block), kind=int(block)) for block in blocks)
        if not places:
            raise InputError("The list of blocks is empty: name at least one, for example 0-11.")
        if lowest := [place.kind for place in places if place.kind < 0]:
            raise InputError(f"Block {lowest[0]} does not exist: blocks are counted from 0.")
        return cls(places)

    @classmethod
    def parse(cls, text: str) -> "BlockMap":
        """Read "0-5,8,9-11" (ranges are inclusive); raises InputError for anything else."""
        return cls.of(parse(text))

    @property
    def kinds(self) -> list[int]:
        """The block of the last source whose kind each place has."""
        return [place.kind for place in self.places]

    @property
    def depth(self) -> int:
        return len(self.places)

    @property
    def whole(self) -> bool:
        """Whether every tensor of the target is inherited, or zero."""
        inside = all(place.block is not None and place.parts == PARTS for place in self.places)
        return inside and self.outside is not None and self.only is None

    @property
    def before(self) -> list[int]:
        """For each place, the block index with which its attention computed in the source; its own place if that is fresh."""
        return [
            index if place.block is None or ATTENTION not in place.parts else place.block
            for index, place in enumerate(self.places)
        ]

    def within(self, *depths: int) -> "BlockMap":
        """Return this map; raises InputError where sources of these depths lack one of its blocks."""
        for place in self.places:
            for block, depth in ((place.block, depths[place.source]), (place.kind, depths[-1])):
                if block is not None and block >= depth:
                    raise InputError(f"Block {block} does not exist: the model's blocks are 0 to {depth - 1}.")
        return self

    def of_parts(self, parts: Iterable[str] | None) -> "BlockMap":
        """This map inheriting only these parts of each block; raises InputError for an unknown part."""
        wanted = PARTS if parts is None else frozenset(parts)
        if unknown := sorted(wanted - PARTS):
            raise InputError(f"Unknown part {unknown[0]!r}: the parts are {', '.join(sorted(PARTS))}.")
        return replace(self, places=tuple(replace(place, parts=wanted) for place in self.places))

    def compose(self, cut: "BlockMap") -> "BlockMap":
        """Rewrite this map, which picks from the places of `cut`, in terms of the source of `cut`."""
        self.within(cut.depth)
        return replace(self, places=tuple(cut.places[kind] for kind in self.kinds))

    def targets(self, name: str, path: str, source: int = 0) -> list[str]:
        """The names under which the target holds the source's tensor `name`; none if it is not inherited."""
        block, suffix = split_name(name, path)
        if block is None:
            return [name] if self.outside == source and (self.only is None or name in self.only) else []
        places = (at for at, place in enumerate(self.places) if place.takes(block, suffix, source))
        return [f"{path}.{at}.{suffix}" for at in places]

    def zeros(self, name: str, path: str) -> list[str]:
        """The names under which the target holds zeros in the form of the last source's tensor `name`."""
        block, suffix = split_name(name, path)
        silent = (at for at, place in enumerate(self.places) if place.silent and place.kind == block)
        return [f"{path}.{at}.{suffix}" for at in silent if closes(suffix)]


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


def require_held(held: Sequence[int], depth: int) -> None:
    """Raise InputError unless `held` names one reference block for each of the target's blocks."""
    if len(held) != depth:
        raise InputError(f"The target has {depth} blocks, but {len(held)} held blocks were named.")


def require_kept(held: Sequence[int], wanted: Sequence[int]) -> None:
    """Raise InputError where growing to `wanted` would drop a block that the target holds."""
    if lost := sorted(set(held) - set(wanted)):
        raise InputError(
            f"the target has blocks {show(held)}, and {show(wanted)} would drop {show(lost)} of them: growing keeps all its"
            " blocks, so name these too, or cut with `inheritune inherit`"
        )


def grown(
    held: Sequence[int],
    wanted: Sequence[int],
    start: str = "inherited",
    alike: Callable[[int, int], bool] = lambda one, other: True,
) -> BlockMap:
    """The map from a target that holds reference blocks `held` to one that holds `wanted`.

    Source 0 is the target (its places), source 1 the reference (its blocks). A block held more than once is
    used in the order in which it stands. New blocks are `inherited` from the reference, `copied` from the nearest
    of the target's blocks that `alike` calls of the same kind, `identity` (inherited, made silent) or `random`.
    Raises InputError for another start, and where there is nothing alike to copy.
    """
    if start not in STARTS:
        raise InputError(f"New blocks cannot start {start!r}: choose {', '.join(STARTS)}.")
    free: dict[int, list[int]] = defaultdict(list)
    for place, block in enumerate(held):
        free[block].append(place)

    def place_of(block: int) -> Place:
        if free[block]:
            return Place(free[block].pop(0), kind=block)
        if start == "copied":
            return Place(_nearest(held, block, alike), kind=block)
        return Place(None if start == "random" else block, kind=block, source=1, silent=start == "identity")

    return BlockMap(tuple(map(place_of, wanted)))


def _nearest(held: Sequence[int], block: int, alike: Callable[[int, int], bool]) -> int:
    """The target's place whose block stands nearest to `block` in the reference, the lower one of two."""
    places = [place for place, own in enumerate(held) if alike(own, block)]
    if not places:
        raise InputError(f"No block of the target is of the kind of block {block}: let new blocks start otherwise.")
    return min(places, key=lambda place: (abs(held[place] - block), held[place]))
