"""Explains a dataset shard by shard, on all devices of a machine or on several machines.

    python examples/explain_shards.py network.keras rows.npy maps --devices 2

explains the predicted class of every row and writes `maps/00000-of-00010.npy` and so on: shard `i` has
the attributions of rows `i * shard_rows` to `(i + 1) * shard_rows - 1`, in the order of the rows. A shard
is written under another name and renamed when it is whole, so what is there is finished: after a
breakdown start the same command again, and only what is missing is computed.

Without `TF_CONFIG` one process uses all GPUs, or as many virtual CPUs as `--devices` says. With it, start
the same command on every machine: `MultiWorkerMirroredStrategy` shares the weights, and worker `w` of `W`
takes the shards `w, w + W, w + 2 * W ...`. The machines need a common folder to write to, or the
shards have to be brought together afterwards.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import igtf as ig


def make_strategy(devices):
    """The strategy of this process, its index and the number of processes."""
    if os.environ.get("TF_CONFIG"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        resolver = strategy.cluster_resolver
        return strategy, resolver.task_id, len(resolver.cluster_spec().as_dict()["worker"])
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy(), 0, 1
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(devices)]
    tf.config.set_logical_device_configuration(cpu, parts)
    return tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(devices)]), 0, 1


def make_explainer(strategy, path, num_steps, target):
    """A function from an array of rows, a multiple of the local devices, to their attributions."""
    with strategy.scope():
        model = tf.keras.models.load_model(path, compile=False)

    def attribute(rows):
        ys = model(rows, training=False)
        classes = tf.argmax(ys, axis=1) if target is None else tf.fill([tf.shape(ys)[0]], target)
        chosen = tf.one_hot(classes, ys.shape[1], dtype=ys.dtype)
        return ig.integrated_gradients(ys, rows, num_steps=num_steps, grad_ys=chosen)

    @tf.function
    def run(rows):
        return strategy.run(attribute, (rows,))

    replicas = len(strategy.extended.worker_devices)

    def explain(rows):
        pieces = iter(np.split(rows, replicas))
        values = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(next(pieces)))
        return np.concatenate([part.numpy() for part in strategy.experimental_local_results(run(values))])

    return explain, replicas


def explain_rows(explain, rows, batch):
    """All rows in batches of one size: the last one is filled up, and cut afterwards."""
    parts = []
    for start in range(0, len(rows), batch):
        part = np.array(rows[start : start + batch], np.float32)
        missing = batch - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)])
        parts.append(explain(filled)[: len(part)])
    return np.concatenate(parts)


def write_atomically(path, worker, write):
    """Writes under another name in the same folder; `path` is there when it is whole, or not at all."""
    temporary = path.with_name(f"{path.name}.{worker}.part")
    with open(temporary, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def check_settings(folder, worker, settings):
    """Shards of different settings must not end up in one folder."""
    path = folder / "settings.json"
    if not path.exists():
        write_atomically(path, worker, lambda file: file.write(json.dumps(settings, indent=1).encode()))
    there = json.loads(path.read_text("utf-8"))
    differ = [key for key in settings if there.get(key) != settings[key]]
    if differ:
        raise SystemExit(
            f"{folder} holds shards with other settings: "
            + ", ".join(f"{key} was {there.get(key)} and is {settings[key]}" for key in differ)
            + ". Expected the same command as before. Name another folder, or remove this one."
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a Keras model, .keras or .h5, whose output is [B, classes]")
    parser.add_argument("rows", help="an .npy file, [N, ...]")
    parser.add_argument("output", help="folder for the shards, created if it is not there")
    parser.add_argument("--devices", type=int, default=1, help="virtual CPUs, where there is no GPU")
    parser.add_argument("--shard-rows", type=int, default=1000, help="rows in a shard")
    parser.add_argument("--batch-rows", type=int, default=64, help="rows on a device at once")
    parser.add_argument("--num-steps", type=int, default=50)
    parser.add_argument("--target", type=int, help="class to explain instead of the predicted one")
    options = parser.parse_args()
    for name in ("devices", "shard_rows", "batch_rows", "num_steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} is {getattr(options, name)}, expected 1 or more.")

    strategy, worker, workers = make_strategy(options.devices)
    rows = np.load(options.rows, mmap_mode="r")
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "model": hashlib.sha256(Path(options.model).read_bytes()).hexdigest(),
        "rows": [*rows.shape],
        "shard_rows": options.shard_rows,
        "num_steps": options.num_steps,
        "target": options.target,
    }
    check_settings(folder, worker, settings)

    explain, replicas = make_explainer(strategy, options.model, options.num_steps, options.target)
    shards = -(-len(rows) // options.shard_rows)
    mine = range(worker, shards, workers)
    done = 0
    for number, shard in enumerate(mine, 1):
        part = rows[shard * options.shard_rows : (shard + 1) * options.shard_rows]
        path = folder / f"{shard:05}-of-{shards:05}.npy"
        what = "was there"
        if not path.exists():
            maps = explain_rows(explain, part, options.batch_rows * replicas)
            write_atomically(path, worker, lambda file, maps=maps: np.save(file, maps))
            what = "written"
        done += len(part)
        print(f"worker {worker}: {path.name} {what}, {number} of {len(mine)}", flush=True)

    # The workers wait for one another here, as the first one serves the others.
    counts = iter([done] + [0] * (replicas - 1))
    counted = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(next(counts)))
    total = int(strategy.reduce(tf.distribute.ReduceOp.SUM, counted, axis=None))
    print(f"worker {worker}: {total} of {len(rows)} rows are explained", flush=True)


if __name__ == "__main__":
    main()
