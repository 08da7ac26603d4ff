"""Pairs of features: the matrix, and one pair over a data set."""

import io

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from screen import YELLOW, at, legend, noise, pixels, shown

from igtf import visualization as viz
from igtf.visualization import figures

pytestmark = pytest.mark.filterwarnings("error")


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def boxes(figure):
    """Names and values in the picture: where they are on the screen."""
    pixels(figure)
    ax = figure.axes[0]
    return [text.get_window_extent() for text in [*ax.get_xticklabels(), *ax.get_yticklabels(), *ax.texts]]


def test_a_matrix_shows_the_mean_of_finite_rows_around_zero():
    rows = [[[1.0, -4.0], [np.nan, np.nan]], [[3.0, np.nan], [2.0, np.nan]]]
    figure = viz.interaction_matrix(rows, ["a", "b"])
    np.testing.assert_array_equal(shown(figure), [[2, -4], [2, np.nan]])
    assert figure.axes[0].images[0].get_clim() == (-4, 4)
    assert words(figure) == ["+2.00", "−4.00", "+2.00", "NaN"]
    assert legend(figure) == ["NaN or infinite: 4 of 8"]
    np.testing.assert_allclose(at(figure, figure.axes[0], 1.3, 1), YELLOW, atol=0.02)


def test_one_matrix_is_its_own_mean_and_names_are_numbers_unless_given():
    values = noise(3, 3)
    figure = viz.interaction_matrix(values, label="share", clip_above=50, cmap="PuOr")
    ax, bar = figure.axes
    np.testing.assert_array_equal(shown(figure), values)
    assert ax.images[0].get_clim()[1] < np.abs(values).max()
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]
    assert bar.get_ylabel() == "share\n(framed: by itself)"
    named = viz.interaction_matrix(values, ["$a$", "b", "c"]).axes[0]
    for labels in (named.get_xticklabels(), named.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["$a$", "b", "c"]
        assert not any(label.get_parse_math() for label in labels)


def test_the_diagonal_is_framed_and_nothing_else():
    for count in (1, 4):
        ax = viz.interaction_matrix(noise(count, count)).axes[0]
        frames = {patch.get_xy() for patch in ax.patches if patch.get_transform() != ax.transAxes}
        assert {(i - 0.5, i - 0.5) for i in range(count)} <= frames
        assert len(frames - {(0, 0)}) == count


def test_values_are_written_up_to_eight_features_and_can_be_read():
    assert words(viz.interaction_matrix(noise(9, 9))) == []
    values = np.linspace(-1, 1, 64).reshape(8, 8)
    figure = viz.interaction_matrix(values)
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert [colours[text] for text in ("−1.00", "−0.02", "+0.02", "+1.00")] == [
        "white",
        "black",
        "black",
        "white",
    ]


@pytest.mark.parametrize("count", [2, 8, 30])
def test_neither_names_nor_values_overlap_or_are_cut(count):
    names = [f"a rather long name {i}" for i in range(count)]
    figure = viz.interaction_matrix(1e-5 * noise(count, count), names)
    found = boxes(figure)
    down = found[count : 2 * count]
    assert all(above.y0 >= below.y1 - 1 for above, below in zip(down, down[1:]))
    across = [after.x1 - before.x1 for before, after in zip(found[:count], found[1:count])]
    height = figures.text_width("M", 9) / 72 * figure.dpi
    assert min(across) > height
    cell = figure.axes[0].get_window_extent().width / count
    assert all(box.width < cell for box in found[2 * count :])
    width, depth = figure.bbox.size
    assert all(-1 < box.x0 < box.x1 < width + 1 and -1 < box.y0 < box.y1 < depth + 1 for box in found)


def test_all_zero_is_said():
    assert legend(viz.interaction_matrix(np.zeros([2, 2]))) == ["all attributions are 0"]


def dots(figure):
    return next(each for each in figure.axes[0].collections if isinstance(each, PathCollection))


def test_dots_lie_where_the_rows_are_and_have_the_colour_of_the_other_feature():
    values, scores, other = noise(3, 20)
    figure = viz.dependence(values, scores, other, names=["age", "$income$"], label="interaction")
    ax, bar = figure.axes
    np.testing.assert_allclose(dots(figure).get_offsets(), np.stack([values, scores], axis=1))
    np.testing.assert_array_equal(dots(figure).get_array(), other)
    assert dots(figure).get_clim() == (other.min(), other.max())
    assert (ax.get_xlabel(), ax.get_ylabel(), bar.get_ylabel()) == ("age", "interaction", "$income$")
    assert not bar.yaxis.label.get_parse_math() and legend(figure) == []
    low, high = ax.get_ylim()
    assert low < 0 < high


def test_both_pictures_fill_the_axes_they_are_given():
    figure = Figure((8.5, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    viz.interaction_matrix(noise(3, 3), ["age", "income", "blood pressure"], ax=left)
    viz.dependence(*noise(3, 20), names=["age", "income"], ax=right)
    pixels(figure)
    assert left.get_window_extent().height > 200 and right.get_window_extent().width > 200


def test_the_colour_bar_of_categories_has_a_tick_for_each():
    for other, ticks in [([1, 2, 2], [1, 2]), ([4, 4, np.nan], [4])]:
        bar = viz.dependence([1, 2, 3], [1, 2, 3], other).axes[1]
        assert list(bar.get_yticks()) == ticks


def test_without_another_feature_dots_have_one_colour_and_zero_is_in_sight():
    figure = viz.dependence([1, 2, 3], [5, 6, 7], names="age")
    assert len(figure.axes) == 1 and len(dots(figure).get_facecolor()) == 1
    assert figure.axes[0].get_ylim()[0] < 0


def test_what_is_missing_is_yellow_or_left_out_and_counted():
    figure = viz.dependence([1, 2, 3, np.nan], [1, np.inf, 3, 4], [0, 1, np.nan, 2])
    assert legend(figure) == ["NaN or infinite: 3 of 12"]
    np.testing.assert_array_equal(dots(figure).get_offsets(), [[1, 1], [3, 3]])
    pixels(figure)
    assert tuple(dots(figure).get_facecolor()[1][:3]) == to_rgb(figures.NOT_FINITE)
    foot = figure.axes[0].lines[-1]
    np.testing.assert_array_equal(foot.get_xydata(), [[2, 0]])
    assert foot.get_color() == figures.NOT_FINITE


def test_a_feature_without_values_is_drawn_as_well():
    figure = viz.dependence([1, 2], [3, 4], [np.nan, np.nan])
    assert Image.open(io.BytesIO(figure._repr_png_())).size[0] > 300


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: viz.interaction_matrix(noise(3, 4)), ValueError, ["(3, 4)", "[F, F] or [B, F, F]"]),
        (lambda: viz.interaction_matrix(noise(4)), ValueError, ["(4,)", "all pairs"]),
        (lambda: viz.interaction_matrix(np.zeros([0, 2, 2])), ValueError, ["(0, 2, 2)"]),
        (lambda: viz.interaction_matrix(noise(2, 2), ["a"]), ValueError, ["names holds 1", "expected 2"]),
        (lambda: viz.interaction_matrix(noise(2, 2), "ab"), TypeError, ["names is a str"]),
        (lambda: viz.interaction_matrix(noise(2, 2), [1, 2]), TypeError, ["names holds 1"]),
        (lambda: viz.interaction_matrix([["a"]]), TypeError, ["interactions is a list"]),
        (lambda: viz.interaction_matrix(noise(2, 2), label=3), TypeError, ["label is a int"]),
        (lambda: viz.interaction_matrix(noise(2, 2), clip_above=101), ValueError, ["clip_above is 101"]),
        (lambda: viz.interaction_matrix(noise(2, 2), ax=3), TypeError, ["ax holds a int"]),
        (lambda: viz.dependence(noise(3, 1), noise(3)), ValueError, ["values has shape (3, 1)", "[N]"]),
        (lambda: viz.dependence([], []), ValueError, ["(0,)"]),
        (lambda: viz.dependence(noise(3), noise(4)), ValueError, ["scores has shape (4,)", "(3,)"]),
        (lambda: viz.dependence(noise(3), noise(3), noise(2)), ValueError, ["other has shape (2,)"]),
        (lambda: viz.dependence(noise(3), noise(3), names=["a", "b"]), ValueError, ["names holds 2"]),
        (lambda: viz.dependence(noise(3), noise(3), noise(3), names="a"), ValueError, ["expected 2"]),
        (lambda: viz.dependence(noise(3), ["a"] * 3), TypeError, ["scores is a list"]),
        (lambda: viz.dependence(noise(3), noise(3), noise(3), cmap="no"), ValueError, ["no"]),
    ],
)
def test_messages_say_what_came_and_what_was_expected(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
