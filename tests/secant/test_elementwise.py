"""The rules of elementwise ops: slopes between any two values, at equal ends, across kinks."""

import numpy as np
import pytest
import tensorflow as tf
from both_ends import RNG, assert_complete, by_backpropagate, by_one_step
from scipy import special

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
SIGNED = [-40.0, -7.0, -1.5, -1e-2, -1e-5, -1e-7, 0.0, 1e-9, 1e-7, 3e-4, 0.5, 0.75, 3.0, 6.0, 6.5, 20.0]
POSITIVE = [1e-8, 1e-7, 1e-6, 1e-3, 0.5, 1.0, 1.0 + 1e-7, 40.0, 1e4]


def step(z):
    return (z > 0).astype(z.dtype)


# name -> op, its derivative (one side of a kink), values to run between
UNARY = {
    "Relu": (tf.nn.relu, step, SIGNED),
    "Relu6": (tf.nn.relu6, lambda z: step(z) * step(6 - z), SIGNED),
    "LeakyRelu": (lambda z: tf.nn.leaky_relu(z, 0.25), lambda z: 0.25 + 0.75 * step(z), SIGNED),
    "Abs": (tf.abs, np.sign, SIGNED),
    "Elu": (tf.nn.elu, lambda z: np.exp(np.minimum(z, 0)), SIGNED),
    "Selu": (
        tf.nn.selu,
        lambda z: SELU_SCALE * np.where(z > 0, 1, SELU_ALPHA * np.exp(np.minimum(z, 0))),
        SIGNED,
    ),
    "Softplus": (tf.nn.softplus, special.expit, SIGNED),
    "Softsign": (tf.nn.softsign, lambda z: (1 + np.abs(z)) ** -2, SIGNED),
    "Sigmoid": (tf.sigmoid, lambda z: special.expit(z) * special.expit(-z), SIGNED),
    "Tanh": (tf.tanh, lambda z: np.cosh(z) ** -2, SIGNED),
    "Erf": (tf.math.erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2)), SIGNED),
    "Erfc": (tf.math.erfc, lambda z: -2 / np.sqrt(np.pi) * np.exp(-(z**2)), SIGNED),
    "Sin": (tf.sin, np.cos, [*SIGNED, 1000.0, 1000.004]),
    "Cos": (tf.cos, lambda z: -np.sin(z), [*SIGNED, 1000.0, 1000.004]),
    "Pow3": (lambda z: z**3.0, lambda z: 3 * z**2, SIGNED),
    "PowHalf": (lambda z: z**0.5, lambda z: 0.5 * z**-0.5, POSITIVE),
    "PowMinus2": (lambda z: z**-2.0, lambda z: -2 * z**-3, [1e-3, 2e-3, 0.5, 3.0]),
    "PowOf2": (lambda z: 2.0**z, lambda z: np.log(2) * 2**z, SIGNED),
    "Exp": (tf.exp, np.exp, [*SIGNED, 20.0001, 40.0]),
    "Expm1": (tf.math.expm1, np.exp, SIGNED),
    "Log": (tf.math.log, lambda z: 1 / z, POSITIVE),
    "Log1p": (tf.math.log1p, lambda z: 1 / (1 + z), [*POSITIVE, -1 + 1e-7, -1 + 1e-6, -0.5, 0.0]),
    "Sqrt": (tf.sqrt, lambda z: 0.5 / np.sqrt(z), [0.0, *POSITIVE]),
    "Rsqrt": (tf.math.rsqrt, lambda z: -0.5 * z**-1.5, POSITIVE),
    "Square": (tf.square, lambda z: 2 * z, SIGNED),
    "Reciprocal": (tf.math.reciprocal, lambda z: -1 / z**2, [-3.0, -1e-3, 1e-3, 2e-3, 0.5, 40.0]),
}


unary = pytest.mark.parametrize("name", UNARY)


def slopes(op, z0, z1):
    """The slope that the rule takes over each of many intervals, and the outputs at both ends."""
    (slope,), y0, y1 = by_backpropagate(op, [z0], [z1], np.ones_like(z0))
    return slope, y0, y1


@unary
def test_a_unary_op_is_complete_between_any_two_values(name):
    op, _, values = UNARY[name]
    z0, z1 = (z.reshape(-1, 1) for z in np.meshgrid(values, values))
    slope, y0, y1 = slopes(op, z0, z1)
    assert np.isfinite(slope).all()
    error = np.abs(slope * (z1 - z0) - (y1 - y0))
    allowed = 1e-13 * (np.abs(y0) + np.abs(y1)) + 1e-18
    worst = np.argmax(error - allowed)
    assert (error <= allowed).all(), (z0[worst], z1[worst], error[worst])


@unary
def test_one_step_of_integrated_gradients_takes_the_same_slope(name):
    op, _, values = UNARY[name]
    z0, z1 = (z.reshape(-1, 1) for z in np.meshgrid(values, values))
    weights = RNG(0).normal(size=z0.shape)
    slope, _, _ = slopes(op, z0, z1)
    (attribution,) = by_one_step(op, [z0], [z1], weights)
    np.testing.assert_allclose(attribution, weights * slope * (z1 - z0), rtol=1e-12, atol=1e-300)


@unary
def test_a_unary_op_takes_its_derivative_where_both_ends_are_equal(name):
    op, derivative, values = UNARY[name]
    values = np.array([v for v in values if v not in (0, 6)])
    z = np.resize(values, [len(UNARY[name][2]) ** 2, 1])  # as many as above: the same trace
    slope, _, _ = slopes(op, z, z)
    np.testing.assert_allclose(slope, derivative(z), rtol=1e-12, atol=1e-15)


@unary
def test_small_differences_do_not_cancel_in_float32(name):
    op, derivative, _ = UNARY[name]
    changes = np.array([1e-7, 1e-6, 1e-4, 1e-2])
    z0 = np.array([0.3, 0.9, 2.0], np.float32).repeat(len(changes))[:, None]
    z1 = (z0 * np.tile(1 + changes, 3)[:, None]).astype(np.float32)
    slope, _, _ = slopes(op, z0, z1)
    # Simpson's rule on the closed form, in float64.
    a, b = z0.astype(float), z1.astype(float)
    expected = (derivative(a) + 4 * derivative((a + b) / 2) + derivative(b)) / 6
    np.testing.assert_allclose(slope, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Relu", "Relu6", "LeakyRelu", "Abs"])
def test_across_a_kink_the_slope_lies_between_the_slopes_of_both_sides_in_float32(name):
    op, derivative, _ = UNARY[name]
    z0 = -np.logspace(-8, 0, 12, dtype=np.float32)[:, None]
    z1 = np.full_like(z0, 1e-7)
    slope, _, _ = slopes(op, z0, z1)
    sides = derivative(np.array([-1e-30, 1e-30, -1.0]))
    assert (sides.min() - 1e-5 <= slope).all() and (slope <= sides.max() + 1e-5).all()


@pytest.mark.parametrize("name", ["Relu", "Relu6", "LeakyRelu", "Abs", "Elu", "Selu", "Sqrt", "Log"])
def test_nothing_at_rest_gives_a_finite_slope(name):
    op, _, values = UNARY[name]
    z = np.resize([v for v in (0.0, 6.0) if v in values] or [1.0], [len(values) ** 2, 1])
    slope, _, _ = slopes(op, z, z)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", ["Exp", "Sigmoid", "Tanh", "Relu", "LeakyRelu", "Softplus", "Elu"])
def test_a_mask_of_minus_infinity_has_finite_slopes(name):
    op, _, values = UNARY[name]
    z = np.resize([-np.inf, 1.0], [len(values) ** 2, 1])
    slope, _, _ = slopes(op, z, z)
    assert np.isfinite(slope).all()


@pytest.mark.thin
@pytest.mark.parametrize("base", [(3, 1), (3, 4)])
@pytest.mark.parametrize("exponent", [(4,), (1, 4), (3, 1), ()])
def test_pow_is_complete_where_the_base_or_the_exponent_is_broadcast(base, exponent):
    power = tf.constant(RNG(0).uniform(0.5, 3, exponent))
    z0, z1 = RNG(1).uniform(0.1, 2, (2, *base))
    z1[0, 0] = z0[0, 0] * (1 + 1e-9)
    assert_complete(lambda z: z**power, [z0], [z1])
    assert_complete(lambda z: power**z, [z0], [z1])
