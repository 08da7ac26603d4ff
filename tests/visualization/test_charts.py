"""The film, curves and bars."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from screen import legend, noise, snapshot

from igtf import visualization as viz
from igtf.visualization import figures

pytestmark = pytest.mark.filterwarnings("error")


def frames_of(path):
    with Image.open(path) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            yield np.asarray(gif.convert("RGB")) / 255, gif.info["duration"]


@pytest.mark.few(2)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_gif_has_one_frame_per_step(steps, tmp_path):
    for name, maps in {
        "ramp": np.arange(steps)[:, None, None] * np.eye(4),
        "zero": np.zeros([steps, 4, 4]),
    }.items():
        path = viz.animate_path(maps, tmp_path / f"{name}.gif", outputs=np.arange(steps), fps=20)
        assert path == tmp_path / f"{name}.gif"
        pictures = list(frames_of(path))
        assert len(pictures) == steps
        assert all(duration == 50 for _, duration in pictures[:1] if steps > 1)


def test_a_gif_shows_each_map_on_one_scale(tmp_path):
    maps = np.zeros([3, 4, 4])
    maps[1], maps[2] = 1, -2
    path = viz.animate_path(maps, str(tmp_path / "a.gif"), clip_above=100)
    middles = [picture[picture.shape[0] // 2, picture.shape[1] // 3] for picture, _ in frames_of(path)]
    # "seismic": white at 0, half way to the positive end is pure red, the negative end dark blue.
    np.testing.assert_allclose(middles, [[1, 1, 1], [1, 0, 0], [0, 0, 0.3]], atol=0.05)


def test_a_gif_shows_the_inputs_on_one_scale_and_takes_batches(tmp_path):
    inputs = np.linspace(0, 200, 5)[:, None, None, None, None] * np.ones([1, 2, 6, 8, 3])
    inputs[..., :4, :] = 0
    path = viz.animate_path(noise(5, 2, 6, 8, 3), tmp_path / "a.gif", inputs=inputs, outputs=noise(5, 2))
    pictures = [picture for picture, _ in frames_of(path)]
    assert len(pictures) == 5
    left = [picture[picture.shape[0] // 4, : picture.shape[1] // 3] for picture in pictures]
    grey = [row[row.std(axis=-1) < 0.02] for row in left]
    # The right half of the first input brightens from black to white in even steps.
    for level, row in zip(np.linspace(0, 1, 5), grey):
        assert np.isclose(row, level, atol=0.06).all(axis=-1).sum() > 20


def test_a_gif_says_where_it_is(tmp_path, monkeypatch):
    said = []
    draw = FigureCanvasAgg.draw

    def listen(canvas):
        said.append([ax.get_title() for ax in canvas.figure.axes] + [canvas.figure.axes[-1].get_ylabel()])
        draw(canvas)

    monkeypatch.setattr(FigureCanvasAgg, "draw", listen)
    viz.animate_path(noise(2, 4, 4), tmp_path / "a.gif", [0.25, 0.75], [1.5, -2], label="gradient")
    assert said[-2][:2] == ["F(\u03b1) = 1.50", "step 1 of 2   \u03b1 = 0.250"]
    assert said[-1][:2] == ["F(\u03b1) = -2.00", "step 2 of 2   \u03b1 = 0.750"]
    assert said[-1][-1] == "gradient"


def test_the_heading_of_a_narrow_film_is_not_cut(tmp_path, monkeypatch):
    outside = []
    draw = FigureCanvasAgg.draw

    def look(canvas):
        draw(canvas)
        for ax in canvas.figure.axes:
            box = ax.title.get_window_extent()
            outside.append(ax.get_title() and not 0 <= box.x0 < box.x1 <= canvas.figure.bbox.x1)

    monkeypatch.setattr(FigureCanvasAgg, "draw", look)
    viz.animate_path(noise(12, 3, 40, 10), tmp_path / "a.gif")
    assert outside and not any(outside)


def lines_of(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


@pytest.mark.parametrize("rule", ["intervals", "middle", "left", "trapezoid"])
def test_the_attribution_so_far_follows_f_for_a_complete_method(rule):
    # F(alpha) = alpha^2 has the gradient 2 alpha.
    alphas = {
        "intervals": np.linspace(0, 1, 21),
        "middle": (np.arange(20) + 0.5) / 20,
        "left": np.arange(20) / 20,
        "trapezoid": np.linspace(0, 1, 21),
    }[rule]
    weights = np.full(len(alphas), 1 / 20)
    if rule == "trapezoid":
        weights[[0, -1]] /= 2
    parts = np.diff(alphas**2) if rule == "intervals" else weights * 2 * alphas
    figure = viz.path_plot(alphas, alphas**2, parts)
    name = f"F({alphas[0]:.2g}) + attribution so far"
    np.testing.assert_allclose(lines_of(figure.axes[0])[name], alphas**2, atol=1e-12)
    density = figure.axes[1].lines[0]
    np.testing.assert_allclose(density.get_ydata(), 2 * density.get_xdata(), atol=0.051)
    assert set(legend(figure)) == {"F(\u03b1)", name}


def test_curves_have_labels_and_missing_values_have_a_yellow_line():
    outputs = np.stack([np.arange(4.0), [0, np.nan, 2, np.inf]], axis=1)
    figure = viz.path_plot([0, 0.2, 0.4, 1], outputs, labels=["cat", "dog"])
    assert legend(figure) == ["cat: F(\u03b1)", "dog: F(\u03b1)", "NaN or infinite: 2 of 8"]
    yellow = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_color() == figures.NOT_FINITE]
    assert yellow == [0.2, 1]


def test_convergence_is_drawn_in_absolute_values_and_zero_on_the_floor():
    figure = viz.convergence_plot([20, 10, 40], [-1e-2, 1e-1, 0.0], labels="middle")
    ax = figure.axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    curve, floor = ax.lines
    np.testing.assert_array_equal(curve.get_xdata(), [10, 20, 40])
    np.testing.assert_array_equal(curve.get_ydata(), [1e-1, 1e-2, np.nan])
    np.testing.assert_array_equal(floor.get_xdata(), [40])
    assert floor.get_ydata()[0] < 1e-2
    assert legend(figure) == ["middle", "triangles on the floor: exactly 0"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "20", "40"]


def widths(figure):
    return [patch.get_width() for patch in figure.axes[0].patches]


def test_bars_are_sorted_by_magnitude_and_add_up_to_the_total():
    scores = np.array([0.1, -3.0, 2.0, 0.25, -0.5])
    figure = viz.bar(list("abcde"), scores, top=2)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["b", "c", "sum of 3 others"]
    np.testing.assert_allclose(widths(figure), [-3, 2, -0.15])
    low, high = figure.axes[0].get_xlim()
    assert low == -high and high > 3
    assert [text.get_text() for text in figure.axes[0].texts] == ["\u22123.00", "+2.00", "\u22120.15"]


def test_a_feature_that_cancels_over_the_rows_does_not_drop_to_the_end():
    scores = np.array([[5.0, 1.0, 2.0], [-5.0, 1.0, 2.0]])
    labels = [label.get_text() for label in viz.bar(list("abc"), scores).axes[0].get_yticklabels()]
    assert labels == ["a", "c", "b"]
    figure = viz.bar(list("abc"), scores, sort=False, top=2)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "sum of 1 other"]
    np.testing.assert_allclose(widths(figure), [0, 1, 2])


def test_numbers_beside_bars_have_the_same_decimals():
    for scores, expected in [
        ([12.06, -11, 0.04, 0], ["+12.1", "\u221211.0", "+0.0", "0"]),
        ([0.5, -0.0297], ["+0.500", "\u22120.030"]),
        ([2000, 3], ["+2000", "+3"]),
        ([3e7, 2], ["+3e+07", "+2"]),
    ]:
        figure = viz.bar(list("abcd")[: len(scores)], scores)
        assert [text.get_text() for text in figure.axes[0].texts] == expected


def test_signs_of_bars_have_colours_of_their_own():
    figure = viz.bar(["a", "b"], [1, -1], colours=("lime", "magenta"))
    colours = [patch.get_facecolor()[:3] for patch in figure.axes[0].patches]
    assert colours == [(0, 1, 0), (1, 0, 1)]


def test_bars_of_a_batch_are_means_of_finite_rows():
    figure = viz.bar(["a", "b", "c"], [[1, -4, np.nan], [3, np.nan, np.nan]])
    np.testing.assert_allclose(widths(figure), [-4, 2, 0])
    assert [text.get_text() for text in figure.axes[0].texts] == ["\u22124.00", "+2.00", "NaN"]
    assert legend(figure) == ["NaN or infinite: 3 of 6"]
    assert "mean of 2 rows" in figure.axes[0].get_xlabel()


def test_bars_look_like_their_snapshot():
    figure = viz.bar(["a", "b", "c"], [1.0, -0.5, 0.25])
    figure.axes[0].set(xlim=(-1, 1), ylim=(2.35, -0.35))  # the bars fill the axes
    figure.axes[0].set_axis_off()
    lines = snapshot(figure, 0, 27, 8)
    assert [lines[3], lines[13], lines[23]] == ["wwww++++", "ww--wwww", "wwww+www"]
