"""What mixed precision costs: attributions under `mixed_bfloat16` and `mixed_float16` beside float32.

`python benchmarks/precision.py` prints a Markdown table for trained networks: the mean relative L1
error of the attributions of the predicted class against the same call on the same weights in float32.
The networks compute in 16 bits, the steps are added up in float32: the error is that of the network and
must not grow with the number of steps. Beside it, the error of one gradient times the input, at which
the softmax is saturated.
"""

import argparse

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig

import keras  # isort: skip  (after TensorFlow, whose log level is set by then)

POLICIES = ("mixed_bfloat16", "mixed_float16")
NAMES = ("mlp", "cnn", "conv_bn")
STEPS = (10, 100, 500)


def under(policy, name, weights):
    """The network with trained weights under a dtype policy; it takes float32 images."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        x = keras.Input([28, 28, 1], dtype="float32")
        model = keras.Model(x, networks.NETWORKS[name][0](x))
    finally:
        keras.config.set_dtype_policy(before)
    model.set_weights(weights)
    return model


def attributions(model, x, chosen):
    """Gradient times input, and integrated gradients for each of `STEPS`, as float32 arrays."""

    @tf.function
    def attribute(x):
        ys = model(x, training=False)
        weights = tf.cast(chosen, ys.dtype)
        (gradient,) = tf.gradients(ys * weights, x)
        return [x * gradient, *(ig.integrated_gradients(ys, x, num_steps=s, grad_ys=weights) for s in STEPS)]

    results = attribute(tf.constant(x))
    assert all(result.dtype == tf.float32 for result in results)
    return [result.numpy() for result in results]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32, help="images to explain")
    parser.add_argument("--networks", nargs="+", default=NAMES, choices=networks.NETWORKS)
    options = parser.parse_args()
    x, table = networks.rows(options.rows), []
    for name in options.networks:
        model = networks.trained(name)
        chosen = tf.one_hot(networks.targets(model, x), 10)
        expected = attributions(model, x, chosen)
        for policy in POLICIES:
            measure.progress(f"{name}, {policy}")
            found = attributions(under(policy, name, model.get_weights()), x, chosen)
            cells = (f"{networks.error(a, b.astype(np.float64)):.1e}" for a, b in zip(found, expected))
            table.append((networks.NETWORKS[name][1], policy, *cells))
    steps = (f"{steps:,} steps" for steps in STEPS)
    print(measure.markdown(("network", "policy", "gradient x input", *steps), table))


if __name__ == "__main__":
    main()
