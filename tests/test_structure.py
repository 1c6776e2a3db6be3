"""What holds the house up: imports run downwards, names are there, and the light ways in stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inheritune

ROOT = Path(inheritune.__file__).parent
# From the top down; what is no package belongs to the layer that it serves.
LAYERS = [
    {"cli", "__main__"},
    {"run", "pretrain", "evaluate", "compare"},
    {"outcome", "controls"},
    {"lab", "planning", "rounds", "bench", "models", "folder"},
    {"recipe"},
    {"policy", "methods", "choosing"},
    {"diagnosis", "training"},
    {"evaluation"},
    {"blocks", "data", "runtime"},
    {"report"},
    {"result"},
    {"evidence"},
    {"config", "objective", "section"},
    {"explain", "strict_yaml"},
    {"errors", "progress", "words"},
]
HEIGHT = {name: -number for number, names in enumerate(LAYERS) for name in names}


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


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    if room(path) in ("recipes", "assets"):
        return
    own = HEIGHT[room(path)]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "inheritune" and len(parts) > 1 and (parts[1] in HEIGHT):
            assert HEIGHT[parts[1]] <= own, f"{room(path)} stands below {parts[1]} and may not import it"


def test_report_reads_files_alone() -> None:
    for path in (ROOT / "report").glob("*.py"):
        rooms = {name.split(".")[1] for name in imports(path) if name.startswith("inheritune.")}
        assert rooms <= {"report", "result", "evidence", "config", "errors", "folder", "words"}, path
        assert not any(name.split(".")[0] in ("torch", "transformers") for name in imports(path)), path


def test_only_runtime_knows_torch_distributed() -> None:
    for path in files():
        if room(path) != "runtime":
            assert "torch.distributed" not in path.read_text(), path


def test_evidence_and_policy_need_no_torch() -> None:
    for path in [*(ROOT / "evidence").glob("*.py"), ROOT / "policy.py", ROOT / "config.py", ROOT / "errors.py"]:
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


def test_names_stay_functions_when_modules_of_that_name_are_loaded_first() -> None:
    code = """import inheritune.runs.run, inheritune.evaluate, inheritune.comparison.sweep
print(*(callable(value) for value in (inheritune.run, inheritune.evaluate, inheritune.compare)))"""
    assert in_a_fresh_process(code) == "True True True\n"


def test_every_file_is_small_and_every_public_function_says_what_it_is() -> None:
    for path in files():
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"
