"""The rules of softmax and log-softmax."""

import numpy as np
import pytest
import tensorflow as tf
from both_ends import RNG, assert_complete, by_backpropagate, pair
from shared_networks import inputs

import igtf as ig


@pytest.mark.parametrize("op", [tf.nn.softmax, tf.nn.log_softmax], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 40.0, 300.0])
def test_softmax_is_complete_however_far_the_logits_move(op, size):
    z0, z1 = pair(6, 5)
    z1[0], z1[1] = z0[0], z0[1] + 3
    assert_complete(op, [z0], [z0 + size * z1])


@pytest.mark.parametrize("op", [tf.nn.softmax, tf.nn.log_softmax], ids=["softmax", "log_softmax"])
def test_softmax_hands_on_adjoints_that_sum_to_zero_over_a_row(op):
    z0, z1 = pair(6, 5)
    (adjoint,), _, _ = by_backpropagate(op, [z0], [40 * z1], RNG(0).normal(size=(6, 5)))
    np.testing.assert_allclose(adjoint.sum(1), 0, atol=1e-12)


def test_softmax_at_equal_ends_is_the_gradient():
    z = pair(6, 5)[0]
    g = RNG(0).normal(size=(6, 5))
    (adjoint,), p, _ = by_backpropagate(tf.nn.softmax, [z], [z], g)
    np.testing.assert_allclose(adjoint, p * (g - (p * g).sum(1, keepdims=True)), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("op", [tf.nn.softmax, tf.nn.log_softmax], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("size", [1.0, 40.0])
def test_softmax_under_a_mask_of_minus_infinity_is_softmax_of_the_rest(op, size):
    z0, z1 = pair(4, 5)
    z1 *= size
    seen = np.array([0, 2, 3])
    mask = np.full(5, -np.inf)
    mask[seen] = 0
    g = RNG(0).normal(size=(4, 5)) * (mask == 0)
    (adjoint,), _, _ = by_backpropagate(op, [z0 + mask], [z1 + mask], g)
    (expected,), _, _ = by_backpropagate(op, [z0[:, seen]], [z1[:, seen]], g[:, seen])
    np.testing.assert_allclose(adjoint[:, seen], expected, rtol=1e-12)
    np.testing.assert_allclose(np.delete(adjoint, seen, 1), 0, atol=0)


def test_softmax_written_by_hand_with_an_additive_mask_is_complete():
    mask = tf.constant([0.0, -np.inf, 0.0, 0.0], tf.float64)

    def softmax(z):
        exps = tf.exp(z + mask - tf.reduce_max(z + mask, axis=1, keepdims=True))
        return exps / tf.reduce_sum(exps, axis=1, keepdims=True)

    z0, z1 = pair(6, 4)
    assert_complete(softmax, [z0], [9 * z1])


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_a_softmax_of_five_axes_is_complete(dtype, tolerance):
    @tf.function
    def both(x):
        ys = tf.reduce_sum(tf.nn.softmax(x) ** 2, [1, 2, 3, 4])
        found = ig.integrated_gradients(ys, x, num_steps=10, method="secant")
        return ig.convergence_delta(ys, x, None, found), ys

    delta, ys = both(tf.constant(inputs(2, 2, 3, 3, 2)[0], dtype))
    assert np.abs(delta).max() < tolerance * np.abs(ys).max()
