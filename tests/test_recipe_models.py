"""The recipe on networks that people have: their gradients, models of Keras, training on attributions."""

import numpy as np
import pytest
import tensorflow as tf
from reference import (
    NUMPY,
    any_batch,
    in_function,
    in_session,
    integrate,
    mlp,
    normal,
    random_weights,
    tape_gradient,
)
from shared_networks import RULES, cubes, recipe, secant

import igtf as ig


@pytest.fixture(params=[in_session, in_function])
def run(request):
    return request.param


class Module(tf.Module):
    """A network without Keras."""

    def __init__(self, *sizes):
        super().__init__()
        self.arrays = [tf.Variable(w, dtype=tf.float32) for w in random_weights(*sizes)]

    def __call__(self, x):
        return mlp(x, self.arrays, "tanh")


def keras_package(name):
    return tf.keras if name == "tf.keras" else pytest.importorskip(name)


def conv_net(keras):
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.layers.Conv2D(3, 3, activation="tanh", padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )


@tf.custom_gradient
def doubled(z):
    """The identity, with twice its gradient."""
    return tf.identity(z), lambda grad: 2 * grad


def networks():
    """Networks of affine ops and others."""
    w = tf.constant(normal(12, 7, seed=3))
    kernel, thin = tf.constant(normal(2, 2, 2, 3, seed=4)), tf.constant(normal(2, 2, 2, 1, seed=5))
    stats = [tf.constant(np.abs(normal(3, seed=k)) + 0.5) for k in range(4)]

    def image(z):
        return tf.reshape(z, [tf.shape(z)[0], 3, 2, 2])

    def normalized(z):
        z = tf.nn.conv2d(image(z), kernel, 1, "SAME")
        return tf.tanh(tf.nn.batch_normalization(z, *stats, 1e-3))

    return {
        "affine to the end": lambda z: z @ w,
        "flattened": lambda z: tf.tanh(tf.reshape(image(z) * 2, [-1, 12]) @ w),
        "convolutions": normalized,
        "depthwise": lambda z: tf.tanh(tf.nn.depthwise_conv2d(image(z), thin, [1] * 4, "SAME")),
        "residual": lambda z: tf.nn.relu(z @ w)[:, :4] + z[:, :4] ** 2 + 3 * z[:, 1:5],
        "the input after all": lambda z: tf.reduce_sum(z @ w, axis=1) * tf.sin(z[:, 0]),
        "slices": lambda z: tf.tanh(z[:, :4]) * tf.tanh(z[:, 4:8] - 1) + tf.exp(-z[:, 8:]),
        "a custom gradient": lambda z: tf.tanh(doubled(z @ w) / 3),
        "a custom gradient further on": lambda z: doubled(tf.tanh(z @ w / 3)),
        "a row factor": lambda z: tf.tanh(z * tf.cast(tf.range(tf.shape(z)[0])[:, None] % 3, z.dtype)),
    }


class TestGradients:
    """The sum is that of the gradients that TensorFlow has, custom ones among them."""

    @pytest.mark.thin
    @pytest.mark.parametrize("static", [False, True])
    @pytest.mark.parametrize("name", list(networks()))
    def test_the_sum_of_gradients_is_the_same(self, name, static):
        def build(x):
            output = networks()[name]
            inter, stepsize, _ = ig.linear_interpolation(x, 5, baseline=0.3)
            result = ig.build_ig(inter, stepsize, output(inter), 5)
            # By hand: whatever tf.gradients says at the rows, times the steps.
            terms = tf.gradients(output(inter), inter)[0] * stepsize
            return result, tf.reduce_sum(tf.reshape(terms, [5, 4, 12]), axis=0)

        actual, expected = in_function(build, normal(4, 12), shape=np.shape if static else any_batch)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)

    def test_a_gradient_by_override_counts(self):
        @tf.RegisterGradient("TestRecipeTripled")
        def tripled(op, grad):
            return 3 * grad

        def build(x):
            inter, stepsize, _ = ig.linear_interpolation(x, 3)
            with inter.graph.gradient_override_map({"Identity": "TestRecipeTripled"}):
                z = tf.identity(2 * inter)
            return ig.build_ig(inter, stepsize, z, 3)

        (actual,) = in_session(lambda x: [build(x)], normal(2, 4))
        np.testing.assert_allclose(actual, 6 * normal(2, 4))


class TestModels:
    @pytest.mark.few(2)
    @pytest.mark.parametrize("package", ["tf.keras", "tf_keras"])
    @pytest.mark.parametrize("jit_compile", [None, True])
    def test_keras_models_are_explained_as_gradient_tape_would(self, package, jit_compile):
        model = conv_net(keras_package(package))
        x, b = normal(3, 6, 6, 2, dtype=np.float32), normal(1, 6, 6, 2, seed=2, dtype=np.float32)
        model(x)

        def output(z):
            return model(z, training=False)[:, 2]

        found = in_function(lambda x, b: recipe(output, x, 9, baseline=b), x, b, jit_compile=jit_compile)
        expected = integrate(tape_gradient(output), x, b, "gausslegendre", 9)
        np.testing.assert_allclose(found, expected, atol=2e-6)

    @pytest.mark.few(1)
    @pytest.mark.parametrize("package", ["tf.keras", "tf_keras"])
    def test_keras_models_with_several_inputs_take_the_points_as_they_are(self, package):
        keras = keras_package(package)
        inputs = [keras.Input([3]), keras.Input([2, 3])]
        hidden = keras.layers.Concatenate(axis=1)([keras.layers.Reshape([1, 3])(inputs[0]), inputs[1]])
        hidden = keras.layers.GRU(4)(hidden)
        model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
        xs = [normal(3, 3, dtype=np.float32), normal(3, 2, 3, seed=2, dtype=np.float32)]
        found = in_function(lambda *xs: recipe(lambda z: model(z, training=False), list(xs), 20), *xs)
        change = model(xs) - model([0 * x for x in xs])
        np.testing.assert_allclose(found[0].sum(1) + found[1].sum((1, 2)), change[:, 0], atol=1e-5)

    @pytest.mark.parametrize("jit_compile", [None, True])
    def test_modules_are_explained_as_gradient_tape_would(self, jit_compile):
        model, x = Module(5, 6, 3), normal(4, 5, dtype=np.float32)
        found = in_function(lambda x: recipe(lambda z: model(z)[:, 1], x, 9), x, jit_compile=jit_compile)
        expected = integrate(tape_gradient(lambda z: model(z)[:, 1]), x, 0 * x, "gausslegendre", 9)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_compiled_graphs_compute_the_same(self):
        weights, x = random_weights(5, 6, 3), normal(4, 5)

        def build(x):
            return [recipe(lambda z: mlp(z, weights, "relu")[:, 1], x, 7, m) for m in RULES]

        compiled = in_function(build, x, jit_compile=True)
        np.testing.assert_allclose(compiled, in_function(build, x), atol=1e-14)

    def test_autograph_leaves_the_recipe_alone_inside_user_code_with_control_flow(self):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float64)])
        def explain(x):
            total = tf.zeros_like(x)
            for scale in tf.range(1, 4):
                if scale > 1:
                    total += recipe(lambda z: tf.cast(scale, z.dtype) * cubes(z), x, 3)  # noqa: B023
            return total

        np.testing.assert_allclose(explain(normal(3, 2)), 5 * normal(3, 2) ** 3)


class TestTraining:
    @pytest.mark.few(2)
    @pytest.mark.parametrize("explain", [recipe, secant])
    @pytest.mark.parametrize("activation", NUMPY)
    def test_the_gradient_of_a_loss_on_attributions_matches_finite_differences(self, explain, activation):
        weights, x = random_weights(4, 5, 3, seed=6), normal(3, 4, seed=7)

        def loss(x, *weights):
            found = explain(lambda z: mlp(z, weights, activation)[:, 0], x, 6)
            return tf.reduce_sum(tf.sin(found + 1))

        def shape(array):
            return list(array.shape)

        gradients = in_function(lambda *args: tf.gradients(loss(*args), args), x, *weights, shape=shape)
        values = tf.function(loss)
        for i, gradient in enumerate(gradients):
            direction = normal(*gradient.shape, seed=20 + i)
            up, down = ([x, *weights] for _ in range(2))
            up[i], down[i] = up[i] + 1e-6 * direction, down[i] - 1e-6 * direction
            difference = (values(*map(tf.constant, up)) - values(*map(tf.constant, down))) / 2e-6
            np.testing.assert_allclose(np.sum(gradient * direction), difference, atol=1e-7)

    @pytest.mark.parametrize("explain", [recipe, secant])
    def test_a_loss_on_attributions_trains_a_network_in_a_session(self, explain):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None, 5])
            variables = [tf.compat.v1.get_variable(f"w{i}", initializer=np.float32(w))
                         for i, w in enumerate(random_weights(5, 6, 3))]  # fmt: skip
            share = tf.abs(explain(lambda z: mlp(z, variables, "tanh")[:, 0], x, 8))
            first, others = tf.reduce_mean(share[:, 0]), tf.reduce_mean(share[:, 1:])
            train = tf.compat.v1.train.AdamOptimizer(0.02).minimize(first - others)
            session.run(tf.compat.v1.global_variables_initializer())
            feed = {x: normal(16, 5, dtype=np.float32)}
            before = session.run([first, others], feed)
            for _ in range(60):
                session.run(train, feed)
            after = session.run([first, others], feed)
        assert after[0] < before[0] / 3, "the network still uses the feature that it should not use"
        assert after[1] > before[1]

    @pytest.mark.parametrize("explain", [recipe, secant])
    def test_a_loss_on_attributions_trains_a_keras_model_under_an_outer_tape(self, explain):
        tf.keras.utils.set_random_seed(1)
        model = tf.keras.Sequential([tf.keras.layers.Dense(6, "tanh"), tf.keras.layers.Dense(1)])
        x = tf.constant(normal(16, 5, dtype=np.float32))
        model(x)

        @tf.function
        def first(x):
            return tf.reduce_mean(tf.abs(explain(model, x, 8)[:, 0]))

        losses = []
        for _ in range(40):
            with tf.GradientTape() as tape:
                losses.append(loss := first(x))
            for v, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
                if gradient is not None:  # the last bias plays no part
                    v.assign_sub(0.2 * gradient)
        assert losses[-1] < losses[0] / 3

    def test_attributions_take_part_in_further_ops(self, run):
        x = np.array([[3.0, 1.0], [-2.0, 4.0]])
        found = run(lambda x: tf.argmax(tf.abs(recipe(cubes, x, 3)), axis=1), x)
        np.testing.assert_array_equal(found, [0, 1])
