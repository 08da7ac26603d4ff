"""Every kind of graph and network that people bring, beside brute force and completeness."""

import json
import os
import subprocess
import sys

import legacy_graphs
import numpy as np
import pytest
import tensorflow as tf
from reference import (
    as_graph,
    assert_close,
    brute_force,
    gauss_legendre,
    midpoints,
    randomize,
    tape_gradients,
)

import integrated_gradients_tf as ig

v1 = tf.compat.v1
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
RNG = np.random.default_rng(11)
W, U, OUT = (RNG.normal(scale=0.6, size=size) for size in ((3, 4), (4, 4), (4, 3)))
FLAG = tf.Variable(True)


# Networks -------------------------------------------------------------------------------------------


def sequence(*layers):
    """A Keras model as a function of the Keras module to take it from."""

    def make(keras, shape):
        return keras.Sequential([keras.Input(shape), *(layer(keras.layers) for layer in layers)])

    return make


def residual(keras, shape):
    x = keras.Input(shape)
    h = keras.layers.Conv2D(2, 3, padding="same", activation="relu")(x)
    h = keras.layers.ReLU()(keras.layers.Add()([h, x]))
    return keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(h)))


def attention(keras, shape):
    x = keras.Input(shape)
    h = keras.layers.MultiHeadAttention(2, 3)(x, x)
    h = keras.layers.LayerNormalization()(keras.layers.Add()([h, x]))
    return keras.Model(x, keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling1D()(h)))


def condition(x):
    h = tf.nn.relu(x @ W)
    h = tf.cond(FLAG, lambda: tf.tanh(h @ U), lambda: h)
    return tf.nn.softmax(h @ OUT)


def while_loop(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, h: (i + 1, tf.tanh(h @ U)), (0, x @ W))[1] @ OUT


def map_fn(x):
    return tf.map_fn(lambda row: tf.nn.relu(tf.linalg.matvec(U, row)) * row, x @ W) @ OUT


def time_major(x):
    x = tf.transpose(x, [1, 0, 2])
    h = tf.zeros_like(x[0]) @ W
    for step in tf.unstack(x):
        h = tf.tanh(step @ W + h @ U)
    return h @ OUT


def time_major_scan(x):
    x = tf.transpose(x, [1, 0, 2])
    h = tf.scan(lambda h, step: tf.tanh(step @ W + h @ U), x, tf.zeros_like(x[0]) @ W)
    return h[-1] @ OUT


def time_major_relu(x):
    h = tf.nn.relu(tf.tensordot(tf.tanh(tf.transpose(x, [1, 0, 2])), W, 1))
    return tf.reduce_sum(h**2, axis=0) @ OUT


def rows_times_steps(x):
    h = tf.nn.relu(tf.reshape(tf.tanh(x), [-1, 3]) @ W)
    return tf.reshape(h**2, [-1, x.shape[1] * 4]) @ np.tile(OUT, (x.shape[1], 1))


def log_sum_exp(x):
    h = tf.tanh(x @ W)
    return tf.stack([tf.reduce_logsumexp(h * c, axis=1) for c in (1, 2, 3)], axis=1)


# name -> (shape of a row, model of Keras, whether secant is complete at any number of steps)
KERAS = {
    "LSTM": ((3, 3), sequence(lambda k: k.LSTM(3), lambda k: k.Dense(3)), False),
    "unrolled LSTM": ((3, 3), sequence(lambda k: k.LSTM(3, unroll=True), lambda k: k.Dense(3)), True),
    "GRU": ((3, 3), sequence(lambda k: k.GRU(3), lambda k: k.Dense(3)), False),
    "attention": ((4, 6), attention, True),
    "residual": ((5, 5, 2), residual, True),
    "batch norm": (
        (6, 6, 2),
        sequence(
            lambda k: k.Conv2D(3, 3, use_bias=False),
            lambda k: k.BatchNormalization(),
            lambda k: k.ReLU(),
            lambda k: k.MaxPooling2D(),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3, "softmax"),
        ),
        True,
    ),
    "depthwise": (
        (5, 5, 2),
        sequence(
            lambda k: k.DepthwiseConv2D(3, padding="same", activation="relu"),
            lambda k: k.AveragePooling2D(2),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3, "tanh"),
        ),
        True,
    ),
    "separable": (
        (5, 5, 2),
        sequence(
            lambda k: k.SeparableConv2D(3, 3, activation="relu"),
            lambda k: k.GlobalMaxPooling2D(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "dilated": (
        (7, 7, 2),
        sequence(
            lambda k: k.Conv2D(3, 3, dilation_rate=2, padding="same", activation="relu"),
            lambda k: k.Conv2D(2, 3, dilation_rate=2, activation="relu"),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "transposed": (
        (4, 4, 2),
        sequence(
            lambda k: k.Conv2D(3, 3, padding="same", activation="relu"),
            lambda k: k.Conv2DTranspose(2, 3, strides=2, padding="same", activation="relu"),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "TimeDistributed": (
        (4, 3),
        sequence(
            lambda k: k.TimeDistributed(k.Dense(4, "relu")),
            lambda k: k.TimeDistributed(k.Dense(2, "tanh")),
            lambda k: k.Flatten(),
            lambda k: k.Dense(3),
        ),
        True,
    ),
    "swish": (
        (4,),
        sequence(lambda k: k.Dense(4, "swish"), lambda k: k.Dense(4, "swish"), lambda k: k.Dense(3)),
        True,
    ),
    "gelu and elu": (
        (4,),
        sequence(lambda k: k.Dense(4, "gelu"), lambda k: k.Dense(4, "elu"), lambda k: k.Dense(3)),
        True,
    ),
}

# name -> (shape of a row, function, whether secant is complete at any number of steps)
PLAIN = {
    "cond": ((3,), condition, False),
    "while_loop": ((3,), while_loop, False),
    "map_fn": ((3,), map_fn, False),
    "time-major recurrence": ((3, 3), time_major, True),
    "time-major scan": ((3, 3), time_major_scan, False),
    "time-major ReLU": ((4, 3), time_major_relu, True),
    "as many steps as rows": ((3, 3), time_major_relu, True),
    "rows times steps": ((4, 3), rows_times_steps, True),
    "log-sum-exp": ((3,), log_sum_exp, True),
}


@pytest.fixture
def float64():
    """Keras layers made in float64."""
    before = tf.keras.backend.floatx()
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx(before)


def check(network, shape, complete, static, rows=3, steps=4):
    """Gauss-Legendre equals brute force; secant is complete, or tends to be."""
    rng = np.random.default_rng(5)
    x, baseline = rng.normal(size=(rows, *shape)), 0.3 * rng.normal(size=(1, *shape))

    def output(x):
        return network(x)[:, 1]

    def build(x):
        y = output(x)
        return [
            ig.integrated_gradients(y, x, baseline, steps, "gausslegendre", max_rows=2 * rows),
            ig.integrated_gradients(y, x, baseline, steps if complete else 40, "secant", max_rows=4 * rows),
        ]

    gauss, secant = as_graph(build, [x], static)
    gradients = tape_gradients(output)
    assert_close(gauss, brute_force(gradients, [x], [baseline], gauss_legendre(steps))[0], 1e-10)
    start = np.broadcast_to(baseline, x.shape)
    change = (output(tf.constant(x)) - output(tf.constant(start))).numpy()
    assert_close(secant.reshape(rows, -1).sum(axis=1), change, 1e-10 if complete else 2e-2)
    fine = brute_force(gradients, [x], [baseline], midpoints(60))[0]
    assert np.abs(secant - fine).sum() <= (0.3 if complete else 0.05) * np.abs(fine).sum()


class TestNetworks:
    @BATCHES
    @pytest.mark.parametrize("name", KERAS)
    def test_a_keras_network_is_explained(self, name, static, float64):
        shape, make, complete = KERAS[name]
        check(randomize(make(tf.keras, shape)), shape, complete, static)

    @BATCHES
    @pytest.mark.parametrize("name", ["LSTM", "batch norm", "attention", "TimeDistributed", "swish"])
    def test_a_keras_2_network_is_explained(self, name, static):
        keras = pytest.importorskip("tf_keras")
        shape, make, complete = KERAS[name]
        keras.backend.set_floatx("float64")
        try:
            check(randomize(make(keras, shape)), shape, complete, static)
        finally:
            keras.backend.set_floatx("float32")

    @BATCHES
    @pytest.mark.parametrize("name", PLAIN)
    def test_plain_tensorflow_is_explained(self, name, static):
        shape, network, complete = PLAIN[name]
        check(network, shape, complete, static)

    @BATCHES
    def test_a_module_is_explained(self, static):
        class Network(tf.Module):
            def __init__(self):
                super().__init__()
                self.w, self.out = tf.Variable(W), tf.Variable(OUT)

            @tf.function
            def __call__(self, x):
                return tf.nn.softmax(tf.nn.relu(x @ self.w) @ self.out)

        check(Network(), (3,), True, static)


class TestSessions:
    @BATCHES
    @pytest.mark.parametrize("resource", [True, False], ids=["resource variables", "reference variables"])
    @pytest.mark.parametrize("name", legacy_graphs.NETWORKS)
    def test_a_v1_graph_is_explained(self, name, resource, static):
        self.check(legacy_graphs.explain(name, resource, static), resource)

    @BATCHES
    @pytest.mark.parametrize("resource", [True, False], ids=["resource variables", "reference variables"])
    @pytest.mark.parametrize("name", legacy_graphs.NETWORKS)
    def test_a_program_without_v2_behavior_is_explained(self, legacy, name, resource, static):
        self.check(legacy["explained"][f"{name} {resource} {static}"], resource)

    def test_a_v1_while_loop_is_refused_with_the_way_out(self, legacy):
        message = legacy["while_loop"]
        assert (
            "Enter" in message and "enable_control_flow_v2" in message and "linear_interpolation" in message
        )

    @staticmethod
    def check(result, resource):
        assert isinstance(result, dict), result
        assert result["variables"] == ["VarHandleOp" if resource else "VariableV2"]
        assert_close(result["gausslegendre"], result["expected"], 1e-10)
        # The rule for a branch of v1 control flow is exact, too: its ops are replayed one by one.
        assert_close(result["secant"], result["change"], 1e-10)

    @pytest.fixture(scope="class")
    def legacy(self):
        script = os.path.join(os.path.dirname(__file__), "legacy_graphs.py")
        done = subprocess.run(
            [sys.executable, script], capture_output=True, text=True, timeout=300, env=os.environ
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])
