"""Metrics beside Captum's, Xplique's and Quantus', on the same network, attributions, masks and noise.

`python benchmarks/evaluation.py` judges attributions of the CNN of `networks.py`, 32 digits of 28x28 pixels,
with 64 perturbations (56 steps of 14 pixels for curves, which all three cut alike): how far values are from
those of the others, and the time of both. Quantus is asked where it is installed (`pip install quantus`).
`--only memory`: the peak memory for few and for many perturbations, each in a process of its own.
"""

import argparse
import contextlib
import io
import json
import warnings

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig

SAMPLES, STEPS, SEED = 64, 56, 0
RADIUS, SIZE = 0.02, 157  # of the noise; of the subsets, a fifth of the pixels


class Task:
    """The network in both worlds, 32 digits, the classes that it predicts, and attributions of them."""

    def __init__(self):
        self.model, self.x = networks.trained("cnn"), networks.rows()
        self.classes = networks.targets(self.model, self.x)
        self.maps = self.run(lambda ys, x: ig.integrated_gradients(ys, x, num_steps=50))()

    def run(self, metric, x=None):
        """A function of no arguments: what `metric(ys, x)` is for all rows, as NumPy."""
        model, chosen = self.model, tf.one_hot(self.classes, 10)

        @tf.function
        def build(x):
            return metric(tf.reduce_sum(model(x, training=False) * chosen, 1), x)

        data = tf.constant(self.x if x is None else x)
        return lambda: tf.nest.map_structure(np.asarray, build(data))

    def judge(self, metric, **options):
        return self.run(lambda ys, x: metric(ys, x, tf.constant(self.maps), **options))

    def in_torch(self):
        """The same network, digits `[32, 1, 28, 28]`, classes."""
        import torch
        from torch_networks import translate

        torch.set_num_threads(2)
        network = translate(self.model).to(memory_format=torch.channels_last)
        return network, torch.tensor(np.moveaxis(self.x, -1, 1)), torch.tensor(self.classes)


def subsets():
    """Those that `infidelity` and `mu_fidelity` draw, `[64, 784]`: the draws are TensorFlow's."""
    order = [
        np.argsort(tf.random.stateless_uniform([784], [SEED, number], alg="philox").numpy(), kind="stable")
        for number in range(SAMPLES)
    ]
    return np.array(order) < SIZE


def of_captum(task):
    """`{name: (ours, theirs)}`."""
    import torch
    from captum.attr import Saliency
    from captum.metrics import infidelity, sensitivity_max

    network, images, classes = task.in_torch()
    maps = torch.tensor(np.moveaxis(task.maps, -1, 1))
    masks = torch.tensor(subsets().reshape(SAMPLES, 1, 28, 28))
    noise = [
        tf.random.stateless_uniform([1, 28, 28, 1], [SEED, n], -1, 1, alg="philox") for n in range(SAMPLES)
    ]
    noise = torch.tensor(RADIUS * np.moveaxis(np.concatenate(noise), -1, 1))

    def covered(inputs):  # rows one after the other, each with all its masks
        every = masks.repeat(len(inputs) // SAMPLES, 1, 1, 1)
        return every.float(), torch.where(every, 0.0, inputs)

    def moved(inputs):
        return inputs + noise.repeat(len(inputs) // SAMPLES, 1, 1, 1)

    options = dict(n_perturb_samples=SAMPLES, target=classes)
    explain = Saliency(network).attribute
    # Where pixels are equal, the two max poolings send gradients elsewhere: digits with some grain.
    grain = np.random.default_rng(SEED).uniform(0, 0.1, task.x.shape).astype(np.float32)
    sensitive = task.run(
        lambda ys, x: ig.sensitivity_max(ig.saliency, ys, x, RADIUS, SAMPLES, seed=SEED), task.x + grain
    )
    grainy = images + torch.tensor(np.moveaxis(grain, -1, 1))
    return {
        "`infidelity`, Captum": (
            task.judge(ig.infidelity, num_samples=SAMPLES, fraction=SIZE / 784, seed=SEED),
            lambda: infidelity(network, covered, images, maps, **options).numpy(),
        ),
        "`sensitivity_max` of saliency, Captum": (
            sensitive,
            lambda: sensitivity_max(explain, grainy, moved, **options).numpy(),
        ),
    }


def of_xplique(task):
    from xplique.metrics import Deletion, Insertion, MuFidelity

    options = dict(batch_size=1600)
    labels = np.eye(10, dtype=np.float32)[task.classes]
    found = {}
    for ours, theirs in ((ig.deletion, Deletion), (ig.insertion, Insertion)):
        metric = theirs(task.model, task.x, labels, steps=STEPS, **options)
        run = task.judge(ours, num_steps=STEPS)
        found[f"`{ours.__name__}`, Xplique"] = (
            lambda run=run: run().mean(),
            lambda metric=metric: metric.evaluate(task.maps),
        )
    metric = MuFidelity(task.model, task.x, labels, 1600, 28, SIZE / 784, nb_samples=SAMPLES)
    ranked = task.judge(ig.mu_fidelity, num_samples=SAMPLES, fraction=SIZE / 784, ranks=True)
    found["`mu_fidelity` of ranks, Xplique (its own masks)"] = (
        lambda: ranked().mean(),
        lambda: metric.evaluate(task.maps),
    )
    return found


def of_quantus(task):
    with contextlib.redirect_stdout(io.StringIO()):
        import quantus

    network, images, _ = task.in_torch()
    images, maps = images.numpy(), np.moveaxis(task.maps, -1, 1)
    silent = dict(disable_warnings=True, display_progressbar=False)
    flipping = quantus.PixelFlipping(features_in_step=784 // STEPS, **silent)
    correlation = quantus.FaithfulnessCorrelation(
        nr_runs=SAMPLES, subset_size=SIZE, return_aggregate=False, **silent
    )

    def theirs(metric):
        options = dict(a_batch=maps, channel_first=True, softmax=False, batch_size=len(images))
        return lambda: np.array(metric(network, images, task.classes, **options))

    run = task.judge(ig.deletion, num_steps=STEPS, return_curves=True)
    fidelity = task.judge(ig.mu_fidelity, num_samples=SAMPLES, fraction=SIZE / 784)
    return {
        "`deletion`, Quantus (pixel flipping)": (lambda: run()[1][:, 1:], theirs(flipping)),
        "`mu_fidelity`, Quantus (its own masks)": (
            lambda: fidelity().mean(),
            lambda: theirs(correlation)().mean(),
        ),
    }


def forward(task):
    """What running the network on as many rows takes, in one batch."""
    run = tf.function(lambda x: task.model(x, training=False))
    many = tf.constant(np.repeat(task.x, SAMPLES, 0))
    return lambda: run(many).numpy()


def compare(rounds):
    task, table = Task(), []
    bare = measure.interleaved({"bare": forward(task)}, rounds)["bare"]
    print(f"The network alone on {SAMPLES * len(task.x):,} rows: {measure.milliseconds(bare)} ms.\n")
    for library in (of_captum, of_xplique, of_quantus):
        try:
            pairs = library(task)
        except ImportError as error:
            measure.progress(f"left out: {error}")
            continue
        for name, (ours, theirs) in pairs.items():
            measure.progress(name)
            a, b = np.asarray(ours(), np.float64), np.asarray(theirs(), np.float64)
            apart = f"{a.mean():.4g}, {b.mean():.4g}"
            if "own masks" not in name:
                apart += f" ({np.abs(a - b).max() / np.abs(b).max():.0e})"
            times = measure.interleaved({"ours": ours, "theirs": theirs}, rounds, pause=0.3, budget=15)
            ratio = times["theirs"] / times["ours"]
            row = [measure.milliseconds(times[key]) for key in ("ours", "theirs")]
            table.append((name, apart, *row, f"{ratio:.1f}"))
    header = ("metric, library", "mean, theirs (largest difference)", "ms", "ms, theirs", "times")
    print(measure.markdown(header, table) + "\n")


def child(samples):
    task = Task()
    run = task.judge(ig.infidelity, num_samples=int(samples), seed=SEED)
    return measure.peak_memory(run)


def memory():
    table = []
    for samples in (64, 640, 6400):
        measure.progress(f"memory of {samples} perturbations")
        above, whole = measure.in_child(__file__, samples)
        table.append((f"{samples:,}", f"{above / measure.MIB:.0f}", f"{whole / measure.MIB:.0f}"))
    print(measure.markdown(("perturbations", "MiB above idle", "MiB in all"), table))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=("compare", "memory"), default=["compare", "memory"])
    parser.add_argument(
        "--rounds", type=int, default=7, help="measurements of each, of which the median counts"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.child:
        print(json.dumps(child(options.child)))
        return
    print(f"{measure.machine()}.\n")
    if "compare" in options.only:
        compare(options.rounds)
    if "memory" in options.only:
        memory()


if __name__ == "__main__":
    main()
