"""The same ops on other values: frozen graphs, and layers that lose what their gradients need."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, midpoints, tape_gradients
from shared_networks import METHODS, explain, inputs, weights

import igtf as ig
from igtf.traversal import ops_between

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


@pytest.mark.few(3)
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


# A maximum that never acts --------------------------------------------------------------------------

CLIPPED = {  # how often Maximum is in the replay
    "from 0 to 2": (lambda z: tf.maximum(tf.minimum(tf.nn.relu(z), 2), 0), 0),
    "above -1": (lambda z: tf.maximum(tf.nn.relu(z), -1), 0),
    "above 0.3": (lambda z: tf.maximum(tf.minimum(tf.nn.relu(z), 2), 0.3), 1),
    "down to -1 and up again": (lambda z: tf.maximum(tf.minimum(tf.nn.relu(z), -1) + z, 0), 1),
    "below something below 0": (lambda z: tf.maximum(tf.minimum(tf.nn.relu(z), -0.5), 0) + z, 1),
    "of a sigmoid": (lambda z: tf.maximum(tf.tanh(z), 0), 1),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("name", CLIPPED)
def test_a_maximum_with_what_is_never_above_is_left_out(name):
    clip, count = CLIPPED[name]
    x = 2 * inputs(6, 12)[0]

    def network(x):
        return tf.reduce_sum(tf.sin(clip(tf.matmul(x, weights(12, 16)))), 1)

    def build(x):
        again = ig.graph_replace(network(x), x, 3 * x)
        made = [op.type for op in ops_between([again], [x])]
        assert made.count("Maximum") == count
        return again, network(3 * x), ig.integrated_gradients(network(x), x, num_steps=200, method="secant")

    again, expected, found = as_graph(build, [x], False)
    np.testing.assert_allclose(again, expected, rtol=1e-12)
    (exact,) = brute_force(tape_gradients(network), [x], [0.0], midpoints(4000))
    assert_close(found, exact, 2e-3)


# Layer normalization of Keras 2 ---------------------------------------------------------------------


@pytest.mark.few(1)
@pytest.mark.parametrize("static", [True, False], ids=["static", "open"])
@pytest.mark.parametrize("shape", [(6,), (3, 2)])
def test_layer_normalization_of_keras_2_is_that_by_hand(shape, static):
    keras = pytest.importorskip("tf_keras")
    scale, kernel = np.linspace(0.5, 2, shape[-1]), weights(shape[-1], 4, seed=8)
    layer = keras.layers.LayerNormalization(epsilon=1e-3, dtype="float64")
    layer.build([None, *shape])
    layer.set_weights([scale, scale - 1])

    def by_hand(z):
        mean = tf.reduce_mean(z, axis=-1, keepdims=True)
        variance = tf.reduce_mean((z - mean) ** 2, axis=-1, keepdims=True)
        return (z - mean) / tf.sqrt(variance + 1e-3) * scale + (scale - 1)

    def run(x, baseline):
        found = []
        for normalize in (layer, by_hand):
            y = tf.reduce_sum(tf.nn.relu(normalize(x) @ kernel - 0.1), axis=[*range(1, len(shape) + 1)])
            found += [
                ig.integrated_gradients(y, x, baseline, num_steps=n, method=method)
                for n, method in ((50, "secant"), (400, "gausslegendre"))
            ]
        return found

    x, baseline = np.random.RandomState(3).normal(size=(2, 5, *shape))
    (secant, gauss, by_hand_secant, by_hand_gauss) = as_graph(run, [x, baseline], static)
    assert_close(secant, by_hand_gauss, 1e-2)
    assert_close(secant, by_hand_secant, 5e-3)
    assert_close(gauss, by_hand_gauss, 1e-9)


def test_a_function_that_is_called_by_its_name_is_written_out():
    """As swish is in frozen graphs of TensorFlow 1."""
    x = np.random.RandomState(0).normal(size=(3, 4))
    swish = tf.function(lambda x: x * tf.sigmoid(x)).get_concrete_function(
        tf.TensorSpec([None, 4], "float64")
    )
    definition = tf.compat.v1.GraphDef(versions=swish.graph.as_graph_def().versions)
    definition.library.function.add().CopyFrom(swish.function_def)
    node = definition.node.add(name="x", op="Placeholder")
    node.attr["dtype"].type = tf.float64.as_datatype_enum
    definition.node.add(name="y", op=swish.function_def.signature.name, input=["x"])
    for method in ("secant", "gausslegendre"):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            feed = tf.compat.v1.placeholder(tf.float64, [None, 4])
            (y,) = tf.import_graph_def(definition, {"x": feed}, ["y:0"])
            y.set_shape([None, 4])
            found = session.run(
                ig.integrated_gradients(tf.nn.relu(y + 0.1), feed, num_steps=20, method=method), {feed: x}
            )
        change = np.maximum(x / (1 + np.exp(-x)) + 0.1, 0) - 0.1
        assert_close(found, change, 1e-10 if method == "secant" else 0.05)


@pytest.mark.skipif(tf.__version__.startswith("2.12"), reason="its loops update in place, without a gradient")
def test_a_ctc_loss_is_explained():
    """Whose loops call functions by their names."""
    x = np.random.RandomState(0).normal(size=(3, 8, 5)).astype(np.float32)

    def loss(x):
        rows = tf.shape(x)[0]
        labels, sizes = tf.tile([[1, 2, 2]], [rows, 1]), [tf.fill([rows], size) for size in (3, 8)]
        return tf.nn.ctc_loss(labels, tf.transpose(x, [1, 0, 2]), *sizes, blank_index=0)

    change = (loss(x) - loss(0 * x)).numpy()
    for static in (True, False):
        found = as_graph(
            lambda x: ig.integrated_gradients(loss(x), x, num_steps=3, method="secant"), [x], static
        )
        assert_close(found.sum((1, 2)), change, 1e-4)
