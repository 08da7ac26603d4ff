"""Secant beside its definition, by hand in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from reference import (
    NUMPY,
    any_batch,
    in_function,
    in_session,
    integrate,
    mlp,
    normal,
    numpy_mlp,
    random_weights,
)
from shared_networks import explain, inputs, secant, weights

from igtf.points import Points


@pytest.fixture(params=[in_session, in_function])
def run(request):
    return request.param


TIME = normal(3, 5, seed=30), normal(5, 5, seed=31) / 3


def recurrent(steps):
    h = 0.0
    for step in steps:
        h = tf.nn.relu(step @ TIME[0] + (h @ TIME[1] if step is not steps[0] else 0.0) + 0.1)
    return tf.reduce_sum(h, axis=1)


def time_major(z):
    return recurrent(tf.unstack(tf.transpose(z, [1, 0, 2])))


def batch_major(z):
    return recurrent([z[:, t] for t in range(4)])


class TestSecant:
    @pytest.fixture
    def even(self, monkeypatch):
        """Points at even places, whatever the network says."""
        monkeypatch.setattr(Points, "_find", lambda self: None)

    @pytest.mark.thin(2)
    @pytest.mark.parametrize("num_steps", [1, 2, 7])
    @pytest.mark.parametrize("activation", NUMPY)
    def test_it_backpropagates_with_the_slope_of_every_unit_over_every_interval(
        self, run, num_steps, activation, even
    ):
        w0, b0, w1, b1, w2, _ = random_weights(6, 9, 7, 1, seed=8)
        x, baseline = normal(4, 6), normal(4, 6, seed=2)
        f = NUMPY[activation][0]

        def network(z):
            g = getattr(tf.nn, activation)
            return g(g(z @ w0 + b0) @ w1 + b1) @ w2

        expected = 0
        for k in range(num_steps):
            ends = [baseline + alpha * (x - baseline) for alpha in (k / num_steps, (k + 1) / num_steps)]
            z = [end @ w0 + b0 for end in ends]
            y = [f(end) @ w1 + b1 for end in z]
            inner = (f(z[1]) - f(z[0])) / (z[1] - z[0])
            outer = (f(y[1]) - f(y[0])) / (y[1] - y[0])
            expected += (((outer * w2[:, 0]) @ w1.T * inner) @ w0.T) * (x - baseline) / num_steps
        found = run(lambda x, b: secant(network, x, num_steps, b), x, baseline)
        np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_it_converges_to_integrated_gradients_with_order_two(self, even):
        weights, x = random_weights(5, 8, 3, seed=4), normal(2, 5)
        exact = integrate(lambda z: numpy_mlp(z, weights, "tanh")[1][1], x, 0 * x, "gausslegendre", 60)

        def build(x):
            return [secant(lambda z: mlp(z, weights, "tanh")[:, 1], x, n) for n in (16, 32, 64)]

        errors = np.abs(np.array(in_function(build, x)) - exact).max((1, 2))
        np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2, atol=0.15)

    NETWORKS = {
        "stacked": lambda z: mlp(tf.reshape(z, [-1, 12]), random_weights(12, 9, 3), "relu")[:, 1],
        "time-major": lambda z: time_major(z),
        "rows times time": lambda z: tf.reduce_max(
            tf.reshape(tf.nn.relu(tf.reshape(z, [-1, 3]) @ TIME[0]), [-1, 4, 5]), axis=[1, 2]
        ),
        "pooled": lambda z: tf.reduce_sum(
            tf.nn.softmax(tf.nn.max_pool1d(tf.nn.relu(z - 0.2), 2, 1, "SAME") * z)[:, :, 0], axis=1
        ),
        "norm": lambda z: tf.norm(tf.nn.relu(tf.einsum("btf,fu->btu", z, TIME[0])), axis=[1, 2]),
        "function call": lambda z: tf.function(lambda z: tf.reduce_sum(tf.nn.relu(z - 0.3) * z, [1, 2]))(z),
    }

    @pytest.mark.few(4)
    @pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
    @pytest.mark.parametrize("shape", [any_batch, lambda a: list(a.shape)], ids=["any batch", "static"])
    def test_it_is_complete_by_construction(self, run, network, shape):
        x, b = normal(5, 4, 3), normal(5, 4, 3, seed=2)
        found, end, start = run(
            lambda x, b: (secant(network, x, 3, b), network(x), network(b)), x, b, shape=shape
        )
        assert found.shape == x.shape
        np.testing.assert_allclose(found.sum((1, 2)), end - start, atol=1e-13)

    @pytest.mark.few(2)
    @pytest.mark.parametrize("rows", [1, 4])
    def test_time_major_networks_give_what_batch_major_ones_give(self, run, rows):
        x = normal(rows, 4, 3)
        found, expected = run(lambda x: [secant(net, x, 3) for net in (time_major, batch_major)], x)
        np.testing.assert_allclose(found, expected, atol=1e-13)


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
