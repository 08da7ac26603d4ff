"""Secant and its surroundings on whole networks: completeness, points, prefix, `auto`, frozen graphs."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph

import igtf as ig
from igtf import probes
from igtf.path import Path
from igtf.points import Points
from igtf.subgraph import Subgraph

METHODS = ["secant", "gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]


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

    @tf.function(jit_compile=jit)
    def run(x, baseline):
        y = network(x)[:, 1]
        return ig.integrated_gradients(y, x, baseline, **options), y - network(baseline)[:, 1]

    if dynamic:
        run = run.get_concrete_function(*[tf.TensorSpec([None, *x.shape[1:]], x.dtype)] * 2)
    return [t.numpy() for t in run(tf.constant(x), tf.constant(baseline))]


def row_sums(array):
    return array.reshape(len(array), -1).sum(1)


# Completeness ---------------------------------------------------------------------------------------

# What float32 leaves: residuals lose digits where large terms of both signs cancel.
TOLERANCE = {"mlp": 1e-5, "cnn": 1e-5, "conv_bn": 1e-5, "residuals": 1e-3}


@pytest.mark.parametrize("steps", [1, 10, 50])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", TOLERANCE)
def test_secant_is_complete_at_any_number_of_steps(name, dtype, steps):
    network, shape = NETWORKS[name]
    x, baseline = inputs(6, *shape, dtype=dtype)
    attributions, change = explain(network, x, baseline, num_steps=steps, method="secant")
    error = np.abs(row_sums(attributions.astype(np.float64)) - change).sum() / np.abs(change).sum()
    assert error <= (1e-10 if dtype is np.float64 else TOLERANCE[name])


POOLED = {
    "valid": lambda z: tf.nn.max_pool(z, 2, 2, "VALID"),
    "same": lambda z: tf.nn.max_pool(z, 2, 2, "SAME"),
    "three places": lambda z: tf.nn.max_pool(z, [1, 3, 1, 1], [1, 3, 1, 1], "SAME"),
    "larger": lambda z: tf.nn.max_pool(z, 3, 3, "SAME"),
    "in three dimensions": lambda z: tf.nn.max_pool3d(z[:, None], [1, 2, 2], [1, 2, 2], "SAME")[:, 0],
}


@pytest.mark.parametrize("steps", [5, 60])
@pytest.mark.parametrize("end", ["from ties", "to ties", "anywhere"])
@pytest.mark.parametrize("name", POOLED)
def test_pooling_at_the_frontier_sums_what_its_steps_are(name, end, steps):
    """The sum over the steps, which is found at once, is that of one step at a time."""

    def network(x):
        z = tf.nn.conv2d(x, weights(3, 3, 2, 6, dtype=x.dtype), 1, "SAME") + 0.1
        return tf.reduce_sum(tf.tanh(tf.nn.relu(POOLED[name](z))), [1, 2])

    x, baseline = inputs(5, 9, 8, 2, dtype=np.float32)
    x, baseline = {"from ties": (x, 0 * x), "to ties": (0 * x, x), "anywhere": (x, baseline)}[end]
    options = {"num_steps": steps, "method": "secant"}
    at_once, change = explain(network, x, baseline, **options)
    by_steps, _ = explain(network, x, baseline, max_rows=2 * len(x), **options)
    assert np.abs(row_sums(at_once) - change).max() <= 3e-5 * np.abs(change).max()
    # They may differ where more than one place wins on the way through a step or its neighbours.
    error = np.abs(at_once - by_steps).sum() / np.abs(by_steps).sum()
    assert error <= (3e-4 if steps == 60 else 5e-3)


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


def deeplift_by_hand(x, baseline):
    """Rescale in NumPy: the slopes of the activations between both ends, times the weights."""
    w, v = (np.asarray(weights(*s, seed=i)) for i, s in ((0, (12, 16)), (1, (16, 3))))
    h1, h0 = x @ w + 0.1, baseline @ w + 0.1
    a1, a0 = np.tanh(h1), np.tanh(h0)
    z1, z0 = a1 @ v, a0 @ v
    y1, y0 = np.maximum(z1, 0), np.maximum(z0, 0)
    top = np.where(np.arange(3) == 1, (y1 - y0) / (z1 - z0), 0)
    return (x - baseline) * (((a1 - a0) / (h1 - h0) * (top @ v.T)) @ w.T)


def test_one_step_of_secant_is_deeplift():
    def network(x):
        h = tf.tanh(tf.matmul(x, weights(12, 16)) + 0.1)
        return tf.nn.relu(tf.matmul(h, weights(16, 3, seed=1)))

    x, baseline = inputs(7, 12)
    attributions, _ = explain(network, x, baseline, num_steps=1, method="secant")
    expected = deeplift_by_hand(x, baseline)
    assert np.count_nonzero(expected) > expected.size // 2
    np.testing.assert_allclose(attributions, expected, rtol=1e-10, atol=1e-12)


# Rows that leave axis 0 -----------------------------------------------------------------------------


def time_distributed(x):
    h = tf.nn.relu(tf.matmul(tf.reshape(x, [-1, 6]), weights(6, 4)) + 0.1)
    h = tf.reshape(h, [-1, 5, 4])
    return tf.matmul(
        tf.reduce_max(tf.nn.relu(h * weights(4, seed=1, scale=1)), axis=1), weights(4, 2, seed=2)
    )


def time_major(x):
    x = tf.nn.relu(tf.transpose(x, [1, 0, 2]) - 0.2)
    return tf.matmul(tf.reduce_sum(tf.nn.relu(x * weights(6, seed=1, scale=1)), axis=0), weights(6, 2))


def recurrent(x):
    state = tf.zeros_like(x[:, 0, :4])
    for now in tf.unstack(tf.transpose(x, [1, 0, 2])):
        state = tf.nn.relu(tf.matmul(now, weights(6, 4)) + tf.matmul(state, weights(4, 4, seed=1)))
    return tf.matmul(state, weights(4, 2, seed=2))


def dilated(x):
    h = tf.space_to_batch_nd(x, [2], [[0, 1]])
    h = tf.nn.relu(tf.nn.conv1d(h, weights(2, 6, 4), 1, "SAME"))
    h = tf.nn.relu(tf.batch_to_space(h, [2], [[0, 1]]) - 0.2)
    return tf.matmul(tf.reduce_sum(h, axis=1), weights(4, 2, seed=2))


def transposed(x):
    h = tf.nn.relu(tf.transpose(tf.matmul(tf.reshape(x, [-1, 30]), weights(30, 7))))
    return tf.transpose(tf.matmul(weights(2, 7, seed=1), h))


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("rows", [4, 5], ids=lambda n: f"{n} rows of 5 times")
@pytest.mark.parametrize("network", [time_distributed, time_major, recurrent, dilated, transposed])
def test_rows_that_leave_axis_0_are_explained_one_by_one(network, rows, dynamic):
    x, baseline = inputs(rows, 5, 6)
    found, change = explain(network, x, baseline, num_steps=7, method="secant", dynamic=dynamic)
    np.testing.assert_allclose(row_sums(found), change, rtol=1e-10, atol=1e-12)
    for i in range(2):
        alone, _ = explain(network, x[i : i + 1], baseline[i : i + 1], num_steps=7, method="secant")
        np.testing.assert_allclose(found[i], alone[0], rtol=1e-9, atol=1e-12)


# Where the points go --------------------------------------------------------------------------------


def points_of(network, x, baseline, steps):
    """The alphas of the points, `[S + 1, B]`."""

    @tf.function
    def run(x, baseline):
        subgraph = Subgraph("integrated_gradients", network(x), x, None)
        subgraph.find_kinks()
        points = Points(Path(subgraph, [baseline]), steps, "secant", False, 10**6)
        return points.of_block(0, steps)[0][0] * tf.ones([1, len(x)], x.dtype)

    return run(tf.constant(x), tf.constant(baseline)).numpy()


@pytest.mark.parametrize("name", ["mlp", "cnn", "residuals"])
def test_points_rise_from_0_to_1(name):
    network, shape = NETWORKS[name]
    points = points_of(network, *inputs(6, *shape), 20)
    assert (points[0] == 0).all() and (points[-1] == 1).all()
    assert (np.diff(points, axis=0) > 0).all()
    assert np.abs(points - np.linspace(0, 1, 21)[:, None]).max() > 0.02


@pytest.mark.parametrize("name", ["mlp", "cnn", "residuals"])
def test_points_are_mirrored_when_input_and_baseline_swap(name):
    network, shape = NETWORKS[name]
    x, baseline = inputs(6, *shape)
    points, mirrored = points_of(network, x, baseline, 20), points_of(network, baseline, x, 20)
    np.testing.assert_allclose(points, 1 - mirrored[::-1], atol=1e-9)


def test_points_are_mirrored_where_switches_fall_on_the_middle():
    x = inputs(6, 12)[0]

    def network(x):
        return tf.nn.relu(tf.matmul(x, weights(12, 16)))

    # Every unit that switches does so at one half.
    points, mirrored = points_of(network, x, -x, 20), points_of(network, -x, x, 20)
    np.testing.assert_allclose(points, 1 - mirrored[::-1], atol=1e-9)


def test_points_gather_where_units_switch():
    # One unit, which switches at a quarter of the way: half of the points, and a 64th of the rest.
    points = points_of(lambda x: tf.nn.relu(x - 1), np.array([[4.0]]), np.array([[0.0]]), 64)
    assert (np.abs(points - 0.25) <= 1 / 64 + 1e-9).sum() >= 32


def test_rows_without_a_switch_have_uniform_points():
    x = np.array([[1.0], [2.0], [-3.0]])
    points = points_of(lambda x: tf.nn.relu(x - 1), x, np.array([[0.0], [-5.0], [-1.0]]), 8)
    uniform = np.linspace(0, 1, 9)
    np.testing.assert_allclose(points[:, [0, 2]], np.stack([uniform, uniform], 1), atol=1e-12)
    assert np.abs(points[:, 1] - uniform).max() > 0.1


def kinked_and_confident(x):
    """Units that switch all along the path, probabilities that move on a small part of it."""
    hidden = tf.nn.relu(tf.matmul(x, weights(12, 40)) + weights(40, seed=1, scale=0.7))
    return tf.nn.softmax(10 * tf.matmul(hidden, weights(40, 3, seed=2)))


@pytest.mark.parametrize("sample", [probes.SAMPLE, 9])
@pytest.mark.parametrize("static, max_rows", [(True, None), (True, 40), (False, None), (False, 40)])
def test_points_gather_where_probabilities_move(static, max_rows, sample, monkeypatch):
    monkeypatch.setattr(probes, "SAMPLE", sample)
    x = 2 * inputs(20, 12)[0]

    def build(x):
        ys = kinked_and_confident(x)[:, 1]
        graded = ig.integrated_gradients(ys, x, None, 20, "secant", max_rows=max_rows)
        with monkeypatch.context() as patch:
            patch.setattr(Points, "_find", lambda self: None)
            uniform = ig.integrated_gradients(ys, x, None, 20, "secant")
        return graded, uniform, ig.integrated_gradients(ys, x, None, 4000, "riemann_middle")

    graded, uniform, exact = as_graph(build, [x], static)
    error, of_uniform = (np.abs(found - exact).sum(1) for found in (graded, uniform))
    assert np.median(error / of_uniform) < 1 / 2
    ends = points_of(kinked_and_confident, x, 0 * x, 20)
    assert (ends[0] == 0).all() and (ends[-1] == 1).all() and (np.diff(ends, axis=0) > 0).all()


def test_looks_at_wide_layers_of_unknown_size_take_a_sample():
    x = inputs(2, 30, 12)[0].astype("float32")
    kernel = weights(12, 200, dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 12])])
    def explain_sequences(x):
        hidden = tf.nn.relu(tf.matmul(x, kernel))  # 6,000 units
        scores = tf.nn.softmax(tf.matmul(hidden, x @ kernel, transpose_b=True) / 50)
        ys = tf.reduce_sum(tf.matmul(scores, hidden), [1, 2])
        secant = ig.integrated_gradients(ys, x, None, 30, "secant")
        return secant, ig.convergence_delta(ys, x, None, secant), ys

    secant, delta, ys = explain_sequences(x)
    assert secant.shape == x.shape
    assert np.abs(delta).max() < 1e-3 * np.abs(ys).max()


def test_a_row_of_nan_leaves_the_others_alone():
    x, baseline = inputs(4, 12)
    good = explain(mlp, x, baseline, num_steps=10, method="secant")[0]
    x[2] = np.nan
    found = explain(mlp, x, baseline, num_steps=10, method="secant")[0]
    np.testing.assert_allclose(found[[0, 1, 3]], good[[0, 1, 3]], rtol=1e-10, atol=1e-13)


# The affine prefix ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["secant", "gausslegendre", "riemann_left"])
def test_the_affine_prefix_changes_no_number(name, method):
    network, shape = NETWORKS[name]
    x, baseline = inputs(3, *shape)
    found = explain(network, x, baseline, num_steps=6, method=method)[0]
    # A maximum that never takes effect is no affine op: nothing is left of the prefix.
    expected = explain(lambda x: network(tf.maximum(x, -1e9)), x, baseline, num_steps=6, method=method)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "secant"])
def test_the_one_liner_has_the_numbers_of_the_recipe(method):
    x, baseline = inputs(3, *IMAGE)

    @tf.function
    def recipe(x, baseline):
        inter, stepsize, _ = ig.linear_interpolation(x, 6, baseline, method)
        return ig.build_ig(inter, stepsize, cnn(inter)[:, 1], 6)

    expected = recipe(tf.constant(x), tf.constant(baseline))
    found = explain(cnn, x, baseline, num_steps=6, method=method)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_an_affine_network_has_its_weights_for_gradients_whatever_the_method():
    w = np.asarray(weights(12, 3))
    x, baseline = inputs(4, 12)
    for method in METHODS:
        found = explain(lambda x: tf.matmul(x, weights(12, 3)) + 5, x, baseline, num_steps=3, method=method)[
            0
        ]
        np.testing.assert_allclose(found, (x - baseline) * w[:, 1], rtol=1e-12)


def test_a_mask_of_minus_infinity_behind_an_affine_layer_gives_no_nan():
    def network(x):
        mask = tf.constant([0, 0, -np.inf, 0], tf.float64)
        return tf.nn.softmax(tf.matmul(x, weights(12, 4)) + mask)

    x, baseline = inputs(4, 12)
    for method in METHODS:
        found, change = explain(network, x, baseline, num_steps=20, method=method)
        np.testing.assert_allclose(row_sums(found), change, atol=0.05 if method != "secant" else 1e-12)


# auto -----------------------------------------------------------------------------------------------

ONES = tf.ones([12, 12], tf.float64)
SMOOTH = {
    "transformer": NETWORKS["transformer"],
    "softplus": (lambda x: tf.nn.softplus(tf.matmul(x, ONES)), (12,)),
    "swish": (lambda x: tf.nn.silu(x), (12,)),
    "ELU": (lambda x: tf.nn.elu(x), (12,)),
    "l2_normalize": (lambda x: tf.nn.l2_normalize(x, axis=1) ** 2, (12,)),
    "norm and epsilon": (lambda x: x / tf.maximum(tf.norm(x, axis=1, keepdims=True), 1e-12), (12,)),
    "clipped deviation": (
        lambda x: x / tf.sqrt(tf.maximum(tf.math.reduce_variance(x, axis=1, keepdims=True), 1e-6)),
        (12,),
    ),
    "ReLU off the path": (lambda x: tf.tanh(x) * tf.nn.relu(ONES[:1] - 0.5), (12,)),
    "maximum of integers": (
        lambda x: tf.tanh(x) * tf.cast(tf.maximum(tf.cast(x, tf.int32), 1), x.dtype),
        (12,),
    ),
    "maximum of shapes": (
        lambda x: tf.tanh(x) / tf.cast(tf.maximum(tf.shape(x)[1], 1), x.dtype),
        (12,),
    ),
    "condition off the path": (lambda x: tf.where(ONES[:1] > 0, tf.tanh(x), x), (12,)),
}
KINKED = {
    **{name: NETWORKS[name] for name in ("mlp", "cnn", "conv_bn", "residuals")},
    "ReLU": (lambda x: tf.nn.relu(x - 0.3), (12,)),
    "LeakyReLU": (lambda x: tf.nn.leaky_relu(x - 0.3), (12,)),
    "SELU": (lambda x: tf.nn.selu(x - 0.3), (12,)),
    "abs": (lambda x: tf.abs(x - 0.3), (12,)),
    "maximum": (lambda x: tf.maximum(x, 0.3), (12,)),
    "minimum of two": (lambda x: tf.minimum(x, 1 - x), (12,)),
    "clip": (lambda x: tf.clip_by_value(x, -0.5, 0.3), (12,)),
    "max": (lambda x: tf.reduce_max(tf.reshape(x, [-1, 3, 4]), axis=2), (12,)),
    "max pooling": (lambda x: tf.nn.max_pool(x, 2, 2, "VALID")[:, 0, 0], (4, 4, 2)),
    "where": (lambda x: tf.where(x > 0, x, 0.1 * x), (12,)),
}


@pytest.mark.parametrize(
    "name, expected", [*((n, "gausslegendre") for n in SMOOTH), *((n, "secant") for n in KINKED)]
)
def test_auto_is_secant_for_networks_with_kinks_and_gauss_legendre_for_smooth_ones(name, expected):
    network, shape = {**SMOOTH, **KINKED}[name]
    x, baseline = inputs(3, *shape)

    def found(method):
        return explain(network, x, baseline, num_steps=3, method=method)[0]

    rules = {m: found(m) for m in ("secant", "gausslegendre")}
    assert np.abs(rules["secant"] - rules["gausslegendre"]).max() > 1e-9, "nothing to tell them apart"
    np.testing.assert_allclose(found("auto"), rules[expected], rtol=1e-12, atol=1e-14)


def confident(x):
    """Probabilities that move from 0 to 1 on a small part of the path."""
    return tf.nn.softmax(tf.stack([30 * tf.reduce_sum(x, axis=1), 0 * x[:, 0] + 20], 1))


@pytest.mark.parametrize("static", [True, False])
def test_auto_looks_where_softmaxes_move(static):
    x, baseline = np.abs(inputs(3, 6)[0]), 0.0

    def build(x):
        ys = confident(tf.tanh(x))[:, 0]
        every = ig.integrated_jacobian(confident(tf.tanh(x)), x, baseline, 20)[:, 0]
        methods = [(20, "auto"), (20, "gausslegendre"), (2000, "gausslegendre"), (23, "auto")]
        return [*(ig.integrated_gradients(ys, x, baseline, n, m) for n, m in methods), every]

    auto, plain, exact, uneven, every = as_graph(build, [x], static)
    error = np.abs(auto - exact).sum()
    assert error < np.abs(plain - exact).sum() / 5
    assert np.abs(uneven - exact).sum() < np.abs(plain - exact).sum() / 5
    np.testing.assert_allclose(every, auto, rtol=1e-9, atol=1e-12)


def test_panels_that_follow_the_network_still_integrate_what_is_linear():
    def build(x):
        moving = confident(x)[:, 0]
        return ig.integrated_gradients(5 * x[:, 0] + 0 * moving, x, None, 13)

    x = inputs(3, 6)[0]
    expected = np.zeros_like(x)
    expected[:, 0] = 5 * x[:, 0]
    np.testing.assert_allclose(as_graph(build, [x], False), expected, atol=1e-12)


def test_auto_follows_the_output_where_it_moves_for_attributions_and_conductances():
    """A jump of the output within a tenth of the path, with nothing of softmaxes or kinks to see."""

    def build(x):
        hidden = tf.tanh(x)
        ys = tf.sigmoid(60 * tf.reduce_sum(hidden * hidden, 1) - 25)
        return [
            [
                ig.integrated_gradients(ys, x, None, steps, method),
                ig.layer_conductance(ys, hidden, x, None, steps, method),
            ]
            for steps, method in ((20, "auto"), (20, "gausslegendre"), (2000, "riemann_middle"))
        ]

    auto, plain, exact = as_graph(build, [inputs(3, 6)[0]], False)
    for a, b, expected in zip(auto, plain, exact):
        assert np.abs(a - expected).sum() < np.abs(b - expected).sum() / 5


# Frozen graphs --------------------------------------------------------------------------------------


def swish(x):
    h = tf.nn.silu(tf.matmul(x, weights(12, 16, dtype=x.dtype)))
    h = tf.nn.relu(tf.nn.silu(tf.matmul(h, weights(16, 8, seed=1, dtype=x.dtype))))
    return tf.nn.softmax(tf.matmul(h, weights(8, 3, seed=2, dtype=x.dtype)))


@pytest.fixture(scope="module")
def frozen():
    """The GraphDef of `swish`, with its custom gradients lost."""
    spec = tf.TensorSpec([None, 12], tf.float64, name="x")
    function = tf.function(swish).get_concrete_function(spec)
    graph_def = function.graph.as_graph_def()
    for node in graph_def.node:
        node.attr.pop("_gradient_op_type", None)
    assert any(node.op == "IdentityN" for node in graph_def.node)
    return graph_def, function.inputs[0].name, function.outputs[0].name


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_graph_without_its_custom_gradients_is_explained_like_the_live_network(frozen, method):
    graph_def, source, target = frozen
    x, baseline = inputs(4, 12)

    def plain(x):
        """`swish` from ops that have gradients of their own."""
        h = tf.matmul(x, weights(12, 16))
        h = tf.matmul(h * tf.sigmoid(h), weights(16, 8, seed=1))
        h = tf.nn.relu(h * tf.sigmoid(h))
        return tf.nn.softmax(tf.matmul(h, weights(8, 3, seed=2)))

    expected = explain(plain, x, baseline, num_steps=5, method=method)[0]
    live = explain(swish, x, baseline, num_steps=5, method=method)[0]
    np.testing.assert_allclose(live, expected, rtol=1e-9, atol=1e-13)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        feed = tf.compat.v1.placeholder(tf.float64, [None, 12])
        (y,) = tf.graph_util.import_graph_def(graph_def, {source: feed}, [target])
        found = session.run(
            ig.integrated_gradients(y[:, 1], feed, baseline, num_steps=5, method=method), {feed: x}
        )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


# XLA and training -----------------------------------------------------------------------------------


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


def penalty(activation, steps, x, baseline):
    """A loss on attributions and its gradient with respect to the weights."""

    @tf.function
    def both(w, x_in):
        h = tf.reshape(activation(tf.matmul(x_in, w)), [len(x), -1])
        h *= weights(h.shape[1], seed=8, scale=1)
        found = ig.integrated_gradients(h, x_in, tf.constant(baseline), num_steps=steps, method="secant")
        loss = tf.reduce_sum(found**2)
        return loss, tf.gradients(loss, w)[0]

    return lambda w: [t.numpy() for t in both(tf.constant(w), tf.constant(x))]


@pytest.mark.parametrize("name", TRAINABLE)
def test_training_through_the_slopes_has_the_gradient_of_finite_differences(name):
    x, baseline = inputs(3, 4)
    w = np.asarray(weights(4, 8))
    # One step: with more, the points move with the weights, and no gradient follows them.
    loss = penalty(TRAINABLE[name], 1, x, baseline)
    _, gradient = loss(w)
    direction = np.random.RandomState(3).normal(size=w.shape)
    numeric = (loss(w + 1e-6 * direction)[0] - loss(w - 1e-6 * direction)[0]) / 2e-6
    np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", TRAINABLE)
def test_training_has_no_nan_where_ends_are_equal_and_values_tie(name, steps):
    x = np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1]])
    baseline = np.array([[0.0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
    loss, gradient = penalty(TRAINABLE[name], steps, x, baseline)(np.ones((4, 8)))
    assert np.isfinite(loss) and np.isfinite(gradient).all()


def test_a_softmax_of_five_axes_is_complete():
    @tf.function
    def both(x):
        ys = tf.reduce_sum(tf.nn.softmax(x) ** 2, [1, 2, 3, 4])
        found = ig.integrated_gradients(ys, x, num_steps=10, method="secant")
        return ig.convergence_delta(ys, x, None, found), ys

    delta, ys = both(tf.constant(inputs(2, 2, 3, 3, 2)[0]))
    assert np.abs(delta).max() < 1e-10 * np.abs(ys).max()
