"""Saliency and the gradient times the input."""

import numpy as np
import pytest
import tensorflow as tf
from method_networks import ACTIVATIONS, BATCHES, SMOOTH_OR_NOT, WEIGHTS, U, X, adjoints, layers, network, run
from reference import assert_close

import igtf.methods as methods


class TestGradients:
    @pytest.mark.thin
    @BATCHES
    @ACTIVATIONS
    def test_values_equal_the_chain_rule_in_numpy(self, activation, static):
        slopes = [SMOOTH_OR_NOT[activation][1](z) for z in layers(activation, X, U)]
        dx, du = adjoints(slopes)

        def build(x, u):
            y = network(activation, x, u)
            weights = tf.constant(WEIGHTS)
            return (
                methods.saliency(y, [x, u], weights),
                methods.gradient_times_input(y, {"x": x, "u": u}, weights),
                methods.saliency(y, x, weights),
            )

        both, products, one = run(build, X, U, static=static)
        assert_close(both[0], abs(dx), 1e-12)
        assert_close(both[1], abs(du), 1e-12)
        assert_close(one, abs(dx), 1e-12)
        assert_close(products["x"], dx * X, 1e-12)
        assert_close(products["u"], du * U, 1e-12)

    def test_an_input_that_the_output_does_not_depend_on_gets_zeros(self):
        parts = run(lambda x, u: methods.saliency(x**2, [x, u]), X, U)
        assert_close(parts[0], abs(2 * X), 1e-12)
        assert not parts[1].any()

    def test_ops_inside_a_custom_gradient_count_and_its_wrapper_does_not(self):
        s = 1 / (1 + np.exp(-X))
        result = run(lambda x: methods.gradient_times_input(tf.nn.silu(x), x), X)
        assert_close(result, X * (s + X * s * (1 - s)), 1e-12)
