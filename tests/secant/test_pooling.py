"""The rule of max pooling: ties, windows that overlap, wherever the graph runs."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from both_ends import RNG, assert_complete, by_backpropagate, grid
from reference import as_graph
from shared_networks import explain, inputs, row_sums, weights

import igtf as ig

# One pooling ----------------------------------------------------------------------------------------


def max_pool(**options):
    return lambda z: tf.nn.max_pool(z, **options)


POOLS = {
    "valid": max_pool(ksize=2, strides=2, padding="VALID"),
    "same": max_pool(ksize=3, strides=2, padding="SAME"),
    "overlapping": max_pool(ksize=3, strides=1, padding="VALID"),
    "overlapping, same": max_pool(ksize=3, strides=1, padding="SAME"),
    "gaps": max_pool(ksize=2, strides=3, padding="VALID"),
    "oblong": max_pool(ksize=[1, 3, 2, 1], strides=[1, 1, 2, 1], padding="SAME"),
    "explicit": max_pool(ksize=3, strides=2, padding=[[0, 0], [2, 1], [0, 2], [0, 0]]),
}


@pytest.mark.thin
@pytest.mark.parametrize("values", [2, 3, 1000])
@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_complete_with_and_without_ties(name, values):
    z0, z1 = grid(4, 7, 6, 2, values=values)
    z1[1] = z0[1]
    z0[2] = 0
    assert_complete(POOLS[name], [z0], [z1])


@pytest.mark.few(3)
@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_complete_compiled_in_float64(name):
    z0, z1 = grid(2, 7, 6, 2)
    try:
        tf.function(POOLS[name], jit_compile=True)(tf.constant(z0))
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        pytest.skip("this TensorFlow does not compile the pooling itself")
    assert_complete(POOLS[name], [z0], [z1], jit=True)


@pytest.mark.thin
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("size, stride", [(2, 2), (3, 1), (3, 2)])
def test_max_pooling_in_three_dimensions_is_complete(padding, size, stride):
    z0, z1 = (z.astype(np.float32) for z in grid(2, 5, 4, 6, 2))
    assert_complete(lambda z: tf.nn.max_pool3d(z, size, stride, padding), [z0], [z1], rtol=1e-6)


def test_max_pooling_of_inputs_below_zero_ignores_the_padding():
    z0, z1 = (z - 50 for z in grid(2, 5, 5, 1))
    for name in ("same", "explicit", "overlapping, same"):
        assert_complete(POOLS[name], [z0], [z1])


def test_max_pooling_shares_by_the_lead_that_each_input_has():
    # The first leads by 3 at the start, the second by 1 at the end: on the straight path between
    # them the second takes over after 3/4 of the way.
    z0, z1 = np.array([4.0, 1.0]).reshape(1, 1, 2, 1), np.array([5.0, 6.0]).reshape(1, 1, 2, 1)
    pool = max_pool(ksize=[1, 1, 2, 1], strides=1, padding="VALID")
    (adjoint,), _, _ = by_backpropagate(pool, [z0], [z1], np.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(adjoint.ravel(), [0.75, 0.25], rtol=1e-12)


# Windows that overlap, and ties ---------------------------------------------------------------------

WINDOWS = [(3, 2, "SAME"), (3, 1, "VALID"), (3, 1, "SAME")]


def ends(*shape):
    """Rows of small whole numbers, of numbers that differ in their last bits, and of any."""
    z0, z1 = RNG(0).normal(size=(2, *shape))
    ties = np.round(z0), np.round(z1)
    almost = 1 + ties[0] * 2.0**-20, -3 + ties[1] * 2.0**-18
    return (np.concatenate(kinds) for kinds in zip(ties, almost, (z0, z1)))


def assert_pooling_is_complete(z0, z1, dtype, tolerance, jit=False):
    """Several poolings of one input, at the frontier and behind it."""

    def networks(z):
        for size, stride, padding in WINDOWS:
            for values in (z, z * z):
                pooled = tf.nn.max_pool2d(values, size, stride, padding)
                weights = tf.cast(1 + RNG(1).randint(0, 4, [1, *pooled.shape[1:]]) / 4, dtype)
                yield tf.reduce_sum(pooled * weights, axis=[1, 2, 3])

    @tf.function(jit_compile=jit, autograph=False)
    def run(z1, z0):
        at_1, at_0 = list(networks(z1)), list(networks(z0))
        return [ig.integrated_gradients(y, z1, z0, num_steps=3, method="secant") for y in at_1], at_1, at_0

    found, at_1, at_0 = run(*(tf.cast(z, dtype) for z in (z1, z0)))
    for attributions, y1, y0 in zip(found, at_1, at_0):
        attributions = np.asarray(attributions, np.float64)
        change = np.asarray(y1, np.float64) - np.asarray(y0, np.float64)
        allowed = tolerance * np.abs(attributions).sum() / len(z0)
        np.testing.assert_allclose(attributions.sum((1, 2, 3)), change, rtol=0, atol=allowed)


@pytest.mark.few(1)
@pytest.mark.parametrize("jit", [False, True], ids=["", "compiled"])
def test_windows_that_overlap_are_complete(jit):
    assert_pooling_is_complete(*ends(1, 7, 6, 2), tf.float32, 2e-6, jit)


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype, tolerance", [(tf.float16, 3e-3), (tf.bfloat16, 2e-2)])
def test_windows_that_overlap_are_complete_in_half_precision(dtype, tolerance):
    assert_pooling_is_complete(*ends(1, 7, 6, 2), dtype, tolerance)


BEHIND_RELU = {
    "3x3, stride 2": lambda z: tf.nn.max_pool2d(z, 3, 2, "SAME"),
    "3x3, stride 1": lambda z: tf.nn.max_pool2d(z, 3, 1, "VALID"),
    "1x1, stride 2": lambda z: tf.nn.max_pool2d(z, 1, 2, "VALID"),
    "explicit": lambda z: tf.nn.max_pool2d(z, 3, 2, [[0, 0], [2, 1], [0, 2], [0, 0]]),
    "3x3x3": lambda z: tf.nn.max_pool3d(z[:, None] * [[[[[1.0]]], [[[2.0]]], [[[0.5]]]]], 3, 2, "SAME"),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("static", [True, False], ids=["static", "open"])
@pytest.mark.parametrize("name", BEHIND_RELU)
def test_every_output_of_a_pooling_is_complete(name, static):
    z0, z1 = (z.astype(np.float32) for z in ends(1, 7, 6, 2))
    mixing = tf.constant(RNG(5).normal(size=(2, 4)).astype(np.float32))

    def network(z):
        pooled = BEHIND_RELU[name](tf.nn.relu(z))
        return tf.reduce_sum(pooled, axis=list(range(1, pooled.shape.rank - 1))) @ mixing

    def run(z1, z0):
        jacobian = ig.integrated_jacobian(network(z1), z1, z0, num_steps=5, method="secant")
        return jacobian, network(z1) - network(z0)

    jacobian, change = as_graph(run, [z1, z0], static)
    np.testing.assert_allclose(jacobian.sum((2, 3, 4)), change, rtol=0, atol=2e-5 * np.abs(change).max())


def test_training_through_windows_that_overlap_has_the_gradient_of_finite_differences():
    x, baseline = RNG(0).normal(size=(2, 2, 6, 6, 2))
    filters = RNG(2).normal(size=(3, 3, 2, 2))

    def penalty(filters, x, baseline):
        h = tf.nn.max_pool2d(tf.nn.conv2d(x, filters, 1, "SAME"), 3, 2, "SAME")
        y = tf.reduce_sum(h * h, axis=[1, 2, 3])
        return tf.reduce_sum(ig.integrated_gradients(y, x, baseline, num_steps=3, method="secant") ** 2)

    @tf.function(autograph=False)
    def gradient(filters, x, baseline):
        return tf.gradients(penalty(filters, x, baseline), filters)[0]

    value = tf.function(penalty, autograph=False)
    small = 1e-6
    steps = np.eye(filters.size)[:5].reshape(5, *filters.shape) * small
    args = tf.constant(x), tf.constant(baseline)
    expected = [
        (value(tf.constant(filters + s), *args) - value(tf.constant(filters - s), *args)) / (2 * small)
        for s in steps
    ]
    for dtype, tolerance in ((tf.float64, 1e-6), (tf.float32, 1e-3)):
        found = gradient(*(tf.cast(a, dtype) for a in (filters, x, baseline))).numpy().ravel()[:5]
        np.testing.assert_allclose(found, expected, rtol=tolerance)


def test_windows_that_overlap_are_complete_in_a_session():
    z0, z1 = (z.astype(np.float32) for z in ends(1, 7, 6, 2))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        z = tf.compat.v1.placeholder(tf.float32, [None, 7, 6, 2])
        y = tf.reduce_sum(tf.nn.max_pool2d(tf.nn.relu(z), 3, 2, "SAME"), axis=[1, 2, 3])
        found = ig.integrated_gradients(y, z, z0, num_steps=4, method="secant")
        attributions, at_1 = session.run([found, y], {z: z1})
        at_0 = session.run(y, {z: z0})
    np.testing.assert_allclose(attributions.sum((1, 2, 3)), at_1 - at_0, atol=1e-5)


# At the frontier ------------------------------------------------------------------------------------

AT_THE_FRONTIER = {
    "valid": lambda z: tf.nn.max_pool(z, 2, 2, "VALID"),
    "same": lambda z: tf.nn.max_pool(z, 2, 2, "SAME"),
    "three places": lambda z: tf.nn.max_pool(z, [1, 3, 1, 1], [1, 3, 1, 1], "SAME"),
    "larger": lambda z: tf.nn.max_pool(z, 3, 3, "SAME"),
    "in three dimensions": lambda z: tf.nn.max_pool3d(z[:, None], [1, 2, 2], [1, 2, 2], "SAME")[:, 0],
}


@functools.cache
def at_the_frontier(name):
    """The same function for the same name, so that `explain` traces it once."""

    def network(x):
        z = tf.nn.conv2d(x, weights(3, 3, 2, 6, dtype=x.dtype), 1, "SAME") + 0.1
        return tf.reduce_sum(tf.tanh(tf.nn.relu(AT_THE_FRONTIER[name](z))), [1, 2])

    return network


@pytest.mark.few(3)
@pytest.mark.parametrize("end", ["from ties", "to ties", "anywhere"])
@pytest.mark.parametrize("steps", [5, 60])
@pytest.mark.parametrize("name", AT_THE_FRONTIER)
def test_pooling_at_the_frontier_does_not_depend_on_the_size_of_blocks(name, steps, end):
    network = at_the_frontier(name)
    x, baseline = inputs(5, 9, 8, 2, dtype=np.float32)
    x, baseline = {"from ties": (x, 0 * x), "to ties": (0 * x, x), "anywhere": (x, baseline)}[end]
    options = {"num_steps": steps, "method": "secant"}
    at_once, change = explain(network, x, baseline, **options)
    by_steps, _ = explain(network, x, baseline, max_rows=2 * len(x), **options)
    assert np.abs(row_sums(at_once) - change).max() <= 3e-5 * np.abs(change).max()
    assert np.abs(at_once - by_steps).sum() <= 1e-5 * np.abs(by_steps).sum()
