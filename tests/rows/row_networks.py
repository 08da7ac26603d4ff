"""Inputs, weights and layers of the tests of rows."""

import numpy as np
import tensorflow as tf

RNG = np.random.default_rng(5)
W, V = RNG.normal(scale=0.7, size=(4, 4)), RNG.normal(scale=0.7, size=(4, 4))
X = RNG.normal(size=(3, 6, 4))  # rows, entries, features
FLAT = X[:, 0]
MIXER = RNG.normal(size=(3, 3))
RNG_KERNEL = RNG.normal(size=(2, 4, 4))
POINTS = RNG.normal(size=(7, 4))
IDS = np.array([[3, 1, 3], [0, 0, 1], [4, 3, 1], [1, 2, 4]], np.int32)
TABLE = RNG.normal(size=(6, 4))
KERNEL = RNG.normal(scale=0.7, size=(12, 4))
FLAG = tf.Variable(True)


def hidden(x):
    return tf.tanh(tf.tensordot(x, tf.constant(W, x.dtype), 1))
