"""Blocks of random models that came later, from networks of KerasHub and of tables; by the rank of tensors.

Seeds from `LATER_SEEDS` on begin each branch with one, so that those before draw what they always drew.
"""

import numpy as np
import tensorflow as tf
from model_blocks import scaled_dot
from model_makers import chain, dense, flat, keras, op, same

LATER_SEEDS = 300


def mixture_of_experts(net, shape):
    """Experts that see each word by itself, words of all rows on one axis: `[experts, B * words, units]`."""
    router, up, down = (net.values(*size) for size in ([shape[-1], 3], [3, shape[-1], 5], [3, 5, 4]))

    def call(x):
        words = tf.reshape(x, [-1, shape[-1]])
        hidden = tf.nn.relu(tf.einsum("th,ehm->etm", words, tf.constant(up)) + 0.1)
        found = tf.einsum("etm,emh->eth", hidden, tf.constant(down))
        shares = tf.transpose(tf.nn.softmax(words @ tf.constant(router)))
        return tf.reshape(tf.reduce_sum(found * shares[..., None], 0), [-1, *shape[:-1], 4])

    return net.op(call)


def grouped_attention(net, shape):
    """Pairs of heads that share keys: a softmax of five axes."""
    query, key, value = (net.layer("Dense", units) for units in (8, 4, 4))

    def call(parts):
        q, k, v = parts
        q = tf.reshape(q, [-1, shape[0], 2, 2, 2])
        k, v = (tf.reshape(t, [-1, shape[0], 2, 2]) for t in (k, v))
        p = tf.nn.softmax(tf.einsum("btkgh,bskh->bkgts", q, k))
        return tf.nn.relu(tf.reshape(tf.einsum("bkgts,bskh->btkgh", p, v), [-1, shape[0], 8]))

    made = net.op(call)
    return lambda x: made([query(x), key(x), value(x)])


def rotary(x):
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] / 3.0 ** np.arange(half)
    sine, cosine = (tf.constant(f(angles), x.dtype) for f in (np.sin, np.cos))
    a, b = x[..., :half], x[..., half : 2 * half]
    return tf.concat([a * cosine - b * sine, b * cosine + a * sine], -1)


def with_sink(x):
    """Attention that may look at nothing, its largest logit stopped and subtracted."""
    scores = tf.matmul(x, x, transpose_b=True)
    sink = tf.broadcast_to(tf.constant(0.3, x.dtype), [tf.shape(x)[0], x.shape[1], 1])
    scores = tf.concat([scores, sink], -1)
    scores -= tf.stop_gradient(tf.reduce_max(scores, -1, keepdims=True))
    return tf.matmul(tf.nn.softmax(scores)[..., :-1], tf.nn.relu(x))


def by_distance(net, shape):
    """Scores that are looked up by how far words are from each other."""
    table = net.values(shape[-1], 2 * shape[0] - 1)
    places = np.arange(shape[0])
    apart = places[:, None] - places + shape[0] - 1

    def call(x):
        which = tf.broadcast_to(tf.constant(apart), [tf.shape(x)[0], *apart.shape])
        scores = tf.gather(tf.tensordot(x, tf.constant(table), 1), which, batch_dims=2)
        return tf.matmul(tf.nn.softmax(scores), tf.nn.relu(x))

    return net.op(call)


def fourier(x):
    return tf.math.real(tf.signal.fft2d(tf.complex(x, tf.zeros_like(x)))) / 2


def capped(x):
    scores = 2 * tf.tanh(tf.matmul(x, x, transpose_b=True) / 2)
    return tf.matmul(tf.nn.softmax(scores), tf.nn.relu(x))


def windows(attend, shifted):
    """Attention inside windows of 2 by 2, and back."""

    def call(x):
        high, wide, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
        x = x[:, : 2 * high, : 2 * wide]
        x = tf.roll(x, [-1, -1], [1, 2]) if shifted else x
        x = tf.transpose(tf.reshape(x, [-1, high, 2, wide, 2, channels]), [0, 1, 3, 2, 4, 5])
        x = attend(x, high * wide, channels)
        x = tf.transpose(tf.reshape(x, [-1, high, wide, 2, 2, channels]), [0, 1, 3, 2, 4, 5])
        x = tf.reshape(x, [-1, 2 * high, 2 * wide, channels])
        return tf.nn.relu(tf.roll(x, [1, 1], [1, 2]) if shifted else x)

    return lambda net, shape: net.op(call) if min(shape[:2]) > 1 else same(net, shape)


def each_by_itself(x, count, channels):
    return scaled_dot(tf.reshape(x, [-1, 4, channels]))


def all_beside(x, count, channels):
    x = tf.reshape(x, [-1, count, 1, 4, channels])
    return tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x)


def with_class_token(net, shape):
    token = net.values(1, 1, shape[-1])

    def call(x):
        words = tf.reshape(x, [-1, shape[0] * shape[1], shape[2]])
        first = tf.repeat(tf.constant(token), tf.shape(words)[0], 0)
        words = tf.concat([first, words], 1)
        return words + tf.nn.relu(scaled_dot(words))

    return net.op(call)


def convnext(net, shape):
    filters = net.layer("DepthwiseConv2D", 3, padding="same"), net.layer("LayerNormalization", epsilon=1e-3)
    up, down = net.layer("Dense", 6, activation="gelu"), net.layer("Dense", shape[-1])
    add = net.layer("Add")
    return lambda x: add([x, down(up(filters[1](filters[0](x))))])


def shuffled(x):
    """Channels of two groups, in turns."""
    x = tf.nn.relu(x[..., : x.shape[-1] // 2 * 2]) if x.shape[-1] > 1 else tf.concat([x, -x], -1)
    parts = tf.reshape(x, [-1, *x.shape[1:3], 2, x.shape[-1] // 2])
    return tf.reshape(tf.transpose(parts, [0, 1, 2, 4, 3]), [-1, *x.shape[1:]])


def feature_tokens(net, shape):
    scales, offsets = net.values(shape[0], 3), net.values(shape[0], 3)
    return net.op(lambda x: tf.nn.relu(x[..., None] * tf.constant(scales) + tf.constant(offsets)))


def periodic(net, shape):
    rates = net.values(shape[0], 2)

    def call(x):
        angles = 2 * np.pi * x[..., None] * tf.constant(rates)
        return tf.reshape(tf.concat([tf.sin(angles), tf.cos(angles)], -1), [-1, 4 * shape[0]])

    return net.op(call)


def cross(net, shape):
    weights = net.values(shape[0], 1)
    return net.op(lambda x: x * (x @ tf.constant(weights)) + x)


def dots(net, shape):
    """Products of all pairs of embedded features, those above the diagonal."""
    made = net.layer("Dense", 6)
    at = np.flatnonzero(np.triu(np.ones([3, 3]), 1))

    def call(x):
        parts = tf.reshape(x, [-1, 3, 2])
        pairs = tf.reshape(tf.matmul(parts, parts, transpose_b=True), [-1, 9])
        return tf.concat([tf.nn.relu(x), tf.gather(pairs, at, axis=1)], 1)

    combined = net.op(call)
    return lambda x: combined(made(x))


def soft_trees(net, shape):
    made = net.layer("Dense", 4)
    leaves = net.values(4, 3)

    def call(x):
        sides = tf.sigmoid(tf.reshape(x, [-1, 2, 2]))
        sides = tf.stack([sides, 1 - sides], -1)  # trees of two questions
        reached = sides[:, :, 0, :, None] * sides[:, :, 1, None, :]
        return tf.reduce_sum(tf.tensordot(tf.reshape(reached, [-1, 2, 4]), tf.constant(leaves), 1), 1)

    combined = net.op(call)
    return lambda x: combined(made(x))


LATER = {
    2: {
        "feature tokens": feature_tokens,
        "periodic": periodic,
        "cross": cross,
        "dots": dots,
        "soft trees": soft_trees,
    },
    3: {
        "mixture of experts": mixture_of_experts,
        "grouped attention": grouped_attention,
        "rotary attention": chain(op(rotary), op(scaled_dot)),
        "attention with a sink": op(with_sink),
        "attention by distance": by_distance,
        "fourier": flat(chain(op(fourier), keras("LayerNormalization", epsilon=1e-3), keras("ReLU"))),
        "capped attention": op(capped),
    },
    4: {
        "windows": windows(each_by_itself, False),
        "shifted windows": windows(each_by_itself, True),
        "windows beside each other": windows(all_beside, False),
        "class token": with_class_token,
        "convnext": flat(convnext),
        "pixel shuffle": chain(
            lambda net, shape: dense(net, shape, 8), op(lambda x: tf.nn.depth_to_space(x, 2))
        ),
        "channel shuffle": op(shuffled),
        "space to depth": op(
            lambda x: tf.nn.space_to_depth(tf.nn.relu(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]), 2)
        ),
    },
}
