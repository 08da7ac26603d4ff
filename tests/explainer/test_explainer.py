"""Values, completeness and interruptions: what an Explainer promises."""

import doctest
import importlib
import warnings

import numpy as np
import pytest
import tensorflow as tf
from explained import (
    CLASSES,
    IMAGES,
    KERAS,
    ONE_HOT,
    ONE_KERAS,
    RNG,
    ROWS,
    SERIES,
    X,
    by_hand,
    classifier,
    explain,
    image_model,
    new_classifier,
    series_model,
)
from reference import assert_close

from igtf import Explainer
from igtf.explainer.method import MAPS, METHODS


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


@pytest.mark.filterwarnings("ignore:Explainer.explain")  # few steps, as there
class TestXplique:
    @pytest.mark.thin
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
    @ONE_KERAS
    def test_equal_those_of_the_graph_function(self, keras):
        model = classifier(keras)
        expected = by_hand(model, X, num_steps=20)
        result, delta = explain(model, X, {"num_steps": 20}, targets=CLASSES, return_delta=True)
        assert isinstance(result, np.ndarray) and result.dtype == np.float32
        assert_close(result, expected, 1e-5)
        y = model(X).numpy()
        change = ((y - model(np.zeros_like(X)).numpy()) * ONE_HOT).sum(1)
        np.testing.assert_allclose(delta, result.sum(1) - change, atol=1e-5)

    @ONE_KERAS
    def test_a_tolerance_is_an_option_and_errors_come_beside(self, keras):
        model = classifier(keras)
        found, errors, steps = by_hand(model, X, tolerance=0.01, return_error=True)
        options = {"tolerance": 0.01}
        result, delta, error = explain(
            model, X, options, targets=CLASSES, return_delta=True, return_error=True, batch_size=3
        )
        assert_close(result, found, 1e-5)
        np.testing.assert_allclose(error, errors, rtol=1e-3, atol=1e-6)
        assert (error <= 0.01).all() and error.shape == delta.shape == (ROWS,)
        assert_close(explain(model, X, options, targets=CLASSES), found, 1e-5)

    def test_errors_need_no_tolerance(self):
        model = classifier()
        result, error = explain(model, X, {"num_steps": 20}, targets=CLASSES, return_error=True)
        found, errors, _ = by_hand(model, X, num_steps=20, return_error=True)
        assert_close(result, found, 1e-5)
        np.testing.assert_allclose(error, errors, rtol=1e-3, atol=1e-6)

    def test_every_class_and_every_layer_has_its_error(self):
        model = classifier()
        result, error = explain(model, X, tolerance=0.01, targets="all", return_error=True)
        assert result.shape == (ROWS, 3, 6) and error.shape == (ROWS, 3) and (error <= 0.01).all()
        method = {"method": "layer_conductance", "layer": "hidden", "tolerance": 0.01}
        result, error = explain(model, X, targets=CLASSES, return_error=True, **method)
        assert result.shape == (ROWS, 5) and error.shape == (ROWS,) and (error <= 0.01).all()

    def test_errors_are_the_mean_over_baselines(self):
        model, starts = classifier(), np.stack([0 * X, 2 * X])
        parts = [explain(model, X, targets=1, baselines=start, return_error=True)[1] for start in starts]
        _, error = explain(model, X, targets=1, baselines=starts, return_error=True)
        np.testing.assert_allclose(error, np.mean(parts, 0), rtol=1e-3, atol=1e-6)

    def test_rows_that_miss_the_tolerance_are_named(self):
        model, options = classifier(), {"tolerance": 1e-6, "num_steps": 12}
        with pytest.warns(UserWarning) as caught:
            _, error = explain(model, X, options, targets=CLASSES, return_error=True, batch_size=3)
        (message,) = (str(w.message) for w in caught if "tolerance" in str(w.message))
        worst = int(error.argmax())
        assert "not within the tolerance of 1e-06 after 12 steps" in message
        assert f"worst is row {worst}, with an estimated error of {error[worst]:.2g}" in message
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            explain(model, X, {"tolerance": 0.05}, targets=CLASSES)

    def test_methods_without_steps_have_no_error(self):
        with pytest.raises(ValueError, match="return_error is True for saliency, expected a method that"):
            explain(classifier(), X, method="saliency", return_error=True)
        with pytest.raises(ValueError, match="the options have 'return_error'"):
            Explainer(classifier(), return_error=True)

    @pytest.mark.parametrize(
        "name", [n for n in METHODS if n not in (*MAPS, "smoothgrad", "layer_conductance")]
    )
    def test_every_method_equals_its_graph_function(self, name):
        model = classifier(softmax=False)
        options, starts = {}, {}
        if name == "expected_gradients":  # of one point, and linear in it: draws do not matter
            model = tf.keras.Sequential([tf.keras.Input((6,)), tf.keras.layers.Dense(3)])
            options = {"num_samples": 2}
            starts = {"baselines": X[:1]}
        elif name == "shapley_value_sampling":
            options = {"num_samples": 2, "seed": 3}
        elif name == "path_integrated_gradients":
            options = {"path": lambda t, x, start: start + t**2 * (x - start)}
        elif name == "blur_integrated_gradients":
            options = {"axes": (1,), "max_sigma": 3.0}
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

    @pytest.mark.few(1)
    @pytest.mark.parametrize(
        "reducer", ["mean", "max", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sum", "min"))]
    )
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
        model = new_classifier(softmax=False)
        made = Explainer(model)
        first = made.explain(X, 0, progress=False)
        kernel = model.get_layer("logits").kernel
        kernel.assign(2 * kernel)
        assert_close(made.explain(X, 0, progress=False), 2 * first, 1e-5)
        assert made.traces == 1


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
    results = doctest.testmod(importlib.import_module("igtf.explainer.explainer"))
    assert results.attempted > 5 and results.failed == 0
