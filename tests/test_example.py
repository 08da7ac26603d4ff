"""The README's snippets run, and the notebook was committed as it was executed."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
NOTEBOOK = json.loads((ROOT / "example.ipynb").read_text("utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[f"snippet{i}" for i in range(len(SNIPPETS))])
def test_a_readme_snippet_runs_by_itself(snippet):
    scope = {}
    exec(compile(snippet, "README.md", "exec"), scope)
    maps = scope["maps"]
    assert all(m.shape == (4, 784) for m in (maps if isinstance(maps, list) else [maps]))


def test_the_notebook_was_executed_once_from_top_to_bottom():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))


def test_the_notebook_shows_pictures_and_no_errors_or_warnings():
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 6
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
