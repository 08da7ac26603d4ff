"""What `integrated_gradients` costs: beside the bare gradient, per class, per step, to build.

`python benchmarks/speed.py` prints four Markdown tables, all for 32 images and 50 steps, medians of
measurements taken in turns:

1. all ten classes by `integrated_jacobian` beside the bare gradient: `tf.gradients` of the same
   outputs with respect to 1,600 ready-made rows, in a `tf.function` of its own;
2. `integrated_jacobian` for ten classes beside `integrated_gradients` for one;
3. one class: `secant` beside `gausslegendre`, in all and for each further step (from 50 to 150
   steps), and a static batch of 32 beside an unknown batch size;
4. building the nodes for a ResNet50 beside one call of `tf.gradients`.
"""

import argparse
import statistics
import time

import keras
import measure
import networks
import overhead
import tensorflow as tf

import igtf as ig

METHODS = ("gausslegendre", "secant")


def one_class(model, x, method, steps, static=True):
    """A function of no arguments that attributes class 0 to the images."""

    @tf.function(input_signature=None if static else [tf.TensorSpec([None, *x.shape[1:]])])
    def attribute(x):
        output = model(x, training=False)[:, 0]
        return ig.integrated_gradients(output, x, None, steps, method)

    x = tf.constant(x)
    return lambda: attribute(x)


def jacobian(model, x, method, steps):
    """The same for all classes."""

    @tf.function
    def attribute(x):
        return ig.integrated_jacobian(model(x, training=False), x, None, steps, method)

    x = tf.constant(x)
    return lambda: attribute(x)


def bare_table(names, x, steps, rounds):
    table = []
    for name in names:
        measure.progress(f"{name}: ten classes beside the bare gradient")
        model = networks.trained(name)
        functions = {"bare": overhead.in_function("bare", model, x, 10, steps)}
        functions |= {method: jacobian(model, x, method, steps) for method in METHODS}
        times = measure.interleaved(functions, rounds)
        cells = [networks.NETWORKS[name][1], measure.milliseconds(times["bare"])]
        for method in METHODS:
            cells += [measure.milliseconds(times[method]), f"{times[method] / times['bare']:.2f}"]
        table.append(cells)
    header = ["ten classes", "bare gradient, ms"]
    return measure.markdown(header + [c for m in METHODS for c in (f"{m}, ms", "ratio")], table)


def jacobian_table(names, x, steps, rounds):
    table = []
    for name in names:
        measure.progress(f"{name}: ten classes beside one")
        model = networks.trained(name)
        functions = {}
        for method in METHODS:
            functions["one", method] = one_class(model, x, method, steps)
            functions["ten", method] = jacobian(model, x, method, steps)
        times = measure.interleaved(functions, rounds)
        for method in METHODS:
            one, ten = times["one", method], times["ten", method]
            cells = (measure.milliseconds(one), measure.milliseconds(ten), f"{ten / one:.1f}")
            table.append((networks.NETWORKS[name][1], method, *cells))
    return measure.markdown(("network", "method", "one class, ms", "ten, ms", "ratio"), table)


def step_table(names, x, steps, rounds):
    table = []
    for name in names:
        measure.progress(f"{name}: one class, secant beside gausslegendre, static beside dynamic")
        model = networks.trained(name)
        functions = {}
        for method in METHODS:
            functions[method] = one_class(model, x, method, steps)
            functions[method, "more"] = one_class(model, x, method, 3 * steps)
            functions[method, "dynamic"] = one_class(model, x, method, steps, static=False)
        times = measure.interleaved(functions, rounds)
        gauss, secant = (times[method] for method in METHODS)
        further = [(times[m, "more"] - times[m]) / (2 * steps) for m in METHODS]
        ratios = [secant / gauss, further[1] / further[0]]
        ratios += [times[method] / times[method, "dynamic"] for method in METHODS]
        cells = [measure.milliseconds(gauss), measure.milliseconds(secant)]
        table.append([networks.NETWORKS[name][1], *cells, *(f"{ratio:.2f}" for ratio in ratios)])
    header = "one class|gausslegendre, ms|secant, ms|ratio|ratio of one further step"
    header += "|static : dynamic, gausslegendre|secant"
    return measure.markdown(header.split("|"), table)


def build_table(rounds):
    model = keras.applications.ResNet50(weights=None)
    took = {"tf.gradients": []} | {method: [] for method in METHODS}

    def build(name):
        @tf.function(autograph=False)
        def traced(x):
            output = model(x, training=False)[:, 0]
            start = time.perf_counter()
            if name == "tf.gradients":
                result = tf.gradients(output, x)[0]
            else:
                result = ig.integrated_gradients(output, x, method=name)
            took[name].append(time.perf_counter() - start)
            return result

        traced.get_concrete_function(tf.TensorSpec([None, 224, 224, 3]))

    for i in range(rounds + 1):
        measure.progress(f"ResNet50: building, round {i}")
        for name in took:
            build(name)
    times = {name: statistics.median(values[1:]) for name, values in took.items()}
    table = [
        (name, f"{seconds:.2f}", f"{seconds / times['tf.gradients']:.1f}") for name, seconds in times.items()
    ]
    return measure.markdown(("building for ResNet50", "seconds", "ratio"), table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved measurements of each")
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS))
    parser.add_argument("--only", nargs="+", choices=("bare", "jacobian", "step", "build"))
    options = parser.parse_args()
    x = networks.rows(options.batch)
    arguments = (options.networks, x, options.steps, options.rounds)
    print(f"{options.batch} images, {options.steps} steps, {measure.machine()}.\n")
    tables = {
        "bare": lambda: bare_table(*arguments),
        "jacobian": lambda: jacobian_table(*arguments),
        "step": lambda: step_table(*arguments),
        "build": lambda: build_table(min(5, options.rounds)),
    }
    for name in options.only or tables:
        print(tables[name]() + "\n", flush=True)


if __name__ == "__main__":
    main()
