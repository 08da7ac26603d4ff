"""A SavedModel of `igtf.serving` beside the live function: the same reply, in turns.

`python benchmarks/serving.py` prints a Markdown table: milliseconds per request of the function in the
process that built it and of the loaded signature, for two networks, with steps and with a tolerance. The
reply of both is the prediction, the attributions of the predicted class, their delta and their error.
"""

import argparse
import tempfile

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig
from igtf.serving import save_explained

OPTIONS = {"50 steps": {"num_steps": 50}, "tolerance 1 %": {"tolerance": 0.01}}


def live(model, shape, baseline, options):
    """What a user would write."""

    @tf.function(input_signature=[tf.TensorSpec([None, *shape], tf.float32)])
    def explain(x):
        ys = model(x, training=False)
        chosen = tf.one_hot(tf.argmax(ys, axis=1), 10)
        found = ig.integrated_gradients(ys, x, baseline, grad_ys=chosen, return_error=True, **options)
        delta = ig.convergence_delta(ys, x, baseline, found[0], chosen)
        return {"prediction": ys, "attributions": found[0], "delta": delta, "error": found[1]}

    return explain


def compared(name, rows, options, rounds):
    """Seconds of both, and the largest difference of the attributions as a share of the largest."""
    model, x = networks.trained(name), tf.constant(networks.digits()[2][:rows])
    baseline = np.zeros([1, *x.shape[1:]], np.float32)
    with tempfile.TemporaryDirectory() as folder:
        save_explained(model, folder, baseline, **options)
        served = tf.saved_model.load(folder).signatures["explain"]
    function = live(model, x.shape[1:], baseline, options)
    runs = {"live": lambda: function(x)["error"].numpy(), "served": lambda: served(inputs=x)["error"].numpy()}
    ours, theirs = (run["attributions"].numpy() for run in (function(x), served(inputs=x)))
    return measure.interleaved(runs, rounds), np.abs(ours - theirs).max() / np.abs(ours).max()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32], help="of a request (default 1 32)")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each (default 15)")
    options = parser.parse_args()
    table = []
    for name in ("mlp", "cnn"):
        for label, how in OPTIONS.items():
            for rows in options.rows:
                measure.progress(f"measuring {name}, {label}, {rows} rows")
                times, apart = compared(name, rows, how, options.rounds)
                both = (measure.milliseconds(times[which]) for which in ("live", "served"))
                ratio = f"{times['served'] / times['live']:.2f}"
                table.append((networks.NETWORKS[name][1], label, rows, *both, ratio, f"{apart:.0e}"))
    print(f"{measure.machine()}\n")
    header = ("network", "", "rows", "live, ms", "served, ms", "ratio", "apart")
    print(measure.markdown(header, table))


if __name__ == "__main__":
    main()
