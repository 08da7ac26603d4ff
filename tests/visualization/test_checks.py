"""Bad input raises, and the message says what came in."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")

IMAGE = np.zeros([4, 5])
BAD_SHAPES = {
    "grid, another size": (
        lambda: viz.attribution_grid(IMAGE, np.zeros([5, 4])),
        "(5, 4)",
        "(4, 5)",
    ),
    "grid, five axes": (
        lambda: viz.attribution_grid(np.zeros([1, 2, 3, 4, 3]), IMAGE),
        "(1, 2, 3, 4, 3)",
        "[B, H, W]",
    ),
    "grid, four channels": (
        lambda: viz.attribution_grid(np.zeros([2, 4, 5, 4]), IMAGE),
        "(2, 4, 5, 4)",
        "alpha",
    ),
    "grid, one of the list": (
        lambda: viz.attribution_grid(np.zeros([2, 4, 5]), [np.zeros([2, 4, 5]), np.zeros([3, 4, 5])]),
        "attributions[1]",
        "(3, 4, 5)",
        "(2, 4, 5)",
    ),
    "grid, flat": (lambda: viz.attribution_grid(np.zeros(784), np.zeros(784)), "(784,)", "reshape"),
    "heatmap, empty": (lambda: viz.heatmap(np.zeros([0, 5])), "(0, 5)", "[H, W]"),
    "heatmap, image": (lambda: viz.heatmap(IMAGE, np.zeros([5, 5])), "(4, 5)", "(5, 5)"),
    "overlay": (lambda: viz.overlay(np.zeros([4, 5, 3]), np.zeros([4, 6])), "(4, 6)", "(4, 5)"),
    "outlines": (lambda: viz.outlines(np.zeros([2, 4, 5]), IMAGE), "(4, 5)", "(2, 4, 5)"),
    "strength": (lambda: viz.strength(np.zeros(3)), "(3,)", "[H, W]"),
    "largest_regions": (lambda: viz.largest_regions(np.zeros([2, 3, 4])), "(2, 3, 4)", "[H, W]"),
    "gif, frames": (lambda: viz.animate_path(IMAGE, "a.gif"), "(4, 5)", "[S, ...]"),
    "gif, alphas": (
        lambda: viz.animate_path(np.zeros([2, 4, 5]), "a.gif", [0, 0.5, 1]),
        "(3,)",
        "[2]",
    ),
    "gif, outputs": (
        lambda: viz.animate_path(np.zeros([2, 4, 5]), "a.gif", outputs=[1]),
        "(1,)",
        "(2,)",
    ),
    "gif, inputs": (
        lambda: viz.animate_path(np.zeros([2, 4, 5]), "a.gif", inputs=np.zeros([2, 4, 6])),
        "(2, 4, 6)",
        "(2, 4, 5)",
    ),
    "path, outputs": (lambda: viz.path_plot([0, 1], [1, 2, 3]), "(3,)", "[2]"),
    "path, contributions": (lambda: viz.path_plot([0, 1, 2], [1, 2, 3], [1]), "(1,)", "[3]", "[2]"),
    "path, columns": (lambda: viz.path_plot([0, 1], [1, 2], np.ones([2, 3])), "(2, 3)", "1 column"),
    "path, alphas": (lambda: viz.path_plot([[0, 1]], [1, 2]), "(1, 2)", "[N]"),
    "text": (lambda: viz.highlight_text(["a", "b"], [1, 2, 3]), "(3,)", "[2]"),
    "text, embeddings": (lambda: viz.highlight_text(["a", "b"], np.ones([2, 8])), "(2, 8)", "sum"),
    "text, empty": (lambda: viz.highlight_text([], []), "(0,)", "at least one"),
    "texts": (lambda: viz.highlight_text([["a"], ["b"]], [[1]]), "1 texts", "expected 2"),
    "bar": (lambda: viz.bar(["a", "b"], [1.0]), "(1,)", "[2]"),
    "convergence": (lambda: viz.convergence_plot([1, 2], np.ones([3, 2])), "(3, 2)", "[2, K]"),
}


@pytest.mark.parametrize("case", BAD_SHAPES)
def test_wrong_shapes_raise_with_the_shapes_in_the_message(case):
    call, *parts = BAD_SHAPES[case]
    with pytest.raises(ValueError) as error:
        call()
    for part in [*parts, "expected"]:
        assert part in str(error.value)


BAD_VALUES = {
    "polarity": lambda: viz.overlay(IMAGE, IMAGE, "positiv"),
    "polarity of outlines": lambda: viz.outlines(IMAGE, IMAGE, "abs"),
    "clip_above": lambda: viz.strength(IMAGE, clip_above=101),
    "clip_below": lambda: viz.strength(IMAGE, clip_below=-1),
    "clip_below <= clip_above": lambda: viz.strength(IMAGE, clip_above=10, clip_below=20),
    "clip_above is nan": lambda: viz.heatmap(IMAGE, clip_above=float("nan")),
    "clean": lambda: viz.overlay(IMAGE, IMAGE, clean=-1),
    "share": lambda: viz.outlines(IMAGE, IMAGE, share=200),
    "at_most": lambda: viz.outlines(IMAGE, IMAGE, at_most=0),
    "top": lambda: viz.bar(["a"], [1], top=0),
    "fps": lambda: viz.animate_path(np.zeros([2, 4, 4]), "a.gif", fps=0),
    "path": lambda: viz.animate_path(np.zeros([2, 4, 4]), "a.mp4"),
    "alphas": lambda: viz.path_plot([0, 0.5, 0.5], [1, 2, 3]),
    "alphas is [": lambda: viz.animate_path(np.zeros([2, 4, 4]), "a.gif", [0, np.nan]),
    "steps": lambda: viz.convergence_plot([0, 10], [1, 1]),
    "output": lambda: viz.highlight_text(["a"], [1], "pdf"),
    "ax was given": lambda: viz.highlight_text(["a"], [1], ax=Figure().subplots()),
    "ax holds 1": lambda: viz.overlay(IMAGE, IMAGE, original=True, ax=Figure().subplots()),
    "titles": lambda: viz.overlay(IMAGE, IMAGE, titles=["a", "b"]),
    "labels": lambda: viz.path_plot([0, 1], [1, 2], labels=["a", "b"]),
    "colours holds 1": lambda: viz.bar(["a"], [1], colours=("red",)),
    "nocolour": lambda: viz.bar(["a"], [1], colours=("nocolour", "red")),
    "nomap": lambda: viz.heatmap(IMAGE, cmap="nomap"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_values_out_of_range_raise_and_are_named(name):
    with pytest.raises(ValueError) as error:
        BAD_VALUES[name]()
    assert name.split(" of ")[0].split(" is nan")[0] in str(error.value)


BAD_TYPES = {
    "samples": lambda: viz.attribution_grid("abc", IMAGE),
    "attributions": lambda: viz.attribution_grid(IMAGE, None),
    "attribution": lambda: viz.heatmap(1j * IMAGE),
    "image": lambda: viz.heatmap(IMAGE, [["a", "b"]]),
    "ragged": lambda: viz.heatmap([[1, 2], [3]]),
    "shown": lambda: viz.largest_regions(None),
    "frames": lambda: viz.animate_path(object(), "a.gif"),
    "polarity": lambda: viz.overlay(IMAGE, IMAGE, 1),
    "clip_above": lambda: viz.heatmap(IMAGE, clip_above="99"),
    "clip_below": lambda: viz.strength(IMAGE, clip_below=True),
    "clean": lambda: viz.strength(IMAGE, clean=1.5),
    "top": lambda: viz.bar(["a"], [1], top="all"),
    "fps": lambda: viz.animate_path(np.zeros([2, 4, 4]), "a.gif", fps="fast"),
    "titles": lambda: viz.heatmap(IMAGE, titles=[1]),
    "label": lambda: viz.animate_path(np.zeros([2, 4, 4]), "a.gif", label=1),
    "tokens": lambda: viz.highlight_text("a text", [1]),
    "tokens holds": lambda: viz.highlight_text([1, "b"], [1, 2]),
    "names": lambda: viz.bar("ab", [1, 2]),
    "names holds": lambda: viz.bar([1, 2], [1, 2]),
    "scores": lambda: viz.bar(["a"], ["b"]),
    "output": lambda: viz.highlight_text(["a"], [1], None),
    "colours": lambda: viz.bar(["a"], [1], colours="red"),
    "ax": lambda: viz.heatmap(IMAGE, ax="here"),
    "fig": lambda: viz.attribution_grid(IMAGE, IMAGE, fig=1),
}


@pytest.mark.parametrize("name", BAD_TYPES)
def test_wrong_types_raise_type_errors_that_name_the_argument(name):
    with pytest.raises(TypeError, match=name if name != "ragged" else "attribution"):
        BAD_TYPES[name]()


def test_nothing_is_written_when_the_input_is_bad(tmp_path):
    with pytest.raises(ValueError):
        viz.animate_path(np.zeros([2, 4, 4]), tmp_path / "a.gif", outputs=[1, 2, 3])
    assert not list(tmp_path.iterdir())
