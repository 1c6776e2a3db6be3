"""How near each file of tests is to a source file: its mirror, those of its room that import it, and so on."""

import ast
from functools import cache
from pathlib import Path

# Whole runs, held against independent numbers: no wrong assembly should pass them by.
_WHOLE = ("tests/runs/test_recomputed.py", "tests/runs/test_run.py")
# Whole commands, with what users may give them.
_COMMANDS = ("tests/cli/", "tests/faults/")
# They take every source file alike, or minutes.
_NEVER = ("tests/test_structure.py", "tests/runs/test_crash_points.py", "tests/faults/test_fuzz.py")


def nearest(root: Path, path: str) -> list[str]:
    """Test files for the source file at `path` (from `root`), the nearest first."""
    inside = Path(path).relative_to("src/inheritune")
    module = ".".join(("inheritune", *inside.with_suffix("").parts)).removesuffix(".__init__")
    room = f"tests/{inside.parts[0]}/"
    ranks = {}
    for place in sorted((root / "tests").rglob("test_*.py")):
        file = place.relative_to(root).as_posix()
        if not file.startswith(_NEVER):
            imports = module in _imported(place) | _imported(_mirrored(root, place))
            ranks[file] = _rank(file, f"{room}test_{inside.stem}", room, imports)
    return sorted(ranks, key=lambda file: ranks[file])


def _rank(file: str, mirror: str, room: str, imports: bool) -> int:
    if file.startswith(mirror):
        return 0 if file == f"{mirror}.py" else 1
    if imports and file.startswith(room):
        return 2
    if file in _WHOLE:
        return 4
    if imports or file.startswith(room):
        return 3
    return 5 if file.startswith(_COMMANDS) else 6


def _mirrored(root: Path, test: Path) -> Path:
    """The module that a file of tests is named after."""
    return root / "src" / "inheritune" / test.parent.name / f"{test.stem.removeprefix('test_')}.py"


@cache
def _imported(file: Path) -> frozenset[str]:
    """Every dotted name that a file imports; none where there is no such file."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text() if file.is_file() else "")):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)
