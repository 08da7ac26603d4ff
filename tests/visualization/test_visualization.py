"""Every picture, with whatever may come in; what the package imports and documents."""

import ast
import doctest
import importlib
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from screen import GRAY, GREEN, RGB, noise, pixels, shown

from igtf import visualization as viz
from igtf.visualization.checks import is_batch

pytestmark = pytest.mark.filterwarnings("error")

# Every function, one picture each, of an attribution `a` of any shape that pixels may have.
PICTURES = {
    "attribution_grid": lambda a, path: viz.attribution_grid(np.abs(as_image(a)), a),
    "heatmap": lambda a, path: viz.heatmap(a),
    "heatmap on an image": lambda a, path: viz.heatmap(a, as_image(a)),
    "overlay": lambda a, path: viz.overlay(as_image(a), a, "both", original=True, clean=1),
    "outlines": lambda a, path: viz.outlines(as_image(a), a, "both", original=True),
    "spotlight": lambda a, path: viz.spotlight(as_image(a), a, 60, "both", original=True),
    "strength": lambda a, path: viz.strength(a, "both"),
    "least_area": lambda a, path: viz.least_area(a, 60, "negative"),
    "explanation_page": lambda a, path: viz.explanation_page(
        rows(as_image(a)), rows(a), path=path / "a.html"
    ),
    "animate_path": lambda a, path: viz.animate_path(np.stack([np.zeros_like(a), a]), path / "a.gif"),
}
LISTS = {
    "bar": lambda s: viz.bar([str(i) for i in range(len(s))], s),
    "bar of a batch": lambda s: viz.bar([str(i) for i in range(len(s))], np.stack([s, s / 2])),
    "logo": lambda s: viz.logo("ACGT" * (len(s) // 4) + "A" * (len(s) % 4), s, per_line=8),
    "highlight_text": lambda s: viz.highlight_text(["a"] * len(s), s),
    "highlight_text as figure": lambda s: viz.highlight_text(["a"] * len(s), s, "figure"),
    "path_plot": lambda s: viz.path_plot(np.linspace(0, 1, len(s)), s, s),
    "path_plot of intervals": lambda s: viz.path_plot(np.linspace(0, 1, len(s)), s, s[1:]),
    "convergence_plot": lambda s: viz.convergence_plot(np.arange(1, len(s) + 1), s),
    "dependence": lambda s: viz.dependence(s, s, s),
    "importance": lambda s: viz.importance([str(i) for i in range(len(s))], [np.abs(s), np.abs(s) / 2]),
    "beeswarm": lambda s: viz.beeswarm(
        [str(i) for i in range(len(s))], np.tile(s, [3, 1]), np.tile(s, [3, 1])
    ),
    "waterfall": lambda s: viz.waterfall([str(i) for i in range(len(s))], s, 0.5, list(s), output=2),
    "series_plot": lambda s: viz.series_plot(s, s),
    "interaction_matrix": lambda s: viz.interaction_matrix(np.tile(s, [2, len(s), 1])),
    "token_matrix": lambda s: viz.token_matrix(["a"] * (len(s) - 1), ["b"], s[None]),
    "generation_view": lambda s: viz.generation_view(["a"] * (len(s) - 1), ["b"], s[None]),
}
VALUES = {
    "ordinary": lambda a: a,
    "all zero": lambda a: 0 * a,
    "constant": lambda a: 0 * a + 5,
    "all negative": lambda a: -np.abs(a) - 1,
    "tiny": lambda a: 1e-300 * a,
    "huge": lambda a: 1e300 * a,
    "as large as can be": lambda a: 1.7e308 * np.sign(a),
    "with NaN": lambda a: np.where(np.arange(a.size).reshape(a.shape) % 4 == 1, np.nan, a),
    "with infinities": lambda a: np.where(np.arange(a.size).reshape(a.shape) % 4 == 1, -np.inf, a),
    "all NaN": lambda a: np.nan * a,
    "float16": lambda a: a.astype(np.float16),
    "integers": lambda a: (9 * a).astype(np.int8),
    "booleans": lambda a: a > 0,
}
SHAPES = {
    "grayscale": GRAY,
    "grayscale with axis": [7, 5, 1],
    "RGB": RGB,
    "grayscale batch": [2, *GRAY],
    "RGB batch": [2, *RGB],
}


def as_image(a):
    return np.abs(noise(*np.shape(a), seed=1))


def rows(a):
    return a if is_batch(a) else np.asarray(a)[None]


@pytest.mark.thin
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_takes_any_values_without_a_warning(picture, values, tmp_path):
    result = PICTURES[picture](VALUES[values](noise(*RGB)), tmp_path)
    if isinstance(result, Figure):
        pixels(result)


@pytest.mark.thin
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_takes_single_images_and_batches(picture, shape, tmp_path):
    result = PICTURES[picture](VALUES["with NaN"](noise(*SHAPES[shape])), tmp_path)
    if isinstance(result, Figure):
        assert len([ax for ax in result.axes if ax.images]) % (1 + ("batch" in shape)) == 0
        pixels(result)


@pytest.mark.thin
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("plot", LISTS)
def test_every_plot_takes_any_values_without_a_warning(plot, values):
    for size in (2, 20):
        result = LISTS[plot](VALUES[values](noise(size)))
        if isinstance(result, Figure):
            pixels(result)


@pytest.mark.parametrize("picture", PICTURES)
def test_pictures_leave_their_input_alone(picture, tmp_path):
    attribution = VALUES["with NaN"](noise(*RGB))
    before = attribution.copy()
    PICTURES[picture](attribution, tmp_path)
    np.testing.assert_array_equal(attribution, before)


def test_nested_lists_are_arrays():
    figure = viz.overlay([[0, 1], [1, 0]], [[1, 0], [0, 0]])
    np.testing.assert_allclose(shown(figure)[0, 0], GREEN)


# What the package imports

PACKAGE = pathlib.Path(viz.__file__).parent
# The package by itself, as `igtf` imports TensorFlow.
ALONE = f"""
import sys, types
igtf = types.ModuleType("igtf")
igtf.__path__ = [{str(PACKAGE.parent)!r}]
sys.modules["igtf"] = igtf
import numpy as np
"""


def run_alone(code):
    subprocess.run([sys.executable, "-c", ALONE + code], check=True)


def test_figures_never_reach_pyplot():
    run_alone(
        "from igtf import visualization as viz\n"
        "viz.heatmap(np.eye(3)).savefig('/dev/null', format='png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'tensorflow' not in sys.modules and 'scipy' not in sys.modules\n"
    )


def test_without_scipy_all_but_regions_and_clean_up_is_drawn_and_they_say_what_to_install():
    run_alone(
        "sys.modules['scipy'] = None\n"
        "from igtf import visualization as viz\n"
        "viz.heatmap(np.eye(3)), viz.overlay(np.eye(3), np.eye(3)), viz.strength(np.eye(3))\n"
        "for call in (\n"
        "    lambda: viz.outlines(np.eye(3), np.eye(3)),\n"
        "    lambda: viz.largest_regions(np.eye(3)),\n"
        "    lambda: viz.strength(np.eye(3), clean=1),\n"
        "):\n"
        "    try:\n"
        "        call()\n"
        "    except ImportError as error:\n"
        "        assert 'pip install scipy' in str(error)\n"
        "    else:\n"
        "        raise AssertionError\n"
    )


def imports(tree):
    """The modules that are imported somewhere in the tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_files_import_only_matplotlib_with_its_pillow_numpy_and_what_regions_and_areas_need():
    further = {"regions.py": {"scipy"}, "areas.py": {"skimage"}}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ours = {name for name in imports(tree) if name.startswith("igtf")}
        assert all(name.startswith("igtf.visualization.") for name in ours), path
        others = {name.split(".")[0] for name in set(imports(tree)) - ours} - set(sys.stdlib_module_names)
        allowed = {"matplotlib", "numpy", "PIL", *further.get(path.name, [])}
        assert others <= allowed, path
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                assert set(imports(function)) <= {
                    "scipy.ndimage",
                    "skimage.segmentation",
                    "skimage.transform",
                }, path


# Documentation


def test_examples_in_docstrings_run():
    results = [
        doctest.testmod(
            importlib.import_module(".".join(path.relative_to(PACKAGE.parent.parent).with_suffix("").parts))
        )
        for path in PACKAGE.rglob("[!_]*.py")
    ]
    assert sum(result.attempted for result in results) >= 20
    assert not any(result.failed for result in results)


def test_every_public_function_documents_what_it_raises_and_shows_an_example():
    assert set(viz.__all__) == {
        "attribution_grid", "heatmap", "overlay", "outlines", "strength", "largest_regions",
        "animate_path", "path_plot", "highlight_text", "bar", "convergence_plot",
        "spotlight", "xrai", "segment", "least_area",
        "dependence", "logo", "interaction_matrix", "explanation_page", "evaluation_plot",
        "beeswarm", "importance", "waterfall", "series_plot",
        "generation_page", "generation_view", "token_matrix",
    }  # fmt: skip
    for name in viz.__all__:
        for part in ["Args:", "Returns:", "Raises:", "ValueError:", "TypeError:", ">>> "]:
            assert part in getattr(viz, name).__doc__, (name, part)


def test_no_warning_is_hidden_from_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        viz.heatmap([[1.0, 2.0]])
        warnings.warn("mine", stacklevel=1)
    assert [str(each.message) for each in caught] == ["mine"]
