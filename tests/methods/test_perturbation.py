"""Occlusion and Shapley values."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from method_networks import (
    BATCHES,
    RNG,
    STARTS,
    V1,
    W1,
    U,
    X,
    run,
)
from reference import assert_close

import igtf.methods as methods


def occlusion_in_numpy(f, x, shape, strides, baseline):
    """Window by window, cut off at the borders: `f` from an array to one number per row."""
    total, seen = np.zeros_like(x), np.zeros_like(x)
    sizes = x.shape[1:]
    places = [range(0, size - length + s, s) for size, length, s in zip(sizes, shape, strides)]
    for corner in itertools.product(*places):
        window = (slice(None), *(slice(c, c + length) for c, length in zip(corner, shape)))
        covered = x.copy()
        covered[window] = np.broadcast_to(baseline, x.shape)[window]
        change = (f(x) - f(covered)) / x[window][0].size
        total[window] += change.reshape([-1] + [1] * len(sizes))
        seen[window] += 1
    return total / seen


IMAGES = RNG.normal(size=(2, 5, 4, 2))
MIX = RNG.normal(size=(40, 3))


def of_images(x, np=np):
    return np.tanh(np.reshape(x, [-1, 40]) @ MIX)


class TestOcclusion:
    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize(
        "shape, strides, baseline",
        [
            (None, None, 0),
            (2, None, 0.3),
            ((2, 3, 1), None, 0),
            ((3, 2, 2), (2, 1, 1), RNG.normal(size=(1, 5, 4, 2))),
            ((2, 4, 1), (1, 3, 1), RNG.normal(size=(2, 5, 1, 2))),
            ([5, 4, 2], 7, -1),
            ((2, 3, 2), (2, 2, 1), 0.5),  # 5 and 4 are no whole number of strides
            ((3, 3, 1), (3, 3, 1), None),
        ],
    )
    def test_values_equal_a_loop_over_the_windows_in_numpy(self, shape, strides, baseline, static):
        full = [(v,) * 3 if isinstance(v, int) else v or (1, 1, 1) for v in (shape, strides)]
        chosen = RNG.normal(size=(2, 3))
        expected = occlusion_in_numpy(
            lambda x: (of_images(x) * chosen).sum(1),
            IMAGES,
            *full,
            np.asarray(0 if baseline is None else baseline),
        )

        def build(x):
            return methods.occlusion(of_images(x, tf), x, shape, strides, baseline, tf.constant(chosen))

        assert_close(run(build, IMAGES, static=static), expected, 1e-10)

    def test_several_inputs_are_covered_one_at_a_time(self):
        f = lambda x, u: np.tanh(x @ W1 + u @ V1).sum(1)  # noqa: E731
        x = occlusion_in_numpy(lambda x: f(x, U), X, (2,), (1,), 0.5)
        u = occlusion_in_numpy(lambda u: f(X, u), U, (1,), (1,), STARTS[1])

        def build(x, u):
            y = tf.tanh(x @ W1 + u @ V1)
            windows = {"x": (2,), "u": None}
            return methods.occlusion(y, {"x": x, "u": u}, windows, baseline={"x": 0.5, "u": STARTS[1]})

        result = run(build, X, U)
        assert_close(result["x"], x, 1e-12)
        assert_close(result["u"], u, 1e-12)

    def test_ids_can_be_occluded(self):
        table = np.array([0.0, 1.0, 4.0, 9.0])
        build = lambda ids: methods.occlusion(tf.reduce_sum(tf.gather(table, ids), 1), ids, baseline=1)  # noqa: E731
        assert run(build, np.array([[3, 0, 2]])).tolist() == [[8.0, -1.0, 3.0]]

    def test_steps_that_have_no_gradient_can_be_occluded(self):
        build = lambda x: methods.occlusion(tf.reduce_sum(tf.cast(x > 0, tf.float64), axis=1), x)  # noqa: E731
        assert run(build, [[3.0, -2.0]]).tolist() == [[1.0, 0.0]]

    @pytest.mark.parametrize(
        "shape, strides, message",
        [
            (0, None, "window_shape is 0, expected 3 positive ints"),
            (True, None, "window_shape is True, expected"),
            ((2, 2), None, r"window_shape is \(2, 2\), expected 3 positive ints, one per feature dim"),
            ((2, 2, 1.5), None, "window_shape is .*, expected 3 positive ints"),
            ((1, 1, 3), None, r"window_shape is \(1, 1, 3\), expected one that fits into .*\(5, 4, 2\)"),
            (2, -1, "strides is -1, expected 3 positive ints"),
            (2, (1, "a", 1), "strides is .*, expected 3 positive ints"),
            ((2, 2, 1), 2, r"uncovered along axis 3, expected strides.*strides=\(2, 2, 1\)"),
            (1, (3, 2, 1), r"uncovered along axis 1, 2, expected strides.*strides=\(1, 1, 1\)"),
        ],
    )
    def test_windows_that_do_not_fit_are_refused(self, shape, strides, message):
        with pytest.raises(ValueError, match=message):
            run(lambda x: methods.occlusion(x, x, shape, strides), IMAGES)

    def test_the_strides_that_an_error_suggests_work(self):
        with pytest.raises(ValueError) as error:
            run(lambda x: methods.occlusion(x, x, (3, 2, 1), 3), IMAGES)
        strides = eval(str(error.value).split("strides=")[-1].split(", which")[0])
        assert run(lambda x: methods.occlusion(x, x, (3, 2, 1), strides), IMAGES).shape == IMAGES.shape

    def test_patches_that_do_not_tile_share_all_of_a_sum_between_them(self):
        weights = RNG.normal(size=(5, 4, 2))
        result = run(
            lambda x: methods.occlusion(tf.reduce_sum(x * weights, [1, 2, 3]), x, (2, 3, 2), (2, 3, 2)),
            IMAGES,
        )
        assert_close(result.sum((1, 2, 3)), (IMAGES * weights).sum((1, 2, 3)), 1e-12)
        corner = (IMAGES * weights)[:, 4:, 3:]  # the last patch is one pixel
        np.testing.assert_allclose(result[:, 4:, 3:].sum(-1), corner.sum(-1), atol=1e-12)

    def test_masks_and_texts_are_covered_with_nothing(self):
        masks = np.array([[True, False, True]])
        worth = lambda x: tf.reduce_sum(tf.cast(x, tf.float64) * [1, 2, 4], 1)  # noqa: E731
        build = lambda x: methods.occlusion(worth(x), x)  # noqa: E731
        assert run(build, masks).tolist() == [[1.0, 0.0, 4.0]]
        lengths = lambda x: tf.reduce_sum(tf.cast(tf.strings.length(x), tf.float32), 1)  # noqa: E731
        words = np.array([[b"one", b"seven"]], object)
        traced = tf.function(lambda x: methods.occlusion(lengths(x), x))
        assert traced(tf.constant(words)).numpy().tolist() == [[3.0, 5.0]]

    def test_one_window_per_input_is_asked_for(self):
        with pytest.raises(ValueError, match="one in the place of each tensor"):
            run(lambda x, u: methods.occlusion(x, [x, u], [(1,)]), X, U)

    def test_unknown_feature_dimensions_are_refused(self):
        traced = tf.function(lambda x: methods.occlusion(x, x))
        with pytest.raises(ValueError, match="expected static feature dimensions.*set_shape"):
            traced.get_concrete_function(tf.TensorSpec([None, None]))

    def test_the_graph_does_not_grow_with_the_number_of_windows(self):
        def nodes(size):
            traced = tf.function(lambda x: methods.occlusion(tf.tanh(x), x))
            return len(traced.get_concrete_function(tf.TensorSpec([None, size])).graph.get_operations())

        assert nodes(4) == nodes(4000)


def game(x, np=np):
    """Six features that interact."""
    columns = np.split(x, 6, axis=1) if np is not tf else tf.split(x, 6, axis=1)
    a, b, c, d, e, f = (column[:, 0] for column in columns)
    return a * b * c + np.tanh(d + e) - f * a + np.maximum(b, e)


def exact_shapley(f, x, start):
    """The mean over all orders, by subsets."""
    n = x.shape[1]
    result = np.zeros_like(x)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            for subset in itertools.combinations(others, size):
                without = np.where(np.isin(np.arange(n), subset), x, start)
                with_i = np.where(np.arange(n) == i, x, without)
                share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                result[:, i] += share * (f(with_i) - f(without))
    return result


PLAYERS, ABSENT = RNG.normal(size=(2, 6)), RNG.normal(size=(1, 6))


class TestShapleyValueSampling:
    @BATCHES
    @pytest.mark.parametrize("num_samples", [1, 4])
    def test_additive_models_are_exact(self, num_samples, static):
        def build(x):
            y = tf.reduce_sum(tf.sin(3 * x), axis=1)
            return methods.shapley_value_sampling(y, x, num_samples, baselines=tf.constant(ABSENT))

        assert_close(run(build, PLAYERS, static=static), np.sin(3 * PLAYERS) - np.sin(3 * ABSENT), 1e-12)

    def test_it_converges_to_the_exact_shapley_values_of_six_features(self):
        expected = exact_shapley(game, PLAYERS, ABSENT)

        def errors(num_samples):
            build = lambda x: methods.shapley_value_sampling(game(x, tf), x, num_samples, None, ABSENT, 1)  # noqa: E731
            return np.abs(run(build, PLAYERS) - expected).max()

        few, many = errors(4), errors(3000)
        assert many < 0.05 < few

    @pytest.mark.parametrize("num_samples", [1, 2, 7])
    def test_it_is_complete_for_any_number_of_samples(self, num_samples):
        build = lambda x: methods.shapley_value_sampling(game(x, tf), x, num_samples, baselines=ABSENT)  # noqa: E731
        assert_close(run(build, PLAYERS).sum(1), game(PLAYERS) - game(ABSENT), 1e-12)

    @pytest.mark.thin
    @BATCHES
    @pytest.mark.parametrize(
        "dims, shape",
        [
            (None, (2, 5, 4, 2)),
            ([1], (2, 5, 1, 1)),
            (3, (2, 1, 1, 2)),
            ([2, 1], (2, 5, 4, 1)),
            ((1, 2, 3), (2, 5, 4, 2)),
        ],
    )
    def test_sampling_dims_say_what_counts_as_one_feature(self, dims, shape, static):
        weights = RNG.normal(size=(5, 4, 2))

        def build(x):
            y = tf.reduce_sum(x * weights, [1, 2, 3])
            return methods.shapley_value_sampling(y, x, 2, dims, 0.5)

        parts = (IMAGES - 0.5) * weights
        alone = tuple(axis for axis in (1, 2, 3) if shape[axis] == 1)
        assert_close(run(build, IMAGES, static=static), parts.sum(alone, keepdims=True), 1e-11)

    def test_several_inputs_play_in_one_game(self):
        # A product shares its value equally only if orders are drawn over both inputs together.
        def build(a, b):
            y = a[:, 0] * b[:, 0, 0]
            return methods.shapley_value_sampling(y, [a, b], 4000, [[1], None], seed=3)

        a, b = run(build, [[2.0]], [[[4.0]]])
        assert (a.shape, b.shape) == ((1, 1), (1, 1, 1))
        np.testing.assert_allclose([a.item(), b.item()], [4, 4], atol=0.3)
        np.testing.assert_allclose(a.item() + b.item(), 8)

    def test_lengths_may_be_unknown(self):
        @tf.function(input_signature=[tf.TensorSpec([None, None, 2], tf.float64)])
        def build(x):
            return methods.shapley_value_sampling(tf.reduce_sum(x**2, [1, 2]), x, 2, [1])

        assert_close(build(IMAGES[..., 0, :]), (IMAGES[..., 0, :] ** 2).sum(2, keepdims=True), 1e-12)

    @pytest.mark.parametrize("dims", [[], [0], [0, 1], [4], [-1], [1, 1], ["a"], 0, True, 1.0])
    def test_wrong_sampling_dims_are_refused(self, dims):
        message = r"sampling_dims is .*expected different axes out of \[1, 2, 3\].*shape \(2, 5, 4, 2\)"
        with pytest.raises(ValueError, match=message):
            run(lambda x: methods.shapley_value_sampling(x, x, sampling_dims=dims), IMAGES)
