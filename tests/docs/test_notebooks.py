"""The notebooks of the documentation run to their ends, and are kept without what they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from docs_pages import ROOT

FOLDER = ROOT / "docs" / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list]]:
    """Folder and outputs of every notebook after it was run."""
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in NAMES:
            folder = tmp_path_factory.mktemp("notebook")
            patch.setenv("MEDKIT_CACHE", str(folder / "cache"))
            book = nbformat.read(FOLDER / name, as_version=4)
            nbclient.NotebookClient(book, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
            found[name] = folder, [output for cell in book.cells for output in cell.get("outputs", [])]
    return found


def tables(outputs: list) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in outputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    book = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"]] == []


@pytest.mark.slow
def test_the_first_run_shows_results_with_intervals_and_cases(executed) -> None:
    html = tables(executed["first_run.ipynb"][1])
    assert "95 % interval" in html
    assert "<th>n_patients</th>" in html
    assert "<th>probability</th>" in html


@pytest.mark.slow
def test_progress_is_a_bar_below_the_cell_and_gone_at_the_end(executed) -> None:
    shown = [o for o in executed["first_run.ipynb"][1] if o["output_type"] == "display_data"]
    assert any("text/html" in output["data"] for output in shown)
    assert not any("<progress" in output["data"].get("text/html", "") for output in shown)


@pytest.mark.slow
def test_the_class_of_a_cell_is_kept_with_the_run(executed) -> None:
    folder, _ = executed["own_pretext.ipynb"]
    (kept,) = (folder / "runs" / "edges" / "plugins").iterdir()
    assert "class Edges(nn.Module):" in kept.read_text(encoding="utf-8")
