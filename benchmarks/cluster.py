"""Data sets on a local Ray: two workers beside one, and memory while many rows go through.

`python benchmarks/cluster.py` prints two Markdown tables: seconds for the rows of the MLP with one worker and
with two, of one thread each, at the pace of the last two thirds (the start of the workers is not counted);
and how much memory a worker and the driver hold after each tenth of 200,000 rows.
"""

import argparse
import functools
import os
import time

import measure
import networks
import numpy as np
import ray

from igtf import Explainer
from igtf.ray import explain_dataset

# Workers import these modules, too.
os.environ["PYTHONPATH"] = os.pathsep.join([str(measure.ROOT), str(measure.ROOT / "benchmarks")])


class Watched(Explainer):
    """Says how much memory its process holds, in the place of the deltas."""

    def __call__(self, *arguments, **options):
        explanation = super().__call__(*arguments, **options)
        explanation.delta[:] = measure.status("VmRSS") / measure.MIB
        return explanation


def make_explainer(steps):
    return Watched(networks.trained("mlp"), num_steps=steps)


def many_rows(count, blocks):
    """A data set of numbers of rows, which become digits with some noise where they are needed."""

    def rows(batch):
        x = networks.digits()[2]
        noise = np.random.default_rng(0).normal(scale=0.05, size=x[0].shape)
        return {"id": batch["id"], "x": (x[batch["id"] % len(x)] + noise).astype(np.float32)}

    return ray.data.range(count, override_num_blocks=blocks).map_batches(rows, batch_size=512)


def seconds(options, workers):
    """For all rows, at the pace from the first third of them to the last one."""
    table = many_rows(options.rows, 40).materialize()
    make = functools.partial(make_explainer, options.steps)
    found = explain_dataset(table, make, "x", batch_size=256, concurrency=workers, keep=["id"], row_id="id")
    done, seen = 0, []
    for batch in found.iter_batches(batch_size=None, prefetch_batches=0):
        done += len(batch["id"])
        seen.append((done, time.perf_counter()))
    (first, begin), (last, end) = next(s for s in seen if s[0] >= options.rows / 3), seen[-1]
    return (end - begin) / (last - first) * options.rows


def memory(options):
    """MiB of a worker and of the driver after each tenth of the rows."""
    found = explain_dataset(
        many_rows(options.streamed, options.streamed // 1000),
        functools.partial(make_explainer, 5),
        "x",
        concurrency=1,
        keep=["id"],
    )
    done, held = 0, []
    for batch in found.iter_batches(batch_size=None, prefetch_batches=0):
        done += len(batch["id"])
        if done >= (len(held) + 1) * options.streamed / 10:
            held.append((batch["delta"].max(), measure.status("VmRSS") / measure.MIB))
    assert done == options.streamed, done
    return held


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="of the first table (default 20,000)")
    parser.add_argument("--streamed", type=int, default=200_000, help="of the second (default 200,000)")
    parser.add_argument("--steps", type=int, default=50, help="of the first table (default 50)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default 3)")
    options = parser.parse_args()
    networks.trained("mlp")  # and its weights are in a file
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    times = {1: [], 2: []}
    for number in range(options.rounds):
        for workers in times:
            measure.progress(f"round {number + 1}: {workers} workers")
            times[workers].append(seconds(options, workers))
    one, two = (float(np.median(values)) for values in times.values())
    print(f"{measure.machine()}; MLP, {options.rows:,} rows, {options.steps} steps\n")
    header = ("one worker, s", "two workers, s", "ratio", "at most")
    print(measure.markdown(header, [(f"{one:.1f}", f"{two:.1f}", f"{two / one:.2f}", "0.65")]) + "\n")
    measure.progress(f"streaming {options.streamed:,} rows")
    shares = [f"{options.streamed * (i + 1) // 10:,}" for i in range(10)]
    held = zip(*memory(options))
    table = [(name, *(f"{mib:.0f}" for mib in values)) for name, values in zip(("worker", "driver"), held)]
    print(measure.markdown(("memory, MiB, after rows", *shares), table))


if __name__ == "__main__":
    main()
