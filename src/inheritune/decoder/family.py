"""A family for which the config determines every tensor's name and shape, as a short text: for a cut without torch.

A line of `block` or `around` is a tensor's name, its shape and, perhaps, a mark that it has a bias: `+` always, `+flag` where the
config sets that flag. `.weight` is added to a name, unless `=` stands before it; `{E}` is replaced by each expert's number. Shapes are
sums of multiples of these letters: D hidden width, I inner width, M an expert's inner width, V vocabulary, P positions, E experts,
H heads, K key-value heads, S head width, Q = H * S, C = K * S. L is the depth.
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
    """One family, whose tensors are named and shaped as `block`, `around` and `last` (an untied head) say.

    `sizes` are config keys that differ from the usual ones (`a|b`: either); `unsaid` sizes, and `on` flags, that its class fills in where
    the config does not say them. `needs` are values without which its blocks would be others. `lists` are the lists by layer that the
    config must hold, each with the number of layers after which it repeats; `known` are keys that only sound as if they were by layer.
    `head` says of `head_dim`: `own`, the config must say it; `told`, it may; `null`, it may also be null; `width`, it may not. Where it is
    not said, S is D / H.
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
        """The config's keys for the size with this letter."""
        return (_SIZES | dict(self.sizes))[letter].split("|")

    def depth(self, config: Mapping[str, Any]) -> int:
        """The number of blocks, by the config."""
        return _Sizes(self, config)["L"]

    def flag(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether a flag is set; raises ValueError where its value is no boolean."""
        value = config.get(name, name in self.on)
        if type(value) is not bool:
            raise ValueError(name)
        return value

    def tensors(self, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Name and shape of every tensor of the model; raises KeyError, TypeError or ValueError where the config does not tell."""
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
        """Whether the config has the values in `needs`: sizes among them must be in the config, others may be left out."""
        size = _Sizes(self, config)
        sizes = {key: size.sum(value) for key, value in self.needs.items() if isinstance(value, str)}
        others = {key: config.get(key, value) for key, value in self.needs.items() if key not in sizes}
        said = all(config.get(key) == value for key, value in sizes.items())
        return said and all(
            type(value) is type(self.needs[key]) and value == self.needs[key] for key, value in others.items()
        )


class _Sizes(dict[str, int]):
    """The sizes in a config, by letter, each an integer of at least 1."""

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
