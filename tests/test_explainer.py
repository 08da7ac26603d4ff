"""Model in, numbers out: values, models, targets, baselines, batches, bad input, interruptions."""

import doctest
import importlib

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, randomize

import attribution_methods_tf as methods
import explainer as explainer_module
import integrated_gradients_tf as ig
from explainer import METHODS, Explainer

RNG = np.random.default_rng(5)
ROWS = 11  # batches of 4 leave a smaller one
X = RNG.normal(size=(ROWS, 6)).astype(np.float32)
IMAGES = RNG.normal(size=(ROWS, 5, 4, 3)).astype(np.float32)
SERIES = RNG.normal(size=(ROWS, 7, 2)).astype(np.float32)
CLASSES = RNG.integers(0, 3, ROWS)
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]


def both_keras():
    found = [pytest.param(tf.keras, id=f"Keras {getattr(tf.keras, '__version__', '2')[0]}")]
    if tf.keras.__name__.startswith("keras.api._v2"):
        return found  # Keras 2 already
    if importlib.util.find_spec("tf_keras"):
        import tf_keras

        found.append(pytest.param(tf_keras, id="tf_keras"))
    return found


KERAS = pytest.mark.parametrize("keras", both_keras())


def classifier(keras=tf.keras, softmax=True):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "relu", name="hidden"),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(3, name="logits"),
            *([layers.Softmax(name="softmax")] if softmax else []),
        ]
    )
    return randomize(model)


def two_branches(keras=tf.keras):
    layers = keras.layers
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    merged = layers.Concatenate()([layers.Dense(4, "relu")(left), layers.Dense(4, "tanh")(right)])
    outputs = [layers.Dense(2, name="kind")(merged), layers.Dense(1, name="size")(merged)]
    return randomize(keras.Model([left, right], outputs))


def explain(model, inputs, options=None, **arguments):
    names = ("targets", "baselines", "return_delta", "allow_nan")
    called = {name: arguments.pop(name) for name in names if name in arguments}
    arguments.setdefault("batch_size", 4)
    made = Explainer(model, method_options=options, **arguments)
    return made.explain(inputs, progress=False, **called)


def by_hand(model, x, build=ig.integrated_gradients, weights=ONE_HOT, **options):
    """The graph function itself, on all rows at once."""
    return as_graph(
        lambda x: build(model(x, training=False), x, grad_ys=tf.constant(weights), **options), [x], False
    )


def xplique(score, x, targets, steps=50, baseline_value=0.0, reducer="mean"):
    """What Xplique's IntegratedGradients is defined as: trapezoids over `steps` points, a tape per point."""
    total = np.zeros(x.shape)
    for step in range(steps):
        weight = (0.5 if step in (0, steps - 1) else 1.0) / (steps - 1)
        point = tf.constant(
            baseline_value + np.float32(step / (steps - 1)) * (x - np.float32(baseline_value))
        )
        with tf.GradientTape() as tape:
            tape.watch(point)
            y = tf.reduce_sum(score(point, targets))
        total += weight * tape.gradient(y, point).numpy().astype(np.float64)
    result = total * (x - baseline_value)
    if reducer and x.ndim == 4:
        result = getattr(np, reducer)(result, axis=-1, keepdims=True)
    return result


# Each a model for one of the three shapes, with smooth and kinked parts.
def image_model():
    layers = tf.keras.layers
    return randomize(
        tf.keras.Sequential(
            [
                tf.keras.Input((5, 4, 3)),
                layers.Conv2D(4, 3, activation="tanh", padding="same"),
                layers.AveragePooling2D(2, padding="same"),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
    )


def series_model():
    layers = tf.keras.layers
    return randomize(
        tf.keras.Sequential(
            [
                tf.keras.Input((7, 2)),
                layers.Conv1D(4, 3, activation="sigmoid"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(3),
            ]
        )
    )


class TestXplique:
    @pytest.mark.parametrize(
        "make, x",
        [(image_model, IMAGES), (series_model, SERIES), (classifier, X)],
        ids=["images", "time series", "tabular"],
    )
    @pytest.mark.parametrize(
        "reducer, baseline, steps", [("mean", 0.0, 50), ("max", 0.3, 10), (None, -1.0, 3)]
    )
    def test_its_arguments_give_its_numbers(self, make, x, reducer, baseline, steps):
        model = make()
        expected = xplique(
            lambda x, t: tf.reduce_sum(model(x, training=False) * t, -1), x, ONE_HOT, steps, baseline, reducer
        )
        options = {"method": "riemann_trapezoid", "num_steps": steps}
        result = explain(model, x, options, reducer=reducer, targets=ONE_HOT, baselines=baseline)
        assert_close(result, expected, 2e-5)

    @pytest.mark.parametrize("reducer", ["sum", "min"])
    def test_its_operators_do_too(self, reducer):
        model = image_model()
        wanted = RNG.normal(size=(ROWS, 3)).astype(np.float32)

        def distance(model, inputs, targets):
            return -tf.reduce_sum(tf.square(model(inputs) - targets), axis=-1)

        expected = xplique(lambda x, t: distance(model, x, t), IMAGES, wanted, 20, 0.5, reducer)
        options = {"method": "riemann_trapezoid", "num_steps": 20}
        for operator in (distance, tf.function(distance)):
            result = explain(
                model, IMAGES, options, operator=operator, reducer=reducer, targets=wanted, baselines=0.5
            )
            assert_close(result, expected, 2e-5)


class TestValues:
    @KERAS
    def test_equal_those_of_the_graph_function(self, keras):
        model = classifier(keras)
        expected = by_hand(model, X, num_steps=20)
        result, delta = explain(model, X, {"num_steps": 20}, targets=CLASSES, return_delta=True)
        assert isinstance(result, np.ndarray) and result.dtype == np.float32
        assert_close(result, expected, 1e-5)
        y = model(X).numpy()
        change = ((y - model(np.zeros_like(X)).numpy()) * ONE_HOT).sum(1)
        np.testing.assert_allclose(delta, result.sum(1) - change, atol=1e-5)

    @pytest.mark.parametrize("name", [n for n in METHODS if n not in ("smoothgrad", "layer_conductance")])
    def test_every_method_equals_its_graph_function(self, name):
        model = classifier(softmax=False)
        options, starts = {}, {}
        if name == "expected_gradients":  # of one point, and linear in it: draws do not matter
            model = tf.keras.Sequential([tf.keras.Input((6,)), tf.keras.layers.Dense(3)])
            options = {"num_samples": 2}
            starts = {"baselines": X[:1]}
        elif name == "shapley_value_sampling":
            options = {"num_samples": 2, "seed": 3}
        result = explain(model, X, options, method=name, targets=CLASSES, batch_size=ROWS, **starts)
        assert_close(result, by_hand(model, X, METHODS[name], **options, **starts), 1e-5)

    def test_smoothgrad_averages_the_method_it_is_told(self):
        weights = RNG.normal(size=(6, 3)).astype(np.float32)

        def linear(x):
            return x @ weights

        options = {"stdev": 0.1, "num_samples": 3}
        result = explain(linear, X, options, method="smoothgrad", targets=CLASSES)
        assert_close(result, abs(weights.T[CLASSES]), 1e-5)
        options["builder"] = "gradient_times_input"
        assert (explain(linear, X, options, method="smoothgrad", targets=1, batch_size=ROWS) < 0).any()

    @pytest.mark.parametrize("reducer", ["mean", "sum", "max", "min"])
    def test_a_reducer_works_on_channels_of_images_and_leaves_the_rest(self, reducer):
        model = image_model()
        whole = explain(model, IMAGES, targets=1)
        result = explain(model, IMAGES, reducer=reducer, targets=1)
        assert_close(result, getattr(np, reducer)(whole, axis=-1, keepdims=True), 1e-6)
        every = explain(model, IMAGES, reducer=reducer, targets="all")
        assert_close(every[:, 1], result, 1e-5)
        assert explain(classifier(), X, reducer=reducer).shape == X.shape

    @KERAS
    def test_dropout_and_batch_norm_run_in_inference(self, keras):
        model = classifier(keras)
        before = [w.copy() for w in model.get_weights()]
        first, second = explain(model, X), explain(model, X)
        assert (first == second).all()
        assert all((a == b).all() for a, b in zip(before, model.get_weights()))

    def test_new_weights_count_without_a_new_trace(self):
        model = classifier(softmax=False)
        made = Explainer(model)
        first = made.explain(X, 0, progress=False)
        kernel = model.get_layer("logits").kernel
        kernel.assign(2 * kernel)
        assert_close(made.explain(X, 0, progress=False), 2 * first, 1e-5)
        assert made.traces == 1


class TestModels:
    @KERAS
    def test_functional_models_with_branches_and_outputs(self, keras):
        model = two_branches(keras)
        left, right = X[:, :3], X[:, 3:5]
        weights = tf.one_hot([1] * ROWS, 2)

        def build(left, right):
            kind, size = model([left, right], training=False)
            both = ig.integrated_gradients([kind, size], [left, right], grad_ys=[weights, tf.ones_like(size)])
            return ig.integrated_gradients(kind, [left, right], grad_ys=weights), both

        one, both = as_graph(build, [left, right], False)
        for inputs in ([left, right], (left, right), {"right": right, "left": left}):
            names = ["left", "right"] if isinstance(inputs, dict) else [0, 1]
            result = explain(model, inputs, targets={"kind": 1})
            assert type(result) is type(inputs)
            for name, expected in zip(names, one):
                assert_close(result[name], expected, 1e-5)
        result, delta = explain(model, inputs, targets={"kind": 1, "size": None}, return_delta=True)
        for name, expected in zip(names, both):
            assert_close(result[name], expected, 1e-5)
        assert abs(delta).max() < 1e-4

    @KERAS
    def test_subclassed_models_with_layers_called_inside(self, keras):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.hidden = keras.layers.Dense(4, "relu", name="hidden")
                self.drop = keras.layers.Dropout(0.5)
                self.last = keras.layers.Dense(3, name="last")

            def call(self, x):
                return {"scores": tf.nn.softmax(self.last(self.drop(self.hidden(x))))}

        model = Net()
        model(X)
        last = by_hand(lambda x, training: model.last(model.hidden(x)), X)
        assert_close(explain(model, X, output_layer="last", targets=CLASSES), last, 1e-5)
        result, delta = explain(model, X, layer="hidden", targets={"scores": CLASSES}, return_delta=True)
        assert result.shape == (ROWS, 4) and abs(delta).max() < 1e-5

    def test_modules_callables_and_several_arguments(self):
        class Module(tf.Module):
            def __init__(self):
                super().__init__()
                self.w = tf.Variable(RNG.normal(size=(6, 2)), dtype=tf.float32)

            @tf.function
            def __call__(self, x):
                return tf.tanh(x @ self.w)

        module = Module()
        result, delta = explain(module, X, targets="all", return_delta=True)
        assert result.shape == (ROWS, 2, 6) and delta.shape == (ROWS, 2) and abs(delta).max() < 1e-4
        result = explain(lambda a, b: tf.reduce_sum(a * b, 1), [X, 2 * X])
        assert_close(result[0], X * X, 1e-5)
        assert_close(explain(lambda a, b: tf.reduce_sum(a, 1) + b[:, 0], {"b": X, "a": X})["a"], X, 1e-5)

    def test_python_that_branches_on_tensors_is_converted(self):
        switch = tf.Variable(1.0)

        def model(x):
            if switch > 0:
                return 3 * x[:, 0]
            else:
                return x[:, 1]

        assert_close(explain(model, X)[:, 0], 3 * X[:, 0], 1e-5)

    def test_what_has_an_argument_called_training_runs_in_inference(self):
        def model(x, training=True):
            return tf.nn.dropout(x, 0.5)[:, 0] if training else x[:, 0]

        assert_close(explain(model, X)[:, 0], X[:, 0], 1e-6)

    def test_signatures_of_saved_models(self, tmp_path):
        model = classifier()
        tf.saved_model.save(model, str(tmp_path))
        loaded = tf.saved_model.load(str(tmp_path))
        signature = loaded.signatures["serving_default"]
        (name,) = signature.structured_input_signature[1]
        expected = by_hand(model, X)
        assert_close(explain(signature, X, targets=CLASSES), expected, 1e-5)
        assert_close(explain(signature, {name: X}, targets=CLASSES)[name], expected, 1e-5)

    @KERAS
    def test_a_batch_size_that_the_model_insists_on(self, keras):
        layers = keras.layers
        fixed = keras.Input(batch_shape=(4, 6)) if keras.__version__[0] > "2" else keras.Input((6,), 4)
        model = randomize(keras.Sequential([fixed, layers.Reshape((3, 2)), layers.LSTM(3), layers.Dense(1)]))
        made = Explainer(model, batch_size=32)
        result, delta = made.explain(X, baselines=X[::-1], return_delta=True, progress=False)
        assert result.shape == X.shape and made.traces == 1
        whole = [made.explain(X[i : i + 1], baselines=X[ROWS - 1 - i], progress=False) for i in range(ROWS)]
        assert_close(result, np.concatenate(whole), 1e-4)
        assert delta.shape == (ROWS,)

    def test_python_code_that_needs_a_number_of_rows(self):
        def model(x):
            return tf.concat([2 * x[i : i + 1, 0] for i in range(x.shape[0])], 0)

        assert_close(explain(model, X)[:, 0], 2 * X[:, 0], 1e-5)

    def test_ids_are_explained_at_their_embedding(self):
        layers = tf.keras.layers
        ids = RNG.integers(1, 9, (ROWS, 5))
        model = tf.keras.Sequential(
            [
                tf.keras.Input((5,), dtype="int32"),
                layers.Embedding(9, 3, name="embedding"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(2),
            ]
        )
        model = randomize(model)
        result, delta = explain(model, ids, layer="embedding", targets=1, return_delta=True)
        table, (kernel, _) = model.layers[0].get_weights()[0], model.layers[2].get_weights()
        assert_close(result, (table[ids] - table[0]) * kernel[:, 1] / 5, 1e-5)
        assert abs(delta).max() < 1e-5
        with pytest.raises(TypeError, match="inputs has dtype int32.*layer='embedding'"):
            explain(model, ids)
        assert explain(model, ids, method="occlusion", targets=1).shape == ids.shape


class TestLayers:
    @KERAS
    def test_explainers_of_one_model_share_nothing(self, keras):
        model = classifier(keras)
        before = Explainer(model, output_layer="logits")
        after = Explainer(model)
        by_index = Explainer(model, output_layer=-2)
        other = Explainer(classifier(keras, softmax=False))
        results = [made.explain(X, CLASSES, progress=False) for made in (before, after, by_index, other)]

        def logits(x, training):
            for layer in model.layers[:-1]:
                x = layer(x, training=training)
            return x

        for result, network in zip(results, (logits, model, logits, logits)):
            assert_close(result, by_hand(network, X), 1e-5)
        assert not np.allclose(results[0], results[1])
        assert "call" not in vars(model.get_layer("logits"))

    def test_a_layer_used_in_two_models_is_that_of_the_model_explained(self):
        first = classifier()
        layers = tf.keras.layers
        second = tf.keras.Sequential([tf.keras.Input((6,)), layers.Rescaling(2.0), *first.layers[:-1]])
        result = explain(second, X, output_layer="hidden", targets=2)
        kernel, bias = first.layers[0].get_weights()

        def hidden(x, training):
            return tf.nn.relu(2 * x @ kernel + bias)

        chosen = np.eye(5, dtype=np.float32)[[2] * ROWS]
        assert_close(result, by_hand(hidden, X, weights=chosen), 1e-5)

    @pytest.mark.parametrize("targets", [2, "all"])
    def test_a_hidden_layer_starts_where_the_baseline_of_the_input_takes_it(self, targets):
        model = classifier()
        for method in ("integrated_gradients", "layer_conductance", "deeplift"):
            result, delta = explain(
                model, X, method=method, layer="hidden", targets=targets, baselines=0.7, return_delta=True
            )
            assert result.shape == ((ROWS, 5) if targets == 2 else (ROWS, 3, 5))
            start = model(np.full_like(X, 0.7)).numpy()
            change = model(X).numpy() - start
            total = result.sum(-1)
            np.testing.assert_allclose(total, change if targets == "all" else change[:, 2], atol=1e-5)
            np.testing.assert_allclose(delta, 0, atol=1e-5)

    def test_layers_of_a_model_inside_are_found(self):
        inside = classifier(softmax=False)
        x = tf.keras.Input((6,))
        model = tf.keras.Model(x, tf.keras.layers.Softmax()(inside(x)))
        assert_close(explain(model, X, output_layer="logits", targets=CLASSES), by_hand(inside, X), 1e-5)

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"output_layer": "lgits"}, "'lgits', expected.*near 'logits'"),
            ({"layer": "zzz"}, "'zzz', expected 'hidden', .*'softmax'"),
            ({"layer": 7}, "7, expected an index from -5 to 4.*'hidden'"),
        ],
    )
    def test_an_unknown_layer_is_refused_with_near_names(self, options, message):
        with pytest.raises(ValueError, match=message):
            Explainer(classifier(), **options)

    def test_layers_that_cannot_be_told_apart_or_are_not_called(self):
        x = tf.keras.Input((6,))
        twice = tf.keras.layers.Dense(6, name="twice")
        model = tf.keras.Model(x, twice(twice(x)))
        with pytest.raises(ValueError, match="'twice' is called 2 times.*expected one call"):
            explain(model, X, layer="twice", targets=0)
        with pytest.raises(ValueError, match="without layers that can be named"):
            Explainer(lambda x: x, layer="hidden")


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

    def test_weights_weigh(self):
        model = classifier()
        weights = RNG.normal(size=(ROWS, 3))
        every = explain(model, X, targets="all")
        assert_close(explain(model, X, targets=weights), np.einsum("nc,ncf->nf", weights, every), 1e-4)

    def test_all_outputs_of_methods_that_explain_one(self):
        model = classifier(softmax=False)
        result = explain(model, X, method="gradient_times_input", targets="all")
        expected = by_hand(model, X, methods.gradient_times_input)
        assert_close(result[np.arange(ROWS), CLASSES], expected, 1e-5)

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


class TestBaselines:
    def test_forms(self):
        model = classifier()
        one, each = X[:1] + 1, X[::-1].copy()
        made = Explainer(model, batch_size=4)

        def ours(baselines, x=X):
            return made.explain(x, CLASSES, baselines, progress=False)

        a, b = by_hand(model, X, baselines=one), by_hand(model, X, baselines=each)
        assert_close(ours(one), a, 1e-5)
        assert_close(ours(one[0].tolist()), a, 1e-5)
        assert_close(ours(each), b, 1e-5)
        assert_close(ours(0.5), by_hand(model, X, baselines=0.5), 1e-5)
        assert_close(ours(np.stack([one, 2 * one])), (a + by_hand(model, X, baselines=2 * one)) / 2, 1e-5)
        assert_close(ours(np.stack([each, one + 0 * each])), (a + b) / 2, 1e-5)
        assert_close(ours(lambda batch: 0.5 * batch), by_hand(model, X, baselines=0.5 * X), 1e-5)
        deltas = made.explain(X, CLASSES, np.stack([one, 2 * one]), return_delta=True, progress=False)[1]
        assert abs(deltas).max() < 1e-5

    def test_of_several_inputs(self):
        model, inputs = two_branches(), {"left": X[:, :3], "right": X[:, 3:5]}
        whole = explain(model, inputs, targets={"size": None}, baselines={"left": None, "right": 1.0})
        parts = explain(
            model,
            inputs,
            targets={"size": None},
            baselines={"left": 0, "right": np.ones([2, 1, 2])},
        )
        for name in inputs:
            assert_close(whole[name], parts[name], 1e-5)
        with pytest.raises(ValueError, match="baselines is .*expected a scalar for all or the structure"):
            explain(model, inputs, targets={"size": None}, baselines={"left": 0})

    @pytest.mark.parametrize("baselines", [np.zeros((5, 6)), np.zeros((1, 7)), np.zeros((2, 3, 6))])
    def test_that_do_not_fit_are_refused(self, baselines):
        with pytest.raises(
            ValueError, match="baselines have shape .*expected a scalar, one row, one for each"
        ):
            explain(classifier(), X, baselines=baselines)

    def test_where_they_have_no_meaning_or_are_missing(self):
        with pytest.raises(ValueError, match="given to saliency, expected None"):
            explain(classifier(), X, method="saliency", baselines=0)
        with pytest.raises(ValueError, match="expected the data set that expected_gradients draws from"):
            explain(classifier(), X, {"num_samples": 2}, method="expected_gradients")


class TestBatches:
    def test_one_trace_for_all_sizes_and_calls(self):
        made = Explainer(classifier(), batch_size=4)
        whole = made.explain(X, CLASSES, progress=False)
        parts = list(made.explain_batches(X, CLASSES, progress=False))
        assert [len(part) for part in parts] == [4, 4, 3]
        assert_close(np.concatenate(parts), whole, 1e-6)
        made.explain(X[:1], 2, progress=False)
        made.explain(X.astype(np.float64), CLASSES.astype(np.int32), progress=False)
        assert made.traces == 1
        made.explain(X, "all", progress=False)
        assert made.traces == 2

    def test_data_sets_of_known_and_unknown_length(self):
        model = classifier()
        made = Explainer(model)
        pairs = tf.data.Dataset.from_tensor_slices((X, CLASSES))
        expected = by_hand(model, X)
        for batches in (pairs.batch(4), pairs.filter(lambda x, y: True).batch(4)):
            assert_close(made.explain(batches, progress=False), expected, 1e-5)
        assert made.traces == 1
        alone = pairs.map(lambda x, y: x).batch(5)
        predicted = made.explain(X, progress=False)
        assert_close(made.explain(alone, progress=False), predicted, 1e-5)
        assert_close(made.explain(pairs.batch(4), "predicted", progress=False), predicted, 1e-5)
        assert_close(
            made.explain(alone, baselines=0.5, targets=1, progress=False),
            made.explain(X, 1, 0.5, progress=False),
            1e-5,
        )

    def test_data_sets_of_branches(self):
        model, inputs = two_branches(), {"left": X[:, :3], "right": X[:, 3:5]}
        expected = explain(model, inputs, targets={"kind": CLASSES % 2})
        batches = tf.data.Dataset.from_tensor_slices((inputs, {"kind": CLASSES % 2})).batch(4)
        result = explain(model, batches)
        for name in inputs:
            assert_close(result[name], expected[name], 1e-5)

    def test_sequences_of_changing_length_are_one_trace(self):
        def model(x):
            return tf.reduce_sum(x**2, axis=[1, 2])

        rows = [np.ones((length, 2), np.float32) for length in (2, 3, 5, 4)]
        batches = tf.data.Dataset.from_generator(
            lambda: rows, output_signature=tf.TensorSpec([None, 2])
        ).padded_batch(2)
        made = Explainer(model)
        parts = list(made.explain_batches(batches, progress=False))
        assert [part.shape for part in parts] == [(2, 3, 2), (2, 5, 2)] and made.traces == 1

    def test_an_endless_data_set_is_refused_and_streams(self):
        batches = tf.data.Dataset.from_tensor_slices(X).repeat().batch(4)
        with pytest.raises(ValueError, match="without an end, expected.*explain_batches"):
            explain(classifier(), batches)
        stream = Explainer(classifier()).explain_batches(batches, progress=False)
        assert next(stream).shape == next(stream).shape == (4, 6)

    @pytest.mark.parametrize(
        "inputs, targets, message",
        [
            (tf.data.Dataset.from_tensor_slices(X), None, r"shape \(6,\).*expected batches.*batch\(4\)"),
            (tf.data.Dataset.from_tensor_slices(X).batch(4), CLASSES, "an array beside a data set.*Zip"),
            (tf.data.Dataset.from_tensor_slices(X).batch(4).take(0), None, "without batches"),
        ],
    )
    def test_data_sets_that_do_not_fit_are_refused(self, inputs, targets, message):
        with pytest.raises(ValueError, match=message):
            explain(classifier(), inputs, targets=targets)

    def test_a_data_set_without_targets_where_they_are_needed(self):
        batches = tf.data.Dataset.from_tensor_slices(X).batch(4)

        def operator(model, x, targets):
            return tf.reduce_sum(model(x) * targets, 1)

        with pytest.raises(ValueError, match="targets is None .or the data set has none., expected"):
            explain(classifier(), batches, operator=operator)
        pairs = tf.data.Dataset.from_tensor_slices({"left": X[:, :3], "right": X[:, 3:5]}).batch(4)
        with pytest.raises(ValueError, match="targets is None.*2 outputs, expected a dict"):
            explain(two_branches(), pairs)

    def test_progress_is_shown_unless_it_is_not_wanted(self, capsys):
        made = Explainer(classifier(), batch_size=4)
        made.explain(X, progress=False)
        assert capsys.readouterr().out == ""
        made.explain(X)
        made.explain(tf.data.Dataset.from_tensor_slices(X).filter(lambda x: True).batch(4))
        shown = capsys.readouterr().out
        assert "3/3" in shown and "Unknown" in shown


class TestBadInput:
    def test_nan_is_named_with_its_rows(self):
        model, left, right = two_branches(), X[:, :3].copy(), X[:, 3:5]
        left[2, 1] = left[9, 0] = np.nan
        inputs = {"left": left, "right": right}
        with pytest.raises(ValueError, match=r"inputs\['left'\] holds NaN in rows 2, 9, expected"):
            explain(model, inputs, targets={"kind": 0})
        result = explain(model, inputs, targets={"kind": 0}, allow_nan=True)
        assert np.isnan(result["left"]).any(1).tolist() == [i in (2, 9) for i in range(ROWS)]
        batches = tf.data.Dataset.from_tensor_slices((inputs, {"kind": CLASSES % 2})).batch(4)
        with pytest.raises(ValueError, match=r"NaN in row 2,"):
            explain(model, batches)

    def test_nan_late_in_a_data_set_keeps_what_was_done(self):
        rows = X.copy()
        rows[9] = np.nan
        made = Explainer(classifier())
        with pytest.raises(ValueError, match="NaN in row 9") as error:
            made.explain(tf.data.Dataset.from_tensor_slices(rows).batch(4), progress=False)
        assert_close(error.value.results, made.explain(X[:8], progress=False), 1e-5)

    def test_models_that_run_eagerly_only_are_told_why(self):
        class Eager(tf.keras.Model):
            def call(self, x):
                return tf.constant(x.numpy() * 2)

        class Arrays(tf.keras.Model):
            def call(self, x):
                return np.tanh(np.asarray(x))

        for model in (Eager(), Arrays(), lambda x: np.ones(4)):
            with pytest.raises((TypeError, ValueError), match="runs eagerly only.*expected TensorFlow ops"):
                explain(model, X)

    @pytest.mark.parametrize(
        "model",
        [
            lambda x: tf.ones([4, 6]),
            lambda x: tf.ones_like(x),
            lambda x: tf.stop_gradient(x),
            lambda x: tf.one_hot(tf.argmax(x, 1), 6),
        ],
    )
    def test_models_without_a_path_from_input_to_output(self, model):
        with pytest.raises(ValueError, match="no (path|gradient).* expected"):
            explain(model, X)

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            (
                {"model": 3},
                TypeError,
                "model is a int, expected a Keras model or anything that can be called",
            ),
            ({"method": "saliencey"}, ValueError, "'saliencey', expected.*near 'saliency'"),
            ({"method": "layer_conductance"}, ValueError, "layer is None, expected"),
            ({"reducer": "men"}, ValueError, "reducer is 'men', expected"),
            ({"batch_size": 0}, ValueError, "batch_size is 0, expected a positive int"),
            ({"operator": "sum"}, TypeError, "operator is a str, expected a function"),
            ({"method_options": {"steps": 5}}, ValueError, "'steps', expected.*near 'num_steps'"),
            ({"method": "smoothgrad"}, ValueError, "lacks 'stdev', 'num_samples', expected"),
            (
                {"method": "smoothgrad", "method_options": {"builder": "layer_conductance"}},
                ValueError,
                "builder'\\] is 'layer_conductance', expected",
            ),
            ({"layer": 2.5}, TypeError, "layer is a float, expected the name or index of a layer"),
        ],
    )
    def test_arguments_that_do_not_fit_are_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            Explainer(**{"model": classifier(), **arguments})

    @pytest.mark.parametrize(
        "inputs, message",
        [
            ([X, X], "expected 1 array for the model's inputs"),
            ({"sensor": X}, "the key 'sensor', expected"),
            (X[:0], "have no rows, expected at least one"),
            (np.float32(1), "a scalar, expected rows"),
        ],
    )
    def test_inputs_that_do_not_fit_are_refused(self, inputs, message):
        with pytest.raises(ValueError, match=message):
            explain(classifier(), inputs)

    def test_inputs_of_several_lengths_are_refused(self):
        with pytest.raises(
            ValueError, match=r"11 \(inputs\[0\]\), 4 \(inputs\[1\]\) rows, expected the same"
        ):
            explain(two_branches(), [X[:, :3], X[:4, 3:5]], targets={"kind": 0})

    def test_a_loaded_model_is_pointed_to_its_signatures(self, tmp_path):
        module = tf.Module()
        module.f = tf.function(lambda x: x, input_signature=[tf.TensorSpec([None, 2])])
        tf.saved_model.save(module, str(tmp_path), signatures={"score": module.f})
        with pytest.raises(TypeError, match=r"Pass one of its signatures: signatures\['score'\]"):
            Explainer(tf.saved_model.load(str(tmp_path)))

    def test_a_delta_is_for_methods_that_are_complete(self):
        with pytest.raises(ValueError, match="return_delta is True for saliency, expected"):
            explain(classifier(), X, method="saliency", return_delta=True)


class TestInterruptions:
    def test_a_failing_batch_says_which_rows_and_loses_nothing(self):
        def model(x):
            with tf.control_dependencies([tf.debugging.assert_less(x, 100.0)]):
                return tf.identity(x)[:, 0] ** 2

        rows = X.copy()
        rows[6, 0] = 200
        made = Explainer(model, batch_size=4)
        stream, got = made.explain_batches(rows, progress=False), []
        with pytest.raises(RuntimeError, match="failed in rows 4 to 7, .*rows 0 to 3 done before") as error:
            for part in stream:
                got.append(part)
        assert len(got) == 1 and isinstance(error.value.__cause__, tf.errors.InvalidArgumentError)
        with pytest.raises(RuntimeError) as error:
            made.explain(rows, progress=False)
        assert_close(error.value.results, got[0], 1e-6)

    def test_control_c_says_where_it_came_and_loses_nothing(self):
        made, calls = Explainer(classifier(), batch_size=4), []

        def interrupt(batch):
            calls.append(len(batch))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return 0 * batch

        with pytest.raises(KeyboardInterrupt, match="interrupted in rows 8 to 10; rows 0 to 7 done") as error:
            made.explain(X, CLASSES, interrupt, progress=False)
        expected = made.explain(X, CLASSES, progress=False)
        assert_close(error.value.results, expected[:8], 1e-5)

    def test_a_data_set_that_fails_says_how_far_it_came(self):
        def rows():
            yield from X[:5]
            raise OSError("the disk is gone")

        batches = tf.data.Dataset.from_generator(rows, output_signature=tf.TensorSpec([6])).batch(2)
        made = Explainer(classifier())
        with pytest.raises(
            RuntimeError, match="data set failed at rows from 4 on, .*rows 0 to 3 done"
        ) as error:
            made.explain(batches, progress=False)
        assert error.value.results.shape == (4, 6)
        assert made.explain(X, progress=False).shape == X.shape  # and goes on working

    def test_nothing_was_done_before_the_first_batch(self):
        with pytest.raises(ValueError) as error:
            explain(classifier(), X, targets=7)
        assert error.value.results is None


def test_the_examples_of_the_docstrings_run():
    assert doctest.testmod(explainer_module).failed == 0
