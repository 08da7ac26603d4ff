"""Keras 3 and Keras 2 while they train: logs for TensorBoard, and priors on attributions in the loss."""

import doctest
import sys
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from reference import ONE_KERAS, both_keras, randomize
from shared_networks import FEATURES, trapped_rows

import igtf.keras
from igtf import Explainer
from igtf.keras import AttributionCallback, AttributionPenalty, right_reasons, smoothness

RNG = np.random.default_rng(3)
CLASSES = [0, 2, 1, 2]

TRAIN = trapped_rows(RNG, 200, False)


def careful(keras, *layers):
    """A Sequential model of the mixin."""

    class Careful(AttributionPenalty, keras.Sequential):
        pass

    keras.utils.set_random_seed(0)
    return Careful([keras.Input((FEATURES,)), *layers])


def classifier(keras):
    return careful(keras, keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax"))


def loss_of(model, x, y):
    """The loss of a training step, traced."""
    step = tf.function(lambda x, y: model.compute_loss(x, y, model(x, training=True)), autograph=False)
    return step(tf.nest.map_structure(tf.constant, x), tf.constant(y)).numpy()


# A prior ----------------------------------------------------------------------------------------------


@ONE_KERAS
def test_training_has_the_prior_and_validation_has_not(keras):
    x, labels = TRAIN
    model = randomize(classifier(keras))
    model.penalize(lambda maps, x, y: tf.reduce_sum(tf.abs(maps), 1), 2.0, num_steps=20)
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", jit_compile=False)
    options = dict(batch_size=200, validation_data=(x, labels), verbose=0)
    history = model.fit(x, labels, **options).history
    total = loss_of(model, x, labels)
    error = -np.log(np.asarray(model(x))[np.arange(200), labels]).mean()
    maps = Explainer(model, num_steps=20).explain(x, labels, progress=False)
    np.testing.assert_allclose(history["val_loss"][0], error, rtol=1e-4)
    penalised = error + 2 * np.abs(maps).sum(1).mean()
    np.testing.assert_allclose(total, penalised, rtol=1e-4)
    if keras.__version__ >= "3":  # Keras 2 logs the loss without it
        np.testing.assert_allclose(history["loss"][0], penalised, rtol=1e-4)


@pytest.mark.few(4)
@ONE_KERAS
@pytest.mark.parametrize(
    "targets, y, explained",
    [
        ("labels", CLASSES, CLASSES),
        ("labels", np.float32(CLASSES)[:, None], CLASSES),
        ("labels", np.eye(3)[CLASSES], CLASSES),
        ("predicted", CLASSES, "predicted"),
        (1, CLASSES, 1),
        ("all", CLASSES, "all"),
    ],
)
def test_what_is_penalised_are_the_attributions_in_inference_mode(keras, targets, y, explained):
    x = TRAIN[0][:4]
    model = randomize(careful(keras, keras.layers.Dropout(0.5), keras.layers.Dense(3, "tanh")))
    model.penalize(lambda maps, x, y: tf.reduce_sum(maps**2), 1.0, targets, 0.5, 20, "gausslegendre")
    model.compile("sgd", lambda y, ys: 0 * ys[:, 0], jit_compile=False)

    options = dict(num_steps=20, method_options={"method": "gausslegendre"})
    maps = Explainer(model, **options).explain(x, explained, 0.5, progress=False)
    np.testing.assert_allclose(loss_of(model, x, y), np.square(maps).sum(), rtol=1e-5)


def test_inputs_of_a_dict_have_masks_of_their_own_and_ids_none():
    layers = tf.keras.layers
    inputs = {"a": layers.Input((2,), name="a"), "b": layers.Input((), dtype="int32", name="b")}
    h = layers.Concatenate()([inputs["a"], layers.Embedding(5, 3)(inputs["b"])])

    class Careful(AttributionPenalty, tf.keras.Model):
        pass

    model = Careful(inputs, layers.Dense(1, use_bias=False)(h))
    randomize(model)
    model.penalize(right_reasons({"a": [0, 2], "b": None}))
    model.compile("sgd", lambda y, ys: 0 * ys[:, 0], jit_compile=False)
    rows = {"a": TRAIN[0][:4, :2], "b": np.int32([0, 1, 2, 3])}
    expected = np.square(2 * rows["a"][:, 1] * model.get_weights()[-1][1, 0]).mean()
    np.testing.assert_allclose(loss_of(model, rows, np.zeros(4)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "shape, axes, expected",
    [
        ([2, 5], None, [1]),
        ([2, 5, 3], None, [1]),
        ([2, 4, 5, 3], None, [1, 2]),
        ([2, 4, 5, 3], (-2,), [2]),
    ],
)
def test_smoothness_is_the_mean_square_of_differences_of_neighbours(shape, axes, expected):
    maps = RNG.normal(size=shape)
    found = smoothness(axes)(tf.constant(maps), tf.zeros(shape), None).numpy()
    np.testing.assert_allclose(found, sum(np.square(np.diff(maps, axis=a)).mean() for a in expected))
    # Of every class: an axis more, in front.
    every = smoothness(axes)(tf.constant(np.stack([maps, maps], 1)), tf.zeros(shape), None)
    np.testing.assert_allclose(every, found)


def test_what_a_step_cannot_explain_is_refused():
    model = classifier(tf.keras)
    model.penalize(smoothness())
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    with pytest.raises(ValueError, match="AttributionPenalty: the training step runs eagerly"):
        model.fit(*TRAIN, verbose=0)
    layers = tf.keras.layers

    class Careful(AttributionPenalty, tf.keras.Model):
        pass

    ids = layers.Input((), dtype="int32")
    of_ids = Careful(ids, layers.Dense(2)(layers.Embedding(5, 3)(ids)))
    x = layers.Input((FEATURES,))
    two = Careful(x, [layers.Dense(2)(x), layers.Dense(1)(x)])
    for model, rows, words in (
        (of_ids, np.int32([0, 1]), "without a floating dtype"),
        (two, TRAIN[0], "expected one output"),
    ):
        model.penalize(smoothness(), targets="predicted")

        @tf.function
        def penalty(x, model=model):
            return model._prior(model, x, None)

        with pytest.raises((TypeError, ValueError), match=f"AttributionPenalty: .*{words}"):
            penalty(tf.constant(rows))


# The callback -----------------------------------------------------------------------------------------


def logged(folder):
    """`{(tag, step): a number, or the first picture}` of the event files in a folder."""
    found = {}
    for path in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                kind = value.metadata.plugin_data.plugin_name
                if kind == "images":  # width, height and one PNG each
                    found[value.tag, event.step] = tf.io.decode_png(value.tensor.string_val[2]).numpy()
                else:
                    found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


def network_for(keras, shape):
    flat = [keras.layers.Flatten()] if len(shape) > 1 else []
    return keras.Sequential([keras.Input(shape), *flat, keras.layers.Dense(3, "softmax")])


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "keras, shape",
    [
        pytest.param(*p.values, shape, id=f"{name}-{p.id}", marks=[pytest.mark.slow] if slow else [])
        for number, p in enumerate(both_keras())
        for name, shape, slow in (
            ("images", (5, 4, 3), number),
            ("table", (6,), number == 0 and len(both_keras()) > 1),
            ("series", (7, 2), True),
        )
    ],
)
def test_pictures_and_errors_are_logged_every_few_epochs(keras, shape, tmp_path):
    pytest.importorskip("tensorboard")
    model = network_for(keras, shape)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = RNG.random((4, *shape)).astype("float32")
    callback = AttributionCallback(tmp_path, x[:2], every=2, targets=[0, 1], tolerance=0.05)
    model.fit(x, np.arange(4) % 3, epochs=5, verbose=0, callbacks=[callback])
    found = logged(tmp_path)
    names = ["attributions", "attributions/completeness_error", "attributions/estimated_error"]
    assert sorted(found) == [(name, step) for name in names for step in (1, 3)]
    for step in (1, 3):
        picture = found["attributions", step]
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.std() > 1
        assert 0 <= found["attributions/completeness_error", step] < 0.05
        assert 0 <= found["attributions/estimated_error", step] <= 0.05
    assert (found["attributions", 1] != found["attributions", 3]).any()  # the weights have moved


def test_the_completeness_error_is_what_the_sums_miss(tmp_path):
    pytest.importorskip("tensorboard")
    model = randomize(network_for(tf.keras, (6,)))
    model.compile(tf.keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    x = TRAIN[0][:8]
    callback = AttributionCallback(
        tmp_path, x, targets="all", method_options={"method": "riemann_left", "num_steps": 3}
    )
    with pytest.warns(UserWarning, match="do not sum"):
        model.fit(x, np.zeros(8), epochs=1, verbose=0, callbacks=[callback])
    found = logged(tmp_path)
    explainer = Explainer(model, method_options={"method": "riemann_left", "num_steps": 3})
    with pytest.warns(UserWarning, match="do not sum"):
        _, delta = explainer.explain(x, "all", return_delta=True, progress=False)
    change = np.asarray(model(x)) - np.asarray(model(np.zeros([1, 6], "float32")))
    wanted = np.abs(delta).sum() / np.abs(change).sum()
    assert found["attributions/completeness_error", 0] == pytest.approx(wanted, rel=1e-4)


# Hostile calls ----------------------------------------------------------------------------------------

REFUSED = [
    (lambda m: AttributionCallback("logs", [[1.0]], every=0), ValueError, "AttributionCallback: every is 0"),
    (
        lambda m: AttributionCallback("logs", [[1.0]], every=1.5),
        ValueError,
        "AttributionCallback: every is 1.5",
    ),
    (lambda m: AttributionCallback("logs", None), TypeError, "samples is None"),
    (
        lambda m: AttributionCallback("logs", [[1.0]], step=3).set_model(m),
        ValueError,
        "the options have 'step'",
    ),
    (lambda m: m.penalize("smoothness"), TypeError, "AttributionPenalty: prior is a str"),
    (lambda m: m.penalize(smoothness(), -1), ValueError, "AttributionPenalty: strength is -1"),
    (lambda m: m.penalize(smoothness(), np.nan), ValueError, "AttributionPenalty: strength is nan"),
    (lambda m: m.penalize(smoothness(), "1"), ValueError, "AttributionPenalty: strength is '1'"),
    (lambda m: m.penalize(smoothness(), 1, "label"), ValueError, "targets is 'label'.*'labels'"),
    (lambda m: m.penalize(smoothness(), 1, None), ValueError, "AttributionPenalty: targets is None"),
    (lambda m: right_reasons(["a"]), TypeError, "right_reasons: mask has dtype"),
    (lambda m: smoothness([1]), ValueError, r"smoothness: axes is \[1\]"),
    (lambda m: smoothness([]), ValueError, r"smoothness: axes is \[\]"),
]


@pytest.mark.parametrize("call, error, words", REFUSED, ids=range(len(REFUSED)))
def test_wrong_arguments_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call(classifier(tf.keras))


def test_without_tensorboard_the_error_names_the_command(monkeypatch):
    monkeypatch.setattr(igtf.keras.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        AttributionCallback("logs", [[1.0]])


def test_examples_in_docstrings_run():
    results = doctest.testmod(sys.modules["igtf.keras"], extraglobs={"tempfile": tempfile})
    assert results.attempted >= 10 and not results.failed
