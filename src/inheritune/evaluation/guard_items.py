"""A guard set that needs no download: next words to choose between, made by code from a seed.

Each item is a text and some next words, the right one first. An item rests on what its text says (copying, lookup, arithmetic shown by
examples) or on what any English text teaches (agreement, reflexives, opposites, capitals).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

_WORDS = (
    "apple river stone cloud paper bridge candle garden window silver mountain pocket summer yellow dragon basket"
    " mirror orange rabbit thunder village winter pencil hammer island market needle oyster planet ribbon saddle temple"
)
_WOMEN, _MEN = (
    "Anna Clara Emma Grace Julia Laura Nora Paula Sarah Mary",
    "Ben David Frank Henry Kevin Martin Oscar Robert Thomas John",
)
_PEOPLE = "boy girl teacher doctor farmer author student singer driver lawyer"
_PLACES = "cabinet house car garden tree river road school tower shop"
_DEEDS = "hurt saw blamed described praised taught"
_ROLES = "doctor farmer teacher singer driver lawyer author baker soldier painter judge nurse sailor tailor"
_NUMBERS = "one two three four five six seven eight nine"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SENTENCES = (
    "The day was long and quiet.|Nothing moved in the street.|Rain fell on the roofs.|A dog slept by the door."
    "|The clock on the wall had stopped.|Somebody closed a window."
)
_OPPOSITES = (
    "arrive:leave begin:end buy:sell push:pull laugh:cry accept:refuse import:export borrow:lend attack:defend succeed:fail"
    " increase:decrease expand:contract remember:forget ancient:modern brave:cowardly cheap:expensive empty:full guilty:innocent"
    " humble:proud generous:selfish narrow:wide polite:rude public:private quiet:loud rough:smooth shallow:deep simple:complex"
    " thick:thin tight:loose winner:loser friend:enemy victory:defeat profit:loss question:answer summer:winter"
    " maximum:minimum minority:majority temporary:permanent"
)
_CAPITALS = (
    "Australia:Canberra:Sydney,Melbourne,Brisbane Canada:Ottawa:Toronto,Montreal,Vancouver Turkey:Ankara:Istanbul,Izmir,Antalya"
    " Switzerland:Bern:Zurich,Geneva,Basel India:Delhi:Mumbai,Kolkata,Chennai Morocco:Rabat:Casablanca,Marrakesh,Fez"
    " Scotland:Edinburgh:Glasgow,Aberdeen,Dundee Italy:Rome:Milan,Naples,Venice Spain:Madrid:Barcelona,Valencia,Seville"
    " Germany:Berlin:Munich,Hamburg,Frankfurt Russia:Moscow:Petersburg,Kazan,Sochi Japan:Tokyo:Osaka,Kyoto,Hiroshima"
    " France:Paris:Lyon,Marseille,Nice England:London:Manchester,Liverpool,Oxford Poland:Warsaw:Krakow,Gdansk,Lublin"
    " Portugal:Lisbon:Porto,Braga,Faro Vietnam:Hanoi:Saigon,Hue,Dalat Egypt:Cairo:Alexandria,Luxor,Aswan"
    " Pakistan:Islamabad:Karachi,Lahore,Peshawar Israel:Jerusalem:Haifa,Tel,Nazareth Greece:Athens:Thessaloniki,Patras,Sparta"
    " Netherlands:Amsterdam:Rotterdam,Utrecht,Hague Texas:Austin:Houston,Dallas,Antonio California:Sacramento:Los,San,Oakland"
    " Florida:Tallahassee:Miami,Orlando,Tampa Illinois:Springfield:Chicago,Aurora,Peoria Georgia:Atlanta:Savannah,Athens,Macon"
    " Massachusetts:Boston:Cambridge,Salem,Worcester Tennessee:Nashville:Memphis,Knoxville,Chattanooga"
    " Pennsylvania:Harrisburg:Philadelphia,Pittsburgh,Erie Austria:Vienna:Graz,Linz,Salzburg Belgium:Brussels:Antwerp,Ghent,Bruges"
    " Hungary:Budapest:Debrecen,Szeged,Pecs Ireland:Dublin:Cork,Galway,Limerick Norway:Oslo:Bergen,Trondheim,Stavanger"
    " Sweden:Stockholm:Gothenburg,Malmo,Uppsala Denmark:Copenhagen:Aarhus,Odense,Aalborg Finland:Helsinki:Tampere,Turku,Oulu"
    " Romania:Bucharest:Cluj,Brasov,Constanta Bulgaria:Sofia:Plovdiv,Varna,Burgas Croatia:Zagreb:Split,Zadar,Dubrovnik"
    " Thailand:Bangkok:Phuket,Chiang,Pattaya Philippines:Manila:Cebu,Davao,Baguio Iran:Tehran:Isfahan,Shiraz,Tabriz"
    " Iraq:Baghdad:Basra,Mosul,Kirkuk Syria:Damascus:Aleppo,Homs,Latakia Cuba:Havana:Santiago,Cienfuegos,Trinidad"
    " Chile:Santiago:Valparaiso,Concepcion,Antofagasta Peru:Lima:Cusco,Arequipa,Trujillo Colombia:Bogota:Medellin,Cali,Cartagena"
    " Venezuela:Caracas:Maracaibo,Valencia,Merida Ecuador:Quito:Guayaquil,Cuenca,Loja Kenya:Nairobi:Mombasa,Kisumu,Nakuru"
    " Nigeria:Abuja:Lagos,Kano,Ibadan Ghana:Accra:Kumasi,Tamale,Tema Tanzania:Dodoma:Arusha,Mwanza,Zanzibar"
    " Arizona:Phoenix:Tucson,Mesa,Flagstaff Colorado:Denver:Boulder,Aspen,Pueblo Oregon:Salem:Portland,Eugene,Bend"
    " Washington:Olympia:Seattle,Spokane,Tacoma Michigan:Lansing:Detroit,Flint,Grand Ohio:Columbus:Cleveland,Cincinnati,Toledo"
    " Virginia:Richmond:Norfolk,Alexandria,Roanoke Maryland:Annapolis:Baltimore,Frederick,Rockville"
    " Alabama:Montgomery:Birmingham,Mobile,Huntsville Louisiana:Baton:Orleans,Lafayette,Shreveport"
    " Kentucky:Frankfort:Louisville,Lexington,Bowling Wisconsin:Madison:Milwaukee,Green,Racine"
    " Alaska:Juneau:Anchorage,Fairbanks,Sitka Wales:Cardiff:Swansea,Newport,Wrexham"
)
_SHOWN = 8  # examples before a question of arithmetic
_DRAWN = 20  # draws per wanted question, since some tasks have few questions
_Made = tuple[str, tuple[str, ...]]
_Make = Callable[[random.Random], _Made]


@dataclass(frozen=True)
class Item:
    """A text, and the next words to choose between: the right one first."""

    task: str
    text: str
    choices: tuple[str, ...]

    @property
    def chance(self) -> float:
        """The share of items that guessing gets right."""
        return 1 / len(self.choices)


def items(each: int = 100, seed: int = 0) -> list[Item]:
    """Up to `each` items of every task, no question twice, the same for the same seed."""
    return [item for task in _TASKS for item in _distinct(task, each, random.Random(f"{seed} {task}"))]


@cache
def about_tokens() -> int:
    """About how many tokens all items have: one is some four characters."""
    return sum(len(item.text) for item in items()) // 4


def _distinct(task: str, each: int, source: random.Random) -> list[Item]:
    made: dict[str, Item] = {}
    for _ in range(_DRAWN * each):
        if len(made) < each:
            text, choices = _TASKS[task](source)
            made.setdefault(text, Item(task, text, choices))
    return list(made.values())


def _words(*choices: str) -> tuple[str, ...]:
    """Next words, each with a space in front."""
    return tuple(f" {choice}" for choice in choices)


def _others(source: random.Random, among: list[str], *right: str) -> list[str]:
    """Three wrong choices."""
    return source.sample([one for one in among if one not in right], 3)


def _agreement(source: random.Random) -> _Made:
    """The verb follows the first noun, not the nearer one, which is of the other number: behind a place, or a clause of its own."""
    plural, noun = source.random() < 0.5, source.choice(_PEOPLE.split())
    if source.random() < 0.5:
        place = source.choice(_PLACES.split())
        rest = f"{source.choice(('near', 'behind', 'beside'))} the {place if plural else f'{place}s'}"
    else:
        other = source.choice([one for one in _PEOPLE.split() if one != noun])
        verb = source.choice(("like", "see", "know", "help", "follow"))
        rest = f"that the {f'{other} {verb}s' if plural else f'{other}s {verb}'}"
    right, wrong = source.choice((("are", "is"), ("were", "was"), ("have", "has")))
    return f"The {noun}{'s' * plural} {rest}", _words(*((right, wrong) if plural else (wrong, right)))


def _reflexive(source: random.Random) -> _Made:
    """The pronoun follows the one who acts, not the two who were named before."""
    woman = source.random() < 0.5
    actor, others = source.choice((_WOMEN if woman else _MEN).split()), (_MEN if woman else _WOMEN).split()
    one, two = source.sample(others, 2)
    right, wrong = ("herself", "himself") if woman else ("himself", "herself")
    return f"{one} told {two} that {actor} {source.choice(_DEEDS.split())}", _words(right, wrong)


def _opposite(source: random.Random) -> _Made:
    """The opposite of a word, among the word itself and two words of other pairs."""
    pairs = [tuple(pair.split(":")) for pair in _OPPOSITES.split()]
    (one, two), (other, _), (_, another) = source.sample(pairs, 3)
    asked, right = source.choice(((one, two), (two, one)))
    return f"The opposite of {asked} is", _words(right, asked, other, another)


def _capital(source: random.Random) -> _Made:
    """The capital, among other large cities of the same country or state."""
    country, right, cities = source.choice(_CAPITALS.split()).split(":")
    return f"The capital of {country} is", _words(right, *cities.split(","))


def _down(source: random.Random) -> _Made:
    """The next number of a count down between two tens, by one or by two."""
    numbers, tens, step = _NUMBERS.split(), source.choice(_TENS.split()), source.choice((1, 2))
    start = source.randrange(3 * step, len(numbers))
    shown, right = [numbers[start - step * at] for at in range(3)], numbers[start - 3 * step]
    wrong = source.sample([number for number in numbers if number not in (right, *shown)], 2)
    return f"{', '.join(f'{tens}-{number}' for number in shown)}, {tens}-", (right, shown[-1], *wrong)


def _sum(source: random.Random) -> _Made:
    """A sum below ten, after eight solved ones."""
    *shown, (one, two) = [_summands(source) for _ in range(_SHOWN + 1)]
    wrong = _others(source, [str(digit) for digit in range(1, 10)], str(one + two))
    lines = [f"{first}+{second}={first + second}" for first, second in shown]
    return "\n".join([*lines, f"{one}+{two}="]), (str(one + two), *wrong)


def _summands(source: random.Random) -> tuple[int, int]:
    one = source.randrange(1, 9)
    return one, source.randrange(1, 10 - one)


def _copy(words: int, between: int = 0) -> _Make:
    """A list of words, some sentences, and the list again up to one of its words, which is to be copied."""

    def make(source: random.Random) -> _Made:
        listed = source.sample(_WORDS.split(), words)
        at = source.randrange(2, len(listed) - 1)
        told = " ".join([f"{' '.join(listed)}.", *source.sample(_SENTENCES.split("|"), between), *listed[:at]])
        return told, _words(listed[at], *_others(source, listed, listed[at]))

    return make


def _after(source: random.Random) -> _Made:
    """The word that followed another one in a list."""
    listed = source.sample(_WORDS.split(), 20)
    at = source.randrange(1, len(listed) - 1)
    asked, right = listed[at - 1], listed[at]
    return f"{' '.join(listed)}. {asked}", _words(right, *_others(source, listed, asked, right))


def _lookup(facts: int) -> _Make:
    """Facts of the form "The doctor is Anna", and a question about one of them."""

    def make(source: random.Random) -> _Made:
        roles, names = source.sample(_ROLES.split(), facts), source.sample(f"{_WOMEN} {_MEN}".split(), facts)
        at = source.randrange(facts)
        told = [f"The {role} is {name}." for role, name in zip(roles, names, strict=True)]
        return f"{' '.join(told)} The {roles[at]} is", _words(names[at], *_others(source, names, names[at]))

    return make


_TASKS: dict[str, _Make] = {
    "agreement": _agreement,
    "reflexives": _reflexive,
    "opposites": _opposite,
    "capitals": _capital,
    "counting down": _down,
    "sums": _sum,
    "copy, 8 words": _copy(8),
    "copy, 16 words, six sentences later": _copy(16, between=6),
    "word after a word, 20 words": _after,
    "lookup, 4 facts": _lookup(4),
    "lookup, 12 facts": _lookup(12),
}
