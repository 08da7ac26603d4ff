"""The ops between two tensors: tensors beside them, one entry per row or shared; what is refused."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, midpoints, tape_gradients
from shared_networks import BASELINE, BATCHES, BOTH, OUT, RNG, W2, W, X, change, kinked, smooth

import igtf as ig
from igtf.subgraph import Subgraph

v1 = tf.compat.v1


def dense_on_sequences(x):
    """What Keras makes of Dense on `[B, T, F]` with an unknown batch: shapes computed in the graph."""
    sequence = tf.tensordot(tf.reshape(x, [-1, 2, 2]), tf.constant(W[:2]), [[2], [0]])
    return tf.reduce_sum(tf.tensordot(tf.tanh(sequence), tf.constant(W2), [[2], [0]]), axis=1)


@pytest.mark.few(1)
@BOTH
def test_rows_are_followed_through_shapes_that_the_graph_computes(method):
    obstacles = []

    def build(x):
        y = tf.tanh(dense_on_sequences(x))[:, 1]
        obstacles.append(Subgraph("test", y, x, None).obstacle)
        return ig.integrated_gradients(y, x, BASELINE, 200, method)

    result = as_graph(build, [X], False)
    gradients = tape_gradients(lambda x: tf.tanh(dense_on_sequences(x))[:, 1])
    assert_close(result, brute_force(gradients, [X], [BASELINE], midpoints(4000))[0], 1e-4)
    assert obstacles == [None]  # so blocks hold several steps, and ends of steps are shared


class TestRows:
    """Tensors beside `xs`: one entry per row, or shared by all of them."""

    MASK = (RNG.normal(size=(3, 6)) > 0).astype(np.float64)
    TARGETS = np.array([2, 0, 1], np.int32)

    @staticmethod
    def masked(x, mask):
        return tf.reduce_sum(tf.tanh(x @ W) * mask, axis=1)

    @staticmethod
    def mask_turned_on_the_way(x, mask):
        return tf.reduce_sum(tf.tanh(tf.transpose(x @ W)) * tf.transpose(mask), axis=0)

    @staticmethod
    def gathered(x, targets):
        return tf.gather(smooth(x), targets, batch_dims=1)

    @staticmethod
    def one_hot_of_targets(x, targets):
        return tf.reduce_sum(smooth(x) * tf.one_hot(targets, 3, dtype=x.dtype), axis=1)

    @staticmethod
    def second_input(x, other):
        return tf.reduce_sum(tf.tanh(x @ W + tf.tanh(other)) ** 2, axis=1)

    @staticmethod
    def embedded_ids(x, ids):
        return tf.reduce_sum(tf.tanh(x @ W) * tf.gather(tf.constant(OUT.T), ids), axis=1)

    BESIDE = {
        "masked": MASK,
        "mask_turned_on_the_way": MASK,
        "gathered": TARGETS,
        "one_hot_of_targets": TARGETS,
        "second_input": MASK,
        "embedded_ids": TARGETS,
    }

    @pytest.mark.few(9)
    @pytest.mark.parametrize(
        "network, method, static",
        [
            *((network, "gausslegendre", static) for network in BESIDE for static in (True, False)),
            ("mask_turned_on_the_way", "secant", False),
            ("gathered", "secant", False),
            ("one_hot_of_targets", "secant", True),
        ],
    )
    def test_arguments_with_one_entry_per_row_are_repeated(self, network, method, static):
        beside = self.BESIDE[network]
        network = getattr(self, network)

        def build(x, beside):
            return ig.integrated_gradients(network(x, beside), x, BASELINE, 6, method, max_rows=9)

        result = as_graph(build, [X, beside], static)

        def alone(x):
            return network(x, tf.constant(beside))

        if method == "secant":
            np.testing.assert_allclose(result.sum(axis=1), change(alone), atol=1e-12)
        steps = gauss_legendre(6 if method == "gausslegendre" else 60)
        expected = brute_force(tape_gradients(alone), [X], [BASELINE], steps)[0]
        assert_close(result, expected, 1e-12 if method == "gausslegendre" else 5e-2)

    @BATCHES
    def test_a_placeholder_beside_xs_is_repeated_in_a_v1_graph(self, static):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float64, [3 if static else None, 4])
            mask = v1.placeholder(tf.float64, [3 if static else None, 6])
            result = ig.integrated_gradients(self.masked(x, mask), x, BASELINE, 6, "gausslegendre")
            values = session.run(result, {x: X, mask: self.MASK})
        alone = tape_gradients(lambda x: self.masked(x, self.MASK))
        assert_close(values, brute_force(alone, [X], [BASELINE], gauss_legendre(6))[0], 1e-12)

    @BATCHES
    def test_tensors_that_all_rows_share_are_left_alone(self, static):
        # As many rows in the batch as units in the layer: only the graph tells them apart.
        x, table = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 4))
        variable = tf.Variable(table)

        def network(x):
            return tf.reduce_sum(tf.tanh(tf.tanh(x @ table) @ variable) * table[1], axis=1)

        result = as_graph(
            lambda x: ig.integrated_gradients(network(x), x, None, 5, "gausslegendre"), [x], static
        )
        assert_close(result, brute_force(tape_gradients(network), [x], [0.0], gauss_legendre(5))[0], 1e-12)

    @BATCHES
    def test_per_row_leaves_alone_what_only_looks_like_one_entry_per_row(self, static):
        x, table = RNG.normal(size=(4, 4)), RNG.normal(size=(4, 4))

        def network(x, table):
            return tf.reduce_sum(tf.tanh(tf.tanh(x) @ table), axis=1)

        result = as_graph(
            lambda x, table: ig.integrated_gradients(
                network(x, table), x, None, 5, "gausslegendre", per_row=[]
            ),
            [x, table],
            static,
        )
        expected = brute_force(tape_gradients(lambda x: network(x, table)), [x], [0.0], gauss_legendre(5))[0]
        assert_close(result, expected, 1e-12)

    def test_a_shared_argument_that_looks_like_one_entry_per_row_is_refused_with_per_row(self):
        def build(x, table):
            return ig.integrated_gradients(tf.reduce_sum(tf.tanh(x) @ table, axis=1), x)

        with pytest.raises(
            ValueError, match=r"one entry per row, but op '.*per_row=\[\.\.\.\], \[\] for none"
        ):
            as_graph(build, [RNG.normal(size=(4, 4))] * 2, False)

    @BOTH
    def test_per_row_names_what_cannot_be_detected(self, method):
        def build(x):
            mask = tf.constant(self.MASK)
            y = self.masked(x, mask)
            return ig.integrated_gradients(y, x, BASELINE, 6, method, per_row=[mask], max_rows=9)

        def alone(x):
            return self.masked(x, self.MASK)

        result = as_graph(build, [X], False)
        expected = brute_force(tape_gradients(alone), [X], [BASELINE], gauss_legendre(6))[0]
        assert_close(result, expected, 1e-12 if method == "gausslegendre" else 5e-2)

    def test_rows_do_not_influence_one_another(self):
        whole, part = (
            as_graph(lambda x: ig.integrated_gradients(kinked(x)[:, 0], x, None, 9), [x], False)
            for x in (X, X[1:2])
        )
        assert_close(whole[1:2], part, 1e-12)

    def test_an_empty_batch_gets_empty_attributions(self):
        result = as_graph(lambda x: ig.integrated_gradients(kinked(x)[:, 0], x, None, 9), [X[:0]], False)
        assert result.shape == (0, 4)


class TestRefusals:
    """What cannot be explained is refused: what came in, what was expected, what to do."""

    @staticmethod
    def refused(build, arrays, static, error, message):
        with pytest.raises(error, match=message):
            as_graph(build, arrays, static)

    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize(
        "build, error, message",
        [
            (
                lambda x: ig.integrated_gradients(tf.tanh(x * 2), x * 2),
                ValueError,
                "no path leads from.*Pass the very tensor",
            ),
            (
                lambda x: ig.integrated_gradients(tf.stop_gradient(x) * 2, x),
                ValueError,
                "no gradient flows.*stop_gradient",
            ),
            (
                lambda x: ig.integrated_gradients(tf.cast(tf.argmax(x, 1), tf.float64), x),
                ValueError,
                "no gradient flows.*argmax",
            ),
            (
                lambda x: ig.integrated_gradients(tf.gather(W, tf.cast(x[:, 0], tf.int32)), x),
                ValueError,
                "(?s)integers.*embedding's output",
            ),
            (
                lambda x: ig.integrated_gradients(tf.gather(W, tf.argmax(x, 1)), tf.argmax(x, 1)),
                TypeError,
                "dtype int64.*embedding's output",
            ),
            (
                lambda x: ig.integrated_gradients(tf.reduce_sum(smooth(x)), x),
                ValueError,
                "is a scalar, expected.*one entry per row",
            ),
            (
                lambda x: ig.integrated_gradients(tf.reduce_mean(smooth(x), axis=0), x),
                ValueError,
                "mixes the rows",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), tf.reduce_sum(x)),
                ValueError,
                r"is a scalar, expected \[B, ...\]",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, grad_ys=tf.ones([3, 2], x.dtype)),
                ValueError,
                r"grad_ys has shape \(3, 2\), expected \((3|None), 3\)",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, grad_ys=tf.ones([3], x.dtype)),
                ValueError,
                r"grad_ys has shape \(3,\), expected",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, grad_ys=tf.constant([[0, 1, 0]])),
                TypeError,
                "grad_ys has dtype int32.*tf.cast",
            ),
            (
                lambda x: ig.integrated_gradients([smooth(x)], x, grad_ys={"a": smooth(x)}),
                ValueError,
                "grad_ys has the structure",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, max_rows=0),
                ValueError,
                "max_rows is 0, expected at least",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, max_rows=2.5),
                TypeError,
                "max_rows is 2.5 of type float",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, baselines=tf.zeros([1, 5], x.dtype)),
                ValueError,
                "broadcasts to",
            ),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, method="simpson"),
                ValueError,
                "simpson.*secant",
            ),
            (lambda x: ig.integrated_gradients(smooth(x), x, num_steps=0), ValueError, "num_steps is 0"),
            (lambda x: ig.integrated_gradients(smooth(x), x, num_steps=2.0), TypeError, "num_steps is 2.0"),
            (lambda x: ig.integrated_gradients(smooth(x), x, per_row=x), TypeError, "per_row is a .*list"),
            (
                lambda x: ig.integrated_gradients(smooth(x), x, per_row=[tf.zeros([])]),
                ValueError,
                "per_row holds",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused_with_the_way_out(self, build, error, message, static):
        self.refused(build, [X], static, error, message)

    @pytest.mark.parametrize("method, rows", [("gausslegendre", 2), ("secant", 5)])
    def test_blocks_smaller_than_a_batch_are_refused(self, method, rows):
        self.refused(
            lambda x: ig.integrated_gradients(smooth(x), x, method=method, max_rows=rows),
            [X],
            True,
            ValueError,
            f"max_rows is {rows}, expected at least {rows + 1}",
        )

    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize("shape", [(4,), (4, 4, 2)], ids=["dense", "image"])
    def test_batch_norm_in_training_mode_is_refused_with_its_op(self, shape, static):
        layer = tf.keras.layers.BatchNormalization()
        x = RNG.normal(size=(3, *shape)).astype(np.float32)
        layer(x)

        def build(x):
            return ig.integrated_gradients(layer(x, training=True), x)

        self.refused(build, [x], static, ValueError, "op '.*mixes the rows.*training=False")
        assert as_graph(lambda x: ig.integrated_gradients(layer(x, training=False), x), [x], static).any()

    @BATCHES
    def test_dropout_that_is_on_is_refused_with_its_op(self, static):
        layer = tf.keras.layers.Dropout(0.5)

        def build(x):
            return ig.integrated_gradients(tf.tanh(layer(tf.tanh(x), training=True)), x)

        self.refused(build, [X], static, ValueError, "random.*op '.*training=False")

    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize("noise", [tf.random.normal, tf.random.uniform])
    def test_noise_is_refused(self, noise, static):
        def build(x):
            return ig.integrated_gradients(tf.tanh(x) * noise(tf.shape(x), dtype=x.dtype), x)

        self.refused(build, [X], static, ValueError, "random.*op '")

    def test_randomly_initialised_weights_are_not_noise(self):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float64, [None, 4])
            for resource in (True, False):
                shape = dict(shape=[4], dtype=tf.float64, initializer=v1.random_normal_initializer())
                w = v1.get_variable(f"w{resource}", use_resource=resource, **shape)
                result = ig.integrated_gradients(x * w, x)
                session.run(v1.global_variables_initializer())
                assert_close(*session.run([result, x * w], {x: X}), 1e-12)

    @pytest.mark.parametrize(
        "call",
        [
            lambda y, x: ig.integrated_gradients(y, x),
            lambda y, x: ig.integrated_jacobian(y, x),
            lambda y, x: ig.layer_conductance(y, x, x),
            lambda y, x: ig.convergence_delta(y, x, None, x),
            lambda y, x: ig.graph_replace(y, x, x),
        ],
    )
    def test_eager_and_keras_tensors_are_refused_with_the_way_out(self, call):
        eager = tf.constant(X)
        with pytest.raises(TypeError, match="eager.*tf.function"):
            call(smooth(eager), eager)
        symbol = tf.keras.Input([4])
        with pytest.raises(TypeError, match="KerasTensor.*tf.function"):
            call(tf.keras.layers.Dense(3)(symbol), symbol)

    def test_a_tensor_of_a_finished_graph_is_refused(self):
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float64, [None, 4])
            y = smooth(x)
        with pytest.raises(TypeError, match="outside its graph"):
            ig.integrated_gradients(y, x)
