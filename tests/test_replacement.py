"""The same network once more, on other values."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph
from shared_networks import BATCHES, RNG, W, X, kinked, smooth, with_baked_in_batch

import igtf as ig


class TestGraphReplace:
    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize("copies", [1, 3])
    def test_it_runs_the_network_again_on_other_values(self, copies, static):
        other = RNG.normal(size=(3 * copies, 4))
        result = as_graph(lambda x: ig.graph_replace(kinked(x), x, tf.constant(other)), [X], static)
        np.testing.assert_allclose(result, kinked(tf.constant(other)), atol=1e-12)

    def test_it_returns_the_structure_of_ys(self):
        def build(x):
            y = tf.tanh(x)
            return ig.graph_replace({"y": y, "pair": (y * 2, x)}, x, tf.zeros_like(x) + 1)

        result = as_graph(build, [X], False)
        np.testing.assert_allclose(result["y"], np.full((3, 4), np.tanh(1)))
        np.testing.assert_allclose(result["pair"][0], np.full((3, 4), 2 * np.tanh(1)))
        np.testing.assert_array_equal(result["pair"][1], np.ones((3, 4)))

    def test_it_works_inside_the_body_of_a_while_loop(self):
        def build(x):
            y = smooth(x)

            def body(i, total):
                return i + 1, total + ig.graph_replace(y, x, x * tf.cast(i, x.dtype))

            return tf.while_loop(lambda i, _: i < 4, body, (0, tf.zeros_like(y)))[1]

        expected = sum(smooth(tf.constant(X * i)).numpy() for i in range(4))
        np.testing.assert_allclose(as_graph(build, [X], False), expected, atol=1e-12)

    def test_weights_are_shared(self):
        weights = tf.Variable(W)

        @tf.function
        def build(x):
            y = tf.tanh(x @ weights)
            again = ig.graph_replace(y, x, x * 2)
            return tf.gradients(again, weights.handle)[0], again

        gradient, before = build(tf.constant(X))
        np.testing.assert_allclose(gradient, (2 * X).T @ (1 - np.tanh(2 * X @ W) ** 2), atol=1e-12)
        np.testing.assert_allclose(before, np.tanh(2 * X @ W), atol=1e-12)
        weights.assign(2 * W)
        np.testing.assert_allclose(build(tf.constant(X))[1], np.tanh(4 * X @ W), atol=1e-12)

    def test_ids_may_be_replaced(self):
        result = as_graph(
            lambda ids: ig.graph_replace(tf.gather(tf.constant(W), ids), ids, ids + 1),
            [np.array([0, 2])],
            False,
        )
        np.testing.assert_array_equal(result, W[[1, 3]])

    def test_tensors_with_one_entry_per_row_are_repeated(self):
        def build(x, targets):
            chosen = tf.gather(smooth(x), targets, batch_dims=1)
            return ig.graph_replace(chosen, x, tf.concat([x, 2 * x], 0))

        targets = np.array([2, 0, 1], np.int32)
        result = as_graph(build, [X, targets], False)
        both = smooth(tf.constant(np.concatenate([X, 2 * X]))).numpy()
        np.testing.assert_allclose(result, both[np.arange(6), np.tile(targets, 2)])

    @pytest.mark.parametrize(
        "replacement, error, message",
        [
            (lambda x: [x], ValueError, "graph_replace: replacements has the structure"),
            (lambda x: tf.cast(x, tf.float32), TypeError, "dtype float64"),
            (lambda x: x[:, :2], ValueError, r"has shape \(3, 2\), expected"),
            (lambda x: tf.zeros([4, 4], x.dtype), ValueError, "4 rows, expected a multiple of 3"),
            (lambda x: 1.0, TypeError, "expected a tensor"),
        ],
    )
    def test_replacements_that_do_not_fit_are_refused(self, replacement, error, message):
        with pytest.raises(error, match=message):
            as_graph(lambda x: ig.graph_replace(smooth(x), x, replacement(x)), [X], True)

    def test_more_rows_than_a_baked_in_batch_size_allows_are_refused_with_the_op(self):
        def build(x):
            return ig.graph_replace(with_baked_in_batch(smooth)(x), x, tf.concat([x, x], 0))

        with pytest.raises(ValueError, match="6 rows and the batch size 3 is part of the graph"):
            as_graph(build, [X], True)
