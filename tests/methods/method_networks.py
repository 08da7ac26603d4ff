"""Networks with their derivatives in NumPy, for the tests of the methods."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph

BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
RNG = np.random.default_rng(3)
W1, V1, W2, W3 = (RNG.normal(size=size) for size in ((4, 6), (3, 6), (6, 5), (5, 2)))
B1, B2 = RNG.normal(size=6), RNG.normal(size=5)
X, U = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 3))
STARTS = RNG.normal(size=(1, 4)), RNG.normal(size=(3, 3))
WEIGHTS = RNG.normal(size=(3, 2))  # of the outputs


def run(build, *arrays, static=True):
    return as_graph(build, [np.asarray(a) for a in arrays], static)


# name -> (activation, derivative), in NumPy
SMOOTH_OR_NOT = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.where(z > 0, 1, np.exp(z))),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "softplus": (lambda z: np.log1p(np.exp(z)), lambda z: 1 / (1 + np.exp(-z))),
}


ACTIVATIONS = pytest.mark.parametrize("activation", SMOOTH_OR_NOT)


def network(activation, x, u):
    f = getattr(tf.nn, activation)
    h = f(x @ W1 + u @ V1 + B1)
    return f(h @ W2 + B2) @ W3


def layers(activation, x, u):
    """The inputs of the activations, in NumPy."""
    f = SMOOTH_OR_NOT[activation][0]
    z1 = x @ W1 + u @ V1 + B1
    return z1, f(z1) @ W2 + B2


def adjoints(slopes, weights=WEIGHTS):
    """Those of x and u, for given slopes of both layers of activations."""
    g = weights @ W3.T * slopes[1] @ W2.T * slopes[0]
    return g @ W1.T, g @ V1.T
