"""The sum over the steps: the affine ops before the path's own, and the rule that `auto` takes."""

import numpy as np
import pytest
import tensorflow as tf
from shared_networks import IMAGE, METHODS, NETWORKS, cnn, explain, inputs, row_sums, weights

import igtf as ig

# The affine prefix ----------------------------------------------------------------------------------


@pytest.mark.few(3)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["secant", "gausslegendre", "riemann_left"])
def test_the_affine_prefix_changes_no_number(name, method):
    network, shape = NETWORKS[name]
    x, baseline = inputs(3, *shape)
    found = explain(network, x, baseline, num_steps=6, method=method)[0]
    # A maximum that never takes effect is no affine op: nothing is left of the prefix.
    expected = explain(lambda x: network(tf.maximum(x, -1e9)), x, baseline, num_steps=6, method=method)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "secant"])
def test_the_one_liner_has_the_numbers_of_the_recipe(method):
    x, baseline = inputs(3, *IMAGE)

    @tf.function
    def recipe(x, baseline):
        inter, stepsize, _ = ig.linear_interpolation(x, 6, baseline, method)
        return ig.build_ig(inter, stepsize, cnn(inter)[:, 1], 6)

    expected = recipe(tf.constant(x), tf.constant(baseline))
    found = explain(cnn, x, baseline, num_steps=6, method=method)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_an_affine_network_has_its_weights_for_gradients_whatever_the_method():
    w = np.asarray(weights(12, 3))
    x, baseline = inputs(4, 12)
    for method in METHODS:
        found = explain(lambda x: tf.matmul(x, weights(12, 3)) + 5, x, baseline, num_steps=3, method=method)[
            0
        ]
        np.testing.assert_allclose(found, (x - baseline) * w[:, 1], rtol=1e-12)


def test_a_mask_of_minus_infinity_behind_an_affine_layer_gives_no_nan():
    def network(x):
        mask = tf.constant([0, 0, -np.inf, 0], tf.float64)
        return tf.nn.softmax(tf.matmul(x, weights(12, 4)) + mask)

    x, baseline = inputs(4, 12)
    for method in METHODS:
        found, change = explain(network, x, baseline, num_steps=20, method=method)
        np.testing.assert_allclose(row_sums(found), change, atol=0.05 if method != "secant" else 1e-12)


# auto -----------------------------------------------------------------------------------------------

ONES = tf.ones([12, 12], tf.float64)
SMOOTH = {
    "transformer": NETWORKS["transformer"],
    "softplus": (lambda x: tf.nn.softplus(tf.matmul(x, ONES)), (12,)),
    "swish": (lambda x: tf.nn.silu(x), (12,)),
    "ELU": (lambda x: tf.nn.elu(x), (12,)),
    "l2_normalize": (lambda x: tf.nn.l2_normalize(x, axis=1) ** 2, (12,)),
    "norm and epsilon": (lambda x: x / tf.maximum(tf.norm(x, axis=1, keepdims=True), 1e-12), (12,)),
    "clipped deviation": (
        lambda x: x / tf.sqrt(tf.maximum(tf.math.reduce_variance(x, axis=1, keepdims=True), 1e-6)),
        (12,),
    ),
    "ReLU off the path": (lambda x: tf.tanh(x) * tf.nn.relu(ONES[:1] - 0.5), (12,)),
    "maximum of integers": (
        lambda x: tf.tanh(x) * tf.cast(tf.maximum(tf.cast(x, tf.int32), 1), x.dtype),
        (12,),
    ),
    "maximum of shapes": (
        lambda x: tf.tanh(x) / tf.cast(tf.maximum(tf.shape(x)[1], 1), x.dtype),
        (12,),
    ),
    "condition off the path": (lambda x: tf.where(ONES[:1] > 0, tf.tanh(x), x), (12,)),
}


KINKED = {
    **{name: NETWORKS[name] for name in ("mlp", "cnn", "conv_bn", "residuals")},
    "ReLU": (lambda x: tf.nn.relu(x - 0.3), (12,)),
    "LeakyReLU": (lambda x: tf.nn.leaky_relu(x - 0.3), (12,)),
    "SELU": (lambda x: tf.nn.selu(x - 0.3), (12,)),
    "abs": (lambda x: tf.abs(x - 0.3), (12,)),
    "maximum": (lambda x: tf.maximum(x, 0.3), (12,)),
    "minimum of two": (lambda x: tf.minimum(x, 1 - x), (12,)),
    "clip": (lambda x: tf.clip_by_value(x, -0.5, 0.3), (12,)),
    "max": (lambda x: tf.reduce_max(tf.reshape(x, [-1, 3, 4]), axis=2), (12,)),
    "max pooling": (lambda x: tf.nn.max_pool(x, 2, 2, "VALID")[:, 0, 0], (4, 4, 2)),
    "where": (lambda x: tf.where(x > 0, x, 0.1 * x), (12,)),
}


SIMILAR = {"cnn", "conv_bn", "residuals", "SELU", "LeakyReLU", "minimum of two", "clip", "ReLU off the path"}


@pytest.mark.few(10)
@pytest.mark.parametrize(
    "name, expected",
    [
        pytest.param(name, method, marks=[pytest.mark.slow] if name in SIMILAR else [])
        for method, networks in (("gausslegendre", SMOOTH), ("secant", KINKED))
        for name in networks
    ],
)
def test_auto_is_secant_for_networks_with_kinks_and_gauss_legendre_for_smooth_ones(name, expected):
    network, shape = {**SMOOTH, **KINKED}[name]
    x, baseline = inputs(3, *shape)

    def found(method):
        return explain(network, x, baseline, num_steps=3, method=method)[0]

    rules = {m: found(m) for m in ("secant", "gausslegendre")}
    assert np.abs(rules["secant"] - rules["gausslegendre"]).max() > 1e-9, "nothing to tell them apart"
    np.testing.assert_allclose(found("auto"), rules[expected], rtol=1e-12, atol=1e-14)
