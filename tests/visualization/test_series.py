"""Lines on stretches of colour, and spectra beside their maps."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from screen import YELLOW, legend, noise, pixels

from igtf import visualization as viz
from igtf.visualization import series

pytestmark = pytest.mark.filterwarnings("error")


def panels(figure):
    return [ax for ax in figure.axes if ax.collections and ax.get_label() != "<colorbar>"]


def colours(panel):
    """What the stretches of a panel show, over time."""
    return np.ma.filled(panel.collections[0].get_array(), np.nan)[0]


def test_each_channel_has_a_panel_with_its_line_on_its_stretches():
    samples, maps = noise(7, 3), noise(7, 3, seed=1)
    figure = viz.series_plot(samples, maps, ["x", "y", "z"], clip_above=100)
    found = panels(figure)
    assert [ax.get_ylabel() for ax in found] == ["x", "y", "z"]
    for channel, panel in enumerate(found):
        np.testing.assert_array_equal(
            panel.lines[0].get_xydata(), np.stack([np.arange(7), samples[:, channel]], 1)
        )
        np.testing.assert_array_equal(colours(panel), maps[:, channel])
        assert panel.collections[0].get_clim() == (-np.abs(maps).max(), np.abs(maps).max())
        assert panel.get_xlim() == (-0.5, 6.5)


def test_stretches_lie_where_their_steps_are_and_have_their_colour():
    maps = np.array([[1.0], [-1.0], [0.0], [0.0]])
    figure = viz.series_plot(np.zeros([4, 1]), maps, times=[0.0, 1.0, 2.0, 4.0])
    (panel,) = panels(figure)
    assert panel.get_xlabel() == "time" and panel.get_xlim() == (-0.5, 5)
    screen = pixels(figure)
    for time, red, blue in [
        (-0.4, 1, 0.35),
        (0.4, 1, 0.35),
        (0.6, 0.35, 1),
        (1.4, 0.35, 1),
        (1.6, 1, 1),
        (2.9, 1, 1),
    ]:
        x, y = panel.transData.transform([time, 0.02])
        shade = screen[len(screen) - 1 - int(y), int(x)]
        np.testing.assert_allclose(shade[[0, 2]], [red, blue], atol=0.1)


@pytest.mark.parametrize(
    "samples, maps, shape",
    [((6,), (6,), (1, 1)), ((6,), (3, 6), (1, 3)), ((6, 2), (6,), (2, 1)), ((6, 2), (3, 6, 2), (2, 3)),
     ((3, 6, 2), (3, 6), (2, 3)), ((3, 6, 2), (3, 6, 2), (2, 3)), ((1, 6, 2), (6, 2), (2, 1)),
     ((6, 6), (6, 6), (6, 1))],
)  # fmt: skip
def test_one_series_several_of_them_and_several_maps_of_one(samples, maps, shape):
    x, a = noise(*samples), noise(*maps, seed=1)
    if samples == (1, 6, 2):
        a = a[None]
    figure = viz.series_plot(x, a)
    found = np.array(panels(figure), object).reshape(shape)
    lines = x.reshape(-1, 6, shape[0])
    each = a.reshape(shape[1], 6, -1) * np.ones([1, 1, shape[0]])
    for channel in range(shape[0]):
        for k in range(shape[1]):
            panel = found[channel, k]
            np.testing.assert_array_equal(panel.lines[0].get_ydata(), lines[k % len(lines), :, channel])
            np.testing.assert_array_equal(colours(panel), each[k, :, channel])


def test_panels_share_time_and_those_of_a_channel_their_height():
    figure = viz.series_plot(noise(2, 5, 3) * [1, 10, 100], noise(2, 5, 3), titles=["one", "two"])
    grid = np.array(panels(figure), object).reshape(3, 2)
    grid[0, 0].set_xlim(1, 2)
    assert all(panel.get_xlim() == (1, 2) for panel in grid.flat)
    assert all(left.get_ylim() == right.get_ylim() for left, right in grid)
    assert grid[0, 0].get_ylim() != grid[1, 0].get_ylim()
    assert [panel.get_title() for panel in grid[0]] == ["one", "two"]


def test_of_many_steps_neighbours_are_averaged():
    maps = np.arange(3 * series.STRETCHES - 1.0)[:, None]
    figure = viz.series_plot(0 * maps, maps)
    (panel,) = panels(figure)
    found = colours(panel)
    assert len(found) == series.STRETCHES
    np.testing.assert_allclose(found[:2], [1, 4])
    np.testing.assert_allclose(found[-1], len(maps) - 1.5)  # of two
    assert panel.get_xlim() == (-0.5, len(maps) - 0.5)


def test_what_is_missing_is_yellow_and_counted_and_lines_break():
    figure = viz.series_plot([1.0, np.inf, 2.0, 1.0], [0.5, 1.0, np.nan, 0.0])
    (panel,) = panels(figure)
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), [1, np.nan, 2, 1])
    assert legend(figure) == ["NaN or infinite: 1 of 4", "series: NaN or infinite: 1 of 4"]
    screen = pixels(figure)
    x, y = panel.transData.transform([2.3, 1.02])
    np.testing.assert_allclose(screen[len(screen) - 1 - int(y), int(x)], YELLOW, atol=0.02)
    assert legend(viz.series_plot(noise(4), np.zeros(4))) == ["all attributions are 0"]


class TestSpectrograms:
    def test_a_spectrum_is_grey_and_its_maps_stand_beside_it(self):
        spectrum, maps = np.abs(noise(6, 4)), noise(2, 6, 4, seed=1)
        figure = viz.series_plot(spectrum, maps, titles=["for C", "for E"], spectrogram=True, clip_above=100)
        found = panels(figure)
        assert [ax.get_title() for ax in found] == ["spectrum", "for C", "for E"]
        np.testing.assert_array_equal(found[0].collections[0].get_array(), spectrum.T)
        for panel, values in zip(found[1:], maps):
            np.testing.assert_array_equal(panel.collections[0].get_array(), values.T)
        assert found[0].get_ylim() == found[1].get_ylim() == (-0.5, 3.5)  # the lowest frequency at the foot
        assert found[0].get_xlabel() == found[1].get_xlabel() == "time step"

    def test_several_stand_below_each_other_and_frequencies_have_names(self):
        figure = viz.series_plot(
            noise(2, 5, 30),
            noise(2, 5, 30),
            [f"{f} Hz" for f in range(30)],
            times=np.arange(5) / 2,
            spectrogram=True,
        )
        found = panels(figure)
        assert len(found) == 4
        assert [t.get_text() for t in found[0].get_yticklabels()] == [
            f"{f} Hz" for f in (0, 6, 12, 17, 23, 29)
        ]
        np.testing.assert_allclose(found[2].get_xlim(), [-0.25, 2.25])

    def test_large_ones_are_averaged_both_ways(self):
        maps = np.ones([2100, 1]) * np.arange(1100.0)
        figure = viz.series_plot(maps, maps, spectrogram=True)
        found = panels(figure)[1].collections[0].get_array()
        assert found.shape == (550, 700)
        np.testing.assert_allclose(found[:, 0], np.arange(550) * 2 + 0.5)


def test_it_draws_in_the_figure_it_is_given():
    figure = Figure((8, 6), layout="constrained")
    left, right = figure.subfigures(1, 2)
    assert viz.series_plot(noise(5, 2), noise(5, 2), fig=left) is left
    assert len(panels(left)) == 2 and not right.axes


def test_names_and_titles_are_neither_cut_nor_on_one_another():
    names = [f"a rather long name of channel {i}" for i in range(8)]
    titles = [f"why the third class and not the other {i}" for i in range(4)]
    figure = viz.series_plot(noise(4, 30, 8), noise(4, 30, 8), names, titles=titles)
    width, height = pixels(figure).shape[1::-1]
    down = [ax.yaxis.label.get_window_extent() for ax in panels(figure) if ax.get_ylabel()]
    across = [ax.title.get_window_extent() for ax in panels(figure) if ax.get_title()]
    assert all(above.y0 >= below.y1 - 1 for above, below in zip(down, down[1:]))
    assert all(left.x1 <= right.x0 + 1 for left, right in zip(across, across[1:]))
    assert all(-1 < b.x0 < b.x1 < width + 1 and -1 < b.y0 < b.y1 < height + 1 for b in down + across)
    assert to_rgb(panels(figure)[0].lines[0].get_color()) == (0, 0, 0)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: viz.series_plot([], []), ValueError, ["samples has shape (0,)", "[T], [T, C] or [N, T, C]"]),
        (lambda: viz.series_plot(noise(1, 2, 3, 4), noise(3)), ValueError, ["(1, 2, 3, 4)"]),
        (lambda: viz.series_plot(noise(5), noise(4)), ValueError, ["attributions has shape (4,)", "(5,)"]),
        (lambda: viz.series_plot(noise(2, 5, 3), noise(5, 3)), ValueError, ["attributions has shape (5, 3)"]),
        (lambda: viz.series_plot(noise(5, 3), noise(0, 5, 3)), ValueError, ["(0, 5, 3)"]),
        (lambda: viz.series_plot(["a"], [1]), TypeError, ["samples is a list"]),
        (
            lambda: viz.series_plot(noise(5), noise(5), ["a", "b"]),
            ValueError,
            ["names holds 2", "expected 1"],
        ),
        (lambda: viz.series_plot(noise(5), noise(5), titles=[3]), TypeError, ["titles holds 3"]),
        (
            lambda: viz.series_plot(noise(5), noise(5), times=[1, 2]),
            ValueError,
            ["times has shape (2,)", "[5]"],
        ),
        (
            lambda: viz.series_plot(noise(3), noise(3), times=[1, 3, 2]),
            ValueError,
            ["rise", "sort the steps"],
        ),
        (lambda: viz.series_plot(noise(3), noise(3), spectrogram=1), TypeError, ["spectrogram is 1"]),
        (
            lambda: viz.series_plot(noise(3, 101), noise(3, 101)),
            ValueError,
            ["101 x 1 panels", "spectrogram=True"],
        ),
        (lambda: viz.series_plot(noise(3), noise(3), clip_above=101), ValueError, ["clip_above is 101"]),
        (lambda: viz.series_plot(noise(3), noise(3), cmap="no"), ValueError, ["no"]),
        (lambda: viz.series_plot(noise(3), noise(3), label=3), TypeError, ["label is a int"]),
        (lambda: viz.series_plot(noise(3), noise(3), fig=3), TypeError, ["fig is a int"]),
    ],
)
def test_messages_say_what_came_and_what_was_expected(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
