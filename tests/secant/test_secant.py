"""Secant on whole networks: completeness, its limit, XLA, training."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from shared_networks import NETWORKS, explain, inputs, row_sums, weights

import igtf as ig

# Completeness ---------------------------------------------------------------------------------------

# What float32 leaves: residuals lose digits where large terms of both signs cancel.
TOLERANCE = {"mlp": 1e-5, "cnn": 1e-5, "conv_bn": 1e-5, "residuals": 1e-3}


@pytest.mark.few(3)
@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", TOLERANCE)
def test_secant_is_complete_at_any_number_of_steps(name, dtype, steps):
    network, shape = NETWORKS[name]
    x, baseline = inputs(6, *shape, dtype=dtype)
    attributions, change = explain(network, x, baseline, num_steps=steps, method="secant")
    error = np.abs(row_sums(attributions.astype(np.float64)) - change).sum() / np.abs(change).sum()
    assert error <= (1e-10 if dtype is np.float64 else TOLERANCE[name])


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["mlp", "cnn", "residuals"])
def test_secant_tends_to_the_integral(name):
    network, shape = NETWORKS[name]
    x, baseline = inputs(3, *shape)

    @tf.function
    def gradients(points):
        return tf.gradients(network(points)[:, 1], points)[0]

    steps = 4000
    alphas = (np.arange(steps) + 0.5) / steps
    total = 0
    for part in np.split(alphas, 8):
        part = part.reshape(-1, *[1] * x.ndim)
        points = (baseline + part * (x - baseline)).reshape(-1, *shape)
        total += gradients(tf.constant(points)).numpy().reshape(-1, *x.shape).sum(0)
    expected = (x - baseline) * total / steps

    def error(n):
        found = explain(network, x, baseline, num_steps=n, method="secant")[0]
        return np.abs(found - expected).sum() / np.abs(expected).sum()

    assert error(100) < 5e-3
    # Faster than 1 / S: ten times the steps, more than fifteen times the accuracy.
    assert error(100) < error(10) / 15


# XLA and training -----------------------------------------------------------------------------------


@pytest.mark.few(1)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "conv_bn"])
def test_secant_compiles_to_the_same_numbers(name, dtype):
    network, shape = NETWORKS[name]
    x, baseline = inputs(3, *shape, dtype=dtype)
    expected, _ = explain(network, x, baseline, num_steps=6, method="secant")
    found, _ = explain(network, x, baseline, num_steps=6, method="secant", jit=True)
    tolerance = 1e-10 if dtype is np.float64 else 2e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


TRAINABLE = {
    "relu": lambda h: tf.nn.relu(h),
    "relu6": lambda h: tf.nn.relu6(4 * h),
    "leaky": lambda h: tf.nn.leaky_relu(h),
    "selu": lambda h: tf.nn.selu(h),
    "tanh": lambda h: tf.tanh(h),
    "gelu": lambda h: tf.nn.gelu(h),
    "softmax": lambda h: tf.nn.softmax(3 * h),
    "maximum": lambda h: tf.maximum(h, h[:, ::-1] * 0.5),
    "max": lambda h: tf.reduce_max(tf.reshape(h, [-1, 2, 4]), axis=2),
    "max pooling": lambda h: tf.nn.max_pool(tf.reshape(h, [-1, 2, 4, 1]), 2, 1, "SAME"),
    "square root": lambda h: tf.sqrt(tf.nn.relu(h) + tf.nn.relu(h[:, ::-1])),
    "quotient": lambda h: h / (1 + tf.abs(h)),
    "where": lambda h: tf.where(h > 0, h, 0.1 * h),
}


def penalty(name, steps, x, baseline):
    """A loss on attributions and its gradient with respect to the weights."""
    traced = loss_and_gradient(name, steps)
    return lambda w: [t.numpy() for t in traced(*map(tf.constant, (w, x, baseline)))]


@functools.cache
def loss_and_gradient(name, steps):
    @tf.function
    def both(w, x, baseline):
        h = tf.reshape(TRAINABLE[name](tf.matmul(x, w)), [len(x), -1])
        h *= weights(h.shape[1], seed=8, scale=1)
        found = ig.integrated_gradients(h, x, baseline, num_steps=steps, method="secant")
        loss = tf.reduce_sum(found**2)
        return loss, tf.gradients(loss, w)[0]

    return both


@pytest.mark.few(8)
@pytest.mark.parametrize("name", TRAINABLE)
def test_training_through_the_slopes_has_the_gradient_of_finite_differences(name):
    x, baseline = inputs(3, 4)
    w = np.asarray(weights(4, 8))
    # One step: with more, the points move with the weights, and no gradient follows them.
    loss = penalty(name, 1, x, baseline)
    _, gradient = loss(w)
    direction = np.random.RandomState(3).normal(size=w.shape)
    numeric = (loss(w + 1e-6 * direction)[0] - loss(w - 1e-6 * direction)[0]) / 2e-6
    np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=1e-5)


@pytest.mark.few(8)
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", TRAINABLE)
def test_training_has_no_nan_where_ends_are_equal_and_values_tie(name, steps):
    x = np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1]])
    baseline = np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
    loss, gradient = penalty(name, steps, x, baseline)(np.ones((4, 8)))
    assert np.isfinite(loss) and np.isfinite(gradient).all()
