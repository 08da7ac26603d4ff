"""Tensors beside xs: one entry per row or shared by all, of lengths known to the run only."""

import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, tape_gradients
from row_networks import FLAT, POINTS

import igtf as ig

v1 = tf.compat.v1
MEET_ON_OTHER_AXES = {
    "einsum": lambda x, p: tf.einsum("bf,pf->bp", x, p),
    "matmul": lambda x, p: tf.matmul(x, p, transpose_b=True),
    "transpose": lambda x, p: x @ tf.transpose(p),
    "distances": lambda x, p: tf.reduce_sum((x[:, None] - p[None]) ** 2, axis=2),
    "tensordot": lambda x, p: tf.tensordot(x, p, [[1], [1]]),
    "in a loop": lambda x, p: tf.while_loop(
        lambda i, _: i < 2, lambda i, h: (i + 1, tf.tanh(tf.matmul(h, p, transpose_b=True)) @ p), (0, x)
    )[1],
}


@pytest.mark.parametrize("name", MEET_ON_OTHER_AXES)
def test_a_shared_argument_of_unknown_length_is_refused_or_named(name):
    """It would be repeated for every step, and every row meet all the copies."""

    def network(x, p):
        return tf.reduce_sum(tf.tanh(MEET_ON_OTHER_AXES[name](x, p)), axis=1)

    def build(x, p, **options):
        return ig.integrated_gradients(network(x, p), x, None, 9, "gausslegendre", **options)

    with pytest.raises(ValueError, match=r"one entry per row, but op .*per_row=\[\.\.\.\], \[\] for none"):
        as_graph(build, [FLAT, POINTS], False)
    result = as_graph(lambda x, p: build(x, p, per_row=[]), [FLAT, POINTS], False)
    gradients = tape_gradients(lambda x: network(x, POINTS))
    assert_close(result, brute_force(gradients, [FLAT], [0.0], gauss_legendre(9))[0], 1e-12)


@pytest.mark.parametrize(
    "network",
    [
        lambda x, p: tf.tanh(x) + tf.reduce_max(p, axis=0),
        lambda x, p: tf.tanh(x) * tf.reduce_sum(p, axis=0),
        lambda x, p: tf.tanh(x) + tf.gather(p, tf.argmax(x, axis=1)),
        lambda x, p: tf.while_loop(lambda i, _: i < 3, lambda i, h: (i + 1, tf.tanh(h + p[i])), (0, x))[1],
    ],
    ids=["maximum", "sum", "table", "row by row"],
)
def test_a_shared_argument_that_is_summarized_or_looked_up_keeps_its_value(network):
    def build(x, p):
        return ig.integrated_gradients(tf.reduce_sum(network(x, p) ** 2, 1), x, None, 9, "gausslegendre")

    def alone(x):
        return tf.reduce_sum(network(x, tf.constant(POINTS[:3])) ** 2, 1)

    result = as_graph(build, [FLAT, POINTS[:3]], False)
    assert_close(result, brute_force(tape_gradients(alone), [FLAT], [0.0], gauss_legendre(9))[0], 1e-12)


@pytest.mark.parametrize("session", [True, False], ids=["session", "tf.function"])
def test_lengths_that_only_the_run_knows_are_compared_in_it(session):
    def network(x, p):
        return tf.reduce_sum(tf.tanh(x) * p, axis=1)

    def build(x, p):
        return ig.integrated_gradients(network(x, p), x, None, 9, "gausslegendre")

    with pytest.raises(tf.errors.InvalidArgumentError, match="other than the rows of xs.*per_row"):
        if session:
            with tf.Graph().as_default(), v1.Session() as run:
                x, p = (v1.placeholder(tf.float64, [None, 4]) for _ in range(2))
                run.run(build(x, p), {x: FLAT, p: POINTS[:1]})
        else:
            as_graph(build, [FLAT, POINTS[:1]], False)


def test_inputs_of_different_lengths_are_refused_in_the_run():
    def build(a, b):
        ys = tf.reduce_sum(tf.tanh(a), 1), tf.reduce_sum(tf.tanh(b), 1)
        return ig.integrated_gradients(ys, [a, b], None, 9)

    with pytest.raises(tf.errors.InvalidArgumentError, match="expected the same number"):
        as_graph(build, [FLAT, POINTS], False)
