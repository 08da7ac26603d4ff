"""How accurate the attributions are: error, order of convergence, completeness.

`python benchmarks/accuracy.py` prints two Markdown tables for the trained networks. The first has
the mean relative L1 error of the attributions of the predicted class, for 32 images, and the order p in
error ~ steps^-p, fitted to all columns. (Errors of 1e-4 and below are those of the reference.) The
second has the relative completeness error of `secant`: the largest of the images'
|sum of attributions - (F(x) - F(0))|, over the mean of |F(x) - F(0)|.
"""

import argparse

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig


def one_liner(model, x, chosen, method, steps):
    """Attributions of the chosen classes by `integrated_gradients`."""

    @tf.function
    def attribute(x, weights):
        output = model(x, training=False)
        return ig.integrated_gradients(output, x, None, steps, method, grad_ys=weights)

    return attribute(tf.constant(x), tf.one_hot(chosen, 10, dtype=x.dtype)).numpy()


# title: method
VARIANTS = {"left": "riemann_left", "gausslegendre": "gausslegendre", "secant": "secant", "auto": "auto"}


def errors(name, steps, batch, variants):
    """One row of the first table for each variant."""
    model, x = networks.trained(name), networks.rows(batch)
    chosen, expected = networks.targets(model, x), networks.reference(name, batch)
    table = []
    for title in variants:
        found = []
        for count in steps:
            measure.progress(f"{name}, {title}, {count} steps")
            found.append(networks.error(one_liner(model, x, chosen, VARIANTS[title], count), expected))
        slope = np.polyfit(np.log(steps), np.log(found), 1)[0] if len(steps) > 1 else np.nan
        cells = [f"{error:.1e}" for error in found] + [f"{-slope:.1f}"]
        table.append([networks.NETWORKS[name][1], title, *cells])
    return table


def completeness(name, dtype, steps, batch):
    """The relative completeness error of `secant` for each number of steps."""
    model = networks.trained(name, dtype)
    x = networks.rows(batch).astype(dtype)
    chosen = networks.targets(model, x)
    picked = np.arange(batch), chosen
    change = np.asarray(model(x))[picked] - np.asarray(model(np.zeros_like(x)))[picked]
    found = []
    for count in steps:
        measure.progress(f"{name}, completeness in {dtype}, {count} steps")
        total = one_liner(model, x, chosen, "secant", count).astype(np.float64).sum((1, 2, 3))
        found.append(np.max(np.abs(total - change)) / np.mean(np.abs(change)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 20, 50, 100])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--only", choices=["errors", "completeness"], help="one of the two tables")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    print(f"{options.batch} images, {measure.machine()}.\n")
    if options.only != "completeness":
        table = []
        for name in options.networks:
            table += errors(name, options.steps, options.batch, options.variants)
        header = ["network", "rule", *(f"{count} steps" for count in options.steps), "order"]
        print(measure.markdown(header, table) + "\n", flush=True)
    if options.only != "errors":
        table = []
        for name in options.networks:
            cells = [networks.NETWORKS[name][1]]
            for dtype in ("float32", "float64"):
                cells += [f"{e:.0e}" for e in completeness(name, dtype, (10, 50), options.batch)]
            table.append(cells)
        header = ["completeness of secant"]
        header += [f"{dtype}, {n} steps" for dtype in ("float32", "float64") for n in (10, 50)]
        print(measure.markdown(header, table))


if __name__ == "__main__":
    main()
