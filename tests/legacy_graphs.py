"""Networks of `tf.compat.v1` programs, explained in a Session and by brute force.

`test_legacy_graphs.py` calls the cases in its own process. Run as a script, this file starts with
`tf.compat.v1.disable_v2_behavior()`, which can't be undone in a process, and prints the results as JSON.
"""

import json
import os
import sys
import traceback

import numpy as np
import tensorflow as tf

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from reference import brute_force, gauss_legendre, session_gradients

import igtf as ig

v1 = tf.compat.v1
ROWS, STEPS = 2, 5
# Control flow v2: taken as a whole by the secant rule, which then is complete in the limit.
FUNCTIONAL = {"If", "StatelessIf", "While", "StatelessWhile"}


def weight(name, *shape):
    return v1.get_variable(name, shape, tf.float64, v1.random_normal_initializer(0.0, 0.5, seed=len(name)))


def dense(x):
    h = tf.nn.relu(tf.matmul(x, weight("w", 4, 5)) + weight("bias", 5))
    return tf.nn.softmax(tf.matmul(h, weight("out", 5, 3)))[:, 1]


def convolutions(x):
    h = tf.nn.relu(tf.nn.conv2d(x, weight("kernel", 3, 3, 1, 2), 1, "SAME"))
    h = h * weight("gamma", 2) + weight("beta", 2)
    h = tf.nn.max_pool2d(h, 2, 2, "VALID")
    h = tf.reshape(h, [-1, 18])
    return tf.matmul(h, weight("out", 18, 3))[:, 1]


def recurrence(x):
    """Time-major, unrolled."""
    h = tf.zeros_like(x[:, 0]) @ weight("w", 4, 5)
    for step in tf.unstack(tf.transpose(x, [1, 0, 2])):
        with v1.variable_scope(v1.get_variable_scope(), reuse=v1.AUTO_REUSE):
            h = tf.tanh(step @ weight("w", 4, 5) + h @ weight("again", 5, 5))
    return tf.reduce_sum(h, 1)


def swish(x):
    return tf.reduce_sum(tf.nn.silu(x @ weight("w", 4, 5)) @ weight("out", 5, 3), 1)


def condition(x):
    h = tf.nn.relu(x @ weight("w", 4, 5))
    flag = tf.reduce_sum(weight("out", 5, 3)) > -100.0
    h = tf.cond(flag, lambda: tf.sigmoid(h) * h, lambda: h)
    return tf.reduce_sum(h @ weight("out2", 5, 3), 1)


def while_loop(x):
    return tf.reduce_sum(
        tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h * 0.9)), [0, x])[1], 1
    )


def map_fn(x):
    kernel = weight("w", 4, 5)
    return tf.reduce_sum(tf.map_fn(lambda row: tf.tanh(tf.linalg.matvec(kernel, row, True)), x) ** 2, 1)


# name -> (network, shape of a row)
NETWORKS = {
    "dense": (dense, [4]),
    "convolutions": (convolutions, [6, 6, 1]),
    "recurrence": (recurrence, [3, 4]),
    "swish": (swish, [4]),
    "condition": (condition, [4]),
}


# (name, whether variables are resources, whether the batch size is static)
CASES = [(name, kind, kind != at % 2) for at, name in enumerate(NETWORKS) for kind in (True, False)]


def cases(every):
    """All of them, or one of two: every network, both kinds of variables and of batch."""
    return [case for at, case in enumerate(CASES) if (at + at // 4) % every == 0]


# Likewise, for control flow v2.
LOOPS = {"while_loop": (while_loop, [4]), "map_fn": (map_fn, [4])}


def explain(name, resource, static):
    """Both methods in a v1 graph beside what they should be."""
    network, shape = {**NETWORKS, **LOOPS}[name]
    rng = np.random.default_rng(1)
    x, baseline = rng.normal(size=(ROWS, *shape)), rng.normal(size=(1, *shape))
    with tf.Graph().as_default():
        v1.set_random_seed(1)
        tensor = v1.placeholder(tf.float64, [ROWS if static else None, *shape])
        with v1.variable_scope("network", use_resource=resource):
            y = network(tensor)
        kinds = sorted({op.type for op in tensor.graph.get_operations()} & {"VarHandleOp", "VariableV2"})
        exact = not any(op.type in FUNCTIONAL for op in tensor.graph.get_operations())
        fetches = [
            ig.integrated_gradients(y, tensor, baseline, STEPS, "gausslegendre", max_rows=2 * ROWS),
            ig.integrated_gradients(y, tensor, baseline, STEPS if exact else 60, "secant", max_rows=6 * ROWS),
        ]
        with v1.Session() as session:
            # All nodes before the first run: it fixes the outputs of branches and loops.
            gradients = session_gradients(session, y, [tensor])
            session.run(v1.global_variables_initializer())
            gauss, secant = session.run(fetches, {tensor: x})
            expected = brute_force(gradients, [x], [baseline], gauss_legendre(STEPS))[0]
            start = np.broadcast_to(baseline, x.shape)
            change = session.run(y, {tensor: x}) - session.run(y, {tensor: start})
    return {
        "variables": kinds,
        "exact": exact,
        "gausslegendre": gauss.tolist(),
        "expected": expected.tolist(),
        "secant": secant.reshape(ROWS, -1).sum(1).tolist(),
        "change": change.tolist(),
    }


def explain_while_loop():
    """The message for a loop of v1 control flow between `xs` and `ys`."""
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 3])
        y = tf.while_loop(lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h)), [0, x])[1]
        try:
            ig.integrated_gradients(y, x)
        except ValueError as error:
            return str(error)


def main():
    v1.disable_v2_behavior()
    explained = {" ".join(map(str, case)): attempt(*case) for case in cases(int(sys.argv[1]))}
    message = explain_while_loop()
    # What the message says to do.
    v1.enable_control_flow_v2()
    loops = {name: attempt(name, True, False) for name in LOOPS}
    print(json.dumps({"explained": explained, "while_loop": message, "loops": loops}))


def attempt(*case):
    try:
        return explain(*case)
    except Exception:
        return traceback.format_exc()


if __name__ == "__main__":
    main()
