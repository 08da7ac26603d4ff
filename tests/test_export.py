"""Attributions in a SavedModel, in TensorFlow Lite and in TensorBoard: beside the process that built them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from reference import assert_close, randomize

import igtf as ig

v1 = tf.compat.v1
STEPS = 12
X = np.random.default_rng(5).normal(size=(5, 6)).astype("float32")

# Runs where none of this project's files are: each model's signatures on two batch sizes.
LOADER = """
import sys
import numpy as np
import tensorflow as tf

x = np.load("x.npy")
results = {}
for name in sys.argv[1:]:
    loaded = tf.saved_model.load(name)
    assert set(loaded.signatures) == {"serving_default", "explain"}
    for rows in (1, 5):
        for signature in loaded.signatures:
            for key, value in loaded.signatures[signature](x=tf.constant(x[:rows])).items():
                results[f"{name} {rows} {signature} {key}"] = value.numpy()
assert not {"igtf", "integrated_gradients_tf"} & set(sys.modules)
np.savez("results.npz", **results)
"""


def network(keras):
    layers = [keras.Input((6,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(3, "softmax")]
    return randomize(keras.Sequential(layers))


def save_keras(keras, path):
    """Saves a model with two signatures; what they return for `X`."""
    model = network(keras)
    signature = [tf.TensorSpec([None, 6], tf.float32, name="x")]

    @tf.function(input_signature=signature)
    def predict(x):
        return {"prediction": model(x, training=False)}

    @tf.function(input_signature=signature)
    def explain(x):
        ys = model(x, training=False)
        return {"prediction": ys, "attributions": ig.integrated_jacobian(ys, x, num_steps=STEPS)}

    tf.saved_model.save(model, path, {"serving_default": predict, "explain": explain})
    return {key: value.numpy() for key, value in explain(X).items()}


def save_session(path):
    """The same from a `tf.compat.v1` program; its network is one of variables under a scope."""
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(1)
        x = v1.placeholder(tf.float32, [None, 6])
        h = x
        for number, (units, activation) in enumerate([(5, tf.nn.relu), (3, tf.nn.softmax)]):
            w = v1.get_variable(f"w{number}", [h.shape.as_list()[1], units])
            h = activation(h @ w + v1.get_variable(f"b{number}", [units]))
        outputs = {"prediction": h, "attributions": ig.integrated_jacobian(h, x, num_steps=STEPS)}
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(path)
        predict = v1.saved_model.predict_signature_def({"x": x}, {"prediction": h})
        explain = v1.saved_model.predict_signature_def({"x": x}, outputs)
        signatures = {"serving_default": predict, "explain": explain}
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()
        return session.run(outputs, {x: X})


def child(tmp_path, code, *arguments):
    """Runs `code` in a process that has none of this project's files."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", code, *arguments]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]


def test_a_saved_model_explains_in_a_process_without_our_files(tmp_path):
    expected = {"session": save_session(str(tmp_path / "session"))}
    expected["keras"] = save_keras(tf.keras, str(tmp_path / "keras"))
    if tf.keras.__version__ >= "3":
        tf_keras = pytest.importorskip("tf_keras")
        expected["keras2"] = save_keras(tf_keras, str(tmp_path / "keras2"))
    np.save(tmp_path / "x.npy", X)
    child(tmp_path, LOADER, *expected)
    results = np.load(tmp_path / "results.npz")
    assert len(results.files) == len(expected) * 2 * 3
    for name, outputs in expected.items():
        ys, maps = outputs["prediction"], outputs["attributions"]
        assert ys.shape == (5, 3) and maps.shape == (5, 3, 6)
        for rows in (1, 5):
            key = f"{name} {rows}"
            assert_close(results[f"{key} serving_default prediction"], ys[:rows], 1e-6)
            assert_close(results[f"{key} explain prediction"], ys[:rows], 1e-6)
            assert_close(results[f"{key} explain attributions"], maps[:rows], 1e-6)


@pytest.mark.slow
def test_a_saved_model_walks_paths_of_all_kinds(tmp_path):
    weights = tf.Variable(np.random.default_rng(4).normal(size=(6, 5)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None, 6])])
    def explain(x):
        hidden = tf.nn.relu(x @ weights)
        y = tf.reduce_sum(tf.tanh(hidden), 1)
        return {
            "path": ig.path_integrated_gradients(y, x, lambda t: t**2 * x, 5),
            "tolerance": ig.integrated_gradients(y, x, tolerance=0.01),
            "guided": ig.guided_integrated_gradients(y, x, num_steps=5),
            "words": ig.sequential_integrated_gradients(y, x, num_steps=5),
            "unit": ig.neuron_conductance(y, hidden[:, 1], x, num_steps=5),
            "pairs": ig.integrated_hessians(y, x, num_steps=5),
        }

    module = tf.Module()
    module.weights, module.explain = weights, explain
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for rows in (1, 5):
        for name, expected in explain(X[:rows]).items():
            assert_close(loaded.explain(X[:rows])[name], expected, 1e-6)


# TensorFlow Lite ------------------------------------------------------------------------------------


def convert(build, rows, select=False):
    """`build(x)` for `[rows, 6]` as a TensorFlow Lite model, by builtin ops alone or with select ops."""

    @tf.function(input_signature=[tf.TensorSpec([rows, 6], tf.float32, name="x")])
    def explain(x):
        return {"attributions": build(x)}

    concrete, module = explain.get_concrete_function(), tf.Module()
    module.weights = concrete.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    if select:
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
    return converter.convert(), explain(X[:rows])["attributions"].numpy()


def interpret(content):
    return tf.lite.Interpreter(model_content=content).get_signature_runner()


def explanation(activation, method, steps=5):
    rng = np.random.default_rng(4)
    w, b, out = (tf.Variable(rng.normal(size=size).astype("float32")) for size in ((6, 5), (5,), (5, 3)))

    def build(x):
        ys = tf.nn.softmax(activation(tf.nn.bias_add(x @ w, b)) @ out)
        return ig.integrated_jacobian(ys, x, num_steps=steps, method=method)

    return build


@pytest.mark.parametrize(
    "activation, method, rows",
    [
        (tf.nn.relu, "secant", 1),
        (tf.nn.relu, "secant", 5),
        (tf.tanh, "secant", 5),
        (tf.tanh, "gausslegendre", 5),
    ],
)
def test_tensorflow_lite_runs_builtin_ops_alone(activation, method, rows):
    content, expected = convert(explanation(activation, method), rows)
    assert_close(interpret(content)(x=X[:rows])["attributions"], expected, 1e-5)


def test_smooth_networks_keep_an_open_batch_in_tensorflow_lite():
    content, _ = convert(explanation(tf.tanh, "gausslegendre"), None)
    _, expected = convert(explanation(tf.tanh, "gausslegendre"), 5)
    runner = interpret(content)
    for rows in (1, 5):
        assert_close(runner(x=X[:rows])["attributions"], expected[:rows], 1e-5)


def test_gradients_of_relu_need_select_ops_in_tensorflow_lite():
    build = explanation(tf.nn.relu, "gausslegendre")
    with pytest.raises(Exception, match="ReluGrad"):
        convert(build, 5)
    content, expected = convert(build, 5, select=True)
    if tf.__version__.startswith("2.12."):  # whose interpreter has them; the newest one does not
        assert_close(interpret(content)(x=X)["attributions"], expected, 1e-5)


# TensorBoard ----------------------------------------------------------------------------------------


def red_blue(maps):
    strength = tf.math.divide_no_nan(maps, tf.reduce_max(tf.abs(maps), axis=[1, 2], keepdims=True))
    return 1 - tf.nn.relu(tf.stack([-strength, tf.abs(strength), strength], axis=3))


class Watch(tf.keras.callbacks.Callback):
    """Draws the attributions of the first output after every epoch."""

    def __init__(self, writer):
        super().__init__()
        self.writer = writer

    @tf.function
    def draw(self, x, epoch):
        maps = ig.integrated_gradients(self.model(x, training=False)[:, 0], x)
        tf.summary.image("attributions", red_blue(tf.reshape(maps, [-1, 2, 3])), epoch)

    def on_epoch_end(self, epoch, logs=None):
        with self.writer.as_default():
            self.draw(tf.constant(X[:2]), tf.constant(epoch, tf.int64))


def pictures(folder):
    """`{(tag, step): the first picture}` of the event files in a folder."""
    found = {}
    for path in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = v1.Event.FromString(record)
            for value in event.summary.value:
                # TensorBoard's images: width, height and one PNG each.
                png = value.tensor.string_val[2]
                found[value.tag, event.step] = tf.io.decode_png(png).numpy()
    return found


def test_tensorboard_shows_attributions_from_the_training_graph_and_from_a_callback(tmp_path):
    pytest.importorskip("tensorboard")  # tf.summary.image is part of it
    model = network(tf.keras)
    x, labels = tf.constant(X), tf.constant([0, 1, 2, 0, 1])
    w = tf.Variable([[1.0], [-2.0], [0.0], [4.0], [0.0], [0.0]])
    optimizer = tf.keras.optimizers.SGD(0.0)
    writer = tf.summary.create_file_writer(str(tmp_path / "graph"))

    @tf.function
    def step(x, number):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(x @ w))
        optimizer.apply_gradients([(tape.gradient(loss, w), w)])
        maps = ig.integrated_gradients((x @ w)[:, 0], x)
        tf.summary.image("attributions", red_blue(tf.reshape(maps, [-1, 2, 3])), number)

    with writer.as_default():
        for number in range(3):
            step(tf.ones_like(x), tf.constant(number, tf.int64))
    writer.flush()
    drawn = pictures(tmp_path / "graph")
    assert sorted(drawn) == [("attributions", number) for number in range(3)]
    # Attributions of ones are the weights: 1, -2, 0 | 4, 0, 0.
    white, red = [255, 255, 255], [255, 0, 0]
    expected = [[[255, 191, 191], [128, 128, 255], white], [red, white, white]]
    np.testing.assert_allclose(drawn["attributions", 0], expected, atol=1)

    writer = tf.summary.create_file_writer(str(tmp_path / "callback"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, labels, epochs=2, verbose=0, callbacks=[Watch(writer)])
    writer.flush()
    drawn = pictures(tmp_path / "callback")
    assert sorted(drawn) == [("attributions", 0), ("attributions", 1)]
    assert (drawn["attributions", 0] != 255).any()
