"""One op, or one network, at both ends of an interval."""

import functools

import numpy as np
import tensorflow as tf
from shared_networks import row_sums

import igtf as ig
from igtf.secant.table import SECANT_RULES

RNG = np.random.RandomState


def by_backpropagate(network, starts, ends, weights, jit=False):
    """Adjoints by the public function, and the outputs at both ends."""
    starts, ends = ([tf.constant(z) for z in side] for side in (starts, ends))
    adjoints, y0, y1 = backward(network, jit)(starts, ends, tf.constant(weights))
    return [a.numpy() for a in adjoints], y0.numpy(), y1.numpy()


@functools.lru_cache(maxsize=64)
def backward(network, jit):
    """One trace for all values of a shape."""

    @tf.function(jit_compile=jit)
    def run(starts, ends, weights):
        y1 = network(*ends)
        y0 = ig.graph_replace(y1, ends, starts)
        return ig.backpropagate(y1, ends, weights, SECANT_RULES, other=(y0, starts)), y0, y1

    return run


def by_one_step(network, starts, ends, weights):
    """The attributions of one interval, `adjoint * change`."""
    starts, ends = ([tf.constant(z) for z in side] for side in (starts, ends))
    return [a.numpy() for a in one_step(network)(starts, ends, tf.constant(weights))]


@functools.lru_cache(maxsize=64)
def one_step(network):
    @tf.function
    def run(starts, ends, weights):
        return ig.integrated_gradients(
            network(*ends), ends, starts, num_steps=1, method="secant", grad_ys=weights
        )

    return run


def assert_complete(network, starts, ends, rtol=1e-12, jit=False):
    """Per row: sum of adjoint * change of the input = weights * change of the output."""
    weights = RNG(7).normal(size=network(*ends).shape).astype(starts[0].dtype)
    adjoints, y0, y1 = by_backpropagate(network, starts, ends, weights, jit)
    size = max(1, row_sums(np.abs(weights) * (np.abs(y0) + np.abs(y1))).max())
    expected = row_sums(weights * (y1 - y0))
    assert np.isfinite(expected).all()
    total = sum(row_sums(a * (e - s)) for a, s, e in zip(adjoints, starts, ends))
    np.testing.assert_allclose(total, expected, rtol=0, atol=rtol * size)
    total = sum(row_sums(a) for a in by_one_step(network, starts, ends, weights))
    np.testing.assert_allclose(total, expected, rtol=0, atol=rtol * size)


def grid(*shape, seed=0, values=3):
    """Both ends with small whole numbers: ties and equal ends everywhere."""
    return [RNG(seed + i).randint(0, values, shape).astype(float) for i in (0, 1)]


def pair(*shape, seed=0):
    return [RNG(seed + i).normal(size=shape) for i in (0, 1)]
