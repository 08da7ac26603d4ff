"""Expected gradients and SmoothGrad."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from method_networks import (
    BATCHES,
    RNG,
    W1,
    W2,
    U,
    X,
    run,
)
from reference import assert_close

import igtf as ig
import igtf.methods as methods


class TestExpectedGradients:
    def test_one_row_of_a_linear_network_is_exact(self):
        build = lambda x: methods.expected_gradients(x @ W1, x, X[:1], 3)  # noqa: E731
        assert_close(run(build, X), (X - X[:1]) * W1.sum(1), 1e-12)

    @pytest.mark.few(1)
    @BATCHES
    def test_it_converges_to_the_mean_of_integrated_gradients(self, static):
        data = RNG.normal(size=(5, 4))

        def build(x):
            y = tf.reduce_sum(tf.tanh(x @ W1), axis=1)
            each = [ig.integrated_gradients(y, x, row[None]) for row in data]
            return methods.expected_gradients(y, x, data, 3000, seed=5), tf.add_n(each) / len(each)

        result, expected = run(build, X, static=static)
        assert_close(result, expected, 0.08)

    def test_rows_of_several_inputs_are_drawn_together_and_per_row(self):
        data = np.arange(7.0)[:, None]
        build = lambda a, b: methods.expected_gradients(a + b, [a, b], [data, 10 * data], 1, seed=2)  # noqa: E731
        a, b = run(build, np.zeros((50, 1)), np.zeros((50, 1)))
        assert_close(b, 10 * a, 1e-12)
        assert set(a[:, 0]) == set(-np.arange(7.0))

    @pytest.mark.parametrize(
        "baselines, message",
        [
            (np.zeros((0, 4)), r"baselines have shape \(0, 4\), expected \[N, ...\] with N > 0"),
            (np.zeros((2, 3)), r"baselines have shape \(2, 3\)"),
            (np.float64(0), r"baselines have shape \(\)"),
        ],
    )
    def test_wrong_baselines_are_refused(self, baselines, message):
        with pytest.raises(ValueError, match=message):
            run(lambda x: methods.expected_gradients(x, x, baselines, 2), X)

    def test_other_mistakes_in_baselines_are_explained(self):
        with pytest.raises(TypeError, match="baselines of type NoneType are no float64 tensor"):
            run(lambda x: methods.expected_gradients(x, x, None, 2), X)
        with pytest.raises(ValueError, match="baselines have the structure .*expected that of xs"):
            run(lambda x, u: methods.expected_gradients(x, [x, u], X, 2), X, U)
        with pytest.raises(ValueError, match=r"several inputs have \[2, 3\] rows"):
            run(lambda x, u: methods.expected_gradients(x, [x, u], [X[:2], U], 2), X, U)


class TestSmoothgrad:
    def test_the_noise_has_the_mean_and_the_deviation_it_should(self):
        def moments(ys, xs):
            return xs[0], xs[0] ** 2, xs[1] ** 2, xs[0] * xs[1]

        def build(x, u):
            return methods.smoothgrad(moments, x + u, (x, u), (0.5, [[2.0]]), 4000, seed=1)

        mean, square, other, product = run(build, np.full((1, 2), 3.0), np.zeros((1, 2)))
        np.testing.assert_allclose(mean, 3, atol=0.05)
        np.testing.assert_allclose(square, 9.25, atol=0.3)
        np.testing.assert_allclose(other, 4, atol=0.4)
        np.testing.assert_allclose(product, 0, atol=0.4)

    @BATCHES
    def test_it_explains_the_network_at_the_noisy_input(self, static):
        # The mean of 3 (x + n)^2 is 3 x^2 + 3 stdev^2.
        build = lambda x: methods.smoothgrad(methods.saliency, x**3, x, 0.4, 4000, seed=4)  # noqa: E731
        assert_close(run(build, X, static=static), 3 * X**2 + 3 * 0.4**2, 0.05)

    def test_options_reach_the_builder(self):
        def build(x):
            return methods.smoothgrad(
                methods.deeplift, x @ W1, x, 0.5, 3, baselines=2.0, grad_ys=tf.ones([3, 6], tf.float64) * 2
            )

        result = run(build, X)
        assert result.shape == X.shape

    def test_without_noise_it_is_the_builder_itself(self):
        def build(x):
            y = tf.nn.softmax(tf.tanh(x @ W1) @ W2)
            options = {"baselines": 0.5, "grad_ys": tf.one_hot([1, 0, 2], 5, dtype=tf.float64)}
            shapley = functools.partial(methods.shapley_value_sampling, num_samples=2, seed=1)
            return [
                (methods.smoothgrad(builder, y, x, 0.0, 3, **options), builder(y, x, **options))
                for builder in (methods.deeplift, shapley, ig.integrated_gradients)
            ]

        for smooth, plain in run(build, X):
            assert_close(smooth, plain, 1e-12)

    def test_a_builder_that_is_no_function_is_refused(self):
        with pytest.raises(TypeError, match="builder is a str, expected a function such as saliency"):
            run(lambda x: methods.smoothgrad("saliency", x, x, 0.1, 2), X)
