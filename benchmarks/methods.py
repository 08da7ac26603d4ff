"""What the methods of igtf.methods cost beside one bare gradient: time, as ratios.

`python benchmarks/methods.py` prints one Markdown table. Each method explains 32 images for the class
that the network predicts; the bare gradient is `tf.gradients` of the same outputs with respect to the
same images. All run in a `tf.function` of their own, in turns; medians. Occlusion, Shapley sampling
and expected gradients run the network once per window, feature or draw, so they are given per run.
"""

import argparse

import measure
import networks
import tensorflow as tf

import igtf.methods as methods

# name -> (network's outputs, inputs, weights of the outputs) -> attributions
METHODS = {
    "bare gradient": lambda y, x, weights: tf.gradients(y, x, weights)[0],
    "saliency": lambda y, x, weights: methods.saliency(y, x, weights),
    "gradient_times_input": lambda y, x, weights: methods.gradient_times_input(y, x, weights),
    "deeplift": lambda y, x, weights: methods.deeplift(y, x, grad_ys=weights),
    "epsilon_lrp": lambda y, x, weights: methods.epsilon_lrp(y, x, grad_ys=weights),
    "occlusion": lambda y, x, weights: methods.occlusion(y, x, (7, 7, 1), 7, grad_ys=weights),
    "shapley_value_sampling": lambda y, x, weights: methods.shapley_value_sampling(
        y, x, 1, [1], grad_ys=weights
    ),
    "expected_gradients": lambda y, x, weights: methods.expected_gradients(y, x, x, 16, grad_ys=weights),
}
RUNS = {"occlusion": 16, "shapley_value_sampling": 28, "expected_gradients": 16}
LIMITS = {"saliency": 1.5, "gradient_times_input": 1.5, "deeplift": 2.5, "epsilon_lrp": 2.5}


def ready(name, model, x, weights):
    """A function of no arguments that runs the method and waits for the result."""

    @tf.function
    def explain(x):
        return METHODS[name](model(x, training=False), x, weights)

    data = tf.constant(x)
    return lambda: explain(data).numpy()


def compare(network, rounds):
    """Seconds of a run of every method divided by those of the bare gradient, and the latter."""
    model, x = networks.trained(network), networks.rows()
    weights = tf.one_hot(networks.targets(model, x), 10)
    times = measure.interleaved({name: ready(name, model, x, weights) for name in METHODS}, rounds)
    bare = times["bare gradient"]
    return {name: seconds / RUNS.get(name, 1) / bare for name, seconds in times.items()}, bare


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=networks.NETWORKS, default=list(networks.NETWORKS))
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each (default 15)")
    arguments = parser.parse_args()
    columns = {}
    for network in arguments.networks:
        measure.progress(f"measuring {network}")
        columns[network] = compare(network, arguments.rounds)
    header = ("method", "at most", *columns)
    table = [("bare gradient, ms", "", *(measure.milliseconds(bare) for _, bare in columns.values()))]
    for name in list(METHODS)[1:]:
        title = f"{name}, each of {RUNS[name]} runs" if name in RUNS else name
        ratios = (f"{ratios[name]:.2f}" for ratios, _ in columns.values())
        table.append((title, LIMITS.get(name, ""), *ratios))
    print(f"{measure.machine()}; 32 images; times as multiples of the bare gradient\n")
    print(measure.markdown(header, table))


if __name__ == "__main__":
    main()
