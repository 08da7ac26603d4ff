"""The README's blocks run and its tables are whole; the notebook was committed as it was executed."""

import ast
import inspect
import json
import re
from pathlib import Path

import numpy as np
import tensorflow as tf

import igtf as ig
from igtf import visualization

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = list(re.finditer(r"^```python\n(.*?)^```", README, re.M | re.S))
NOTEBOOK = json.loads((ROOT / "example.ipynb").read_text("utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_readme_is_one_program_and_the_shapes_in_its_comments_are_right(tmp_path, monkeypatch):
    write_network(tmp_path / "network.pb")
    monkeypatch.chdir(tmp_path)
    scope, compared = {}, 0
    for block in BLOCKS:
        line = README.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], "README.md", "exec"), scope)
        for names, comment in re.findall(r"^ *(\w+(?:, \w+)*) = .*# (\[.*)$", block[1], re.M):
            shapes = [ast.literal_eval(shape) for shape in comment.split(" and ")]
            names = names.split(", ")
            assert len(names) == len(shapes)
            # A name that is assigned twice in a block has the same shape both times.
            assert [list(np.shape(scope[name])) for name in names] == shapes, comment
            compared += 1
    assert len(BLOCKS) >= 14 and compared >= 12
    assert (tmp_path / "maps.png").exists()


def write_network(path):
    """A frozen graph of a small classifier: "x" leads to "ys"."""
    random = np.random.default_rng(0)
    with tf.Graph().as_default() as graph:
        hidden = tf.compat.v1.placeholder(tf.float32, [None, 784], "x")
        hidden = tf.nn.relu(hidden @ random.normal(size=[784, 16]).astype(np.float32))
        tf.nn.softmax(hidden @ random.normal(size=[16, 10]).astype(np.float32), name="ys")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def test_the_readme_lists_every_public_function_with_its_own_arguments():
    public = {name: getattr(ig, name) for name in ig.__all__ if name != "Explainer"}
    pictures = {name: getattr(visualization, name) for name in visualization.__all__}
    listed = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", README, re.M))
    assert set(listed) == set(public) | set(pictures)
    for name, function in public.items():
        arguments = [a for a in inspect.signature(function).parameters.values() if a.name != "name"]
        shown = [a.name if a.default is a.empty else f"{a.name}={a.default!r}" for a in arguments]
        assert listed[name] == ", ".join(shown).replace("'", '"')
    for name, function in pictures.items():
        assert listed[name].replace("=None", "") in ", ".join(inspect.signature(function).parameters)


def test_links_inside_the_readme_lead_somewhere():
    text = re.sub(r"^```.*?^```", "", README, flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert {target[1:] for target in targets if target.startswith("#")} <= anchors
    files = [target for target in targets if not target.startswith(("#", "http"))]
    assert files and [target for target in files if not (ROOT / target).exists()] == []


def test_make_benchmark_runs_every_benchmark_of_the_readme():
    listed = set(re.findall(r"^\| `python (benchmarks/\w+\.py)` \|", README, re.M))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    made = set(re.findall(r"^\t\S+python (benchmarks/\w+\.py)$", makefile, re.M))
    assert listed == made and all((ROOT / path).exists() for path in listed)


def test_the_notebook_was_executed_once_from_top_to_bottom():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))


def test_the_notebook_shows_pictures_and_no_errors_or_warnings():
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 11
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
