"""What adds up over many calls: memory, ops, threads."""

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import igtf as ig

ROOT = Path(__file__).parent.parent
W, V = (np.random.RandomState(0).normal(size=size).astype(np.float32) for size in ((6, 16), (16, 3)))


def network(x):
    return tf.nn.softmax(tf.nn.relu(x @ W) @ V)


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@tf.function(input_signature=[tf.TensorSpec([None, 6])])
def explain(x):
    return ig.integrated_jacobian(network(x), x, num_steps=20)


def grow(calls):
    """Asserts that `calls` calls leave everything as it was; run in a process that does nothing else."""
    x = np.random.RandomState(1).normal(size=(32, 6)).astype(np.float32)
    ops = len(explain.get_concrete_function().graph.get_operations())
    first = explain(x).numpy()
    for _ in range(200):
        explain(x)
    gc.collect()
    before, objects = resident(), len(gc.get_objects())
    for _ in range(calls):
        last = explain(x)
    gc.collect()
    np.testing.assert_array_equal(last.numpy(), first)
    assert explain.experimental_get_tracing_count() == 1
    assert len(explain.get_concrete_function().graph.get_operations()) == ops
    assert len(gc.get_objects()) - objects < 1000  # half an object a call
    # One call's activations are 40 KiB; the allocator's own ups and downs are some MiB.
    assert resident() - before < 12 * 2**20, (resident() - before) / 2**20


@pytest.mark.parametrize("calls", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_traced_calls_leave_memory_and_trace_as_they_are(calls):
    command = [sys.executable, __file__, str(calls)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("builds", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_builds_in_one_graph_add_the_same_ops_each_and_touch_no_other(builds):
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [4, 6])
        y = tf.nn.relu(x @ W)[:, 1]
        own = [op.node_def.SerializeToString() for op in graph.get_operations()]
        counts, results = [], []
        for _ in range(builds):
            before = len(graph.get_operations())
            results.append(ig.integrated_gradients(y, x, num_steps=3, method="riemann_middle"))
            counts.append(len(graph.get_operations()) - before)
        assert set(counts[1:]) == {counts[1]} and counts[0] <= counts[1] + 5
        now = [op.node_def.SerializeToString() for op in graph.get_operations()[: len(own)]]
        assert now == own
        array = np.random.RandomState(1).normal(size=(4, 6))
        first, middle, last = session.run([results[i] for i in (0, builds // 2, -1)], {x: array})
    np.testing.assert_array_equal(first, last)
    np.testing.assert_array_equal(first, middle)


def test_eight_threads_calling_one_traced_function_get_their_own_results():
    """The first calls meet before the function is traced."""
    random = np.random.RandomState(2)
    inputs = [random.normal(size=(n % 4 + 1, 6)).astype(np.float32) for n in range(8)]
    wanted = [explain(x).numpy() for x in inputs]
    fresh = tf.function(explain.python_function, input_signature=[tf.TensorSpec([None, 6])])
    start, wrong = threading.Barrier(8), []

    def call(x, result):
        try:
            start.wait()
            for _ in range(25):
                np.testing.assert_allclose(fresh(x).numpy(), result, rtol=1e-6, atol=1e-7)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=call, args=pair) for pair in zip(inputs, wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_eight_threads_building_graphs_of_their_own_get_right_results():
    array = np.random.RandomState(3).normal(size=(4, 6)).astype(np.float32)
    wanted, found = explain(array).numpy()[:, 1], {}

    def build(index):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None, 6])
            attributions = ig.integrated_gradients(network(x)[:, 1], x, num_steps=20)
            found[index] = session.run(attributions, {x: array})

    threads = [threading.Thread(target=build, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(8))
    for result in found.values():
        np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    grow(int(sys.argv[1]))
