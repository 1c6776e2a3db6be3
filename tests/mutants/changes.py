"""Small changes of our sources: drawn by rule from the syntax tree, and the ones by hand in `wiring.yaml`."""

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

_SWAPS: dict[type[ast.AST], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in", ast.NotIn: "in",
    ast.Is: "is not", ast.IsNot: "is", ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*",
    ast.Pow: "*", ast.And: "or", ast.Or: "and",
}  # fmt: skip
# What a report looks like, and how a command describes its options, no test is meant to hold.
_LOOKS = ("report/", "cli/")
_TELLING = frozenset({"note", "stage", "now", "say", "tell", "print"})


@dataclass(frozen=True)
class Change:
    """One change: `old` stands at byte `at` of the file and `new` takes its place."""

    path: str
    kind: str
    at: int
    old: str
    new: str

    @property
    def name(self) -> str:
        return blake2b(repr((self.path, self.kind, self.at, self.old, self.new)).encode(), digest_size=6).hexdigest()

    def lines(self, source: bytes) -> range:
        """The lines of the innermost statement that it changes; of one that holds others, those before them."""
        line, last = (source.count(b"\n", 0, at) + 1 for at in (self.at, self.at + len(self.old.encode())))
        found = range(line, last + 1)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
                inner = [each.lineno for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]
                if not inner or line < inner[0]:
                    found = range(node.lineno, max(last, min([*inner, (node.end_lineno or 0) + 1]) - 1) + 1)
        return found

    def applied(self, source: bytes) -> bytes:
        old = self.old.encode()
        assert source[self.at :].startswith(old), f"{self.path} has no {self.old!r} at {self.at}: draw anew"
        return source[: self.at] + self.new.encode() + source[self.at + len(old) :]


def draw(root: Path, count: int, by_hand: int, seed: int) -> list[Change]:
    """`count` changes, `by_hand` of them from the list, each kind of the others as often as any."""
    source = random.Random(seed)
    listed = wiring(root)
    chosen = source.sample(listed, min(by_hand, len(listed)))
    kinds: dict[str, list[Change]] = {}
    for change in generated(root):
        kinds.setdefault(change.kind, []).append(change)
    for changes in kinds.values():
        source.shuffle(changes)
    while len(chosen) < count:
        for kind in sorted(kinds):
            if kinds[kind] and len(chosen) < count:
                chosen.append(kinds[kind].pop())
    return chosen


def wiring(root: Path) -> list[Change]:
    """The changes by hand. ValueError where the code has moved on and a text is not there exactly once."""
    found = []
    for entry in yaml.safe_load((Path(__file__).parent / "wiring.yaml").read_text()):
        source = (root / entry["path"]).read_bytes()
        if source.count(entry["old"].encode()) != 1:
            raise ValueError(f"{entry['path']} holds {entry['old']!r} not once: mend tests/mutants/wiring.yaml")
        found.append(Change(entry["path"], "wiring", source.index(entry["old"].encode()), entry["old"], entry["new"]))
    return found


def generated(root: Path) -> Iterator[Change]:
    """Every change of an operator, constant, condition or call that the sources allow."""
    for file in sorted((root / "src" / "inheritune").rglob("*.py")):
        path = file.relative_to(root).as_posix()
        looks = any(path.startswith(f"src/inheritune/{room}") for room in _LOOKS)
        yield from _File(path, file.read_bytes()).changes(constants=not looks)


class _File:
    """One source file, and the places of its syntax tree in bytes."""

    def __init__(self, path: str, source: bytes):
        self.path, self.source = path, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def changes(self, constants: bool) -> Iterator[Change]:
        for node in _meant(ast.parse(self.source)):
            match node:
                case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _SWAPS:
                    yield from self._operator("comparison", left, right, _SWAPS[type(op)])
                case ast.BinOp(left=left, op=op, right=right) if type(op) in _SWAPS and not _is_text(left, right):
                    yield from self._operator("arithmetic", left, right, _SWAPS[type(op)])
                case ast.BoolOp(op=op, values=[left, right]):
                    yield from self._operator("logic", left, right, _SWAPS[type(op)])
                case ast.If(test=test) | ast.IfExp(test=test):
                    yield self._over("condition", test, f"not ({self._text(test)})")
                case ast.Expr(value=ast.Call(func=func)) if _last_name(func) not in _TELLING:
                    yield self._over("call left out", node, "pass")
                case ast.Constant(value=bool(value)):
                    yield self._over("constant", node, str(not value))
                case ast.Constant(value=int(value)) if constants:
                    yield self._over("constant", node, str(value + 1))
                case ast.Constant(value=float(value)) if constants:
                    yield self._over("constant", node, repr(value * 2 or 1.0))
                case ast.keyword(arg=str()):
                    yield self._argument(node)

    def _operator(self, kind: str, left: ast.expr, right: ast.expr, new: str) -> Iterator[Change]:
        """Another operator between two operands; none where a comment stands there too."""
        between = self.source[self._end(left) : self._start(right)]
        bare = between.strip(b" ()\n")
        if b"#" not in bare:
            at = self._end(left) + between.index(bare)
            yield Change(self.path, kind, at, bare.decode(), new)

    def _over(self, kind: str, node: ast.AST, new: str) -> Change:
        return Change(self.path, kind, self._start(node), self._text(node), new)

    def _argument(self, node: ast.keyword) -> Change:
        comma = b"," if self.source[self._end(node) :].startswith(b",") else b""
        return Change(self.path, "argument left out", self._start(node), self._text(node) + comma.decode(), "")

    def _text(self, node: ast.AST) -> str:
        return self.source[self._start(node) : self._end(node)].decode()

    def _start(self, node: Any) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def _end(self, node: Any) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset


def _meant(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that say what happens: no annotation, no decorator, no text, and nothing of a sentence for people."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            told = isinstance(child, ast.keyword) and child.arg in ("description", "help")
            if (
                isinstance(child, ast.AST)
                and not isinstance(child, ast.JoinedStr | ast.Raise | ast.Assert)
                and not told
            ):
                yield from _meant(child)


def _is_text(*operands: ast.expr) -> bool:
    """Whether it joins texts or paths, which fails at once with another operator."""
    return any(isinstance(own, ast.JoinedStr) or isinstance(getattr(own, "value", None), str) for own in operands)


def _last_name(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
