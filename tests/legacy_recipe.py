"""The program of the original project's README, with what a user adds to it.

Run as a script it begins as legacy programs do, and leaves what it computed in an npz file.
`test_recipe.py` runs it so in a process of its own, and imports it as well.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf

if __name__ == "__main__":
    tf.disable_v2_behavior()

import tf_slim as slim  # noqa: E402

import integrated_gradients_tf as ig  # noqa: E402


def plain_fully_connected(inputs, num_outputs, activation_fn):
    """What slim does, with nothing but `get_variable`."""
    with tf.variable_scope(None, "dense"):
        w = tf.get_variable("w", [inputs.shape.as_list()[-1], num_outputs])
        b = tf.get_variable("b", [num_outputs], initializer=tf.zeros_initializer())
        return activation_fn(tf.matmul(inputs, w) + b)


LAYERS = {"slim": slim.fully_connected, "get_variable": plain_fully_connected}
SPELLINGS = {"original": ig.linear_inpterpolation, "corrected": ig.linear_interpolation}


def every_variable():
    return tf.global_variables() + tf.local_variables()


def program(layers, spelling):
    """Builds, trains and explains in one graph and one session; arrays by name."""
    fully_connected, interpolate = LAYERS[layers], SPELLINGS[spelling]
    dimensions = [16, 8]
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(5, 12)).astype(np.float32)
    other = rng.normal(size=(5, 12)).astype(np.float32)
    classes = np.arange(5) % 10

    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        x = tf.placeholder(tf.float32, shape=[None, 12], name="x")
        with tf.variable_scope("predictor"):
            dense = x
            for dim in dimensions:
                dense = fully_connected(dense, dim, activation_fn=tf.nn.relu)
            dense = fully_connected(dense, 10, activation_fn=tf.identity)
            prediction = tf.nn.softmax(dense)
        variables = every_variable()

        inter, stepsize, ref = interpolate(x, num_steps=50)
        with tf.variable_scope("predictor", reuse=True):
            dense2 = inter
            for dim in dimensions:
                dense2 = fully_connected(dense2, dim, activation_fn=tf.nn.relu)
            dense2 = fully_connected(dense2, 10, activation_fn=tf.identity)
            prediction2 = tf.nn.softmax(dense2)

        explanations = []
        for i in range(10):
            explanations.append(ig.build_ig(inter, stepsize, prediction2[:, i], num_steps=50))
        created = len(every_variable()) - len(variables)

        labels = tf.placeholder(tf.int32, [None])
        loss = tf.losses.sparse_softmax_cross_entropy(labels, dense)
        train = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
        session.run(tf.global_variables_initializer())
        feed = {x: samples, labels: classes}
        losses = [session.run([loss, explanations, train], feed)[0] for _ in range(20)]
        probabilities, explained, weights = session.run([prediction, explanations, variables], feed)
        return {
            "created": created,
            "losses": losses,
            "samples": samples,
            "other": other,
            "probabilities": probabilities,
            "explained": explained,
            "from_row": session.run(explanations, {**feed, ref: other[:1]}),
            "from_rows": session.run(explanations, {**feed, ref: other}),
            "nobody": session.run(explanations, {x: samples[:0]}),
            **{f"weight{i}": w for i, w in enumerate(weights)},
        }


if __name__ == "__main__":
    np.savez(
        sys.argv[1],
        **{
            f"{layers} {spelling} {key}": value
            for layers, spelling in zip(LAYERS, SPELLINGS)
            for key, value in program(layers, spelling).items()
        },
    )
    assert "igtf" not in sys.modules
