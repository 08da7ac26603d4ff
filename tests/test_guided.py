"""Guided integrated gradients, beside the authors' procedure one row and one feature after the other."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, tape_gradients
from shared_networks import BATCHES, X, change, kinked, smooth

import igtf as ig

v1 = tf.compat.v1
START = np.random.RandomState(3).normal(size=X.shape)
START[:, 1] = X[:, 1]  # a feature that has nowhere to go


def by_hand(gradient, end, start, steps, fraction, distance):
    """One row, after the pseudocode of the paper's supplement."""
    point, way, total = start.copy(), end - start, np.zeros_like(end)
    length = np.abs(way).sum()
    for k in range(1, steps + 1):
        slope = gradient(point)
        share = k / steps
        low, high = max(share - distance, 0.0), min(share + distance, 1.0)
        first = start + high * way
        size, goal = np.abs(slope), length * (1 - share)
        while True:
            before = point.copy()
            gone = np.full_like(end, high)
            gone[way != 0] = (point - start)[way != 0] / way[way != 0]
            point[gone < low] = (start + low * way)[gone < low]
            missing = np.abs(end - point).sum() - goal
            if missing <= 1e-9 * length:
                total += (point - before) * slope
                break
            size = np.where(point == first, np.inf, size)
            threshold = np.sort(size)[int(fraction * (len(size) - 1))]
            moving = (size <= threshold) & (size < np.inf)
            reach = np.abs(first - point)[moving].sum()
            part = missing / reach if reach else np.inf
            point[moving] = first[moving] if part > 1 else (point + part * (first - point))[moving]
            total += (point - before) * slope
            if part <= 1:
                break
    return total


def second(network):
    return lambda x: network(x)[:, 1]


def guided(network, static=True, x=X, start=START, **options):
    def build(x, start):
        return ig.guided_integrated_gradients(network(x)[:, 1], x, start, **options)

    return as_graph(build, [x, start], static)


WAYS = [(20, 0.25, 0.02), (7, 0.5, 0.3), (11, 0.1, 1.0), (5, 1.0, 0)]


@pytest.mark.few(8)
@BATCHES
@pytest.mark.parametrize("network", [kinked, smooth])
@pytest.mark.parametrize("steps, fraction, distance", WAYS)
def test_rows_take_the_way_of_the_authors(network, steps, fraction, distance, static):
    gradients = tape_gradients(second(network))
    expected = [
        by_hand(lambda point: gradients([point[None]])[0][0], x, start, steps, fraction, distance)
        for x, start in zip(X, START)
    ]
    options = dict(num_steps=steps, fraction=fraction, max_dist=distance, method="riemann_left")
    assert_close(guided(network, static, **options), expected, 1e-12)


@pytest.mark.few(3)
@pytest.mark.parametrize("network", [kinked, smooth])
@pytest.mark.parametrize("steps", [1, 3, 20])
def test_secants_are_complete_at_any_number_of_steps(network, steps):
    found = guided(network, steps == 3, num_steps=steps, max_dist=0.4)
    np.testing.assert_allclose(found.sum(1), change(network, X, START)[:, 1], atol=1e-12)
    np.testing.assert_array_equal(found[:, 1], 0)


def test_features_whose_gradients_tie_move_together():
    """As the pixels of a convolution do at a baseline of one colour."""

    def network(x):
        return tf.tile(tf.nn.tanh(tf.reduce_sum(x, 1, keepdims=True)) ** 3 * x[:, :1], [1, 2])

    gradients = tape_gradients(second(network))
    expected = [by_hand(lambda point: gradients([point[None]])[0][0], x, 0 * x + 0.1, 9, 0.3, 0.4) for x in X]
    options = dict(num_steps=9, fraction=0.3, max_dist=0.4, method="riemann_left")
    assert_close(guided(network, True, start=0 * X + 0.1, **options), expected, 1e-12)


def test_without_a_detour_it_is_integrated_gradients():
    def build(x, start):
        return ig.integrated_gradients(kinked(x)[:, 1], x, start, 500, "secant")

    assert_close(guided(kinked, num_steps=500, max_dist=0), as_graph(build, [X, START], True), 1e-4)


def test_all_rules_come_to_the_same():
    left, trapezoid, secant = (
        guided(smooth, num_steps=3000, max_dist=0.3, method=m)
        for m in ("riemann_left", "riemann_trapezoid", "secant")
    )
    assert_close(left, secant, 5e-3)
    assert_close(trapezoid, secant, 5e-4)


def test_rows_do_not_know_their_neighbours():
    found = guided(kinked, False, num_steps=12, max_dist=0.2)
    for i in range(len(X)):
        alone = guided(kinked, False, X[i : i + 1], START[i : i + 1], num_steps=12, max_dist=0.2)
        assert_close(alone, found[i : i + 1], 1e-12)


def test_several_inputs_take_one_way_together():
    def traced(x, z):
        y = kinked(tf.concat([x, z], 1))[:, 1]
        starts = START[:, :1], {"z": START[:, 1:]}
        return ig.guided_integrated_gradients(y, (x, {"z": z}), starts, max_dist=0.2)

    to_x, to_z = as_graph(traced, [X[:, :1], X[:, 1:]], True)
    assert_close(np.concatenate([to_x, to_z["z"]], 1), guided(kinked, max_dist=0.2), 1e-12)


def test_in_a_session_with_weights_of_outputs():
    with v1.Graph().as_default(), v1.Session() as session:
        x, weights = v1.placeholder(tf.float64, [None, 4]), v1.placeholder(tf.float64, [None, 3])
        chosen = ig.guided_integrated_gradients(kinked(x), x, num_steps=9, grad_ys=weights)
        found = session.run(chosen, {x: X, weights: np.eye(3)[[1, 1, 1]]})
    assert_close(found, guided(kinked, start=0 * X, num_steps=9), 1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(fraction=0), "fraction is 0, expected a number from 0 to 1, and above 0"),
        (dict(fraction=1.5), "fraction is 1.5"),
        (dict(max_dist=-0.1), "max_dist is -0.1"),
        (dict(max_dist=float("nan")), "max_dist is nan"),
        (dict(max_dist=True), "max_dist is True"),
        (dict(method="gausslegendre"), "gausslegendre"),
        (dict(num_steps=0), "num_steps is 0"),
    ],
)
def test_what_makes_no_path_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        guided(kinked, **options)
