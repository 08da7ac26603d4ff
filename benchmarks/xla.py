"""What compiles with XLA: every graph builder under `jit_compile=True`, for one network of each kind.

`python benchmarks/xla.py` prints a Markdown table. A number is the largest difference from the same
builder without XLA, relative to the largest attribution. Where it does not compile stands what XLA
lacks: the kernel of an op, or the size of the list in which the gradient of a loop keeps its states.
Builders that draw random numbers compile, but XLA draws its own: "drawn".
"""

import argparse
import re

import measure
import numpy as np
import tensorflow as tf

import igtf as ig
import igtf.methods as am

layers = tf.keras.layers

# title: (shape of a row, layers)
NETWORKS = {
    "dense, ReLU": ((8,), lambda: [layers.Dense(6, "relu"), layers.Dense(3, "softmax")]),
    "dense, GELU, layer norm": (
        (8,),
        lambda: [layers.Dense(6, "gelu"), layers.LayerNormalization(), layers.Dense(3)],
    ),
    "convolution, batch norm, max pooling": (
        (8, 8, 1),
        lambda: [
            layers.Conv2D(3, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ],
    ),
    "depthwise and separable convolution": (
        (8, 8, 2),
        lambda: [
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.SeparableConv2D(3, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ],
    ),
    "transposed convolution": (
        (4, 4, 1),
        lambda: [layers.Conv2DTranspose(2, 3, 2, activation="relu"), layers.Flatten(), layers.Dense(3)],
    ),
    "bilinear resizing": (
        (4, 4, 1),
        lambda: [
            layers.UpSampling2D(interpolation="bilinear"),
            layers.Conv2D(2, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3),
        ],
    ),
    "3-D convolution and max pooling": (
        (4, 4, 4, 1),
        lambda: [layers.Conv3D(2, 2, activation="relu"), layers.MaxPooling3D(2), layers.Flatten()],
    ),
    "attention": ((4, 6), lambda: [Attention(), layers.GlobalAveragePooling1D(), layers.Dense(3, "softmax")]),
    "LSTM": ((4, 6), lambda: [layers.LSTM(5), layers.Dense(3)]),
    "GRU": ((4, 6), lambda: [layers.GRU(5), layers.Dense(3)]),
}


class Attention(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attention = layers.MultiHeadAttention(2, 3)

    def call(self, x):
        return x + self.attention(x, x)


def run(network, x):
    for layer in network:
        x = layer(x, training=False) if isinstance(layer, layers.BatchNormalization) else layer(x)
    return x


def integrate(name, method):
    """A builder of `ig` as a function of the network and the input."""

    def build(network, x):
        hidden = network[0](x)
        ys = run(network[1:], hidden)
        if name == "build_ig":
            inter, stepsize, _ = ig.linear_interpolation(x, 5)
            return ig.build_ig(inter, stepsize, run(network, inter)[:, 1], 5)
        if name == "layer_conductance":
            return ig.layer_conductance(ys[:, 1], hidden, x, None, 5, method)
        return getattr(ig, name)(ys if "jacobian" in name else ys[:, 1], x, None, 5, method)

    return build


def method(builder, *arguments, **options):
    return lambda network, x: builder(run(network, x)[:, 1], x, *arguments, **options)


def baselines(network, x):
    rows = tf.reshape(tf.linspace(0.0, 1.0, 3), [3] + [1] * (x.shape.rank - 1)) * tf.ones_like(x[:1])
    return am.expected_gradients(run(network, x)[:, 1], x, rows, 3, seed=1)


def smooth(network, x):
    return am.smoothgrad(am.saliency, run(network, x)[:, 1], x, 0.1, 3, seed=1)


RANDOM = ("shapley_value_sampling", "expected_gradients", "smoothgrad")
BUILDERS = {
    **{
        f"{name}, {rule}": integrate(name, rule)
        for name in ("integrated_gradients", "integrated_jacobian", "layer_conductance")
        for rule in ("secant", "gausslegendre")
    },
    "build_ig": integrate("build_ig", "gausslegendre"),
    "convergence_delta": lambda network, x: ig.convergence_delta(run(network, x)[:, 1], x, None, x),
    "graph_replace": lambda network, x: ig.graph_replace(run(network, x), x, x / 2),
    "backpropagate": method(ig.backpropagate, None, {}),
    "saliency": method(am.saliency),
    "gradient_times_input": method(am.gradient_times_input),
    "epsilon_lrp": method(am.epsilon_lrp),
    "deeplift": method(am.deeplift),
    "occlusion": method(am.occlusion),
    "shapley_value_sampling": method(am.shapley_value_sampling, num_samples=2, seed=1),
    "expected_gradients": baselines,
    "smoothgrad": smooth,
}


def compare(build, network, x):
    """The cell of the table."""
    try:
        expected = tf.function(lambda x: build(network, x), autograph=False)(x).numpy()
    except (ValueError, LookupError) as error:
        return f"not without XLA: {type(error).__name__}"
    try:
        found = tf.function(lambda x: build(network, x), autograph=False, jit_compile=True)(x).numpy()
    except (tf.errors.OpError, ValueError) as error:
        measure.progress(str(error)[:2000])
        if "tensor list size" in str(error):
            return "no: list of unknown size"
        ops = re.findall(r"No registered '(\w+)'|unsupported operations?.*?: (\w+)", str(error))
        return ", ".join(sorted({"".join(op) for op in ops})) or str(error).splitlines()[0][:80]
    return f"{np.abs(found - expected).max() / np.abs(expected).max():.0e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--builders", nargs="+", default=list(BUILDERS), choices=BUILDERS)
    options = parser.parse_args()
    table = []
    for title in options.networks:
        shape, make = NETWORKS[title]
        tf.keras.utils.set_random_seed(0)
        network, x = make(), tf.constant(np.random.default_rng(0).normal(size=(3, *shape)).astype("float32"))
        run(network, x)
        for name in options.builders:
            measure.progress(f"{title}: {name}")
            cell = compare(BUILDERS[name], network, x)
            drawn = name in RANDOM and re.match(r"\d", cell)
            table.append((title, name, "drawn" if drawn else cell))
    rows = {name: [cell for _, n, cell in table if n == name] for name in options.builders}
    print(measure.markdown(("", *options.networks), [(name, *cells) for name, cells in rows.items()]))


if __name__ == "__main__":
    main()
