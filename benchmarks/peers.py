"""Integrated gradients by other libraries, behind one signature.

Each entry of `LIBRARIES` is a function `library(model, x, chosen)` for a Keras model, images
`x [B, 28, 28, 1]` and the class `chosen [B]` to explain in each row. It returns a `Library`: the
rules it can integrate with, and `prepare(rule, steps, rows, chosen=chosen)`, which returns a
function of no arguments that computes the attributions `[B, 28, 28, 1]`. `rows` is how many rows
go through the network at once, where the library lets its user choose.

Libraries are imported when they are asked for; each one is given the quickest form of the network
that it accepts.
"""

import collections
import functools

import networks
import numpy as np
import tensorflow as tf

import igtf as ig

Library = collections.namedtuple("Library", "rules prepare chooses_rows")

CAPTUM_RULES = (
    "riemann_middle",
    "gausslegendre",
    "riemann_trapezoid",
    "riemann_left",
    "riemann_right",
)


def this_project(model, x, chosen):
    """`integrated_gradients` with its defaults, in a `tf.function`."""

    def prepare(rule, steps, rows, chosen=chosen):
        del rows  # the default block

        @tf.function
        def attribute(x, weights):
            output = model(x, training=False)
            return ig.integrated_gradients(output, x, num_steps=steps, method=rule, grad_ys=weights)

        tensors = tf.constant(x), tf.one_hot(chosen, 10)
        return lambda: attribute(*tensors).numpy()

    return Library(("auto",), prepare, False)


def original(model, x, chosen):
    """A stand-in for the original project: every step stacked in one v1 graph, left Riemann sum.

    Written after its description: samples, references and multipliers are stacked to
    `[S, B, ...]`, merged to `[S * B, ...]` and run through the network in one batch; the gradient
    of the output is multiplied by the step size and summed over the stacked axis.
    """
    network = networks.in_v1_graph(model)
    tf1 = tf.compat.v1

    def prepare(rule, steps, rows, chosen=chosen):
        del rule, rows
        with tf.Graph().as_default():
            images = tf1.placeholder(tf.float32, [None, 28, 28, 1])
            weights = tf1.placeholder(tf.float32, [None, 10])
            start = tf1.placeholder_with_default(tf.zeros_like(images), [None, 28, 28, 1])
            sample = tf.stack([images] * steps)
            reference = tf.stack([start] * steps)
            multiplier = tf.stack([tf.ones_like(images) * i for i in range(steps)]) / steps
            difference = sample - reference
            merged = tf.concat([tf.shape(images)[:1] * steps, tf.shape(images)[1:]], 0)
            interpolated = tf.reshape(reference + multiplier * difference, merged)
            stepsize = tf.reshape(difference / steps, merged)
            output = tf.reduce_sum(network(interpolated) * tf.tile(weights, [steps, 1]), 1)
            (gradient,) = tf.gradients(output, interpolated)
            stacked = tf.reshape(gradient * stepsize, tf.shape(sample))
            result = tf.reduce_sum(stacked, 0)
            session = tf1.Session()
        feed = {images: x, weights: np.eye(10, dtype=np.float32)[chosen]}
        return lambda: session.run(result, feed)

    return Library(("left",), prepare, False)


def alibi(model, x, chosen):
    """alibi's `IntegratedGradients` on the network as a `tf.function`."""
    from alibi.explainers import IntegratedGradients

    class Compiled:
        inputs, output_shape = model.inputs, model.output_shape
        call = staticmethod(tf.function(functools.partial(model, training=False), reduce_retracing=True))

        def __call__(self, x):
            return self.call(tf.convert_to_tensor(x))

    compiled = Compiled()

    def prepare(rule, steps, rows, chosen=chosen):
        explainer = IntegratedGradients(compiled, method=rule, n_steps=steps, internal_batch_size=rows)
        return lambda: explainer.explain(x, target=chosen).attributions[0]

    return Library(CAPTUM_RULES, prepare, True)


def xplique(model, x, chosen):
    """Xplique's `IntegratedGradients`, which compiles the network itself."""
    from xplique.attributions import IntegratedGradients

    def prepare(rule, steps, rows, chosen=chosen):
        del rule
        explainer = IntegratedGradients(model, steps=steps, batch_size=rows, reducer=None)
        weights = np.eye(10, dtype=np.float32)[chosen]
        return lambda: explainer.explain(x, weights).numpy()

    return Library(("trapezoid",), prepare, True)


def saliency(model, x, chosen):
    """PAIR saliency's `IntegratedGradients`, one image after the other, on a `tf.function`."""
    import saliency.core

    @tf.function(reduce_retracing=True)
    def gradient(x, index):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = model(x, training=False)[:, index]
        return tape.gradient(output, x)

    def call_model(x, call_model_args, expected_keys):
        del expected_keys
        gradients = gradient(tf.constant(x, tf.float32), call_model_args)
        return {saliency.core.INPUT_OUTPUT_GRADIENTS: gradients.numpy()}

    explainer = saliency.core.IntegratedGradients()

    def prepare(rule, steps, rows, chosen=chosen):
        del rule
        classes = [tf.constant(c) for c in chosen]
        return lambda: np.stack(
            [
                explainer.GetMask(image, call_model, c, x_steps=steps, batch_size=rows)
                for image, c in zip(x, classes)
            ]
        )

    return Library(("its own",), prepare, True)


def captum(model, x, chosen):
    """Captum's `IntegratedGradients` on the same network and weights as a `torch.nn.Module`."""
    import torch
    from captum.attr import IntegratedGradients
    from torch_networks import translate

    translated = translate(model).to(memory_format=torch.channels_last)
    images = torch.tensor(np.moveaxis(x, -1, 1))
    with torch.no_grad():
        difference = np.abs(translated(images).numpy() - np.asarray(model(x))).max()
    if difference > 1e-4:
        raise RuntimeError(f"captum: the translated {model.name} differs by {difference:.1e}.")
    explainer = IntegratedGradients(translated)

    def prepare(rule, steps, rows, chosen=chosen):
        options = {"n_steps": steps, "method": rule, "target": torch.tensor(chosen)}
        # The number given for all rows means no internal batches at all: one concatenated input.
        if rows < steps * len(x):
            options["internal_batch_size"] = rows
        return lambda: np.moveaxis(explainer.attribute(images, **options).numpy(), 1, -1)

    return Library(CAPTUM_RULES, prepare, True)


# name in tables: library
LIBRARIES = {
    "this project": this_project,
    "original": original,
    "alibi": alibi,
    "Xplique": xplique,
    "PAIR saliency": saliency,
    "Captum": captum,
}
