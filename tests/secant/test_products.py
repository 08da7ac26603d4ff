"""The rules of what is linear in each of two tensors."""

import numpy as np
import pytest
import tensorflow as tf
from both_ends import RNG, assert_complete, by_backpropagate, pair

W = tf.constant(RNG(9).normal(size=(4, 3)))
PRODUCTS = {
    "Mul": (tf.multiply, (5, 3, 4), (5, 3, 4)),
    "Mul, broadcast": (tf.multiply, (5, 3, 1), (5, 1, 4)),
    "RealDiv": (lambda a, b: a / (b + 5), (5, 3, 4), (5, 3, 4)),
    "RealDiv, broadcast": (lambda a, b: a / (b + 5), (5, 3, 1), (5, 1, 4)),
    "RealDiv, a constant": (lambda a, b: 3 / (a + 5) + b / 7, (5, 3), (5, 3)),
    "BatchMatMul": (tf.matmul, (5, 3, 4), (5, 4, 2)),
    "BatchMatMul, adjoint": (
        lambda a, b: tf.matmul(a, b, adjoint_a=True, adjoint_b=True),
        (5, 4, 3),
        (5, 2, 4),
    ),
    "BatchMatMul, broadcast": (tf.matmul, (5, 1, 3, 4), (5, 6, 4, 2)),
    "Einsum": (lambda a, b: tf.einsum("bij,bkj->bik", a, b), (5, 3, 4), (5, 2, 4)),
    "Einsum, three axes": (lambda a, b: tf.einsum("bqhd,bkhd->bhqk", a, b), (5, 3, 2, 4), (5, 6, 2, 4)),
    "SquaredDifference": (tf.math.squared_difference, (5, 3, 4), (5, 3, 4)),
    "SquaredDifference, broadcast": (tf.math.squared_difference, (5, 3, 4), (5, 1, 4)),
    "Conv2D": (
        lambda a, b: tf.nn.conv2d(a, tf.reshape(b, [2, 2, 2, 1]), 1, "SAME"),
        (1, 4, 4, 2),
        (1, 8),
    ),
    "Conv2DTranspose": (
        lambda a, b: tf.nn.conv2d_transpose(a, tf.reshape(b, [2, 2, 1, 2]), [1, 8, 8, 1], 2),
        (1, 4, 4, 2),
        (1, 8),
    ),
    "DepthwiseConv2d": (
        lambda a, b: tf.nn.depthwise_conv2d(a, tf.reshape(b, [2, 2, 2, 1]), [1, 1, 1, 1], "SAME"),
        (1, 4, 4, 2),
        (1, 8),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_of_two_tensors_on_the_path_is_complete(name):
    network, *shapes = PRODUCTS[name]
    (a0, a1), (b0, b1) = (pair(*s, seed=i) for i, s in enumerate(shapes))
    assert_complete(network, [a0, b0], [a1, b1])
    assert_complete(network, [a0, b0], [a1, b0])
    assert_complete(network, [a0, b0], [a0 * 0, b1 * 0])


@pytest.mark.parametrize("transposed", [False, True])
def test_matmul_of_two_matrices_on_the_path_is_complete(transposed):
    # No row of the product belongs to one row of the second factor, so only as a whole.
    def network(a, b):
        return tf.matmul(a, b, transpose_a=transposed, transpose_b=transposed)

    (a0, a1), (b0, b1) = pair(4, 4), pair(4, 4, seed=5)
    weights = RNG(0).normal(size=(4, 4))
    adjoints, y0, y1 = by_backpropagate(network, [a0, b0], [a1, b1], weights)
    total = (adjoints[0] * (a1 - a0)).sum() + (adjoints[1] * (b1 - b0)).sum()
    np.testing.assert_allclose(total, (weights * (y1 - y0)).sum(), rtol=1e-12)


SQUARES = {
    "Mul": lambda z: z * z,
    "MatMul": lambda z: tf.matmul(z, W),
    "BatchMatMul": lambda z: tf.matmul(z[:, :, None], z[:, None, :]),
    "Einsum": lambda z: tf.einsum("bi,bj->bij", z, z),
    "RealDiv": lambda z: z / (z**2 + 1),
    "Maximum": lambda z: tf.maximum(z, z),
    "AddV2": lambda z: (z + z) * (z - 2 * z),
    "residual": lambda z: z + tf.nn.relu(z) * z,
}


@pytest.mark.parametrize("name", SQUARES)
def test_an_op_that_reads_one_tensor_twice_is_complete(name):
    z0, z1 = pair(5, 4)
    z0[0], z0[1] = 0, z1[1]
    assert_complete(SQUARES[name], [z0], [z1])
