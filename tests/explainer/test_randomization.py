"""Explainer.randomization_test: what shuffled weights do to explanations, and that they come back."""

import builtins

import numpy as np
import pytest
import tensorflow as tf
from explained import CLASSES, IMAGES, KERAS, X, image_model, new_classifier, two_branches
from scipy import stats

import igtf as ig
from igtf import Explainer


def values(model):
    return [np.array(v) for v in model.variables]


@KERAS
def test_layers_are_shuffled_from_the_top_and_come_back(keras):
    model = new_classifier(keras)
    before = values(model)
    found = Explainer(model, "gradient_times_input").randomization_test(X, CLASSES, progress=False)
    assert found["layers"] == ["logits", "batch_normalization", "hidden"] or (
        found["layers"][0] == "logits" and found["layers"][-1] == "hidden" and len(found["layers"]) == 3
    )
    assert found["rank_correlation"].shape == found["of_sizes"].shape == (3, len(X))
    for one, other in zip(before, values(model)):
        np.testing.assert_array_equal(one, other)


def test_the_correlations_are_those_of_the_explanations_of_shuffled_networks():
    model, other = new_classifier(), new_classifier()
    explainer = Explainer(model, "saliency")
    found = explainer.randomization_test(X, CLASSES, layers=["logits", "hidden"], seed=3, progress=False)
    before = explainer.explain(X, CLASSES, progress=False)
    draws = np.random.default_rng(3)
    for i, name in enumerate(["logits", "hidden"]):
        layer = other.get_layer(name)
        layer.set_weights([draws.permutation(w.ravel()).reshape(w.shape) for w in layer.get_weights()])
        after = Explainer(other, "saliency").explain(X, CLASSES, progress=False)
        wanted = [stats.spearmanr(*pair)[0] for pair in zip(before, after)]
        np.testing.assert_allclose(found["rank_correlation"][i], wanted, atol=1e-6)
    assert found["layers"] == ["logits", "hidden"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_weights_come_back_whatever_happens_in_between(error):
    model = new_classifier()
    before, changed, calls = values(model), [], []

    class Broken(Explainer):
        def explain(self, *arguments, **options):
            calls.append(1)
            if len(calls) == 3:
                changed.append(np.abs(values(model)[0] - before[0]).max())
                raise error("in the middle")
            return super().explain(*arguments, **options)

    with pytest.raises(error, match="in the middle"):
        Broken(model, "saliency").randomization_test(X, CLASSES, layers=["hidden", "logits"], progress=False)
    assert changed[0] > 0
    for one, other in zip(before, values(model)):
        np.testing.assert_array_equal(one, other)


def test_what_is_predicted_is_what_the_network_itself_predicts():
    model = new_classifier()
    explainer = Explainer(model, "gradient_times_input")
    predicted = model.predict(X, verbose=0).argmax(1)
    options = dict(layers=["logits"], progress=False)
    wanted = explainer.randomization_test(X, predicted, **options)["rank_correlation"]
    for targets in (None, "predicted"):
        found = explainer.randomization_test(X, targets, **options)["rank_correlation"]
        np.testing.assert_allclose(found, wanted)
    data = tf.data.Dataset.from_tensor_slices((X, predicted)).batch(4)
    np.testing.assert_allclose(explainer.randomization_test(data, **options)["rank_correlation"], wanted)
    alone = tf.data.Dataset.from_tensor_slices(X).batch(4)
    with pytest.raises(ValueError, match="inputs is a data set without targets"):
        explainer.randomization_test(alone, **options)


def test_explanations_that_do_not_look_at_the_weights_do_not_change():
    model = new_classifier()
    blind = Explainer(model, "gradient_times_input", operator=lambda model, x, _: tf.reduce_sum(x**2, 1))
    found = blind.randomization_test(X, progress=False)
    np.testing.assert_allclose(found["rank_correlation"], 1)


def test_explanations_of_a_trained_network_change_and_guided_backpropagation_hardly():
    """What the paper found, on digits: edges stay where nothing is learned."""
    from sklearn.datasets import load_digits

    tf.keras.utils.set_random_seed(0)
    digits = load_digits()
    x = (digits.images[..., None] / 16).astype("float32")
    layers = tf.keras.layers
    stack = [layers.Input((8, 8, 1)), layers.Conv2D(16, 3, activation="relu")]
    stack += [layers.Conv2D(16, 3, activation="relu"), layers.Flatten(), layers.Dense(10, "softmax")]
    model = tf.keras.Sequential(stack)
    model.compile(tf.keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x[200:], digits.target[200:], epochs=5, verbose=0)
    found = {
        name: Explainer(model, name, logits=True)
        .randomization_test(x[:50], digits.target[:50], layers=[-1], progress=False)["rank_correlation"]
        .mean()
        for name in ("gradient_times_input", "guided_backpropagation")
    }
    assert abs(found["gradient_times_input"]) < 0.3
    assert found["guided_backpropagation"] > 0.15 + abs(found["gradient_times_input"])


def ssim(a, b):
    """Wang et al. 2004, windows of 3 x 3, the mean over those that lie inside."""
    found = []
    for i in range(1, a.shape[0] - 1):
        for j in range(1, a.shape[1] - 1):
            u, v = (m[i - 1 : i + 2, j - 1 : j + 2].ravel() for m in (a, b))
            (uu, uv), (_, vv) = np.cov(u, v)
            light = (2 * u.mean() * v.mean() + 0.02**2) / (u.mean() ** 2 + v.mean() ** 2 + 0.02**2)
            found.append(light * (2 * uv + 0.06**2) / (uu + vv + 0.06**2))
    return np.mean(found)


def test_images_have_a_structural_similarity():
    model = image_model()
    explainer = Explainer(model, "saliency")
    found = explainer.randomization_test(IMAGES, 0, layers=[-1], ssim=True, seed=1, progress=False)
    assert found["ssim"].shape == (1, len(IMAGES))
    before = explainer.explain(IMAGES, 0, progress=False).sum(-1)
    layer, draws = model.layers[-1], np.random.default_rng(1)
    kept = layer.get_weights()
    layer.set_weights([draws.permutation(w.ravel()).reshape(w.shape) for w in kept])
    after = explainer.explain(IMAGES, 0, progress=False).sum(-1)
    layer.set_weights(kept)
    wanted = [ssim(a / abs(a).max(), b / abs(b).max()) for a, b in zip(before, after)]
    np.testing.assert_allclose(found["ssim"][0], wanted, atol=1e-5)
    with pytest.raises(ValueError, match="ssim is True for attributions ndarray .*expected those of images"):
        Explainer(new_classifier(), "saliency").randomization_test(X, 0, ssim=True, progress=False)


def test_without_scikit_image_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name.startswith("skimage"):
            raise ImportError(name)
        return real(name, *arguments)

    model = image_model()
    before = values(model)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="ssim needs scikit-image. Install it: pip install scikit-image"):
        Explainer(model, "saliency").randomization_test(IMAGES, 0, ssim=True, progress=False)
    for one, other in zip(before, values(model)):
        np.testing.assert_array_equal(one, other)


def test_networks_without_layers_name_their_variables():
    w = tf.Variable(np.random.default_rng(0).normal(size=(6, 3)), dtype=tf.float32)
    explainer = Explainer(lambda x: tf.tanh(x @ w), "saliency")
    with pytest.raises(ValueError, match="no layer with weights was found"):
        explainer.randomization_test(X, 0, progress=False)
    with pytest.raises(TypeError, match="layers holds a int, expected variables"):
        explainer.randomization_test(X, 0, layers={"w": [3]}, progress=False)
    found = explainer.randomization_test(X, 0, layers={"w": [w]}, progress=False)
    assert found["layers"] == ["w"] and np.abs(found["rank_correlation"]).max() < 1


def test_several_inputs_have_one_correlation_and_all_is_refused():
    found = Explainer(two_branches(), "saliency").randomization_test(
        [X[:, :3], X[:, 3:5]], {"kind": 1}, progress=False
    )
    assert found["rank_correlation"].shape == (4, len(X))
    with pytest.raises(ValueError, match="targets is 'all', expected one output"):
        Explainer(new_classifier(), "saliency").randomization_test(X, "all", progress=False)


def test_nested_models_shuffle_the_layers_inside_once():
    inner = new_classifier()
    model = tf.keras.Sequential([tf.keras.Input((6,)), inner, tf.keras.layers.Dense(2, name="last")])
    found = Explainer(model, "saliency").randomization_test(X, 0, progress=False)
    assert found["layers"][0] == "last" and found["layers"][-1] == "hidden" and len(found["layers"]) == 4
    assert ig.Explainer is Explainer
