"""Error of every method in float16, bfloat16 and float32 against float64, as a Markdown table.

    python benchmarks/numerics.py [--steps 20] [--scale 1.0]

The reference is the same method with the same steps on the same network, all in float64. Networks have
random weights; inputs and weights are rounded to the lower precision first, so that what is left is what
the arithmetic loses. `--scale 1e-3` puts inputs next to their baselines, where the slopes of `secant`
would cancel.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import igtf as ig  # noqa: E402
import igtf.methods as methods  # noqa: E402

DTYPES = ["float16", "bfloat16", "float32"]
ROWS = 8


class Weights:
    """Random weights that float16 and bfloat16 can hold, in the precision asked for."""

    def __init__(self, dtype):
        self.random, self.dtype = np.random.default_rng(0), dtype

    def __call__(self, *shape):
        values = self.random.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
        return tf.cast(tf.constant(coarse(values)), self.dtype)


def coarse(values):
    """Seven significant bits."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 128) / 128, exponent)


def mlp(x, activation):
    weights = Weights(x.dtype)
    for units in (64, 32):
        x = activation(tf.matmul(x, weights(x.shape[-1], units)) + 0.125)
    return tf.matmul(x, weights(32, 10))


def cnn(x):
    weights = Weights(x.dtype)
    x = tf.reshape(x, [-1, 8, 8, 1])
    for channels in (8, 16):
        x = tf.nn.relu(tf.nn.conv2d(x, weights(3, 3, x.shape[-1], channels), 1, "SAME"))
        x = tf.reduce_max(tf.reshape(x, [-1, x.shape[1] // 2, 2, x.shape[2] // 2, 2, channels]), [2, 4])
    return tf.matmul(tf.reshape(x, [-1, 64]), weights(64, 10))


def attention(x):
    weights = Weights(x.dtype)
    x = tf.reshape(x, [-1, 8, 8])
    q, k, v = (tf.matmul(x, tf.tile(weights(8, 8)[None], [tf.shape(x)[0], 1, 1])) for _ in range(3))
    x += tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.25), v)
    mean = tf.reduce_mean(x, -1, keepdims=True)
    x = (x - mean) * tf.math.rsqrt(tf.reduce_mean((x - mean) ** 2, -1, keepdims=True) + 0.125)
    return tf.matmul(tf.reduce_mean(x, 1), weights(8, 10))


NETWORKS = {
    "MLP, ReLU": lambda x: mlp(x, tf.nn.relu),
    "MLP, ReLU, softmax": lambda x: tf.nn.softmax(mlp(x, tf.nn.relu)),
    "MLP, tanh": lambda x: mlp(x, tf.tanh),
    "CNN, max pooling": cnn,
    "attention, layer norm": attention,
}


def path(method):
    return lambda y, x, b, steps: ig.integrated_gradients(y, x, b, steps, method)


METHODS = {
    "secant": path("secant"),
    "gausslegendre": path("gausslegendre"),
    "riemann_left": path("riemann_left"),
    "deeplift": lambda y, x, b, steps: methods.deeplift(y, x, b),
    "epsilon_lrp": lambda y, x, b, steps: methods.epsilon_lrp(y, x),
    "gradient_times_input": lambda y, x, b, steps: methods.gradient_times_input(y, x),
    "occlusion": lambda y, x, b, steps: methods.occlusion(y, x, 8, 8, baseline=b),
    "shapley_value_sampling": lambda y, x, b, steps: methods.shapley_value_sampling(y, x, 1, None, b, 1),
}


def ends(scale):
    random = np.random.default_rng(1)
    baseline = coarse(random.normal(size=(ROWS, 64)))
    # Numbers that every precision holds: the baseline plus steps of its last bit at least.
    x = baseline + coarse(scale * random.normal(size=(ROWS, 64)))
    return [np.asarray(a).astype(tf.bfloat16.as_numpy_dtype).astype(np.float64) for a in (x, baseline)]


def explain(network, method, dtype, values, steps):
    @tf.function(autograph=False)
    def run(x, baseline):
        return method(network(x)[:, 3], x, baseline, steps)

    return run(*(tf.cast(tf.constant(v), dtype) for v in values)).numpy().astype(np.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="distance of the inputs from their baselines"
    )
    options = parser.parse_args()
    values = ends(options.scale)
    print(f"Relative L1 error against float64, {options.steps} steps, TensorFlow {tf.__version__}\n")
    print("| network | method | " + " | ".join(DTYPES) + " |\n|---|---|---|---|---|")
    for name, network in NETWORKS.items():
        for label, method in METHODS.items():
            exact = explain(network, method, tf.float64, values, options.steps)
            cells = []
            for dtype in DTYPES:
                try:
                    found = explain(network, method, tf.as_dtype(dtype), values, options.steps)
                    cells.append(f"{np.abs(found - exact).sum() / np.abs(exact).sum():.0e}")
                except tf.errors.OpError as error:
                    cells.append("no kernel" if "kernel" in str(error) else type(error).__name__)
            print(f"| {name} | `{label}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
