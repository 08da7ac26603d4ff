"""Pictures of images."""

import numpy as np
import pytest
from screen import GREEN, MAGENTA, RGB, at, legend, noise, shown, snapshot

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")


def test_a_dark_image_darkens_its_heatmap():
    figure = viz.heatmap(np.zeros([1, 2]), [[0.0, 1.0]])
    dark, light = (at(figure, figure.axes[0], 0, column) for column in range(2))
    np.testing.assert_allclose(dark, 0.4, atol=0.02)
    np.testing.assert_allclose(light, 1, atol=0.02)


def test_signs_light_up_in_their_own_colour():
    attribution = np.array([[1.0, -1.0, 0.0]])
    expected = {
        "positive": [GREEN, (0, 0, 0), (0, 0, 0)],
        "negative": [(0, 0, 0), MAGENTA, (0, 0, 0)],
        "both": [GREEN, MAGENTA, (0, 0, 0)],
    }
    for polarity, colours in expected.items():
        figure = viz.overlay(np.zeros([1, 3]), attribution, polarity)
        np.testing.assert_allclose(shown(figure)[0], colours)
        for column, colour in enumerate(colours):
            np.testing.assert_allclose(at(figure, figure.axes[0], 0, column), colour, atol=0.02)
        names = [text.split()[0] for text in legend(figure)]
        assert names == {"both": ["positive", "negative"]}.get(polarity, [polarity])


def test_other_colours_can_be_chosen():
    figure = viz.overlay(np.zeros([1, 2]), [[1.0, -1.0]], "both", colours=("lime", "red"))
    np.testing.assert_array_equal(shown(figure)[0], [[0, 1, 0], [1, 0, 0]])


def test_light_is_mixed_with_a_dimmed_grey_print_in_proportion_to_strength():
    image = np.array([[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5]]])
    figure = viz.overlay(image, [[3.0, 6.0]], clip_above=100, clip_below=0)
    red_as_grey = 0.299 * 0.45  # luminance, dimmed
    np.testing.assert_allclose(shown(figure)[0, 0], 0.8 * red_as_grey + 0.2 * np.array(GREEN))
    np.testing.assert_allclose(shown(figure)[0, 1], GREEN)
    figure = viz.overlay(image, [[3.0, 6.0]], clip_above=100, clip_below=0, blended=False)
    np.testing.assert_allclose(shown(figure)[0, 0], 0.2 * np.array(GREEN))


def test_the_original_stands_beside_every_row():
    images = np.abs(noise(3, 4, 5, 3)) % 1
    figure = viz.overlay(images, [images, -images], original=True, titles=["a", "b"])
    panels = np.array(figure.axes).reshape(3, 3)
    for row, image in zip(panels, images):
        np.testing.assert_allclose(row[0].images[0].get_array(), image)
    assert [ax.get_title() for ax in panels[0]] == ["original", "a", "b"]


def test_a_batch_of_attributions_of_one_image_becomes_columns():
    image, maps = np.abs(noise(*RGB)), noise(4, *RGB)
    together = viz.overlay(image, maps)
    listed = viz.overlay(image, list(maps))
    summed = viz.overlay(image, maps.sum(-1))
    assert len(together.axes) == 4
    for index in range(4):
        np.testing.assert_array_equal(shown(together, index), shown(listed, index))
        np.testing.assert_allclose(shown(together, index), shown(summed, index))
    assert len(viz.heatmap(maps, image).axes) == 5


def test_images_of_any_range_come_out_between_zero_and_one():
    plain = np.linspace(0, 1, 12).reshape(3, 4)
    for image, expected in [
        (plain, plain),
        (0.5 * plain, 0.5 * plain),
        ((255 * plain).round().astype(np.uint8), (255 * plain).round() / 255),
        (2 * plain - 1, plain),
        (1000 * plain - 300, plain),
        (np.full([3, 4], -9.0), np.full([3, 4], 0.5)),
    ]:
        panel = shown(viz.overlay(image, np.ones([3, 4]), original=True))
        np.testing.assert_allclose(panel, np.repeat(expected[..., None], 3, -1), atol=1e-12)


def test_an_outline_is_the_border_of_its_region_in_the_colour_of_its_sign():
    attribution = np.zeros([9, 14])
    attribution[2:7, 1:6] = 1
    attribution[1:4, 9:12] = -1
    plus, minus = attribution > 0, attribution < 0
    plus[3:6, 2:5] = minus[2, 10] = False  # hollow
    for polarity, colours in [
        ("positive", {GREEN: plus}),
        ("negative", {MAGENTA: minus}),
        ("both", {GREEN: plus, MAGENTA: minus}),
    ]:
        figure = viz.outlines(np.full([9, 14], 0.5), attribution, polarity)
        expected = np.full([9, 14, 3], 0.4)
        for colour, mask in colours.items():
            expected[mask] = colour
        np.testing.assert_allclose(shown(figure), expected)
        assert len(legend(figure)) == len(colours)


def test_a_region_at_the_edge_of_the_image_is_outlined_there_too():
    figure = viz.outlines(np.zeros([4, 4]), np.ones([4, 4]))
    lit = shown(figure).any(axis=-1)
    assert lit.sum() == 12 and not lit[1:3, 1:3].any()


CROSS = np.array([[0, 2, 0, 0], [2, -2, 1, 0], [0, -1, 0, np.nan]])
RING = np.pad(np.ones([4, 4]), [(1, 1), (1, 3)])
SNAPSHOTS = {
    "a map": (lambda: viz.heatmap(CROSS), 0, ["wRww", "RBrw", "wbwy"]),
    "the second map of a grid": (
        lambda: viz.attribution_grid(np.zeros([3, 4]), [CROSS, -CROSS]), 2, ["wBww", "BRbw", "wrwy"],
    ),
    "an image": (lambda: viz.attribution_grid(np.eye(3), np.eye(3)), 0, ["wkk", "kwk", "kkw"]),
    "an overlay": (
        lambda: viz.overlay(np.zeros([3, 4]), np.sign(CROSS), "both"), 0, ["kgkk", "gmgk", "kmky"],
    ),
    "an overlay of what is negative": (
        lambda: viz.overlay(np.zeros([3, 4]), np.sign(CROSS), "negative"), 0, ["kkkk", "kmkk", "kmky"],
    ),
    "an outline": (
        lambda: viz.outlines(np.full([6, 8], 0.5), RING), 0,
        ["........", ".gggg...", ".g..g...", ".g..g...", ".gggg...", "........"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_figures_look_like_their_snapshots(name):
    draw, index, expected = SNAPSHOTS[name]
    assert snapshot(draw(), index, len(expected), len(expected[0])) == expected
