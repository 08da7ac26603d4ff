"""What holds for every method."""

import doctest
import functools
import importlib

import numpy as np
import pytest
import tensorflow as tf
from method_networks import (
    RNG,
    W1,
    W2,
    U,
    X,
    run,
)
from reference import assert_close, randomize

import igtf.methods as methods

v1 = tf.compat.v1
# Every method, called the same way: builder(ys, xs, grad_ys)
DATA = RNG.normal(size=(4, 4))


EVERY = {
    "saliency": lambda ys, xs, w=None: methods.saliency(ys, xs, w),
    "gradient_times_input": lambda ys, xs, w=None: methods.gradient_times_input(ys, xs, w),
    "guided_backpropagation": lambda ys, xs, w=None: methods.guided_backpropagation(ys, xs, w),
    "epsilon_lrp": lambda ys, xs, w=None: methods.epsilon_lrp(ys, xs, grad_ys=w),
    "deeplift": lambda ys, xs, w=None: methods.deeplift(ys, xs, grad_ys=w),
    "occlusion": lambda ys, xs, w=None: methods.occlusion(ys, xs, grad_ys=w),
    "shapley_value_sampling": lambda ys, xs, w=None: methods.shapley_value_sampling(
        ys, xs, 2, seed=3, grad_ys=w
    ),
    "kernel_shap": lambda ys, xs, w=None: methods.kernel_shap(ys, xs, num_samples=12, seed=3, grad_ys=w),
    "expected_gradients": lambda ys, xs, w=None: methods.expected_gradients(
        ys, xs, tf.cast(DATA, xs.dtype), 3, seed=3, grad_ys=w
    ),
    "smoothgrad": lambda ys, xs, w=None: methods.smoothgrad(
        methods.gradient_times_input, ys, xs, 0.2, 3, seed=3, grad_ys=w
    ),
}


EACH = pytest.mark.parametrize("method", EVERY)
DRAWING = ["shapley_value_sampling", "expected_gradients", "smoothgrad"]
RANDOM = pytest.mark.parametrize("method", [*DRAWING, "kernel_shap"])


def mlp(x):
    return tf.nn.relu(x @ tf.cast(W1, x.dtype) + 0.1) @ tf.cast(W2, x.dtype)


def in_session(build, *arrays, runs=1):
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = [v1.placeholder(a.dtype, [None, *a.shape[1:]]) for a in arrays]
        result = build(*inputs)
        results = [session.run(result, dict(zip(inputs, arrays))) for _ in range(runs)]
    return results[0] if runs == 1 else results


class TestEveryMethod:
    @EACH
    def test_a_session_and_a_function_give_the_same(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        assert_close(run(build, X), in_session(build, X), 1e-12)
        assert_close(run(build, X, static=False), in_session(build, X), 1e-12)

    @EACH
    def test_weights_of_the_outputs_choose_classes(self, method):
        def build(x):
            y = mlp(x)
            one_hot = tf.one_hot([4, 0, 2], 5, dtype=x.dtype)
            return EVERY[method](y, x, one_hot), EVERY[method](tf.gather(y, [4, 0, 2], batch_dims=1), x)

        weighted, gathered = run(build, X)
        assert_close(weighted, gathered, 1e-12)

    @EACH
    def test_rows_do_not_influence_one_another(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        if method != "smoothgrad":  # whose noise is drawn for the whole batch
            assert_close(run(build, X[:2]), run(build, X)[:2], 1e-12)

    @EACH
    def test_half_precision_stays_half_precision(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        half = run(build, X.astype(np.float16))
        assert half.dtype == np.float16
        if method != "smoothgrad":
            assert_close(half, run(build, X), 0.02)

    @EACH
    def test_outputs_may_have_a_structure(self, method):
        def build(x):
            y = mlp(x)
            return EVERY[method](y, x), EVERY[method]({"a": y[:, :2], "b": y[:, 2:]}, x)

        whole, parts = run(build, X)
        assert_close(parts, whole, 1e-12)

    @EACH
    def test_eager_tensors_are_refused(self, method):
        with pytest.raises(
            TypeError, match=r"(?s)^\w+: .*eager.*expected a tensor of the graph.*@tf.function"
        ):
            EVERY[method](tf.constant(X), tf.constant(X))

    @EACH
    def test_networks_that_are_random_or_mix_rows_are_refused(self, method):
        with pytest.raises(ValueError, match=f"{method}: the network is random.*training=False"):
            run(lambda x: EVERY[method](tf.nn.dropout(x, 0.5), x), X)
        with pytest.raises(ValueError, match=f"{method}: op .* mixes the rows"):
            run(lambda x: EVERY[method](x - tf.reduce_mean(x, axis=0), x), X)

    @EACH
    def test_unconnected_tensors_are_refused(self, method):
        with pytest.raises(ValueError, match=f"{method}: no path leads from ys"):
            run(lambda x, u: EVERY[method](u * 2, x), X, U)

    @EACH
    def test_weights_of_another_shape_are_refused(self, method):
        with pytest.raises(ValueError, match="grad_ys has shape .*expected .*as ys"):
            run(lambda x: EVERY[method](mlp(x), x, tf.ones([3, 4], x.dtype)), X)

    @EACH
    def test_gradients_flow_through_attributions(self, method):
        def build(x):
            y = tf.tanh(x @ W1)
            if method == "epsilon_lrp":
                y = tf.tanh(x @ W1 + 3)  # away from the jump at 0
            return EVERY[method](y, x)

        @tf.function
        def loss(x):
            value = tf.reduce_sum(build(x) ** 2)
            return value, tf.gradients(value, x)[0]

        direction = RNG.normal(size=X.shape)
        gradient = loss(tf.constant(X))[1].numpy()
        high, low = (loss(tf.constant(X + step * direction))[0].numpy() for step in (1e-5, -1e-5))
        np.testing.assert_allclose((gradient * direction).sum(), (high - low) / 2e-5, rtol=1e-4)

    @pytest.mark.few(5)
    @EACH
    def test_it_compiles_with_xla(self, method):
        build = lambda x: EVERY[method](mlp(x), x)  # noqa: E731
        compiled = tf.function(build, jit_compile=True)(tf.constant(X)).numpy()
        if method in ("shapley_value_sampling", "kernel_shap"):  # XLA draws its own orders
            compiled, expected = compiled.sum(1), run(build, X).sum(1)
        elif method in ("expected_gradients", "smoothgrad"):
            compiled, expected = np.isfinite(compiled), np.ones(X.shape, bool)
        else:
            expected = run(build, X)
        assert_close(compiled, expected, 1e-10)

    @pytest.mark.few(2)
    @RANDOM
    def test_the_same_seed_draws_the_same_and_none_draws_afresh_in_every_run(self, method):
        def build(x, seed):
            y = tf.reduce_prod(2 + tf.sin(x), axis=1)
            if method == "smoothgrad":
                return methods.smoothgrad(methods.saliency, y, x, 0.5, 2, seed)
            options = {"baselines": DATA} if method == "expected_gradients" else {}
            return getattr(methods, method)(y, x, num_samples=2, seed=seed, **options)

        with_seed = functools.partial(build, seed=-7)
        once, again = in_session(with_seed, X, runs=2)
        np.testing.assert_array_equal(once, again)
        assert_close(run(with_seed, X), once, 1e-12)
        assert np.abs(run(functools.partial(build, seed=8), X) - once).max() > 1e-6
        # Of few coalitions, two draws may well be the same, but not twelve.
        drawn = in_session(functools.partial(build, seed=None), X, runs=12)
        assert np.ptp(drawn, axis=0).max() > 1e-6
        traced = tf.function(functools.partial(build, seed=None))
        assert np.ptp([traced(tf.constant(X)) for _ in range(12)], axis=0).max() > 1e-6

    @RANDOM
    @pytest.mark.parametrize("seed", [0.5, "a", True])
    def test_a_seed_that_is_no_int_is_refused(self, method, seed):
        calls = {
            "shapley_value_sampling": lambda x: methods.shapley_value_sampling(x, x, seed=seed),
            "kernel_shap": lambda x: methods.kernel_shap(x, x, seed=seed),
            "expected_gradients": lambda x: methods.expected_gradients(x, x, DATA, 2, seed=seed),
            "smoothgrad": lambda x: methods.smoothgrad(methods.saliency, x, x, 0.1, 2, seed=seed),
        }
        with pytest.raises(TypeError, match=f"{method}: seed is .*expected an int, or None"):
            run(calls[method], X)

    @RANDOM
    @pytest.mark.parametrize("count", [0, -1, 2.0, True, None])
    def test_a_number_of_samples_that_is_not_positive_is_refused(self, method, count):
        calls = {
            "shapley_value_sampling": lambda x: methods.shapley_value_sampling(x, x, count),
            "kernel_shap": lambda x: methods.kernel_shap(x, x, num_samples=count),
            "expected_gradients": lambda x: methods.expected_gradients(x, x, DATA, count),
            "smoothgrad": lambda x: methods.smoothgrad(methods.saliency, x, x, 0.1, count),
        }
        with pytest.raises(ValueError, match=f"{method}: num_samples is .*expected a positive int"):
            run(calls[method], X)

    @pytest.mark.parametrize("method", DRAWING)
    def test_the_graph_does_not_grow_with_the_number_of_samples(self, method):
        def nodes(count):
            calls = {
                "shapley_value_sampling": lambda x: methods.shapley_value_sampling(mlp(x), x, count),
                "expected_gradients": lambda x: methods.expected_gradients(mlp(x), x, DATA, count),
                "smoothgrad": lambda x: methods.smoothgrad(methods.saliency, mlp(x), x, 0.1, count),
            }
            spec = tf.TensorSpec([None, 4], tf.float64)
            return len(tf.function(calls[method]).get_concrete_function(spec).graph.get_operations())

        assert nodes(2) == nodes(20000)


class TestOneGraph:
    def test_calls_do_not_influence_one_another_in_any_order(self):
        alone = {name: in_session(lambda x, n=name: EVERY[n](mlp(x), x), X) for name in EVERY}
        for order in (list(EVERY), list(EVERY)[::-1]):

            def build(x, order=order):
                y = mlp(x)
                return {name: EVERY[name](y, x) for name in order}

            together = in_session(build, X)
            for name in EVERY:
                assert_close(together[name], alone[name], 1e-12)

    def test_training_is_not_influenced(self):
        def train(explain):
            with tf.Graph().as_default(), v1.Session() as session:
                x = v1.placeholder(tf.float64, [None, 4])
                w = v1.get_variable("w", initializer=tf.constant(W1), use_resource=True)
                y = tf.nn.relu(x @ w + 0.1) @ W2
                before = [EVERY[name](y, x) for name in EVERY] if explain else []
                step = v1.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(y**2))
                after = [EVERY[name](y, x) for name in EVERY] if explain else []
                session.run(v1.global_variables_initializer())
                for _ in range(3):
                    session.run([step, before, after], {x: X})
                return session.run(w)

        np.testing.assert_allclose(train(True), train(False), rtol=1e-12)

    def test_nothing_is_added_to_the_network_itself(self):
        with tf.Graph().as_default() as graph:
            x = v1.placeholder(tf.float64, [None, 4])
            y = tf.nn.silu(mlp(x))
            before = {
                op.name: op.node_def.SerializeToString(deterministic=True) for op in graph.get_operations()
            }
            for name in ("saliency", "gradient_times_input", "deeplift", "occlusion"):
                EVERY[name](y, x)
            assert all(
                graph.get_operation_by_name(name).node_def.SerializeToString(deterministic=True) == definition
                for name, definition in before.items()
            )


class TestKeras:
    @EACH
    def test_a_keras_model_with_two_kinds_of_layers(self, method):
        keras = tf.keras
        model = keras.Sequential(
            [
                keras.Input([4]),
                keras.layers.Dense(6, activation="elu"),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Dense(3),
            ]
        )
        randomize(model)
        x = X.astype(np.float32)
        result = run(lambda x: EVERY[method](model(x, training=False), x), x, static=False)
        assert result.shape == x.shape
        if method in ("deeplift", "shapley_value_sampling", "kernel_shap"):
            change = model(x).numpy().sum(1) - model(np.zeros_like(x)).numpy().sum(1)
            assert_close(result.sum(1), change, 1e-5)

    @EACH
    def test_saved_models_whose_layers_hide_in_function_calls(self, method):
        inner = tf.function(mlp)
        build = lambda x, f: EVERY[method](f(x), x)  # noqa: E731
        assert_close(
            run(functools.partial(build, f=inner), X), run(functools.partial(build, f=mlp), X), 1e-12
        )

    def test_deeplift_sums_to_the_difference_on_attention_and_pooling(self):
        keras = tf.keras
        x = keras.Input([6, 4])
        h = keras.layers.MultiHeadAttention(2, 3)(x, x)
        h = keras.layers.Multiply()([h, x])
        h = keras.layers.GlobalMaxPooling1D()(keras.layers.Conv1D(5, 3, activation="gelu")(h))
        model = randomize(keras.Model(x, keras.layers.Dense(3, activation="softmax")(h)))
        data = RNG.normal(size=(2, 2, 6, 4)).astype(np.float32)

        def build(x, start):
            y = model(x, training=False)[:, 0]
            return tf.reduce_sum(methods.deeplift(y, x, start), [1, 2]), y - model(start, training=False)[
                :, 0
            ]

        total, change = run(build, *data)
        np.testing.assert_allclose(total, change, atol=2e-5)


def test_the_examples_in_the_docstrings_run():
    rooms = ["gradients", "relevance", "perturbation", "sampling", "coalitions", "activation_maps"]
    results = [doctest.testmod(importlib.import_module(f"igtf.methods.{room}")) for room in rooms]
    assert sum(result.attempted for result in results) > 10
    assert all(result.attempted and not result.failed for result in results)
