"""`Explainer.explain` beside the traced graph function called by hand: throughput, and memory.

`python benchmarks/throughput.py` prints two Markdown tables: rows per second over 10,000 rows of the MLP,
in batches, of the explainer and of a loop that calls the same `tf.function` itself (in turns, medians);
and how much memory a process holds while 100,000 rows of a data set stream through `explain_batches`.
"""

import argparse
import json

import measure
import networks
import numpy as np
import tensorflow as tf

import igtf as ig
from igtf import Explainer


def many_rows(count):
    """`count` rows that look like the digits: each a held-out one with some noise."""
    x = networks.digits()[2]
    noise = np.random.default_rng(0).normal(scale=0.05, size=(count, *x.shape[1:]))
    return (x[np.arange(count) % len(x)] + noise).astype(np.float32)


def by_hand(model, x, batch_size, steps):
    """What a user would write: trace once, loop over batches, collect."""

    @tf.function(input_signature=[tf.TensorSpec([None, *x.shape[1:]], tf.float32)])
    def explain(x):
        ys = model(x, training=False)
        chosen = tf.one_hot(tf.argmax(ys, axis=1), 10)
        return ig.integrated_gradients(ys, x, num_steps=steps, grad_ys=chosen)

    def run():
        starts = range(0, len(x), batch_size)
        return np.concatenate([explain(x[i : i + batch_size]).numpy() for i in starts])

    return run


def throughput(rows, batch_size, steps, rounds):
    """`(seconds by hand, seconds of the explainer, traces)`."""
    model, x = networks.trained("mlp"), many_rows(rows)
    explains = Explainer(model, batch_size=batch_size, method_options={"num_steps": steps})
    runs = {
        "hand": by_hand(model, x, batch_size, steps),
        "explainer": lambda: explains.explain(x, progress=False),
    }
    worst = np.abs(runs["hand"]() - runs["explainer"]()).max()
    assert worst < 1e-6, worst
    times = measure.interleaved(runs, rounds, at_least=0)
    return times["hand"], times["explainer"], explains.traces


def child(rows, batch_size, steps):
    """Resident memory in bytes, after each tenth of the rows."""
    rows, batch_size, steps = int(rows), int(batch_size), int(steps)
    model, x = networks.trained("mlp"), many_rows(1000)
    batches = tf.data.Dataset.from_tensor_slices(x).repeat().take(rows).batch(batch_size)
    explains = Explainer(model, method_options={"num_steps": steps})
    held, done = [], 0
    for part in explains.explain_batches(batches, progress=False):
        done += len(part)
        if done >= (len(held) + 1) * rows / 10:
            held.append(measure.status("VmRSS"))
    print(json.dumps(held))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000, help="of the first table (default 10,000)")
    parser.add_argument("--streamed", type=int, default=100_000, help="of the second (default 100,000)")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default 7)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child)
    table = []
    for batch_size in (32, 128):
        measure.progress(f"measuring batches of {batch_size}")
        hand, mine, traces = throughput(arguments.rows, batch_size, arguments.steps, arguments.rounds)
        rates = (f"{arguments.rows / seconds:,.0f}" for seconds in (hand, mine))
        table.append((batch_size, *rates, f"{hand / mine:.2f}", "0.90", traces))
    print(f"{measure.machine()}; MLP, {arguments.rows:,} rows, {arguments.steps} steps\n")
    header = ("batch size", "by hand, rows/s", "Explainer, rows/s", "ratio", "at least", "traces")
    print(measure.markdown(header, table) + "\n")
    measure.progress(f"streaming {arguments.streamed:,} rows")
    held = measure.in_child(__file__, arguments.streamed, 128, arguments.steps)
    shares = [f"{arguments.streamed * (i + 1) // 10:,}" for i in range(10)]
    table = [("memory, MiB", *(f"{bytes_ / measure.MIB:.0f}" for bytes_ in held))]
    print(measure.markdown(("rows streamed", *shares), table))


if __name__ == "__main__":
    main()
