"""Max pooling whose windows overlap, or whose ties are many, wherever the graph runs."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph

import igtf as ig

RNG = np.random.RandomState
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


@pytest.mark.parametrize("jit", [False, True], ids=["", "compiled"])
def test_windows_that_overlap_are_complete(jit):
    assert_pooling_is_complete(*ends(1, 7, 6, 2), tf.float32, 2e-6, jit)


@pytest.mark.parametrize("dtype, tolerance", [(tf.float16, 3e-3), (tf.bfloat16, 2e-2)])
def test_windows_that_overlap_are_complete_in_half_precision(dtype, tolerance):
    assert_pooling_is_complete(*ends(1, 7, 6, 2), dtype, tolerance)


POOLS = {
    "3x3, stride 2": lambda z: tf.nn.max_pool2d(z, 3, 2, "SAME"),
    "3x3, stride 1": lambda z: tf.nn.max_pool2d(z, 3, 1, "VALID"),
    "1x1, stride 2": lambda z: tf.nn.max_pool2d(z, 1, 2, "VALID"),
    "explicit": lambda z: tf.nn.max_pool2d(z, 3, 2, [[0, 0], [2, 1], [0, 2], [0, 0]]),
    "3x3x3": lambda z: tf.nn.max_pool3d(z[:, None] * [[[[[1.0]]], [[[2.0]]], [[[0.5]]]]], 3, 2, "SAME"),
}


@pytest.mark.parametrize("static", [True, False], ids=["static", "open"])
@pytest.mark.parametrize("name", POOLS)
def test_every_output_of_a_pooling_is_complete(name, static):
    z0, z1 = (z.astype(np.float32) for z in ends(1, 7, 6, 2))
    mixing = tf.constant(RNG(5).normal(size=(2, 4)).astype(np.float32))

    def network(z):
        pooled = POOLS[name](tf.nn.relu(z))
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
