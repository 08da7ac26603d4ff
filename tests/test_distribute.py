"""The example that explains a dataset shard by shard: virtual devices, two processes, a killed one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from reference import assert_close, randomize

import integrated_gradients_tf as ig

SCRIPT = Path(__file__).parent.parent / "examples" / "explain_shards.py"
ROWS, SHARD_ROWS, STEPS = 123, 2, 20
SHARDS = 62
SECONDS = 240  # after which a process is killed and the test fails


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A network and rows in files, and what one process makes of them in one batch."""
    folder = tmp_path_factory.mktemp("files")
    layers = [tf.keras.Input((6,)), tf.keras.layers.Dense(8, "relu"), tf.keras.layers.Dense(3, "softmax")]
    model = randomize(tf.keras.Sequential(layers))
    model.save(folder / "network.keras")
    rows = np.random.default_rng(1).normal(size=(ROWS, 6)).astype("float32")
    np.save(folder / "rows.npy", rows)

    @tf.function
    def explain(x):
        ys = model(x, training=False)
        return ig.integrated_gradients(ys, x, num_steps=STEPS, grad_ys=tf.one_hot(tf.argmax(ys, 1), 3))

    return folder, explain(rows).numpy()


def start(files, output, *options, cluster=None):
    """A process of the example; one of a cluster of workers for `cluster=(addresses, index)`."""
    command = [sys.executable, SCRIPT, files / "network.keras", files / "rows.npy", output, *options]
    command += ["--shard-rows", str(SHARD_ROWS), "--batch-rows", "3", "--num-steps", str(STEPS)]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    environment.update(TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="-1")
    if cluster:
        task = {"type": "worker", "index": cluster[1]}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster[0]}, "task": task})
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    return subprocess.Popen([str(part) for part in command], **options)


def finish(*processes, check=True):
    """What they print; none of them is left running."""
    printed = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=SECONDS)
            assert not check or process.returncode == 0, err[-3000:]
            printed.append(out)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return printed


def start_two(files, output):
    with socket.socket() as one, socket.socket() as two:
        for connection in (one, two):
            connection.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{connection.getsockname()[1]}" for connection in (one, two)]
    return [start(files, output, cluster=(addresses, index)) for index in (0, 1)]


def shards(output):
    return sorted(output.glob("*-of-*.npy"))


def check_whole(output, expected):
    """Every row once, in order, with the numbers of one process."""
    paths = shards(output)
    assert [path.name for path in paths] == [f"{n:05}-of-{SHARDS:05}.npy" for n in range(SHARDS)]
    parts = [np.load(path) for path in paths]
    assert [len(part) for part in parts] == [SHARD_ROWS] * (SHARDS - 1) + [1]
    assert_close(np.concatenate(parts), expected, 1e-5)


def test_two_devices_explain_every_row_once(files, tmp_path):
    folder, expected = files
    (printed,) = finish(start(folder, tmp_path, "--devices", "2"))
    check_whole(tmp_path, expected)
    assert printed.count("written") == SHARDS and f"{ROWS} of {ROWS} rows" in printed

    # Once more: only what is missing. A shard that was left unfinished does not count.
    missing = shards(tmp_path)[7]
    missing.rename(missing.with_name(missing.name + ".0.part"))
    times = {path: path.stat().st_mtime_ns for path in shards(tmp_path)}
    (printed,) = finish(start(folder, tmp_path, "--devices", "2"))
    check_whole(tmp_path, expected)
    assert printed.count("written") == 1 and f"{missing.name} written" in printed
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())

    # Other settings do not go into the same folder.
    process = start(folder, tmp_path, "--target", "1")
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "target was None and is 1" in err


def test_two_workers_lose_no_shard_when_one_is_killed(files, tmp_path):
    folder, expected = files
    first, second = start_two(folder, tmp_path)
    try:
        assert "written" in second.stdout.readline()
    finally:
        second.kill()
    # The first one may finish its own shards, or be told that the other is gone.
    for process in (first, second):
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    there = {path: (path.stat().st_mtime_ns, np.load(path)) for path in shards(tmp_path)}
    assert 0 < len(there) < SHARDS
    for path, (_, maps) in there.items():
        begin = int(path.name[:5]) * SHARD_ROWS
        assert_close(maps, expected[begin : begin + SHARD_ROWS], 1e-5)

    printed = finish(*start_two(folder, tmp_path))
    check_whole(tmp_path, expected)
    assert all(path.stat().st_mtime_ns == time for path, (time, _) in there.items())
    assert sum(text.count("written") for text in printed) == SHARDS - len(there)
    assert all(f"{ROWS} of {ROWS} rows" in text for text in printed)
