"""Models, rows and ways to explain them, for the tests of the Explainer."""

import functools

import numpy as np
import tensorflow as tf
from reference import KERAS as KERAS
from reference import ONE_KERAS as ONE_KERAS
from reference import as_graph, randomize

import igtf as ig
from igtf import Explainer

RNG = np.random.default_rng(5)
ROWS = 11  # batches of 4 leave a smaller one
X = RNG.normal(size=(ROWS, 6)).astype(np.float32)
IMAGES = RNG.normal(size=(ROWS, 5, 4, 3)).astype(np.float32)
SERIES = RNG.normal(size=(ROWS, 7, 2)).astype(np.float32)
CLASSES = RNG.integers(0, 3, ROWS)
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]


@functools.cache
def classifier(keras=tf.keras, softmax=True):
    """One for all tests that leave it as it is."""
    return new_classifier(keras, softmax)


def new_classifier(keras=tf.keras, softmax=True):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "relu", name="hidden"),
            layers.Dropout(0.5),
            layers.BatchNormalization(),
            layers.Dense(3, name="logits"),
            *([layers.Softmax(name="softmax")] if softmax else []),
        ]
    )
    return randomize(model)


@functools.cache
def two_branches(keras=tf.keras):
    layers = keras.layers
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    merged = layers.Concatenate()([layers.Dense(4, "relu")(left), layers.Dense(4, "tanh")(right)])
    outputs = [layers.Dense(2, name="kind")(merged), layers.Dense(1, name="size")(merged)]
    return randomize(keras.Model([left, right], outputs))


# Each a model for one of the three shapes, with smooth and kinked parts.
def image_model():
    layers = tf.keras.layers
    return randomize(
        tf.keras.Sequential(
            [
                tf.keras.Input((5, 4, 3)),
                layers.Conv2D(4, 3, activation="tanh", padding="same"),
                layers.AveragePooling2D(2, padding="same"),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
    )


def series_model():
    layers = tf.keras.layers
    return randomize(
        tf.keras.Sequential(
            [
                tf.keras.Input((7, 2)),
                layers.Conv1D(4, 3, activation="sigmoid"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(3),
            ]
        )
    )


def nested(keras):
    """A model whose hidden layers are attributes, list members and dict values of a layer of its own."""
    layers = keras.layers

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(4, "relu", name="first")
            self.more = [layers.Dense(5, "tanh", name="second")]
            self.named = {"third": layers.Dense(3, name="third")}

        def call(self, x):
            return self.named["third"](self.more[0](self.first(x)))

    x, block = keras.Input((6,)), Block()
    return randomize(keras.Model(x, layers.Dense(2)(block(x)))), block


def questions():
    """A model of images and the ids of words, and some of both."""
    layers = tf.keras.layers
    image = tf.keras.Input((5, 4, 3), name="image")
    question = tf.keras.Input((4,), dtype="int32", name="question")
    seen = layers.Flatten()(layers.Conv2D(2, 3, activation="tanh", name="conv")(image))
    read = layers.Flatten()(layers.Embedding(9, 3, name="words")(question))
    merged = layers.Concatenate()([seen, layers.Dense(4, "tanh")(read)])
    model = randomize(tf.keras.Model([image, question], layers.Dense(3, "softmax")(merged)))
    return model, IMAGES, RNG.integers(1, 9, (ROWS, 4))


def explain(model, inputs, options=None, **arguments):
    names = ("targets", "baselines", "return_delta", "return_error", "allow_nan")
    called = {name: arguments.pop(name) for name in names if name in arguments}
    arguments.setdefault("batch_size", 4)
    # One that was made with the same arguments has traced the model already.
    key = id(model), repr((options, arguments))
    _, made = explainers.pop(key, None) or (model, Explainer(model, method_options=options, **arguments))
    explainers[key] = model, made
    if len(explainers) > 8:
        explainers.pop(next(iter(explainers)))
    return made.explain(inputs, progress=False, **called)


explainers = {}  # the last ones, each beside its model


def by_hand(model, x, build=ig.integrated_gradients, weights=ONE_HOT, **options):
    """The graph function itself, on all rows at once."""
    make = attribution if "baselines" not in options else attribution.__wrapped__
    return as_graph(make(model, build, tuple(options.items())), [x, np.asarray(weights, x.dtype)], False)


@functools.lru_cache(maxsize=8)
def attribution(model, build, options):
    """The same function for the same arguments, so that `as_graph` traces it once."""
    return lambda x, weights: build(model(x, training=False), x, grad_ys=weights, **dict(options))
