"""Inputs of every dtype, and those that are refused."""

import numpy as np
import pytest
import tensorflow as tf
from explained import (
    CLASSES,
    IMAGES,
    ONE_HOT,
    RNG,
    ROWS,
    X,
    classifier,
    explain,
    questions,
    two_branches,
)
from reference import assert_close, randomize

from igtf import Explainer


class TestIntegers:
    """Lengths, masks and ids have no gradient; images of bytes are numbers that the model casts."""

    LENGTHS = RNG.integers(1, 5, ROWS)
    MASK = RNG.random((ROWS, 6)) > 0.4
    BYTES = RNG.integers(0, 256, (ROWS, 5, 4, 3)).astype(np.uint8)

    @staticmethod
    def masked(x, mask, lengths):
        return tf.reduce_sum(x**3 * tf.cast(mask, x.dtype), 1) / tf.cast(lengths, x.dtype)

    @pytest.mark.few(2)
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

    @pytest.mark.few(2)
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
            ({"operator": "bax"}, ValueError, "operator is 'bax', expected.*near 'box'"),
            ({"operator": 3}, TypeError, "operator is a int, expected a function"),
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

    @pytest.mark.parametrize(
        "inputs, message",
        [
            ("abc", r"inputs is the text 'abc', expected an array.*np.array\(\['abc'\]\)"),
            (b"abc", r"inputs is the text b'abc', expected an array"),
            (None, "inputs is None, expected an array.*Pass the rows"),
            ({"left": X, "right": None}, r"inputs\['right'\] is None, expected an array"),
            ([X, "abc"], r"inputs\[1\] is the text 'abc', expected an array"),
            (len, "inputs is a builtin_function_or_method, expected an array.*Pass what np.asarray"),
        ],
    )
    @pytest.mark.parametrize("model", [classifier(), lambda x: x[:, 0]], ids=["Keras", "function"])
    def test_what_is_no_array_is_a_type_error_that_names_it(self, model, inputs, message):
        explainer = Explainer(model)
        with pytest.raises(TypeError, match=f"Explainer: {message}"):
            explainer.explain(inputs, progress=False)
        assert explainer.traces == 0

    def test_complex_numbers_are_refused_where_their_imaginary_part_would_be_lost(self):
        explainer, wave = Explainer(classifier()), X + 1j * X
        rows = tf.data.Dataset.from_tensor_slices(wave.astype(np.complex64)).batch(4)
        calls = [
            ("inputs has", {"inputs": wave}),
            ("inputs has", {"inputs": rows}),
            ("the baseline of inputs has", {"inputs": X, "baselines": 1j}),
        ]
        for name, arguments in calls:
            with pytest.raises(TypeError, match=rf"{name} dtype complex\d+, expected float32.*np.real"):
                explainer.explain(**arguments, progress=False)
        assert explainer.traces == 0
        with pytest.raises(TypeError, match=r"targets has dtype complex64, expected float32.*np.real"):
            explainer.explain(X, targets=ONE_HOT.astype(np.complex64), progress=False)

    def test_complex_numbers_are_explained_where_the_model_and_the_method_take_them(self):
        wave, start = (X + 2j * X[::-1]).astype(np.complex64), 0.5 - 1j
        expected = (wave**2).real - np.real(start**2)
        for method in ("occlusion", "shapley_value_sampling"):
            found = explain(
                lambda x: tf.math.real(tf.reduce_sum(x**2, 1)), wave, method=method, baselines=start
            )
            assert_close(found, expected, 1e-5)
        wave[3, 2] = complex(0, np.nan)
        with pytest.raises(ValueError, match="NaN in row 3"):
            explain(lambda x: tf.math.real(x[:, 0]), wave, method="occlusion")
        with pytest.raises(
            TypeError, match="inputs has dtype complex64, expected a floating dtype.*two inputs"
        ):
            explain(lambda x: tf.math.real(x[:, 0]), X.astype(np.complex64))

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
