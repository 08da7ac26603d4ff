"""Logos: where letters stand, how high, in what colour."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from screen import YELLOW, legend, noise, pixels

from igtf import visualization as viz
from igtf.visualization.letters import COLOURS

pytestmark = pytest.mark.filterwarnings("error")


def boxes(ax):
    """Left, bottom, right and top of every letter."""
    return np.array([path.get_extents().extents for path in ax.collections[0].get_paths()])


def test_a_letter_is_as_high_as_its_score_and_hangs_below_the_line_where_it_is_negative():
    (ax,) = viz.logo("GATO", [2, -1, 0, 0.5]).axes
    np.testing.assert_allclose(boxes(ax)[:, 1], [0, -1, 0])  # what is 0 is not drawn
    np.testing.assert_allclose(boxes(ax)[:, 3], [2, 0, 0.5])
    np.testing.assert_array_equal(np.floor(boxes(ax)[:, [0, 2]]), [[0, 0], [1, 1], [3, 3]])
    assert ax.get_ylim()[0] < -1 and ax.get_ylim()[1] > 2
    # Upside down: the point of an A is below.
    points = [path.vertices for path in ax.collections[0].get_paths()]
    lowest = points[1][points[1][:, 1] == -1, 0]
    assert 1.2 < lowest.min() <= lowest.max() < 1.8


def test_bases_have_a_colour_each_in_small_letters_too_and_others_are_grey_unless_told():
    def colours(figure):
        return figure.axes[0].collections[0].get_facecolor()[:, :3]

    wanted = [to_rgb(COLOURS[base]) for base in "ACGTA"] + [to_rgb("#555555")]
    np.testing.assert_allclose(colours(viz.logo("ACGTaK", np.ones(6))), wanted)
    np.testing.assert_allclose(colours(viz.logo("AK", [1, 1], colours={"K": "lime"}))[1], [0, 1, 0])


def test_long_sequences_go_on_in_the_next_line_on_one_scale_and_every_tenth_is_numbered():
    figure = viz.logo("ACGT" * 6, np.arange(24), start=-3, per_line=10)
    assert [len(ax.collections[0].get_paths()) for ax in figure.axes] == [9, 10, 4]
    assert len({ax.get_ylim() for ax in figure.axes}) == len({ax.get_xlim() for ax in figure.axes}) == 1
    ticks = [
        [(float(tick), label.get_text()) for tick, label in zip(ax.get_xticks(), ax.get_xticklabels())]
        for ax in figure.axes
    ]
    assert ticks == [[(3.5, "0")], [(3.5, "10")], [(3.5, "20")]]


def test_channels_of_a_position_are_summed_and_lists_are_sequences():
    one_hot = np.array([[0, 2, 0, 0], [0, 0, -1, 0.5]])
    np.testing.assert_allclose(boxes(viz.logo(["C", "G"], one_hot).axes[0])[:, [1, 3]], [[0, 2], [-0.5, 0]])


def test_a_letter_without_a_value_is_a_yellow_line():
    figure = viz.logo("ACG", [1, np.nan, -1])
    assert legend(figure) == ["NaN or infinite: 1 of 3"]
    assert (np.abs(pixels(figure) - YELLOW).max(axis=-1) < 0.02).any()


def test_all_zero_is_said():
    assert legend(viz.logo("ACG", [0, 0, 0])) == ["all attributions are 0"]


def test_a_logo_goes_into_given_axes_one_for_each_line():
    figure = Figure()
    axes = figure.subplots(2)
    assert viz.logo("ACGTA", noise(5), per_line=3, ax=axes) is figure
    assert all(ax.collections for ax in axes)
    with pytest.raises(ValueError, match="ax holds 2 axes; expected 1"):
        viz.logo("ACG", noise(3), ax=axes)


@pytest.mark.parametrize(
    "error, message, arguments",
    [
        (ValueError, r"scores has shape \(2,\); expected \[3\]", ("ACG", [1, 2])),
        (ValueError, "at least one", ("", [])),
        (ValueError, "letters holds 'CG'; expected single characters", (["A", "CG"], [1, 2])),
        (TypeError, "letters holds 3; expected strings", (["A", 3], [1, 2])),
        (TypeError, "letters is a int", (3, [1, 2])),
        (TypeError, "scores is a list that is no array of real numbers", ("AC", ["a", "b"])),
    ],
)
def test_what_does_not_fit_is_refused(error, message, arguments):
    with pytest.raises(error, match=message):
        viz.logo(*arguments)


@pytest.mark.parametrize(
    "error, message, options",
    [
        (ValueError, "per_line is 0; expected at least 1", {"per_line": 0}),
        (TypeError, "start is a float; expected a whole number", {"start": 0.5}),
        (TypeError, "colours is 'red'; expected a dict", {"colours": "red"}),
        (ValueError, "nocolour", {"colours": {"A": "nocolour"}}),
    ],
)
def test_options_that_do_not_fit_are_refused(error, message, options):
    with pytest.raises(error, match=message):
        viz.logo("AC", [1, 2], **options)
