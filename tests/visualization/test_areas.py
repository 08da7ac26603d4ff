"""Segments ranked by attribution, the least area, and the picture of it."""

import sys

import numpy as np
import pytest
from screen import noise, pixels

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")


def grown(values, masks, min_pixels):
    """The paper's algorithm with sets of pixels: everything computed anew for every segment added."""
    result, area, left = np.full(values.shape, np.nan), np.zeros(values.shape, bool), list(masks)
    while True:
        new = [
            (values[mask & ~area].mean(), i)
            for i, mask in enumerate(left)
            if (mask & ~area).sum() >= min_pixels
        ]
        if not new:
            break
        gain, best = max(new)
        result[left[best] & ~area] = gain
        area |= left.pop(best)
    result[~area] = values[~area].mean() if (~area).any() else 0
    return result


def widened(mask, radius):
    places = np.argwhere(mask)
    grid = np.stack(np.indices(mask.shape), -1)
    near = ((grid[..., None, :] - places) ** 2).sum(-1) <= radius**2
    return near.any(-1)


LABELS = np.random.default_rng(0).integers(0, 7, [3, 4, 5]).repeat(3, 1).repeat(2, 2)  # [3, 12, 10]
MASKS = np.stack([LABELS[k] == label for k in range(3) for label in range(7)])


class TestXrai:
    @pytest.mark.parametrize("min_pixels", [1, 7, 40, 1000])
    @pytest.mark.parametrize("dilation", [0, 2])
    def test_values_are_those_of_the_papers_algorithm(self, min_pixels, dilation):
        values = noise(12, 10, 3)
        masks = [widened(mask, dilation) if dilation and mask.any() else mask for mask in MASKS]
        expected = grown(values.sum(-1), masks, min_pixels)
        for segments in (LABELS, MASKS, LABELS.tolist()):
            found = viz.xrai(values, segments, dilation, min_pixels)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)

    def test_one_scale_gives_each_segment_its_mean(self):
        values, labels = noise(12, 10), LABELS[0] * 1000 - 5
        expected = np.empty(values.shape)
        for label in np.unique(labels):
            expected[labels == label] = values[labels == label].mean()
        np.testing.assert_allclose(viz.xrai(values, labels), expected, rtol=1e-12)

    @pytest.mark.parametrize("min_pixels", [1, 30])
    def test_it_sums_to_what_the_attribution_sums_to(self, min_pixels):
        values = noise(12, 10)
        np.testing.assert_allclose(viz.xrai(values, LABELS, 1, min_pixels).sum(), values.sum(), rtol=1e-9)

    def test_segments_below_a_thousandth_of_the_image_are_left_out_by_default(self):
        values, labels = noise(100, 30), np.zeros([100, 30], int)
        labels[:2], labels[-1, :2] = 1, 2  # 60 pixels and 2 of 3,000
        found = viz.xrai(values, labels)
        np.testing.assert_allclose(found[-1, :2], values[-1, :2].mean())
        np.testing.assert_allclose(found[:2], values[:2].mean())

    def test_pixels_that_are_not_finite_stay_so_and_count_for_nothing(self):
        values = noise(12, 10)
        broken = values.copy()
        values[3, 4], broken[3, 4] = 0, np.nan
        expected = viz.xrai(values, LABELS)
        expected[3, 4] = np.nan
        np.testing.assert_allclose(viz.xrai(broken, LABELS), expected)

    @pytest.mark.parametrize(
        "values, segments, options, error, message",
        [
            (
                noise(2, 12, 10),
                LABELS,
                {},
                ValueError,
                r"attribution has shape \(2, 12, 10\).*one image at a",
            ),
            (noise(12, 10), LABELS[:, 1:], {}, ValueError, r"segments has shape \(3, 11, 10\); expected"),
            (noise(12, 10), LABELS[:0], {}, ValueError, r"segments has shape \(0, 12, 10\)"),
            (noise(12, 10), MASKS[0], {}, ValueError, r"segments has shape \(12, 10\)"),
            (noise(12, 10), LABELS / 2, {}, TypeError, "segments hold float64; expected whole numbers"),
            (noise(12, 10), [[1], [1, 2]], {}, TypeError, "segments hold object; expected whole numbers"),
            (noise(12, 10), LABELS, {"dilation": -1}, ValueError, "dilation is -1"),
            (noise(12, 10), LABELS, {"dilation": 0.5}, TypeError, "dilation is a float"),
            (noise(12, 10), LABELS, {"min_pixels": 0}, ValueError, "min_pixels is 0"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, values, segments, options, error, message):
        with pytest.raises(error, match=message):
            viz.xrai(values, segments, **options)


class TestSegment:
    def test_areas_of_one_colour_are_segments_at_every_scale(self):
        image = np.zeros([40, 60, 3])
        image[:20, :30], image[20:, 30:] = [1, 0, 0], [0, 0, 1]
        maps = viz.segment(image)
        assert maps.shape == (6, 40, 60) and maps.dtype.kind == "i" and maps.min() == 0
        for labels in maps:
            red, black, blue = labels[8:12, 8:22], labels[8:12, 38:52], labels[28:32, 38:52]
            assert [np.ptp(each) for each in (red, black, blue)] == [0, 0, 0]
            assert len({red[0, 0], black[0, 0], blue[0, 0]}) == 3
            assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))

    def test_the_range_of_values_does_not_matter(self):
        image = noise(60, 60, seed=4) ** 2 / 20
        expected = viz.segment(image / image.max(), [100]).max()
        for same in (image, 0.2 + 0.3 * image / image.max(), np.round(9e4 * image).astype(np.int32)):
            assert abs(viz.segment(same, [100]).max() - expected) <= 2
        assert not viz.segment(np.ones([9, 9])).any()

    def test_larger_scales_make_larger_segments(self):
        counts = viz.segment(noise(60, 60, seed=4), [50, 1200]).max((1, 2))
        assert counts[0] > counts[1]

    def test_without_scikit_image_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skimage", None)
        with pytest.raises(ImportError, match="pip install scikit-image"):
            viz.segment(np.ones([9, 9]))

    @pytest.mark.parametrize(
        "image, scales, message",
        [
            (np.ones([2, 9, 9]), (50,), "one image at a time"),
            (np.ones([9, 9]), (0,), "scales is .*positive"),
            (np.ones([9, 9]), (), "scales has shape"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, image, scales, message):
        with pytest.raises(ValueError, match=message):
            viz.segment(image, scales)


class TestLeastArea:
    @pytest.mark.parametrize("polarity, sign", [("positive", 1), ("negative", -1)])
    @pytest.mark.parametrize("percent", [0, 1, 30, 99, 100])
    def test_no_fewer_pixels_carry_the_percentage(self, percent, polarity, sign):
        values = noise(12, 10)
        part = np.maximum(sign * values, 0)
        area = viz.least_area(values, percent, polarity)
        order = np.sort(part.ravel())[::-1].cumsum()
        fewest = np.searchsorted(order, part.sum() * percent / 100 - 1e-9) + (percent > 0)
        assert area.sum() == fewest
        assert part[area].sum() >= part.sum() * percent / 100 - 1e-9

    def test_segments_come_whole_and_batches_row_by_row(self):
        values = np.array([[3.0, 3, 3, 1, 1, 1, -5, -5]])
        assert viz.least_area(values, 20).tolist() == [[True] * 3 + [False] * 5]
        assert viz.least_area(values, 20, "both").tolist() == [[False] * 6 + [True] * 2]
        batch = np.stack([values, 0 * values])
        assert viz.least_area(batch, 100).sum((1, 2)).tolist() == [6, 0]

    def test_a_percentage_out_of_range_is_refused(self):
        with pytest.raises(ValueError, match="percent is 101"):
            viz.least_area([[1.0]], 101)


def test_a_spotlight_shows_the_area_in_its_colours_and_fades_the_rest():
    image, values = np.zeros([20, 20, 3]), np.zeros([20, 20])
    image[..., 0], values[5:12, 5:12], values[0, 0] = 1, 1, -9
    figure = viz.spotlight(image, values, 100, original=True, titles="most of it")
    shown = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(shown[6:11, 6:11], image[6:11, 6:11])
    red, green, blue = shown[0, 0]
    assert red == green == blue > 0.6
    assert (shown[5, 5] == shown[11, 11]).all() and not np.allclose(shown[5, 5], image[5, 5])
    (text,) = [text.get_text() for text in figure.legends[0].get_texts()]
    assert text == "100 % of the positive attribution"
    pixels(figure)
