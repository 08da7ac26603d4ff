"""The rules of what chooses: maximum and minimum, over axes and of two, and select."""

import numpy as np
import pytest
import tensorflow as tf
from both_ends import assert_complete, grid, pair

REDUCTIONS = {
    f"{op.__name__}, axis {axis}, keepdims {keep}": lambda z, op=op, axis=axis, keep=keep: op(
        z, axis=axis, keepdims=keep
    )
    for op in (tf.reduce_max, tf.reduce_min)
    for axis in (1, -1, [1, 3], [-1, -2], [1, 2, 3], np.array([2]))
    for keep in (False, True)
}


@pytest.mark.thin
@pytest.mark.parametrize("values", [2, 1000])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_max_and_min_reductions_are_complete_with_and_without_ties(name, values):
    z0, z1 = grid(5, 3, 4, 2, values=values)
    z1[1] = z0[1]
    z0[2] = 0
    assert_complete(REDUCTIONS[name], [z0], [z1])


@pytest.mark.thin
@pytest.mark.parametrize("op", [tf.maximum, tf.minimum], ids=["maximum", "minimum"])
@pytest.mark.parametrize("values", [2, 1000])
@pytest.mark.parametrize("shapes", [((5, 3, 4), (5, 3, 4)), ((5, 3, 1), (5, 1, 4))])
def test_maximum_and_minimum_are_complete_with_ties_and_broadcasting(op, values, shapes):
    (a0, a1), (b0, b1) = (grid(*s, seed=i, values=values) for i, s in enumerate(shapes))
    assert_complete(op, [a0, b0], [a1, b1])


@pytest.mark.parametrize("op", [tf.maximum, tf.minimum], ids=["maximum", "minimum"])
def test_maximum_and_minimum_with_a_constant_are_complete(op):
    z0, z1 = grid(5, 4, values=4)
    assert_complete(lambda z: op(z, 1.0), [z0], [z1])
    assert_complete(lambda z: op(tf.constant([0.0, 1.0, 2.0, 9.0], tf.float64), z), [z0], [z1])
    assert_complete(lambda z: tf.clip_by_value(z, 1.0, 2.5), [z0], [z1])


SELECTS = {
    "leaky": lambda z: tf.where(z > 0, z, 0.1 * z),
    "Keras' ELU": lambda z: tf.where(z > 0, tf.nn.elu(z), 0.5 * tf.nn.elu(z)),
    "ELU by hand": lambda z: tf.where(z > 0, z, tf.exp(z) - 1),
    "SELU by hand": lambda z: 1.05 * tf.where(z >= 0, z, 1.67 * tf.nn.elu(z)),
    "threshold": lambda z: tf.where(z > 0.5, z, 0.0),
    "larger of two": lambda z: tf.where(z > z**2, z, z**2),
    "mask off the path": lambda z: tf.where(tf.constant([True, False, True]), z, -1e9) * 1e-9,
    "safe log": lambda z: tf.where(z > 0, tf.math.log1p(tf.where(z > 0, z, 0.0)), 0.0),
}


@pytest.mark.parametrize("name", SELECTS)
def test_select_is_complete(name):
    z0, z1 = pair(40, 3)
    z0[0], z0[1], z1[2], z1[3] = 0, z1[1], 0, 1
    assert_complete(SELECTS[name], [z0], [z1])
