"""Rows of xs that are not those of ys: looked-up embeddings."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, tape_gradients
from row_networks import IDS, KERNEL, RNG, TABLE, W

import igtf as ig


def looked_up(ids):
    """Each id once, as embeddings of sparse ids look it up."""
    unique, index = tf.unique(tf.reshape(ids, [-1]))
    rows = tf.gather(tf.constant(TABLE), unique)
    return rows, index


LOOKUPS = {
    "gather": lambda e, i, ids: tf.reshape(tf.gather(e, i), [-1, 12]) @ KERNEL,
    "segment_sum": lambda e, i, ids: tf.math.segment_sum(tf.gather(e, i), tf.range(12) // 3) @ W,
    "unsorted_segment_mean": lambda e, i, ids: tf.math.unsorted_segment_mean(
        tf.gather(e, i), tf.range(12) // 3, 4
    ),
    "sparse_segment_mean": lambda e, i, ids: tf.sparse.segment_mean(e, i, tf.range(12) // 3) @ W,
    "scatter_nd": lambda e, i, ids: tf.scatter_nd(tf.range(12)[:, None] // 3, tf.gather(e, i), [4, 4]) @ W,
    "embedding_lookup_sparse": lambda e, i, ids: tf.nn.embedding_lookup_sparse(
        e, tf.sparse.from_dense(tf.reshape(i + 1, [-1, 3])).with_values(i), None, combiner="mean"
    ),
}


@pytest.mark.few(4)
@pytest.mark.parametrize("method", ["gausslegendre", "secant", "auto"])
@pytest.mark.parametrize("name", LOOKUPS)
def test_looked_up_rows_that_are_not_those_of_the_output_get_the_sum_over_all_outputs(name, method):
    network = LOOKUPS[name]

    def build(ids):
        rows, index = looked_up(ids)
        ys = tf.reduce_sum(tf.tanh(network(rows, index, ids)), axis=1)
        return ig.integrated_gradients(ys, rows, None, 200 if method == "secant" else 9, method), rows, index

    result, rows, index = as_graph(build, [IDS], False)

    def alone(e):
        return tf.tanh(network(1 * e, tf.constant(index), IDS))  # a dense gradient

    steps = gauss_legendre(60 if method == "secant" else 9)
    expected = brute_force(tape_gradients(alone), [rows], [0.0], steps)[0]
    assert_close(result, expected, {"secant": 1e-3, "gausslegendre": 1e-12, "auto": 1e-3}[method])


def test_several_looked_up_features_share_one_path():
    """Each has as many rows as it has different ids, beside a dense input with a row per example."""
    dense = RNG.normal(size=(4, 4))

    def network(a, b, dense, i, j):
        wide = tf.reshape(tf.gather(a, i), [-1, 12]) @ KERNEL + tf.reshape(tf.gather(b, j), [-1, 12]) @ KERNEL
        return tf.reduce_sum(tf.nn.relu(wide + dense @ W), axis=1)

    def build(ids, dense):
        (a, i), (b, j) = looked_up(ids), looked_up(ids[:, ::-1] % 2)
        ys = network(a, b, dense, i, j)
        xs = [a, b, dense]
        return (
            ig.integrated_gradients(ys, xs, None, 40),
            ig.integrated_gradients(ys, xs, None, 9, "gausslegendre"),
            xs,
            i,
            j,
        )

    auto, points, xs, i, j = as_graph(build, [IDS, dense], False)

    def alone(*xs):
        return network(*(1 * x for x in xs), i, j)

    ends = tf.reduce_sum(alone(*xs) - alone(*(0 * x for x in xs)))
    np.testing.assert_allclose(sum(part.sum() for part in auto), ends, atol=1e-10)
    expected = brute_force(tape_gradients(alone), xs, [0.0] * 3, gauss_legendre(9))
    for part, one in zip(points, expected):
        assert_close(part, one, 1e-11)


def test_replacements_for_rows_that_cannot_be_stacked_must_be_as_many():
    def build(ids, again):
        rows, index = looked_up(ids)
        return ig.graph_replace(tf.reshape(tf.gather(rows, index), [-1, 12]) @ KERNEL, rows, again)

    other = RNG.normal(size=(5, 4))
    unique, index = np.array([3, 1, 0, 4, 2]), [0, 1, 0, 2, 2, 1, 3, 0, 1, 1, 4, 3]
    assert (unique[index] == IDS.ravel()).all()
    np.testing.assert_allclose(as_graph(build, [IDS, other], False), other[index].reshape(4, 12) @ KERNEL)
    with pytest.raises(tf.errors.InvalidArgumentError, match="other than the rows of xs.*Unique"):
        as_graph(build, [IDS, np.concatenate([other, other])], False)


def test_a_completeness_check_of_rows_that_are_not_those_of_the_output_is_refused():
    def build(ids):
        rows, index = looked_up(ids)
        ys = tf.reshape(tf.gather(rows, index), [-1, 12]) @ KERNEL
        return ig.convergence_delta(ys, rows, None, rows)

    with pytest.raises(tf.errors.InvalidArgumentError, match="convergence_delta: .* rows"):
        as_graph(build, [IDS], False)
