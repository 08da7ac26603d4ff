"""Points of a level that follow what the steps of the one before met."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, brute_force, tape_gradients

import igtf as ig
from igtf.adaptation import FOLLOWED, SKETCHES, followed, sketch
from igtf.levels import Levels
from igtf.path_integral import PathIntegral
from igtf.subgraph import Subgraph

ROWS = 8
EDGES = np.linspace(0, 1, 9)[None]  # bins of an even density


def density_after(slopes, steps, probed=EDGES):
    """`[S]` of a row, padded to twice as many -> the density that follows."""
    full = np.zeros([2 * len(slopes), 1, SKETCHES])
    full[: len(slopes), 0, 0] = slopes
    probed = tf.constant(probed, tf.float64)
    return followed(probed, tf.constant(EDGES), tf.constant(full), tf.constant(steps)).numpy()[0]


def normalized(x):
    """Two blocks of LayerNorm, Dense and ReLU, flat at the zero baseline."""
    random = np.random.RandomState(13)
    for _ in range(2):
        kernel, bias = random.normal(size=[10, 10]) / 3, random.normal(size=10) / 4
        mean, variance = tf.nn.moments(x, [1], keepdims=True)
        x = (x - mean) * tf.math.rsqrt(variance + 1e-6)
        x = tf.nn.relu(x @ tf.constant(kernel, x.dtype) + tf.constant(bias, x.dtype))
    return tf.linalg.matvec(x, tf.constant(random.normal(size=10), x.dtype))


def towards_the_start(panels, points):
    """Midpoints of parts of the path that halve towards its start, with their weights."""
    edges = np.concatenate([[0], 2.0 ** -np.arange(panels)[::-1]])
    parts = (np.arange(points) + 0.5) / points
    at = np.concatenate([low + (high - low) * parts for low, high in zip(edges, edges[1:])])
    return list(zip(at, np.repeat(np.diff(edges) / points, points)))


class TestDensity:
    @pytest.mark.parametrize("slopes", [np.ones(8), np.full(8, np.nan)])
    def test_stays_where_nothing_or_what_is_not_known_changes(self, slopes):
        np.testing.assert_allclose(density_after(slopes, 8), EDGES[0], atol=1e-12)

    def test_takes_its_share_to_where_slopes_jump(self):
        found = density_after([1, 1, 1, 5, 5, 5, 5, 5], 8)  # between the third and the fourth step
        expected = (1 - FOLLOWED) * np.diff(EDGES[0])
        expected[2:4] += FOLLOWED / 2
        np.testing.assert_allclose(np.diff(found), expected, atol=1e-12)

    def test_counts_changes_of_either_sign_by_their_size(self):
        found = np.diff(density_after([0, 3, 3, 3, 3, 3, 3, 2], 8)) - (1 - FOLLOWED) / 8
        np.testing.assert_allclose(found[[0, 1, 6, 7]], np.array([3, 3, 1, 1]) * FOLLOWED / 8, atol=1e-12)

    def test_is_one_of_quantiles_where_steps_lie_unevenly(self):
        """Four steps at quantiles of a density of two bins in eight."""
        dense = np.array([[0, 0.5, 1, 1, 1, 1, 1, 1, 1]])
        full = np.zeros([4, 1, SKETCHES])
        full[1:, 0, 2] = 1  # the change is between the first and the second quarter of the first two bins
        found = followed(tf.constant(EDGES), tf.constant(dense), tf.constant(full), tf.constant(4)).numpy()[0]
        np.testing.assert_allclose(found[1], (1 - FOLLOWED) / 8 + FOLLOWED, atol=1e-12)

    def test_counts_what_cancels_between_sums(self):
        full = np.zeros([4, 1, SKETCHES])
        full[2:, 0, 1], full[2:, 0, 3] = 1, -1
        found = followed(tf.constant(EDGES), tf.constant(EDGES), tf.constant(full), tf.constant(4)).numpy()[0]
        np.testing.assert_allclose(
            np.diff(found)[[0, 3]], [(1 - FOLLOWED) / 8, (1 + 3 * FOLLOWED) / 8 - FOLLOWED / 4]
        )

    def test_rises_from_0_to_1_and_ignores_what_is_not_among_the_steps(self):
        random = np.random.RandomState(0)
        slopes = random.normal(size=10)
        found = density_after(slopes, 6)
        assert found[0] == 0 and found[-1] == 1 and (np.diff(found) > 0).all()
        np.testing.assert_array_equal(found, density_after([*slopes[:6], *random.normal(size=4)], 6))


def test_sums_of_features_do_not_cancel_in_all_sketches():
    steps = tf.constant([[[1.0, -1.0]], [[2.0, -2.0]]])
    found = sketch(steps, 0).numpy()[:, 0]
    assert found[0, 0] == found[1, 0] == 0
    assert (np.abs(np.diff(found[:, 1:], axis=0)) > 0.1).all()


def test_slopes_are_those_of_the_output_however_long_a_step_is():
    x = np.array([[0.5, 0.5], [2.0, 1.0]])
    levels = Levels([20, 40], 0.0, "secant", adapt=True)

    def build(x):
        along = tf.reduce_sum(x, 1)
        subgraph = Subgraph("test", tf.nn.relu(along - 0.7) + 2 * along, x, None)
        integral = PathIntegral(subgraph, x, None, levels, None)
        integral.start()
        integral.attributions([None])
        return integral.slopes[0], integral.points.of_block(0, 40)[1]

    slopes, widths = as_graph(build, [x], True)
    assert np.ptp(widths) > 0.01
    for row, size in enumerate([1.0, 3.0]):
        found = slopes[:, row, 0]
        before, after = (np.isclose(found, times * size) for times in (2, 3))
        assert before.any() and after.any() and (~before & ~after).sum() <= 1


@pytest.fixture(scope="module")
def known():
    x = np.random.RandomState(14).normal(size=[ROWS, 10])
    return x, brute_force(tape_gradients(normalized), [x], [0 * x], towards_the_start(30, 500))[0]


@pytest.mark.parametrize("static", [pytest.param(True, marks=pytest.mark.slow), False])
def test_what_probes_do_not_see_is_found_by_the_steps(known, static):
    x, expected = known

    def worst(**options):
        found = as_graph(lambda x: ig.integrated_gradients(normalized(x), x, **options), [x], static)
        return (np.abs(found - expected).sum(1) / np.abs(expected).sum(1)).max()

    assert worst(tolerance=0, num_steps=80) < worst(num_steps=80) / 5


def test_a_row_of_nan_leaves_the_others_alone(known):
    x, _ = known
    broken = np.concatenate([x, np.full([1, 10], np.nan)])

    def build(x):
        return ig.integrated_gradients(normalized(x), x, tolerance=0.01)

    found = as_graph(build, [broken], False)
    assert np.isnan(found[-1]).all()
    np.testing.assert_allclose(found[:-1], as_graph(build, [x], False), rtol=1e-6)
