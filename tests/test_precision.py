"""Keras' mixed precision: networks in 16 bits, attributions added up in float32."""

import numpy as np
import pytest
import tensorflow as tf
from reference import randomize

import igtf as ig

X = np.random.default_rng(6).normal(size=(8, 6, 6, 1)).astype("float32")


def network(policy):
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        layers = tf.keras.layers
        hidden = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(8, "tanh")]
        last = layers.Dense(3, "softmax", dtype="float32")  # as Keras' guide has it
        return randomize(tf.keras.Sequential([tf.keras.Input((6, 6, 1), dtype="float32"), *hidden, last]))
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def explain(model, steps, method):
    @tf.function
    def attribute(x):
        return ig.integrated_gradients(model(x, training=False)[:, 1], x, num_steps=steps, method=method)

    maps = attribute(X)
    assert maps.dtype == tf.float32
    return maps.numpy()


@pytest.mark.few(2)
@pytest.mark.parametrize("method, order", [("gausslegendre", 1), ("secant", 2 / 3)])
@pytest.mark.parametrize("policy, bits", [("mixed_bfloat16", 8), ("mixed_float16", 11)])
def test_mixed_precision_costs_the_precision_of_the_network_and_none_of_the_sum(policy, bits, method, order):
    exact, mixed = network("float32"), network(policy)
    errors = []
    for steps in (5, 300):
        expected, found = explain(exact, steps, method), explain(mixed, steps, method)
        errors.append(np.abs(found - expected).sum() / np.abs(expected).sum())
    # A few roundings; slopes are quotients of small differences and lose a third of the digits.
    tolerance = 5 * 2.0 ** (-bits * order)
    assert 0 < errors[0] < tolerance and 0 < errors[1] < tolerance
    # 300 steps added up in 16 bits would be off by tens of percent.
    assert errors[1] < 2 * errors[0] + 2.0**-bits
