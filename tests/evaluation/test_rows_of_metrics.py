"""Rows of metrics: tensors beside the inputs, rows that cannot be stacked, XLA, graphs that stay small."""

import judged
import numpy as np
import pytest
import tensorflow as tf
from judged import BOTH, MAP, X, net
from reference import any_batch, assert_close, in_function, in_session, normal

import igtf as ig

BESIDE = normal(5, 4, seed=40)
SHAPES = pytest.mark.parametrize("shape", [any_batch, lambda a: list(a.shape)], ids=["open", "static"])
# name -> function of ys, xs, attributions
METRICS = {
    "deletion": lambda ys, xs, a: ig.deletion(ys, xs, a),
    "insertion": lambda ys, xs, a: ig.insertion(ys, xs, a, 0.2, num_steps=3),
    "infidelity": lambda ys, xs, a: ig.infidelity(ys, xs, a, 9, fraction=0.5, seed=1),
    "infidelity under noise": lambda ys, xs, a: ig.infidelity(ys, xs, a, 9, stdev=0.3, seed=1),
    "mu_fidelity": lambda ys, xs, a: ig.mu_fidelity(ys, xs, a, 9, fraction=0.5, seed=1),
    "mu_fidelity of ranks": lambda ys, xs, a: ig.mu_fidelity(ys, xs, a, 9, 0.1, 0.5, True, seed=1),
    "average_drop_increase": lambda ys, xs, a: ig.average_drop_increase(tf.exp(ys), xs, a),
    "sensitivity_max": lambda ys, xs, a: ig.sensitivity_max(ig.saliency, ys, xs, 0.3, 3, seed=1),
    "sparseness": lambda ys, xs, a: ig.sparseness(a),
    "pointing_game": lambda ys, xs, a: ig.pointing_game(a, [1, 0, 1, 0, 0, 0]),
}
EACH = pytest.mark.parametrize("metric", METRICS)
THOSE_THAT_RUN = pytest.mark.parametrize("metric", list(METRICS)[:8])


def beside(x, u):
    """A network that reads, beside its inputs, another tensor with an entry for each row."""
    return tf.reduce_sum(tf.tanh(x @ judged.W + u), 1)


@pytest.mark.few(4)
@BOTH
@SHAPES
@THOSE_THAT_RUN
def test_tensors_beside_the_inputs_go_with_their_rows(run, shape, metric):
    together = run(lambda x, a, u: METRICS[metric](beside(x, u), x, a), X, MAP, BESIDE, shape=shape)
    for row in (0, 4):
        one = [array[row : row + 1] for array in (X, MAP, BESIDE)]
        alone = in_session(lambda x, a, u: METRICS[metric](beside(x, u), x, a), *one)
        np.testing.assert_allclose(
            np.array(together)[..., row], np.array(alone)[..., 0], rtol=1e-10, atol=1e-13
        )


@pytest.mark.few(4)
@SHAPES
@THOSE_THAT_RUN
def test_rows_that_cannot_be_stacked_run_one_by_one(shape, metric):
    def scattered(x, a):
        rows = tf.range(tf.shape(x)[0])
        x2 = tf.math.unsorted_segment_sum(x, rows, tf.shape(x)[0])
        return METRICS[metric](net(x2, tf)[:, 0], x, a), METRICS[metric](net(x, tf)[:, 0], x, a)

    found, wanted = in_function(scattered, X, MAP, shape=shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-14)


@pytest.mark.few(4)
@EACH
def test_xla_returns_the_same(metric):
    shape = lambda array: list(array.shape)  # noqa: E731
    build = lambda x, a: METRICS[metric](net(x, tf)[:, 0], x, a)  # noqa: E731
    plain, compiled = (in_function(build, X, MAP, shape=shape, jit_compile=jit) for jit in (None, True))
    if "fidelity" in metric or "sensitivity" in metric:  # XLA draws by itself
        assert np.shape(compiled) == np.shape(plain) and np.isfinite(compiled).all()
    else:
        np.testing.assert_allclose(compiled, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["infidelity", "mu_fidelity"])
def test_the_graph_does_not_grow_with_the_number_of_samples(name):
    def nodes(samples):
        traced = tf.function(lambda x: getattr(ig, name)(tf.reduce_sum(tf.tanh(x), 1), x, x, samples))
        return len(traced.get_concrete_function(tf.TensorSpec([None, 6])).graph.get_operations())

    assert nodes(4) == nodes(40000)


def test_masks_on_the_way_of_sequences_of_open_length():
    """Words of `[B, T, E]`, T known in the run, attributed as `[B, T, 1]`: a word a unit."""
    words, a = normal(3, 4, 2), normal(3, 4, 1, seed=9)
    build = lambda x, a: ig.deletion(  # noqa: E731
        tf.reduce_sum(tf.tanh(tf.reduce_sum(x, 1)), 1), x, a, num_steps=None, return_curves=True
    )
    open_length = lambda array: [None, None, array.shape[2]]  # noqa: E731
    found = in_session(build, words, a, shape=open_length)[1]
    f = lambda x: np.tanh(x.sum(1)).sum(1)  # noqa: E731
    units = judged.units_of(np.arange(4)[:, None], words)
    wanted = judged.curves(f, words, np.repeat(a, 2, 2).reshape(3, 8), units, [0.0], 4, True)
    assert_close(found, wanted, 1e-12)


def test_outputs_that_do_not_depend_on_the_inputs_are_counted_once_per_row():
    def build(x, a, u):
        ys = [net(x, tf)[:, 0], tf.tanh(u)[:, 0], u[:, 1]]
        return ig.deletion(ys, x, a), ig.deletion(ys[0], x, a) + ys[1] + ys[2]

    found, wanted = in_session(build, X, MAP, BESIDE, shape=lambda a: list(a.shape))
    assert_close(found, wanted, 1e-12)
