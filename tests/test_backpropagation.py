"""Ops that have no rule of their own, or one of a family's: every row is complete at any number of steps."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, tape_gradients

import igtf as ig
import igtf.methods as methods


def weights(*shape, seed=0):
    return tf.constant(np.random.RandomState(seed).normal(size=shape))


X, BASELINE = np.random.RandomState(1).normal(size=(2, 4, 6))


def positive(z):
    return tf.nn.softplus(z[:, ::-1]) + 0.1


def matrices(z):
    return tf.reshape(tf.sin(z) @ weights(6, 9), [-1, 3, 3])


def symmetric(z):
    return tf.matmul(matrices(z), matrices(z), transpose_b=True) + 2 * tf.eye(3, dtype=z.dtype)


def plane(z):
    return tf.complex(tf.sin(z), z[:, ::-1])


def across(op):
    """An op along axis 0, of what has its rows on axis 1."""
    return lambda z: tf.transpose(op(tf.transpose(tf.sin(z))))


NETWORKS = {
    "xdivy": lambda z: tf.math.xdivy(tf.sin(z), positive(z)),
    "xlogy": lambda z: tf.math.xlogy(tf.sin(z), positive(z)),
    "xlog1py": lambda z: tf.math.xlog1py(tf.sin(z), positive(z)),
    "quotient without NaN": lambda z: tf.math.divide_no_nan(tf.sin(z), positive(z)),
    "product without NaN": lambda z: tf.math.multiply_no_nan(tf.sin(z), positive(z)),
    "power": lambda z: positive(z) ** tf.sin(z),
    "power, broadcast": lambda z: positive(z)[:, :1] ** tf.sin(z),
    "atan2": lambda z: tf.math.atan2(tf.sin(z), positive(z)),
    "igamma": lambda z: tf.math.igamma(tf.constant(1.5, z.dtype), positive(z)),
    "betainc": lambda z: tf.math.betainc(1.5 + 0 * z, 0.7 + 0 * z, tf.sigmoid(z)),
    "zeta": lambda z: tf.math.zeta(tf.constant(2.5, z.dtype), positive(z)),
    "polygamma": lambda z: tf.math.polygamma(tf.constant(1.0, z.dtype), positive(z)),
    "bessel": lambda z: tf.math.bessel_i0e(z) * tf.math.special.bessel_j1(z),
    "erfinv": lambda z: tf.math.erfinv(tf.tanh(z)),
    "ndtri": lambda z: tf.math.ndtri(tf.sigmoid(z)),
    "spence": lambda z: tf.math.special.spence(positive(z)),
    "clip": lambda z: tf.clip_by_value(tf.sin(z), -0.5, 0.3 * positive(z)),
    "product of all": lambda z: tf.reduce_prod(1 + tf.sin(z), 1),
    "cumulative product": lambda z: tf.math.cumprod(1 + tf.sin(z), 1),
    "cumulative logsumexp": lambda z: tf.math.cumulative_logsumexp(3 * tf.sin(z), 1),
    "Euclidean norm": lambda z: tf.raw_ops.EuclideanNorm(input=tf.sin(z), axis=[1]),
    "sort": lambda z: tf.sort(tf.sin(z), 1) * tf.range(6, dtype=z.dtype),
    "top k": lambda z: tf.math.top_k(tf.sin(z), 2)[0],
    "look-up of the largest": lambda z: tf.gather(z**2, tf.argmax(tf.sin(z), 1), batch_dims=1),
    "pooling with places": lambda z: tf.nn.max_pool_with_argmax(
        tf.reshape(tf.sin(z), [-1, 2, 3, 1]), 2, 1, "VALID"
    )[0],
    "cross entropy": lambda z: tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(z), 4 * tf.sin(z)),
    "cross entropy of logits": lambda z: tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(z), tf.sin(z)),
    "complex size": lambda z: tf.abs(plane(z)),
    "complex angle": lambda z: tf.math.angle(tf.complex(positive(z), z)),
    "complex product": lambda z: tf.math.real(plane(z) * plane(2 * z)),
    "complex quotient": lambda z: tf.math.imag(plane(z) / tf.complex(positive(z), z)),
    "complex exponential": lambda z: tf.math.real(tf.exp(plane(z))),
    "complex square": lambda z: tf.math.imag(tf.square(plane(z))),
    "complex conjugate": lambda z: tf.math.imag(tf.math.conj(plane(z)) * plane(2 * z)),
    "spectrum": lambda z: tf.math.log1p(tf.abs(tf.signal.rfft(tf.sin(z)))),
    "convolution by spectra": lambda z: tf.math.real(
        tf.signal.ifft(tf.signal.fft(plane(z)) * tf.signal.fft(plane(2 * z)))
    ),
    "inverse": lambda z: tf.linalg.inv(symmetric(z)),
    "system": lambda z: tf.linalg.solve(symmetric(z), matrices(z)),
    "triangular system": lambda z: tf.linalg.triangular_solve(symmetric(z), matrices(z)),
    "Cholesky": lambda z: tf.linalg.cholesky(symmetric(z)),
    "eigenvalues": lambda z: tf.linalg.eigh(symmetric(z))[0],
    "singular values": lambda z: tf.linalg.svd(symmetric(z), compute_uv=False),
    "QR": lambda z: tf.linalg.qr(symmetric(z))[1],
    "determinant": lambda z: tf.linalg.det(symmetric(z)),
    "logarithm of it": lambda z: tf.linalg.slogdet(symmetric(z))[1],
    "cross product": lambda z: tf.linalg.cross(tf.sin(z[:, :3]), tf.cos(z[:, 3:])),
    "three factors": lambda z: tf.einsum("bi,bi,bi->b", tf.sin(z), tf.cos(z), z),
    "diagonals": lambda z: tf.linalg.set_diag(tf.linalg.band_part(matrices(z), 1, 0), tf.cos(z[:, :3])) ** 2,
    "resizing": lambda z: tf.cast(
        tf.image.resize(tf.reshape(tf.sin(z), [-1, 2, 3, 1]), [4, 5], "bicubic"), z.dtype
    ),
    "patches": lambda z: tf.image.extract_patches(
        tf.reshape(tf.sin(z), [-1, 2, 3, 1]), [1, 2, 2, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"
    ),
    "colours": lambda z: tf.image.rgb_to_hsv(tf.reshape(tf.sigmoid(z), [-1, 2, 3])),
    "largest of segments": across(lambda z: tf.math.unsorted_segment_max(z, [0, 0, 1, 1, 2, 2], 3)),
    "products of segments": across(lambda z: tf.math.unsorted_segment_prod(z, [0, 0, 1, 1, 2, 2], 3)),
    "scattered": across(lambda z: tf.tensor_scatter_nd_update(z, [[1], [4]], z[2:4] ** 2)),
    "scattered largest": across(lambda z: tf.tensor_scatter_nd_max(z, [[1], [4]], z[2:4] ** 2)),
    "stitched": across(lambda z: tf.dynamic_stitch([[0, 2, 4], [1, 3, 5]], [z[:3], tf.cos(z[3:])])),
    "a row's own mask": lambda z: tf.raw_ops.Select(condition=z > 0, x=tf.sin(z), y=z**2),
    "logsumexp": lambda z: tf.reduce_logsumexp(3 * tf.nn.relu(z), 1),
}


# Of each of their families there is another, which takes the same rule.
ALIKE = {
    *("xlogy", "xlog1py", "product without NaN", "power, broadcast", "igamma", "betainc", "zeta", "spence"),
    *("polygamma", "ndtri", "cumulative logsumexp", "pooling with places", "cross entropy of logits"),
    *("complex angle", "complex quotient", "complex exponential", "complex square", "triangular system"),
    *("convolution by spectra", "Cholesky", "singular values", "QR", "determinant", "cross product"),
    *("resizing", "colours", "products of segments", "scattered", "stitched"),
}


def output(network, z):
    y = network(z)
    y = tf.reshape(y, [tf.shape(z)[0], -1])
    return tf.reduce_sum(y * weights(64, seed=9)[: tf.shape(y)[1]], axis=1)


def attributions(network, x, baseline, steps=3, static=False):
    """By `secant`, and the change of the output."""
    return as_graph(attribution(network, steps), [x, baseline], static)


@functools.cache
def attribution(network, steps):
    """The same function for the same arguments, so that `as_graph` traces it once."""

    def run(x, baseline):
        y = output(network, x)
        return (
            ig.integrated_gradients(y, x, baseline, num_steps=steps, method="secant"),
            y - output(network, baseline),
        )

    return run


@pytest.mark.few(18)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in ALIKE else n for n in NETWORKS]
)
def test_every_row_is_complete(name):
    found, change = attributions(NETWORKS[name], X, BASELINE)
    np.testing.assert_allclose(found.sum(1), change, rtol=0, atol=1e-7 * np.abs(found).sum())


GENERAL = ("cumulative product", "sort", "eigenvalues", "system", "cross entropy", "largest of segments")


@pytest.mark.parametrize("name", GENERAL)
def test_what_makes_a_row_complete_does_not_depend_on_the_others(name):
    found, _ = attributions(NETWORKS[name], X, BASELINE)
    for at in (slice(0, 1), slice(2, 3)):
        alone, _ = attributions(NETWORKS[name], X[at], BASELINE[at])
        assert_close(alone, found[at], 1e-9)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["cumulative product", "eigenvalues", "system", "cross entropy"])
def test_attributions_tend_to_the_integral(name):
    gradients = tape_gradients(lambda z: output(NETWORKS[name], z))
    (expected,) = brute_force(gradients, [X], [BASELINE], gauss_legendre(100))
    found, _ = attributions(NETWORKS[name], X, BASELINE, steps=100)
    assert_close(found, expected, 2e-3)


def test_a_static_batch_is_complete_where_one_size_can_only_be_its_own():
    x, baseline = np.random.RandomState(2).normal(size=(2, 5, 6))
    for name in GENERAL:
        found, change = attributions(NETWORKS[name], x, baseline, static=True)
        np.testing.assert_allclose(found.sum(1), change, rtol=0, atol=1e-7 * np.abs(found).sum())


def test_an_input_without_influence_gets_nothing():
    x, baseline = X.copy(), BASELINE.copy()
    x[:, :2] += 20
    baseline[:, :2] += 20
    found, change = attributions(lambda z: tf.math.top_k(tf.sort(z, 1) ** 3, 2)[0], x, baseline)
    assert (found[:, 2:] == 0).all()
    np.testing.assert_allclose(found.sum(1), change, rtol=1e-9)


def test_gradients_that_vanish_at_both_ends_leave_the_change_to_what_moved():
    # A jump between the two: y goes from 0 to 3, and each entry goes as far as its change squared.
    x, baseline = np.array([[2.0, 1.0]]), np.array([[0.0, 0.0]])

    def network(z):
        return 3 * tf.math.cumprod(tf.clip_by_value(tf.reduce_sum(z, 1, True) - 1, 0.0, 1.0), 1)

    found, change = attributions(network, x, baseline, steps=1)
    np.testing.assert_allclose(found.sum(1), change, rtol=1e-12)


def test_quotients_without_nan_are_finite_and_complete_from_silence():
    x, baseline = np.array([[2.0, 4.0], [0.0, 1.0]]), np.zeros((2, 2))
    found, change = attributions(lambda z: tf.math.divide_no_nan(z[:, :1], z[:, 1:]), x, baseline, steps=1)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), change, rtol=1e-12, atol=1e-12)


@pytest.mark.few(1)
@pytest.mark.parametrize("static", [True, False], ids=["static", "open"])
def test_a_loop_is_complete_and_gives_nothing_to_what_it_skips(static):
    kernel, recurrent = weights(3, 5, seed=3), weights(5, 5, seed=4)

    def network(z):
        steps = tf.transpose(tf.reshape(z, [-1, 7, 3]), [1, 0, 2])

        def body(i, state):
            new = tf.tanh(steps[i] @ kernel + state @ recurrent)
            return i + 1, tf.where(tf.equal(i, 2), state, new)

        start = tf.zeros([tf.shape(z)[0], 5], z.dtype)
        return tf.nn.relu(tf.while_loop(lambda i, _: i < 7, body, (0, start))[1])

    x, baseline = np.random.RandomState(5).normal(size=(2, 4, 21))
    found, change = attributions(network, x, baseline, static=static)
    np.testing.assert_allclose(found.sum(1), change, rtol=0, atol=1e-7 * np.abs(found).sum())
    assert (found.reshape(4, 7, 3)[:, 2] == 0).all()


def test_deeplift_is_complete_through_ops_without_a_rule():
    def run(x, baseline):
        y = output(NETWORKS["cumulative product"], x)
        change = y - output(NETWORKS["cumulative product"], baseline)
        return methods.deeplift(y, x, baseline), change

    with pytest.warns(UserWarning, match="Cumprod"):
        found, change = as_graph(run, [X, BASELINE], False)
    np.testing.assert_allclose(found.sum(1), change, rtol=0, atol=1e-7 * np.abs(found).sum())


@pytest.mark.few(1)
@pytest.mark.parametrize("static", [True, False], ids=["static", "open"])
def test_deeplift_is_complete_through_a_loop_of_as_many_units_as_rows(static):
    layer = tf.keras.layers.GRU(4, return_sequences=True, dtype="float64")
    x, baseline = np.random.RandomState(6).normal(size=(2, 4, 5, 3))
    layer(x)
    for variable, seed in zip(layer.weights, range(3)):
        variable.assign(weights(*variable.shape, seed=seed))

    def run(x, baseline):
        y = tf.reduce_sum(tf.square(layer(x)), [1, 2])
        return methods.deeplift(y, x, baseline), y - tf.reduce_sum(tf.square(layer(baseline)), [1, 2])

    found, change = as_graph(run, [x, baseline], static)
    np.testing.assert_allclose(found.sum((1, 2)), change, rtol=0, atol=1e-7 * np.abs(found).sum())


@pytest.mark.few(1)
@pytest.mark.parametrize("static", [True, False], ids=["static", "open"])
def test_secant_is_complete_through_a_sort_beside_a_loop_of_as_many_units_as_rows(static):
    kernel = weights(4, 4, seed=8)

    def network(z):
        steps = tf.transpose(tf.sort(tf.reshape(z, [-1, 4, 4]), 1), [1, 0, 2])
        states = tf.scan(lambda state, new: tf.tanh(new + state @ kernel), steps, tf.zeros_like(steps[0]))
        return tf.math.top_k(tf.transpose(states, [1, 2, 0]), 2)[0]

    x, baseline = np.random.RandomState(9).normal(size=(2, 4, 16))
    found, change = attributions(network, x, baseline, steps=2, static=static)
    np.testing.assert_allclose(found.sum(1), change, rtol=0, atol=1e-7 * np.abs(found).sum())


def test_training_through_the_general_rule_has_the_gradient_of_finite_differences():
    @tf.function(autograph=False)
    def trained(w, x, baseline):
        y = tf.reduce_sum(tf.math.cumprod(1 + tf.sin(x @ w), 1), 1)
        found = ig.integrated_gradients(y, x, baseline, num_steps=1, method="secant")
        loss = tf.reduce_sum(found**2)
        return loss, tf.gradients(loss, w)[0]

    def both(w):
        return trained(w, tf.constant(X), tf.constant(BASELINE))

    w, direction = (weights(6, 4, seed=s) / 3 for s in (6, 7))
    _, gradient = both(w)
    numeric = (both(w + 1e-6 * direction)[0] - both(w - 1e-6 * direction)[0]) / 2e-6
    np.testing.assert_allclose(tf.reduce_sum(gradient * direction), numeric, rtol=1e-5)


def test_a_session_is_complete_through_ops_without_a_rule():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float64, [None, 6])
        y = output(NETWORKS["cumulative product"], x)
        found = ig.integrated_gradients(y, x, BASELINE, num_steps=3, method="secant")
        attribution, at_1 = session.run([found, y], {x: X})
        at_0 = session.run(y, {x: BASELINE})
    np.testing.assert_allclose(attribution.sum(1), at_1 - at_0, rtol=0, atol=1e-9 * np.abs(attribution).sum())


# What is stopped ------------------------------------------------------------------------------------


def shifted(z):
    return z - tf.stop_gradient(tf.reduce_max(z, axis=1, keepdims=True))


def softmax(z):
    exps = tf.exp(shifted(z))
    return exps / tf.reduce_sum(exps, axis=1, keepdims=True)


def log_softmax(z):
    logits = shifted(z)
    return logits - tf.math.log(tf.reduce_sum(tf.exp(logits), axis=1, keepdims=True))


def of_two(z):
    top = tf.stop_gradient(tf.maximum(z[:, 0], z[:, 1]))
    return top + tf.math.log(tf.exp(z[:, 0] - top) + tf.exp(z[:, 1] - top))


def softplus(z, positive, total):
    top = tf.stop_gradient(positive(z))
    return tf.reduce_sum(top + tf.math.log(total(tf.exp(z - top), tf.exp(-top))), 1)


STOPPED = {
    "logsumexp": lambda z: tf.reduce_logsumexp(z, 1),
    "softmax": softmax,
    "softmax at a temperature": lambda z: softmax(z / 2) * tf.constant([1.0, 0, 1, 1, 1, 1], z.dtype),
    "log softmax": log_softmax,
    "logaddexp": of_two,
    "softplus": lambda z: softplus(z - 1, lambda z: tf.maximum(z, 0), tf.add),
    "softplus of a relu": lambda z: softplus(z - 1, tf.nn.relu, tf.add),
    "softplus by a stack": lambda z: softplus(z - 1, tf.nn.relu, lambda *t: tf.reduce_sum(tf.stack(t), 0)),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("name", STOPPED)
def test_a_stopped_maximum_that_cancels_is_seen_through(name):
    def network(z):
        return STOPPED[name](3 * tf.nn.relu(z @ weights(6, 6)))

    def run(x, baseline):
        y = output(network, x)
        return (
            ig.integrated_gradients(y, x, baseline, num_steps=4, method="secant"),
            methods.deeplift(y, x, baseline),
            y - output(network, baseline),
        )

    secant, deeplift, change = as_graph(run, [X, BASELINE], False)
    for found in (secant, deeplift):
        np.testing.assert_allclose(found.sum(1), change, rtol=0, atol=1e-7 * np.abs(found).sum())


MEANT = {
    "a stopped maximum": lambda z: tf.nn.relu(5 + z - tf.stop_gradient(tf.reduce_max(z, 1, keepdims=True))),
    "a stopped factor": lambda z: z * tf.stop_gradient(tf.exp(z)),
    "rounding with a gradient": lambda z: z + tf.stop_gradient(tf.round(z) - z),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_is_meant_to_be_stopped_is_stopped(name):
    gradients = tape_gradients(lambda z: output(MEANT[name], z))
    (expected,) = brute_force(gradients, [X], [BASELINE], gauss_legendre(400))
    found, _ = attributions(MEANT[name], X, BASELINE, steps=100)
    assert_close(found, expected, 1e-3)
