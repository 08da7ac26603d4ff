"""Figures, axes, scales and legends: what can be checked without eyes."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from screen import RGB, YELLOW, at, legend, noise, pixels

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")


def test_fifty_figures_may_be_open_at_once():
    assert len([viz.bar(["a"], [1.0]) for _ in range(50)]) == 50


def test_figures_and_html_display_themselves_in_notebooks():
    png = viz.heatmap(np.eye(3))._repr_png_()
    assert Image.open(io.BytesIO(png)).size[0] > 300
    page = viz.highlight_text(["a"], [1.0])
    assert page._repr_html_() == page and "<span" in page


def test_images_have_their_axes_off_and_curves_have_them_on():
    images = noise(2, *RGB)
    for figure in [
        viz.attribution_grid(images, images),
        viz.overlay(images, images, original=True),
        viz.outlines(images, images),
    ]:
        pictures = [ax for ax in figure.axes if ax.images]
        assert len(pictures) >= 2 and not any(ax.axison for ax in pictures)
    assert viz.bar(["a"], [1.0]).axes[0].axison


# On a busy machine Matplotlib takes long to find the best place, and says so.
@pytest.mark.filterwarnings("ignore:Creating legend with loc")
def test_pictures_are_drawn_in_the_axes_they_are_given():
    for draw in [
        lambda ax: viz.heatmap(np.eye(3), ax=ax[0]),
        lambda ax: viz.heatmap(noise(2, 4, 5), ax=ax),
        lambda ax: viz.overlay(np.eye(3), np.eye(3), ax=ax[0]),
        lambda ax: viz.overlay(np.eye(3), np.eye(3), original=True, ax=ax),
        lambda ax: viz.outlines(np.eye(3), np.eye(3), ax=ax[0]),
        lambda ax: viz.path_plot([0, 1], [0, 1], ax=ax[0]),
        lambda ax: viz.path_plot([0, 1], [0, 1], [1], ax=ax),
        lambda ax: viz.highlight_text(["a"], [1], "figure", ax=ax[0]),
        lambda ax: viz.bar(["a"], [1], ax=ax[0]),
        lambda ax: viz.convergence_plot([1, 2], [1, 0.5], labels="a", ax=ax[0]),
        lambda ax: viz.interaction_matrix(np.eye(3), ax=ax[0]),
        lambda ax: viz.dependence([1, 2], [3, np.nan], [5, 6], ax=ax[0]),
    ]:
        figure = Figure(layout="constrained")
        ax = figure.subplots(1, 2)
        assert draw(ax) is figure
        assert ax[0].images or ax[0].lines or ax[0].patches
        pixels(figure)


def test_a_grid_can_be_drawn_in_a_subfigure():
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subfigures(1, 2)
    nan = np.full([2, 4, 4], np.nan)
    assert viz.attribution_grid(nan, nan, fig=left) is left
    assert len(left.axes) == 5 and not right.axes
    pixels(figure)


def test_a_title_of_the_users_own_axes_stays():
    figure = Figure()
    ax = figure.subplots()
    ax.set_title("mine")
    viz.heatmap(np.eye(3), ax=ax)
    viz.overlay(np.eye(3), np.eye(3), ax=ax)
    assert ax.get_title() == "mine"


def test_a_grid_has_one_symmetric_scale_and_one_colour_bar():
    samples = noise(2, 4, 4)
    maps = [np.zeros([2, 4, 4]), np.zeros([2, 4, 4])]
    maps[1][1, 2, 3] = -7
    figure = viz.attribution_grid(samples, maps, titles=["cat", "dog"])
    panels = np.array(figure.axes[:6]).reshape(2, 3)
    assert {ax.images[0].get_clim() for ax in panels[:, 1:].flat} == {(-7, 7)}
    assert [ax.get_title() for ax in panels[0]] == ["", "cat", "dog"]
    assert figure.axes[6].get_ylabel() == "attribution" and len(figure.axes) == 7


def test_zero_is_white_on_every_map_and_the_signs_are_red_and_blue():
    figure = viz.heatmap([[1.0, -1.0, 0.0]], clip_above=100)
    red, blue, white = (at(figure, figure.axes[0], 0, column) for column in range(3))
    np.testing.assert_allclose(white, 1, atol=0.02)
    np.testing.assert_allclose(red, [0.5, 0, 0], atol=0.02)  # the ends of "seismic"
    np.testing.assert_allclose(blue, [0, 0, 0.3], atol=0.02)


def test_nan_is_yellow_and_counted():
    attribution = np.array([[np.nan, 1.0, -np.inf, 2.0]])
    for figure in [
        viz.heatmap(attribution),
        viz.heatmap(attribution, np.ones([1, 4])),
        viz.overlay(np.zeros([1, 4]), attribution),
        viz.outlines(np.zeros([1, 4]), attribution),
    ]:
        assert "NaN or infinite: 2 of 4" in legend(figure)
        for column in (0, 2):
            np.testing.assert_allclose(at(figure, figure.axes[0], 0, column), YELLOW, atol=0.02)
    figure = viz.attribution_grid(np.zeros([1, 4]), attribution)
    assert "NaN or infinite: 2 of 4" in legend(figure)
    np.testing.assert_allclose(at(figure, figure.axes[1], 0, 0), YELLOW, atol=0.02)
    figure = viz.overlay(attribution, np.ones([1, 4]), original=True)
    assert "image: NaN or infinite: 2 of 4" in legend(figure)


def test_nothing_to_see_is_said():
    zero, image = np.zeros([3, 3]), np.eye(3)
    assert legend(viz.heatmap(zero)) == ["all attributions are 0"]
    assert "no positive attribution" in legend(viz.overlay(image, -np.ones([3, 3])))
    assert "no negative attribution" in legend(viz.outlines(image, np.eye(3), "negative"))
    assert "all attributions are 0" in legend(viz.bar(["a"], [0.0]))
    assert "all attributions are 0" in viz.highlight_text(["a"], [0.0])


def test_a_clipped_scale_ends_where_the_share_ends_and_has_pointed_ends():
    # Magnitudes 50, 30, 20: the largest alone is half of the total, the two largest are 80 %.
    attribution = np.array([[50.0, -30.0, 20.0]])
    for clip_above, limit, extend in [(100, 50, "neither"), (50, 50, "neither"), (20, 30, "both")]:
        figure = viz.heatmap(attribution, clip_above=clip_above)
        picture = figure.axes[0].images[0]
        assert picture.get_clim() == (-limit, limit)
        assert figure.axes[1]._colorbar.extend == extend
