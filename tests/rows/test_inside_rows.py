"""Ops that work inside a row: each row is followed, and steps stay together."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, tape_gradients
from row_networks import FLAG, FLAT, RNG_KERNEL, V, W, X, hidden
from shared_networks import BATCHES

import igtf as ig
from igtf.subgraph import Subgraph


def attention(x):
    h = hidden(x)
    scores = tf.nn.softmax(tf.matmul(h, h, transpose_b=True) / 2)
    return scores @ h


def attention_in_heads(x):
    batch = tf.shape(x)[0]

    def heads(t):
        return tf.transpose(tf.reshape(t, (batch, -1, 2, 2)), [0, 2, 1, 3])

    h = hidden(x)
    mixed = tf.nn.softmax(tf.matmul(heads(h), heads(x), transpose_b=True)) @ heads(h)
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), (batch, -1, 4))


def turned_away_and_back(x):
    h = tf.transpose(hidden(x), [2, 1, 0])
    return tf.transpose(tf.nn.softmax(tf.cumsum(h, axis=1), axis=0), [2, 1, 0])


def features_on_axis_0(x):
    return tf.transpose(tf.constant(V) @ tf.transpose(hidden(x)[:, 0]))


def axes_merged_and_split(x):
    h = tf.nn.softplus(tf.reshape(hidden(x), [-1, 4]) @ V)
    return tf.reshape(h, [-1, 6, 4])


def merged_as_the_graph_computes(x):
    shape = tf.shape(x)
    h = tf.tanh(tf.reshape(x, [shape[0] * shape[1], shape[2]]) @ V)
    return tf.reshape(h, shape)


def class_token(x):
    batch = tf.shape(x)[0]
    token = tf.tile(tf.constant(W[None, :1]), [batch, 1, 1])
    return attention(tf.concat([token, x], axis=1))[:, 0]


def token_broadcast(x):
    token = tf.broadcast_to(tf.constant(W[None, :1]), [tf.shape(x)[0], 1, 4])
    return attention(tf.concat([token, x], axis=1))[:, 0]


def slices(x):
    h = hidden(x)
    return h[:, 1:] * h[:, :-1] + h[..., ::-1][:, 1:] - tf.slice(h, [0, 0, 0], [-1, 5, -1])


def slice_to_the_batch_size(x):
    return hidden(x)[: tf.shape(x)[0], 2]


def ordered_in_a_row(x):
    return tf.sort(hidden(x), axis=1) + tf.math.top_k(hidden(x), 4).values


def turned_round_in_a_row(x):
    return tf.reverse(hidden(x), [1]) * tf.roll(x, 2, axis=1)


def gathered_in_a_row(x):
    return (
        tf.gather(hidden(x), [5, 0, 0], axis=1) + tf.gather(x, tf.argmax(x[..., 0], 1), batch_dims=1)[:, None]
    )


def picked_by_row_number(x):
    batch = tf.shape(x)[0]
    chosen = tf.argmax(x[:, :, 0], axis=1, output_type=tf.int32)
    return tf.gather_nd(hidden(x), tf.stack([tf.range(batch), chosen], axis=1))


def contracted(x):
    h = tf.einsum("...d,de->...e", hidden(x), tf.constant(V))
    return tf.einsum("btd,bsd->bts", h, x) @ x


def convolved(x):
    kernel = tf.constant(RNG_KERNEL)
    h = tf.nn.convolution(tf.tanh(x), kernel, padding="SAME", dilations=2)
    return tf.nn.avg_pool1d(tf.nn.conv1d(h, kernel, 2, "VALID"), 2, 1, "VALID")


def normalized(x):
    mean, variance = tf.nn.moments(hidden(x), axes=[1, 2], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-2)


def recurrent(x):
    steps = tf.transpose(x, [1, 0, 2])
    h = tf.scan(lambda h, step: tf.tanh(step @ W + h @ V), steps, tf.zeros_like(x[:, 0]))
    return h[-1]


def recurrent_from_zeros(x):
    state = tf.zeros([tf.shape(x)[0], 4], x.dtype)
    return tf.while_loop(lambda i, _: i < 6, lambda i, h: (i + 1, tf.tanh(x[:, i] @ W + h @ V)), (0, state))[
        1
    ]


def heads_of_a_shape_that_the_graph_computes(x):
    """As the dense layers of a frozen Keras model: their static shape is lost."""
    shape = tf.concat([tf.gather(tf.shape(x), [0, 1]), [4]], 0)
    h = tf.nn.bias_add(tf.reshape(tf.reshape(x, [-1, 4]) @ W, shape), tf.constant(V[0]))
    return tf.tanh(tf.reshape(h, [-1, x.shape[1], 2, 2]))


def branches(x):
    h = hidden(x)
    return tf.cond(FLAG, lambda: tf.nn.softmax(h, axis=1), lambda: h * 2)


INSIDE = [
    *(attention, attention_in_heads, turned_away_and_back, features_on_axis_0, axes_merged_and_split),
    *(merged_as_the_graph_computes, class_token, token_broadcast, slices, slice_to_the_batch_size),
    *(ordered_in_a_row, turned_round_in_a_row, gathered_in_a_row, picked_by_row_number, contracted),
    *(convolved, normalized, recurrent, recurrent_from_zeros, branches),
    heads_of_a_shape_that_the_graph_computes,
]


def summed(network):
    """One smooth number per row."""
    return lambda x: tf.reduce_sum(tf.reshape(network(x) ** 2, [tf.shape(x)[0], -1]), axis=1)


@pytest.fixture(scope="module")
def inside():
    """Attributions of every network of `INSIDE`, by static or unknown batch, and where rows were lost."""
    found = {}

    def build(x):
        results = {}
        for network in INSIDE:
            y = summed(network)(x)
            plan = Subgraph("test", y, x, None)
            results[network.__name__] = ig.integrated_gradients(y, x, 0.1, 7, "gausslegendre", max_rows=9)
            found[network.__name__, x.shape[0]] = plan.lost
        return results

    return {static: as_graph(build, [X], static) for static in (True, False)}, found


@pytest.mark.thin
@BATCHES
@pytest.mark.parametrize("network", INSIDE, ids=lambda f: f.__name__)
def test_what_works_inside_a_row_is_explained(network, static, inside):
    expected = brute_force(tape_gradients(summed(network)), [X], [0.1], gauss_legendre(7))[0]
    assert_close(inside[0][static][network.__name__], expected, 1e-11)


@pytest.mark.parametrize("network", INSIDE, ids=lambda f: f.__name__)
def test_what_works_inside_a_row_runs_for_several_steps_at_once(network, inside):
    assert inside[1][network.__name__, None] is None


def test_a_number_of_rows_that_enters_the_values_is_that_of_the_batch():
    """Several steps at once would be more rows, and the quotient smaller."""

    def network(x):
        return tf.reduce_sum(tf.tanh(x), axis=1) / tf.cast(tf.shape(x)[0], x.dtype)

    result = as_graph(
        lambda x: ig.integrated_gradients(network(x), x, None, 9, "gausslegendre"), [FLAT], False
    )
    assert_close(result, brute_force(tape_gradients(network), [FLAT], [0.0], gauss_legendre(9))[0], 1e-12)


@pytest.mark.parametrize("network", INSIDE, ids=lambda f: f.__name__)
def test_rows_of_a_static_batch_are_told_apart_inside_a_row(network):
    def build(x):
        y = summed(network)(x)
        aligned.append(Subgraph("test", y, x, None).aligned)
        return y

    aligned = []
    as_graph(build, [X], True)
    assert aligned == [True]


@BATCHES
def test_inference_batch_norm_of_which_only_the_result_is_read_keeps_steps_together(static):
    """Its other outputs have no known rank."""
    found = []

    def build(x):
        image = tf.reshape(x, [-1, 2, 3, 4])
        image = tf.compat.v1.nn.fused_batch_norm(
            tf.cast(image, tf.float32), [1.0] * 4, [0.5] * 4, [0.1] * 4, [2.0] * 4, is_training=False
        )[0]
        y = tf.reduce_sum(tf.nn.relu(image), axis=[1, 2, 3])
        found.append(Subgraph("test", y, x, None).stacked)
        return ig.integrated_gradients(y, x, None, 3)

    as_graph(build, [X.astype(np.float32).reshape(3, 24)], static)
    assert found == [True]
