"""Saliency, LRP, DeepLIFT, occlusion, Shapley values, expected gradients, SmoothGrad."""

import doctest
import functools
import importlib
import itertools
import math
import warnings

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, randomize

import attribution_methods_tf as methods
import integrated_gradients_tf as ig

v1 = tf.compat.v1
BATCHES = pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
RNG = np.random.default_rng(3)
W1, V1, W2, W3 = (RNG.normal(size=size) for size in ((4, 6), (3, 6), (6, 5), (5, 2)))
B1, B2 = RNG.normal(size=6), RNG.normal(size=5)
X, U = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 3))
STARTS = RNG.normal(size=(1, 4)), RNG.normal(size=(3, 3))
WEIGHTS = RNG.normal(size=(3, 2))  # of the outputs


def run(build, *arrays, static=True):
    return as_graph(build, [np.asarray(a) for a in arrays], static)


# name -> (activation, derivative), in NumPy
SMOOTH_OR_NOT = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda z: np.where(z > 0, 1, np.exp(z))),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "softplus": (lambda z: np.log1p(np.exp(z)), lambda z: 1 / (1 + np.exp(-z))),
}
ACTIVATIONS = pytest.mark.parametrize("activation", SMOOTH_OR_NOT)


def network(activation, x, u):
    f = getattr(tf.nn, activation)
    h = f(x @ W1 + u @ V1 + B1)
    return f(h @ W2 + B2) @ W3


def layers(activation, x, u):
    """The inputs of the activations, in NumPy."""
    f = SMOOTH_OR_NOT[activation][0]
    z1 = x @ W1 + u @ V1 + B1
    return z1, f(z1) @ W2 + B2


def adjoints(slopes, weights=WEIGHTS):
    """Those of x and u, for given slopes of both layers of activations."""
    g = weights @ W3.T * slopes[1] @ W2.T * slopes[0]
    return g @ W1.T, g @ V1.T


class TestGradients:
    @BATCHES
    @ACTIVATIONS
    def test_values_equal_the_chain_rule_in_numpy(self, activation, static):
        slopes = [SMOOTH_OR_NOT[activation][1](z) for z in layers(activation, X, U)]
        dx, du = adjoints(slopes)

        def build(x, u):
            y = network(activation, x, u)
            weights = tf.constant(WEIGHTS)
            return (
                methods.saliency(y, [x, u], weights),
                methods.gradient_times_input(y, {"x": x, "u": u}, weights),
                methods.saliency(y, x, weights),
            )

        both, products, one = run(build, X, U, static=static)
        assert_close(both[0], abs(dx), 1e-12)
        assert_close(both[1], abs(du), 1e-12)
        assert_close(one, abs(dx), 1e-12)
        assert_close(products["x"], dx * X, 1e-12)
        assert_close(products["u"], du * U, 1e-12)

    def test_an_input_that_the_output_does_not_depend_on_gets_zeros(self):
        parts = run(lambda x, u: methods.saliency(x**2, [x, u]), X, U)
        assert_close(parts[0], abs(2 * X), 1e-12)
        assert not parts[1].any()

    def test_ops_inside_a_custom_gradient_count_and_its_wrapper_does_not(self):
        s = 1 / (1 + np.exp(-X))
        result = run(lambda x: methods.gradient_times_input(tf.nn.silu(x), x), X)
        assert_close(result, X * (s + X * s * (1 - s)), 1e-12)


class TestEpsilonLrp:
    def test_a_worked_example(self):
        # z = 2*1 - 1*3 + 0.5 = -0.5, tanh(z) = -0.46212; ratio -0.46212 / (-0.5 - 0.1) = 0.77020
        def build(x):
            z = 2 * x[:, 0] - x[:, 1] + 0.5
            return methods.epsilon_lrp(3 * tf.tanh(z), x, epsilon=0.1)

        assert run(build, [[1.0, 3.0]]).round(4).tolist() == [[4.6212, -6.9318]]

    def test_the_sign_of_zero_is_plus(self):
        # softplus(0) = log 2
        result = run(lambda x: methods.epsilon_lrp(tf.nn.softplus(x - 1), x, epsilon=0.5), [[1.0]])
        assert_close(result, [[math.log(2) / 0.5]], 1e-12)

    @ACTIVATIONS
    @pytest.mark.parametrize("epsilon, static", [(1e-4, True), (0.3, False)])
    def test_values_equal_the_definition_in_numpy(self, activation, epsilon, static):
        f = SMOOTH_OR_NOT[activation][0]
        slopes = [f(z) / (z + epsilon * np.where(z >= 0, 1, -1)) for z in layers(activation, X, U)]
        dx, du = adjoints(slopes)

        def build(x, u):
            y = network(activation, x, u)
            weights = tf.constant(WEIGHTS)
            return (
                methods.epsilon_lrp(y, (x, u), epsilon, weights),
                methods.epsilon_lrp(y, u, epsilon, weights),
            )

        both, one = run(build, X, U, static=static)
        assert_close(both[0], dx * X, 1e-12)
        assert_close(both[1], du * U, 1e-12)
        assert_close(one, du * U, 1e-12)

    def test_epsilon_is_1e_4_unless_given(self):
        result = run(lambda x: methods.epsilon_lrp(tf.sigmoid(x), x), [[0.0001]])
        assert_close(result, [[0.5 / 0.0002 * 0.0001]], 1e-4)

    def test_relu_networks_without_biases_keep_their_output(self):
        def build(x):
            h = tf.nn.max_pool1d(tf.nn.relu(x @ W1)[..., None], 2, 2, "VALID")[..., 0]
            y = tf.nn.relu(h @ W2[:3]) @ W3
            return tf.reduce_sum(methods.epsilon_lrp(y, x, 1e-9), axis=1), tf.reduce_sum(y, axis=1)

        total, output = run(build, X)
        assert_close(total, output, 1e-7)

    @pytest.mark.parametrize("epsilon", [0, -1e-4, math.nan, math.inf, "small", None])
    def test_an_epsilon_that_is_not_positive_is_refused(self, epsilon):
        with pytest.raises(ValueError, match="epsilon_lrp: epsilon is .*, expected a positive number"):
            run(lambda x: methods.epsilon_lrp(x, x, epsilon), X)

    def test_an_op_without_a_rule_is_named_and_differentiated(self):
        def build(x):
            y = tf.nn.softmax(tf.math.erf(tf.nn.relu(x)), name="scores")[:, 0]
            return methods.epsilon_lrp(y, x, epsilon=1e-12), x * tf.gradients(y, x)[0]

        with pytest.warns(
            UserWarning, match=r"(?s)'Erf.*\(Softmax\).*expected.*TensorFlow's gradient is used"
        ):
            result, expected = run(build, abs(X))
        assert_close(result, expected, 1e-9)


class TestDeepLift:
    def test_a_worked_example(self):
        # relu(2*3 - 1 + 1) = 6, relu(2*0 - 4 + 1) = 0: slope 6 / (6 + 3) = 2/3; times 2 * 3 and -1 * -3
        def build(x):
            y = tf.nn.relu(2 * x[:, 0] - x[:, 1] + 1)
            return methods.deeplift(y, x, [[0.0, 4.0]])

        assert_close(run(build, [[3.0, 1.0]]), [[4.0, 2.0]], 1e-12)

    @BATCHES
    @ACTIVATIONS
    def test_values_equal_the_definition_in_numpy(self, activation, static):
        f = SMOOTH_OR_NOT[activation][0]
        ends = zip(layers(activation, X, U), layers(activation, *STARTS))
        dx, du = adjoints([(f(z) - f(z0)) / (z - z0) for z, z0 in ends])

        def build(x, u):
            starts = {"x": STARTS[0], "u": tf.constant(STARTS[1])}
            y = network(activation, x, u)
            return methods.deeplift(y, {"x": x, "u": u}, starts, tf.constant(WEIGHTS))

        result = run(build, X, U, static=static)
        assert_close(result["x"], dx * (X - STARTS[0]), 1e-10)
        assert_close(result["u"], du * (U - STARTS[1]), 1e-10)

    @ACTIVATIONS
    def test_where_input_and_baseline_nearly_meet_it_takes_the_derivative_midway(self, activation):
        change = np.array([1e-5, -9e-6, 3e-6, 0.0, 1.1e-5])
        x = np.array([[0.6e-5, -1e-6, 1e-6, 0.7, 0.4e-5]])
        f, derivative = SMOOTH_OR_NOT[activation]
        with np.errstate(invalid="ignore"):
            slope = np.where(
                abs(change) > 1.05e-5, (f(x) - f(x - change)) / change, derivative(x - change / 2)
            )
        start = x - change
        result = run(lambda x: methods.deeplift(getattr(tf.nn, activation)(x), x, start), x)
        assert_close(result, slope * change, 1e-9)

    def test_zeros_are_the_baseline_unless_given(self):
        none, zero = run(
            lambda x: (methods.deeplift(tf.tanh(x @ W1), x), methods.deeplift(tf.tanh(x @ W1), x, 0)), X
        )
        assert_close(none, zero, 1e-15)
        assert_close(none.sum(1), np.tanh(X @ W1).sum(1), 1e-12)

    @BATCHES
    def test_it_sums_to_the_difference_with_pooling_products_and_softmax(self, static):
        kernel = tf.constant(RNG.normal(size=(3, 3, 1, 4)))
        dense = tf.constant(RNG.normal(size=(36, 4)))

        def conv(x):
            h = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + 0.1)
            h = tf.nn.max_pool2d(h, 2, 2, "SAME")
            h = tf.reshape(h, [-1, 36])
            attention = tf.nn.softmax(h @ dense)
            y = tf.nn.log_softmax(attention * tf.sigmoid(h @ dense[:, ::-1]))
            return y / (1 + tf.reduce_max(tf.maximum(h, 0.3), axis=1, keepdims=True))

        images = RNG.normal(size=(2, 2, 6, 6, 1))

        def build(x, start):
            parts = methods.deeplift(conv(x), x, start)
            return tf.reduce_sum(parts, [1, 2, 3]), tf.reduce_sum(conv(x) - conv(start), axis=1)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            total, change = run(build, *images, static=static)
        assert_close(total, change, 1e-4)

    def test_an_op_without_a_rule_is_named(self):
        with pytest.warns(
            UserWarning, match=r"deeplift: no rule for .*\(Cumprod\).*mean of TensorFlow's gradients"
        ):
            run(lambda x: methods.deeplift(tf.math.cumprod(x), x), [[0.5]])

    def test_baselines_that_do_not_broadcast_are_refused(self):
        with pytest.raises(
            ValueError, match="deeplift: baseline has shape .*5.*expected one that broadcasts"
        ):
            run(lambda x: methods.deeplift(x, x, np.zeros(5)), X)


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


class TestExpectedGradients:
    def test_one_row_of_a_linear_network_is_exact(self):
        build = lambda x: methods.expected_gradients(x @ W1, x, X[:1], 3)  # noqa: E731
        assert_close(run(build, X), (X - X[:1]) * W1.sum(1), 1e-12)

    @BATCHES
    def test_it_converges_to_the_mean_of_integrated_gradients(self, static):
        data = RNG.normal(size=(5, 4))

        def build(x):
            y = tf.reduce_sum(tf.tanh(x @ W1), axis=1)
            each = [ig.integrated_gradients(y, x, row[None]) for row in data]
            return methods.expected_gradients(y, x, data, 3000, seed=5), tf.add_n(each) / len(each)

        result, expected = run(build, X, static=static)
        assert_close(result, expected, 0.08)

    def test_rows_of_several_inputs_are_drawn_together_and_per_row(self):
        data = np.arange(7.0)[:, None]
        build = lambda a, b: methods.expected_gradients(a + b, [a, b], [data, 10 * data], 1, seed=2)  # noqa: E731
        a, b = run(build, np.zeros((50, 1)), np.zeros((50, 1)))
        assert_close(b, 10 * a, 1e-12)
        assert set(a[:, 0]) == set(-np.arange(7.0))

    @pytest.mark.parametrize(
        "baselines, message",
        [
            (np.zeros((0, 4)), r"baselines have shape \(0, 4\), expected \[N, ...\] with N > 0"),
            (np.zeros((2, 3)), r"baselines have shape \(2, 3\)"),
            (np.float64(0), r"baselines have shape \(\)"),
        ],
    )
    def test_wrong_baselines_are_refused(self, baselines, message):
        with pytest.raises(ValueError, match=message):
            run(lambda x: methods.expected_gradients(x, x, baselines, 2), X)

    def test_other_mistakes_in_baselines_are_explained(self):
        with pytest.raises(TypeError, match="baselines of type NoneType are no float64 tensor"):
            run(lambda x: methods.expected_gradients(x, x, None, 2), X)
        with pytest.raises(ValueError, match="baselines have the structure .*expected that of xs"):
            run(lambda x, u: methods.expected_gradients(x, [x, u], X, 2), X, U)
        with pytest.raises(ValueError, match=r"several inputs have \[2, 3\] rows"):
            run(lambda x, u: methods.expected_gradients(x, [x, u], [X[:2], U], 2), X, U)


class TestSmoothgrad:
    def test_the_noise_has_the_mean_and_the_deviation_it_should(self):
        def moments(ys, xs):
            return xs[0], xs[0] ** 2, xs[1] ** 2, xs[0] * xs[1]

        def build(x, u):
            return methods.smoothgrad(moments, x + u, (x, u), (0.5, [[2.0]]), 4000, seed=1)

        mean, square, other, product = run(build, np.full((1, 2), 3.0), np.zeros((1, 2)))
        np.testing.assert_allclose(mean, 3, atol=0.05)
        np.testing.assert_allclose(square, 9.25, atol=0.3)
        np.testing.assert_allclose(other, 4, atol=0.4)
        np.testing.assert_allclose(product, 0, atol=0.4)

    @BATCHES
    def test_it_explains_the_network_at_the_noisy_input(self, static):
        # The mean of 3 (x + n)^2 is 3 x^2 + 3 stdev^2.
        build = lambda x: methods.smoothgrad(methods.saliency, x**3, x, 0.4, 4000, seed=4)  # noqa: E731
        assert_close(run(build, X, static=static), 3 * X**2 + 3 * 0.4**2, 0.05)

    def test_options_reach_the_builder(self):
        def build(x):
            return methods.smoothgrad(
                methods.deeplift, x @ W1, x, 0.5, 3, baselines=2.0, grad_ys=tf.ones([3, 6], tf.float64) * 2
            )

        result = run(build, X)
        assert result.shape == X.shape

    def test_without_noise_it_is_the_builder_itself(self):
        def build(x):
            y = tf.nn.softmax(tf.tanh(x @ W1) @ W2)
            options = {"baselines": 0.5, "grad_ys": tf.one_hot([1, 0, 2], 5, dtype=tf.float64)}
            shapley = functools.partial(methods.shapley_value_sampling, num_samples=2, seed=1)
            return [
                (methods.smoothgrad(builder, y, x, 0.0, 3, **options), builder(y, x, **options))
                for builder in (methods.deeplift, shapley, ig.integrated_gradients)
            ]

        for smooth, plain in run(build, X):
            assert_close(smooth, plain, 1e-12)

    def test_a_builder_that_is_no_function_is_refused(self):
        with pytest.raises(TypeError, match="builder is a str, expected a function such as saliency"):
            run(lambda x: methods.smoothgrad("saliency", x, x, 0.1, 2), X)


# Every method, called the same way: builder(ys, xs, grad_ys)
DATA = RNG.normal(size=(4, 4))
EVERY = {
    "saliency": lambda ys, xs, w=None: methods.saliency(ys, xs, w),
    "gradient_times_input": lambda ys, xs, w=None: methods.gradient_times_input(ys, xs, w),
    "epsilon_lrp": lambda ys, xs, w=None: methods.epsilon_lrp(ys, xs, grad_ys=w),
    "deeplift": lambda ys, xs, w=None: methods.deeplift(ys, xs, grad_ys=w),
    "occlusion": lambda ys, xs, w=None: methods.occlusion(ys, xs, grad_ys=w),
    "shapley_value_sampling": lambda ys, xs, w=None: methods.shapley_value_sampling(
        ys, xs, 2, seed=3, grad_ys=w
    ),
    "expected_gradients": lambda ys, xs, w=None: methods.expected_gradients(
        ys, xs, tf.cast(DATA, xs.dtype), 3, seed=3, grad_ys=w
    ),
    "smoothgrad": lambda ys, xs, w=None: methods.smoothgrad(
        methods.gradient_times_input, ys, xs, 0.2, 3, seed=3, grad_ys=w
    ),
}
EACH = pytest.mark.parametrize("method", EVERY)
RANDOM = pytest.mark.parametrize("method", ["shapley_value_sampling", "expected_gradients", "smoothgrad"])


def mlp(x):
    return tf.nn.relu(x @ tf.cast(W1, x.dtype) + 0.1) @ tf.cast(W2, x.dtype)


def in_session(build, *arrays, runs=1):
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = [v1.placeholder(a.dtype, [None, *a.shape[1:]]) for a in arrays]
        result = build(*inputs)
        results = [session.run(result, dict(zip(inputs, arrays))) for _ in range(runs)]
    return results[0] if runs == 1 else results


class TestEveryMethod:
    @EACH
    def test_a_session_and_a_function_give_the_same(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        assert_close(run(build, X), in_session(build, X), 1e-12)
        assert_close(run(build, X, static=False), in_session(build, X), 1e-12)

    @EACH
    def test_weights_of_the_outputs_choose_classes(self, method):
        def build(x):
            y = mlp(x)
            one_hot = tf.one_hot([4, 0, 2], 5, dtype=x.dtype)
            return EVERY[method](y, x, one_hot), EVERY[method](tf.gather(y, [4, 0, 2], batch_dims=1), x)

        weighted, gathered = run(build, X)
        assert_close(weighted, gathered, 1e-12)

    @EACH
    def test_rows_do_not_influence_one_another(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        if method != "smoothgrad":  # whose noise is drawn for the whole batch
            assert_close(run(build, X[:2]), run(build, X)[:2], 1e-12)

    @EACH
    def test_half_precision_stays_half_precision(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        half = run(build, X.astype(np.float16))
        assert half.dtype == np.float16
        if method != "smoothgrad":
            assert_close(half, run(build, X), 0.02)

    @EACH
    def test_outputs_may_have_a_structure(self, method):
        whole, parts = run(
            lambda x: (EVERY[method](mlp(x), x), EVERY[method]({"a": mlp(x)[:, :2], "b": mlp(x)[:, 2:]}, x)),
            X,
        )
        assert_close(parts, whole, 1e-12)

    @EACH
    def test_eager_tensors_are_refused(self, method):
        with pytest.raises(
            TypeError, match=r"(?s)^\w+: .*eager.*expected a tensor of the graph.*@tf.function"
        ):
            EVERY[method](tf.constant(X), tf.constant(X))

    @EACH
    def test_networks_that_are_random_or_mix_rows_are_refused(self, method):
        with pytest.raises(ValueError, match=f"{method}: the network is random.*training=False"):
            run(lambda x: EVERY[method](tf.nn.dropout(x, 0.5), x), X)
        with pytest.raises(ValueError, match=f"{method}: op .* mixes the rows"):
            run(lambda x: EVERY[method](x - tf.reduce_mean(x, axis=0), x), X)

    @EACH
    def test_unconnected_tensors_are_refused(self, method):
        with pytest.raises(ValueError, match=f"{method}: no path leads from ys"):
            run(lambda x, u: EVERY[method](u * 2, x), X, U)

    @EACH
    def test_weights_of_another_shape_are_refused(self, method):
        with pytest.raises(ValueError, match="grad_ys has shape .*expected .*as ys"):
            run(lambda x: EVERY[method](mlp(x), x, tf.ones([3, 4], x.dtype)), X)

    @EACH
    def test_gradients_flow_through_attributions(self, method):
        def build(x):
            y = tf.tanh(x @ W1)
            if method == "epsilon_lrp":
                y = tf.tanh(x @ W1 + 3)  # away from the jump at 0
            return EVERY[method](y, x)

        @tf.function
        def loss(x):
            value = tf.reduce_sum(build(x) ** 2)
            return value, tf.gradients(value, x)[0]

        direction = RNG.normal(size=X.shape)
        gradient = loss(tf.constant(X))[1].numpy()
        high, low = (loss(tf.constant(X + step * direction))[0].numpy() for step in (1e-5, -1e-5))
        np.testing.assert_allclose((gradient * direction).sum(), (high - low) / 2e-5, rtol=1e-4)

    @EACH
    def test_it_compiles_with_xla(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        compiled = tf.function(build, jit_compile=True)(tf.constant(X)).numpy()
        if method == "shapley_value_sampling":  # XLA draws its own orders
            compiled, expected = compiled.sum(1), run(build, X).sum(1)
        elif method in ("expected_gradients", "smoothgrad"):
            compiled, expected = np.isfinite(compiled), np.ones(X.shape, bool)
        else:
            expected = run(build, X)
        assert_close(compiled, expected, 1e-10)

    @RANDOM
    def test_the_same_seed_draws_the_same_and_none_draws_afresh_in_every_run(self, method):
        def build(x, seed):
            y = tf.reduce_prod(2 + tf.sin(x), axis=1)
            if method == "smoothgrad":
                return methods.smoothgrad(methods.saliency, y, x, 0.5, 2, seed)
            options = {"baselines": DATA} if method == "expected_gradients" else {}
            return getattr(methods, method)(y, x, num_samples=2, seed=seed, **options)

        with_seed = functools.partial(build, seed=-7)
        once, again = in_session(with_seed, X, runs=2)
        np.testing.assert_array_equal(once, again)
        assert_close(run(with_seed, X), once, 1e-12)
        assert np.abs(run(functools.partial(build, seed=8), X) - once).max() > 1e-6
        once, again = in_session(functools.partial(build, seed=None), X, runs=2)
        assert np.abs(once - again).max() > 1e-6
        traced = tf.function(functools.partial(build, seed=None))
        assert np.abs(traced(tf.constant(X)) - traced(tf.constant(X))).max() > 1e-6

    @RANDOM
    @pytest.mark.parametrize("seed", [0.5, "a", True])
    def test_a_seed_that_is_no_int_is_refused(self, method, seed):
        calls = {
            "shapley_value_sampling": lambda x: methods.shapley_value_sampling(x, x, seed=seed),
            "expected_gradients": lambda x: methods.expected_gradients(x, x, DATA, 2, seed=seed),
            "smoothgrad": lambda x: methods.smoothgrad(methods.saliency, x, x, 0.1, 2, seed=seed),
        }
        with pytest.raises(TypeError, match=f"{method}: seed is .*expected an int, or None"):
            run(calls[method], X)

    @RANDOM
    @pytest.mark.parametrize("count", [0, -1, 2.0, True, None])
    def test_a_number_of_samples_that_is_not_positive_is_refused(self, method, count):
        calls = {
            "shapley_value_sampling": lambda x: methods.shapley_value_sampling(x, x, count),
            "expected_gradients": lambda x: methods.expected_gradients(x, x, DATA, count),
            "smoothgrad": lambda x: methods.smoothgrad(methods.saliency, x, x, 0.1, count),
        }
        with pytest.raises(ValueError, match=f"{method}: num_samples is .*expected a positive int"):
            run(calls[method], X)

    @RANDOM
    def test_the_graph_does_not_grow_with_the_number_of_samples(self, method):
        def nodes(count):
            calls = {
                "shapley_value_sampling": lambda x: methods.shapley_value_sampling(mlp(x), x, count),
                "expected_gradients": lambda x: methods.expected_gradients(mlp(x), x, DATA, count),
                "smoothgrad": lambda x: methods.smoothgrad(methods.saliency, mlp(x), x, 0.1, count),
            }
            spec = tf.TensorSpec([None, 4], tf.float64)
            return len(tf.function(calls[method]).get_concrete_function(spec).graph.get_operations())

        assert nodes(2) == nodes(20000)


class TestOneGraph:
    def test_calls_do_not_influence_one_another_in_any_order(self):
        alone = {name: in_session(lambda x, n=name: EVERY[n](mlp(x), x), X) for name in EVERY}
        for order in (list(EVERY), list(EVERY)[::-1]):

            def build(x, order=order):
                y = mlp(x)
                return {name: EVERY[name](y, x) for name in order}

            together = in_session(build, X)
            for name in EVERY:
                assert_close(together[name], alone[name], 1e-12)

    def test_training_is_not_influenced(self):
        def train(explain):
            with tf.Graph().as_default(), v1.Session() as session:
                x = v1.placeholder(tf.float64, [None, 4])
                w = v1.get_variable("w", initializer=tf.constant(W1), use_resource=True)
                y = tf.nn.relu(x @ w + 0.1) @ W2
                before = [EVERY[name](y, x) for name in EVERY] if explain else []
                step = v1.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(y**2))
                after = [EVERY[name](y, x) for name in EVERY] if explain else []
                session.run(v1.global_variables_initializer())
                for _ in range(3):
                    session.run([step, before, after], {x: X})
                return session.run(w)

        np.testing.assert_allclose(train(True), train(False), rtol=1e-12)

    def test_nothing_is_added_to_the_network_itself(self):
        with tf.Graph().as_default() as graph:
            x = v1.placeholder(tf.float64, [None, 4])
            y = tf.nn.silu(mlp(x))
            before = {
                op.name: op.node_def.SerializeToString(deterministic=True) for op in graph.get_operations()
            }
            for name in ("saliency", "gradient_times_input", "deeplift", "occlusion"):
                EVERY[name](y, x)
            assert all(
                graph.get_operation_by_name(name).node_def.SerializeToString(deterministic=True) == definition
                for name, definition in before.items()
            )


class TestKeras:
    @EACH
    def test_a_keras_model_with_two_kinds_of_layers(self, method):
        keras = tf.keras
        model = keras.Sequential(
            [
                keras.Input([4]),
                keras.layers.Dense(6, activation="elu"),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Dense(3),
            ]
        )
        randomize(model)
        x = X.astype(np.float32)
        result = run(lambda x: EVERY[method](model(x, training=False), x), x, static=False)
        assert result.shape == x.shape
        if method in ("deeplift", "shapley_value_sampling"):
            change = model(x).numpy().sum(1) - model(np.zeros_like(x)).numpy().sum(1)
            assert_close(result.sum(1), change, 1e-5)

    @EACH
    def test_saved_models_whose_layers_hide_in_function_calls(self, method):
        inner = tf.function(mlp)
        build = lambda x, f: EVERY[method](f(x), x)  # noqa: E731
        assert_close(
            run(functools.partial(build, f=inner), X), run(functools.partial(build, f=mlp), X), 1e-12
        )

    def test_deeplift_sums_to_the_difference_on_attention_and_pooling(self):
        keras = tf.keras
        x = keras.Input([6, 4])
        h = keras.layers.MultiHeadAttention(2, 3)(x, x)
        h = keras.layers.Multiply()([h, x])
        h = keras.layers.GlobalMaxPooling1D()(keras.layers.Conv1D(5, 3, activation="gelu")(h))
        model = randomize(keras.Model(x, keras.layers.Dense(3, activation="softmax")(h)))
        data = RNG.normal(size=(2, 2, 6, 4)).astype(np.float32)

        def build(x, start):
            y = model(x, training=False)[:, 0]
            return tf.reduce_sum(methods.deeplift(y, x, start), [1, 2]), y - model(start, training=False)[
                :, 0
            ]

        total, change = run(build, *data)
        np.testing.assert_allclose(total, change, atol=2e-5)


def test_the_examples_in_the_docstrings_run():
    results = doctest.testmod(importlib.import_module("attribution_methods_tf"))
    assert results.attempted > 10
    assert results.failed == 0


NORMS = {
    "l2_normalize": lambda x: tf.nn.l2_normalize(x, 1),
    "UnitNormalization": tf.keras.layers.UnitNormalization(),
    "norm": lambda x: x / (tf.norm(x, axis=1, keepdims=True) + 1e-9),
    "inverse root": lambda x: x * tf.math.rsqrt(tf.reduce_sum(x**2, 1, keepdims=True) + 1e-12),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalization_that_is_huge_at_the_baseline_leaves_single_precision_its_digits(name):
    """The direction does not change on the way from 0: all of the change is that of x itself."""
    x, weights = np.random.RandomState(3).normal(size=(2, 4, 6)).astype(np.float32)
    expected = weights * x / np.linalg.norm(x, axis=1, keepdims=True)

    def run(x):
        y = tf.reduce_sum(NORMS[name](x) * weights, 1)
        few = [ig.integrated_gradients(y, x, num_steps=s, method="secant") for s in (1, 2, 5)]
        return methods.deeplift(y, x), few

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lifted, few = as_graph(run, [x], False)
    np.testing.assert_allclose(lifted, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(few[0], expected, rtol=2e-5, atol=1e-6)
    for found in few:
        np.testing.assert_allclose(found.sum(1), expected.sum(1), rtol=0, atol=5e-5)
