"""Networks whose reasons are known: every fidelity metric has the truth first and a shuffled truth last."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from igtf import Explainer

FIDELITY = {
    "deletion": ("deletion", {"num_steps": None}),
    "insertion": ("insertion", {"num_steps": None}),
    "infidelity": ("infidelity", {"num_samples": 200}),
    "mu_fidelity": ("mu_fidelity", {"num_samples": 200}),
    "average_drop_increase": "average_drop_increase",
}


def scored(model, x, maps):
    """The evaluation of maps `[N, ...]` by name, in one batch."""
    methods = {name: (lambda ys, xs, a=a: tf.constant(a, tf.float32)) for name, a in maps.items()}
    explainer = Explainer(model, batch_size=len(x))
    return explainer.evaluate(x, methods=methods, metrics=FIDELITY, progress=False)


def shuffled(maps, seed=0):
    draws = np.random.default_rng(seed)
    flat = maps.reshape(len(maps), -1)
    return np.stack([draws.permutation(row) for row in flat]).reshape(maps.shape)


def ranking(found, metric):
    """The methods from the best to the worst, by their means."""
    sign = 1 if found.better[metric] == "lower" else -1
    means = {name: sign * np.nanmean(scores) for name, scores in found.scores[metric].items()}
    return sorted(means, key=means.get)


@functools.cache
def of_two_pixels():
    """A network that reads two pixels of 6 x 6, rows, and what the two contribute: their Shapley values."""
    draws = np.random.default_rng(0)
    x = draws.uniform(0.5, 1.5, [60, 6, 6]).astype(np.float32)
    f = lambda a, b: 1 / (1 + np.exp(3 - 2 * a - 2 * b - a * b))  # noqa: E731
    a, b = x[:, 1, 4], x[:, 3, 2]
    truth = np.zeros_like(x)
    truth[:, 1, 4] = (f(a, 0) - f(0, 0) + f(a, b) - f(0, b)) / 2
    truth[:, 3, 2] = (f(0, b) - f(0, 0) + f(a, b) - f(a, 0)) / 2

    def network(x):
        a, b = x[:, 1, 4], x[:, 3, 2]
        return tf.sigmoid(2 * a + 2 * b + a * b - 3)

    # Ties would be ranked by their place.
    jitter = 1e-6 * draws.normal(size=x.shape)
    half = np.where(np.arange(6)[:, None] == 1, truth, 0) + 0.5 * np.roll(truth, 2, 1)
    maps = {"shuffled": shuffled(truth) + jitter, "half": half + jitter, "true": truth + jitter}
    return network, x, maps


@pytest.mark.few(3)
@pytest.mark.parametrize("metric", [*list(FIDELITY)[:4], "average_drop", "average_increase"])
def test_of_a_network_that_reads_two_pixels_the_truth_comes_first_and_shuffled_last(metric):
    network, x, maps = of_two_pixels()
    found = scored_once("pixels")
    order = ranking(found, metric)
    if metric == "average_increase":  # nothing is above the output of both pixels
        assert np.nanmax(found.scores[metric]["shuffled"]) == 0
        return
    assert order == ["true", "half", "shuffled"]
    interval_says_so(found, metric)


def interval_says_so(found, metric):
    """The paired intervals have the truth better than all, and shuffled worse."""
    apart = found.differences(confidence=0.99)
    sign = 1 if found.better[metric] == "lower" else -1
    for at in np.flatnonzero(apart["metric"] == metric):
        ends = sign * apart["low"][at], sign * apart["high"][at]
        if "true" in (apart["method"][at], apart["other"][at]):
            assert min(ends) > 0 if apart["other"][at] == "true" else max(ends) < 0
        if "shuffled" in (apart["method"][at], apart["other"][at]):
            assert min(ends) > 0 if apart["method"][at] == "shuffled" else max(ends) < 0


@functools.cache
def scored_once(which):
    return scored(*{"pixels": of_two_pixels, "watermark": with_a_watermark}[which]())


@functools.cache
def with_a_watermark():
    """A network trained to tell digits with a mark in a corner: rows that have it, and four maps."""
    tf.keras.utils.set_random_seed(0)
    draws = np.random.default_rng(0)
    images = (load_digits().images / 16).astype(np.float32)
    marked = draws.random(len(images)) < 0.5
    images[:, :2, :2] = np.where(marked, 1, 0)[:, None, None]
    layers = tf.keras.layers
    stack = [layers.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"), layers.Flatten()]
    model = tf.keras.Sequential([*stack, layers.Dense(16, "relu"), layers.Dense(2, "softmax")])
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images[200:, ..., None], marked[200:].astype(int), epochs=3, verbose=0)
    x = images[:200][marked[:200]][..., None]
    assert model.predict(x, verbose=0)[:, 1].min() > 0.95  # it has learned the mark
    gone = x.copy()
    gone[:, :2, :2] = 0
    fall = model.predict(x, verbose=0)[:, 1] - model.predict(gone, verbose=0)[:, 1]
    truth = np.zeros_like(x)
    truth[:, :2, :2] = fall[:, None, None, None] / 4
    # What a person would expect: the strokes of the digit, as much in all.
    strokes = x * (truth == 0)
    strokes *= (truth.sum((1, 2, 3)) / strokes.sum((1, 2, 3)))[:, None, None, None]
    jitter = 1e-6 * draws.normal(size=x.shape)
    half = np.where(np.arange(8)[:, None] == 0, truth, 0)  # of the mark, and as much beside it
    half += np.roll(half, 4, 2)
    maps = {"shuffled": shuffled(truth), "strokes": strokes, "half": half, "true": truth}
    maps = {name: values + jitter for name, values in maps.items()}
    return lambda x: model(x, training=False)[:, 1], x, maps


@pytest.mark.slow
@pytest.mark.parametrize("metric", [*list(FIDELITY)[:4], "average_drop", "average_increase"])
def test_of_a_network_that_learned_a_watermark_the_truth_comes_first_and_shuffled_last(metric):
    found = scored_once("watermark")
    means = {name: np.nanmean(scores) for name, scores in found.scores[metric].items()}
    order = ranking(found, metric)
    assert order[0] == "true", means
    order.remove("strokes")  # which are as wrong as what is shuffled
    assert means["shuffled"] == 0 if metric == "average_increase" else order[-1] == "shuffled", means
    # All are behind the truth by the interval.
    apart = found.differences(confidence=0.99)
    sign = 1 if found.better[metric] == "lower" else -1
    for at in np.flatnonzero((apart["metric"] == metric) & (apart["other"] == "true")):
        assert min(sign * apart["low"][at], sign * apart["high"][at]) > 0, means


def test_a_network_that_learned_a_watermark_is_explained_by_it():
    model, x, _ = with_a_watermark()
    mask = np.zeros([8, 8, 1], bool)
    mask[:2, :2] = True
    found = Explainer(model).evaluate(
        x,
        methods=["integrated_gradients", "occlusion", "random"],
        metrics=[("pointing_game", {"mask": mask}), "deletion"],
        progress=False,
    )
    hits = {name: scores.mean() for name, scores in found.scores["pointing_game"].items()}
    assert min(hits["integrated_gradients"], hits["occlusion"]) > 0.9 > 0.2 > hits["random"]
