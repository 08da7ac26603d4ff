"""The example that explains a dataset shard by shard: virtual devices, two processes, a killed one."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from reference import assert_close, randomize

import igtf as ig

ROOT = Path(__file__).parent.parent
# As on the page: python examples/explain_shards.py network.keras rows.npy maps --devices 2
PAGE = (ROOT / "docs" / "production.md").read_text("utf-8")
SCRIPT, *ARGUMENTS = re.search(r"^python (examples/.*)$", PAGE, re.M)[1].split()
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


def start(folder, *arguments, cluster=None):
    """A process of the example; one of a cluster of workers for `cluster=(addresses, index)`."""
    command = [sys.executable, str(ROOT / SCRIPT), *arguments]
    command += ["--shard-rows", str(SHARD_ROWS), "--batch-rows", "3", "--num-steps", str(STEPS)]
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    environment.update(TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="-1")
    if cluster:
        task = {"type": "worker", "index": cluster[1]}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster[0]}, "task": task})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment, **streams)


def finish(*processes, seconds=SECONDS):
    """What they print and their status; none of them is left running."""
    results = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=seconds)
            results.append((out, err[-3000:], process.returncode))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return results


def start_two(folder):
    with socket.socket() as one, socket.socket() as two:
        for connection in (one, two):
            connection.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{connection.getsockname()[1]}" for connection in (one, two)]
    return [start(folder, *ARGUMENTS[:3], cluster=(addresses, index)) for index in (0, 1)]


def copy(files, folder):
    """Puts the network and the rows into `folder`; what one process makes of them."""
    for name in ("network.keras", "rows.npy"):
        shutil.copy(files[0] / name, folder)
    return files[1]


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
    expected = copy(files, tmp_path)
    ((printed, errors, status),) = finish(start(tmp_path, *ARGUMENTS))
    assert status == 0, errors
    output = tmp_path / "maps"
    check_whole(output, expected)
    assert printed.count("written") == SHARDS and f"{ROWS} of {ROWS} rows" in printed

    # Once more: only what is missing. A shard that was left unfinished does not count.
    missing = shards(output)[7]
    missing.rename(missing.with_name(missing.name + ".0.part"))
    times = {path: path.stat().st_mtime_ns for path in shards(output)}
    ((printed, errors, status),) = finish(start(tmp_path, *ARGUMENTS))
    assert status == 0, errors
    check_whole(output, expected)
    assert printed.count("written") == 1 and f"{missing.name} written" in printed
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())

    # Other settings do not go into the same folder.
    ((_, errors, status),) = finish(start(tmp_path, *ARGUMENTS, "--target", "1"))
    assert status == 1 and "target was None and is 1" in errors


@pytest.mark.slow
def test_two_workers_lose_no_shard_when_one_is_killed(files, tmp_path):
    expected, output = copy(files, tmp_path), tmp_path / "maps"
    first, second = start_two(tmp_path)
    try:
        assert "written" in second.stdout.readline()
    finally:
        second.kill()
        # The first one finishes its own shards, and may be told that the other is gone.
        for process in (first, second):
            with contextlib.suppress(subprocess.TimeoutExpired):
                finish(process, seconds=20)
    there = {path: (path.stat().st_mtime_ns, np.load(path)) for path in shards(output)}
    assert 0 < len(there) < SHARDS
    for path, (_, maps) in there.items():
        begin = int(path.name[:5]) * SHARD_ROWS
        assert_close(maps, expected[begin : begin + SHARD_ROWS], 1e-5)

    results = finish(*start_two(tmp_path))
    assert [status for _, _, status in results] == [0, 0], results
    check_whole(output, expected)
    assert all(path.stat().st_mtime_ns == time for path, (time, _) in there.items())
    printed = [text for text, _, _ in results]
    assert sum(text.count("written") for text in printed) == SHARDS - len(there)
    assert all(f"{ROWS} of {ROWS} rows" in text for text in printed)
