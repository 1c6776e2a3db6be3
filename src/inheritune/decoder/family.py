"""A family whose every tensor its config makes certain: names and shapes from a short text, for a cut without torch.

A line of `block` or `around` is a tensor's name, its shape and, perhaps, its bias: `+` always, `+flag` where the config
says so. `.weight` is left out, `=` begins a whole name, `{E}` counts the experts. Shapes are sums in these letters:
D width, I inner width, M an expert's, V words, P positions, E experts, H heads, S a head's width, Q = HS, C = the keys' S.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_SIZES = {
    **{"L": "num_hidden_layers", "D": "hidden_size", "I": "intermediate_size", "V": "vocab_size"},
    **{"H": "num_attention_heads", "K": "num_key_value_heads", "P": "max_position_embeddings"},
    **{"E": "num_local_experts|num_experts", "M": "moe_intermediate_size"},
}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """One family; `sizes` where its keys differ (`a|b`: either), `unsaid` and `on` what its class fills in.

    `needs` are values without which its blocks would be others, `lists` what its config must say by layer and after how
    many layers it comes again, `known` keys that sound as if they did, and `head` whether a head's width is `own`, `told`,
    `null` allowed, or the `width`'s.
    """

    architecture: str
    block: str
    around: str = "model.embed_tokens V,D\nmodel.norm D"
    path: str = "model.layers"
    last: str = "lm_head V,D"
    sizes: Mapping[str, str] = field(default_factory=dict)
    unsaid: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    on: frozenset[str] = frozenset()
    lists: Mapping[str, int] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    head: str = "told"

    def keys(self, letter: str) -> list[str]:
        """The config's keys for a size."""
        return (_SIZES | dict(self.sizes))[letter].split("|")

    def depth(self, config: Mapping[str, Any]) -> int:
        """How many blocks the config says."""
        return _Sizes(self, config)["L"]

    def flag(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether a flag is set; raises ValueError where it is no flag."""
        value = config.get(name, name in self.on)
        if type(value) is not bool:
            raise ValueError(name)
        return value

    def tensors(self, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Every tensor of the model; raises KeyError, TypeError or ValueError where the config does not say it."""
        size = _Sizes(self, config)
        around = f"{self.around}\n{'' if self.flag('tie_word_embeddings', config) else self.last}"
        yield from self._lines(around, "", size, config)
        for place in range(size["L"]):
            yield from self._lines(self.block, f"{self.path}.{place}.", size, config)

    def _lines(self, text: str, before: str, size: "_Sizes", config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        for line in filter(None, map(str.strip, text.split("\n"))):
            name, dims, *bias = line.split()
            shape = tuple(map(size.sum, dims.split(",")))
            end = "" if name.startswith("=") else ".weight"
            for expert in range(size["E"] if "{E}" in name else 1):
                own = before + name.removeprefix("=").replace("{E}", str(expert))
                yield own + end, shape
                if bias == ["+"] or (bias and self.flag(bias[0][1:], config)):
                    yield f"{own}.bias", shape[:1]

    def agrees(self, config: Mapping[str, Any]) -> bool:
        """Whether the config has the values that this family's blocks are known with; sizes must be said."""
        size = _Sizes(self, config)
        sizes = {key: size.sum(value) for key, value in self.needs.items() if isinstance(value, str)}
        others = {key: config.get(key, value) for key, value in self.needs.items() if key not in sizes}
        said = all(config.get(key) == value for key, value in sizes.items())
        return said and all(
            type(value) is type(self.needs[key]) and value == self.needs[key] for key, value in others.items()
        )


class _Sizes(dict[str, int]):
    """The sizes that a config says, by letter, each a whole number from 1 on."""

    def __init__(self, family: Family, config: Mapping[str, Any]):
        self.family, self.config = family, config

    def __missing__(self, letter: str) -> int:
        self[letter] = self._derived(letter) if letter in "SQC" else self._said(letter)
        return self[letter]

    def _said(self, letter: str) -> int:
        values = {self.config[key] for key in self.family.keys(letter) if key in self.config}
        if letter in self.family.unsaid and not values - {None}:
            return self.sum(self.family.unsaid[letter])
        (value,) = values
        if type(value) is not int or value < 1:
            raise ValueError(letter)
        return value

    def _derived(self, letter: str) -> int:
        if letter == "S":
            return self._head()
        if self["H"] % self["K" if letter == "C" else "H"]:
            raise ValueError(letter)
        return self["H" if letter == "Q" else "K"] * self["S"]

    def _head(self) -> int:
        head, told = self.family.head, self.config.get("head_dim")
        if "head_dim" in self.config and not (told is None and head == "null"):
            if type(told) is not int or told < 1 or head == "width":
                raise ValueError("head_dim")
            return told
        if head == "own" or self["D"] % self["H"]:
            raise ValueError("head_dim")
        return self["D"] // self["H"]

    def sum(self, text: str) -> int:
        """The value of a sum like Q+2C or P+2."""
        terms = text.split("+")
        return sum(int(term) if term.isdigit() else int(term[:-1] or 1) * self[term[-1]] for term in terms)
