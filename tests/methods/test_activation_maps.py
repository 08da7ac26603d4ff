"""Grad-CAM, LayerCAM and guided backpropagation."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from method_networks import B1, BATCHES, RNG, W1, W2, X, run
from reference import assert_close, in_function, in_session

import igtf.methods as methods

IMAGES = RNG.normal(size=(2, 9, 6, 3))
KERNEL, HEAD = 0.2 * RNG.normal(size=(3, 3, 3, 4)), RNG.normal(size=(4, 5))
CHOSEN = RNG.normal(size=(2, 5))


def network(x):
    """A layer `[B, 5, 3, 4]` and the outputs `[B, 5]` of images."""
    layer = tf.nn.relu(tf.nn.conv2d(x, tf.constant(KERNEL, x.dtype), 2, "SAME"))
    return layer, tf.tanh(tf.reduce_mean(layer**2, [1, 2])) @ tf.constant(HEAD, x.dtype)


def by_hand(values):
    """The layer, its gradient by a tape and, in NumPy, both maps."""
    layer, _ = network(tf.constant(values))
    with tf.GradientTape() as tape:
        tape.watch(layer)
        y = tf.tanh(tf.reduce_mean(layer**2, [1, 2])) @ HEAD
    grads, layer = tape.gradient(y, layer, CHOSEN).numpy(), layer.numpy()
    return {
        "grad_cam": np.maximum((grads.mean((1, 2), keepdims=True) * layer).sum(-1, keepdims=True), 0),
        "layer_cam": np.maximum((np.maximum(grads, 0) * layer).sum(-1, keepdims=True), 0),
    }


MAPS = pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])


class TestMaps:
    @BATCHES
    @MAPS
    def test_values_equal_the_papers_equations_and_are_resized_as_images_are(self, method, static):
        def build(x):
            layer, ys = network(x)
            return [getattr(methods, method)(ys, layer, at, tf.constant(CHOSEN)) for at in (layer, x)]

        own, resized = run(build, IMAGES, static=static)
        expected = by_hand(IMAGES)[method]
        assert_close(own, expected, 1e-12)
        assert_close(resized, tf.image.resize(expected, [9, 6]).numpy(), 1e-6)

    @MAPS
    def test_a_session_and_a_function_give_the_same(self, method):
        def build(x):
            layer, ys = network(x)
            return getattr(methods, method)(ys, layer, x, tf.constant(CHOSEN))

        assert_close(in_session(build, IMAGES), in_function(build, IMAGES), 1e-12)

    @MAPS
    def test_rows_do_not_influence_one_another(self, method):
        def build(x):
            layer, ys = network(x)
            return getattr(methods, method)(ys, layer, x)

        broken = np.stack([IMAGES[1], np.full_like(IMAGES[0], np.nan)])
        assert_close(in_function(build, broken)[0], in_function(build, IMAGES)[1], 1e-12)

    @MAPS
    @pytest.mark.parametrize("axes", [1, 3])
    def test_sequences_and_volumes_are_resized_along_each_of_their_axes(self, method, axes):
        x = RNG.normal(size=(2, *(8, 6, 10)[:axes], 2))

        def build(x):
            layer = x[(slice(None), *[slice(None, None, 2)] * axes)]
            # Every place has the gradient 1.
            return layer, getattr(methods, method)(tf.reduce_sum(layer, [*range(1, axes + 1)]), layer, x)

        layer, result = run(build, x)
        assert result.shape == (*x.shape[:-1], 1)
        # The middle of two places lies a quarter of the way from the one, three from the other.
        line = np.maximum(layer.sum(-1), 0)
        for axis in range(1, axes + 1):
            whole = np.concatenate([np.take(line, [0], axis), line, np.take(line, [-1], axis)], axis)
            left, mid, right = (np.take(whole, range(i, i + line.shape[axis]), axis) for i in range(3))
            pairs = np.stack([0.25 * left + 0.75 * mid, 0.75 * mid + 0.25 * right], axis + 1)
            line = pairs.reshape(*line.shape[:axis], -1, *line.shape[axis + 1 :])
        assert_close(result[..., 0], line, 1e-12)

    @MAPS
    def test_gradients_flow_through_maps(self, method):
        @tf.function
        def loss(x):
            layer, ys = network(x)
            value = tf.reduce_sum(getattr(methods, method)(ys, layer, x) ** 2)
            return value, tf.gradients(value, x)[0]

        direction = RNG.normal(size=IMAGES.shape)
        gradient = loss(tf.constant(IMAGES))[1].numpy()
        high, low = (loss(tf.constant(IMAGES + step * direction))[0].numpy() for step in (1e-6, -1e-6))
        np.testing.assert_allclose((gradient * direction).sum(), (high - low) / 2e-6, rtol=1e-4)

    @MAPS
    def test_layers_that_do_not_fit_are_refused(self, method):
        call = getattr(methods, method)
        for wrong, message in (
            (lambda x, layer, ys: call(ys, ys, x), r"layer .* has shape \(2, 5\) and xs .*as many axes"),
            (lambda x, layer, ys: call(ys, layer, x[..., 0]), "layer .*expected as many axes"),
            (lambda x, layer, ys: call(ys, layer, x * 2), "layer .* is not computed from xs"),
            (lambda x, layer, ys: call(tf.reduce_sum(x, [1, 2]), layer, x), "no path leads"),
        ):
            with pytest.raises(ValueError, match=f"^{method}: {message}"):
                run(lambda x, wrong=wrong: wrong(x, *network(x)), IMAGES)
        with pytest.raises(TypeError, match=f"^{method}: layer is a list, expected a tensor"):
            run(lambda x: call(network(x)[1], [network(x)[0]], x), IMAGES)


class TestGuidedBackpropagation:
    @BATCHES
    def test_values_equal_the_chain_of_rules_in_numpy(self, static):
        z = X @ W1 + B1
        g = np.ones([3, 5]) @ W2.T
        for name, slope in (("relu", z > 0), ("relu6", (z > 0) & (z < 6))):

            def build(x, name=name):
                ys = getattr(tf.nn, name)(x @ W1 + B1) @ W2
                return methods.guided_backpropagation(ys, x)

            assert_close(run(build, X, static=static), (np.maximum(g, 0) * slope) @ W1.T, 1e-12)

    def test_without_a_relu_it_says_that_it_is_the_gradient(self):
        with pytest.warns(UserWarning, match="guided_backpropagation: there is no ReLU.*the gradient"):
            assert_close(run(lambda x: methods.guided_backpropagation(x**2, x), X), 2 * X, 1e-12)

    def test_with_one_it_says_nothing(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            run(lambda x: methods.guided_backpropagation(tf.nn.relu(x), x), X)
