"""Deletion and insertion against a loop over steps and rows in NumPy."""

import judged
import numpy as np
import pytest
import tensorflow as tf
from judged import BOTH, MAP, PIXEL_MAP, PIXELS, STARTS, WEIGHTS, X, net, of_pixels
from reference import assert_close, in_function, in_session

import igtf as ig

METRICS = pytest.mark.parametrize("name", ["deletion", "insertion"])
MASKS = {
    "none": None,
    "for all rows": np.array([0, 1, 1, 3, 0, 1]),  # no feature is in group 2
    "for each row": np.random.default_rng(0).integers(0, 4, [5, 6]),
}


def chosen(x):
    return (net(x) * WEIGHTS).sum(1)


@pytest.mark.thin
@BOTH
@METRICS
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("steps", [None, 4, 50])
@pytest.mark.parametrize("starts", [None, 0.3, STARTS[0, 0], STARTS], ids=["zeros", "number", "row", "set"])
def test_curves_equal_a_loop_over_the_steps(run, name, mask, steps, starts):
    mask = MASKS[mask]
    units = judged.units_of(np.arange(6) if mask is None else mask, X)
    count = min(steps or 99, len(units[0]))
    several = STARTS if starts is STARTS else [0.0 if starts is None else starts]
    wanted = judged.curves(chosen, X, MAP, units, several, count, name == "deletion")

    def build(x, a, weights):
        return getattr(ig, name)(net(x, tf), x, a, starts, steps, mask, grad_ys=weights, return_curves=True)

    areas, curves = run(build, X, MAP, WEIGHTS)
    assert_close(curves, wanted, 1e-12)
    assert_close(areas, judged.area(wanted), 1e-12)


@pytest.mark.few(2)
@BOTH
@METRICS
def test_an_axis_of_size_1_switches_pixels_with_all_their_channels(run, name):
    units = judged.units_of(np.arange(6).reshape(2, 3, 1), PIXELS)
    values = np.repeat(PIXEL_MAP, 2, -1).reshape(5, 12)
    f = lambda x: of_pixels(x)[:, 0]  # noqa: E731
    wanted = judged.curves(f, PIXELS, values, units, [0.0], 6, name == "deletion")
    found = run(lambda x, a: getattr(ig, name)(of_pixels(x, tf), x, a), PIXELS, PIXEL_MAP)
    assert_close(found, judged.area(wanted), 1e-12)
    # By a mask it is the same.
    mask = np.arange(6).reshape(2, 3, 1)
    build = lambda x, a: getattr(ig, name)(of_pixels(x, tf), x, a, feature_mask=mask)  # noqa: E731
    assert_close(run(build, PIXELS, PIXEL_MAP), judged.area(wanted), 1e-12)


@METRICS
def test_features_of_several_inputs_are_ranked_together(name):
    def together(x, a):
        return getattr(ig, name)(net(x, tf)[:, 0], x, a)

    def apart(x, a):
        xs = {"l": x[:, :2], "r": x[:, 2:]}
        ys = net(tf.concat([xs["l"], xs["r"]], 1), tf)[:, 0]
        return getattr(ig, name)(ys, xs, {"l": a[:, :2], "r": a[:, 2:]})

    assert_close(in_session(apart, X, MAP), in_session(together, X, MAP), 1e-12)


def test_equal_attributions_are_ranked_by_their_place():
    xs = np.array([[1.0, 2.0, 4.0]])
    _, curve = in_function(
        lambda x: ig.deletion(tf.reduce_sum(x, 1), x, tf.zeros_like(x), return_curves=True), xs
    )
    assert curve.tolist() == [[7.0, 6.0, 4.0, 0.0]]


@METRICS
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_with_attributions_that_are_not_finite_have_no_score(name, bad):
    a = MAP.copy()
    a[1, 2] = bad
    build = lambda x, a: getattr(ig, name)(net(x, tf)[:, 0], x, a)  # noqa: E731
    found, wanted = in_function(build, X, a), in_function(build, X, MAP)
    assert np.isnan(found).tolist() == [False, True, False, False, False]
    assert_close(np.delete(found, 1), np.delete(wanted, 1), 1e-12)


@pytest.mark.few(4)
@METRICS
@pytest.mark.parametrize("rows", [5, 7, 10, 1000])
def test_blocks_do_not_change_the_result(name, rows):
    build = lambda x, a, **o: getattr(ig, name)(net(x, tf)[:, 0], x, a, **o)  # noqa: E731
    assert_close(
        in_session(lambda x, a: build(x, a, max_rows=rows), X, MAP), in_session(build, X, MAP), 1e-13
    )


@METRICS
def test_ids_may_be_judged(name):
    table = np.array([0.0, 1.0, 4.0, 9.0])
    ids, a = np.array([[3, 0, 2]]), np.array([[1.0, 2.0, 3.0]])
    build = lambda ids, a: getattr(ig, name)(  # noqa: E731
        tf.reduce_sum(tf.gather(table, ids), 1), ids, a, 1, return_curves=True
    )
    curve = in_session(build, ids, a)[1]
    assert curve.tolist() == [[13, 10, 11, 3] if name == "deletion" else [3, 6, 5, 13]]


def test_a_curve_may_be_trained_on():
    def build(x, a):
        return tf.gradients(ig.deletion(net(x, tf)[:, 0], x, a), x)[0]

    found, step = in_session(build, X, MAP), 1e-6
    for feature in range(6):
        ends = [X + sign * step * np.eye(6)[feature] for sign in (1, -1)]
        up, down = (in_session(lambda x, a: ig.deletion(net(x, tf)[:, 0], x, a), e, MAP) for e in ends)
        np.testing.assert_allclose(found[:, feature], (up - down) / (2 * step), atol=1e-7)


def test_unknown_feature_dimensions_are_known_in_the_run():
    build = lambda x, a: ig.deletion(tf.reduce_sum(tf.tanh(x), [1]), x, a, return_curves=True)  # noqa: E731
    found = in_session(build, X, MAP, shape=lambda a: [None, None])
    wanted = in_session(build, X, MAP)
    assert_close(found[1], wanted[1], 1e-12)


def test_the_graph_does_not_grow_with_the_number_of_steps():
    def nodes(size):
        traced = tf.function(lambda x: ig.deletion(tf.reduce_sum(tf.tanh(x), 1), x, x, num_steps=size))
        return len(traced.get_concrete_function(tf.TensorSpec([None, 4000])).graph.get_operations())

    assert nodes(4) == nodes(4000)


@METRICS
@pytest.mark.parametrize(
    "options, error, message",
    [
        (dict(num_steps=0), ValueError, "num_steps is 0, expected a positive int"),
        (dict(max_rows=4), ValueError, "max_rows is 4, expected at least 5"),
        (dict(num_groups=3), ValueError, "num_groups is 3 without a feature_mask"),
        (dict(feature_mask=[0.5] * 6), TypeError, "feature_mask is float64 for xs"),
        (dict(attributions=lambda x: x[:, :3]), ValueError, r"attributions have shape \(5, 3\), expected"),
        (dict(attributions=lambda x: x[:3]), ValueError, r"attributions have shape \(3, 6\), expected"),
        (dict(attributions=lambda x: x[:, :, None]), ValueError, r"shape \(5, 6, 1\), expected"),
        (dict(attributions=lambda x: [x]), ValueError, "attributions has the structure"),
        (dict(attributions=lambda x: X), TypeError, "attributions is a ndarray, expected a tensor"),
        (dict(attributions=lambda x: tf.cast(x, tf.int32)), TypeError, "attributions .*expected a floating"),
    ],
)
def test_wrong_arguments_are_refused(name, options, error, message):
    make = options.get("attributions", lambda x: x)
    rest = {k: v for k, v in options.items() if k != "attributions"}
    with tf.Graph().as_default(), pytest.raises(error, match=f"^{name}: .*{message}"):
        x = tf.compat.v1.placeholder(tf.float32, [5, 6])
        getattr(ig, name)(tf.reduce_sum(x, 1), x, make(x), **rest)
