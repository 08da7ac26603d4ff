"""Every public graph builder under `jit_compile=True`, beside itself without."""

import numpy as np
import pytest
import tensorflow as tf
from reference import assert_close, randomize

import igtf as ig
import igtf.methods as am

STEPS = 4


def dense(layers):
    return [layers.Dense(5, "relu"), layers.Dense(3, "softmax")]


def smooth(layers):
    return [layers.Dense(5, "gelu"), layers.LayerNormalization(), layers.Dense(3, "softmax")]


def convolutions(layers):
    hidden = [layers.Conv2D(2, 2), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(2)]
    return [*hidden, layers.Flatten(), layers.Dense(3, "softmax")]


# name -> (layers, shape of a row, methods to integrate with)
NETWORKS = {
    "dense": (dense, (4,), ["secant", "gausslegendre"]),
    "smooth": (smooth, (4,), ["gausslegendre"]),
    "convolutions": (convolutions, (5, 5, 1), ["secant", "gausslegendre"]),
}


def integrated(layers, x, method):
    """What the recipe and the builders on top of it return, by name."""
    hidden = layers[0](x)
    ys = run(layers[1:], hidden)
    inter, stepsize, _ = ig.linear_interpolation(x, STEPS)
    output = run(layers, inter)[:, 1]
    maps = ig.integrated_gradients(ys[:, 1], x, None, STEPS, method)
    return {
        "build_ig": ig.build_ig(inter, stepsize, output, STEPS),
        "integrated_gradients": maps,
        "integrated_jacobian": ig.integrated_jacobian(ys, x, None, STEPS, method),
        "layer_conductance": ig.layer_conductance(ys[:, 1], hidden, x, None, STEPS, method),
        "convergence_delta": ig.convergence_delta(ys[:, 1], x, None, 2 * maps),
        "graph_replace": ig.graph_replace(ys, x, 2 * x),
        "backpropagate": ig.backpropagate(
            ys[:, 1], x, None, {"Relu": lambda op, other, grads: [3 * grads[0]]}
        ),
    }


def along_paths(layers, x):
    hidden = layers[0](x)
    y = run(layers[1:], hidden)[:, 1]
    return {
        "neuron": ig.neuron_conductance(y, hidden[:, 0], x, None, STEPS),
        "path": ig.path_integrated_gradients(y, x, lambda t: t**2 * x, STEPS),
        "points": ig.path_integrated_gradients(y, x, tf.stack([0 * x, x[:, ::-1], x]), STEPS),
        "blur": ig.blur_integrated_gradients(y, x, 2.0, [1], STEPS),
        "guided": ig.guided_integrated_gradients(y, x, None, STEPS),
        "hessians": ig.integrated_hessians(y, x, None, [0, 2], STEPS),
    }


def others(layers, x):
    """Likewise for `igtf.methods`, without what is random: XLA draws numbers of its own."""
    y = run(layers, x)[:, 1]
    builders = (am.saliency, am.gradient_times_input, am.epsilon_lrp, am.deeplift, am.occlusion)
    return {builder.__name__: builder(y, x) for builder in builders}


def run(layers, x):
    for layer in layers:
        x = layer(x, training=False) if "normalization" in layer.name else layer(x)
    return x


def check(name, build):
    """`build(layers, x)` with and without XLA; all in one program, which compiles faster than one each."""
    make, shape, _ = NETWORKS[name]
    layers = make(tf.keras.layers)
    x = np.random.default_rng(2).normal(size=(3, *shape)).astype("float32")
    randomize(tf.keras.Sequential([tf.keras.Input(shape), *layers]))
    functions = [
        tf.function(lambda x: build(layers, x), jit_compile=jit, autograph=False) for jit in (None, True)
    ]
    expected, found = (function(tf.constant(x)) for function in functions)
    for key, value in expected.items():
        assert_close(found[key], value, 1e-5)


@pytest.mark.few(2)
@pytest.mark.parametrize("name, method", [(n, m) for n, (_, _, methods) in NETWORKS.items() for m in methods])
def test_integrated_gradients_compile(name, method):
    check(name, lambda layers, x: integrated(layers, x, method))


@pytest.mark.parametrize("rows", [3, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["dense", pytest.param("smooth", marks=pytest.mark.slow)])
def test_points_that_follow_the_network_compile(name, rows):
    """From 10 steps on, several looks at the network place them."""
    make, shape, _ = NETWORKS[name]
    layers = make(tf.keras.layers)
    x = tf.constant(np.random.default_rng(2).normal(size=(3, *shape)).astype("float32"))
    randomize(tf.keras.Sequential([tf.keras.Input(shape), *layers]))

    def explain(x):
        return ig.integrated_jacobian(run(layers, x), x, None, 12)

    signature = [tf.TensorSpec([rows, *shape])]
    expected, found = (tf.function(explain, signature, False, jit)(x) for jit in (None, True))
    assert_close(found, expected, 1e-5)


def test_paths_and_pairs_compile():
    check("dense", along_paths)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["smooth", "convolutions"])
def test_attribution_methods_compile(name):
    check(name, others)


def test_training_on_attributions_compiles():
    model = randomize(tf.keras.Sequential([tf.keras.Input((4,)), *dense(tf.keras.layers)]))
    variables = model.trainable_variables
    x = tf.constant(np.random.default_rng(2).normal(size=(3, 4)).astype("float32"))

    def gradients(x):
        with tf.GradientTape() as tape:
            maps = ig.integrated_gradients(model(x)[:, 1], x, num_steps=STEPS, method="secant")
            loss = tf.reduce_sum(tf.square(maps))
        return tape.gradient(loss, variables)

    expected, found = (tf.function(gradients, jit_compile=jit)(x) for jit in (None, True))
    for variable, one, other in zip(variables, found, expected):
        assert one is not None, variable.name
        assert_close(one, other, 1e-4)
