"""Which tensors have one entry per row: ops inside a row and across rows, lengths known to the run only."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, midpoints, tape_gradients

import igtf as ig
from igtf.subgraph import Subgraph

v1 = tf.compat.v1
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
RNG = np.random.default_rng(5)
W, V = RNG.normal(scale=0.7, size=(4, 4)), RNG.normal(scale=0.7, size=(4, 4))
X = RNG.normal(size=(3, 6, 4))  # rows, entries, features
FLAT = X[:, 0]
MIXER = RNG.normal(size=(3, 3))


def hidden(x):
    return tf.tanh(tf.tensordot(x, tf.constant(W, x.dtype), 1))


# What works inside a row ----------------------------------------------------------------------------


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


RNG_KERNEL = RNG.normal(size=(2, 4, 4))


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


def branches(x):
    h = hidden(x)
    return tf.cond(FLAG, lambda: tf.nn.softmax(h, axis=1), lambda: h * 2)


FLAG = tf.Variable(True)

INSIDE = [
    *(attention, attention_in_heads, turned_away_and_back, features_on_axis_0, axes_merged_and_split),
    *(merged_as_the_graph_computes, class_token, token_broadcast, slices, slice_to_the_batch_size),
    *(ordered_in_a_row, turned_round_in_a_row, gathered_in_a_row, picked_by_row_number, contracted),
    *(convolved, normalized, recurrent, recurrent_from_zeros, branches),
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


# What works across the rows -------------------------------------------------------------------------


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


@pytest.mark.parametrize("network", INSIDE, ids=lambda f: f.__name__)
def test_rows_of_a_static_batch_are_told_apart_inside_a_row(network):
    def build(x):
        y = summed(network)(x)
        aligned.append(Subgraph("test", y, x, None).aligned)
        return y

    aligned = []
    as_graph(build, [X], True)
    assert aligned == [True]


def test_outputs_whose_rows_are_on_another_axis_are_refused():
    with pytest.raises(ValueError, match="ys .* its rows on axis 1, expected"):
        as_graph(lambda x: ig.integrated_gradients(tf.transpose(tf.tanh(x)), x), [FLAT], False)


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

    @BATCHES
    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("norm", ["by_hand", "fused"])
    def test_they_are_explained_when_off_and_refused_by_the_run_when_on(self, norm, version, static):
        expected = brute_force(tape_gradients(self.alone), [FLAT], [0.0], midpoints(500))[0]
        with tf.Graph().as_default(), v1.Session() as session:
            x, training = v1.placeholder(tf.float32, [3 if static else None, 4]), v1.placeholder(tf.bool, [])
            (v1.disable_control_flow_v2 if version == 1 else v1.enable_control_flow_v2)()
            try:
                h = tf.nn.relu(x @ tf.constant(W, tf.float32))
                h = getattr(self, norm)(h, training)
            finally:
                v1.enable_control_flow_v2()
            ys = tf.reduce_sum(tf.tanh(h @ tf.constant(V, tf.float32)), axis=1)
            result = ig.integrated_gradients(ys, x)
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


# Tensors beside xs ----------------------------------------------------------------------------------

POINTS = RNG.normal(size=(7, 4))
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


# Rows of xs that are not those of ys ----------------------------------------------------------------

IDS = np.array([[3, 1, 3], [0, 0, 1], [4, 3, 1], [1, 2, 4]], np.int32)
TABLE = RNG.normal(size=(6, 4))
KERNEL = RNG.normal(scale=0.7, size=(12, 4))


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
