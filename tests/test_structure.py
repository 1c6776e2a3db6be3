"""What holds the house up: imports run downwards, names are there, and the light ways in stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inheritune

ROOT = Path(inheritune.__file__).parent
# From the top down, as in docs/architecture.md; a room may import those below it. What stands at the root serves every room.
ROOMS = [
    "cli", "comparison", "runs", "methods", "choosing", "diagnosis", "training", "formats", "evaluation", "report", "surgery", "data", "models",
    "records", "decoder", "config", "disk", "runtime", "evidence",
]  # fmt: skip
GROUND = {"errors", "progress", "words"}
DATA = {"recipes", "assets", "schemas"}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files() -> list[Path]:
    return [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def rooms_of(path: Path) -> set[str]:
    """The rooms that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("inheritune.")}


def inside(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_room_has_its_place() -> None:
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert there - DATA - {"__pycache__"} <= set(ROOMS)
    assert {path.stem for path in ROOT.glob("*.py")} <= GROUND | {"__init__", "__main__"}


@pytest.mark.parametrize("path", files(), ids=inside)
def test_imports_run_downwards(path: Path) -> None:
    if room(path) not in ROOMS:
        return
    above = set(ROOMS[: ROOMS.index(room(path))])
    reached = rooms_of(path) & above
    assert not reached, f"{inside(path)} stands below {', '.join(sorted(reached))} and may not import it"


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone, and collects none where two are the same."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def test_no_circle_among_files() -> None:
    modules = {".".join(("inheritune", *path.relative_to(ROOT).with_suffix("").parts)): path for path in files()}

    def module_of(name: str) -> str | None:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name or None

    below = {name: {module_of(other) for other in imports(path)} - {None, name} for name, path in modules.items()}
    while leaves := {name for name, others in below.items() if not others & below.keys()}:
        below = {name: others for name, others in below.items() if name not in leaves}
    assert not below, f"these import one another in a circle: {sorted(below)}"


def test_report_reads_files_alone() -> None:
    for path in (ROOT / "report").glob("*.py"):
        assert rooms_of(path) <= {"report", "records", "evidence", "config", "disk", "errors", "words", "progress"}, (
            path
        )
        assert not any(name.split(".")[0] in ("torch", "transformers") for name in imports(path)), path


def test_only_runtime_knows_torch_distributed() -> None:
    for path in files():
        if room(path) != "runtime":
            assert "torch.distributed" not in path.read_text(), path


def test_evidence_and_policy_need_no_torch() -> None:
    for path in [
        *(path for name in ("evidence", "config", "records", "disk") for path in (ROOT / name).glob("*.py")),
        ROOT / "runs" / "actions.py",
        ROOT / "runs" / "policy.py",
        ROOT / "errors.py",
    ]:
        assert not any(name.split(".")[0] in ("torch", "transformers") for name in imports(path)), path


def test_nothing_is_pickled() -> None:
    for path in files():
        called = {name.split(".")[0] for name in imports(path)}
        assert not called & {"pickle", "dill", "joblib", "shelve"}, path
        assert "torch.load(" not in path.read_text() and "torch.save(" not in path.read_text(), path


def test_public_names_are_sorted_and_there() -> None:
    assert inheritune.__all__ == sorted(inheritune.__all__)
    for name in inheritune.__all__:
        assert callable(getattr(inheritune, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        inheritune.nothing  # noqa: B018


def in_a_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


LOADED = "print([name for name in ('torch', 'transformers', 'numpy', 'matplotlib') if name in sys.modules])"


def test_import_is_light() -> None:
    assert in_a_fresh_process(f"import sys, inheritune; {LOADED}") == "[]\n"


def test_what_is_a_command_too_says_nothing_where_it_is_imported() -> None:
    commands = [path for path in files() if "if __name__" in path.read_text()]
    names = [".".join(("inheritune", *path.relative_to(ROOT).with_suffix("").parts)) for path in commands]
    assert names and in_a_fresh_process(f"import {', '.join(names)}") == ""


def test_help_is_light() -> None:
    code = f"""import sys; sys.argv = ["inheritune", "--help"]
try:
    import inheritune.cli; inheritune.cli.main()
except SystemExit: {LOADED}"""
    printed = in_a_fresh_process(code)
    assert printed.endswith("[]\n") and "run" in printed and "diagnose" in printed


def test_module_is_the_command() -> None:
    found = subprocess.run([sys.executable, "-m", "inheritune", "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in found.stdout and "inheritune" in found.stdout


def test_public_names_are_listed() -> None:
    assert set(inheritune.__all__) <= set(dir(inheritune))


def test_every_public_function_says_what_it_is() -> None:
    for path in files():
        text = path.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


PICTURE = ROOT.parents[1] / "docs" / "architecture.md"


def listing() -> str:
    """Every file with its docstring's first paragraph, room by room from the top down."""
    lines = []
    for name in ("", *ROOMS):
        found = sorted((ROOT / name).glob("*.py") if not name else (ROOT / name).rglob("*.py"))
        said = [ast.get_docstring(ast.parse(path.read_text())) or "" for path in found]
        names = [path.relative_to(ROOT / name).as_posix() for path in found]
        lines += [f"{name}/"] if name else []
        lines += [
            f"  {file:<19} {chr(32).join(text.partition(chr(10) * 2)[0].split())}"
            for file, text in zip(names, said, strict=True)
        ]
    return "\n".join(["```text", *lines, "```"])


def with_listing(text: str) -> str:
    before, _, rest = text.partition("<!-- files -->\n")
    return f"{before}<!-- files -->\n{listing()}\n<!-- end of files -->{rest.partition('<!-- end of files -->')[2]}"


def test_the_picture_is_of_what_stands() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    assert text == with_listing(text), "make it anew: python tests/test_structure.py"


if __name__ == "__main__":
    PICTURE.write_text(with_listing(PICTURE.read_text(encoding="utf-8")), encoding="utf-8")
