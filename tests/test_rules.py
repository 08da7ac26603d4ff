"""The secant rules, one at a time: adjoint times change of the input is the change of the output."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

import igtf as ig
from igtf.secant.table import SECANT_RULES

RNG = np.random.RandomState


def by_backpropagate(network, starts, ends, weights, jit=False):
    """Adjoints by the public function, and the outputs at both ends."""

    @tf.function(jit_compile=jit)
    def run(starts, ends, weights):
        y1 = network(*ends)
        y0 = ig.graph_replace(y1, ends, starts)
        return ig.backpropagate(y1, ends, weights, SECANT_RULES, other=(y0, starts)), y0, y1

    starts, ends = ([tf.constant(z) for z in side] for side in (starts, ends))
    adjoints, y0, y1 = run(starts, ends, tf.constant(weights))
    return [a.numpy() for a in adjoints], y0.numpy(), y1.numpy()


def by_one_step(network, starts, ends, weights):
    """The attributions of one interval, `adjoint * change`."""

    @tf.function
    def run(starts, ends, weights):
        return ig.integrated_gradients(
            network(*ends), ends, starts, num_steps=1, method="secant", grad_ys=weights
        )

    starts, ends = ([tf.constant(z) for z in side] for side in (starts, ends))
    return [a.numpy() for a in run(starts, ends, tf.constant(weights))]


def row_sums(array):
    return array.reshape(len(array), -1).sum(1)


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


# Unary ops ------------------------------------------------------------------------------------------

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
    z = np.array([v for v in values if v not in (0, 6)])[:, None]
    slope, _, _ = slopes(op, z, z)
    np.testing.assert_allclose(slope, derivative(z), rtol=1e-12, atol=1e-15)


@unary
@pytest.mark.parametrize("change", [1e-7, 1e-6, 1e-4, 1e-2])
def test_small_differences_do_not_cancel_in_float32(name, change):
    op, derivative, _ = UNARY[name]
    z0 = np.array([[0.3], [0.9], [2.0]], np.float32)
    z1 = (z0 * (1 + change)).astype(np.float32)
    slope, _, _ = slopes(op, z0, z1)
    # Simpson's rule on the closed form, in float64.
    a, b = z0.astype(float), z1.astype(float)
    expected = (derivative(a) + 4 * derivative((a + b) / 2) + derivative(b)) / 6
    np.testing.assert_allclose(slope, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Relu", "Relu6", "LeakyRelu", "Abs", "Elu", "Selu"])
def test_across_a_kink_the_slope_lies_between_the_slopes_of_both_sides_in_float32(name):
    op, derivative, _ = UNARY[name]
    z0 = -np.logspace(-8, 0, 9, dtype=np.float32)[:, None]
    z1 = np.full_like(z0, 1e-7)
    slope, _, _ = slopes(op, z0, z1)
    sides = derivative(np.array([-1e-30, 1e-30, -1.0]))
    assert (sides.min() - 1e-5 <= slope).all() and (slope <= sides.max() + 1e-5).all()


@pytest.mark.parametrize("name", ["Relu", "Relu6", "LeakyRelu", "Abs", "Elu", "Selu", "Sqrt", "Log"])
def test_nothing_at_rest_gives_a_finite_slope(name):
    op, _, values = UNARY[name]
    z = np.array([[v] for v in (0.0, 6.0) if v in values] or [[1.0]])
    slope, _, _ = slopes(op, z, z)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", ["Exp", "Sigmoid", "Tanh", "Relu", "LeakyRelu", "Softplus", "Elu"])
def test_a_mask_of_minus_infinity_has_finite_slopes(name):
    z = np.array([[-np.inf], [1.0]])
    slope, _, _ = slopes(UNARY[name][0], z, z)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("base", [(3, 1), (3, 4)])
@pytest.mark.parametrize("exponent", [(4,), (1, 4), (3, 1), ()])
def test_pow_is_complete_where_the_base_or_the_exponent_is_broadcast(base, exponent):
    power = tf.constant(RNG(0).uniform(0.5, 3, exponent))
    z0, z1 = RNG(1).uniform(0.1, 2, (2, *base))
    z1[0, 0] = z0[0, 0] * (1 + 1e-9)
    assert_complete(lambda z: z**power, [z0], [z1])
    assert_complete(lambda z: power**z, [z0], [z1])


# Choices --------------------------------------------------------------------------------------------


def grid(*shape, seed=0, values=3):
    """Both ends with small whole numbers: ties and equal ends everywhere."""
    return [RNG(seed + i).randint(0, values, shape).astype(float) for i in (0, 1)]


def pair(*shape, seed=0):
    return [RNG(seed + i).normal(size=shape) for i in (0, 1)]


def max_pool(**options):
    return lambda z: tf.nn.max_pool(z, **options)


POOLS = {
    "valid": max_pool(ksize=2, strides=2, padding="VALID"),
    "same": max_pool(ksize=3, strides=2, padding="SAME"),
    "overlapping": max_pool(ksize=3, strides=1, padding="VALID"),
    "overlapping, same": max_pool(ksize=3, strides=1, padding="SAME"),
    "gaps": max_pool(ksize=2, strides=3, padding="VALID"),
    "oblong": max_pool(ksize=[1, 3, 2, 1], strides=[1, 1, 2, 1], padding="SAME"),
    "explicit": max_pool(ksize=3, strides=2, padding=[[0, 0], [2, 1], [0, 2], [0, 0]]),
}


@pytest.mark.parametrize("values", [2, 3, 1000])
@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_complete_with_and_without_ties(name, values):
    z0, z1 = grid(4, 7, 6, 2, values=values)
    z1[1] = z0[1]
    z0[2] = 0
    assert_complete(POOLS[name], [z0], [z1])


@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_is_complete_compiled_in_float64(name):
    z0, z1 = grid(2, 7, 6, 2)
    try:
        tf.function(POOLS[name], jit_compile=True)(tf.constant(z0))
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        pytest.skip("this TensorFlow does not compile the pooling itself")
    assert_complete(POOLS[name], [z0], [z1], jit=True)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("size, stride", [(2, 2), (3, 1), (3, 2)])
def test_max_pooling_in_three_dimensions_is_complete(padding, size, stride):
    z0, z1 = (z.astype(np.float32) for z in grid(2, 5, 4, 6, 2))
    assert_complete(lambda z: tf.nn.max_pool3d(z, size, stride, padding), [z0], [z1], rtol=1e-6)


def test_max_pooling_of_inputs_below_zero_ignores_the_padding():
    z0, z1 = (z - 50 for z in grid(2, 5, 5, 1))
    for name in ("same", "explicit", "overlapping, same"):
        assert_complete(POOLS[name], [z0], [z1])


def test_max_pooling_shares_by_the_lead_that_each_input_has():
    # The first leads by 3 at the start, the second by 1 at the end: on the straight path between
    # them the second takes over after 3/4 of the way.
    z0, z1 = np.array([4.0, 1.0]).reshape(1, 1, 2, 1), np.array([5.0, 6.0]).reshape(1, 1, 2, 1)
    pool = max_pool(ksize=[1, 1, 2, 1], strides=1, padding="VALID")
    (adjoint,), _, _ = by_backpropagate(pool, [z0], [z1], np.ones((1, 1, 1, 1)))
    np.testing.assert_allclose(adjoint.ravel(), [0.75, 0.25], rtol=1e-12)


REDUCTIONS = {
    f"{op.__name__}, axis {axis}, keepdims {keep}": lambda z, op=op, axis=axis, keep=keep: op(
        z, axis=axis, keepdims=keep
    )
    for op in (tf.reduce_max, tf.reduce_min)
    for axis in (1, -1, [1, 3], [-1, -2], [1, 2, 3], np.array([2]))
    for keep in (False, True)
}


@pytest.mark.parametrize("values", [2, 1000])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_max_and_min_reductions_are_complete_with_and_without_ties(name, values):
    z0, z1 = grid(5, 3, 4, 2, values=values)
    z1[1] = z0[1]
    z0[2] = 0
    assert_complete(REDUCTIONS[name], [z0], [z1])


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


# Products -------------------------------------------------------------------------------------------

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


# Softmax --------------------------------------------------------------------------------------------


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
