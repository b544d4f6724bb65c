"""The notebooks: what they show ran from top to bottom, and still runs."""

import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
LARGEST = 600_000


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def file(request) -> Path:
    return request.param


@pytest.fixture
def python3(monkeypatch, tmp_path):
    """Make ``python3`` the kernel of this very interpreter, whatever else is installed on the machine."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(tmp_path / "jupyter" / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return "python3"


def code_cells(file: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(file, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def test_there_is_a_first_tour():
    assert "01_quickstart" in {file.stem for file in NOTEBOOKS}


def test_it_was_executed_from_top_to_bottom_without_error(file):
    cells = code_cells(file)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_it_is_small_and_names_no_place_of_the_machine_that_ran_it(file):
    text = file.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    home, checkout, temporary = Path.home(), Path(__file__).parents[2], tempfile.gettempdir()
    for place in ("/home/", "/Users/", f"{home}/", f"{checkout}/", f"{temporary}/", "site-packages"):
        assert place not in text, place


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the machinery of kernels warns of itself
def test_it_runs_in_an_empty_folder(file, python3, tmp_path):
    from nbclient import NotebookClient

    folder = tmp_path / "empty"
    folder.mkdir()
    notebook = nbformat.read(file, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import sys; print(sys.executable, end='')"))
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name=python3, resources=where).execute()  # raises where a cell does
    assert notebook.cells[0].outputs[0].text == sys.executable
    assert not [*folder.iterdir()], "a notebook leaves nothing behind"
