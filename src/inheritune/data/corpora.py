"""Where text comes from: local files, and the embedded default, the docstrings of installed packages.

A document is the unit that is kept whole: it never stands on both sides of the split, and losses are paired by it.
"""

import ast
import hashlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from inheritune.errors import DataError

DOCSTRINGS = "bundled:docstrings"
# Chosen for size and for being there wherever inheritune is: each is the standard library or one of its own dependencies.
PACKAGES = (
    "numpy",
    "torch",
    "networkx",
    "matplotlib",
    "pydantic",
    "jinja2",
    "rich",
    "typer",
    "huggingface_hub",
)
_LEFT_OUT = ("site-packages", "test", "tests", "testing", "idlelib", "lib2to3")
_SECTION_CHARACTERS = 4_000


@dataclass(frozen=True)
class Document:
    """One text and a name that stays the same between machines, by which it is put on a side of the split."""

    name: str
    text: str


def documents(source: str, field: str = "text") -> Iterator[Document]:
    """The documents of a source: a .txt or .md file in sections, a .jsonl file a line each, or `bundled:docstrings`.

    Raises DataError for what is missing, empty, not UTF-8, or not what its name says.
    """
    if source == DOCSTRINGS:
        yield from docstrings()
        return
    path = existing_file(source)
    found = False
    for document in _jsonl(path, field) if path.suffix == ".jsonl" else _sections(path):
        found = True
        yield document
    if not found:
        raise DataError(f"{source!r} holds no text: give a file with at least one document")


def existing_file(source: str) -> Path:
    """The path of a text file that is there and not empty."""
    path = Path(source)
    if not path.exists():
        raise DataError(f"there is no file {source!r}: give a text file, a .jsonl, a nanoGPT .bin or {DOCSTRINGS!r}")
    if path.is_dir():
        raise DataError(f"{source!r} is a folder: give one text file, a .jsonl or a nanoGPT .bin")
    if path.stat().st_size == 0:
        raise DataError(f"{source!r} is empty: give a file with at least one document")
    return path


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{str(path)!r} is not UTF-8 text (byte {error.start}): convert it first") from None
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if "\0" in text:
        raise DataError(f"{str(path)!r} holds NUL characters and so is no text")
    return text


def _sections(path: Path) -> Iterator[Document]:
    """Paragraphs packed into sections, so that one long file has many documents to split and pair by."""
    pending: list[str] = []
    size = number = 0
    for paragraph in _read(path).split("\n\n"):
        if not paragraph.strip():
            continue
        pending.append(paragraph)
        size += len(paragraph)
        if size >= _SECTION_CHARACTERS:
            yield Document(f"{path.name}#{number}", "\n\n".join(pending))
            pending, size, number = [], 0, number + 1
    if pending:
        yield Document(f"{path.name}#{number}", "\n\n".join(pending))


def _jsonl(path: Path, field: str) -> Iterator[Document]:
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            raise DataError(f"line {number} of {str(path)!r} is not JSON") from None
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            raise DataError(
                f"line {number} of {str(path)!r} has no text field {field!r}: name the right one in data.field"
            )
        if row[field].strip():
            yield Document(f"{path.name}#{number}", row[field])


def docstrings() -> Iterator[Document]:
    """A document for each public file of the named packages; paragraphs seen before are left out."""
    seen: set[bytes] = set()
    for package, root in package_roots():
        for path in sorted(root.rglob("*.py")):
            inside = path.relative_to(root)
            text = "" if _private(inside) else _first_seen(_docstrings_of(path), seen)
            if text:
                yield Document(f"{package}/{inside.as_posix()}", text)


def _private(path: Path) -> bool:
    return any(part in _LEFT_OUT or (part[0] == "_" and part != "__init__.py") for part in path.parts)


def package_roots() -> list[tuple[str, Path]]:
    """The folders that docstrings are read from, the standard library first; a package that is absent is left out."""
    roots = [("stdlib", Path(sysconfig.get_paths()["stdlib"]))]
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            roots.append((package, Path(spec.origin).parent))
    return roots


def _docstrings_of(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    found: list[str] = []
    _collect(tree, found)
    return found


def _collect(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, found: list[str]) -> None:
    # Only module and class bodies are entered: walking every expression would take three times as long.
    if text := ast.get_docstring(node):
        found.append(text)
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _collect(child, found)


def _first_seen(texts: list[str], seen: set[bytes]) -> str:
    kept = []
    for text in texts:
        for paragraph in text.split("\n\n"):
            digest = hashlib.blake2b(paragraph.strip().encode("utf-8", "replace"), digest_size=12).digest()
            if paragraph.strip() and digest not in seen:
                seen.add(digest)
                kept.append(paragraph.rstrip())
    return "\n\n".join(kept).encode("utf-8", "replace").decode()


def fingerprint(source: str) -> str:
    """What a source's content depends on, without reading it: packages and versions, or a file's name, size and time."""
    if source == DOCSTRINGS:
        roots = [(name, _version(name), sum(1 for _ in root.rglob("*.py"))) for name, root in package_roots()]
        return json.dumps([sys.version_info[:3], roots])
    status = existing_file(source).stat()
    return json.dumps([str(Path(source).resolve()), status.st_size, status.st_mtime_ns])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the standard library
        return ""
