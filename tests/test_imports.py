"""The house: arrows between rooms run one way, and what another room uses has no underscore."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in [ROOT / "integrated_gradients_tf.py", *sorted(ROOT.glob("igtf/**/*.py"))]
}
# So that `import igtf` stays light, and pictures are imported when they are asked for.
LAZY = {
    ("igtf", "igtf.explainer"),
    ("igtf.explainer.explainer", "igtf.visualization.areas"),
    ("igtf.explainer.evaluation", "igtf.visualization.judgement"),
    ("igtf.explainer.pages", "igtf.visualization.page"),
    ("igtf.explainer.pictures", "igtf.visualization"),
    ("igtf.explainer.summary", "igtf.visualization.datasets"),
    ("igtf.language.explanations", "igtf.visualization"),
}
LONGEST = 450


def imports(name):
    """`(module of ours, names, whether inside a function)` of every import of a file."""
    tree = ast.parse(FILES[name].read_text())
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative import in line {node.lineno}"
            modules = [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in FILES]
            rest = [a.name for a in node.names if f"{node.module}.{a.name}" not in FILES]
            found = [(module, []) for module in modules] + ([(node.module, rest)] if rest else [])
        else:
            continue
        for module, names in found:
            if module in FILES:
                yield module, names, id(node) not in top


def test_imports_run_one_way():
    arrows = {
        name: {m for m, _, inside in imports(name) if not inside or (name, m) not in LAZY} for name in FILES
    }
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            path.append(name)
            for other in sorted(arrows[name] - {name}):
                visit(other)
            done.add(path.pop())

    for name in FILES:
        visit(name)
    assert arrows["integrated_gradients_tf"] == set()


@pytest.mark.parametrize("name", FILES)
def test_rooms_are_imported_at_the_top_and_keep_their_private_names(name):
    for module, names, inside in imports(name):
        assert not inside or (name, module) in LAZY, f"{name} imports {module} inside a function"
        private = [n for n in names if n.startswith("_") and not n.startswith("__")]
        assert not private, f"{name} takes {private} of {module}"


@pytest.mark.parametrize("name", FILES)
def test_no_room_is_larger_than_one_can_hold_in_mind(name):
    longest = 550 if name == "integrated_gradients_tf" else LONGEST
    assert len(FILES[name].read_text().splitlines()) <= longest


def test_pictures_know_no_other_room():
    for name in FILES:
        if name.startswith("igtf.visualization"):
            assert all(module.startswith("igtf.visualization") for module, _, _ in imports(name))


def test_no_test_file_is_larger_than_one_can_hold_in_mind():
    lengths = {path.name: len(path.read_text().splitlines()) for path in ROOT.glob("tests/**/*.py")}
    assert {name: length for name, length in lengths.items() if length > 500} == {}
