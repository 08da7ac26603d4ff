"""Training on attributions: gradients beside finite differences, priors in every kind of training loop."""

import numpy as np
import pytest
import tensorflow as tf
from shared_networks import BASELINE, FEATURES, OUT, SPURIOUS, W2, W, X, trapped_rows

import igtf as ig
from igtf.keras import AttributionPenalty

v1 = tf.compat.v1
RNG = np.random.default_rng(3)
OUTSIDE = np.eye(FEATURES, dtype="float32")[SPURIOUS]

TRAIN, MISLEADING = trapped_rows(RNG, 200, False), trapped_rows(RNG, 400, True)


def outside(attributions):
    """The prior: attribution of the feature that must not matter."""
    return tf.reduce_mean(tf.abs(attributions) * tf.constant(OUTSIDE, attributions.dtype))


def smoothness(attributions):
    """The prior: neighbours get alike attributions."""
    return tf.reduce_mean(tf.square(attributions[:, 1:] - attributions[:, :-1]))


# The gradient of a prior ----------------------------------------------------------------------------


def recorded(loss, variables):
    """The gradient by a tape, as eager programs and Keras take it."""
    with tf.GradientTape() as tape:
        total = loss()
    return total, tape.gradient(total, variables)


def derived(loss, variables):
    """The gradient by `tf.gradients`, as graphs with a session take it."""
    total = loss()
    return total, tf.gradients(total, variables)


def recurrence(h):
    """An activation that loops."""
    weights = tf.cast(tf.linspace(0.5, 1.5, 4), h.dtype)
    return tf.while_loop(lambda i, _: i < 3, lambda i, h: (i + 1, tf.tanh(h * weights) * h), (0, h))[1]


@pytest.mark.few(2)
@pytest.mark.parametrize("differentiate", [recorded, derived])
@pytest.mark.parametrize("static", [True, False], ids=["static batch", "dynamic batch"])
@pytest.mark.parametrize("activation", [tf.tanh, tf.nn.relu, recurrence])
@pytest.mark.parametrize("method", ["gausslegendre", "secant"])
def test_the_gradient_of_a_prior_is_its_finite_difference(method, activation, static, differentiate):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, FEATURES))
    sizes = ((FEATURES, 4), (4,), (4, 3), (3,))
    w, b, out, c = weights = [tf.Variable(rng.normal(size=size)) for size in sizes]

    @tf.function(input_signature=[tf.TensorSpec([7 if static else None, FEATURES], tf.float64)])
    def value_and_gradients(x):
        def loss():
            ys = tf.nn.softmax(activation(x @ w + b) @ out + c)[:, 1]
            maps = ig.integrated_gradients(ys, x, num_steps=4, method=method)
            return outside(maps) + smoothness(maps)

        return differentiate(loss, weights)

    _, gradients = value_and_gradients(x)
    for weight, gradient in zip(weights, gradients):
        direction, sides = rng.normal(size=weight.shape), []
        for step in (1e-5, -1e-5):
            weight.assign_add(step * direction)
            sides.append(float(value_and_gradients(x)[0]))
            weight.assign_sub(step * direction)
        slope = (sides[0] - sides[1]) / 2e-5
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-5, atol=1e-9)


# Training loops -------------------------------------------------------------------------------------


def make_network(kind=tf.keras.Sequential):
    tf.keras.utils.set_random_seed(0)
    layers = [tf.keras.Input((FEATURES,)), tf.keras.layers.Dense(8, "relu")]
    return kind([*layers, tf.keras.layers.Dense(2, "softmax")])


def loss(ys, explained, x, labels, strength):
    """Cross-entropy and the prior on the attributions of the labels' classes."""
    chosen = tf.one_hot(labels, 2)
    error = -tf.reduce_mean(tf.math.log(tf.reduce_sum(ys * chosen, axis=1) + 1e-7))
    if not strength:
        return error
    maps = ig.integrated_gradients(explained, x, num_steps=4, grad_ys=chosen)
    return error + strength * outside(maps)


def train_with_tape(strength):
    model, optimizer = make_network(), tf.keras.optimizers.Adam(0.02)

    @tf.function
    def step(x, labels):
        with tf.GradientTape() as tape:
            total = loss(model(x, training=True), model(x, training=False), x, labels, strength)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables))

    for _ in range(60):
        step(*map(tf.constant, TRAIN))
    return model(MISLEADING[0]).numpy()


class Guided(AttributionPenalty, tf.keras.Sequential):
    """A model whose training step has the prior."""


def train_with_fit(strength):
    model = make_network(Guided)
    model.penalize(lambda maps, x, y: outside(maps), strength)
    model.compile(tf.keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    x, labels = TRAIN
    model.fit(x, labels.astype("int32"), batch_size=len(x), epochs=60, verbose=0)
    return model.predict(MISLEADING[0], verbose=0)


def train_with_session(strength):
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(0)
        x = v1.placeholder(tf.float32, [None, FEATURES])
        labels = v1.placeholder(tf.int64, [None])
        ys = x
        for number, (units, activation) in enumerate([(8, tf.nn.relu), (2, tf.nn.softmax)]):
            w = v1.get_variable(f"w{number}", [ys.shape.as_list()[1], units])
            ys = activation(ys @ w + v1.get_variable(f"b{number}", [units]))
        train = v1.train.AdamOptimizer(0.02).minimize(loss(ys, ys, x, labels, strength))
        session.run(v1.global_variables_initializer())
        for _ in range(60):
            session.run(train, dict(zip((x, labels), TRAIN)))
        return session.run(ys, {x: MISLEADING[0]})


@pytest.mark.few(2)
@pytest.mark.parametrize("train", [train_with_tape, train_with_fit, train_with_session])
def test_a_prior_makes_a_network_stop_looking_at_a_feature(train):
    # The other features alone, weighted equally as they deserve, are right in 87 of 100 cases.
    assert np.mean(train(30.0).argmax(1) == MISLEADING[1]) > 0.75


def test_without_the_prior_it_looks_at_that_feature():
    assert np.mean(train_with_tape(0.0).argmax(1) == MISLEADING[1]) < 0.3


# Weights, by every kind of op -----------------------------------------------------------------------


class TestTraining:
    """Attributions in a loss: their gradient with respect to weights, against finite differences."""

    @staticmethod
    def mlp(x, w):
        return tf.nn.softmax(tf.nn.relu(tf.tanh(x @ w[:4]) @ W2 + x @ w[:4]) @ OUT)[:, 1]

    @staticmethod
    def pooled(x, w):
        image = tf.reshape(tf.pad(x, [[0, 0], [0, 12]]), [-1, 4, 4, 1])
        image += tf.reshape(x, [-1, 1, 4, 1]) * tf.reshape(x, [-1, 4, 1, 1])
        h = tf.nn.relu(tf.nn.conv2d(image, tf.reshape(w, [2, 2, 1, 6]), 1, "SAME"))
        return tf.reduce_sum(tf.nn.max_pool2d(h, 2, 2, "VALID") ** 2, axis=[1, 2, 3])

    @staticmethod
    def elementwise(x, w):
        h = x @ w
        parts = [
            tf.nn.elu(h),
            tf.nn.leaky_relu(h),
            tf.abs(h),
            tf.sqrt(1 + h**2),
            tf.maximum(h, 0.3),
            tf.exp(h / 9),
        ]
        return tf.reduce_sum(tf.add_n(parts) / (2 + tf.sin(h)), axis=1)

    @staticmethod
    def attention(x, w):
        h = x[:, :, None] * w[None]
        scores = tf.nn.softmax(tf.matmul(h, h, transpose_b=True) / 2)
        return tf.reduce_sum(tf.tanh(tf.matmul(scores, h)), axis=[1, 2])

    @pytest.mark.few(4)
    @pytest.mark.parametrize(
        "network, method, max_rows, static",
        [
            ("mlp", "gausslegendre", None, True),
            ("mlp", "gausslegendre", 7, False),
            ("pooled", "gausslegendre", 7, True),
            ("elementwise", "gausslegendre", None, False),
            ("attention", "gausslegendre", 7, False),
            ("mlp", "secant", 7, True),
            pytest.param("pooled", "secant", None, False, marks=pytest.mark.slow),
            ("attention", "secant", 7, False),
        ],
    )
    def test_the_gradient_of_an_attribution_equals_finite_differences(
        self, network, method, max_rows, static
    ):
        network = getattr(self, network)
        coefficients = RNG.normal(size=(3, 4))
        direction = RNG.normal(size=(4, 6))
        signature = [tf.TensorSpec([3 if static else None, 4], tf.float64), tf.TensorSpec([4, 6], tf.float64)]

        @tf.function(input_signature=signature, autograph=False)
        def loss_and_gradient(x, w):
            parts = ig.integrated_gradients(
                network(x, w), x, BASELINE, 3, method, max_rows=max_rows, per_row=[]
            )
            loss = tf.reduce_sum(parts * coefficients)
            return loss, tf.gradients(loss, w)[0]

        gradient = loss_and_gradient(X, W)[1]
        step = 1e-5
        ahead, behind = (loss_and_gradient(X, W + s * direction)[0] for s in (step, -step))
        expected = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(tf.reduce_sum(gradient * direction), expected, rtol=1e-5, atol=1e-7)
