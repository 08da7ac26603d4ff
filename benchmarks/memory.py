"""Peak memory of `integrated_gradients`: it must not grow with the number of steps.

`python benchmarks/memory.py` prints two Markdown tables: the peak at 5,000 steps beside that at 50
for two of the networks, and the peak for a MobileNetV2 with two images of 224x224 at 200 steps,
with the default block and with `max_rows=4`. (`tolerance` is the default method with a tolerance
that is never reached, and so many steps at most; `--methods path guided` are others.) Every figure is
the median of processes of their own: of the whole process, and above what it held once the network and
the images were there. The latter
counts tracing and the thread pools too, and starting a loop at all takes a few MiB.
"""

import argparse
import json
import statistics

import keras
import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig


def child(name, batch, steps, method, max_rows):
    """Peak memory of one call, in bytes: above idle, and of the whole process."""
    batch, steps, max_rows = int(batch), int(steps), int(max_rows) or None
    if name == "mobilenet":
        model = keras.applications.MobileNetV2(weights=None)
        x = np.random.default_rng(0).uniform(-1, 1, (batch, 224, 224, 3)).astype(np.float32)
    else:
        model, x = networks.trained(name), networks.rows(batch)
    x = tf.constant(x)
    model(x[:1])

    @tf.function
    def attribute(x):
        output = model(x, training=False)[:, 0]
        if method == "tolerance":  # one that is never reached: step after step up to the most
            return ig.integrated_gradients(output, x, None, steps, max_rows=max_rows, tolerance=0)
        if method == "path":
            return ig.path_integrated_gradients(output, x, lambda t: t**2 * x, steps, max_rows=max_rows)
        if method == "guided":
            return ig.guided_integrated_gradients(output, x, None, steps)
        return ig.integrated_gradients(output, x, None, steps, method, max_rows=max_rows)

    return measure.peak_memory(lambda: attribute(x).numpy())


def peak(repeats, name, batch, steps, method, max_rows=0):
    measure.progress(f"{name}: {batch} images, {steps} steps, {method}, max_rows={max_rows or None}")
    arguments = (__file__, name, batch, steps, method, max_rows)
    runs = [measure.in_child(*arguments) for _ in range(repeats)]
    return [statistics.median(values) for values in zip(*runs)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="images for the small networks")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each figure")
    parser.add_argument("--methods", nargs="+", default=["gausslegendre", "secant", "tolerance"])
    parser.add_argument("--only", choices=["steps", "mobilenet"], help="one of the two tables")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    print(f"{measure.machine()}.\n")
    if options.only != "mobilenet":
        table = []
        for name in ("mlp", "cnn"):
            for method in options.methods:
                few, many = (
                    peak(options.repeats, name, options.batch, steps, method) for steps in (50, 5000)
                )
                cells = [f"{value / measure.MIB:.0f}" for pair in zip(few, many) for value in pair]
                ratio = f"{many[1] / few[1]:.3f}"
                table.append((networks.NETWORKS[name][1], method, *cells, ratio))
        header = "network|method|50 steps, MiB above idle|5,000 steps|50 steps, MiB in all|5,000 steps|ratio"
        print(measure.markdown(header.split("|"), table) + "\n")
    if options.only != "steps":
        table = []
        for method in options.methods:
            for max_rows in (0, 4):
                bytes_ = peak(1, "mobilenet", 2, 200, method, max_rows)[0]
                table.append((method, max_rows or "default", f"{bytes_ / 2**30:.2f}"))
        print(measure.markdown(("MobileNetV2, method", "max_rows", "peak, GiB"), table))


if __name__ == "__main__":
    main()
