"""Blocks of README and pages run, links lead somewhere, tables are whole; the notebook is as executed."""

import ast
import gzip
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import igtf as ig
from igtf import visualization
from igtf.visualization.page import writer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
# path from the root: text, of every page that people read
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
}
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
PROGRAMS = [path for path, text in PAGES.items() if BLOCK.search(text)]
NOTEBOOK = json.loads((ROOT / "example.ipynb").read_text("utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
TOURS = {
    path.name: json.loads(path.read_text("utf-8"))
    for path in [ROOT / "example.ipynb", *sorted(ROOT.glob("examples/*.ipynb"))]
}


@pytest.mark.parametrize("page", PROGRAMS)
def test_a_page_is_one_program_and_the_shapes_in_its_comments_are_right(page, tmp_path, monkeypatch, capsys):
    write_network(tmp_path / "network.pb")
    write_model(tmp_path)
    monkeypatch.chdir(tmp_path)
    text, scope = PAGES[page], {}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], page, "exec"), scope)
        for names, comment in re.findall(SHAPES, block[1], re.M):
            shapes = [ast.literal_eval(shape) for shape in comment.split(" and ")]
            names = names.split(", ")
            assert len(names) == len(shapes)
            # A name that is assigned twice in a block has the same shape both times.
            assert [list(np.shape(scope[name])) for name in names] == shapes, comment
        printed, said = capsys.readouterr().out, OUTPUT.match(text, block.end())
        if said:
            check_output(printed, said[1])
    saved = set(re.findall(r'(?:savefig\(|animate_path\(.*?, )"(\w+\.\w+)"', text))
    assert saved <= {path.name for path in tmp_path.iterdir()}


SHAPES = r"^ *(\w+(?:, \w+)*) = .*# (\[.*)$"
# What a block prints, in a block of text below it.
OUTPUT = re.compile(r"\n\n```text\n(.*?)^```", re.M | re.S)


def check_output(printed, said):
    """The same words, and numbers as close as another release of TensorFlow trains them."""
    number = r"[+-]?\d+\.\d+"
    assert re.sub(number, "#", printed) == re.sub(number, "#", said)
    printed, said = (np.float64(re.findall(number, text)) for text in (printed, said))
    np.testing.assert_allclose(printed, said, rtol=0.2, atol=0.1)


def test_the_pages_have_as_many_programs_blocks_and_shapes_as_they_should():
    texts = {page: "".join(BLOCK.findall(PAGES[page])) for page in PROGRAMS}
    assert {
        "README.md",
        "docs/explainer.md",
        "docs/guide.md",
        "docs/methods.md",
        "docs/production.md",
    } <= set(PROGRAMS)
    assert sum(len(BLOCK.findall(PAGES[page])) for page in PROGRAMS) >= 35
    assert sum(len(re.findall(SHAPES, text, re.M)) for text in texts.values()) >= 30
    assert OUTPUT.search(README)
    # Every block of Python of every page is found, in a list or behind other words too.
    for page, text in PAGES.items():
        assert text.count("```python") == len(BLOCK.findall(text)), page


def write_model(folder):
    """What the README calls a model and rows of yours."""
    layers = [tf.keras.Input((4,)), tf.keras.layers.Dense(3, "softmax")]
    tf.keras.Sequential(layers).save(folder / "model.keras")
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(5, 4)).astype("float32"))


def write_network(path):
    """A frozen graph of a small classifier: "x" leads to "ys"."""
    random = np.random.default_rng(0)
    with tf.Graph().as_default() as graph:
        hidden = tf.compat.v1.placeholder(tf.float32, [None, 64], "x")
        hidden = tf.nn.relu(hidden @ random.normal(size=[64, 16]).astype(np.float32))
        tf.nn.softmax(hidden @ random.normal(size=[16, 10]).astype(np.float32), name="ys")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def test_a_page_lists_every_public_function_with_its_own_arguments():
    public = {name: getattr(ig, name) for name in ig.__all__ if name != "Explainer"}
    pictures = {name: getattr(visualization, name) for name in visualization.__all__}
    listed = dict(re.findall(r"^\| `(\w+)\((.*?)\)` \|", PAGES["docs/functions.md"], re.M))
    assert set(listed) == set(public) | set(pictures)
    for name, function in public.items():
        arguments = [a for a in inspect.signature(function).parameters.values() if a.name != "name"]
        shown = [a.name if a.default is a.empty else f"{a.name}={a.default!r}" for a in arguments]
        assert listed[name] == ", ".join(shown).replace("'", '"')
    for name, function in pictures.items():
        assert listed[name].replace("=None", "") in ", ".join(inspect.signature(function).parameters)


def prose(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def anchors_of(text):
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]*)\)", prose(PAGES[page])):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors_of(file.read_text("utf-8")), target


def test_the_readme_links_every_page_and_shows_a_picture():
    linked = set(re.findall(r"\]\(([^)#]*)", README))
    assert {page for page in PAGES if page != "README.md"} - linked <= {"SECURITY.md", "docs/reference.md"}
    assert any(target.endswith(".png") for target in linked)


def test_the_readme_is_short():
    assert README.count("\n") <= 230


def test_make_benchmark_runs_every_benchmark_of_its_page():
    listed = set(re.findall(r"^\| `python (benchmarks/\w+\.py)` \|", PAGES["docs/benchmarks.md"], re.M))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    made = set(re.findall(r"^\t\S+python (benchmarks/\w+\.py)$", makefile, re.M))
    assert listed == made and all((ROOT / path).exists() for path in listed)


def test_the_notebook_was_executed_once_from_top_to_bottom():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))


def test_the_notebook_shows_pictures_and_no_errors_or_warnings():
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert "\x1b" not in json.dumps([output.get("text") for output in outputs]).replace("\\u001b", "\x1b")


def test_the_notebook_is_short_and_small_and_opens_with_a_keras_model():
    assert len(NOTEBOOK["cells"]) <= 25
    assert (ROOT / "example.ipynb").stat().st_size < 1.5e6
    code = "\n".join("".join(cell["source"]) for cell in CELLS)
    order = [code.index(word) for word in ("network.fit", "Explainer(network", "@tf.function", "build_ig(")]
    assert order == sorted(order)


@pytest.mark.parametrize("name", TOURS)
def test_no_cell_of_a_notebook_is_above_twenty_lines_and_no_name_means_two_things(name):
    section, meaning = "", {}
    for cell in TOURS[name]["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            section = ([section] + re.findall(r"^#+ (.*)$", source, re.M))[-1]
            continue
        assert len(source.splitlines()) <= 20, f"{name}: {source[:60]}"
        for word in assigned(ast.parse(source)):
            assert meaning.setdefault(word, section) == section, f"{name} rebinds {word} in {section}"


def assigned(tree):
    """Names that statements outside functions give a meaning to; those of loops are not kept."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (name.id for t in node.targets for name in ast.walk(t) if is_new(name))
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


def is_new(node):
    """Whether a name is bound; a picture is drawn anew in every section."""
    names = {"figure", "axes", "axis", "notes"}
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in names


@pytest.mark.parametrize("name", sorted(set(TOURS) - {"example.ipynb"}))
def test_notebooks_in_the_folder_of_examples_are_committed_as_executed(name):
    cells = [cell for cell in TOURS[name]["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    shown = [set(output["data"]) for output in outputs if "data" in output]
    assert shown and all(kinds & {"image/jpeg", "image/png", "image/gif", "text/html"} for kinds in shown)
    assert (ROOT / "examples" / name).stat().st_size < 1.6e6


def test_every_picture_of_docs_that_no_benchmark_makes_comes_from_a_notebook():
    made = set(
        re.findall(r"[\"/](\w+\.(?:png|gif|html))", json.dumps(list(TOURS.values())).replace("\\", ""))
    )
    files = [path for suffix in ("png", "gif", "html.gz") for path in ROOT.glob(f"docs/*.{suffix}")]
    pictures = {path.name.removesuffix(".gz") for path in files}
    measured = {path.stem for path in ROOT.glob("benchmarks/*.py")}
    others = {name for name in pictures - made if Path(name).stem.removesuffix("_front") not in measured}
    assert others == set()


def test_pages_of_the_site_are_as_they_are_written_today():
    pages = list(ROOT.glob("docs/page_*.html.gz"))
    assert len(pages) == 3
    for path in pages:
        text = gzip.decompress(path.read_bytes()).decode()
        advice = f"make examples; gzip -9nc build/{path.stem} > docs/{path.name}"
        assert writer.STYLE in text and writer.SCRIPT in text, advice


def test_make_examples_executes_every_notebook_in_the_folder():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "examples: $(EXAMPLES:%=build/%)" in makefile and "$(wildcard examples/*.ipynb)" in makefile
