"""Answers by another route, and ways to run a function as a graph.

Brute force goes through `tf.GradientTape` (or `tf.gradients` of the original tensors), one point of the
path and one batch of the original size at a time, and is summed in float64 NumPy.
"""

import numpy as np
import tensorflow as tf


def gauss_legendre(steps):
    points, weights = np.polynomial.legendre.leggauss(steps)
    return list(zip((points + 1) / 2, weights / 2))


def midpoints(steps):
    return [((k + 0.5) / steps, 1 / steps) for k in range(steps)]


def brute_force(gradients, xs, baselines, rule):
    """Sum of weight * gradient * (x - baseline) over the points of `rule`.

    Args:
      gradients: from the values of the inputs at one point, a list, to one gradient per input.
      xs: list of arrays `[B, ...]`.
      baselines: list of what broadcasts to them.
      rule: list of (alpha, weight).
    """
    totals = [0.0] * len(xs)
    for alpha, weight in rule:
        points = [(b + alpha * (x - b)).astype(x.dtype) for x, b in zip(xs, baselines)]
        totals = [t + weight * np.asarray(g, np.float64) for t, g in zip(totals, gradients(points))]
    return [t * (x - b) for t, x, b in zip(totals, xs, baselines)]


def tape_gradients(function):
    """The gradients of the sum of what `function(*xs)` returns, for `brute_force`."""

    @tf.function(autograph=False)
    def gradients(xs):
        with tf.GradientTape() as tape:
            tape.watch(xs)
            y = tf.reduce_sum(function(*xs))
        return tape.gradient(y, xs, unconnected_gradients="zero")

    return lambda xs: [g.numpy() for g in gradients([tf.constant(x) for x in xs])]


def session_gradients(session, y, xs, feed=None):
    """Likewise for tensors of a `tf.compat.v1` graph whose `xs` can be fed."""
    grads = tf.gradients(y, xs)
    return lambda values: session.run(grads, {**(feed or {}), **dict(zip(xs, values))})


def as_graph(function, arrays, static):
    """What `function(*tensors)` returns, traced with a static or an unknown batch size, as NumPy."""
    signature = [tf.TensorSpec([len(a) if static else None, *a.shape[1:]], a.dtype) for a in arrays]
    traced = tf.function(function, input_signature=signature, autograph=False)
    return tf.nest.map_structure(lambda t: t.numpy(), traced(*map(tf.constant, arrays)))


def randomize(model, seed=0):
    """Gives every weight of a Keras model a value that no layer is indifferent to."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if not tf.as_dtype(variable.dtype).is_floating:
            continue
        value = rng.normal(scale=0.4, size=variable.shape)
        variable.assign(0.5 + np.abs(value) if "variance" in variable.name else value)
    return model


def assert_close(actual, expected, tolerance):
    """Within `tolerance` of the largest entry of what is expected."""
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())
