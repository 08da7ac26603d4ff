"""LRP and DeepLIFT."""

import math
import warnings

import numpy as np
import pytest
import tensorflow as tf
from method_networks import (
    ACTIVATIONS,
    BATCHES,
    RNG,
    SMOOTH_OR_NOT,
    STARTS,
    W1,
    W2,
    W3,
    WEIGHTS,
    U,
    X,
    adjoints,
    layers,
    network,
    run,
)
from reference import as_graph, assert_close

import igtf as ig
import igtf.methods as methods


class TestEpsilonLrp:
    def test_a_worked_example(self):
        # z = 2*1 - 1*3 + 0.5 = -0.5, tanh(z) = -0.46212; ratio -0.46212 / (-0.5 - 0.1) = 0.77020
        def build(x):
            z = 2 * x[:, 0] - x[:, 1] + 0.5
            return methods.epsilon_lrp(3 * tf.tanh(z), x, epsilon=0.1)

        assert run(build, [[1.0, 3.0]]).round(4).tolist() == [[4.6212, -6.9318]]

    def test_the_sign_of_zero_is_plus(self):
        # softplus(0) = log 2
        result = run(lambda x: methods.epsilon_lrp(tf.nn.softplus(x - 1), x, epsilon=0.5), [[1.0]])
        assert_close(result, [[math.log(2) / 0.5]], 1e-12)

    @pytest.mark.thin
    @ACTIVATIONS
    @pytest.mark.parametrize("epsilon, static", [(1e-4, True), (0.3, False)])
    def test_values_equal_the_definition_in_numpy(self, activation, epsilon, static):
        f = SMOOTH_OR_NOT[activation][0]
        slopes = [f(z) / (z + epsilon * np.where(z >= 0, 1, -1)) for z in layers(activation, X, U)]
        dx, du = adjoints(slopes)

        def build(x, u):
            y = network(activation, x, u)
            weights = tf.constant(WEIGHTS)
            return (
                methods.epsilon_lrp(y, (x, u), epsilon, weights),
                methods.epsilon_lrp(y, u, epsilon, weights),
            )

        both, one = run(build, X, U, static=static)
        assert_close(both[0], dx * X, 1e-12)
        assert_close(both[1], du * U, 1e-12)
        assert_close(one, du * U, 1e-12)

    def test_epsilon_is_1e_4_unless_given(self):
        result = run(lambda x: methods.epsilon_lrp(tf.sigmoid(x), x), [[0.0001]])
        assert_close(result, [[0.5 / 0.0002 * 0.0001]], 1e-4)

    def test_relu_networks_without_biases_keep_their_output(self):
        def build(x):
            h = tf.nn.max_pool1d(tf.nn.relu(x @ W1)[..., None], 2, 2, "VALID")[..., 0]
            y = tf.nn.relu(h @ W2[:3]) @ W3
            return tf.reduce_sum(methods.epsilon_lrp(y, x, 1e-9), axis=1), tf.reduce_sum(y, axis=1)

        total, output = run(build, X)
        assert_close(total, output, 1e-7)

    @pytest.mark.parametrize("epsilon", [0, -1e-4, math.nan, math.inf, "small", None])
    def test_an_epsilon_that_is_not_positive_is_refused(self, epsilon):
        with pytest.raises(ValueError, match="epsilon_lrp: epsilon is .*, expected a positive number"):
            run(lambda x: methods.epsilon_lrp(x, x, epsilon), X)

    def test_an_op_without_a_rule_is_named_and_differentiated(self):
        def build(x):
            y = tf.nn.softmax(tf.math.erf(tf.nn.relu(x)), name="scores")[:, 0]
            return methods.epsilon_lrp(y, x, epsilon=1e-12), x * tf.gradients(y, x)[0]

        with pytest.warns(
            UserWarning, match=r"(?s)'Erf.*\(Softmax\).*expected.*TensorFlow's gradient is used"
        ):
            result, expected = run(build, abs(X))
        assert_close(result, expected, 1e-9)


class TestDeepLift:
    def test_a_worked_example(self):
        # relu(2*3 - 1 + 1) = 6, relu(2*0 - 4 + 1) = 0: slope 6 / (6 + 3) = 2/3; times 2 * 3 and -1 * -3
        def build(x):
            y = tf.nn.relu(2 * x[:, 0] - x[:, 1] + 1)
            return methods.deeplift(y, x, [[0.0, 4.0]])

        assert_close(run(build, [[3.0, 1.0]]), [[4.0, 2.0]], 1e-12)

    @pytest.mark.thin
    @BATCHES
    @ACTIVATIONS
    def test_values_equal_the_definition_in_numpy(self, activation, static):
        f = SMOOTH_OR_NOT[activation][0]
        ends = zip(layers(activation, X, U), layers(activation, *STARTS))
        dx, du = adjoints([(f(z) - f(z0)) / (z - z0) for z, z0 in ends])

        def build(x, u):
            starts = {"x": STARTS[0], "u": tf.constant(STARTS[1])}
            y = network(activation, x, u)
            return methods.deeplift(y, {"x": x, "u": u}, starts, tf.constant(WEIGHTS))

        result = run(build, X, U, static=static)
        assert_close(result["x"], dx * (X - STARTS[0]), 1e-10)
        assert_close(result["u"], du * (U - STARTS[1]), 1e-10)

    @ACTIVATIONS
    def test_where_input_and_baseline_nearly_meet_it_takes_the_derivative_midway(self, activation):
        change = np.array([1e-5, -9e-6, 3e-6, 0.0, 1.1e-5])
        x = np.array([[0.6e-5, -1e-6, 1e-6, 0.7, 0.4e-5]])
        f, derivative = SMOOTH_OR_NOT[activation]
        with np.errstate(invalid="ignore"):
            slope = np.where(
                abs(change) > 1.05e-5, (f(x) - f(x - change)) / change, derivative(x - change / 2)
            )
        start = x - change
        result = run(lambda x: methods.deeplift(getattr(tf.nn, activation)(x), x, start), x)
        assert_close(result, slope * change, 1e-9)

    def test_zeros_are_the_baseline_unless_given(self):
        none, zero = run(
            lambda x: (methods.deeplift(tf.tanh(x @ W1), x), methods.deeplift(tf.tanh(x @ W1), x, 0)), X
        )
        assert_close(none, zero, 1e-15)
        assert_close(none.sum(1), np.tanh(X @ W1).sum(1), 1e-12)

    @BATCHES
    def test_it_sums_to_the_difference_with_pooling_products_and_softmax(self, static):
        kernel = tf.constant(RNG.normal(size=(3, 3, 1, 4)))
        dense = tf.constant(RNG.normal(size=(36, 4)))

        def conv(x):
            h = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + 0.1)
            h = tf.nn.max_pool2d(h, 2, 2, "SAME")
            h = tf.reshape(h, [-1, 36])
            attention = tf.nn.softmax(h @ dense)
            y = tf.nn.log_softmax(attention * tf.sigmoid(h @ dense[:, ::-1]))
            return y / (1 + tf.reduce_max(tf.maximum(h, 0.3), axis=1, keepdims=True))

        images = RNG.normal(size=(2, 2, 6, 6, 1))

        def build(x, start):
            parts = methods.deeplift(conv(x), x, start)
            return tf.reduce_sum(parts, [1, 2, 3]), tf.reduce_sum(conv(x) - conv(start), axis=1)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            total, change = run(build, *images, static=static)
        assert_close(total, change, 1e-4)

    @BATCHES
    def test_it_goes_back_through_the_rounds_of_a_loop(self, static):
        """Of Keras' LSTM under a mask, which has time before the rows inside."""
        lstm = tf.keras.layers.LSTM(4, return_sequences=True, dtype="float64")
        x, start = RNG.normal(size=(2, 3, 5, 3))
        mask = tf.constant([[True] * 5, [True] * 3 + [False] * 2, [False] + [True] * 4])

        def network(x):
            hidden = lstm(x, mask=tf.logical_and(mask, tf.shape(x)[0] > 0))
            return tf.reduce_sum(tf.reduce_max(tf.reverse(hidden, [1]), 1) ** 2, 1)

        def build(x, start):
            return methods.deeplift(network(x), x, start), network(x) - network(start)

        lstm(tf.zeros([1, 5, 3], tf.float64))  # builds it
        found, change = as_graph(build, [x, start], static)
        assert_close(found.sum((1, 2)), change, 1e-9)

    def test_an_op_without_a_rule_is_named(self):
        with pytest.warns(
            UserWarning, match=r"deeplift: no rule for .*\(Cumprod\).*mean of TensorFlow's gradients"
        ):
            run(lambda x: methods.deeplift(tf.math.cumprod(x), x), [[0.5]])

    def test_baselines_that_do_not_broadcast_are_refused(self):
        with pytest.raises(
            ValueError, match="deeplift: baseline has shape .*5.*expected one that broadcasts"
        ):
            run(lambda x: methods.deeplift(x, x, np.zeros(5)), X)


NORMS = {
    "l2_normalize": lambda x: tf.nn.l2_normalize(x, 1),
    "UnitNormalization": tf.keras.layers.UnitNormalization(),
    "norm": lambda x: x / (tf.norm(x, axis=1, keepdims=True) + 1e-9),
    "inverse root": lambda x: x * tf.math.rsqrt(tf.reduce_sum(x**2, 1, keepdims=True) + 1e-12),
}


@pytest.mark.few(2)
@pytest.mark.parametrize("name", NORMS)
def test_normalization_that_is_huge_at_the_baseline_leaves_single_precision_its_digits(name):
    """The direction does not change on the way from 0: all of the change is that of x itself."""
    x, weights = np.random.RandomState(3).normal(size=(2, 4, 6)).astype(np.float32)
    expected = weights * x / np.linalg.norm(x, axis=1, keepdims=True)

    def run(x):
        y = tf.reduce_sum(NORMS[name](x) * weights, 1)
        few = [ig.integrated_gradients(y, x, num_steps=s, method="secant") for s in (1, 2, 5)]
        return methods.deeplift(y, x), few

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lifted, few = as_graph(run, [x], False)
    np.testing.assert_allclose(lifted, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(few[0], expected, rtol=2e-5, atol=1e-6)
    for found in few:
        np.testing.assert_allclose(found.sum(1), expected.sum(1), rtol=0, atol=5e-5)
