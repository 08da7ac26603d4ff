"""Networks of every kind, and their layers."""

import numpy as np
import pytest
import tensorflow as tf
from explained import (
    CLASSES,
    KERAS,
    ONE_KERAS,
    RNG,
    ROWS,
    X,
    by_hand,
    classifier,
    explain,
    nested,
    new_classifier,
    questions,
    two_branches,
)
from reference import as_graph, assert_close, randomize

import igtf as ig
from igtf import Explainer


class TestModels:
    @pytest.mark.few(1)
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

    @pytest.mark.few(1)
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

    @pytest.mark.few(1)
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
    @ONE_KERAS
    def test_explainers_of_one_model_share_nothing(self, keras):
        model = new_classifier(keras)
        before = Explainer(model, output_layer="logits")
        after = Explainer(model)
        by_index = Explainer(model, output_layer=-2)
        other = Explainer(new_classifier(keras, softmax=False))
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
        first = new_classifier()
        layers = tf.keras.layers
        second = tf.keras.Sequential([tf.keras.Input((6,)), layers.Rescaling(2.0), *first.layers[:-1]])
        with pytest.warns(UserWarning, match="targets choose among the 5 units of output_layer 'hidden'"):
            result = explain(second, X, output_layer="hidden", targets=2)
        kernel, bias = first.layers[0].get_weights()

        def hidden(x, training):
            return tf.nn.relu(2 * x @ kernel + bias)

        chosen = np.eye(5, dtype=np.float32)[[2] * ROWS]
        assert_close(result, by_hand(hidden, X, weights=chosen), 1e-5)

    @pytest.mark.few(1)
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
        inside = new_classifier(softmax=False)
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

    @ONE_KERAS
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

    @pytest.mark.few(1)
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
    def test_an_embedding_that_is_tied_to_the_output_is_its_call_on_ids(self, keras):
        class Tied(keras.layers.Embedding):
            def call(self, inputs, reverse=False):
                return inputs @ tf.transpose(self.embeddings) if reverse else super().call(inputs)

        class Language(keras.Model):
            def __init__(self):
                super().__init__()
                self.words, self.dense = Tied(7, 4, name="words"), keras.layers.Dense(4, "tanh")

            def call(self, ids):
                return self.words(self.dense(tf.reduce_mean(self.words(ids), 1)), reverse=True)

        model, ids = Language(), np.random.RandomState(0).randint(1, 7, [ROWS, 5])
        model(ids)
        randomize(model)
        targets = np.arange(ROWS) % 7
        found, delta = explain(
            model, ids, layer="words", targets=targets, baselines=0 * ids, return_delta=True, num_steps=30
        )
        assert found.shape == (ROWS, 5, 4) and abs(delta).max() < 1e-4
        change = model(ids).numpy() - model(0 * ids).numpy()
        assert_close(found.sum((1, 2)), change[np.arange(ROWS), targets], 1e-4)
        with pytest.raises(ValueError, match=r"is called 2 times .* expected one call"):
            explain(model, ids, output_layer="words")

    @pytest.mark.few(1)
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

    @pytest.mark.few(1)
    @pytest.mark.parametrize(
        "method",
        ["integrated_gradients", "occlusion"]
        + [pytest.param(method, marks=pytest.mark.slow) for method in ("deeplift", "saliency")],
    )
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
