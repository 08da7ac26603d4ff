"""Where `auto` puts its points, and which rule it takes there, beside brute force in float64."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, brute_force, midpoints, tape_gradients

import igtf as ig

RANDOM = np.random.RandomState(7)
X = RANDOM.normal(size=[16, 6, 4])
W = RANDOM.normal(size=[4, 8]) / 2, RANDOM.normal(size=[8, 8]) / 3, RANDOM.normal(size=[8])


def truth(network, x, steps=2000):
    return brute_force(tape_gradients(network), [x], [0.0], midpoints(steps))[0]


def attributed(network, x, steps, method="auto"):
    return as_graph(lambda x: ig.integrated_gradients(network(x), x, None, steps, method), [x], False)


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


@pytest.mark.parametrize(
    "network", [never_reached, by_condition, by_maximum, without_biases, beside_a_stopped_kink]
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


@pytest.mark.parametrize("static", [False, True])
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
