"""Model in, numbers out: values, models, targets, baselines, batches, bad input, interruptions."""

import doctest
import importlib
import warnings

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


@pytest.mark.filterwarnings("ignore:Explainer.explain")  # few steps, as there
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

    def test_options_of_each_input_have_its_place(self):
        def model(a, b):
            return tf.reduce_sum(a, 1) * tf.reduce_sum(b, [1, 2])

        a, b = X[:, :4], SERIES[:, :4]
        scales = a.sum(1), b.sum((1, 2))
        pairs = a.reshape(ROWS, 2, 2).mean(-1).repeat(2, 1)  # windows share what they are worth
        window = {"window_shape": 2, "strides": 2}
        one = explain(
            lambda a: tf.reduce_sum(a, 1), a, {"window_shape": (2,), "strides": (2,)}, method="occlusion"
        )
        assert_close(one, pairs, 1e-5)
        both = {"window_shape": [(2,), (4, 1)], "strides": [(2,), None]}
        result = explain(model, [a, b], both, method="occlusion")
        assert_close(result[0], pairs * scales[1][:, None], 1e-4)
        columns = b.mean(1, keepdims=True).repeat(4, 1)
        assert_close(result[1], columns * scales[0][:, None, None], 1e-4)
        by_name = {"window_shape": dict(zip("ab", both["window_shape"])), "strides": {"a": (2,), "b": None}}
        result = explain(model, {"a": a, "b": b}, by_name, method="occlusion")
        assert_close(result["a"], pairs * scales[1][:, None], 1e-4)
        assert explain(model, [a, b], window, method="occlusion")[1].shape == b.shape

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
        with pytest.warns(UserWarning, match="targets choose among the 5 units of output_layer 'hidden'"):
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

    def test_where_there_are_no_layers_none_can_be_named(self):
        with pytest.raises(ValueError, match="without layers that can be named"):
            Explainer(lambda x: x, layer="hidden")

    @KERAS
    def test_layers_in_attributes_lists_and_dicts_of_layers_and_modules_are_found(self, keras):
        model, block = nested(keras)

        class Module(tf.Module):
            def __init__(self):
                super().__init__()
                self.parts = [block, model.layers[-1]]

            def __call__(self, x):
                return self.parts[1](self.parts[0](x))

        for network in (model, Module()):
            for name, units in (("first", 4), ("second", 5), ("third", 3)):
                result, delta = explain(network, X, layer=name, targets=1, return_delta=True)
                assert result.shape == (ROWS, units) and abs(delta).max() < 1e-4
        with pytest.raises(ValueError, match="'frist', expected one of 6 names, such as the near 'first'"):
            Explainer(model, layer="frist")
        assert_close(explain(model, X, layer=block, targets=1), explain(model, X, layer=1, targets=1), 1e-6)

    @KERAS
    def test_a_shared_layer_is_chosen_by_its_call_and_all_calls_move_on_one_path(self, keras):
        layers = keras.layers
        left, right = keras.Input((3,)), keras.Input((3,))
        encoder = layers.Dense(4, name="encoder")
        merged = layers.Multiply()([encoder(left), encoder(right)])
        model = randomize(keras.Model([left, right], layers.Dense(1, use_bias=False)(merged)))
        a, b = X[:, :3], X[:, 3:]
        kernel, bias = (w.astype(np.float64) for w in encoder.get_weights())
        u, v, weights = a @ kernel + bias, b @ kernel + bias, model.layers[-1].get_weights()[0][:, 0]
        # With the other one fixed the product is linear; together, each gets its mean on the way from bias.
        assert_close(explain(model, [a, b], layer=("encoder", 0)), (u - bias) * v * weights, 1e-4)
        assert_close(explain(model, [a, b], layer=("encoder", -1)), (v - bias) * u * weights, 1e-4)
        both, delta = explain(model, [a, b], layer=[("encoder", 0), ("encoder", 1)], return_delta=True)
        assert_close(both[0], (u - bias) * (v + bias) / 2 * weights, 1e-4)
        assert_close(both[1], (v - bias) * (u + bias) / 2 * weights, 1e-4)
        assert abs(delta).max() < 1e-4
        with pytest.raises(
            ValueError, match=r"2 times .*\(0: tensor \(None, 4\) from inputs\[0\]; 1: .*one call"
        ):
            explain(model, [a, b], layer="encoder")
        with pytest.raises(ValueError, match=r"and not 2\. Choose: output_layer=\('encoder', 0\)"):
            explain(model, [a, b], output_layer=("encoder", 2))
        first = explain(model, [a, b], output_layer=("encoder", 0), targets=np.eye(4)[[2] * ROWS])
        assert_close(first[0], a * kernel[:, 2], 1e-4)
        assert not first[1].any()

    @KERAS
    def test_calls_are_counted_as_in_the_code_and_not_as_keras_runs_them(self, keras):
        layers = keras.layers
        x, shared = keras.Input((6,)), layers.Dense(2, use_bias=False, name="shared")
        calls = [shared(layers.Rescaling(float(k))(x)) for k in (1, 2, 3)]
        model = randomize(keras.Model(x, layers.Concatenate()(calls)))
        kernel = shared.get_weights()[0]
        weights = np.arange(1.0, 7) * np.ones((ROWS, 1))
        for k in range(3):
            result = explain(model, X, layer=("shared", k), targets=weights)
            assert_close(result, (k + 1) * X @ kernel * weights[:, 2 * k : 2 * k + 2], 1e-4)

    def test_a_layer_inside_a_shared_encoder_is_found_for_each_input(self):
        layers = tf.keras.layers
        encoder = tf.keras.Sequential([layers.Dense(4, name="inner"), layers.Dense(2, "tanh")])
        a, b = tf.keras.Input((3,), name="a"), tf.keras.Input((3,), name="b")
        model = tf.keras.Model([a, b], layers.Dense(1)(layers.Subtract()([encoder(a), encoder(b)])))
        inputs = {"a": X[:, :3], "b": X[:, 3:]}
        randomize(model)
        hidden = explain(model, inputs, layer={"b": "inner"})
        plain = explain(model, inputs)
        assert_close(hidden["a"], plain["a"], 1e-4)
        assert hidden["b"].shape == (ROWS, 4)
        np.testing.assert_allclose(hidden["b"].sum(1), plain["b"].sum(1), atol=1e-4)  # affine in between

    def test_one_embedding_of_several_inputs_is_explained_for_each_of_them(self):
        ids = [RNG.integers(1, 9, (ROWS, 4)) for _ in range(3)]
        table, weights = RNG.normal(size=(9, 2)), RNG.normal(size=(3, 4, 2))
        embedding = tf.keras.layers.Embedding(9, 2, name="words")
        inputs = [tf.keras.Input((4,), dtype="int32", name=name) for name in "abc"]
        flat = [tf.keras.layers.Flatten()(embedding(x)) for x in inputs]
        dense = tf.keras.layers.Dense(1, use_bias=False)
        model = tf.keras.Model(inputs, dense(tf.keras.layers.Concatenate()(flat)))
        embedding.set_weights([table])
        dense.set_weights([weights.reshape(-1, 1)])
        expected = [(table[x] - table[0]) * w for x, w in zip(ids, weights)]
        for part, wanted in zip(explain(model, ids, layer=[("words", i) for i in range(3)]), expected):
            assert_close(part, wanted, 1e-5)
        result = explain(model, dict(zip("abc", ids)), layer={"b": ("words", 1), "c": "words"})
        assert result["a"] is None
        assert_close(result["c"], expected[2], 1e-5)
        with pytest.raises(TypeError, match=r"inputs\[0\] has dtype int32.*layer='words'"):
            explain(model, ids)

    @pytest.mark.parametrize("method", ["integrated_gradients", "deeplift", "occlusion", "saliency"])
    def test_words_in_the_place_of_one_input_and_the_image_beside_them(self, method):
        model, image, question = questions()
        options = {"window_shape": 2} if method == "occlusion" else {}
        for inputs in ([image, question], (image, question), {"image": image, "question": question}):
            result = explain(model, inputs, options, method=method, layer={"question": "words"}, targets=1)
            assert type(result) is type(inputs)
            of_image, of_words = result.values() if isinstance(inputs, dict) else result
            assert of_image.shape == image.shape and of_words.shape == (ROWS, 4, 3)
            if method == "integrated_gradients":
                change = model([image, question]).numpy() - model([0 * image, 0 * question]).numpy()
                total = of_image.sum((1, 2, 3)) + of_words.sum((1, 2))
                np.testing.assert_allclose(total, change[:, 1], atol=2e-3)
        alone, delta = explain(model, inputs, layer="words", targets=1, return_delta=True)
        assert alone.shape == (ROWS, 4, 3) and abs(delta).max() < 2e-3  # with the image fixed
        fixed = explain(model, inputs, targets=1)  # with the words fixed
        assert fixed["image"].shape == image.shape and fixed["question"] is None

    def test_layers_that_do_not_fit_together_are_refused(self):
        model, image, question = questions()
        with pytest.raises(ValueError, match="layer has the key 'qestion', expected .*near 'question'"):
            explain(model, [image, question], layer={"qestion": "words"}, targets=1)
        with pytest.raises(ValueError, match="leaves 'tensors_0:0' an input, expected a layer in the place"):
            explain(
                model, [image, question], method="layer_conductance", layer={"question": "words"}, targets=1
            )
        deep = classifier()
        for method in ("integrated_gradients", "layer_conductance"):
            with pytest.raises(ValueError, match="'.*logits.*' is computed from others.*one at a time"):
                explain(deep, X, method=method, layer=["hidden", "logits"], targets=1)
        with pytest.raises(TypeError, match="layer is a list, expected the name or index"):
            Explainer(deep, layer=[])
        x = tf.keras.Input((6,))
        unused = tf.keras.layers.Dense(2, name="unused")

        class Lazy(tf.keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.part = unused

            def call(self, x):
                return x * 2

        with pytest.raises(ValueError, match="'unused' is not called when the model runs, expected one call"):
            explain(tf.keras.Model(x, Lazy()(x)), X, layer="unused", targets=0)


def nested(keras):
    """A model whose hidden layers are attributes, list members and dict values of a layer of its own."""
    layers = keras.layers

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(4, "relu", name="first")
            self.more = [layers.Dense(5, "tanh", name="second")]
            self.named = {"third": layers.Dense(3, name="third")}

        def call(self, x):
            return self.named["third"](self.more[0](self.first(x)))

    x, block = keras.Input((6,)), Block()
    return randomize(keras.Model(x, layers.Dense(2)(block(x)))), block


def questions():
    """A model of images and the ids of words, and some of both."""
    layers = tf.keras.layers
    image = tf.keras.Input((5, 4, 3), name="image")
    question = tf.keras.Input((4,), dtype="int32", name="question")
    seen = layers.Flatten()(layers.Conv2D(2, 3, activation="tanh", name="conv")(image))
    read = layers.Flatten()(layers.Embedding(9, 3, name="words")(question))
    merged = layers.Concatenate()([seen, layers.Dense(4, "tanh")(read)])
    model = randomize(tf.keras.Model([image, question], layers.Dense(3, "softmax")(merged)))
    return model, IMAGES, RNG.integers(1, 9, (ROWS, 4))


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
        plain = classifier(softmax=False)

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


class TestCompleteness:
    """F(x) = step(x0) + x1 is missed by three points of the path; a straight line is not."""

    @staticmethod
    def steep(x):
        return tf.sigmoid(200 * (x[:, 0] - 0.7)) + x[:, 1]

    OPTIONS = {"method": "riemann_middle", "num_steps": 3}

    def rows(self):
        rows = np.zeros((6, 2), np.float32)
        rows[:, 1] = 0.5
        rows[[1, 4], 0] = 1  # these climb the step
        return rows

    def test_is_checked_without_being_asked_and_the_rows_are_named_once(self):
        made = Explainer(self.steep, batch_size=2, method_options=self.OPTIONS)
        for run in (made.explain, lambda *a, **k: list(made.explain_batches(*a, **k))):
            with pytest.warns(UserWarning) as caught:
                run(self.rows(), progress=False)
            (warning,) = caught
            text = str(warning.message)
            assert "attributions of rows 1, 4 do not sum" in text and "worst in row" in text
            assert "they sum to 0.5 and the output changes by 1.5 (delta -1), expected within 5%" in text
            assert "num_steps=12" in text and "'method': 'secant'" in text
            assert warning.filename == __file__

    def test_nothing_is_said_where_sums_are_right(self):
        quiet = [
            (self.steep, {"method_options": {"method": "secant", "num_steps": 3}}),
            (self.steep, {"method": "deeplift"}),
            (self.steep, {"method": "saliency"}),
            (self.steep, {"method": "shapley_value_sampling"}),
            (lambda x: 1e6 + x[:, 1] - x[:, 1], {}),  # no change but for rounding
            (lambda x: tf.cast(tf.cast(x, tf.float16)[:, 1], tf.float32), {}),
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for model, options in quiet:
                Explainer(model, **options).explain(self.rows(), progress=False)

    def test_is_checked_for_all_outputs_hidden_layers_and_stacks_of_baselines(self):
        both = lambda x: tf.stack([x[:, 1], self.steep(x)], 1)  # noqa: E731
        made = Explainer(both, method_options=self.OPTIONS)
        with pytest.warns(UserWarning, match="rows 1, 4 do not sum"):
            made.explain(self.rows(), "all", progress=False)
        with pytest.warns(UserWarning, match="rows 1, 4 do not sum"):
            made.explain(self.rows(), 1, np.zeros((2, 1, 2)), progress=False)
        scale = tf.keras.layers.Rescaling(1.0, name="scale")
        x = tf.keras.Input((2,))
        model = tf.keras.Model(x, tf.keras.layers.Lambda(self.steep)(scale(x)))
        for method in ("integrated_gradients", "layer_conductance"):
            with pytest.warns(UserWarning, match="rows 1, 4 do not sum"):
                Explainer(model, method, layer="scale", method_options=self.OPTIONS).explain(
                    self.rows(), progress=False
                )

    def test_conductance_beside_other_paths_is_not_expected_to_sum(self):
        x = tf.keras.Input((2,))
        side = tf.keras.layers.Rescaling(1.0, name="side")(x)
        model = tf.keras.Model(x, tf.keras.layers.Lambda(lambda p: p[0][:, 0] + p[1][:, 1])([side, x]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            explain(model, np.ones((3, 2)), method="layer_conductance", layer="side")

    def test_attributions_that_are_no_numbers_are_named(self):
        root = lambda x: tf.sqrt(tf.nn.relu(x[:, 0]) * 0) + x[:, 1]  # noqa: E731
        made = Explainer(root, method_options={"method": "riemann_left", "num_steps": 4})
        with pytest.warns(UserWarning, match="rows 0 to 5 do not sum.*delta nan"):
            made.explain(self.rows(), progress=False)


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
        expected = by_hand(model, X)
        rows = [list(tf.constant(CLASSES)), [np.int64(c) for c in CLASSES], list(ONE_HOT)]
        for targets in (*rows, list(map(tf.constant, ONE_HOT)), ONE_HOT.tolist(), [CLASSES], (ONE_HOT,)):
            assert_close(explain(model, X, targets=targets), expected, 1e-5)
        inputs = [X[:, :3], X[:, 3:5]]
        expected = explain(two_branches(), inputs, targets={"kind": CLASSES % 2, "size": None})
        for targets in (
            [CLASSES % 2, None],
            (CLASSES % 2, 0),
            [ONE_HOT[:, :2] * 0 + np.eye(2)[CLASSES % 2], 0],
        ):
            for part, wanted in zip(explain(two_branches(), inputs, targets=targets), expected):
                assert_close(part, wanted, 1e-5)
        with pytest.raises(ValueError, match="expected one for each of the outputs 'kind', 'size'"):
            explain(two_branches(), inputs, targets=[CLASSES, None, None])
        with pytest.raises(
            ValueError, match=r"targets\['kind'\] is 2 in rows .*expected class numbers from 0 to 1"
        ):
            explain(two_branches(), inputs, targets=[np.full(ROWS, 2), None])

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

    @pytest.mark.parametrize(
        "name", ["lists", "tuples", "tensors", "stacks", "function", "mixed", "nested lists"]
    )
    def test_of_inputs_of_different_shapes_in_any_form(self, name):
        a, b = X[:, :3], SERIES
        forms = {
            "lists": ([a[:1], b[:1]], [(a[:1], b[:1])]),
            "tuples": ((a[::-1], b[:1]), [(a[::-1], b[:1])]),
            "tensors": ([tf.constant(a[:1]), tf.constant(b)], [(a[:1], b)]),
            "stacks": ([np.stack([a, a * 0]), b[:2][:, None]], [(a, b[:1]), (a * 0, b[1:2])]),
            "function": (lambda rows: [rows[0] * 0.5, None], [(a * 0.5, b * 0)]),
            "mixed": ([None, 0.5], [(a * 0, b * 0 + 0.5)]),
            "nested lists": ([a[0].tolist(), b[0].tolist()], [(a[:1], b[:1])]),
        }
        baselines, starts = forms[name]

        def model(a, b):
            return tf.reduce_sum(a, 1) * tf.reduce_sum(b * b, [1, 2])

        def f(a, b):
            a, b = np.broadcast_to(a, (ROWS, 3)), np.broadcast_to(b, SERIES.shape)
            return a.astype(np.float64).sum(1) * (b.astype(np.float64) ** 2).sum((1, 2))

        result = explain(model, [a, b], baselines=baselines)
        total = result[0].sum(1) + result[1].sum((1, 2))
        assert_close(total, np.mean([f(a, b) - f(*start) for start in starts], 0), 1e-4)

    def test_by_name_are_over_all_rows(self):
        def model(x):
            return x[:, 0] * x[:, 1] ** 2

        rows = X[:, :2].copy()
        rows[3, 0] = np.nan
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(4)
        known = rows.astype(np.float64)
        arrays = {
            "zeros": np.zeros((1, 2)),
            "mean": np.nanmean(known, 0, keepdims=True),
            "min": np.nanmin(known, 0, keepdims=True),
            "max": np.nanmax(known, 0, keepdims=True),
        }
        for name, array in arrays.items():
            expected = explain(model, rows, baselines=array, allow_nan=True)
            for inputs in (rows, batches):
                np.testing.assert_allclose(
                    explain(model, inputs, baselines=name, allow_nan=True), expected, atol=1e-5
                )
        pairs = explain(lambda a, b: model(a) * model(b), [X, X[::-1]], baselines=["mean", 0.5])
        same = explain(lambda a, b: model(a) * model(b), [X, X[::-1]], baselines=[X.mean(0), np.full(6, 0.5)])
        assert_close(pairs[0], same[0], 1e-4)
        each = explain(model, X, baselines=lambda batch: "mean", batch_size=ROWS)
        assert_close(each, explain(model, X, baselines="mean"), 1e-5)
        with pytest.raises(ValueError, match="baselines is 'maen', expected .*near 'mean'.*function"):
            explain(model, X, baselines="maen")
        endless = Explainer(model).explain_batches
        with pytest.raises(ValueError, match="data set without an end, expected one that can be read twice"):
            endless(batches.repeat(), baselines="mean")

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

    def test_batches_of_different_lengths_come_as_a_list(self):
        rows = [np.full((length, 2), length, np.float32) for length in (2, 3, 5, 4)]
        batches = tf.data.Dataset.from_generator(
            lambda: rows, output_signature=tf.TensorSpec([None, 2])
        ).padded_batch(2)
        square = lambda x: tf.reduce_sum(x**2, axis=[1, 2])  # noqa: E731
        for part, batch in zip(explain(square, batches), batches, strict=True):
            assert_close(part, batch.numpy() ** 2, 1e-4)
        parts = explain(square, batches, return_delta=True)
        assert [delta.shape for _, delta in parts] == [(2,), (2,)]
        with pytest.raises(ValueError, match=r"'mean' and rows of inputs have shapes \(3, 2\) and \(5, 2\)"):
            explain(square, batches, baselines="mean")

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


class TestIntegers:
    """Lengths, masks and ids have no gradient; images of bytes are numbers that the model casts."""

    LENGTHS = RNG.integers(1, 5, ROWS)
    MASK = RNG.random((ROWS, 6)) > 0.4
    BYTES = RNG.integers(0, 256, (ROWS, 5, 4, 3)).astype(np.uint8)

    @staticmethod
    def masked(x, mask, lengths):
        return tf.reduce_sum(x**3 * tf.cast(mask, x.dtype), 1) / tf.cast(lengths, x.dtype)

    @pytest.mark.parametrize("method", ["integrated_gradients", "deeplift", "gradient_times_input"])
    def test_beside_floating_inputs_are_held_fixed(self, method):
        inputs = [X, self.MASK, self.LENGTHS]
        factor = 3 if method == "gradient_times_input" else 1
        expected = factor * X**3 * self.MASK / self.LENGTHS[:, None]
        batches = tf.data.Dataset.from_tensor_slices((tuple(inputs), CLASSES * 0)).batch(4)
        given = [inputs, tuple(inputs), dict(zip(("x", "mask", "lengths"), inputs)), batches]
        for some in given:
            result = explain(self.masked, some, method=method)
            x, *fixed = result.values() if isinstance(result, dict) else result
            assert_close(x, expected, 2e-3)
            assert fixed == [None, None]

    def test_their_baselines_are_not_used_and_may_be_left_out(self):
        inputs = [X, self.MASK, self.LENGTHS]
        expected = (X**3 - X[:1] ** 3) * self.MASK / self.LENGTHS[:, None]
        for baselines in ([X[:1], None, None], lambda rows: [X[:1], rows[1] * 0, rows[2] * 0]):
            result, delta = explain(self.masked, inputs, baselines=baselines, return_delta=True)
            assert_close(result[0], expected, 1e-4)
            assert abs(delta).max() < 1e-4 and result[1:] == [None, None]
        twice = lambda x, m, n: tf.stack([self.masked(x, m, n)] * 2, 1)  # noqa: E731
        every = explain(twice, inputs, targets="all")
        assert every[0].shape == (ROWS, 2, 6) and every[1] is None

    def test_methods_that_need_no_gradient_explain_them(self):
        x, mask, lengths = explain(self.masked, [X, self.MASK, self.LENGTHS + 1.0], method="occlusion")
        cubes = X**3 * self.MASK / (self.LENGTHS[:, None] + 1)
        assert_close(x, cubes, 1e-4)
        assert_close(mask, cubes, 1e-4)  # covered by False
        assert lengths.shape == (ROWS,)

    @pytest.mark.parametrize("baselines", [None, 127.5, "mean", "bytes"])
    def test_images_of_bytes_are_explained_after_the_cast(self, baselines):
        layers = tf.keras.layers
        inner = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2, "tanh")]
        floats = randomize(tf.keras.Sequential([tf.keras.Input((5, 4, 3)), *inner]))
        as_bytes = tf.keras.Sequential([tf.keras.Input((5, 4, 3), dtype="uint8"), *inner])
        ours = self.BYTES[:1] if isinstance(baselines, str) and baselines == "bytes" else baselines
        theirs = ours.astype(np.float32) if isinstance(ours, np.ndarray) else ours
        expected = explain(floats, self.BYTES.astype(np.float32), targets=1, baselines=theirs)
        for model in (as_bytes, lambda x: as_bytes(x, training=False)):
            result, delta = explain(model, self.BYTES, targets=1, baselines=ours, return_delta=True)
            assert_close(result, expected, 1e-4)
            assert abs(delta).max() < 1e-4

    def test_casts_at_several_places_are_one_image(self):
        def model(x):
            return tf.reduce_sum(tf.image.convert_image_dtype(x, tf.float32) ** 2, [1, 2, 3]) + tf.reduce_sum(
                tf.cast(tf.reshape(x, [-1, 60]), tf.float32) / 255, 1
            )

        pixels = self.BYTES / 255.0
        assert_close(explain(model, self.BYTES), pixels**2 + pixels, 1e-4)
        beside = explain(lambda x, z: model(x) + z[:, 0], [self.BYTES, X])
        assert_close(beside[0], pixels**2 + pixels, 1e-4)
        module = tf.Module()
        module.f = tf.function(
            lambda x: {"y": model(x)}, input_signature=[tf.TensorSpec([None, 5, 4, 3], tf.uint8, name="x")]
        )
        signature = module.f.get_concrete_function()
        assert_close(explain(signature, self.BYTES), pixels**2 + pixels, 1e-4)

    @pytest.mark.parametrize(
        "model, inputs, message",
        [
            (
                lambda x: tf.gather(tf.ones([9, 1]), x)[:, 0, 0],
                CLASSES[:, None],
                "int64.*For ids, name their",
            ),
            (lambda x: tf.cast(tf.strings.length(x), tf.float32), np.array(["a"] * 3), "string.*For texts"),
            (lambda x: tf.abs(x)[:, 0], X.astype(np.complex64), "complex64.*two inputs, for tf.complex"),
            (lambda x: tf.cast(tf.cast(x, tf.bool), tf.float32)[:, 0], CLASSES[:, None], "dtype int64"),
        ],
    )
    def test_where_nothing_has_a_gradient_the_way_is_shown(self, model, inputs, message):
        with pytest.raises(TypeError, match=f"dtype {message}" if "dtype" not in message else message):
            explain(model, inputs)

    def test_ids_have_no_fractions(self):
        model, image, question = questions()
        with pytest.raises(
            ValueError, match="baselines are fractions for an input of dtype int32, expected whole"
        ):
            explain(model, [image, question], layer="words", targets=1, baselines=[None, 0.5])


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
            (X[0], r"shape \(6,\), that of a single row of \(None, 6\), expected rows.*x\[None\]"),
            (X[0].tolist(), r"shape \(6,\), that of a single row.*x\[None\]"),
            (X[:, :5], r"the model failed on inputs TensorSpec \(None, 5\), expected what it takes"),
        ],
    )
    def test_inputs_that_do_not_fit_are_refused(self, inputs, message):
        with pytest.raises(ValueError, match=message):
            explain(classifier(), inputs)

    def test_a_single_image_is_told_apart_from_grey_ones_without_channels(self):
        for shape in ((5, 4, 3), (5, 4, 1)):
            model = tf.keras.Sequential(
                [tf.keras.Input(shape), tf.keras.layers.Flatten(), tf.keras.layers.Dense(2)]
            )
            with pytest.raises(ValueError, match=rf"that of a single row of \(None, {shape[0]}.*x\[None\]"):
                explain(model, IMAGES[0, ..., : shape[-1]], targets=1)
        assert explain(model, IMAGES[..., 0], targets=1).shape == (ROWS, 5, 4)  # Keras adds the axis

    def test_the_way_that_is_shown_to_dense_arrays_works(self):
        rows = [[1.0, 2.0], [3.0]]
        dense = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
        ragged, sparse = tf.ragged.constant(rows), tf.sparse.from_dense(dense)
        objects = np.empty(2, object)
        objects[:] = rows
        cases = [
            (ragged, "RaggedTensor", "inputs.to_tensor()"),
            (sparse, "SparseTensor", "tf.sparse.to_dense(inputs)"),
            (rows, "list", "tf.keras.utils.pad_sequences(rows, dtype='float32', padding='post')"),
            (objects, "ndarray", "tf.keras.utils.pad_sequences(rows, dtype='float32', padding='post')"),
        ]

        def square(x):
            return tf.reduce_sum(x**2, 1)

        for inputs, kind, advice in cases:
            with pytest.raises(TypeError, match=f"inputs is a {kind}, expected") as error:
                explain(square, inputs)
            assert advice in str(error.value)
            converted = eval(advice, {"tf": tf, "inputs": inputs, "rows": inputs})
            assert_close(explain(square, converted), dense**2, 1e-4)
        for inputs, convert in ((ragged, lambda x: x.to_tensor()), (sparse, tf.sparse.to_dense)):
            batches = tf.data.Dataset.from_tensors(inputs)
            name = "to_tensor" if inputs is ragged else "tf.sparse.to_dense"
            with pytest.raises(TypeError, match=rf"in the data set, expected dense.*map, as in .*{name}"):
                explain(square, batches)
            assert_close(explain(square, batches.map(convert)), dense**2, 1e-4)
        assert_close(explain(square, tf.Variable(dense)), dense**2, 1e-4)

    def test_options_of_the_method_may_be_arguments(self):
        cube = lambda x: tf.reduce_sum(x**3, 1)  # noqa: E731
        result = Explainer(cube, num_steps=3, method_options={"method": "riemann_middle"}).explain(
            X, progress=False
        )
        assert_close(result, X**3 * np.mean([3 * a**2 for a in (1 / 6, 3 / 6, 5 / 6)]), 1e-5)
        with pytest.raises(ValueError, match="'num_steps' is an argument and in method_options"):
            Explainer(cube, num_steps=3, method_options={"num_steps": 4})
        with pytest.raises(ValueError, match="'ouput_layer', expected .*near 'output_layer'"):
            Explainer(cube, ouput_layer=3)
        with pytest.raises(ValueError, match="'secant', expected .*method_options={'method': 'secant'}"):
            Explainer(cube, method="secant")
        with pytest.raises(TypeError, match="method_options is a int, expected a dict"):
            Explainer(cube, method_options=3)

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

    @pytest.mark.parametrize("size, hint", [(1, "model itself fails on them"), (4, "takes their baselines")])
    def test_the_advice_follows_what_the_model_itself_does(self, size, hint):
        def model(x):
            return x[:, 0] * tf.gather(tf.ones(size), tf.cast(x[:, 1], tf.int32))

        with pytest.raises(RuntimeError, match=f"in rows 0 to 1, expected a batch that runs.*{hint}"):
            explain(model, np.full((2, 2), 2.0, np.float32), baselines=8.0)

    def test_where_memory_runs_out_smaller_batches_are_advised(self):
        def starts(batch):
            raise MemoryError

        with pytest.raises(RuntimeError, match="the function that makes baselines failed.*lower batch_size"):
            explain(classifier(), X, baselines=starts)

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
