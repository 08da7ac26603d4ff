"""Paths of all kinds through the Explainer, beside the graph builders."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close
from shared_networks import X, change, kinked

import igtf as ig

IMAGES = np.random.RandomState(1).uniform(size=[3, 6, 6, 1])


def images(x):
    kernel = tf.constant(np.random.RandomState(2).normal(size=[3, 3, 1, 4]))
    return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") - 0.2), [1, 2])


def explain(network, x, method, baselines=None, **options):
    explainer = ig.Explainer(network, method=method, method_options={"num_steps": 7, **options})
    return explainer.explain(x, 1, baselines=baselines)


def test_a_path_of_ones_own_is_a_function_of_the_time_the_inputs_and_the_baselines():
    def path(t, x, start):
        return start + (x - start) * t**2

    def build(x):
        return ig.path_integrated_gradients(kinked(x)[:, 1], x, lambda t: path(t, x, x * 0 - 1), 7)

    found = explain(kinked, X, "path_integrated_gradients", baselines=-1.0, path=path)
    assert_close(found, as_graph(build, [X], True), 1e-9)
    np.testing.assert_allclose(found.sum(1), change(kinked, X, 0 * X - 1)[:, 1], atol=1e-9)


def test_a_path_that_ends_elsewhere_is_warned_about():
    with pytest.warns(UserWarning, match="Let path return the baselines at time 0 and the inputs at time 1"):
        explain(
            kinked, X, "path_integrated_gradients", path=lambda t, x, start: start + 0.5 * t * (x - start)
        )


def test_points_of_a_path():
    points = np.stack([0 * X, X[::-1], X])
    found = explain(kinked, X, "path_integrated_gradients", path=points)
    np.testing.assert_allclose(found.sum(1), change(kinked, X, 0 * X)[:, 1], atol=1e-9)


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "method, network, x, options",
    [
        ("blur_integrated_gradients", images, IMAGES, dict(max_sigma=3.0)),
        ("sequential_integrated_gradients", kinked, X, {}),
        ("guided_integrated_gradients", kinked, X, dict(max_dist=0.3)),
    ],
)
def test_ready_paths_are_methods(method, network, x, options):
    def build(x):
        return getattr(ig, method)(network(x)[:, 1], x, num_steps=7, **options)

    assert_close(explain(network, x, method, **options), as_graph(build, [x], True), 1e-9)


def test_errors_are_estimated_and_a_tolerance_kept():
    options = {"max_sigma": 3.0, "tolerance": 0.01}
    explainer = ig.Explainer(images, method="blur_integrated_gradients", method_options=options)
    found, errors = explainer.explain(IMAGES, 1, return_error=True)
    assert found.shape == IMAGES.shape and (errors <= 0.01).all()
