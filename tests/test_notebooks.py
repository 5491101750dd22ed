"""Every notebook runs from top to bottom. They hold no logic: what they call is tested elsewhere."""

from pathlib import Path

import pytest

from tests.kernels import needs_deform_conv

nbformat = pytest.importorskip("nbformat", reason="the notebook client of the test extra is not installed")
nbclient = pytest.importorskip("nbclient", reason="the notebook client of the test extra is not installed")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ELSEWHERE = ("deploy",)  # runs on a board: tests/test_board.py runs it under pynq


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    # The notebook that exports compares the file with torch in onnxruntime.
    [
        pytest.param(p, id=p.stem, marks=needs_deform_conv if p.stem == "quantize" else ())
        for p in NOTEBOOKS
        if p.stem not in ELSEWHERE
    ],
)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    assert any(cell.get("outputs") for cell in notebook.cells), "a notebook shows something"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_no_logic(path):
    notebook = nbformat.read(path, as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    for word in ("def ", "class ", "while ", "if "):
        assert not any(line.startswith(word) for line in code.splitlines()), (
            f"{word.strip()} belongs in a module"
        )
