"""Guided and Blur integrated gradients beside PAIR's package saliency: time, agreement, completeness.

`python benchmarks/paths.py` prints two Markdown tables for photographs that come with scikit-image and
scikit-learn, and an untrained MobileNetV2 (alpha 0.35) whose batch norms know the statistics of such
photographs; explained is the largest logit of each. Saliency takes one image after the other, on a
`tf.function` traced for one batch size: one image, its default, or several steps at once where it can.
Ours takes all images at once, and must be at least twice as fast with the same rule. Gradients that tie,
as those of a convolution at a baseline of one colour do, may be taken in another order than theirs; on a
small network in float64 without ties, theirs is met to rounding. Their Blur IG takes the slope of a point of
the path, ours the change to the next one, so that these two meet in the limit of many steps only. An
untrained network is steep: what sums of gradients are off by may be many times what the output gains.
"""

import argparse

import measure
import numpy as np
import tensorflow as tf
from scipy.ndimage import gaussian_filter

import igtf as ig

import keras  # isort: skip  (after TensorFlow, whose log level is set by then)

tf.get_logger().setLevel("ERROR")  # no advice on retracing: one graph for each number of steps
STEPS = (5, 20, 50)
AT_ONCE = 25  # steps of one image of their Blur IG
SIGMA = 50.0


def photographs(size):
    """`[8, size, size, 3]`, the middle of each photograph, values in [-1, 1]."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
    squares = []
    for photograph in [getattr(data, name)() for name in names] + load_sample_images().images:
        height, width = photograph.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = photograph[top : top + side, left : left + side].astype(np.float32)
        squares.append(tf.image.resize(square, [size, size], antialias=True) / 127.5 - 1)
    return np.stack(squares)


def mobilenet(x):
    """Untrained, in inference mode, with the batch statistics of turned and mirrored `x`."""
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(
        x.shape[1:], 0.35, weights=None, classifier_activation=None, classes=1000
    )
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    turned = np.concatenate([np.rot90(x, turns, (1, 2)) for turns in range(4)])
    network(np.concatenate([turned, turned[:, ::-1]]), training=True)
    return lambda images: network(images, training=False)


def dense_network(features):
    """Two layers in float64 with random weights: no two inputs are alike."""
    random = np.random.default_rng(0)
    first, last = random.normal(size=[features, 16]) / features**0.5, random.normal(size=[16, 10])
    return lambda x: tf.tanh(tf.reshape(x, [-1, features]) @ first) @ last


def theirs(network, x, chosen):
    """`{name: function of a number of steps}`, each of which returns the attributions of `x`."""
    from saliency import core

    quantile = np.quantile
    # Guided IG calls it as NumPy before 2.4 allowed.
    np.quantile = lambda a, q, interpolation="linear", **options: quantile(
        a, q, **{"method": interpolation, **options}
    )

    def caller(rows):
        signature = [tf.TensorSpec([rows, *x.shape[1:]], x.dtype), tf.TensorSpec([], tf.int64)]

        @tf.function(input_signature=signature)
        def gradient(images, index):
            return tf.gradients(network(images)[:, index], images)[0]

        def call(images, call_model_args, expected_keys):
            del expected_keys
            found = gradient(tf.constant(images, x.dtype), call_model_args)
            return {core.INPUT_OUTPUT_GRADIENTS: found.numpy()}

        return call

    def explain(explainer, call, **options):
        return np.stack([explainer.GetMask(image, call, c, **options) for image, c in zip(x, chosen)])

    one, several = caller(1), caller(None)
    return {
        "saliency GuidedIG": lambda steps: explain(core.GuidedIG(), one, x_steps=steps),
        "saliency BlurIG": lambda steps: explain(core.BlurIG(), one, steps=steps, max_sigma=SIGMA),
        f"saliency BlurIG, {AT_ONCE} steps at once": lambda steps: explain(
            core.BlurIG(), several, steps=steps, max_sigma=SIGMA, batch_size=AT_ONCE
        ),
    }


def ours(network, x, chosen):
    """Likewise."""
    images, classes = tf.constant(x), tf.constant(chosen)

    def traced(builder, **options):
        graphs = {}

        def run(steps):
            if steps not in graphs:

                @tf.function
                def explain(images, classes):
                    ys = tf.gather(network(images), classes, batch_dims=1)
                    return builder(ys, images, num_steps=steps, **options)

                graphs[steps] = explain
            return graphs[steps](images, classes).numpy()

        return run

    guided, blur = ig.guided_integrated_gradients, ig.blur_integrated_gradients
    return {
        "guided, riemann_left": traced(guided, method="riemann_left"),
        "guided, secant": traced(guided),
        "blur, riemann_right": traced(blur, method="riemann_right", max_sigma=SIGMA),
        "blur, auto": traced(blur, max_sigma=SIGMA),
    }


def peer(name):
    """Which of theirs computes the same, and at which end of the path."""
    return "saliency GuidedIG" if "guided" in name.lower() else "saliency BlurIG"


def start(name, x):
    """Where the path of a method begins."""
    if "guided" in name.lower():
        return np.zeros_like(x)
    truncate = 4 if "saliency" in name else 6  # of the Gaussian, in widths
    blur = [0, SIGMA, SIGMA, 0]
    return gaussian_filter(x, blur, mode="constant", truncate=truncate)


def incomplete(name, network, x, chosen, attributions):
    """What the sums of the attributions are off by, as a share of what the output gains; of all rows."""

    def score(images):
        return np.take_along_axis(network(tf.constant(images)).numpy(), chosen[:, None], 1)[:, 0]

    gained = score(x) - score(start(name, x))
    return np.abs(attributions.sum((1, 2, 3)) - gained).sum() / np.abs(gained).sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=96, help="height and width of the images (default 96)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default 3)")
    arguments = parser.parse_args()
    x = photographs(arguments.size)
    network = mobilenet(x)
    chosen = network(x).numpy().argmax(1)
    methods = {**theirs(network, x, chosen), **ours(network, x, chosen)}
    maps, last = {}, STEPS[-1]
    for name, explain in methods.items():
        measure.progress(f"explaining with {name}")
        maps[name] = {steps: explain(steps) for steps in STEPS}
    measure.progress("measuring")
    ready = {name: lambda explain=explain: explain(last) for name, explain in methods.items()}
    times = measure.interleaved(ready, arguments.rounds, budget=120)

    rows = []
    for name in methods:
        other = peer(name)
        pairs = zip(maps[name][last].reshape(len(x), -1), maps[other][last].reshape(len(x), -1))
        alike = [np.corrcoef(*pair)[0, 1] for pair in pairs]
        cells = (f"{times[name]:.2f}", f"{times[other] / times[name]:.1f}")
        rows.append((name, *cells, f"{np.median(alike):.3f}", f"{min(alike):.3f}"))
    print(f"{measure.machine()}, NumPy {np.__version__}; {len(x)} images of {x.shape[1]}x{x.shape[2]}\n")
    header = (f"{last} steps", "seconds", "saliency's time / this", "correlation with it, median", "least")
    print(measure.markdown(header, rows))

    rows = [
        (name, *(f"{incomplete(name, network, x, chosen, maps[name][steps]):.1e}" for steps in STEPS))
        for name in methods
    ]
    print("\nWhat sums are off by, as a share of the change of the output:\n")
    print(measure.markdown(("", *(f"{steps} steps" for steps in STEPS)), rows))

    small = photographs(16).astype(np.float64)
    network, zeros = dense_network(small[0].size), np.zeros(len(small), np.int64)
    expected = theirs(network, small, zeros)["saliency GuidedIG"](last)
    found = ours(network, small, zeros)["guided, riemann_left"](last)
    gap = np.abs(found - expected).max() / np.abs(expected).max()
    print(f"\nguided, riemann_left and saliency's on a small network in float64 differ by {gap:.0e}.")


if __name__ == "__main__":
    main()
