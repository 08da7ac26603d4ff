"""Ops that work across the rows are refused, or seen not to happen."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, midpoints, tape_gradients
from row_networks import FLAG, FLAT, MIXER, V, W
from shared_networks import BATCHES

import igtf as ig
from igtf.subgraph import Subgraph

v1 = tf.compat.v1


def looped(x):
    return tf.while_loop(lambda i, _: i < 2, lambda i, h: (i + 1, tf.nn.softmax(h, axis=0)), (0, x))[1]


EDGES = tf.sparse.from_dense(np.eye(3))
ACROSS = {
    "softmax": lambda x: tf.nn.softmax(x, axis=0),
    "log_softmax": lambda x: tf.nn.log_softmax(x, axis=0),
    "cumsum": lambda x: tf.cumsum(x, axis=0),
    "cumprod": lambda x: tf.math.cumprod(x, reverse=True),
    "cumulative_logsumexp": tf.math.cumulative_logsumexp,
    "sort": lambda x: tf.sort(x, axis=0),
    "argsort": lambda x: tf.gather(x, tf.argsort(x[:, 0])),
    "top_k": lambda x: tf.transpose(tf.math.top_k(tf.transpose(x), 3).values),
    "reverse": lambda x: x + tf.reverse(x, [0]),
    "reversed slice": lambda x: x + x[::-1],
    "roll": lambda x: x * tf.roll(x, 1, axis=0),
    "first row": lambda x: x - x[:1],
    "one row": lambda x: x * x[0],
    "tf.slice": lambda x: x - tf.slice(x, [0, 0], [1, 4]),
    "gather": lambda x: x * tf.gather(x, [0, 0, 1]),
    "gather_nd": lambda x: x * tf.gather_nd(x, [[2], [0], [1]]),
    "adjacency": lambda x: tf.constant(MIXER) @ tf.nn.relu(x @ W),
    "sparse adjacency": lambda x: tf.sparse.sparse_dense_matmul(EDGES, tf.nn.relu(x @ W)),
    "adjacency as einsum": lambda x: tf.einsum("ij,jf->if", tf.constant(MIXER), x),
    "h @ h^T": lambda x: x @ tf.transpose(x),
    "h^T @ h": lambda x: x @ tf.matmul(x, x, transpose_a=True),
    "gram as einsum": lambda x: tf.einsum("if,jf->ij", x, x),
    "tensordot": lambda x: x @ tf.tensordot(x, x, [[0], [0]]),
    "distances": lambda x: tf.reduce_sum((x[:, None] - x[None]) ** 2, axis=2),
    "mean": lambda x: x - tf.reduce_mean(x, axis=0),
    "mean of all": lambda x: x / tf.reduce_mean(x),
    "maximum": lambda x: x / tf.reduce_max(x, axis=0, keepdims=True),
    "l2_normalize": lambda x: tf.nn.l2_normalize(x, axis=0),
    "l2_loss": lambda x: x * tf.nn.l2_loss(x),
    "moments": lambda x: (x - tf.nn.moments(x, [0])[0]) / tf.sqrt(tf.nn.moments(x, [0])[1] + 1),
    "conv1d": lambda x: tf.nn.conv1d(x[None], tf.ones([3, 4, 4], x.dtype), 1, "SAME")[0],
    "dilated conv1d": lambda x: tf.nn.conv1d(x[None], tf.ones([3, 4, 4], x.dtype), 1, "SAME", dilations=2)[0],
    "max_pool1d": lambda x: tf.nn.max_pool1d(x[None], 3, 1, "SAME")[0],
    "fft": lambda x: tf.math.real(tf.transpose(tf.signal.fft(tf.cast(tf.transpose(x), tf.complex128)))),
    "reverse_sequence": lambda x: tf.reverse_sequence(x, [1, 2, 3, 3], 0, 1),
    "attention between rows": lambda x: tf.nn.softmax(tf.matmul(x[None], x[None], transpose_b=True))[0],
    "joined to one row": lambda x: tf.reshape(tf.reshape(x, [1, -1]) @ tf.ones([12, 12], x.dtype), [3, 4]),
    "moving average": lambda x: tf.nn.avg_pool1d(tf.reshape(x, [1, -1, 4]), 3, 1, "SAME")[0],
    "in a loop": looped,
    "in both branches": lambda x: tf.cond(FLAG, lambda: x - tf.reduce_mean(x, axis=0), lambda: x * x[:1]),
    "behind a merging reshape": lambda x: tf.nn.softmax(tf.reshape(x, [-1, 2]), axis=0),
}


@pytest.mark.thin
@BATCHES
@pytest.mark.parametrize("name", ACROSS)
def test_what_works_across_the_rows_is_refused(name, static):
    def build(x):
        return ig.integrated_gradients(tf.reduce_sum(ACROSS[name](tf.tanh(x)), axis=1), x)

    with pytest.raises(ValueError, match=r"integrated_gradients: op '.*' \(\w+\).*mixes the rows.*x\[None\]"):
        as_graph(build, [FLAT], static)


@pytest.mark.parametrize(
    "name", ["softmax", "cumsum", "first row", "adjacency", "h @ h^T", "conv1d", "in a loop"]
)
def test_rows_that_belong_together_are_explained_as_one_row(name):
    """The way out that the refusal names."""

    def network(one):
        return tf.reduce_sum(ACROSS[name](tf.tanh(one[0])) ** 2, axis=[0, 1])[None]

    one = FLAT[None]
    result = as_graph(lambda x: ig.integrated_gradients(network(x), x, None, 9, "gausslegendre"), [one], True)
    assert_close(result, brute_force(tape_gradients(network), [one], [0.0], gauss_legendre(9))[0], 1e-11)


UNFOLLOWED = {
    "scatter": lambda x: tf.scatter_nd([[1], [2], [0]], x, [3, 4]),
    "segments": lambda x: tf.gather(tf.math.segment_mean(x, [0, 0, 1]), [0, 1, 0]),
    "shifted": lambda x: x + tf.pad(x, [[1, 0], [0, 0]])[:-1],
    "stacked": lambda x: tf.stack(tf.unstack(x, num=3)[::-1]),
    "scanned": lambda x: tf.scan(lambda a, row: tf.tanh(a + row), x),
}


@pytest.mark.few(4)
@BATCHES
@pytest.mark.parametrize("name", UNFOLLOWED)
def test_rows_that_may_have_met_lie_on_one_path(name, static):
    """Steps of its own for each row would be no straight line for them all."""

    def network(x):
        h = tf.nn.relu(x @ W + 0.3)
        return tf.reduce_sum(tf.nn.relu(UNFOLLOWED[name](3 * h) @ V - 0.5) @ W[:, :2], axis=1)

    x = FLAT * [[0.1], [1], [5]]
    result = as_graph(lambda x: ig.integrated_gradients(network(x), x, None, 60, "secant"), [x], static)
    assert_close(result, brute_force(tape_gradients(network), [x], [0.0], midpoints(4000))[0], 5e-3)


def test_outputs_whose_rows_are_on_another_axis_are_refused():
    with pytest.raises(ValueError, match="ys .* its rows on axis 1, expected"):
        as_graph(lambda x: ig.integrated_gradients(tf.transpose(tf.tanh(x)), x), [FLAT], False)


@functools.cache
def without_mixtures():
    gradients = tape_gradients(TestMixturesThatAreOff().alone)
    return brute_force(gradients, [FLAT], [0.0], midpoints(500))[0]


class TestMixturesThatAreOff:
    """Batch normalization as networks of TensorFlow 1 switch it, by a placeholder."""

    MEAN, VARIANCE = [0.2, -0.1, 0.0, 0.3], [0.5, 1.5, 0.7, 1.0]

    def by_hand(self, h, training):
        fixed = tf.constant(self.MEAN), tf.constant(self.VARIANCE)
        mean, variance = tf.cond(training, lambda: tf.nn.moments(h, [0]), lambda: fixed)
        return tf.nn.batch_normalization(h, mean, variance, None, None, 1e-3)

    def fused(self, h, training):
        h = tf.reshape(h, [-1, 1, 1, 4])

        def norm(now, *fixed):
            return v1.nn.fused_batch_norm(h, [1.0] * 4, [0.0] * 4, *fixed, is_training=now)[0]

        fixed = tf.constant(self.MEAN), tf.constant(self.VARIANCE)
        return tf.reshape(tf.cond(training, lambda: norm(True), lambda: norm(False, *fixed)), [-1, 4])

    def alone(self, x):
        h = tf.nn.relu(x @ W)
        h = (h - np.array(self.MEAN)) / np.sqrt(np.array(self.VARIANCE) + 1e-3)
        return tf.reduce_sum(tf.tanh(h @ V), axis=1)

    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("norm", ["by_hand", "fused"])
    def test_they_are_explained_when_off_and_refused_by_the_run_when_on(self, norm, version, static):
        expected = without_mixtures()
        with tf.Graph().as_default(), v1.Session() as session:
            x, training = v1.placeholder(tf.float32, [3 if static else None, 4]), v1.placeholder(tf.bool, [])
            (v1.disable_control_flow_v2 if version == 1 else v1.enable_control_flow_v2)()
            try:
                h = tf.nn.relu(x @ tf.constant(W, tf.float32))
                h = getattr(self, norm)(h, training)
            finally:
                v1.enable_control_flow_v2()
            ys = tf.reduce_sum(tf.tanh(h @ tf.constant(V, tf.float32)), axis=1)
            result = ig.integrated_gradients(ys, x, None, 20)  # which branches of version 1 make copies for
            found = session.run(result, {x: FLAT, training: False})
            assert_close(found, expected, 2e-3)
            with pytest.raises(tf.errors.InvalidArgumentError, match="mixes the rows.*training=False"):
                session.run(result, {x: FLAT, training: True})

    def test_steps_stay_together_beside_them(self):
        with tf.Graph().as_default():
            x, training = v1.placeholder(tf.float32, [None, 4]), v1.placeholder(tf.bool, [])
            h = self.by_hand(tf.nn.relu(x), training)
            assert Subgraph("test", tf.reduce_sum(h, axis=1), x, None).stackable

    def test_branches_that_mix_either_way_are_both_checked(self):
        def build(x, first):
            def whole():
                return x - tf.reduce_mean(x, axis=0)

            switch = first[0]
            h = tf.cond(switch, whole, lambda: x) + tf.cond(switch, lambda: x, whole)
            return ig.integrated_gradients(tf.reduce_sum(h**2, axis=1), x, per_row=[])

        for value in (True, False):
            with pytest.raises(tf.errors.InvalidArgumentError, match="mixes the rows"):
                as_graph(build, [FLAT, np.array([value])], True)
