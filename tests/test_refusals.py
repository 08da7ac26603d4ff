"""What has no honest answer is refused with the way out; what only looks like it is explained."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, brute_force, gauss_legendre, tape_gradients

import igtf as ig

v1 = tf.compat.v1
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
RNG = np.random.default_rng(3)
W, V = RNG.normal(scale=0.7, size=(4, 5)).astype(np.float32), RNG.normal(size=(5, 2)).astype(np.float32)
X = RNG.normal(size=(3, 4)).astype(np.float32)
STEPS = gauss_legendre(9)


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


@pytest.mark.thin
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


@pytest.mark.thin
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


@pytest.mark.thin
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
