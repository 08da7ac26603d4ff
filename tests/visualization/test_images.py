"""Pictures of images."""

import itertools

import numpy as np
import pytest
from screen import GREEN, MAGENTA, RGB, at, legend, noise, pixels, shown, snapshot

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")


def test_a_dark_image_darkens_its_heatmap():
    figure = viz.heatmap(np.zeros([1, 2]), [[0.0, 1.0]])
    dark, light = (at(figure, figure.axes[0], 0, column) for column in range(2))
    np.testing.assert_allclose(dark, 0.4, atol=0.02)
    np.testing.assert_allclose(light, 1, atol=0.02)


def test_a_photograph_shows_through_the_strongest_attribution_which_keeps_its_hue():
    image = np.array([[0.0, 1.0, 0.0, 1.0]])
    figure = viz.heatmap([[1.0, 1.0, -1.0, -1.0]], image, clip_above=100)
    red = [at(figure, figure.axes[0], 0, column) for column in (0, 1)]
    blue = [at(figure, figure.axes[0], 0, column) for column in (2, 3)]
    for dark, light, hue in [(*red, 0), (*blue, 2)]:
        # A quarter of a print that goes from 0.4 to 1 is left.
        np.testing.assert_allclose(light - dark, 0.25 * 0.6, atol=0.02)
        others = [channel for channel in range(3) if channel != hue]
        assert dark[hue] > dark[others].max() + 0.4 and light[hue] > light[others].max() + 0.4
    assert at(viz.heatmap([[1.0, -1.0]]), figure.axes[0], 0, 0).max() < 0.6  # without a photograph: dark ends


def test_all_classes_of_a_batch_become_columns():
    samples, maps = np.abs(noise(2, 7, 5)), noise(2, 3, 7, 5)
    listed = viz.attribution_grid(samples, [maps[:, i] for i in range(3)])
    for together in (maps, maps[..., None], np.stack([maps, 0 * maps], axis=-1)):
        figure = viz.attribution_grid(samples, together)
        for index in range(8):
            np.testing.assert_allclose(shown(figure, index), shown(listed, index))
    single = viz.attribution_grid(samples[:1], maps[:1])
    np.testing.assert_allclose(shown(single, 3), maps[0, 2])
    batched = viz.overlay(np.repeat(samples[..., None], 3, axis=-1), maps[..., None])
    assert len(batched.axes) == 6


def test_a_map_may_have_a_scale_of_its_column_or_its_own():
    samples = np.ones([2, 4, 4])
    small, large = noise(2, 4, 4), 1000 * noise(2, 4, 4, seed=1)
    small[0] *= 0.01
    for scale, most in {
        "all": [[np.abs(m).max() for m in maps] for maps in zip(small, large)],
        "column": [[np.abs(m).max() / np.abs(both).max() for m, both in zip(maps, (small, large))]
                   for maps in zip(small, large)],
        "each": np.ones([2, 2]),
    }.items():  # fmt: skip
        figure = viz.attribution_grid(samples, [small, large], scale=scale)
        drawn = np.array([np.abs(shown(figure, index)).max() for index in (1, 2, 4, 5)]).reshape(2, 2)
        np.testing.assert_allclose(drawn, most)
        limit = np.abs(large).max() if scale == "all" else 1
        assert {figure.axes[index].images[0].get_clim() for index in (1, 2, 4, 5)} == {(-limit, limit)}
        assert ("share" in figure.axes[6].get_ylabel()) == (scale != "all")
    zero = viz.attribution_grid(samples, [0 * small, large], scale="column")
    assert not shown(zero, 1).any()


def test_maps_of_a_heatmap_may_have_scales_of_their_own():
    maps = noise(2, 4, 6) * np.array([1, 1000])[:, None, None]
    figure = viz.heatmap(maps, scale="each", clip_above=100)
    for index in range(2):
        np.testing.assert_allclose(shown(figure, index), maps[index] / np.abs(maps[index]).max())
        assert figure.axes[index].images[0].get_clim() == (-1, 1)
    assert "share" in figure.axes[2].get_ylabel()
    clipped = viz.heatmap([[50.0, -30.0, 20.0]], scale="each", clip_above=20)
    np.testing.assert_allclose(shown(clipped, 0), [[5 / 3, -1, 2 / 3]])
    assert clipped.axes[1]._colorbar.extend == "both"
    printed = viz.heatmap(maps, np.ones([4, 6]), scale="each", clip_above=100)
    for index in range(2):  # the largest is as strongly coloured in both maps
        row, column = np.unravel_index(np.abs(maps[index]).argmax(), [4, 6])
        assert np.ptp(at(printed, printed.axes[index], row, column)) > 0.5


def test_a_grid_has_labels_for_rows_and_notes_below_pictures():
    samples, notes = np.ones([2, 4, 4]), [["a", "b"], ["c", ""]]
    figure = viz.attribution_grid(samples, samples, labels=["first", "second"], notes=notes)
    texts = [[text.get_text() for text in ax.texts if text.get_text()] for ax in figure.axes[:4]]
    assert texts == [["first", "a"], ["b"], ["second", "c"], []]
    assert inside(figure)
    for wrong in ([["a", "b"]], [["a"], ["b"]]):
        with pytest.raises(ValueError, match="notes.* holds"):
            viz.attribution_grid(samples, samples, notes=wrong)
    with pytest.raises(ValueError, match="labels holds 1"):
        viz.attribution_grid(samples, samples, labels=["first"])
    with pytest.raises(TypeError, match="notes is a str"):
        viz.attribution_grid(samples, samples, notes="abc")


def inside(figure):
    """Whether titles, labels, notes and legends are on the paper."""
    pixels(figure)
    texts = [text for ax in figure.axes for text in (ax.title, ax.yaxis.label, *ax.texts)]
    texts += [text for each in figure.legends for text in each.get_texts()]
    texts = [text for text in texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    paper = figure.bbox
    return all(b.x0 >= -1 and b.y0 >= -1 and b.x1 <= paper.x1 + 1 and b.y1 <= paper.y1 + 1 for b in boxes)


@pytest.mark.few(2)
@pytest.mark.parametrize("count", [1, 3, 9])
def test_long_titles_are_wrapped_or_shrunk_to_their_columns(count):
    maps = [noise(6, 6, seed=i) for i in range(count)]
    words = [
        "gradient_times_input",
        "Shapley value sampling of many features",
        "an unbreakable" + "word" * 12,
    ]
    titles = [words[i % 3] for i in range(count)]
    for figure in [
        viz.attribution_grid(np.eye(6), maps, titles),
        viz.overlay(np.eye(6), maps, "both", original=True, titles=titles),
        viz.heatmap(maps, titles=titles),
    ]:
        assert inside(figure)
        boxes = [ax.title.get_window_extent() for ax in figure.axes if ax.images and ax.get_title()]
        for one, other in itertools.pairwise(boxes):
            assert one.x1 <= other.x0
        assert min(ax.title.get_fontsize() for ax in figure.axes if ax.get_title()) >= 7


def test_there_are_no_bands_of_white_around_pictures():
    for figure in [
        viz.heatmap(noise(2, 10, 30)),
        viz.attribution_grid(np.ones([10, 30]), [noise(10, 30)] * 2, titles=["a", "b"]),
        viz.overlay(np.ones([30, 10]), noise(30, 10)),
    ]:
        ink = (pixels(figure) < 0.99).any(axis=-1)
        for axis in (0, 1):
            where = np.flatnonzero(ink.any(axis=axis))
            assert where[0] < 25 and where[-1] > ink.shape[1 - axis] - 25


def test_a_legend_is_as_wide_as_its_figure():
    assert inside(viz.overlay(np.ones([40, 10]), noise(40, 10), "both"))
    assert inside(viz.outlines(np.ones([40, 10]), noise(40, 10), "both"))


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
