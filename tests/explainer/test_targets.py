"""Logits and targets: which outputs are explained."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from explained import (
    CLASSES,
    IMAGES,
    KERAS,
    ONE_HOT,
    RNG,
    ROWS,
    X,
    by_hand,
    classifier,
    explain,
    new_classifier,
    two_branches,
)
from reference import assert_close, randomize

import igtf as ig
from igtf import Explainer


class TestLogits:
    ENDS = {
        "fused": lambda layers: [layers.Dense(3, "softmax")],
        "softmax": lambda layers: [layers.Dense(3), layers.Softmax()],
        "activation": lambda layers: [layers.Dense(3), layers.Activation("sigmoid")],
        "log_softmax": lambda layers: [layers.Dense(3), layers.Lambda(tf.nn.log_softmax)],
        "arranged": lambda layers: (
            [layers.Dense(3), layers.Reshape((3, 1)), layers.Softmax(axis=1)]
            + [layers.Reshape((3,)), layers.Dropout(0.5)]
        ),
    }

    @pytest.mark.few(3)
    @KERAS
    @pytest.mark.parametrize("end", ENDS)
    def test_are_what_the_last_softmax_or_sigmoid_reads(self, keras, end):
        layers = keras.layers
        hidden = [keras.Input((6,)), layers.Dense(5, "relu"), layers.Dropout(0.5)]
        model = randomize(keras.Sequential([*hidden, *self.ENDS[end](layers)]))
        plain = keras.Sequential([*hidden, layers.Dense(3)])
        plain.set_weights(model.get_weights())
        expected, delta = explain(plain, X, targets=CLASSES, return_delta=True)
        result, ours = explain(model, X, logits=True, targets=CLASSES, return_delta=True)
        assert_close(result, expected, 1e-5)
        np.testing.assert_allclose(ours, delta, atol=1e-5)

    def test_of_subclassed_models_modules_functions_and_signatures(self, tmp_path):
        plain = new_classifier(softmax=False)

        class Subclassed(tf.keras.Model):
            def __init__(self):
                super().__init__()
                self.inner = plain

            def call(self, x):
                return {"scores": tf.nn.softmax(self.inner(x))}

        class Module(tf.Module):
            @tf.function
            def __call__(self, x):
                return tf.identity(tf.nn.softmax(plain(x, training=False)))

        saved = tf.Module()
        saved.inner = plain
        saved.f = tf.function(
            lambda x: {"scores": tf.nn.softmax(plain(x, training=False))},
            input_signature=[tf.TensorSpec([None, 6])],
        )
        tf.saved_model.save(saved, str(tmp_path), signatures=saved.f)
        loaded = tf.saved_model.load(str(tmp_path))
        both = lambda x: tf.concat([tf.sigmoid(-x), tf.nn.softmax(plain(x, training=False))], 1)  # noqa: E731
        expected = by_hand(plain, X)
        for model in (Subclassed(), Module(), saved.f, loaded.signatures["serving_default"]):
            assert_close(explain(model, X, logits=True, targets=CLASSES), expected, 1e-5)
        assert_close(explain(both, X, logits=True, targets=CLASSES + 6), expected, 1e-5)

    def test_go_with_hidden_layers_operators_and_outputs_without_a_softmax(self):
        model, plain = classifier(), classifier(softmax=False)
        expected = explain(plain, X, layer="hidden", targets=1)
        assert_close(explain(model, X, layer="hidden", logits=True, targets=1), expected, 1e-5)
        second = lambda model, x, targets: model(x, training=False)[:, 1]  # noqa: E731
        assert_close(explain(model, X, layer="hidden", logits=True, operator=second), expected, 1e-5)
        heads = tf.keras.Model(model.inputs, {"kind": model.outputs[0], "size": model.layers[0].output})
        expected = by_hand(plain, X) + explain(model, X, output_layer="hidden", targets=np.eye(5)[[0] * ROWS])
        assert_close(explain(heads, X, logits=True, targets={"kind": CLASSES, "size": 0}), expected, 1e-5)
        with pytest.raises(
            ValueError, match=r"comes from op '.*hidden.*' \(Relu\), expected one of 'Softmax'"
        ):
            explain(heads, X, logits=True, targets={"size": 0})

    @pytest.mark.parametrize(
        "model, op",
        [(lambda x: x @ np.ones((6, 3), np.float32), "MatMul"), (lambda x: 5 * tf.sigmoid(x), "Mul")],
    )
    def test_where_there_are_none_the_op_is_named(self, model, op):
        with pytest.raises(
            ValueError, match=rf"logits is True and .* \({op}\), expected one of.*output_layer="
        ):
            explain(model, X, logits=True, targets=1)
        with pytest.raises(TypeError, match="logits is 'dense', expected True or False"):
            Explainer(model, logits="dense")

    def test_a_layer_before_the_last_weights_makes_no_classes_and_that_is_said(self):
        model = tf.keras.Sequential(
            [
                tf.keras.Input((6,)),
                tf.keras.layers.Dense(5, "relu"),
                tf.keras.layers.Dropout(0.5, name="dropout"),
                tf.keras.layers.Dense(3, "softmax"),
            ]
        )
        made = Explainer(model, output_layer=-2)
        for targets in (2, None, CLASSES):
            with pytest.warns(UserWarning, match="5 units of output_layer 'dropout'.*pass logits=True"):
                made.explain(X, targets, progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made.explain(X, np.eye(5)[[1] * ROWS], progress=False)  # units, and meant
            for which in ("logits", -2, "softmax"):
                explain(classifier(), X, output_layer=which, targets=1)
        with pytest.raises(ValueError, match="output_layer is 'logits', expected.*pass logits=True"):
            Explainer(model, output_layer="logits")


class TestTargets:
    def test_forms_of_the_same_targets(self):
        model = classifier()
        expected = by_hand(model, X)
        made = Explainer(model)
        for targets in (CLASSES, list(CLASSES), CLASSES[:, None], tf.constant(CLASSES), ONE_HOT, ONE_HOT > 0):
            assert_close(made.explain(X, targets, progress=False), expected, 1e-5)
        assert_close(made.explain(X, CLASSES.astype(np.uint8), progress=False), expected, 1e-5)
        every = made.explain(X, "all", progress=False)
        assert_close(every[np.arange(ROWS), CLASSES], expected, 1e-5)
        predicted = model(X).numpy().argmax(1)
        for targets in (None, "predicted"):
            assert_close(made.explain(X, targets, progress=False), every[np.arange(ROWS), predicted], 1e-5)

    def test_lists_of_rows_are_arrays_and_lists_of_outputs_are_outputs(self):
        model = classifier()
        expected, made = by_hand(model, X), Explainer(model)
        rows = [list(tf.constant(CLASSES)), [np.int64(c) for c in CLASSES], list(ONE_HOT)]
        for targets in (*rows, list(map(tf.constant, ONE_HOT)), ONE_HOT.tolist(), [CLASSES], (ONE_HOT,)):
            assert_close(made.explain(X, targets, progress=False), expected, 1e-5)
        inputs = [X[:, :3], X[:, 3:5]]
        made = Explainer(two_branches())
        expected = made.explain(inputs, {"kind": CLASSES % 2, "size": None}, progress=False)
        for targets in (
            [CLASSES % 2, None],
            (CLASSES % 2, 0),
            [ONE_HOT[:, :2] * 0 + np.eye(2)[CLASSES % 2], 0],
        ):
            for part, wanted in zip(made.explain(inputs, targets, progress=False), expected):
                assert_close(part, wanted, 1e-5)
        with pytest.raises(ValueError, match="expected one for each of the outputs 'kind', 'size'"):
            made.explain(inputs, [CLASSES, None, None])
        with pytest.raises(
            ValueError, match=r"targets\['kind'\] is 2 in rows .*expected class numbers from 0 to 1"
        ):
            made.explain(inputs, [np.full(ROWS, 2), None])

    def test_weights_weigh(self):
        model = classifier()
        weights = RNG.normal(size=(ROWS, 3))
        every = explain(model, X, targets="all")
        assert_close(explain(model, X, targets=weights), np.einsum("nc,ncf->nf", weights, every), 1e-4)

    def test_all_outputs_of_methods_that_explain_one(self):
        model = classifier(softmax=False)
        result = explain(model, X, method="gradient_times_input", targets="all")
        expected = by_hand(model, X, ig.gradient_times_input)
        assert_close(result[np.arange(ROWS), CLASSES], expected, 1e-5)

    @pytest.mark.few(1)
    @pytest.mark.parametrize("shape", [(), (1,)])
    def test_a_single_output_needs_no_targets(self, shape):
        def model(x):
            return tf.reshape(x[:, 0] ** 2, [-1, *shape])

        for targets in (None, "predicted", 0):
            assert_close(explain(model, X, targets=targets)[:, 0], X[:, 0] ** 2, 1e-4)
        assert_close(explain(model, X, targets=X[:, 1])[:, 0], X[:, 0] ** 2 * X[:, 1], 1e-4)
        assert explain(model, X, targets="all").shape == (ROWS, 1, 6)

    @pytest.mark.parametrize(
        "targets, message",
        [
            (np.zeros(ROWS - 1, int), r"shape \(10,\), expected 11 rows"),
            (np.where(np.arange(ROWS) == 4, 3, CLASSES), "is 3 in row 4, expected .* 0 to 2"),
            (np.where(np.arange(ROWS) > 8, -1, CLASSES), "is -1 in rows 9 to 10, expected"),
            (3, "is 3, expected class numbers from 0 to 2: the model has 3 outputs"),
            (np.zeros(ROWS), r"dtype float64, expected class numbers .*astype\(int\)"),
            (np.zeros((ROWS, 4)), r"shape \(None, 4\).*expected.*\(None, 3\)"),
            ("predictd", "expected .*near 'predicted'"),
            ({"lgits": 1}, "the key 'lgits', expected"),
        ],
    )
    def test_targets_that_do_not_fit_are_refused(self, targets, message):
        with pytest.raises(ValueError, match=message):
            explain(classifier(), X, targets=targets)

    def test_several_outputs_are_told_apart_by_name(self):
        inputs = [X[:, :3], X[:, 3:5]]
        with pytest.raises(ValueError, match="2 outputs, expected a dict with some of 'kind', 'size'"):
            explain(two_branches(), inputs)
        with pytest.raises(ValueError, match="'sise', expected .*near 'size'"):
            explain(two_branches(), inputs, targets={"sise": None})

    def test_what_goes_with_several_outputs_is_refused_with_reasons(self):
        inputs = [X[:, :3], X[:, 3:5]]
        with pytest.raises(ValueError, match="targets is an empty dict, expected some of the outputs"):
            explain(two_branches(), inputs, targets={})
        with pytest.raises(ValueError, match="'all' for one of 2 outputs, expected it alone"):
            explain(two_branches(), inputs, targets={"kind": "all", "size": None})

    @pytest.mark.parametrize(
        "model, targets, message",
        [
            (lambda x: tf.reduce_sum(x), None, "returns a scalar, expected one entry per row"),
            (tf.square, "all", r"targets is 'all' and the output has shape .*expected \[B, C\]"),
            (tf.square, 1, r"are class numbers and the output has shape .*expected\s+\[B, C\]"),
        ],
    )
    def test_outputs_without_classes_are_refused(self, model, targets, message):
        with pytest.raises(ValueError, match=message):
            explain(model, IMAGES, targets=targets)

    def test_maps_as_outputs_want_weights(self):
        def model(x):
            return tf.square(x)

        with pytest.raises(ValueError, match="targets is None.*Pass weights of that shape"):
            explain(model, IMAGES)
        chosen = (np.arange(4) == 2)[None, None, :, None] * np.ones_like(IMAGES)
        assert_close(explain(model, IMAGES, targets=chosen), IMAGES**2 * chosen, 1e-4)

    def test_an_operator_returns_a_scalar_per_row(self):
        with pytest.raises(ValueError, match=r"the operator returned.*expected a scalar per row"):
            explain(classifier(), X, operator=lambda model, x, targets: model(x))
        with pytest.raises(ValueError, match="targets is 'all', expected what the operator takes"):
            explain(classifier(), X, operator=lambda model, x, targets: model(x)[:, 0], targets="all")
        result = explain(
            classifier(),
            X,
            operator=lambda model, x, targets: model(x)[:, 1],
            output_layer="logits",
        )
        assert_close(result, explain(classifier(), X, output_layer="logits", targets=1), 1e-5)

    def test_an_operator_calls_the_model_as_any_other_code_does(self):
        model = classifier()
        expected = explain(model, X, targets=1)

        def positional(model, x, targets):
            return model(x, training=False)[:, 1]

        def by_keyword(model, x, targets):
            return model(inputs=x, training=None)[:, 1]

        def by_layers(model, x, targets):
            for layer in model.layers:
                x = layer(x, training=False)
            return x[:, 1]

        for operator in (positional, by_keyword, by_layers):
            assert_close(explain(model, X, operator=operator), expected, 1e-5)
        assert_close(explain(lambda x: x**2, X, operator=positional)[:, 1], X[:, 1] ** 2, 1e-4)

        def product(left, right):
            return left * right

        def spread(model, inputs, targets):
            return model(*inputs, training=False)[:, 1]

        def named(model, inputs, targets):
            return model(left=inputs[0], right=inputs[1])[:, 1]

        for operator in (spread, named):
            assert_close(explain(product, [X, X], operator=operator)[0][:, 1], X[:, 1] ** 2 / 2, 1e-4)

        def trains(model, x, targets):
            return model(x, training=True)[:, 1]

        with pytest.raises(ValueError, match="calls the model with training=True, expected inference"):
            explain(model, X, operator=trains)
