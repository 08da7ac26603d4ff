"""What has no honest answer is refused with the way out; what only looks like it is explained."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, session_gradients, tape_gradients

import igtf as ig
from igtf.subgraph import Subgraph

v1 = tf.compat.v1
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
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


# No gradient ----------------------------------------------------------------------------------------

FLAT = {
    "round": tf.round,
    "rint": tf.math.rint,
    "floor": tf.floor,
    "ceil": tf.math.ceil,
    "sign": tf.sign,
    "whole quotient": lambda h: h // 0.3,
    "numpy_function": lambda h: tf.ensure_shape(tf.numpy_function(np.tanh, [h], tf.float32), [None, 5]),
    "comparison": lambda h: tf.cast(h > 0, tf.float32),
}
BUILDERS = {
    "integrated_gradients": lambda y, x, h: ig.integrated_gradients(y, x),
    "integrated_jacobian": lambda y, x, h: ig.integrated_jacobian(y[:, None], x),
    "layer_conductance": lambda y, x, h: ig.layer_conductance(y, h, x),
    "path_gradients": lambda y, x, h: ig.path_gradients(y, x)[0],
}


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("op", FLAT)
def test_an_op_of_slope_zero_on_the_only_way_is_refused(op, builder):
    def build(x):
        h = x @ W
        return BUILDERS[builder](tf.reduce_sum(FLAT[op](h) * 2, axis=1), x, h)

    with pytest.raises(
        ValueError, match=f"{builder}: no gradient flows.*(is flat.*what it reads|comparisons)"
    ):
        as_graph(build, [X], False)


def test_an_op_of_slope_zero_beside_another_way_is_allowed():
    def build(x):
        return ig.integrated_gradients(tf.reduce_sum(tf.round(x) + x**2, axis=1), x, None, 9, "gausslegendre")

    assert_close(as_graph(build, [X], False), X**2, 1e-5)


@pytest.mark.parametrize(
    "suppress",
    [
        lambda boxes, scores: tf.image.combined_non_max_suppression(
            boxes[:, :, None], scores[..., None], 2, 2
        )[1],
        lambda boxes, scores: tf.image.non_max_suppression_with_scores(boxes[0], scores[0], 2)[1][None],
    ],
    ids=["combined", "with scores"],
)
def test_scores_behind_a_non_maximum_suppression_are_refused_and_those_before_are_not(suppress):
    def build(x):
        boxes, scores = tf.sigmoid(tf.reshape(x, [1, 3, 4])), tf.sigmoid(tf.reshape(x @ W[:, :1], [1, 3]))
        behind = lambda: ig.integrated_gradients(tf.reduce_sum(suppress(boxes, scores), 1), scores)  # noqa: E731
        with pytest.raises(ValueError, match=r"\(\w*NonMaxSuppression\w*\).* no gradient.*scores before"):
            behind()
        return ig.integrated_gradients(tf.sigmoid(x @ W[:, :1]), x, None, 9)

    assert as_graph(build, [X], True).any()


# Shapes that depend on values -----------------------------------------------------------------------


def masked_sum(x):
    h = tf.tanh(x @ W)
    kept = tf.boolean_mask(h, h > 0)
    return tf.reduce_sum(kept**2) * tf.ones([1])


@pytest.mark.parametrize("method", ["auto", "gausslegendre"])
def test_a_mask_that_the_path_chooses_works(method):
    x = X[:1]
    result = as_graph(lambda x: ig.integrated_gradients(masked_sum(x), x, None, 40, method), [x], True)
    fine = [((k + 0.5) / 2000, 1 / 2000) for k in range(2000)]
    assert_close(result, brute_force(tape_gradients(masked_sum), [x], [0.0], fine)[0], 2e-2)


def test_a_mask_that_the_path_chooses_has_no_two_ends_of_an_interval():
    with pytest.raises(ValueError, match="method is 'secant'.*Where.*'gausslegendre'"):
        as_graph(lambda x: ig.integrated_gradients(masked_sum(x), x, None, 9, "secant"), [X[:1]], True)


@BATCHES
@pytest.mark.parametrize("method", ["auto", "gausslegendre", "secant"])
def test_a_mask_beside_the_path_works(method, static):
    """As many entries for every step; rows are lost behind it."""
    mask = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 0, 1], [0, 0, 1, 1, 0]], bool)

    def network(x, mask):
        kept = tf.boolean_mask(tf.nn.relu(x @ W), mask)
        return tf.math.segment_sum(kept, tf.cast(tf.where(mask)[:, 0], tf.int32))

    result = as_graph(
        lambda x, m: ig.integrated_gradients(network(x, m), x, None, 60, method), [X, mask], static
    )
    ends = network(X, mask) - network(0 * X, mask)
    np.testing.assert_allclose(result.sum(axis=1), ends, atol=1e-5 if method != "gausslegendre" else 5e-2)


# Ragged, sparse, variables --------------------------------------------------------------------------


def test_ragged_and_sparse_tensors_and_variables_are_refused_with_the_way_out():
    variable = tf.Variable(X)

    def build(x):
        ragged, sparse = tf.RaggedTensor.from_tensor(x), tf.sparse.from_dense(x)
        for value, message in (
            (ragged, "RaggedTensor.*flat_values"),
            (sparse, "SparseTensor.*Explain its values"),
            (variable, "is a variable.*tf.identity"),
        ):
            with pytest.raises(TypeError, match=f"integrated_gradients: xs is a.*{message}|xs {message}"):
                ig.integrated_gradients(tf.reduce_sum(x, 1), value)
        return x

    as_graph(build, [X], False)


@pytest.mark.parametrize("method", ["auto", "gausslegendre", "secant"])
@pytest.mark.parametrize("kind", ["ragged", "sparse"])
def test_the_values_of_ragged_and_sparse_tensors_are_explained(kind, method):
    """As many as there are, where the network's output has one row per row."""
    rows = [[0.5, -1.0, 2.0], [], [1.5, 0.3], [-0.7]]
    splits, flat = np.cumsum([0, *map(len, rows)]), np.array(sum(rows, []), np.float32)
    dense = tf.ragged.constant(rows).to_tensor().numpy()
    where = tf.ragged.constant(rows).to_sparse().indices.numpy()

    def from_ragged(values):
        ragged = tf.RaggedTensor.from_row_splits(1 * values, tf.constant(splits, tf.int64))
        return tf.reduce_sum(tf.nn.relu(ragged.to_tensor(shape=[None, 3]) @ W[:3]), axis=1)

    def from_sparse(values):
        sparse = tf.SparseTensor(where, values, dense.shape)
        return tf.reduce_sum(tf.nn.relu(tf.sparse.to_dense(sparse) @ W[:3]), axis=1)

    network = from_ragged if kind == "ragged" else from_sparse
    result = as_graph(lambda v: ig.integrated_gradients(network(v), v, None, 50, method), [flat], False)
    # From zero the network is linear along the path.
    assert_close(result, tape_gradients(network)([flat])[0] * flat, 1e-5)


# SavedModels ----------------------------------------------------------------------------------------


class Pruned(tf.Module):
    """A model that returns an inner tensor beside its output."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def __call__(self, x):
        hidden = tf.tanh(x @ W)
        return {"hidden": hidden, "scores": tf.tanh(hidden @ V)}


@pytest.mark.parametrize("kind", ["function", "saved model", "signature", "pruned"])
def test_two_outputs_of_one_call_are_connected_inside_it(kind, tmp_path):
    model = Pruned()
    if kind != "function":
        tf.saved_model.save(model, str(tmp_path), signatures=model.__call__)
    if kind == "saved model":
        model = tf.saved_model.load(str(tmp_path))
    if kind == "signature":
        model = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    if kind == "pruned":
        whole = v1.wrap_function(lambda x: Pruned()(x), [tf.TensorSpec([None, 4])])
        model = whole.prune(whole.inputs[0], {k: t for k, t in whole.structured_outputs.items()})

    def build(x):
        out = model(x)
        scores = tf.reduce_sum(out["scores"] ** 2, axis=1)
        return ig.integrated_gradients(scores, out["hidden"], None, 9, "gausslegendre")

    hidden = np.tanh(X @ W)
    gradients = tape_gradients(lambda h: tf.reduce_sum(tf.tanh(h @ V) ** 2, axis=1))
    assert_close(as_graph(build, [X], False), brute_force(gradients, [hidden], [0.0], STEPS)[0], 1e-5)
