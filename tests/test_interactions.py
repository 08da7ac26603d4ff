"""Interactions, beside the authors' double integral of Hessians in float64."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, gauss_legendre
from shared_networks import BASELINE, BATCHES, BIAS, OUT, W2, W, X, smooth

import igtf as ig

v1 = tf.compat.v1
FLAT = np.broadcast_to(BASELINE, X.shape)


def second(x):
    return smooth(x)[:, 1]


def kinked(x):
    h = tf.nn.relu(x @ W + BIAS)
    h = tf.nn.leaky_relu(h @ W2, 0.2)
    h = tf.maximum(h[:, 1::2], h[:, ::2])
    return tf.reduce_sum(tf.abs(tf.nn.relu6(h) - 1) @ OUT[:3], 1)


def bent(x, beta=4.0):
    """The same with kinks as soft as they are explained with."""

    def soft(z):
        return tf.nn.softplus(beta * z) / beta

    h = soft(x @ W + BIAS)
    h = 0.2 * h @ W2 + 0.8 * soft(h @ W2)
    h = h[:, ::2] + soft(h[:, 1::2] - h[:, ::2])
    h = soft(h) - soft(h - 6)
    return tf.reduce_sum((soft(h - 1) + soft(1 - h)) @ OUT[:3], 1)


def double_integral(function, points=50):
    """Equations 2 and 3 of the paper."""

    @tf.function
    def derivatives(point):
        with tf.GradientTape() as outer:
            outer.watch(point)
            with tf.GradientTape() as inner:
                inner.watch(point)
                y = tf.reduce_sum(function(point))
            gradient = inner.gradient(y, point)
        return gradient, outer.batch_jacobian(gradient, point)

    curved, straight, way = 0.0, 0.0, X - FLAT
    for a, wa in gauss_legendre(points):
        for b, wb in gauss_legendre(points):
            slope, hessian = derivatives(tf.constant(FLAT + a * b * way))
            curved = curved + wa * wb * a * b * hessian.numpy()
            straight = straight + wa * wb * slope.numpy()
    found = curved * way[:, :, None] * way[:, None]
    return found + np.eye(4) * (straight * way)[:, None]


def interactions(function, static=True, x=X, **options):
    def build(x):
        return ig.integrated_hessians(function(x), x, BASELINE, **options)

    return as_graph(build, [x], static)


@pytest.fixture(scope="module")
def expected():
    return double_integral(second)


@pytest.mark.few(1)
@BATCHES
def test_a_smooth_network_has_those_of_the_double_integral(expected, static):
    assert_close(interactions(second, static, num_steps=80), expected, 1e-8)


def test_kinks_are_as_soft_as_asked_for():
    assert_close(interactions(kinked, num_steps=100, beta=4.0), double_integral(bent, 40), 1e-4)


def test_they_are_symmetric_and_sum_to_the_attributions():
    def build(x):
        y = second(x)
        found = ig.integrated_hessians(y, x, BASELINE, num_steps=80)
        return found, ig.integrated_gradients(y, x, BASELINE, 200)

    found, attributions = as_graph(build, [X], False)
    assert_close(found.transpose(0, 2, 1), found, 1e-12)
    assert_close(found.sum(2), attributions, 1e-8)


def test_what_is_a_sum_over_features_has_none():
    found = interactions(lambda x: tf.reduce_sum(tf.tanh(x) ** 2, 1), num_steps=80)
    gained = np.tanh(X) ** 2 - np.tanh(FLAT) ** 2
    assert_close(found, np.eye(4) * gained[:, None], 1e-7)


def test_chosen_features_and_pairs_are_those_of_all(expected):
    assert_close(interactions(second, pairs=[2, 0], num_steps=80), expected[:, [2, 0]], 1e-8)
    pairs = [(3, 1), (0, 0), (3, 2), (1, 3)]
    found = interactions(second, False, pairs=pairs, num_steps=80)
    assert_close(found, np.stack([expected[:, i, j] for i, j in pairs], 1), 1e-8)


def test_features_of_several_inputs_are_counted_on(expected):
    def traced(x, z):
        y = second(tf.concat([x, tf.reshape(z, [-1, 2])], 1))
        starts = BASELINE[:, :2], {"z": BASELINE[:, None, 2:]}
        return ig.integrated_hessians(y, (x, {"z": z}), starts, num_steps=80)

    assert_close(as_graph(traced, [X[:, :2], X[:, None, 2:]], False), expected, 1e-8)


def test_weights_of_outputs_in_a_session(expected):
    with v1.Graph().as_default(), v1.Session() as session:
        x, weights = v1.placeholder(tf.float64, [None, 4]), v1.placeholder(tf.float64, [None, 3])
        found = ig.integrated_hessians(smooth(x), x, BASELINE, num_steps=80, grad_ys=weights)
        assert_close(session.run(found, {x: X, weights: np.eye(3)[[1, 1, 1]]}), expected, 1e-8)


def test_rows_do_not_know_their_neighbours(expected):
    for i in range(len(X)):
        assert_close(interactions(second, False, X[i : i + 1], num_steps=80), expected[i : i + 1], 1e-8)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(pairs=[4]), "features 4 to 4, expected 0 to 3"),
        (dict(pairs=[-1, 2]), "features -1 to 2, expected 0 to 3"),
        (dict(pairs=[]), r"pairs is \[\]"),
        (dict(pairs=[(0, 1, 2)]), "pairs of such"),
        (dict(pairs=[[0, 1], [2]]), "pairs of such"),
        (dict(pairs=[0.5]), "a list of numbers of features"),
        (dict(pairs="all"), "pairs is 'all'"),
        (dict(beta=0), "beta is 0"),
        (dict(beta=True), "beta is True"),
        (dict(num_steps=0), "num_steps is 0"),
    ],
)
def test_what_names_no_interaction_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        interactions(second, **options)


def test_more_than_memory_holds_is_refused_with_its_size():
    def cubes(x):
        return ig.integrated_hessians(tf.reduce_sum(x**3, 1), x)

    with pytest.raises(ValueError, match="10,000 of 10,000 features have 100,000,000 interactions a row"):
        as_graph(cubes, [np.zeros([1, 10_000])], True)
    traced = tf.function(cubes, input_signature=[tf.TensorSpec([None, None], tf.float32)])
    with pytest.raises(ValueError, match="expected static ones"):
        traced(np.ones([2, 3], np.float32))
