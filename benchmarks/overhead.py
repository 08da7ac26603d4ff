"""What the recipe costs beside the bare gradient: time and peak memory, as ratios.

`python benchmarks/overhead.py` prints one Markdown table. `build_ig` explains 32 images with 50
steps; the bare gradient is `tf.gradients` of the same network's outputs with respect to the same
1,600 rows, which it finds ready-made. So the ratio holds everything the recipe adds: making the
rows, weighting the gradients and summing them over the steps.

Both run in a `tf.compat.v1` session (frozen network, results fetched) and in a `tf.function` (Keras
model, results returned). Memory is the peak of a process of its own above what it held once the
network and the images were there, so it counts tracing and the thread pools too; the rows of the
bare gradient count as its memory.
"""

import argparse
import json

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig
from integrated_gradients_tf import quadrature

GRAPHS = ("session", "function")


def path(x, steps):
    """The rows `[S * B, ...]` that the recipe makes: the bare gradient finds them ready."""
    alphas, _ = quadrature(steps, "gausslegendre")
    alphas = alphas.astype(np.float32).reshape([-1] + [1] * x.ndim)
    return (alphas * x).reshape((-1,) + x.shape[1:])


def recipe(network, x, classes, steps):
    inter, stepsize, _ = ig.linear_interpolation(x, steps)
    output = network(inter)
    return [ig.build_ig(inter, stepsize, output[:, i], steps) for i in range(classes)]


def bare(network, rows, classes):
    output = network(rows)
    return [tf.gradients(output[:, i], rows)[0] for i in range(classes)]


def in_function(variant, model, x, classes, steps):
    """A function of no arguments that runs the variant in a `tf.function`."""
    network = lambda rows: model(rows, training=False)  # noqa: E731
    if variant == "recipe":
        function, data = tf.function(lambda x: recipe(network, x, classes, steps)), x
    else:
        function, data = tf.function(lambda rows: bare(network, rows, classes)), path(x, steps)
    data = tf.constant(data)
    return lambda: function(data)


def in_session(variant, model, x, classes, steps):
    """The same in a v1 graph and a session of its own."""
    network = networks.in_v1_graph(model)
    with tf.Graph().as_default():
        if variant == "recipe":
            data = tf.compat.v1.placeholder(tf.float32, [None, *x.shape[1:]])
            fetches, feed = recipe(network, data, classes, steps), {data: x}
            session = tf.compat.v1.Session()
        else:
            # A variable, so that no run pays for copying the rows into the session.
            rows = path(x, steps)
            initial = tf.compat.v1.placeholder(tf.float32, rows.shape)
            data = tf.compat.v1.get_variable("rows", initializer=initial, use_resource=True)
            fetches, feed = bare(network, data.read_value(), classes), None
            session = tf.compat.v1.Session()
            session.run(data.initializer, {initial: rows})
    return lambda: session.run(fetches, feed)


RUNNERS = {"session": in_session, "function": in_function}


def child(graph, variant, name, classes, batch, steps):
    """Peak memory of three runs, in bytes above the process with network and images."""
    model, x = networks.trained(name), networks.rows(int(batch))
    model(x[:1])

    def run():
        function = RUNNERS[graph](variant, model, x, int(classes), int(steps))
        for _ in range(3):
            function()

    return measure.peak_memory(run)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved measurements of each")
    parser.add_argument("--networks", nargs="+", default=["mlp", "cnn"], choices=networks.NETWORKS)
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    table = []
    x = networks.rows(options.batch)
    for name in options.networks:
        model = networks.trained(name)
        for classes in (1, 10):
            for graph in GRAPHS:
                measure.progress(f"{name}, {classes} of 10 classes, {graph}")
                functions = {
                    variant: RUNNERS[graph](variant, model, x, classes, options.steps)
                    for variant in ("bare", "recipe")
                }
                times = measure.interleaved(functions, options.rounds)
                memory = {
                    variant: measure.in_child(
                        __file__, graph, variant, name, classes, options.batch, options.steps
                    )
                    for variant in ("bare", "recipe")
                }
                table.append(
                    (
                        networks.NETWORKS[name][1],
                        classes,
                        graph,
                        *(measure.milliseconds(times[v]) for v in ("bare", "recipe")),
                        f"{times['recipe'] / times['bare']:.2f}",
                        *(f"{memory[v] / measure.MIB:.0f}" for v in ("bare", "recipe")),
                        f"{memory['recipe'] / memory['bare']:.2f}",
                    )
                )
    print(f"{options.batch} images, {options.steps} steps, {measure.machine()}.\n")
    header = "network|classes|graph|bare, ms|recipe, ms|ratio|bare, MiB|recipe, MiB|ratio"
    print(measure.markdown(header.split("|"), table))


if __name__ == "__main__":
    main()
