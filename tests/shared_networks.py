"""Networks, inputs and ways to explain them that several files share."""

import functools

import numpy as np
import pytest
import tensorflow as tf

import igtf as ig

RULES = ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid", "gausslegendre"]
METHODS = ["secant", "gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
BOTH = pytest.mark.parametrize("method", ["gausslegendre", "secant"])


# Two layers on a few features -----------------------------------------------------------------------

RNG = np.random.default_rng(7)
W, W2, OUT = (RNG.normal(scale=0.7, size=size) for size in ((4, 6), (6, 6), (6, 3)))
BIAS = RNG.normal(size=6)
X, BASELINE = RNG.normal(size=(3, 4)), RNG.normal(size=(1, 4))


def smooth(x):
    return tf.nn.softmax(tf.tanh(tf.tanh(x @ W + BIAS) @ W2) @ OUT)


def kinked(x):
    return tf.nn.softmax(tf.nn.relu(tf.nn.relu(x @ W + BIAS) @ W2) @ OUT)


def change(network, x=X, baseline=BASELINE):
    """F(x) - F(baseline) of every output."""
    start = np.broadcast_to(baseline, x.shape)
    return network(tf.constant(x)).numpy() - network(tf.constant(start)).numpy()


def with_baked_in_batch(network):
    """The same numbers from a graph that can run on `B` rows only."""

    def build(x):
        lists = tf.TensorArray(x.dtype, 4, element_shape=[x.shape[0]]).unstack(tf.transpose(x))
        return network(tf.transpose(lists.stack()))

    return build


# The recipe and secant as functions of a network ----------------------------------------------------


def recipe(network, x, num_steps=50, method="gausslegendre", baseline=None):
    inter, stepsize, _ = ig.linear_interpolation(x, num_steps, baseline, method)
    return ig.build_ig(inter, stepsize, network(inter), num_steps)


def secant(network, x, num_steps, baseline=None):
    return ig.integrated_gradients(network(x), x, baseline, num_steps, "secant", per_row=[])


def sum_features(tensor):
    return tf.reduce_sum(tensor, axis=tf.range(1, tf.rank(tensor)))


def cubes(tensor):
    return sum_features(tensor * tensor * tensor)


# Networks of every kind, explained for their second output ------------------------------------------


def weights(*shape, seed=0, dtype=np.float64, scale=None):
    size = np.sqrt(2 / np.prod(shape[:-1])) if scale is None else scale
    return tf.constant(np.random.RandomState(seed).normal(size=shape) * size, dtype)


def inputs(*shape, dtype=np.float64):
    """Two different ends of a path."""
    return [np.random.RandomState(100 + i).normal(size=shape).astype(dtype) for i in (0, 1)]


def mlp(x):
    h = tf.nn.relu(tf.matmul(x, weights(12, 16, dtype=x.dtype)) + 0.1)
    h = tf.nn.relu(tf.matmul(h, weights(16, 8, seed=1, dtype=x.dtype)) - 0.1)
    return tf.nn.softmax(tf.matmul(h, weights(8, 3, seed=2, dtype=x.dtype)))


def cnn(x):
    for seed, (a, b) in enumerate([(1, 4), (4, 6)]):
        x = tf.nn.conv2d(x, weights(3, 3, a, b, seed=seed, dtype=x.dtype), 1, "SAME")
        x = tf.nn.max_pool(tf.nn.relu(x + 0.05), 2, 2, "SAME")
    x = tf.reshape(x, [-1, np.prod(x.shape[1:])])
    return tf.nn.softmax(tf.matmul(x, weights(24, 3, seed=5, dtype=x.dtype)))


def conv_bn(x):
    for seed, (a, b) in enumerate([(1, 4), (4, 4), (4, 4)]):
        x = tf.nn.conv2d(x, weights(3, 3, a, b, seed=seed, dtype=x.dtype), 1, "SAME")
        scale, offset, mean, variance = tf.unstack(weights(4, b, seed=seed + 9, dtype=x.dtype, scale=0.3))
        x = tf.nn.batch_normalization(x, mean, tf.abs(variance) + 0.5, offset, scale + 1, 1e-3)
        x = tf.nn.relu(x)
    return tf.nn.log_softmax(tf.matmul(tf.reduce_max(x, [1, 2]), weights(4, 3, seed=5, dtype=x.dtype)))


def residuals(x):
    """Inverted residuals: wide, depthwise, narrow, all with ReLU6."""
    x = tf.nn.conv2d(x, weights(3, 3, 1, 4, dtype=x.dtype), 1, "SAME") * 3
    for seed in (1, 2):
        h = tf.nn.relu6(tf.nn.conv2d(x, weights(1, 1, 4, 12, seed=seed, dtype=x.dtype), 1, "SAME"))
        kernel = weights(3, 3, 12, 1, seed=seed + 2, dtype=x.dtype, scale=0.5)
        h = tf.nn.relu6(tf.nn.depthwise_conv2d(h, kernel, [1, 1, 1, 1], "SAME"))
        x += tf.nn.conv2d(h, weights(1, 1, 12, 4, seed=seed + 4, dtype=x.dtype), 1, "SAME")
    return tf.matmul(tf.reduce_mean(x, [1, 2]), weights(4, 3, seed=7, dtype=x.dtype))


def layer_norm(x):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5)


def transformer(x):
    """One pre-norm block with attention and GELU on `[B, T, F]`."""
    h = layer_norm(x)
    q, k, v = (tf.einsum("btf,fg->btg", h, weights(8, 8, seed=i, dtype=x.dtype)) for i in (0, 1, 2))
    x += tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 8**0.5), v)
    h = tf.nn.gelu(tf.einsum("btf,fg->btg", layer_norm(x), weights(8, 16, seed=3, dtype=x.dtype)))
    x += tf.einsum("btf,fg->btg", h, weights(16, 8, seed=4, dtype=x.dtype))
    return tf.matmul(tf.reduce_mean(x, axis=1), weights(8, 3, seed=5, dtype=x.dtype))


IMAGE = (8, 8, 1)
NETWORKS = {
    "mlp": (mlp, (12,)),
    "cnn": (cnn, IMAGE),
    "conv_bn": (conv_bn, IMAGE),
    "residuals": (residuals, IMAGE),
    "transformer": (transformer, (5, 8)),
}


def explain(network, x, baseline, jit=False, dynamic=False, **options):
    """Attributions of the second output, and its change."""
    run = explanation(network, jit, tuple(options.items()))
    if dynamic:
        run = run.get_concrete_function(*[tf.TensorSpec([None, *x.shape[1:]], x.dtype)] * 2)
    return [t.numpy() for t in run(tf.constant(x), tf.constant(baseline))]


@functools.lru_cache(maxsize=16)
def explanation(network, jit, options):
    """One trace for all values of a shape."""

    @tf.function(jit_compile=jit)
    def run(x, baseline):
        y = network(x)[:, 1]
        return ig.integrated_gradients(y, x, baseline, **dict(options)), y - network(baseline)[:, 1]

    return run


def row_sums(array):
    return array.reshape(len(array), -1).sum(1)


# Rows with a trap, to train on -----------------------------------------------------------------------

FEATURES, SPURIOUS = 6, 5


def trapped_rows(rng, rows, misleads):
    """Two classes by the sum of five noisy features; the last feature tells the class, or the other one."""
    labels = rng.integers(0, 2, rows)
    x = rng.normal(0.5 * (2 * labels[:, None] - 1), 1.0, [rows, FEATURES]).astype("float32")
    x[:, SPURIOUS] = 2 * (labels != misleads) - 1
    return x, labels
