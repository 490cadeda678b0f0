"""A notebook run from the command line shows the progress of a trial, its result and its figures."""

import re
import sys

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

pytestmark = pytest.mark.slow

CELLS = """\
import torch
from steepest.compare import Budget, compare, price
from steepest.tasks import Task
x = torch.linspace(-1, 1, 64)[:, None]
line = Task(model=lambda: torch.nn.Linear(1, 1), loss=torch.nn.functional.mse_loss, name="line",
            train=(x, 2 * x), valid=(x, 2 * x), batch_size=16, steps=20)
---
comparison = compare(line, ["sgd", "adamw"], budget=Budget(rates=5, tuning_seeds=1), workers=1, progress=True)
---
comparison
---
comparison.verdict
---
comparison.curves("loss", over="seconds").plot()
---
comparison.to_frame()
---
print(comparison)
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    (folder / "kernels" / "here").mkdir(parents=True)
    command = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    spec = f'{{"argv": {command}, "display_name": "here", "language": "python"}}'
    (folder / "kernels" / "here" / "kernel.json").write_text(spec)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS.split("---\n")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="here").execute(cwd=str(folder))
    return notebook.cells


def shown(cell):
    """The outputs of a cell by their type; none may be a complaint on stderr."""
    assert [each for each in cell.outputs if each.get("name") == "stderr"] == []
    return [each.data for each in cell.outputs if "data" in each]


def test_the_progress_is_one_output_that_ends_at_the_last_run(cells):
    (data,) = shown(cells[1])
    assert "<progress" in data["text/html"]
    assert "Price: 10 to 20 tuning runs" in data["text/html"]
    assert re.search(r'value="(\d+)" max="\1"', data["text/html"])
    assert re.search(r"Final runs, seeds \d+ to \d+: \d+ runs done, best ", data["text/html"])


def test_a_comparison_and_a_verdict_are_shown_as_sentences_and_a_table(cells):
    (comparison,), (verdict,) = shown(cells[2]), shown(cells[3])
    assert "<strong>Take " in verdict["text/html"]
    assert comparison["text/html"].startswith(verdict["text/html"])
    assert "<table>" in comparison["text/html"]
    assert comparison["text/plain"].startswith("<Comparison of 2 alternatives on line: Take ")


def test_figures_and_frames_are_shown_as_theirs(cells):
    (figure,), (frame,) = shown(cells[4]), shown(cells[5])
    assert "application/vnd.plotly.v1+json" in figure or "plotly" in figure["text/html"]
    assert "seconds_to_target" in frame["text/html"]
    (printed,) = cells[6].outputs
    assert printed.text.startswith("Take ")
