"""Attributions in a SavedModel, in TensorFlow Lite and in TensorBoard: beside the process that built them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from reference import assert_close, randomize

import integrated_gradients_tf as ig

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
assert "integrated_gradients_tf" not in sys.modules
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
