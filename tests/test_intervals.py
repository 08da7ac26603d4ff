"""Both ends of an interval where the rows of a tensor are not on axis 0."""

import numpy as np
import pytest
import tensorflow as tf
from shared_networks import explain, inputs, row_sums, weights


def time_distributed(x):
    h = tf.nn.relu(tf.matmul(tf.reshape(x, [-1, 6]), weights(6, 4)) + 0.1)
    h = tf.reshape(h, [-1, 5, 4])
    return tf.matmul(
        tf.reduce_max(tf.nn.relu(h * weights(4, seed=1, scale=1)), axis=1), weights(4, 2, seed=2)
    )


def time_major(x):
    x = tf.nn.relu(tf.transpose(x, [1, 0, 2]) - 0.2)
    return tf.matmul(tf.reduce_sum(tf.nn.relu(x * weights(6, seed=1, scale=1)), axis=0), weights(6, 2))


def recurrent(x):
    state = tf.zeros_like(x[:, 0, :4])
    for now in tf.unstack(tf.transpose(x, [1, 0, 2])):
        state = tf.nn.relu(tf.matmul(now, weights(6, 4)) + tf.matmul(state, weights(4, 4, seed=1)))
    return tf.matmul(state, weights(4, 2, seed=2))


def dilated(x):
    h = tf.space_to_batch_nd(x, [2], [[0, 1]])
    h = tf.nn.relu(tf.nn.conv1d(h, weights(2, 6, 4), 1, "SAME"))
    h = tf.nn.relu(tf.batch_to_space(h, [2], [[0, 1]]) - 0.2)
    return tf.matmul(tf.reduce_sum(h, axis=1), weights(4, 2, seed=2))


def transposed(x):
    h = tf.nn.relu(tf.transpose(tf.matmul(tf.reshape(x, [-1, 30]), weights(30, 7))))
    return tf.transpose(tf.matmul(weights(2, 7, seed=1), h))


@pytest.mark.few(4)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("rows", [4, 5], ids=lambda n: f"{n} rows of 5 times")
@pytest.mark.parametrize("network", [time_distributed, time_major, recurrent, dilated, transposed])
def test_rows_that_leave_axis_0_are_explained_one_by_one(network, rows, dynamic):
    x, baseline = inputs(rows, 5, 6)
    found, change = explain(network, x, baseline, num_steps=7, method="secant", dynamic=dynamic)
    np.testing.assert_allclose(row_sums(found), change, rtol=1e-10, atol=1e-12)
    for i in range(2):
        alone, _ = explain(network, x[i : i + 1], baseline[i : i + 1], num_steps=7, method="secant")
        np.testing.assert_allclose(found[i], alone[0], rtol=1e-9, atol=1e-12)


def in_parts(x, kernel, rate, inside):
    """A dilated convolution as TensorFlow 1 writes it: the rows are there `rate` times on axis 0."""
    pad = -x.shape[1] % rate
    parts = tf.space_to_batch_nd(x, [rate], [[rate, rate + pad]])
    return tf.batch_to_space(inside(tf.nn.conv1d(parts, kernel, 1, "VALID")), [rate], [[0, pad]])


def in_one(x, kernel, rate, inside):
    x = tf.pad(x, [[0, 0], [rate, rate], [0, 0]])
    parts = [x[:, k * rate : x.shape[1] - (2 - k) * rate] for k in range(3)]
    return inside(tf.add_n([tf.matmul(part, kernel[k]) for k, part in enumerate(parts)]))


@pytest.mark.few(2)
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("steps", [1, 7, 20])
def test_dilated_convolutions_are_explained_however_they_are_written(steps, dynamic):
    def network(convolution):
        def run(x):
            for number, rate in enumerate((2, 4)):
                inside = lambda h: tf.tanh(h * 1.3 + 0.1) * tf.sigmoid(h)  # noqa: E731
                x = tf.nn.relu(x + convolution(x, weights(3, 4, 4, seed=number), rate, inside) - 0.1)
            return tf.reduce_sum(x**2, axis=1)

        return run

    x, baseline = inputs(5, 10, 4)
    options = {"num_steps": steps, "method": "secant", "dynamic": dynamic}
    found, change = explain(network(in_parts), x, baseline, **options)
    wanted, _ = explain(network(in_one), x, baseline, **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(row_sums(found), change, rtol=1e-10, atol=1e-12)
    short, _ = explain(network(in_parts), x, baseline, **options, max_rows=15)
    np.testing.assert_allclose(short, found, rtol=1e-9, atol=1e-12)
