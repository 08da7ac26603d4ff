"""Bars, swarms and waterfalls of the features of a data set."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from screen import legend, noise, pixels

from igtf import visualization as viz
from igtf.visualization import datasets, figures
from igtf.visualization.charts import COLOURS

pytestmark = pytest.mark.filterwarnings("error")


def labels(figure, index=0):
    return [label.get_text() for label in figure.axes[index].get_yticklabels()]


def beside(figure, index=0):
    return [text.get_text() for text in figure.axes[index].texts]


def bars(figure, index=0):
    """`(left, width, colour)` of each."""
    return [(p.get_x(), p.get_width(), p.get_facecolor()[:3]) for p in figure.axes[index].patches]


class TestImportance:
    def test_bars_are_as_long_as_both_parts_and_the_largest_is_first(self):
        scores = np.array([[1.0, -4.0, 0.0], [-3.0, -2.0, 1.0]])
        parts = [np.maximum(sign * scores, 0).mean(0) for sign in (1, -1)]
        figure = viz.importance(["a", "b", "c"], *parts)
        assert labels(figure) == ["b", "a", "c"] and beside(figure) == ["3.00", "2.00", "0.50"]
        red, blue = map(to_rgb, COLOURS)
        assert bars(figure)[:3] == [(0, 0, red), (0, 0.5, red), (0, 0.5, red)]
        assert bars(figure)[3:] == [(0, 3, blue), (0.5, 1.5, blue), (0.5, 0, blue)]
        assert legend(figure) == ["speaks for the output", "speaks against it"]

    def test_what_has_no_bar_is_said(self):
        figure = viz.importance(list("abcd"), [1.0, 5.0, 2.0, 0.5], [0.0, 1.0, 0.0, 0.5], top=2)
        assert labels(figure) == ["b", "c"] and beside(figure) == ["6.00", "2.00"]
        assert "2 others have no bar: 20.0% of the whole" in legend(figure)
        assert labels(viz.importance(list("ab"), [1.0, 5.0], sort=False)) == ["a", "b"]

    def test_classes_have_panels_in_one_order_and_on_one_scale(self):
        figure = viz.importance(["a", "b"], [[1.0, 0.0], [0.0, 9.0]], titles=["yes", "no"])
        pixels(figure)
        assert [ax.get_title() for ax in figure.axes] == ["yes", "no"]
        assert labels(figure) == ["b", "a"]
        assert [beside(figure, k) for k in (0, 1)] == [["0", "1.00"], ["9.00", "0"]]
        assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()

    def test_of_many_classes_the_largest_are_drawn_in_their_order(self):
        sizes = np.append([[0.5], [0.1]], np.arange(1.0, 10)[:, None], axis=0)
        figure = viz.importance(["a"], sizes, titles=[str(k) for k in range(11)])
        assert [ax.get_title() for ax in figure.axes] == [str(k) for k in range(2, 11)]
        assert "the 9 largest of 11 classes" in legend(figure)
        pixels(figure)

    def test_it_fills_the_axes_it_is_given(self):
        figure = Figure(layout="constrained")
        axes = figure.subplots(1, 2)
        assert viz.importance(["a"], [[1.0], [2.0]], ax=axes) is figure
        assert [len(ax.patches) for ax in axes] == [2, 2]


def dots(figure):
    """`[n, 2]` places of each line."""
    return [np.asarray(each.get_offsets()) for each in figure.axes[0].collections]


class TestBeeswarm:
    def test_every_row_is_a_dot_of_its_line(self):
        scores = noise(30, 3) * [1, 5, 2]
        figure = viz.beeswarm(["a", "b", "c"], scores)
        assert labels(figure) == ["b", "c", "a"]
        for place, (line, feature) in enumerate(zip(dots(figure), [1, 2, 0])):
            np.testing.assert_array_equal(np.sort(line[:, 0]), np.sort(scores[:, feature]))
            assert np.abs(line[:, 1] - place).max() < 0.5

    def test_dots_do_not_lie_on_one_another(self):
        figure = viz.beeswarm(["a"], np.full([9, 1], 2.0))
        heights = np.sort(dots(figure)[0][:, 1])
        assert len(set(heights)) == 9 and np.isclose(heights.sum(), 0)

    def test_a_line_is_as_wide_as_its_rows_are_many_and_some_of_them_are_drawn(self):
        scores = np.append(np.full(10_000, 1.0), np.full(5_000, 2.0))[:, None]
        (line,) = dots(viz.beeswarm(["a"], scores))
        one, two = (line[line[:, 0] == x, 1] for x in (1, 2))
        assert len(one) == len(two) == datasets.STACKED
        assert np.isclose(np.ptp(one) / np.ptp(two), 2) and np.ptp(one) < 1
        assert abs(one.min() + one.max()) < 0.1 * np.ptp(one)  # to both sides

    def test_colours_go_from_the_low_to_the_high_values_of_the_feature(self):
        values = np.stack([np.arange(101.0), -1000 * np.arange(101.0)], axis=1)
        figure = viz.beeswarm(["a", "b"], values * [1, 1e-3], values, cmap="gray")
        pixels(figure)
        for each, feature in zip(figure.axes[0].collections, [0, 1]):
            x = np.asarray(each.get_offsets())[:, 0] * [1, 1e3][feature]
            shade = each.get_facecolors()[:, 0]
            low, high = np.percentile(values[:, feature], [5, 95])
            np.testing.assert_allclose(shade, np.clip((x - low) / (high - low), 0, 1), atol=0.01)
        assert figure.axes[1].get_ylabel() == "value of the feature"

    def test_the_sum_of_the_others_is_grey_and_missing_values_are_yellow(self):
        values = np.array([[1.0, 2, 3], [np.nan, 1, 1]])
        figure = viz.beeswarm(list("abc"), [[9.0, 1, 2], [8.0, 0, -5]], values, top=1)
        assert labels(figure) == ["a", "sum of 2 others"]
        first, rest = figure.axes[0].collections
        np.testing.assert_array_equal(np.sort(rest.get_offsets()[:, 0]), [-5, 3])
        assert np.allclose(rest.get_facecolor()[:, :3], 0.6)
        yellow = np.isclose(first.get_facecolor()[:, :3], to_rgb(figures.NOT_FINITE)).all(axis=1)
        assert first.get_offsets()[yellow, 0].tolist() == [8.0]
        assert legend(figure) == ["values: NaN or infinite: 1 of 6"]

    def test_rows_without_a_score_are_counted(self):
        figure = viz.beeswarm(["a", "b"], [[1.0, np.nan], [2.0, np.inf]])
        assert [len(line) for line in dots(figure)] == [2, 0]
        assert legend(figure) == ["NaN or infinite: 2 of 4"]


class TestWaterfall:
    def test_steps_lead_from_the_base_value_to_the_output(self):
        figure = viz.waterfall(["a", "b", "c"], [1.0, -3.0, 0.5], 2.0)
        assert labels(figure) == ["base value", "b", "a", "c", "output"]
        red, blue = map(to_rgb, COLOURS)
        assert bars(figure) == [(2, -3, blue), (-1, 1, red), (0, 0.5, red)]
        assert beside(figure) == ["2", "−3.00", "+1.00", "+0.50", "0.5"]
        low, high = figure.axes[0].get_xlim()
        assert low < -1 and high > 2

    def test_the_others_are_one_step_and_values_stand_beside_names(self):
        figure = viz.waterfall(list("abcd"), [4.0, 3.0, 2.0, -1.0], values=[1, -0.123456, "red", True], top=2)
        assert labels(figure) == ["base value", "a = 1", "b = −0.1235", "sum of 2 others", "output"]
        assert [bar[:2] for bar in bars(figure)] == [(0, 4), (4, 3), (7, 1)]
        figure = viz.waterfall(list("cd"), [2.0, -1.0], values=np.array(["red", "x"]), sort=False)
        assert labels(figure)[1:3] == ["c = red", "d = x"]

    def test_what_is_not_attributed_is_grey_where_it_can_be_seen(self):
        figure = viz.waterfall(["a", "b"], [1.0, 2.0], 0.0, output=3.5)
        assert labels(figure)[-2:] == ["not attributed", "output"]
        assert bars(figure)[-1] == (3, 0.5, (0.6, 0.6, 0.6)) and beside(figure)[-1] == "3.5"
        assert labels(viz.waterfall(["a", "b"], [1.0, 2.0], output=3.001))[-2:] == ["a", "output"]

    def test_a_missing_score_is_no_step(self):
        figure = viz.waterfall(["a", "b"], [np.nan, 2.0])
        assert labels(figure) == ["base value", "b", "a", "output"] and beside(figure)[2] == "NaN"
        assert legend(figure) == ["NaN or infinite: 1 of 2"]


@pytest.mark.parametrize(
    "draw",
    [
        lambda names, s: viz.importance(
            names, np.abs([s, s, s]), np.abs([s, s, s]), titles=["class " * 9] * 3
        ),
        lambda names, s: viz.beeswarm(names, [s, 2 * s], [s, s]),
        lambda names, s: viz.waterfall(names, s, 1234.5, values=1e6 * s),
    ],
)
def test_long_names_are_shortened_and_nothing_is_cut_or_overlaps(draw):
    figure = draw([f"a name that is far too long to be read {i}" for i in range(12)], noise(12))
    width, height = pixels(figure).shape[1::-1]
    found = [t for t in figure.axes[0].get_yticklabels() if t.get_text()]
    boxes = [t.get_window_extent() for t in [*found, *figure.axes[0].texts]]
    assert all(-1 < box.x0 < box.x1 < width + 1 and -1 < box.y0 < box.y1 < height + 1 for box in boxes)
    lines = boxes[: len(found)]
    assert all(above.y0 > below.y1 - 1 for above, below in zip(lines, lines[1:]))
    assert any("…" in t.get_text() for t in found)
    assert figure.axes[0].get_window_extent().width > 100


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: viz.importance(["a"], [1.0, 2.0]), ValueError, ["positive has shape (2,)", "[1] or [K, 1]"]),
        (lambda: viz.importance(["a"], [-1.0]), ValueError, ["positive holds -1", "at least 0"]),
        (lambda: viz.importance(["a"], [1.0], [[1.0]] * 2), ValueError, ["negative has shape (2, 1)"]),
        (lambda: viz.importance(["a"], [1.0], titles=["x", "y"]), ValueError, ["titles holds 2"]),
        (lambda: viz.importance([1], [1.0]), TypeError, ["names holds 1"]),
        (lambda: viz.importance([], []), ValueError, ["(0,)"]),
        (lambda: viz.importance(["a"], ["x"]), TypeError, ["positive is a list"]),
        (lambda: viz.importance(["a"], [1.0], top=0), ValueError, ["top is 0"]),
        (lambda: viz.importance(["a"], [1.0], colours="red"), TypeError, ["colours is 'red'"]),
        (lambda: viz.importance(["a"], [1.0], ax=3), TypeError, ["ax holds a int"]),
        (lambda: viz.beeswarm(["a"], [1.0]), ValueError, ["scores has shape (1,)", "[N, 1]"]),
        (lambda: viz.beeswarm(["a"], np.zeros([0, 1])), ValueError, ["(0, 1)"]),
        (lambda: viz.beeswarm(["a"], [[1.0]], [[1.0, 2.0]]), ValueError, ["values has shape (1, 2)"]),
        (lambda: viz.beeswarm("a", [[1.0]]), TypeError, ["names is a str"]),
        (lambda: viz.beeswarm(["a"], [[1.0]], [["x"]]), TypeError, ["values is a list"]),
        (lambda: viz.beeswarm(["a"], [[1.0]], top=1.5), TypeError, ["top is a float"]),
        (lambda: viz.beeswarm(["a"], [[1.0]], cmap="no"), ValueError, ["no"]),
        (lambda: viz.beeswarm(["a"], [[1.0]], label=3), TypeError, ["label is a int"]),
        (lambda: viz.waterfall(["a"], [[1.0]]), ValueError, ["scores has shape (1, 1)", "one row"]),
        (lambda: viz.waterfall(["a"], [1.0], np.nan), ValueError, ["base_value is nan"]),
        (lambda: viz.waterfall(["a"], [1.0], "x"), TypeError, ["base_value is a str"]),
        (lambda: viz.waterfall(["a"], [1.0], output=[1, 2]), ValueError, ["output is [1, 2]"]),
        (lambda: viz.waterfall(["a"], [1.0], values=[1, 2]), ValueError, ["values holds 2", "expected 1"]),
        (lambda: viz.waterfall(["a"], [1.0], values=[None]), TypeError, ["values holds None"]),
        (lambda: viz.waterfall(["a"], [1.0], values=3), TypeError, ["values is a int"]),
        (lambda: viz.waterfall(["a"], [1.0], top=True), TypeError, ["top is a bool"]),
    ],
)
def test_messages_say_what_came_and_what_was_expected(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
