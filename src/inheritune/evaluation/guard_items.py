"""A guard set that needs no download: next words to choose between, made by code from a seed.

Each item is a text and some next words, the right one first. An item rests on what its text says (copying, lookup, arithmetic shown by
examples) or on what any English text teaches (agreement in number, opposites, capitals).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

_WORDS = (
    "apple river stone cloud paper bridge candle garden window silver mountain pocket summer yellow dragon basket"
    " mirror orange rabbit thunder village winter pencil hammer island market needle oyster planet ribbon saddle temple"
)
_NAMES = "Anna Ben Clara David Emma Frank Grace Henry Julia Kevin Laura Martin Nora Oscar Paula Robert Sarah Thomas"
_COLOURS = "red blue green black white brown pink gray purple orange"
_THINGS = "cup hat bag coat box book chair lamp door car"
_NOUNS = "key boy teacher dog doctor farmer author picture table student"
_PLACES = "cabinet house car garden tree river road school tower shop"
_OPPOSITES = (
    "hot:cold up:down black:white big:small day:night open:closed old:young fast:slow happy:sad rich:poor high:low"
    " long:short dark:light wet:dry strong:weak early:late left:right good:bad love:hate true:false"
)
_CAPITALS = (
    "France:Paris Germany:Berlin Italy:Rome Spain:Madrid England:London Russia:Moscow Japan:Tokyo China:Beijing Egypt:Cairo"
    " Greece:Athens Ireland:Dublin Portugal:Lisbon Austria:Vienna Poland:Warsaw Norway:Oslo Sweden:Stockholm"
)


@dataclass(frozen=True)
class Item:
    """A text, and the next words to choose between: the right one first."""

    task: str
    text: str
    choices: tuple[str, ...]

    @property
    def chance(self) -> float:
        """The share that guessing has right."""
        return 1 / len(self.choices)


def items(each: int = 60, seed: int = 0) -> list[Item]:
    """`each` items of every task, the same for the same seed."""
    made = []
    for task, make in _TASKS.items():
        source = random.Random(f"{seed} {task}")
        made += [Item(task, *make(source)) for _ in range(each)]
    return made


def _agreement(source: random.Random) -> tuple[str, tuple[str, ...]]:
    """The verb follows the first noun, not the nearer one, which is of the other number."""
    plural, noun, place = source.random() < 0.5, source.choice(_NOUNS.split()), source.choice(_PLACES.split())
    near = place if plural else f"{place}s"
    text = f"The {noun}{'s' * plural} {source.choice(('near', 'behind', 'beside'))} the {near}"
    right, wrong = source.choice(((" are", " is"), (" were", " was"), (" have", " has")))
    return text, (right, wrong) if plural else (wrong, right)


def _copy(words: int) -> Callable[[random.Random], tuple[str, tuple[str, ...]]]:
    """A list of words a second time, up to one of them."""

    def make(source: random.Random) -> tuple[str, tuple[str, ...]]:
        listed = source.sample(_WORDS.split(), words)
        at = source.randrange(2, len(listed) - 1)
        others = source.sample([word for word in listed if word != listed[at]], 3)
        return f"{' '.join(listed)}. {' '.join(listed[:at])}", tuple(f" {word}" for word in (listed[at], *others))

    return make


def _lookup(facts: int) -> Callable[[random.Random], tuple[str, tuple[str, ...]]]:
    """Who has a thing of which colour, asked about one of them."""

    def make(source: random.Random) -> tuple[str, tuple[str, ...]]:
        names, colours = source.sample(_NAMES.split(), facts), [source.choice(_COLOURS.split()) for _ in range(facts)]
        things = [source.choice(_THINGS.split()) for _ in range(facts)]
        at = source.randrange(facts)
        told = [f"{name} has a {colour} {thing}." for name, colour, thing in zip(names, colours, things, strict=True)]
        others = source.sample([colour for colour in _COLOURS.split() if colour != colours[at]], 3)
        text = f"{' '.join(told)} What colour is the {things[at]} of {names[at]}? It is"
        return text, tuple(f" {colour}" for colour in (colours[at], *others))

    return make


def _sum(source: random.Random) -> tuple[str, tuple[str, ...]]:
    """A sum below ten behind four others."""
    digits = _DIGITS.split()
    shown = [_summands(source) for _ in range(4)]
    one, two = _summands(source)
    wrong = source.sample([number for number in range(2, 10) if number != one + two], 3)
    text = " ".join(f"{a} plus {b} is {digits[a + b]}." for a, b in shown)
    return f"{text} {one} plus {two} is", tuple(f" {digits[number]}" for number in (one + two, *wrong))


_DIGITS = "zero one two three four five six seven eight nine"


def _summands(source: random.Random) -> tuple[int, int]:
    one = source.randrange(1, 8)
    return one, source.randrange(1, 10 - one)


def _pair(table: str, says: str) -> Callable[[random.Random], tuple[str, tuple[str, ...]]]:
    """What belongs to a word, among what belongs to others."""
    pairs = [tuple(pair.split(":")) for pair in table.split()]

    def make(source: random.Random) -> tuple[str, tuple[str, ...]]:
        (asked, right), *others = source.sample(pairs, 4)
        return says.format(asked), tuple(f" {word}" for word in (right, *(other for _, other in others)))

    return make


_TASKS: dict[str, Callable[[random.Random], tuple[str, tuple[str, ...]]]] = {
    "agreement": _agreement,
    "copy, 8 words": _copy(8),
    "copy, 32 words": _copy(32),
    "lookup, 4 facts": _lookup(4),
    "lookup, 12 facts": _lookup(12),
    "sums": _sum,
    "opposites": _pair(_OPPOSITES, "The opposite of {} is"),
    "capitals": _pair(_CAPITALS, "The capital of {} is"),
}
