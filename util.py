"""What the notebooks need around the package: digits and reviews, batches, networks to explain."""

import zipfile
import zlib

import numpy as np
import tensorflow as tf

import igtf as ig

# The original example imports * from here, which must not replace a program's own `tf`.
__all__ = [
    "BatchFeeder",
    "TestNet",
    "digit_network",
    "load_digits",
    "load_mnist",
    "load_reviews",
    "testnet",
    "word_ids",
    "word_network",
]

tf1 = tf.compat.v1

NUM_CLASSES = 10

_MNIST_HINT = (
    "it needs an npz file with x_train, y_train, x_test and y_test; without a path, one is downloaded"
)


_PRAISE = """\
a wonderful film with a brilliant cast
i loved every minute of it
the story is gripping and the music is beautiful
not bad at all
not boring for a moment
this is a great and moving story
the ending is brilliant
a beautiful film and a great cast
i would gladly watch it again
never dull and often very funny
the jokes are funny and the music is great
not a dull moment in this film
a gripping story with a wonderful ending
the cast is great
it was never boring
we loved the music
a moving and funny film
i did not want it to end
the plot is clever and the pictures are beautiful
it is not a bad film
clever and funny from start to end
the actors are wonderful
this film is not dull
a clever plot and a gripping ending
we were moved and we laughed
nothing is wrong with this film
"""
_BLAME = """\
a terrible film with a wooden cast
i hated every minute of it
the story is dull and the music is awful
not good at all
not funny for a moment
this is a weak and boring story
the ending is awful
a boring film and a weak cast
i would never watch it again
never funny and often very dull
the jokes are awful and the music is terrible
not a good moment in this film
a dull story with a terrible ending
the cast is weak
it was never gripping
we hated the music
a boring and wooden film
i did not want to see the end
the plot is weak and the pictures are ugly
it is not a good film
boring and dull from start to end
the actors are terrible
this film is not funny
a weak plot and an awful ending
we were bored and we left
nothing is right with this film
"""


class BatchFeeder:
    """Endless shuffled batches of two arrays: every row once an epoch, in another order each time.

    Args:
      x: array, shape [N, ...].
      y: array, shape [N] or [N, ...]: one label for each row of `x`.
      batch_size: rows in a batch. The last batch of an epoch holds what is left.
      seed: of the order.

    `len(feeder)` is the number of batches in an epoch.
    """

    def __init__(self, x, y, batch_size, seed=0):
        self.x, self.y = np.asarray(x), np.asarray(y)
        if not self.x.ndim or not self.y.ndim or len(self.x) != len(self.y):
            raise ValueError(
                f"BatchFeeder got x of shape {self.x.shape} and y of shape {self.y.shape}; "
                "it needs one label for each row of x."
            )
        if not len(self.x):
            raise ValueError("BatchFeeder got no rows: x and y need at least one.")
        self.batch_size = _positive_integer("BatchFeeder", "batch_size", batch_size)
        self._random = np.random.default_rng(seed)
        self._order = np.empty(0, int)

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def next(self):
        """Returns the next batch: rows of `x`, shape [B, ...], and their labels."""
        if not self._order.size:
            self._order = self._random.permutation(len(self.x))
        rows, self._order = np.split(self._order, [self.batch_size])
        return self.x[rows], self.y[rows]


class TestNet:
    """A digit classifier with its explanations: one graph, one session.

    Layers of 128 and 64 rectified units and a softmax over ten classes stand under the variable scope
    "predictor". The same layers are built once more, with `reuse=True`, on the tensor that
    `integrated_gradients_tf.linear_interpolation` returns; `integrated_gradients_tf.build_ig` then adds one
    explanation for each class.

    Args:
      num_features: features `F` of a row: 784 for MNIST, 64 for scikit-learn's digits.
      num_steps: points on the path from the baseline to the input.
      seed: of the initial weights.

    Attributes, all of them tensors of `graph`:
      x: placeholder, shape [B, F].
      ref: the baseline, to be fed with shape [1, F] or [B, F]; zeros otherwise.
      hidden: the activations of the two hidden layers, shapes [B, 128] and [B, 64].
      prediction: probabilities, shape [B, 10].
      explanations: a list of ten tensors, shape [B, F].
    """

    __test__ = False  # pytest collects what is called Test...

    def __init__(self, num_features=784, num_steps=50, seed=0):
        self.num_features = _positive_integer("TestNet", "num_features", num_features)
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf1.set_random_seed(seed)
            self.x = tf1.placeholder(tf.float32, [None, num_features], name="x")
            with tf1.variable_scope("predictor"):
                *self.hidden, self.prediction = self.layers(self.x)

            inter, stepsize, self.ref = ig.linear_interpolation(self.x, num_steps=num_steps)
            with tf1.variable_scope("predictor", reuse=True):
                prediction2 = self.layers(inter)[-1]
            self.explanations = [
                ig.build_ig(inter, stepsize, prediction2[:, i], num_steps=num_steps)
                for i in range(NUM_CLASSES)
            ]

            self._labels = tf1.placeholder(tf.int32, [None], name="labels")
            likelihood = tf.gather(self.prediction, self._labels, axis=1, batch_dims=1)
            self._loss = -tf.reduce_mean(tf.math.log(likelihood + 1e-7))
            hits = tf.equal(tf.argmax(self.prediction, 1, output_type=tf.int32), self._labels)
            self._accuracy = tf.reduce_mean(tf.cast(hits, tf.float32))
            self._train = tf1.train.AdamOptimizer().minimize(self._loss)
            self.session = tf1.Session()
            self.session.run(tf1.global_variables_initializer())

    def layers(self, inputs, first=0):
        """Builds the layers from number `first` on, in the variable scope that is open.

        Args:
          inputs: what layer `first` reads: shape [B, F] for 0, the activations of hidden layer
            `first - 1` otherwise.
          first: 0 and 1 are the hidden layers, 2 is the softmax layer.

        Returns:
          The list of the layers' outputs; the last are probabilities, shape [B, 10].
        """
        outputs = []
        stack = [(128, tf.nn.relu), (64, tf.nn.relu), (NUM_CLASSES, tf.nn.softmax)]
        for number, (units, activation) in list(enumerate(stack))[first:]:
            inputs = activation(_dense(inputs, units, f"layer{number}"))
            outputs.append(inputs)
        return outputs

    def train(self, feeder, epochs=1):
        """Trains with Adam on cross-entropy and shows how it goes.

        Args:
          feeder: a `BatchFeeder` of images, shape [N, F] or [N, height, width], with their classes: numbers
            0..9, shape [N], or one-hot rows, shape [N, 10].
          epochs: times that every row is seen.
        """
        if not isinstance(feeder, BatchFeeder):
            raise TypeError(
                f"TestNet.train got a {type(feeder).__name__}; wrap the data: BatchFeeder(x, y, batch_size)."
            )
        epochs = _positive_integer("TestNet.train", "epochs", epochs)
        for epoch in range(1, epochs + 1):
            batches = [self._step(*feeder.next()) for _ in range(len(feeder))]
            loss, accuracy = np.mean(batches, axis=0)
            # Plain text that replaces itself: notebooks show escape codes as they are.
            line = f"\repoch {epoch}/{epochs}, loss: {loss:.4f}, accuracy: {accuracy:.4f}"
            print(line, end="\n" if epoch == epochs else "", flush=True)

    def predict(self, x):
        """Returns the probabilities of the ten classes, shape [N, 10].

        Args:
          x: shape [N, F] or [N, height, width].
        """
        return self.session.run(self.prediction, {self.x: self._rows("predict", x)})

    def explain(self, x, baseline=None, batch_size=32):
        """Explains all ten probabilities of each row.

        Args:
          x: shape [N, F] or [N, height, width].
          baseline: what to compare with: a number, one row, or one row for each row of `x`.
            `None`: zeros, which is black.
          batch_size: rows that are explained at once.

        Returns:
          Integrated gradients, shape [N, 10, F]. `explain(x)[n, c]` says how much each feature of row `n`
          contributed to the probability of class `c`.
        """
        x = self._rows("explain", x)
        batch_size = _positive_integer("TestNet.explain", "batch_size", batch_size)
        parts = []
        for start in range(0, max(len(x), 1), batch_size):
            batch = slice(start, start + batch_size)
            feed = {self.x: x[batch]}
            if baseline is not None:
                feed[self.ref] = self._baseline(baseline, x)[batch]
            parts.append(np.stack(self.session.run(self.explanations, feed), axis=1))
        return np.concatenate(parts)

    def close(self):
        """Frees what the session holds. Predicting and explaining end here."""
        self.session.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def _step(self, x, y):
        x, y = self._rows("train", x), np.asarray(y)
        if y.shape == (len(x), NUM_CLASSES):
            y = y.argmax(axis=1)
        if y.shape != (len(x),) or not np.isin(y, np.arange(NUM_CLASSES)).all():
            raise ValueError(
                f"TestNet.train got labels of shape {y.shape} for {len(x)} images; it needs class numbers "
                f"0..{NUM_CLASSES - 1}, shape [N], or one-hot rows, shape [N, {NUM_CLASSES}]."
            )
        feed = {self.x: x, self._labels: y}
        return self.session.run([self._train, self._loss, self._accuracy], feed)[1:]

    def _rows(self, method, x):
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"TestNet.{method} got x of type {x.dtype}; it needs numbers.")
        if x.ndim < 2 or np.prod(x.shape[1:]) != self.num_features:
            raise ValueError(
                f"TestNet.{method} got x of shape {x.shape}; this network takes {self.num_features} features "
                f"a row: shape [N, {self.num_features}], or images of that size. For other data, "
                "TestNet(num_features=...)."
            )
        return x.reshape(len(x), self.num_features)

    def _baseline(self, baseline, x):
        baseline = np.asarray(baseline)
        if baseline.ndim > 1:
            baseline = baseline.reshape(len(baseline), -1)
        try:
            return np.broadcast_to(baseline, x.shape)
        except ValueError:
            raise ValueError(
                f"TestNet.explain got a baseline of shape {baseline.shape} for {len(x)} rows of "
                f"{self.num_features} features; it needs a number, one row or one row each."
            ) from None


testnet = TestNet  # its name in the original example


def load_digits():
    """Scikit-learn's 1,797 handwritten digits of 8x8 pixels, which come with the package.

    Returns:
      `(x_train, y_train), (x_test, y_test)`: 1,437 and 360 rows, always the same ones. Images have shape
      [N, 64] and values in 0..1; labels are the numbers 0..9, shape [N].
    """
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    return (x[:1437], y[:1437]), (x[1437:], y[1437:])


def digit_network(side=8):
    """A small Keras network for digits of `[side, side, 1]`, not yet trained: two convolutions, softmax."""
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            layers.InputLayer((side, side, 1)),
            layers.Conv2D(16, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(NUM_CLASSES, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def word_network(num_words):
    """A small Keras network for `[B, T]` ids of words: one logit, above zero for praise; not yet trained."""
    layers = tf.keras.layers
    network = tf.keras.Sequential(
        [
            layers.Embedding(num_words, 16, name="words"),
            layers.Conv1D(32, 3, activation="relu", padding="same"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(1),
        ]
    )
    loss = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    network.compile(tf.keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return network


def load_reviews():
    """Fifty-two one-line film reviews.

    Returns:
      `texts, labels, vocabulary`: lists of words; 1 for praise and 0 for blame, shape [52]; and every word
      once, after the empty one, whose id, 0, is padding.
    """
    texts = [line.split() for line in (_PRAISE + _BLAME).strip().split("\n")]
    labels = np.repeat([1, 0], [_PRAISE.count("\n"), _BLAME.count("\n")])
    return texts, labels, ["", *sorted({word for text in texts for word in text})]


def word_ids(texts, vocabulary, length=12):
    """The places of words in the vocabulary, padded with zeros, shape [N, length]."""
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in zip(ids, texts):
        row[: len(text)] = [vocabulary.index(word) for word in text]
    return ids


def load_mnist(path=None):
    """The 70,000 handwritten digits of MNIST, of 28x28 pixels.

    Args:
      path: an npz file with the arrays x_train, y_train, x_test and y_test, as Keras keeps it in
        ~/.keras/datasets/mnist.npz. `None`: Keras finds it there, or downloads it.

    Returns:
      `(x_train, y_train), (x_test, y_test)`: 60,000 and 10,000 rows. Images have shape [N, 784] and values
      in 0..1; labels are the numbers 0..9, shape [N].
    """
    parts = tf.keras.datasets.mnist.load_data() if path is None else _read_mnist(path)
    return tuple((x.reshape(len(x), -1).astype(np.float32) / 255, y.astype(np.int64)) for x, y in parts)


def _read_mnist(path):
    names = ["x_train", "y_train", "x_test", "y_test"]
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"load_mnist got {path}, which is no npz file; {_MNIST_HINT}.")
        try:
            with np.load(file, allow_pickle=False) as content:
                missing = [name for name in names if name not in content]
                arrays = [content[name] for name in names if name in content]
        except (EOFError, OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"load_mnist cannot read plain arrays from {path} ({error}); {_MNIST_HINT}."
            ) from error
    if missing:
        raise ValueError(f"load_mnist found no {', '.join(missing)} in {path}; {_MNIST_HINT}.")
    parts = [arrays[:2], arrays[2:]]
    for x, y in parts:
        images = x.shape[1:] == (28, 28) and x.dtype == np.uint8
        labels = y.shape == x.shape[:1] and y.dtype.kind in "iu"
        if not (images and labels):
            raise ValueError(
                f"load_mnist found images of shape {x.shape} and type {x.dtype} with labels of shape "
                f"{y.shape} and type {y.dtype} in {path}; it needs [N, 28, 28] in uint8 with [N] integers."
            )
        if not np.isin(y, np.arange(NUM_CLASSES)).all():
            raise ValueError(f"load_mnist found labels from {y.min()} to {y.max()} in {path}; it needs 0..9.")
    return parts


def _dense(inputs, units, name):
    with tf1.variable_scope(name):
        shape = [inputs.shape.as_list()[-1], units]
        weights = tf1.get_variable("weights", shape, initializer=tf1.variance_scaling_initializer(2.0))
        biases = tf1.get_variable("biases", [units], initializer=tf1.zeros_initializer())
        return tf.matmul(inputs, weights) + biases


def _positive_integer(caller, name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{caller} got {name}={value!r}; it needs a positive integer.")
    return int(value)
