"""SavedModels that explain: beside the Explainer, in a process without our files, with wrong requests."""

import doctest
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from reference import ONE_KERAS, assert_close, randomize

from igtf import Explainer
from igtf.serving import save_explained

RNG = np.random.default_rng(3)
X = RNG.normal(size=(5, 6)).astype("float32")
BASELINE = RNG.normal(size=(1, 6)).astype("float32")
STACK = RNG.normal(size=(3, 1, 6)).astype("float32")
STEPS = 12

# Runs where none of this project's files are: each signature of each model, on two numbers of rows.
LOADER = """
import sys
import numpy as np
import tensorflow as tf

x, baseline = np.load("x.npy"), np.load("baseline.npy")
results = {}
for name in sys.argv[1:]:
    loaded = tf.saved_model.load(name)
    for rows in (1, 5):
        for signature, run in loaded.signatures.items():
            against = dict(baseline=tf.constant(baseline)) if signature == "explain_against" else {}
            for key, value in run(inputs=tf.constant(x[:rows]), **against).items():
                results[f"{name} {rows} {signature} {key}"] = value.numpy()
    for wrong in (baseline[:, :5], baseline[:, :1], np.repeat(baseline, 2, 0), baseline[0]):
        try:
            loaded.signatures["explain_against"](inputs=tf.constant(x), baseline=tf.constant(wrong))
        except Exception as error:
            print(f"refused {wrong.shape}", type(error).__name__)
assert not {"igtf", "integrated_gradients_tf"} & set(sys.modules)
np.savez("results.npz", **results)
"""


def network(keras):
    layers = [keras.Input((6,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(3, "softmax")]
    return randomize(keras.Sequential(layers))


@pytest.fixture(scope="module")
def model():
    return network(tf.keras)


@pytest.fixture(scope="module")
def save(model, tmp_path_factory):
    """A function that saves the model with some options: what is loaded again, its folder, the metadata."""

    def saved(**options):
        path = tmp_path_factory.mktemp("saved")
        metadata = save_explained(options.pop("model", model), path, **options)
        return tf.saved_model.load(str(path)).signatures, path, metadata

    return saved


@pytest.fixture(scope="module")
def chosen(save):
    """With a stored baseline, of the class that the request names."""
    return save(baselines=BASELINE, targets="chosen", num_steps=STEPS)


def ask(signature, rows=X, targets=-1, **more):
    reply = signature(inputs=tf.constant(rows), targets=tf.constant([targets]), **more)
    return {name: value.numpy() for name, value in reply.items()}


@ONE_KERAS
def test_a_saved_model_explains_in_a_process_without_our_files(keras, tmp_path):
    models = {"saved": network(keras)}
    for name, one in models.items():
        save_explained(one, tmp_path / name, BASELINE, num_steps=STEPS)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "baseline.npy", BASELINE)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", LOADER, *models]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    for shape in ("(1, 5)", "(1, 1)", "(2, 6)", "(6,)"):
        assert run.stdout.count(f"refused {shape}") == len(models), run.stdout
    results = np.load(tmp_path / "results.npz")
    for name, one in models.items():
        options = dict(baselines=BASELINE, return_delta=True, return_error=True, progress=False)
        maps, delta, error = Explainer(one, num_steps=STEPS).explain(X, **options)
        wanted = {"prediction": one(X).numpy(), "attributions": maps}
        wanted["targets"] = wanted["prediction"].argmax(1)
        for rows in (1, 5):
            assert_close(results[f"{name} {rows} serving_default prediction"], one(X[:rows]), 1e-6)
            for signature in ("explain", "explain_against"):
                for key, values in wanted.items():
                    assert_close(results[f"{name} {rows} {signature} {key}"], values[:rows], 1e-5)
                for key, values in {"delta": delta, "error": error}.items():
                    found = results[f"{name} {rows} {signature} {key}"]
                    np.testing.assert_allclose(found, values[:rows], rtol=1e-3, atol=1e-6)
        assert len([key for key in results.files if key.startswith(f"{name} ")]) == 2 * (1 + 2 * 5)


@pytest.mark.parametrize("targets", [-1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_class_is_that_of_the_request_or_the_predicted_one(chosen, model, targets):
    signatures, _, _ = chosen
    classes = model(X).numpy().argmax(1) if targets < 0 else np.full(len(X), targets)
    expected = Explainer(model, num_steps=STEPS).explain(X, classes, BASELINE, progress=False)
    reply = ask(signatures["explain"], targets=targets)
    np.testing.assert_array_equal(reply["targets"], classes)
    assert_close(reply["attributions"], expected, 1e-6)
    other = RNG.normal(size=X.shape).astype("float32")  # one for each row
    expected = Explainer(model, num_steps=STEPS).explain(X, classes, other, progress=False)
    reply = ask(signatures["explain_against"], targets=targets, baseline=tf.constant(other))
    assert_close(reply["attributions"], expected, 1e-6)


def test_each_row_has_its_own_class(chosen, model):
    classes = np.array([2, -1, 0, 1, -1], np.int32)
    reply = chosen[0]["explain"](inputs=tf.constant(X), targets=tf.constant(classes))
    wanted = np.where(classes < 0, model(X).numpy().argmax(1), classes)
    np.testing.assert_array_equal(reply["targets"], wanted)
    expected = Explainer(model, num_steps=STEPS).explain(X, wanted, BASELINE, progress=False)
    assert_close(reply["attributions"], expected, 1e-6)


# A request: what is wrong, and what the answer says.
WRONG = {
    "a class that is not there": (dict(targets=3), "expected class numbers below 3"),
    "classes of other rows": (dict(targets=[0, 1]), "targets has.*expected 1 or"),
    "narrow rows": (dict(inputs=X[:, :5]), "5"),
    "rows that would broadcast": (dict(inputs=X[:, :1]), "1"),
    "a baseline of fewer features": (dict(baseline=BASELINE[:, :5]), "5"),
    "a baseline that would broadcast": (dict(baseline=BASELINE[:, :1]), "1"),
    "a baseline without rows": (dict(baseline=BASELINE[0]), "6"),
    "baselines of other rows": (dict(baseline=X[:2]), "the baseline has.*expected 1 or"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_requests_are_refused(chosen, wrong):
    changed, words = WRONG[wrong]
    request = {"inputs": X, "targets": -1, "baseline": BASELINE, **changed}
    request["targets"] = np.int32(request["targets"]).reshape(-1)
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError, TypeError), match=f"(?s){words}"):
        chosen[0]["explain_against"](**{name: tf.constant(value) for name, value in request.items()})


def test_a_server_that_feeds_a_session_gets_the_same_and_the_same_refusals(chosen, model):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        found = v1.saved_model.load(session, ["serve"], str(chosen[1])).signature_def["explain_against"]
        fed = {name: tensor.name for name, tensor in found.inputs.items()}
        request = {"inputs": X, "targets": np.int32([-1]), "baseline": BASELINE}
        wanted = found.outputs["attributions"].name
        maps = session.run(wanted, {fed[name]: value for name, value in request.items()})
        for wrong in (BASELINE[:, :1], BASELINE[:, :5], X[:2]):
            request["baseline"] = wrong
            with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
                session.run(wanted, {fed[name]: value for name, value in request.items()})
    classes = model(X).numpy().argmax(1)
    assert_close(maps, Explainer(model, num_steps=STEPS).explain(X, classes, BASELINE, progress=False), 1e-6)


def test_every_class_is_explained_with_its_own_delta_and_error(save, model):
    signatures, _, metadata = save(targets="all", num_steps=STEPS, baselines=STACK)
    reply = signatures["explain"](inputs=tf.constant(X))
    options = dict(baselines=STACK, return_delta=True, return_error=True, progress=False)
    wanted = Explainer(model, num_steps=STEPS).explain(X, "all", **options)
    for name, values in zip(("attributions", "delta", "error"), wanted):
        assert reply[name].shape == values.shape
        np.testing.assert_allclose(reply[name], values, rtol=1e-4, atol=2e-6)
    assert metadata["baselines"]["inputs"]["values"] == STACK.tolist()
    assert "targets" not in reply


@pytest.mark.parametrize(
    "method, options, replied",
    [
        ("saliency", {}, set()),
        pytest.param("deeplift", {"baselines": STACK}, {"delta"}, marks=pytest.mark.slow),
        ("occlusion", {"targets": "all", "baselines": STACK}, set()),
        ("integrated_gradients", {"tolerance": 0.02, "logits": True}, {"delta", "error"}),
        pytest.param(
            *("layer_conductance", {"layer": 0, "targets": 1}, {"delta", "error"}), marks=pytest.mark.slow
        ),
    ],
)
def test_any_method_gives_what_the_explainer_gives(save, model, method, options, replied):
    signatures, _, _ = save(method=method, **options)
    assert ("explain_against" in signatures) == (method != "saliency")
    reply = signatures["explain"](inputs=tf.constant(X))
    targets, baselines = (options.pop(name, None) for name in ("targets", "baselines"))
    expected = Explainer(model, method, **options).explain(X, targets, baselines, progress=False)
    assert_close(reply["attributions"], expected, 1e-5)
    assert set(reply) - {"prediction", "attributions", "targets"} == replied
    if options.get("tolerance"):
        assert reply["error"].numpy().max() <= options["tolerance"]


def test_several_inputs_and_outputs_are_asked_for_and_answered_by_name(save):
    layers = tf.keras.layers
    left, right = layers.Input((2,), name="left"), layers.Input((4,), name="right")
    h = layers.Concatenate()([left, layers.Dense(3, "tanh")(right)])
    outputs = {"kind": layers.Dense(3, name="kind")(h), "size": layers.Dense(1, name="size")(h)}
    both = randomize(tf.keras.Model({"left": left, "right": right}, outputs))
    signatures, _, metadata = save(model=both, targets={"kind": 2}, num_steps=STEPS)
    inputs = {"left": X[:, :2], "right": X[:, 2:]}
    reply = signatures["explain"](**{name: tf.constant(value) for name, value in inputs.items()})
    expected = Explainer(both, num_steps=STEPS).explain(inputs, {"kind": 2}, progress=False)
    for name, values in expected.items():
        assert_close(reply[f"attributions_{name}"], values, 1e-6)
    assert_close(reply["size"], both(inputs)["size"], 1e-6)
    asked = metadata["signatures"]["explain_against"]["inputs"]
    assert list(asked) == ["left", "right", "baseline_left", "baseline_right"]


def test_callables_and_tables_are_saved_with_what_they_read(save):
    class Words(tf.Module):
        def __init__(self):
            super().__init__()
            keys, values = tf.constant(["a", "b"]), tf.constant([1.0, 2.0])
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)
            self.scale = tf.Variable(3.0)

        def __call__(self, inputs):
            return self.scale * self.table.lookup(inputs["word"]) * inputs["x"][:, 0]

    specs = {"word": tf.TensorSpec([None], tf.string), "x": tf.TensorSpec([None, 1], tf.float32)}
    signatures, _, _ = save(model=Words(), input_signature=specs)
    reply = signatures["explain"](word=tf.constant(["b", "c"]), x=tf.constant([[5.0], [7.0]]))
    np.testing.assert_allclose(reply["attributions_x"], [[30.0], [0.0]], rtol=1e-5)
    assert "attributions_word" not in reply


def test_a_model_of_a_fixed_number_of_rows_is_served_for_that_many(save):
    fixed = randomize(
        tf.keras.Sequential([tf.keras.Input(batch_shape=(5, 6)), tf.keras.layers.Dense(3)])
        if tf.keras.__version__ >= "3"
        else tf.keras.Sequential([tf.keras.Input((6,), 5), tf.keras.layers.Dense(3)])
    )
    signatures, _, metadata = save(model=fixed, targets=1)
    assert metadata["signatures"]["explain"]["inputs"]["inputs"]["shape"] == [5, 6]
    reply = signatures["explain"](inputs=tf.constant(X))
    assert_close(reply["attributions"], X * fixed.get_weights()[0][:, 1], 1e-5)


def test_the_metadata_tell_how_it_was_made(chosen):
    _, path, metadata = chosen
    file = path / "assets" / "explanation_metadata.json"
    assert json.loads(file.read_text("utf-8")) == metadata
    assert metadata["method"] == "integrated_gradients" and metadata["options"] == {"num_steps": STEPS}
    assert metadata["baselines"]["inputs"]["shape"] == [1, 1, 6]
    explain = metadata["signatures"]["explain"]
    assert explain["inputs"] == {
        "inputs": {"shape": [None, 6], "dtype": "float32"},
        "targets": {"shape": [None], "dtype": "int32"},
    }
    assert set(explain["outputs"]) == {"prediction", "attributions", "targets", "delta", "error"}


BARE = tf.function(lambda x: x)
# Arguments, the error, and how it begins.
REFUSED = [
    (dict(targets="predict"), ValueError, "save_explained: targets has 'predict'.*'predicted'"),
    (dict(targets=None), ValueError, "save_explained: targets has None"),
    (dict(targets=1.5), ValueError, "save_explained: targets has 1.5"),
    (dict(targets=np.array([0, 1])), ValueError, "save_explained: targets has array"),
    (dict(targets=3), ValueError, "targets is 3, expected class numbers from 0 to 2"),
    (dict(targets={"kind": 1}), ValueError, "targets has the key 'kind'"),
    (dict(baselines="mean"), ValueError, "save_explained: baselines is 'mean', expected numbers"),
    (dict(baselines=np.mean), ValueError, "save_explained: baselines is .*expected numbers"),
    (dict(baselines=X), ValueError, r"baselines have shape \(5, 6\).*expected a scalar"),
    (dict(baselines=BASELINE[:, :5]), ValueError, r"baselines have shape \(1, 5\)"),
    (dict(baselines=0, method="saliency"), ValueError, "baselines were given to saliency"),
    (dict(method="expected_gradients", num_samples=3), ValueError, "baselines is None, expected"),
    (dict(method="integrate"), ValueError, "method is 'integrate'"),
    (dict(num_step=3), ValueError, "the options have 'num_step'"),
    (dict(reducer="mean"), ValueError, "the options have 'reducer'"),
    (dict(tolerance=2.0), ValueError, "tolerance"),
    (dict(logits=1), TypeError, "logits is 1"),
    (dict(model=BARE), ValueError, "save_explained: input_signature is None"),
    (dict(model=BARE, input_signature=X), ValueError, "save_explained: input_signature has other parts"),
    (dict(model=BARE, input_signature=tf.TensorSpec([])), ValueError, "save_explained: input_signature"),
    (
        dict(model=BARE, input_signature=tf.TensorSpec([None]), targets="all"),
        ValueError,
        "save_explained: targets is 'all' and the model returns",
    ),
    (
        dict(model=lambda xs: xs[0] + xs[1], input_signature=[tf.TensorSpec([None], name="x")] * 2),
        ValueError,
        "save_explained: 'x' is the name of two parts",
    ),
    (dict(model=3), TypeError, "model is a int"),
]


@pytest.mark.parametrize("arguments, error, words", REFUSED, ids=range(len(REFUSED)))
def test_wrong_arguments_are_refused_and_nothing_is_written(model, tmp_path, arguments, error, words):
    path = tmp_path / "saved"
    with pytest.raises(error, match=words):
        save_explained(arguments.pop("model", model), path, **arguments)
    assert not path.exists()


def test_examples_in_docstrings_run():
    results = doctest.testmod(sys.modules["igtf.serving"])
    assert results.attempted >= 6 and not results.failed
