"""Five small networks, trained on real handwritten digits, for the benchmarks to explain.

`python benchmarks/networks.py` trains all of them and prints their accuracy on held-out digits.
Trained weights are kept in `build/benchmarks/`; delete that folder to train again.
"""

import argparse
import functools

import measure
import numpy as np
import tensorflow as tf

import keras  # isort: skip  (after TensorFlow, whose log level is set by then)

SEED = 0
VERSION = 1  # of the architectures: cached weights of another version are not loaded


@functools.cache
def digits():
    """scikit-learn's handwritten digits as 28x28 images with values in [0, 1].

    Returns:
      `(train_x [1437, 28, 28, 1], train_y [1437], test_x [360, 28, 28, 1], test_y [360])`.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = tf.image.resize(data.images[..., None] / 16.0, [28, 28]).numpy().astype(np.float32)
    order = np.random.default_rng(SEED).permutation(len(images))
    images, labels = images[order], data.target[order]
    return images[:1437], labels[:1437], images[1437:], labels[1437:]


def rows(count=32):
    """The images that the benchmarks explain: the first `count` held-out digits."""
    return digits()[2][:count]


def mlp(x):
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(128, activation="relu")(x)
    x = keras.layers.Dense(64, activation="relu")(x)
    return keras.layers.Dense(10, activation="softmax")(x)


def cnn(x):
    for filters in (16, 32):
        x = keras.layers.Conv2D(filters, 3, padding="same")(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    return keras.layers.Dense(10, activation="softmax")(x)


def conv_bn(x):
    for filters in (16, 24, 32):
        for _ in range(2):
            x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
            x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    return keras.layers.Dense(10, activation="softmax")(x)


def inverted_residuals(x):
    x = _conv_bn_relu6(x, keras.layers.Conv2D(16, 3, 2, padding="same", use_bias=False))
    for filters, stride in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1)):
        y = _conv_bn_relu6(x, keras.layers.Conv2D(4 * x.shape[-1], 1, use_bias=False))
        depthwise = keras.layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)
        y = _conv_bn_relu6(y, depthwise)
        y = keras.layers.Conv2D(filters, 1, use_bias=False)(y)
        y = keras.layers.BatchNormalization(momentum=0.9)(y)
        x = keras.layers.Add()([x, y]) if x.shape == y.shape else y
    x = _conv_bn_relu6(x, keras.layers.Conv2D(64, 1, use_bias=False))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.layers.Dense(10, activation="softmax")(x)


def _conv_bn_relu6(x, convolution):
    return keras.layers.ReLU(6.0)(keras.layers.BatchNormalization(momentum=0.9)(convolution(x)))


def transformer(x):
    """A vision transformer: 16 patches of 7x7 pixels, two pre-norm blocks, mean pooling."""
    x = keras.layers.Conv2D(32, 7, 7)(x)
    x = keras.layers.Reshape([16, 32])(x)
    x = Position()(x)
    for _ in range(2):
        y = keras.layers.LayerNormalization()(x)
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(4, 8)(y, y)])
        y = keras.layers.LayerNormalization()(x)
        y = keras.layers.Dense(64, activation="gelu")(y)
        x = keras.layers.Add()([x, keras.layers.Dense(32)(y)])
    x = keras.layers.LayerNormalization()(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.layers.Dense(10, activation="softmax")(x)


class Position(keras.layers.Layer):
    """Adds a learned vector to each position of a sequence."""

    def build(self, shape):
        self.positions = self.add_weight(shape=shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.positions


# name: (network, what it is, epochs)
NETWORKS = {
    "mlp": (mlp, "MLP 128-64, ReLU", 15),
    "cnn": (cnn, "CNN, 2 x (conv, ReLU, max pool)", 12),
    "conv_bn": (conv_bn, "6 x (conv, BN, ReLU), 3 max pools", 6),
    "inverted_residuals": (inverted_residuals, "inverted residuals, ReLU6, depthwise", 12),
    "transformer": (transformer, "transformer, LayerNorm, GELU", 25),
}
RELU_NETWORKS = ("mlp", "cnn", "conv_bn", "inverted_residuals")


def build(name, dtype="float32"):
    """The untrained network as a Keras model, `[B, 28, 28, 1]` -> probabilities `[B, 10]`."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        x = keras.Input([28, 28, 1], dtype=dtype)
        return keras.Model(x, NETWORKS[name][0](x), name=name)
    finally:
        keras.config.set_dtype_policy(policy)


def train(name):
    """Trains the network from a fixed seed."""
    train_x, train_y, _, _ = digits()
    keras.utils.set_random_seed(SEED)
    model = build(name)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(train_x, train_y, batch_size=32, epochs=NETWORKS[name][2], verbose=0)
    return model


def trained(name, dtype="float32"):
    """The trained network, from `build/benchmarks/` where it has been trained before."""
    path = measure.BUILD / f"{name}-{VERSION}.weights.h5"
    if not path.exists():
        measure.progress(f"training {name}")
        model = train(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save_weights(path)
    model = build(name)
    model.load_weights(path)
    if dtype != "float32":
        weights, model = model.get_weights(), build(name, dtype)
        model.set_weights(weights)
    return model


def accuracy(model):
    """The share of held-out digits that the network classifies rightly."""
    _, _, test_x, test_y = digits()
    return float(np.mean(np.argmax(model(test_x), axis=1) == test_y))


def targets(model, x):
    """The classes to explain: for each row the one that the network predicts."""
    return np.argmax(model(x), axis=1)


def reference(name, count=32, steps=6400):
    """The attributions of the predicted class, zero baseline, that errors are measured against.

    A middle Riemann sum of `steps` points in float64, with nothing of this project in it: a
    `GradientTape` over the Keras model, point by point. Kept in `build/benchmarks/`.

    Returns:
      float64 array `[count, 28, 28, 1]`.
    """
    path = measure.BUILD / f"{name}-{VERSION}-reference-{count}-{steps}.npy"
    if path.exists():
        return np.load(path)
    model, x = trained(name, "float64"), rows(count).astype(np.float64)
    chosen = tf.one_hot(targets(model, x), 10, dtype=tf.float64)

    @tf.function(input_signature=[tf.TensorSpec(x.shape, tf.float64)])
    def gradient(point):
        with tf.GradientTape() as tape:
            tape.watch(point)
            output = tf.reduce_sum(chosen * model(point, training=False))
        return tape.gradient(output, point)

    total = np.zeros_like(x)
    for step in range(steps):
        if step % (steps // 8) == 0:
            measure.progress(f"reference of {name}: {step} of {steps} steps")
        total += gradient((step + 0.5) / steps * x).numpy()
    result = total / steps * x
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, result)
    return result


def error(attributions, expected):
    """Mean over rows of the relative L1 error."""
    axes = tuple(range(1, expected.ndim))
    missed = np.abs(np.asarray(attributions, np.float64) - expected).sum(axes)
    return float(np.mean(missed / np.abs(expected).sum(axes)))


def in_v1_graph(model):
    """The network as a function that can be called in any graph, weights frozen into it.

    Keras 3 models cannot be called in a `tf.compat.v1` graph; the GraphDef they trace to can be
    imported there as often as one likes, each time reading another tensor.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec([None, 28, 28, 1], model.inputs[0].dtype, name="images")
    traced = tf.function(lambda images: model(images, training=False)).get_concrete_function(spec)
    frozen = convert_variables_to_constants_v2(traced)
    definition, source = frozen.graph.as_graph_def(), frozen.inputs[0].op.name
    result = frozen.outputs[0].name

    def network(x):
        return tf.import_graph_def(definition, {source: x}, [result], name="network")[0]

    return network


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    table = []
    for name, (_, title, _) in NETWORKS.items():
        model = trained(name)
        table.append((title, f"{model.count_params():,}", f"{100 * accuracy(model):.1f} %"))
    print(measure.markdown(("network", "weights", "held-out accuracy"), table))


if __name__ == "__main__":
    main()
