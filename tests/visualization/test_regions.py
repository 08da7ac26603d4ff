"""Strengths by share of the total, clean-up, and regions."""

import itertools

import numpy as np
import pytest
from screen import noise

from igtf import visualization as viz

pytestmark = pytest.mark.filterwarnings("error")


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
    for seed in range(5):
        random = np.random.default_rng(seed)
        values = random.random([17, 13]) * (random.random([17, 13]) < density)
        filled = values > 0
        for outside in flood(values == 0, diagonals=False):
            if not any(row in (0, 16) or column in (0, 12) for row, column in outside):
                filled[tuple(zip(*outside))] = True
        regions = sorted(flood(filled, diagonals=True), key=lambda region: -sum(values[p] for p in region))
        for at_most in range(1, len(regions) + 1):
            kept = viz.largest_regions(values, 100, at_most)
            assert set(zip(*np.nonzero(kept))) == set().union(*regions[:at_most])


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
    assert len(flood(spiral > 0, False)) == len(flood(spiral == 0, False)) == 1
    np.testing.assert_array_equal(viz.largest_regions(spiral, at_most=1), spiral > 0)


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
