"""Groups of features, maps of layers and areas of images, by the Explainer."""

import numpy as np
import pytest
import tensorflow as tf
from reference import as_graph, assert_close, randomize

import igtf as ig
from igtf import Explainer, visualization

layers = tf.keras.layers
IMAGES = np.random.default_rng(0).random([5, 16, 12, 3]).astype(np.float32)


def convolutional():
    stack = [
        layers.Input((16, 12, 3)),
        layers.Conv2D(4, 3, activation="relu", name="early"),
        layers.MaxPooling2D(),
        layers.Conv2D(5, 3, activation="relu", name="late"),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Dense(3),
        layers.Softmax(),
    ]
    return randomize(tf.keras.Sequential(stack))


class Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.inside = convolutional()

    def call(self, x):
        return self.inside(x)


def explain(model, **options):
    return Explainer(model, batch_size=2, **options).explain(IMAGES, progress=False)


class TestMapsOfLayers:
    @pytest.mark.parametrize("method", ["grad_cam", "layer_cam"])
    def test_the_last_layer_with_spatial_axes_is_found(self, method):
        model = convolutional()
        found = explain(model, method=method, logits=True)
        assert found.shape == (5, 16, 12, 1)

        def build(x):
            layer = model.get_layer("late")(model.layers[1](model.layers[0](x)))
            logits = model.layers[5](model.layers[4](model.layers[3](layer)))
            chosen = tf.one_hot(tf.argmax(logits, 1), 3)
            return getattr(ig, method)(logits, layer, x, chosen)

        assert_close(found, as_graph(build, [IMAGES], False), 1e-5)
        assert_close(explain(model, method=method, logits=True, layer="late"), found, 1e-6)
        assert np.abs(explain(model, method=method, logits=True, layer="early") - found).max() > 1e-3

    def test_it_is_found_inside_other_models(self):
        model = Subclassed()
        assert_close(explain(model, method="grad_cam"), explain(model.inside, method="grad_cam"), 1e-6)

    def test_places_that_a_layer_has_turned_are_no_map(self):
        stack = [
            layers.Conv2D(4, 3, name="late"),
            layers.Permute((2, 1, 3)),
            layers.Flatten(),
            layers.Dense(3),
        ]
        model = randomize(tf.keras.Sequential([layers.Input((16, 12, 3)), *stack]))
        found = explain(model, method="grad_cam")
        assert_close(found, explain(model, method="grad_cam", layer="late"), 1e-6)

    def test_every_class_has_its_map(self):
        model = convolutional()
        every = Explainer(model, "grad_cam").explain(IMAGES, "all", progress=False)
        assert every.shape == (5, 3, 16, 12, 1)
        assert_close(every[:, 2], Explainer(model, "grad_cam").explain(IMAGES, 2, progress=False), 1e-6)

    def test_images_of_bytes_and_a_second_input_are_no_obstacle(self):
        image, number = layers.Input((16, 12, 3), dtype="uint8"), layers.Input((4,))
        h = layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1 / 255)(image))
        h = layers.Concatenate()([layers.GlobalMaxPooling2D()(h), layers.Dense(2)(number)])
        model = randomize(tf.keras.Model([number, image], layers.Dense(2)(h)))
        found = Explainer(model, "grad_cam").explain(
            [np.ones([5, 4], np.float32), (255 * IMAGES).astype(np.uint8)], 0, progress=False
        )
        assert found.shape == (5, 16, 12, 1)

    def test_what_has_no_such_layer_is_refused(self):
        with pytest.raises(ValueError, match="layer is None and none was found .*expected one for grad_cam"):
            Explainer(lambda x: x[:, 0], "grad_cam").explain([[1.0, 2.0]], progress=False)
        with pytest.raises(ValueError, match="layer has shape .* expected as many axes of both for grad_cam"):
            explain(convolutional(), method="grad_cam", layer=-2)
        with pytest.raises(ValueError, match="layer asks for 2 tensors, expected one for grad_cam"):
            explain(convolutional(), method="grad_cam", layer=["early", "late"])
        with pytest.raises(ValueError, match="baselines were given to grad_cam"):
            Explainer(convolutional(), "grad_cam").explain(IMAGES, baselines=0.5)


class TestGroups:
    MASK = np.arange(16)[:, None, None] // 4

    @pytest.mark.parametrize("method", ["occlusion", "shapley_value_sampling", "kernel_shap"])
    def test_groups_are_explained_one_by_one_or_by_their_features(self, method):
        model = convolutional()
        options = {"method": method, "feature_mask": self.MASK}
        if method == "shapley_value_sampling":
            options["seed"] = 1
        features = explain(model, **options)
        groups = explain(model, per_group=True, **options)
        assert features.shape == IMAGES.shape and groups.shape == (5, 4)
        assert_close(features.reshape(5, 4, -1).sum(-1), groups, 1e-5)

    def test_groups_of_several_inputs_are_one_array_and_complete(self):
        left, right = layers.Input((3,), name="left"), layers.Input((2,), name="right")
        h = layers.Dense(6, activation="tanh")(layers.Concatenate()([left, right]))
        model = randomize(tf.keras.Model({"left": left, "right": right}, layers.Dense(1)(h)))
        data = {"left": np.ones([5, 3], np.float32), "right": np.full([5, 2], 2, np.float32)}
        mask = {"left": [0, 1, 1], "right": [1, 2]}
        explainer = Explainer(model, "kernel_shap", feature_mask=mask, per_group=True)
        groups, delta = explainer.explain(data, return_delta=True, progress=False)
        assert groups.shape == (5, 3)
        assert np.abs(delta).max() < 1e-5


class TestXrai:
    def test_attributions_from_black_and_white_are_ranked_by_segment(self):
        model = convolutional()
        black, white = (f(IMAGES, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
        maps = Explainer(model).explain(IMAGES, 1, np.stack([black, white]), progress=False).sum(-1)
        segments = [visualization.segment(image) for image in IMAGES]
        expected = [visualization.xrai(*pair) for pair in zip(maps, segments)]  # 5 * 12 / 224 pixels are none
        found = Explainer(model, batch_size=2).xrai(IMAGES, 1, progress=False)
        assert_close(found, np.stack(expected), 1e-5)
        assert_close(Explainer(model).xrai(IMAGES, 1, segments=segments, progress=False), found, 1e-5)

    def test_segments_of_large_images_are_widened_as_in_the_paper(self):
        image = np.random.default_rng(1).random([1, 48, 48, 1]).astype(np.float32)
        labels = np.arange(48)[:, None] // 12 + 0 * np.arange(48)
        found = Explainer(lambda x: tf.reduce_sum(x**2, [1, 2, 3])).xrai(
            image, None, 0.0, [labels], progress=False
        )
        assert_close(found[0], visualization.xrai(image[0] ** 2, labels, 1), 1e-5)

    def test_maps_of_layers_can_be_ranked_too(self):
        labels = [np.arange(16)[:, None] // 4 + 0 * np.arange(12)] * 5
        found = Explainer(convolutional(), "grad_cam").xrai(IMAGES, segments=labels, progress=False)
        expected = explain(convolutional(), method="grad_cam").reshape(5, 4, -1).mean(-1)
        assert_close(found[:, ::4, 0], expected, 1e-5)

    def test_what_are_no_images_is_refused(self):
        sums = Explainer(lambda x: tf.reduce_sum(x, 1))
        with pytest.raises(ValueError, match="Explainer.xrai: images is .*expected .N, H, W."):
            sums.xrai(np.ones([2, 3], np.float32), progress=False)
        with pytest.raises(ValueError, match="Explainer.xrai: images is .*one output"):
            Explainer(convolutional()).xrai(IMAGES, "all", progress=False)
        with pytest.raises(ValueError, match="segments has 2 entries, expected 5"):
            Explainer(convolutional()).xrai(IMAGES, segments=[0, 1], progress=False)
        with pytest.raises(TypeError, match="images is a data set"):
            sums.xrai(tf.data.Dataset.from_tensor_slices(IMAGES))
