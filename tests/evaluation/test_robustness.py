"""Sensitivity against a loop over the noisy copies."""

import numpy as np
import pytest
import tensorflow as tf
from judged import BOTH, V, W, X, net
from reference import assert_close, in_function, in_session

import igtf as ig


def slopes(ys, xs):
    return tf.nest.pack_sequence_as(xs, tf.gradients(ys, tf.nest.flatten(xs)))


def gradient(x):
    """Of the first output, in NumPy."""
    return ((1 - np.tanh(x @ W) ** 2) * V[:, 0]) @ W.T


def noises(samples, seed, shape=(1, 6)):
    for number in range(samples):
        draws = tf.random.stateless_uniform(shape, [seed, number], -1, 1, alg="philox")
        yield np.float64(draws.numpy())


@BOTH
@pytest.mark.parametrize("normalize", [False, True])
def test_the_largest_distance_over_the_noisy_copies(run, normalize):
    distances = [np.linalg.norm(gradient(X + 0.1 * n) - gradient(X), axis=1) for n in noises(7, 4)]
    wanted = np.max(distances, 0) / (np.linalg.norm(gradient(X), axis=1) if normalize else 1)

    def judge(x):
        return ig.sensitivity_max(slopes, net(x, tf)[:, 0], x, 0.1, 7, normalize, 4)

    assert_close(run(judge, X), wanted, 1e-12)


def test_the_radius_may_differ_between_features_and_inputs():
    radius = np.array([[0.1, 0.0, 0.0, 0.3, 0.0, 0.0]])
    distances = [np.linalg.norm(gradient(X + radius * n) - gradient(X), axis=1) for n in noises(5, 1)]

    def judge(x):
        return ig.sensitivity_max(slopes, net(x, tf)[:, 0], x, radius, 5, False, 1)

    assert_close(in_session(judge, X), np.max(distances, 0), 1e-12)


def test_attributions_of_several_inputs_have_one_norm():
    def judge(x, u):
        y = tf.reduce_sum(tf.square(x), 1) + 3 * tf.reduce_sum(tf.square(u), 1)
        return ig.sensitivity_max(slopes, y, {"x": x, "u": u}, 0.1, 6, False, 2)

    found = in_function(judge, X[:, :2], X[:, 2:])
    draw = lambda shape, number: np.float64(  # noqa: E731
        tf.random.stateless_uniform(shape, [2, number], -1, 1, alg="philox").numpy()
    )
    squares = [
        # (tf.nest sorts keys: u comes first.)
        (6 * 0.1 * draw([1, 4], 2 * i)) ** 2 @ np.ones(4)
        + (2 * 0.1 * draw([1, 2], 2 * i + 1)) ** 2 @ np.ones(2)
        for i in range(6)
    ]
    assert_close(found, np.full(5, np.sqrt(np.max(squares))), 1e-12)


def test_an_explanation_that_ignores_the_input_has_none():
    constant = lambda ys, xs: tf.ones_like(xs)  # noqa: E731
    judge = lambda x: ig.sensitivity_max(constant, net(x, tf), x)  # noqa: E731
    assert in_session(judge, X).tolist() == [0] * 5
    nothing = lambda x: ig.sensitivity_max(lambda ys, xs: tf.zeros_like(xs), net(x, tf), x)  # noqa: E731
    assert in_session(nothing, X).tolist() == [0] * 5


def test_rows_are_independent_and_seeds_make_the_noise():
    judge = lambda x, seed: ig.sensitivity_max(ig.saliency, net(x, tf), x, seed=seed)  # noqa: E731
    whole = in_session(lambda x: judge(x, 1), X)
    assert_close(in_function(lambda x: judge(x, 1), X[2:3]), whole[2:3], 1e-12)
    assert np.abs(in_session(lambda x: judge(x, 2), X) - whole).min() > 0
    drawn = [in_session(lambda x: judge(x, None), X) for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).min() > 0


def test_the_graph_does_not_grow_with_the_number_of_copies():
    def nodes(samples):
        traced = tf.function(lambda x: ig.sensitivity_max(ig.saliency, tf.tanh(x), x, num_samples=samples))
        return len(traced.get_concrete_function(tf.TensorSpec([None, 6])).graph.get_operations())

    assert nodes(2) == nodes(2000)


@pytest.mark.parametrize(
    "builder, options, error, message",
    [
        (3, {}, TypeError, "builder is a int, expected a function"),
        (ig.saliency, dict(normalize=1), TypeError, "normalize is 1"),
        (ig.saliency, dict(num_samples=0), ValueError, "num_samples is 0"),
        (ig.saliency, dict(radius=[1.0, 2.0]), ValueError, "baseline has shape"),
        (lambda ys, xs: tf.reduce_sum(xs), {}, ValueError, "builder returned a .*Tensor of shape"),
        (lambda ys, xs: 3.0, {}, ValueError, "builder returned a float of shape None"),
        (lambda ys, xs: xs[:2], {}, ValueError, r"of shape \(2, 6\), expected \[B, ...\] with the 5"),
    ],
)
def test_wrong_arguments_are_refused(builder, options, error, message):
    with tf.Graph().as_default(), pytest.raises(error, match=f"^sensitivity_max: .*{message}"):
        x = tf.compat.v1.placeholder(tf.float32, [5, 6])
        ig.sensitivity_max(builder, tf.reduce_sum(x, 1), x, **options)
