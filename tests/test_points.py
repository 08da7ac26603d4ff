"""Where `auto` puts its points, and which rule it takes there, beside brute force in float64."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, brute_force, midpoints, tape_gradients
from shared_networks import NETWORKS, explain, inputs, mlp, weights

import igtf as ig
from igtf import probes
from igtf.levels import Levels
from igtf.points import Points
from igtf.straight_path import Path
from igtf.subgraph import Subgraph

RANDOM = np.random.RandomState(7)
X = RANDOM.normal(size=[16, 6, 4])
W = RANDOM.normal(size=[4, 8]) / 2, RANDOM.normal(size=[8, 8]) / 3, RANDOM.normal(size=[8])


def truth(network, x, steps=2000):
    return integral(network, x.tobytes(), x.shape, steps)


@functools.lru_cache(maxsize=4)
def integral(network, values, shape, steps):
    x = np.frombuffer(values).reshape(shape)
    return brute_force(tape_gradients(network), [x], [0.0], midpoints(steps))[0]


def attributed(network, x, steps, method="auto"):
    return as_graph(attribution(network, steps, method), [x], False)


@functools.lru_cache(maxsize=8)
def attribution(network, steps, method):
    """The same function for the same arguments, so that `as_graph` traces it once."""
    return lambda x: ig.integrated_gradients(network(x), x, None, steps, method)


def errors(network, x, steps=20):
    """Relative L1 error of each row: of `auto`, and of `gausslegendre`."""
    expected = truth(network, x)
    axes = tuple(range(1, x.ndim))
    sizes = np.abs(expected).sum(axes)
    return [
        np.abs(attributed(network, x, steps, method) - expected).sum(axes) / sizes
        for method in ("auto", "gausslegendre")
    ]


def hidden(x):
    return tf.tanh(tf.tensordot(x, W[0], 1))


def output(h):
    return tf.reduce_sum(tf.tanh(tf.tensordot(h, W[1], 1)) @ W[2][:, None], [1, 2])


def never_reached(x):
    h = hidden(x)
    return output(h * tf.clip_by_value(h, -2, 2))


def sometimes_reached(x):
    z = tf.tensordot(x, W[0], 1)
    gate = tf.nn.relu(z[:, :, :1] + 1.2)  # which only some rows close on the way
    return output(tf.tanh(z) * gate)


def by_condition(x):
    z = tf.tensordot(x, W[0], 1)
    h = tf.where(tf.reduce_any(z > 50, -1, keepdims=True), tf.sin(z), tf.tanh(z))
    return output(h)


def without_biases(x):
    z = tf.nn.relu(tf.tensordot(x, W[0], 1))  # on or off from the start on
    return output(tf.tanh(z))


def beside_a_stopped_kink(x):
    z = hidden(x) @ W[1] * 4  # its largest element changes, as nothing that gradients meet does
    return output(z - tf.reduce_logsumexp(z, -1, keepdims=True)) + tf.reduce_sum(tf.nn.relu(z + 99), [1, 2])


def by_maximum(x):
    z = hidden(x)
    best = tf.reduce_max(z + tf.constant([2.0] + [0.0] * 7, z.dtype), -1, keepdims=True)
    return output(best * z)


def by_maximum_from_ties(x):
    z = tf.tensordot(x, W[0], 1)
    return output(tf.reduce_max(z, -1, keepdims=True) * tf.tanh(z))  # the same one from the start on


@pytest.mark.few(3)
@pytest.mark.parametrize(
    "network",
    [
        *(never_reached, by_maximum_from_ties, by_condition, beside_a_stopped_kink),
        *(pytest.param(other, marks=pytest.mark.slow) for other in (by_maximum, without_biases)),
    ],
)
def test_rows_in_which_nothing_switches_converge_as_smooth_ones(network):
    found, _ = errors(network, X)
    np.testing.assert_array_less(found, 2e-6)
    assert (np.abs(attributed(network, X, 20, "secant") - truth(network, X)).max(axis=(1, 2)) > 1e-5).all()


def test_every_row_takes_its_own_rule():
    z = np.tensordot(X, W[0], 1)[:, :, 0] + 1.2
    switches = (z < 0).any(1)
    assert 2 < switches.sum() < 14
    found, plain = errors(sometimes_reached, X)
    np.testing.assert_array_less(found[~switches], 2e-6)
    assert found[switches].mean() < plain[switches].mean() / 3
    alone = attributed(sometimes_reached, X[~switches], 20)
    np.testing.assert_allclose(attributed(sometimes_reached, X, 20)[~switches], alone, atol=1e-12)


def experts(x):
    """Of each word by itself, words of all rows on one axis, which is the second one."""
    words = tf.tanh(tf.reshape(x, [-1, 4]))
    found = tf.nn.relu(tf.einsum("td,edm->etm", words, np.stack([W[0], -W[0][::-1], W[0][:, ::-1]])))
    return tf.reduce_sum(tf.reshape(tf.tanh(tf.reduce_sum(found, 0)) @ W[2][:, None], [-1, 6]), 1)


def test_units_that_switch_are_seen_where_words_of_all_rows_share_an_axis():
    found, plain = errors(experts, X)
    assert found.mean() < plain.mean() / 2


@pytest.mark.parametrize("static", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rows_are_told_apart_in_loops_and_jacobians(static):
    def network(x):
        z = hidden(x)
        state = tf.scan(lambda h, z: tf.tanh(z + h / 2), tf.transpose(z, [1, 0, 2]), 0 * z[:, 0])
        return tf.stack([tf.reduce_sum(state[-1] * tf.nn.relu(state[-1] + c), 1) for c in (9.0, 0.0)], 1)

    found = as_graph(lambda x: ig.integrated_jacobian(network(x), x, num_steps=20), [X], static)
    for c in (0, 1):
        expected = truth(lambda x, c=c: network(x)[:, c], X, 500)
        off = np.abs(found[:, c] - expected).sum((1, 2)) / np.abs(expected).sum((1, 2))
        assert off.mean() < 0.01


def test_a_maximum_that_is_stopped_is_no_kink():
    def network(x):
        return tf.reduce_logsumexp(hidden(x)[:, 0] @ W[1] * 4, 1)

    found, _ = errors(network, X[:, :1], steps=30)
    np.testing.assert_array_less(found, 2e-6)


def test_masks_that_jump_at_the_baseline_cost_nothing():
    x = X.copy()
    x[:8, 4:] = 0

    def network(x):
        mask = tf.reduce_any(tf.not_equal(x, 0), -1)
        count = tf.reduce_sum(tf.cast(mask, x.dtype), 1, keepdims=True)
        z = tf.tensordot(tf.where(mask[..., None], x, tf.zeros_like(x)), W[0], 1) + W[2]
        mean = tf.reduce_sum(tf.where(mask[..., None], z, tf.zeros_like(z)), 1) / tf.maximum(count, 1)
        return tf.reduce_sum(tf.nn.relu(mean @ W[1] + 0.1), 1)

    found, plain = errors(network, x, steps=50)
    assert found.mean() < 2e-3 and found.mean() < plain.mean()


@pytest.mark.parametrize(
    "jump",
    [
        lambda z: tf.sign(z) * tf.math.log1p(tf.abs(z)),
        lambda z: tf.sort(z, axis=-1) * tf.constant(np.arange(8.0)),
        lambda z: z - tf.floor(z) + tf.nn.relu(z),
    ],
)
def test_what_is_rounded_or_ranked_takes_gauss_legendre(jump):
    def network(x):
        return tf.reduce_sum(tf.tanh(jump(tf.tensordot(x, W[0], 1))) @ W[2][:, None], [1, 2])

    found = [attributed(network, X, 12, method) for method in ("auto", "gausslegendre")]
    np.testing.assert_allclose(*found, atol=1e-12)


def test_nodes_are_dense_all_over_the_part_of_the_path_in_which_the_output_moves():
    at = np.linspace(0.4, 0.7, 13)

    def network(x):  # steps at many places of a part
        return tf.reduce_sum(tf.sigmoid(80 * (x[:, :1] - at)), 1)

    x = np.ones([1, 1])
    (found,), (plain,) = errors(network, x, steps=40)
    assert found < 1e-4 < plain / 10


# The points of secant -------------------------------------------------------------------------------


def points_of(network, x, baseline, steps):
    """The alphas of the points, `[S + 1, B]`."""

    @tf.function
    def run(x, baseline):
        subgraph = Subgraph("integrated_gradients", network(x), x, None)
        subgraph.find_kinks()
        points = Points(Path(subgraph, [baseline]), Levels([steps], None, "secant"), "secant", False, 10**6)
        return points.of_block(0, steps)[0][0] * tf.ones([1, len(x)], x.dtype)

    return run(tf.constant(x), tf.constant(baseline)).numpy()


@pytest.mark.few(2)
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


@pytest.mark.few(2)
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


# The nodes of auto ----------------------------------------------------------------------------------


def confident(x):
    """Probabilities that move from 0 to 1 on a small part of the path."""
    return tf.nn.softmax(tf.stack([30 * tf.reduce_sum(x, axis=1), 0 * x[:, 0] + 20], 1))


@pytest.mark.few(1)
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
