"""Answers by another route, and ways to run a function as a graph.

Brute force goes through `tf.GradientTape` (or `tf.gradients` of the original tensors), one point of the
path and one batch of the original size at a time, and is summed in float64 NumPy.
"""

import functools
import importlib.util

import numpy as np
import pytest
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
    points = [[(b + alpha * (x - b)).astype(x.dtype) for x, b in zip(xs, baselines)] for alpha, _ in rule]
    totals = [0.0] * len(xs)
    for (_, weight), found in zip(rule, map_points(gradients, points)):
        totals = [t + weight * np.asarray(g, np.float64) for t, g in zip(totals, found)]
    return [t * (x - b) for t, x, b in zip(totals, xs, baselines)]


def map_points(gradients, points):
    """`gradients` of one point after the other; of many of them, by a loop in one call where there is one."""
    if len(points) < 200 or not hasattr(gradients, "loop"):
        return map(gradients, points)
    stacked = [tf.constant(np.stack(parts)) for parts in zip(*points)]
    return zip(*(g.numpy() for g in gradients.loop(stacked)))


def tape_gradients(function):
    """The gradients of the sum of what `function(*xs)` returns, for `brute_force`."""

    @tf.function(autograph=False)
    def gradients(xs):
        with tf.GradientTape() as tape:
            tape.watch(xs)
            y = tf.reduce_sum(function(*xs))
        return tape.gradient(y, xs, unconnected_gradients="zero")

    @tf.function(autograph=False)
    def loop(points):
        specs = [tf.TensorSpec(p.shape[1:], p.dtype) for p in points]
        return tf.map_fn(gradients, points, fn_output_signature=specs)

    def at(xs):
        return [g.numpy() for g in gradients([tf.constant(x) for x in xs])]

    at.loop = loop
    return at


def session_gradients(session, y, xs, feed=None):
    """Likewise for tensors of a `tf.compat.v1` graph whose `xs` can be fed."""
    grads = tf.gradients(y, xs)
    return lambda values: session.run(grads, {**(feed or {}), **dict(zip(xs, values))})


def as_graph(function, arrays, static):
    """What `function(*tensors)` returns, traced with a static or an unknown batch size, as NumPy."""
    signature = (tf.TensorSpec([len(a) if static else None, *a.shape[1:]], a.dtype) for a in arrays)
    traced = traced_once(function, tuple(signature))
    return tf.nest.map_structure(lambda t: t.numpy(), traced(*map(tf.constant, arrays)))


@functools.lru_cache(maxsize=16)  # a graph lives as long as what is here
def traced_once(function, signature):
    """One trace for all values: graphs are what the time of a test goes into."""
    return tf.function(function, input_signature=signature, autograph=False)


def randomize(model, seed=0):
    """Gives every weight of a Keras model a value that no layer is indifferent to."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if not tf.as_dtype(variable.dtype).is_floating:
            continue
        value = rng.normal(scale=0.4, size=variable.shape)
        variable.assign(0.5 + np.abs(value) if "variance" in variable.name else value)
    return model


def both_keras():
    found = [pytest.param(tf.keras, id=f"Keras {getattr(tf.keras, '__version__', '2')[0]}")]
    if tf.keras.__name__.startswith("keras.api._v2"):
        return found  # Keras 2 already
    if importlib.util.find_spec("tf_keras"):
        import tf_keras

        found.append(pytest.param(tf_keras, id="tf_keras"))
    return found


KERAS = pytest.mark.parametrize("keras", both_keras())
# Where the second one has nothing to be found that other tests do not find.
ONE_KERAS = pytest.mark.parametrize(
    "keras",
    [both_keras()[0], *(pytest.param(*p.values, id=p.id, marks=pytest.mark.slow) for p in both_keras()[1:])],
)


def assert_close(actual, expected, tolerance):
    """Within `tolerance` of the largest entry of what is expected."""
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# The recipe by hand, and small networks in NumPy ----------------------------------------------------


def rule(method, n):
    """Points in [0, 1] and weights, from the textbook."""
    if method == "gausslegendre":  # Golub and Welsch: the eigenvalues of a Jacobi matrix
        k = np.arange(1, n)
        off = k / np.sqrt(4 * k**2 - 1.0)
        nodes, vectors = np.linalg.eigh(np.diag(off, 1) + np.diag(off, -1))
        return (nodes + 1) / 2, vectors[0] ** 2
    if method == "riemann_trapezoid":
        edges = [i / (n - 1) for i in range(n)]
        return edges, [(0.5 if i in (0, n - 1) else 1.0) / (n - 1) for i in range(n)]
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return [(i + shift) / n for i in range(n)], [1 / n] * n


def integrate(gradient, x, baseline, method, num_steps):
    """The attribution by the paper's formula; `gradient` maps rows to rows."""
    x, baseline = np.float64(x), np.float64(baseline)
    terms = [w * gradient(baseline + p * (x - baseline)) for p, w in zip(*rule(method, num_steps))]
    return (x - baseline) * np.sum(terms, axis=0)


def random_weights(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [(rng.normal(size=(a, b)) / a**0.5, rng.normal(size=b) / 2) for a, b in zip(sizes, sizes[1:])]
    return [array for pair in pairs for array in pair]


NUMPY = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: np.float64(z > 0)),
}


def numpy_mlp(x, weights, activation):
    """Probabilities `[B, C]` and the gradients of each class, `[C, B, ...]`."""
    f, slope = NUMPY[activation]
    h, jacobian = np.float64(x), None
    for w, b in zip(weights[:-2:2], weights[1:-2:2]):
        z = h @ np.float64(w) + b
        step = np.float64(w) * slope(z)[:, None]
        jacobian = step if jacobian is None else jacobian @ step
        h = f(z)
    z = h @ np.float64(weights[-2]) + weights[-1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    by_logit = jacobian @ np.float64(weights[-2])  # [B, features, C]
    gradients = [
        p[:, c, None] * (by_logit[:, :, c] - np.einsum("bfk,bk->bf", by_logit, p)) for c in range(p.shape[1])
    ]
    return p, np.stack(gradients)


def mlp(x, weights, activation):
    """The same network as ops."""
    weights = [tf.cast(w, x.dtype) for w in weights]
    for w, b in zip(weights[:-2:2], weights[1:-2:2]):
        x = getattr(tf.nn, activation)(x @ w + b)
    return tf.nn.softmax(x @ weights[-2] + weights[-1])


def tape_gradient(output):
    """Rows to rows: the gradient of `output(tensor)`, eagerly."""

    def gradient(rows):
        tensor = tf.constant(rows, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            y = output(tensor)
        return np.float64(tape.gradient(y, tensor))

    return gradient


# Both kinds of graph --------------------------------------------------------------------------------


def any_batch(array):
    return [None, *array.shape[1:]]


def in_session(build, *structures, shape=any_batch):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tensors = tf.nest.map_structure(lambda a: tf.compat.v1.placeholder(a.dtype, shape(a)), structures)
        fetches = build(*tensors)
        session.run(tf.compat.v1.global_variables_initializer())
        return session.run(fetches, dict(zip(tf.nest.flatten(tensors), tf.nest.flatten(structures))))


def in_function(build, *structures, shape=any_batch, jit_compile=None):
    specs = tf.nest.map_structure(lambda a: tf.TensorSpec(shape(a), a.dtype), structures)
    traced = tf.function(build, input_signature=specs, autograph=False, jit_compile=jit_compile)
    return tf.nest.map_structure(np.asarray, traced(*tf.nest.map_structure(tf.constant, structures)))


def normal(*shape, seed=1, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# Attributions, one array for each input -------------------------------------------------------------


def joined(parts):
    return np.concatenate([np.reshape(part, [len(part), -1]) for part in parts], axis=1)


def assert_same(actual, wanted, tolerance=1e-9, note="", floor=1e-13):
    actual, wanted = joined(actual), joined(wanted)
    bound = tolerance * max(np.abs(wanted).max(), np.abs(actual).max()) + floor
    error = np.abs(actual - wanted).max()
    assert error <= bound, f"{note}: differs by {error}, allowed are {bound}"
