"""Attributions along paths of all kinds, beside sums over many pieces of them in float64."""

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
from reference import as_graph, assert_close, tape_gradients
from shared_networks import BATCHES, X, change, kinked, smooth

import igtf as ig

v1 = tf.compat.v1
FACTOR = np.array([1.0, 0.5, 0.3, 0.0])  # how straight each feature goes


def second(network):
    return lambda x: network(x)[:, 1]


def bent(start, end):
    """From one end to the other, some features late."""
    return lambda t: start + (end - start) * (FACTOR * t + (1 - FACTOR) * t**3)


def along(function, path, pieces=20_000):
    """Gradients at the middle of each piece times the change over it."""
    gradients, total = tape_gradients(function), 0.0
    times = np.linspace(0, 1, pieces + 1)
    for before, after in zip(times, times[1:]):
        total = total + gradients([path((before + after) / 2)])[0] * (path(after) - path(before))
    return total


def explained(network, path, static=True, x=X, **options):
    """`path` is a function of the input and the time."""

    def build(x):
        given = (lambda t: path(x, t)) if callable(path) else path
        return ig.path_integrated_gradients(network(x)[:, 1], x, given, **options)

    return as_graph(build, [x], static)


class TestFunctions:
    @pytest.mark.few(1)
    @BATCHES
    @pytest.mark.parametrize("network", [kinked, smooth])
    @pytest.mark.parametrize("method", ["auto", "gausslegendre"])
    def test_a_curve_is_integrated_along(self, network, method, static):
        start = 0.3 - X[::-1]
        expected = along(second(network), bent(start, X), 3000)
        found = explained(network, lambda x, t: bent(start, x)(t), static, num_steps=200, method=method)
        assert_close(found, expected, 2e-3 if method == "auto" else 2e-2)

    @BATCHES
    def test_the_straight_one_gives_integrated_gradients(self, static):
        found = explained(kinked, lambda x, t: -1 + t * (x + 1), static, num_steps=400)

        def build(x):
            return ig.integrated_gradients(kinked(x)[:, 1], x, -1.0, num_steps=400, method="secant")

        assert_close(found, as_graph(build, [X], static), 1e-4)

    @pytest.mark.thin
    @pytest.mark.parametrize("network", [kinked, smooth])
    @pytest.mark.parametrize("steps", [1, 3, 20])
    def test_any_number_of_steps_is_complete(self, network, steps):
        found = explained(network, lambda x, t: bent(x[::-1] - 2, 2 * x)(t), num_steps=steps)
        gained = change(network, 2 * X, X[::-1] - 2)[:, 1]
        np.testing.assert_allclose(found.sum(1), gained, atol=1e-12)

    def test_backwards_it_is_the_negative(self):
        there = explained(kinked, lambda x, t: bent(x - 3, x)(t), num_steps=20)
        back = explained(kinked, lambda x, t: bent(x - 3, x)(1 - t), num_steps=20)
        assert_close(-back, there, 1e-9)

    def test_how_fast_it_is_gone_does_not_matter_in_the_limit(self):
        even = explained(kinked, lambda x, t: bent(x - 3, x)(t), num_steps=1000)
        hasty = explained(kinked, lambda x, t: bent(x - 3, x)(tf.sin(t * np.pi / 2)), num_steps=1000)
        assert_close(hasty, even, 1e-3)

    def test_ends_elsewhere_show_in_the_delta(self):
        def build(x):
            y = kinked(x)[:, 1]
            found = ig.path_integrated_gradients(y, x, lambda t: 0.9 * t * x, num_steps=5)
            return ig.convergence_delta(y, x, None, found)

        expected = kinked(tf.constant(0.9 * X))[:, 1] - kinked(tf.constant(X))[:, 1]
        np.testing.assert_allclose(as_graph(build, [X], True), expected, atol=1e-9)

    def test_several_inputs_move_together_and_what_stands_still_gets_nothing(self):
        def build(x, z):
            y = tf.reduce_sum(tf.nn.relu(x - z["b"]) * z["a"], 1)

            def path(t):
                time, times = t
                return time * x, {"a": z["a"], "b": times["b"] ** 2 * z["b"]}

            return ig.path_integrated_gradients(y, (x, z), path, num_steps=50)

        z = {"a": 1 + X[::-1], "b": X + 0.5}

        def traced(x, a, b):
            return build(x, {"a": a, "b": b})

        to_x, found = as_graph(traced, [X, z["a"], z["b"]], False)
        np.testing.assert_array_equal(found["a"], 0)
        gained = (np.maximum(X - z["b"], 0) * z["a"]).sum(1)
        np.testing.assert_allclose(to_x.sum(1) + found["b"].sum(1), gained, atol=1e-12)

    @BATCHES
    def test_a_hidden_layer_has_a_path_too(self, static):
        """What the path reads is computed from the input, a row for each of its rows."""

        def build(x):
            h = tf.nn.relu(x * 2)
            y = kinked(h)[:, 1]
            return ig.path_integrated_gradients(y, h, lambda t: t * h + (1 - t) * tf.abs(x), num_steps=3)

        found = as_graph(build, [X], static)
        gained = change(kinked, np.maximum(2 * X, 0), np.abs(X))[:, 1]
        np.testing.assert_allclose(found.sum(1), gained, atol=1e-12)

    def test_rows_do_not_know_their_neighbours_nor_blocks_their_size(self):
        def path(x, t):
            return bent(x - 3, x)(t)

        found = explained(kinked, path, False, num_steps=30)
        for i in range(len(X)):
            assert_close(explained(kinked, path, False, X[i : i + 1], num_steps=30), found[i : i + 1], 1e-9)
        for static in (True, False):
            assert_close(explained(kinked, path, static, num_steps=30, max_rows=9), found, 1e-9)

    def test_a_tolerance_is_kept(self):
        def path(x, t):
            return bent(x - 3, x)(t)

        expected = along(second(kinked), bent(X - 3, X), 10_000)
        found, errors, steps = explained(kinked, path, False, tolerance=0.003, return_error=True)
        assert (errors <= 0.003).all() and (steps >= 10).all()
        true = np.abs(found - expected).sum(1) / np.abs(expected).sum(1)
        assert (true <= 0.003).all()

    def test_weights_of_outputs(self):
        def build(x, weights):
            y = kinked(x)
            return ig.path_integrated_gradients(y, x, lambda t: t * x, num_steps=4, grad_ys=weights)

        weights = np.eye(3)[[2, 0, 1]]
        found = as_graph(build, [X, weights], False)
        np.testing.assert_allclose(found.sum(1), (change(kinked, X, 0.0 * X) * weights).sum(1), atol=1e-12)

    def test_in_a_graph_of_tensorflow_1(self):
        with v1.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float64, [None, 4])
            y = kinked(x)[:, 1]
            curve = ig.path_integrated_gradients(y, x, bent(x - 3, x), num_steps=30)
            points = ig.path_integrated_gradients(y, x, tf.stack([x - 3, x + 1, x]), num_steps=30)
            found = session.run([curve, points], {x: X})
        assert_close(found[0], explained(kinked, lambda x, t: bent(x - 3, x)(t), num_steps=30), 1e-9)
        np.testing.assert_allclose(found[1].sum(1), change(kinked, X, X - 3)[:, 1], atol=1e-12)

    def test_it_is_trained_through(self):
        def build(x):
            found = ig.path_integrated_gradients(kinked(x)[:, 1], x, lambda t: t * x, num_steps=7)
            return tf.gradients(tf.reduce_sum(found), x)[0]

        expected = tape_gradients(second(kinked))([X])[0]  # of a sum that is F(x) - F(0)
        assert_close(as_graph(build, [X], True), expected, 1e-9)


class TestPoints:
    POINTS = np.random.RandomState(5).normal(size=[5, *X.shape])

    @pytest.mark.few(1)
    @BATCHES
    @pytest.mark.parametrize("network", [kinked, smooth])
    def test_pieces_are_joined(self, network, static):
        def build(x, points):
            return ig.path_integrated_gradients(network(x)[:, 1], x, points, num_steps=200)

        def path(t):
            piece = min(int(t * 4), 3)
            low, high = self.POINTS[piece : piece + 2]
            return low + (t * 4 - piece) * (high - low)

        signature = [tf.TensorSpec(X.shape if static else [None, 4], tf.float64)]
        signature.append(tf.TensorSpec([5, 3, 4] if static else [None, None, 4], tf.float64))
        traced = tf.function(build, input_signature=signature)
        assert_close(traced(X, self.POINTS).numpy(), along(second(network), path, 4000), 3e-3)

    @pytest.mark.parametrize("count", [2, 3, 5])
    def test_they_are_complete_and_may_be_as_many_as_rows(self, count):
        found = explained(kinked, self.POINTS[:count], num_steps=4)
        gained = change(kinked, self.POINTS[count - 1], self.POINTS[0])[:, 1]
        np.testing.assert_allclose(found.sum(1), gained, atol=1e-12)

    def test_rows_that_the_input_has_not_are_refused_in_the_run(self):
        def build(x, points):
            return ig.path_integrated_gradients(kinked(x)[:, 1], x, points)

        specs = [tf.TensorSpec([None, 4], tf.float64), tf.TensorSpec([None, None, 4], tf.float64)]
        traced = tf.function(build, input_signature=specs)
        with pytest.raises(tf.errors.InvalidArgumentError, match="other than the rows of xs"):
            traced(X[:2], self.POINTS)


@pytest.mark.parametrize(
    "path, error, message",
    [
        (lambda t: None, TypeError, r"path\(t\) returns"),
        (lambda t: tf.cast(t, tf.float32) * np.ones(X.shape, np.float32), TypeError, "float64"),
        (lambda t: [t * X], ValueError, "structure"),
        (lambda t: t, ValueError, r"returns shape \(3, 1\), expected \(3, 4\)"),
        (lambda t: tf.constant(X), ValueError, "the same whatever the time is"),
        ("straight", TypeError, "nor a function of the time"),
        (np.zeros([1, 3, 4]), ValueError, "at least two"),
        (np.zeros([3, 4]), ValueError, r"expected points \[K, B, ...\]"),
    ],
)
def test_what_is_no_path_is_refused(path, error, message):
    with pytest.raises(error, match=message):
        explained(kinked, (lambda x, t: path(t)) if callable(path) else path)


class TestBlur:
    IMAGES = np.random.RandomState(1).uniform(size=[2, 7, 6, 2])

    @staticmethod
    def network(x):
        kernel = tf.constant(np.random.RandomState(2).normal(size=[3, 3, 2, 4]))
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") - 0.2), [1, 2, 3])

    @pytest.mark.few(1)
    @BATCHES
    def test_it_is_the_path_through_scipys_blurred_images(self, static):
        def blurred(t):
            sigma = 2 * (1 - t)
            smooth = [
                scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="constant", truncate=12)
                for image in self.IMAGES
            ]
            return np.array(smooth)

        def build(x):
            return ig.blur_integrated_gradients(self.network(x), x, max_sigma=2, num_steps=200)

        assert_close(as_graph(build, [self.IMAGES], static), along(self.network, blurred, 1000), 5e-3)

    def test_the_sum_is_what_sharpness_adds(self):
        def build(x):
            found = ig.blur_integrated_gradients(self.network(x), x, max_sigma=200, num_steps=3)
            return tf.reduce_sum(found, [1, 2, 3]) - self.network(x)

        nothing = self.network(tf.zeros([1, 7, 6, 2], tf.float64)).numpy()
        np.testing.assert_allclose(as_graph(build, [self.IMAGES], True), -nothing[[0, 0]], atol=1e-3)

    def test_series_are_blurred_in_time_alone(self):
        x = self.IMAGES[:, :, 0]

        def build(x, axes):
            y = tf.reduce_sum(tf.nn.relu(x[:, 1:] - x[:, :-1]) ** 2, [1, 2])
            return ig.blur_integrated_gradients(y, x, 3.0, axes, num_steps=20)

        one, other = (as_graph(lambda x, a=a: build(x, a), [x], False) for a in (None, [1]))
        np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        "options, message",
        [
            (dict(max_sigma=0), "max_sigma is 0"),
            (dict(max_sigma="wide"), "max_sigma is 'wide'"),
            (dict(axes=[0]), r"axes is \[0\]"),
            (dict(axes=[4]), r"axes is \[4\]"),
            (dict(axes=[]), r"axes is \[\]"),
        ],
    )
    def test_what_cannot_be_blurred_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            as_graph(
                lambda x: ig.blur_integrated_gradients(self.network(x), x, **options), [self.IMAGES], True
            )


class TestSequential:
    WORDS = np.random.RandomState(3).normal(size=[3, 5, 4])

    @pytest.mark.few(1)
    @BATCHES
    def test_each_word_is_explained_with_all_others_there(self, static):
        def network(x):
            heard = tf.nn.softmax(tf.reduce_sum(x, 2), 1)
            return kinked(tf.reduce_sum(heard[:, :, None] * x, 1))[:, 1]

        def build(x, baseline):
            return ig.sequential_integrated_gradients(network(x), x, baseline, num_steps=30)

        baseline = self.WORDS[:1, :1] / 2
        found = as_graph(build, [self.WORDS, np.repeat(baseline, 3, 0)], static)
        for word in (0, 3):
            start = self.WORDS.copy()
            start[:, word] = baseline[0, 0]

            def alone(x, start):
                return ig.integrated_gradients(network(x), x, start, num_steps=30)

            assert_close(found[:, word], as_graph(alone, [self.WORDS, start], static)[:, word], 1e-9)

    def test_words_of_two_sentences(self):
        def build(x, z):
            y = tf.reduce_sum(tf.nn.relu(x), [1, 2]) * tf.reduce_sum(z, [1, 2])
            return ig.sequential_integrated_gradients(y, {"x": x, "z": z}, num_steps=5)

        found = as_graph(build, [self.WORDS, self.WORDS[:, :2] + 1], False)
        sums = np.maximum(self.WORDS, 0).sum(2), (self.WORDS[:, :2] + 1).sum(2)
        np.testing.assert_allclose(found["x"].sum(2), sums[0] * sums[1].sum(1, keepdims=True), atol=1e-9)
        np.testing.assert_allclose(found["z"].sum(2), sums[1] * sums[0].sum(1, keepdims=True), atol=1e-9)

    @pytest.mark.parametrize("axis", [0, 3, 1.0])
    def test_an_axis_that_is_none_of_words_is_refused(self, axis):
        def build(x):
            return ig.sequential_integrated_gradients(tf.reduce_sum(x**2, [1, 2]), x, axis=axis)

        with pytest.raises(ValueError, match="axis is"):
            as_graph(build, [self.WORDS], True)
