"""Random ops between xs and ys: explained where they are off or held, refused where they are on."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, session_gradients, tape_gradients
from shared_networks import BATCHES

import igtf as ig
from igtf.subgraph import Subgraph

v1 = tf.compat.v1
RNG = np.random.default_rng(3)
W, V = RNG.normal(scale=0.7, size=(4, 5)).astype(np.float32), RNG.normal(size=(5, 2)).astype(np.float32)
X = RNG.normal(size=(3, 4)).astype(np.float32)
STEPS = gauss_legendre(9)
RANDOM = "random between xs and ys, at op .*training=False.*per_row"


class TestRandomnessThatIsOff:
    """A TensorFlow 1 network, whose dropout is turned off by what is fed, beside brute force on the graph."""

    @staticmethod
    def by_keep_prob(h):
        keep = v1.placeholder(tf.float32, [])
        return v1.nn.dropout(h, keep_prob=keep), {keep: 1.0}, {keep: 0.6}

    @staticmethod
    def by_keep_prob_with_a_default(h):
        keep = v1.placeholder_with_default(1.0, [])
        return v1.nn.dropout(h, keep_prob=keep), {}, {keep: 0.6}

    @staticmethod
    def by_rate(h):
        rate = v1.placeholder(tf.float32, [])
        return tf.nn.dropout(h, rate), {rate: 0.0}, {rate: 0.4}

    @staticmethod
    def by_a_mask_of_ones(h):
        """As graphs of TensorFlow 1 have it: x / keep_prob * floor(keep_prob + uniform)."""
        keep = v1.placeholder(tf.float32, [])
        mask = tf.floor(keep + tf.random.uniform(tf.shape(h)))
        return h / keep * mask, {keep: 1.0}, {keep: 0.6}

    @staticmethod
    def by_is_training(h):
        training = v1.placeholder(tf.bool, [])
        dropped = tf.cond(training, lambda: tf.nn.dropout(h, 0.4), lambda: h)
        return dropped, {training: False}, {training: True}

    @staticmethod
    def by_is_training_under_a_cond_of_version_1(h):
        training = v1.placeholder_with_default(False, [])
        v1.disable_control_flow_v2()
        try:
            return v1.cond(training, lambda: v1.nn.dropout(h, rate=0.4), lambda: h), {}, {training: True}
        finally:
            v1.enable_control_flow_v2()

    @staticmethod
    def by_stdev(h):
        stdev = v1.placeholder(tf.float32, [])
        return h + stdev * tf.random.normal(tf.shape(h)), {stdev: 0.0}, {stdev: 0.5}

    @staticmethod
    def in_a_loop(h):
        keep = v1.placeholder(tf.float32, [])

        def step(i, h):
            return i + 1, tf.tanh(v1.nn.dropout(h, keep_prob=keep))

        return tf.while_loop(lambda i, _: i < 2, step, (0, h))[1], {keep: 1.0}, {keep: 0.6}

    SWITCHES = [
        *("by_keep_prob", "by_keep_prob_with_a_default", "by_rate", "by_a_mask_of_ones", "by_is_training"),
        *("by_is_training_under_a_cond_of_version_1", "by_stdev", "in_a_loop"),
    ]

    @pytest.mark.few(9)
    @BATCHES
    @pytest.mark.parametrize("method", ["gausslegendre", "secant"])
    @pytest.mark.parametrize("switch", SWITCHES)
    def test_it_is_explained_when_off_and_refused_by_the_run_when_on(self, switch, method, static):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [3 if static else None, 4])
            h, off, on = getattr(self, switch)(tf.tanh(x @ W))
            y = tf.reduce_sum(tf.tanh(h @ V), axis=1)
            result = ig.integrated_gradients(y, x, 0.2, 9, method)
            gradients = session_gradients(session, y, [x], off)
            found = session.run(result, {x: X, **off})
            if method == "gausslegendre":
                assert_close(found, brute_force(gradients, [X], [0.2], STEPS)[0], 1e-5)
            elif switch != "in_a_loop":
                ends = [session.run(y, {x: value, **off}) for value in (X, np.full_like(X, 0.2))]
                np.testing.assert_allclose(found.sum(axis=1), ends[0] - ends[1], atol=1e-5)
            with pytest.raises(tf.errors.InvalidArgumentError, match="random between xs and ys"):
                session.run(result, {x: X, **on})

    def test_steps_stay_together_behind_dropout_that_is_off(self):
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float32, [None, 4])
            for switch in self.SWITCHES[:4]:
                h, _, _ = getattr(self, switch)(tf.tanh(x @ W))
                assert Subgraph("test", tf.reduce_sum(h, axis=1), x, None).stacked

    @BATCHES
    def test_a_constant_that_keeps_all_is_no_dropout(self, static):
        def build(x):
            h = v1.nn.dropout(tf.tanh(x @ W), keep_prob=tf.constant(1.0))
            return ig.integrated_gradients(tf.reduce_sum(h**2, axis=1), x, None, 9, "gausslegendre")

        gradients = tape_gradients(lambda x: tf.reduce_sum(tf.tanh(x @ W) ** 2, axis=1))
        assert_close(as_graph(build, [X], static), brute_force(gradients, [X], [0.0], STEPS)[0], 1e-5)

    def test_a_frozen_graph_keeps_its_switch(self):
        with tf.Graph().as_default() as graph:
            x = v1.placeholder(tf.float32, [None, 4], "x")
            keep = v1.placeholder(tf.float32, [], "keep")
            tf.reduce_sum(tf.tanh(v1.nn.dropout(tf.tanh(x @ W), keep_prob=keep) @ V), axis=1, name="y")
        with tf.Graph().as_default(), v1.Session() as session:
            x, keep, y = tf.import_graph_def(graph.as_graph_def(), return_elements=["x:0", "keep:0", "y:0"])
            result = ig.integrated_gradients(y, x, None, 9, "gausslegendre")
            found = session.run(result, {x: X, keep: 1.0})
            expected = brute_force(session_gradients(session, y, [x], {keep: 1.0}), [X], [0.0], STEPS)[0]
            assert_close(found, expected, 1e-5)
            with pytest.raises(tf.errors.InvalidArgumentError, match="random between xs and ys"):
                session.run(result, {x: X, keep: 0.5})


class TestRandomnessThatIsHeld:
    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize(
        "noise",
        [
            lambda x: tf.random.stateless_uniform([5], [1, 2]),
            lambda x: tf.random.normal([5]),
            lambda x: tf.random.normal(tf.shape(x)[1:] + 1),
            lambda x: tf.cast(tf.random.uniform([1, 5]) > 0.5, tf.float32),
        ],
        ids=["stateless", "normal", "of a computed shape", "mask"],
    )
    def test_a_draw_that_all_rows_share_is_the_same_at_every_step(self, noise, static):
        def build(x):
            drawn = noise(x)
            y = tf.reduce_sum(tf.tanh(x @ W) * drawn, axis=1)
            return ig.integrated_gradients(y, x, None, 9, "gausslegendre"), drawn

        result, drawn = as_graph(build, [X], static)
        gradients = tape_gradients(lambda x: tf.reduce_sum(tf.tanh(x @ W) * drawn, axis=1))
        assert_close(result, brute_force(gradients, [X], [0.0], STEPS)[0], 1e-5)

    @BATCHES
    def test_noise_that_is_named_as_a_tensor_with_one_entry_per_row_is_held(self, static):
        """A variational autoencoder: z = mean + deviation * noise."""

        def decode(x, noise):
            h = tf.tanh(x @ W)
            return tf.reduce_sum(tf.tanh((h + tf.exp(h / 2) * noise) @ V), axis=1)

        def build(x, **options):
            noise = tf.random.normal([tf.shape(x)[0], 5])
            y = decode(x, noise)
            return ig.integrated_gradients(
                y, x, None, 9, "gausslegendre", per_row=options.get("hold") and [noise]
            ), noise

        result, noise = as_graph(lambda x: build(x, hold=True), [X], static)
        expected = brute_force(tape_gradients(lambda x: decode(x, noise)), [X], [0.0], STEPS)[0]
        assert_close(result, expected, 1e-5)
        with pytest.raises(ValueError, match=RANDOM):
            as_graph(build, [X], static)

    @BATCHES
    def test_a_code_that_was_sampled_is_explained_from_there_on(self, static):
        def build(x):
            z = tf.tanh(x @ W) + tf.random.normal([tf.shape(x)[0], 5])
            return ig.integrated_gradients(
                tf.reduce_sum(tf.tanh(z @ V), axis=1), z, None, 9, "gausslegendre"
            ), z

        result, z = as_graph(build, [X], static)
        expected = brute_force(
            tape_gradients(lambda z: tf.reduce_sum(tf.tanh(z @ V), axis=1)), [z], [0.0], STEPS
        )[0]
        assert_close(result, expected, 1e-5)


@pytest.mark.thin
@BATCHES
@pytest.mark.parametrize(
    "layer",
    [
        lambda x: tf.nn.dropout(x, 0.5),
        lambda x: tf.nn.experimental.stateless_dropout(x, 0.5, seed=[1, 2]),
        lambda x: x * tf.random.normal(tf.shape(x)),
        lambda x: x + tf.random.truncated_normal(tf.shape(x), stddev=0.1),
        lambda x: x * tf.random.gamma(tf.shape(x), 1.0),
        lambda x: tf.random.shuffle(x),
        lambda x: tf.keras.layers.GaussianNoise(0.1)(x, training=True),
        lambda x: tf.keras.layers.SpatialDropout1D(0.5)(x[:, None], training=True)[:, 0],
    ],
    ids=["dropout", "stateless", "product", "sum", "gamma", "shuffle", "noise", "spatial dropout"],
)
def test_what_is_random_for_every_row_is_refused(layer, static):
    with pytest.raises(ValueError, match=RANDOM):
        as_graph(lambda x: ig.integrated_gradients(tf.reduce_sum(tf.tanh(layer(x)), axis=1), x), [X], static)
