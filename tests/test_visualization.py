"""Pictures: what can be checked without eyes."""

import ast
import doctest
import io
import itertools
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")

YELLOW = (1, 213 / 255, 0)
GREEN = (53 / 255, 1, 77 / 255)
MAGENTA = (1, 77 / 255, 1)
GRAY, RGB = [7, 5], [7, 5, 3]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def pixels(figure):
    """What is on the screen, `[rows, columns, 3]` in 0..1, the upper row first."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


def at(figure, ax, row, column):
    """The colour on the screen at the centre of a pixel of the image in `ax`."""
    screen = pixels(figure)
    x, y = ax.transData.transform([column, row])
    return screen[len(screen) - 1 - int(y), int(x)]


def legend(figure):
    """All that the legends say."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for each in legends for text in each.get_texts()]


def shown(figure, index=0):
    return np.asarray(figure.axes[index].images[0].get_array())


# Every function, one picture each, of an attribution `a` of any shape that pixels may have.

PICTURES = {
    "attribution_grid": lambda a, path: viz.attribution_grid(np.abs(as_image(a)), a),
    "heatmap": lambda a, path: viz.heatmap(a),
    "heatmap on an image": lambda a, path: viz.heatmap(a, as_image(a)),
    "overlay": lambda a, path: viz.overlay(as_image(a), a, "both", original=True, clean=1),
    "outlines": lambda a, path: viz.outlines(as_image(a), a, "both", original=True),
    "strength": lambda a, path: viz.strength(a, "both"),
    "animate_path": lambda a, path: viz.animate_path(np.stack([np.zeros_like(a), a]), path / "a.gif"),
}
LISTS = {
    "bar": lambda s: viz.bar([str(i) for i in range(len(s))], s),
    "bar of a batch": lambda s: viz.bar([str(i) for i in range(len(s))], np.stack([s, s / 2])),
    "highlight_text": lambda s: viz.highlight_text(["a"] * len(s), s),
    "highlight_text as figure": lambda s: viz.highlight_text(["a"] * len(s), s, "figure"),
    "path_plot": lambda s: viz.path_plot(np.linspace(0, 1, len(s)), s, s),
    "path_plot of intervals": lambda s: viz.path_plot(np.linspace(0, 1, len(s)), s, s[1:]),
    "convergence_plot": lambda s: viz.convergence_plot(np.arange(1, len(s) + 1), s),
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


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_takes_any_values_without_a_warning(picture, values, tmp_path):
    result = PICTURES[picture](VALUES[values](noise(*RGB)), tmp_path)
    if isinstance(result, Figure):
        pixels(result)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_takes_single_images_and_batches(picture, shape, tmp_path):
    result = PICTURES[picture](VALUES["with NaN"](noise(*SHAPES[shape])), tmp_path)
    if isinstance(result, Figure):
        assert len([ax for ax in result.axes if ax.images]) % (1 + ("batch" in shape)) == 0
        pixels(result)


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


# Figures


def test_figures_never_reach_pyplot():
    code = (
        "import sys, numpy as np, visualization as viz\n"
        "viz.heatmap(np.eye(3)).savefig('/dev/null', format='png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'tensorflow' not in sys.modules and 'scipy' not in sys.modules\n"
    )
    root = pathlib.Path(viz.__file__).parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_the_file_imports_only_matplotlib_with_its_pillow_and_numpy():
    tree = ast.parse(pathlib.Path(viz.__file__).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"matplotlib", "numpy", "PIL"}


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


# Scales


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


def test_a_dark_image_darkens_its_heatmap():
    figure = viz.heatmap(np.zeros([1, 2]), [[0.0, 1.0]])
    dark, light = (at(figure, figure.axes[0], 0, column) for column in range(2))
    np.testing.assert_allclose(dark, 0.4, atol=0.02)
    np.testing.assert_allclose(light, 1, atol=0.02)


# Percentiles by share of the total attribution


def test_strength_agrees_with_the_hand_worked_example():
    # Sorted: 8, 6, 4, 2. The total is 20, sums so far are 8, 14, 18, 20, shares 40, 70, 90, 100 %.
    attribution = [[2.0, 8.0], [6.0, 4.0]]
    # The top 40 % end at 8, the top 90 % end at 4: f(8) = 1, f(4) = 0.2, f(6) = 0.6.
    expected = [[0, 1], [0.6, 0.2]]
    np.testing.assert_allclose(viz.strength(attribution, "positive", 60, 10), expected)
    # The top 70 % end at 6: f(8) is clipped to 1. The top 100 % end at the minimum, f(2) = 0.2.
    expected = [[0.2, 1], [1, 0.6]]
    np.testing.assert_allclose(viz.strength(attribution, "positive", 30, 0), expected)
    # Just above 40 % need the second largest as well.
    np.testing.assert_allclose(viz.strength(attribution, "positive", 59.9, 59.9), [[0, 1], [1, 0]])
    np.testing.assert_allclose(viz.strength(attribution, "positive", 60, 60), [[0, 1], [0, 0]])


def test_the_default_shows_the_pixels_that_hold_thirty_percent():
    attribution = np.ones([10, 10])
    attribution[0, :3] = [20, 10, 7.5]  # of 137.5 in all: 14.5, 21.8 and 27.3 % so far
    attribution[1, 0] = 4  # 30.2 %
    assert (viz.strength(attribution) > 0).sum() == 4


def test_each_polarity_counts_its_own_total():
    attribution = np.array([[6.0, 4.0, -1.0, -0.5]])
    np.testing.assert_allclose(viz.strength(attribution, "positive", 100, 0), [[1, 0.8 * 4 / 6 + 0.2, 0, 0]])
    np.testing.assert_allclose(viz.strength(attribution, "negative", 100, 0), [[0, 0, -1, -0.6]])
    both = viz.strength(attribution, "both", 100, 0)
    # One scale for both signs, from 0.5 to 6: a weak minus looks weaker than a strong plus.
    expected = [[1, 0.2 + 0.8 * 3.5 / 5.5, -(0.2 + 0.8 * 0.5 / 5.5), -0.2]]
    np.testing.assert_allclose(both, expected)


def test_channels_of_a_pixel_are_summed_before_anything_else():
    attribution = np.array([[[3.0, -1.0, 1.0], [1.0, -2.0, -1.0]]])  # sums 3 and -2
    np.testing.assert_allclose(viz.strength(attribution, "positive"), [[1, 0]])
    np.testing.assert_allclose(viz.strength(attribution, "negative"), [[0, -1]])
    np.testing.assert_array_equal(viz.heatmap(attribution).axes[0].images[0].get_array(), [[3, -2]])


def test_strength_does_not_depend_on_the_unit():
    attribution = noise(6, 7)
    expected = viz.strength(attribution, "both", 95, 20)
    for factor in (1e-300, 1e-3, 1e300):
        np.testing.assert_allclose(viz.strength(factor * attribution, "both", 95, 20), expected, rtol=1e-9)


def test_rows_of_a_batch_have_scales_of_their_own():
    batch = noise(3, 6, 7)
    batch[1] *= 100
    batch[2, 0, 0] = np.nan
    together = viz.strength(batch, "both", 90, 30)
    apart = [viz.strength(each, "both", 90, 30) for each in batch]
    np.testing.assert_array_equal(together, apart)
    assert np.isnan(together[2, 0, 0]) and np.isnan(together).sum() == 1


# Overlay


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


# Clean-up and regions


def brute_force(values, radius, reduce):
    """A square window around each pixel, clipped at the border, one pixel at a time."""
    result = np.empty_like(values)
    for row, column in np.ndindex(values.shape):
        rows = slice(max(0, row - radius), row + radius + 1)
        columns = slice(max(0, column - radius), column + radius + 1)
        result[row, column] = reduce(values[rows, columns])
    return result


def flood(mask, diagonals):
    """Sets of connected pixels, found by walking from pixel to pixel."""
    steps = [s for s in itertools.product((-1, 0, 1), repeat=2) if any(s) and (diagonals or not all(s))]
    left, found = set(zip(*np.nonzero(mask))), set()
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            region.add(pixel := edge.pop())
            near = {(pixel[0] + down, pixel[1] + right) for down, right in steps} & left
            left -= near
            edge += near
        found.add(frozenset(region))
    return found


@pytest.mark.parametrize("radius", [1, 2])
def test_clean_up_is_a_grey_closing_and_an_opening(radius):
    attribution = np.abs(noise(12, 9))
    level = viz.strength(attribution, "positive", 99, 20)
    level = np.pad(level, 9)  # there is nothing beyond the border
    for reduce in (np.max, np.min, np.min, np.max):
        level = brute_force(level, radius, reduce)
    level = level[9:-9, 9:-9]
    np.testing.assert_array_equal(viz.strength(attribution, "positive", 99, 20, radius), level)


def test_clean_up_drops_specks_and_closes_pinholes():
    attribution = np.zeros([12, 12])
    attribution[1:8, 1:8] = 1
    attribution[4, 4] = 0  # a pinhole
    attribution[10, 10] = 1  # a speck
    expected = np.zeros([12, 12])
    expected[1:8, 1:8] = 1
    np.testing.assert_array_equal(viz.strength(attribution, clean=1), expected)
    np.testing.assert_array_equal(viz.strength(-attribution, "both", clean=1), -expected)


@pytest.mark.parametrize("density", [0.2, 0.4, 0.6])
def test_regions_are_what_a_walk_from_pixel_to_pixel_finds(density):
    for seed, diagonals in itertools.product(range(5), [True, False]):
        mask = np.random.default_rng(seed).random([17, 13]) < density
        labels = viz._regions(mask, diagonals)
        regions = {frozenset(zip(*np.nonzero(mask & (labels == label)))) for label in labels[mask]}
        assert regions == flood(mask, diagonals)


def test_a_spiral_is_one_region():
    spiral = np.zeros([41, 41])
    row, column, sides = 20, 20, 0
    for length in range(2, 40, 2):
        for _ in range(2):
            down, right = [(0, 1), (1, 0), (0, -1), (-1, 0)][sides % 4]
            for _ in range(length):
                spiral[row, column] = 1
                row, column = row + down, column + right
            sides += 1
    assert len(flood(spiral > 0, False)) == 1
    assert len(np.unique(viz._regions(spiral > 0, False)[spiral > 0])) == 1


def test_largest_regions_are_kept_until_their_share_is_reached():
    # Three regions with sums 10, 6 and 4, that is 50, 30 and 20 % of the total.
    shown_ = np.array([[5, 0, 6, 0, 1], [5, 0, 0, 0, 1], [0, 0, 0, 0, 2]])
    first, second = shown_ == 5, shown_ == 6
    third = (shown_ == 1) | (shown_ == 2)
    for share, at_most, expected in [
        (50, 3, first),
        (51, 3, first | second),
        (80, 3, first | second),
        (100, 3, first | second | third),
        (100, 2, first | second),
        (100, 1, first),
        (0, 3, first),
    ]:
        np.testing.assert_array_equal(viz.largest_regions(shown_, share, at_most), expected)


def test_holes_belong_to_the_region_and_bays_do_not():
    shown_ = np.zeros([7, 7])
    shown_[1:6, 1:6] = 1
    shown_[3, 3] = 0  # a hole
    expected = shown_ > 0
    expected[3, 3] = True
    np.testing.assert_array_equal(viz.largest_regions(shown_), expected)
    shown_[3, 4:6] = 0  # now a bay
    np.testing.assert_array_equal(viz.largest_regions(shown_), shown_ > 0)


def test_no_attribution_has_no_region():
    assert not viz.largest_regions(np.zeros([4, 5])).any()
    assert not viz.largest_regions(np.full([4, 5], np.nan)).any()


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


# GIF


def frames_of(path):
    with Image.open(path) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            yield np.asarray(gif.convert("RGB")) / 255, gif.info["duration"]


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


# Curves


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
    yellow = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_color() == viz.NOT_FINITE]
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


# Bars and text


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
    assert [text.get_text() for text in figure.axes[0].texts] == ["\u22123", "+2", "\u22120.15"]


def test_signs_of_bars_have_colours_of_their_own():
    figure = viz.bar(["a", "b"], [1, -1], colours=("lime", "magenta"))
    colours = [patch.get_facecolor()[:3] for patch in figure.axes[0].patches]
    assert colours == [(0, 1, 0), (1, 0, 1)]


def test_bars_of_a_batch_are_means_of_finite_rows():
    figure = viz.bar(["a", "b", "c"], [[1, -4, np.nan], [3, np.nan, np.nan]])
    np.testing.assert_allclose(widths(figure), [-4, 2, 0])
    assert [text.get_text() for text in figure.axes[0].texts] == ["\u22124", "+2", "NaN"]
    assert legend(figure) == ["NaN or infinite: 3 of 6"]
    assert "mean of 2 rows" in figure.axes[0].get_xlabel()


def test_names_and_tokens_are_not_taken_for_mathematics():
    names = ["$", "$\\frac$", "a_b^$x$"]
    pixels(viz.bar(names, [1, 2, 3]))
    figure = viz.highlight_text(names, [1, 2, 3], "figure")
    pixels(figure)
    assert [text.get_text() for text in figure.axes[0].texts] == names


def test_html_escapes_tokens():
    tokens = ["<script>alert('x')</script>", "&amp;", '" onclick="', "plain"]
    page = viz.highlight_text(tokens, [1, -1, 0.5, 0])
    assert "<script" not in page and 'onclick="' not in page
    for escaped in ["&lt;script&gt;", "&amp;amp;", "&quot; onclick=&quot;", ">plain<"]:
        assert escaped in page


def test_tokens_have_symmetric_colours_and_readable_ink():
    page = viz.highlight_text(["a", "b", "c", "d"], [2.0, -2.0, 0.0, np.nan])
    for paper, ink in [("#800000", "white"), ("#00004c", "white"), ("#ffd500", "black")]:
        assert f"background: {paper}; color: {ink}" in page
    white = page.split(">c<")[0].rsplit("background: ", 1)[1][:7]
    assert all(int(white[i : i + 2], 16) >= 250 for i in (1, 3, 5))
    assert "\u22122 <span" in page and "</span> +2" in page  # the scale
    assert "NaN or infinite: 1 of 4" in page and 'title="NaN"' in page


def test_several_texts_share_a_scale():
    page = viz.highlight_text([["a", "b"], ["c"]], [[1, 2], [-4]])
    assert page.count("<p ") == 2
    assert page.count("#00004c; color") == 1 and page.count("#800000; color") == 0
    assert viz.highlight_text([["a", "b"], ["c", "d"]], np.ones([2, 2])).count("<p ") == 2


def test_long_texts_wrap_inside_the_figure():
    tokens = ["word", "a", "considerably"] * 40
    figure = viz.highlight_text(tokens, noise(120), "figure")
    screen = figure.bbox
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len({round(box.y0) for box in boxes}) > 3
    assert all(0 <= box.x0 and box.x1 <= screen.x1 and 0 <= box.y0 and box.y1 <= screen.y1 for box in boxes)
    assert figure.get_size_inches()[1] > viz.highlight_text(["a"], [1], "figure").get_size_inches()[1]
    for one, other in itertools.pairwise(boxes):
        assert one.x1 < other.x0 or other.y1 < one.y0 + 5  # beside, or on the next line


# Snapshots


LETTERS = {
    "w": (1, 1, 1), "k": (0, 0, 0), "r": (1, 0, 0), "b": (0, 0, 1), "g": GREEN, "m": MAGENTA, "y": YELLOW,
    "R": (0.5, 0, 0), "B": (0, 0, 0.3), "+": (0.91, 0.22, 0.17), "-": (0.18, 0.55, 0.91),
    ".": (0.4, 0.4, 0.4),
}  # fmt: skip


def snapshot(figure, index, rows, columns):
    """The axes as they are on the screen, in `rows` lines of letters: the median colour of each cell."""
    screen = pixels(figure)
    left, bottom, right, top = figure.axes[index].get_window_extent().extents.round().astype(int)
    part = screen[len(screen) - top : len(screen) - bottom, left:right]
    names, colours = zip(*LETTERS.items())
    lines = []
    for line in np.array_split(part, rows):
        cells = [np.median(cell, axis=(0, 1)) for cell in np.array_split(line, columns, axis=1)]
        distances = np.abs(np.array(cells)[:, None] - np.array(colours)).max(axis=-1)
        assert distances.min(axis=1).max() < 0.12, "a colour that has no letter"
        lines.append("".join(names[i] for i in distances.argmin(axis=1)))
    return lines


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


def test_bars_look_like_their_snapshot():
    figure = viz.bar(["a", "b", "c"], [1.0, -0.5, 0.25])
    figure.axes[0].set(xlim=(-1, 1), ylim=(2.35, -0.35))  # the bars fill the axes
    figure.axes[0].set_axis_off()
    lines = snapshot(figure, 0, 27, 8)
    assert [lines[3], lines[13], lines[23]] == ["wwww++++", "ww--wwww", "wwww+www"]


# Bad input


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


# Documentation


def test_examples_in_docstrings_run():
    result = doctest.testmod(viz)
    assert result.attempted >= 20 and not result.failed


def test_every_public_function_documents_what_it_raises_and_shows_an_example():
    functions = [
        value
        for name, value in vars(viz).items()
        if callable(value) and getattr(value, "__module__", "") == viz.__name__ and name[0] != "_"
    ]
    assert {f.__name__ for f in functions} == {
        "attribution_grid", "heatmap", "overlay", "outlines", "strength", "largest_regions",
        "animate_path", "path_plot", "highlight_text", "bar", "convergence_plot",
    }  # fmt: skip
    for function in functions:
        for part in ["Args:", "Returns:", "Raises:", "ValueError:", "TypeError:", ">>> "]:
            assert part in function.__doc__, (function.__name__, part)


def test_no_warning_is_hidden_from_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        viz.heatmap([[1.0, 2.0]])
        warnings.warn("mine", stacklevel=1)
    assert [str(each.message) for each in caught] == ["mine"]
