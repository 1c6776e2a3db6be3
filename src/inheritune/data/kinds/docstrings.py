"""The embedded default text: docstrings of the standard library and of installed packages."""

import ast
import hashlib
import importlib.util
import json
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from inheritune.config.sections import Source
from inheritune.data.documents import Document
from inheritune.data.kind import SourceKind

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


class Docstrings(SourceKind):
    """The docstrings of the named packages: a document for each public file."""

    part = 400_000  # two seconds: files of Python are slow to parse

    @classmethod
    def claims(cls, source: Source) -> bool:
        """Whether the source has the name `DOCSTRINGS`."""
        return source.source == DOCSTRINGS

    def require(self) -> None:
        """Do nothing, since docstrings are always there."""

    def fingerprint(self) -> str:
        """Packages, versions, and how many files each has."""
        roots = [(name, _version(name), sum(1 for _ in root.rglob("*.py"))) for name, root in package_roots()]
        return json.dumps([sys.version_info[:3], roots])

    def documents(self, field: str) -> Iterator[Document]:
        """The files in order; paragraphs seen before are left out."""
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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the standard library
        return ""
