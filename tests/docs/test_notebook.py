"""The notebook of the main job: its cells run, and docs/notebook.md is what stands in it.

    python tests/docs/test_notebook.py

runs it as it stands, with the bundled reference, keeps what its cells give, and makes the page of it anew.
"""

import ast
import base64
import io
import json
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOK, PAGE, FIGURES = DOCS / "notebook.ipynb", DOCS / "notebook.md", DOCS / "notebook"
NOT_RUN = "<!-- not run: a cell of the notebook, which tests/docs/test_notebook.py runs -->"
Cells = list[dict[str, Any]]


def read() -> dict[str, Any]:
    """The notebook, each cell's source as one text."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def cells() -> Cells:
    return read()["cells"]


def run_cell(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell gives, as a notebook keeps it: what it prints, and its last expression as text, and as a picture where it is one."""
    tree, printed, value = ast.parse(source), io.StringIO(), None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(printed), redirect_stderr(io.StringIO()):
        exec(compile(tree, "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    said = printed.getvalue()
    outputs = [{"output_type": "stream", "name": "stdout", "text": said}] if said else []
    if value is not None:
        data = {"text/plain": repr(value)}
        if hasattr(value, "_repr_png_"):
            data["image/png"] = base64.b64encode(value._repr_png_()).decode()
        outputs.append({"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None})
    return outputs


def run_all(given: Cells, **parameters: Any) -> dict[str, Any]:
    """Run the cells in their order, each with its outputs kept; `parameters` stand in place of those of the first."""
    names: dict[str, Any] = {}
    for number, cell in enumerate((cell for cell in given if cell["cell_type"] == "code"), 1):
        cell["outputs"] = run_cell(cell["source"], names)
        cell["execution_count"] = number
        if "parameters" in cell["metadata"].get("tags", []):
            names.update(parameters)
    return names


def as_page(given: Cells) -> str:
    """The notebook as a page of the site; its pictures are the files of `FIGURES`."""
    lines = []
    for number, cell in enumerate(given):
        if cell["cell_type"] == "markdown":
            lines += [cell["source"], ""]
            continue
        lines += [NOT_RUN, f"```python\n{cell['source']}\n```", ""]
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                lines += [f"![What the cell gives](notebook/{number}.png)", ""]
            else:
                lines += [f"```text\n{data['text/plain'].strip(chr(10))}\n```", ""]
    return "\n".join(lines).rstrip() + "\n"


def pictures(given: Cells) -> dict[str, bytes]:
    found = {}
    for number, cell in enumerate(given):
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                found[f"{number}.png"] = base64.b64decode(picture)
    return found


def test_the_page_is_what_stands_in_the_notebook() -> None:
    given = cells()
    assert PAGE.read_text(encoding="utf-8") == as_page(given), "make it anew: python tests/docs/test_notebook.py"
    assert {place.name: place.read_bytes() for place in FIGURES.iterdir()} == pictures(given)
    assert all(cell["execution_count"] for cell in given if cell["cell_type"] == "code")


def test_its_cells_run_on_a_tiny_model(gpt2: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    settings = {
        "data__sequence_length": 32, "growth__start": 4,
        "training__tokens": 512, "training__batch_tokens": 256, "choice__sequences": 2, "diagnosis__sequences": 2,
        "diagnosis__length": 32, "choice__heal": False, "limits__max_rounds": 1,
    }  # fmt: skip
    names = run_all(cells(), reference=str(gpt2), text=str(corpus / "words.jsonl"), length=32, settings=settings)
    assert len(names["profile"].layers) == 5 and names["result"].target.depth == 4
    assert names["smaller"].config.num_hidden_layers == 4


def _write() -> None:
    notebook = read()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run_all(notebook["cells"])
    FIGURES.mkdir(exist_ok=True)
    for name, picture in pictures(notebook["cells"]).items():
        FIGURES.joinpath(name).write_bytes(picture)
    PAGE.write_text(as_page(notebook["cells"]), encoding="utf-8")
    for cell in notebook["cells"]:
        cell["source"] = cell["source"].splitlines(keepends=True)  # as ruff writes it
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
