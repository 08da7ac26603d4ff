"""Random small networks and inputs, drawn by hypothesis.

A network is data: the shapes of its inputs, a branch of layers for each, how the branches merge, and the
layers that follow. Its weights come from its seed, so that the network that a failing test prints is the
network that failed.
"""

import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("EXAMPLES", 2))
SEEDS = st.integers(0, 2**16)


def check(share=1, **drawn):
    """A property, without shrinking: a network is small and printed whole."""
    options = settings(
        max_examples=max(1, int(EXAMPLES * share)),
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: options(given(**drawn)(test))


class Network(NamedTuple):
    shapes: tuple  # of the inputs, without the batch
    branches: tuple  # names of the layers of each
    merge: str
    layers: tuple  # names of the layers after the merge
    head: str
    seed: int

    def __call__(self, *xs):
        """`[B, ...]` for each input -> `[B, 3]`."""
        return self.parts(*xs)[1]

    def parts(self, *xs):
        """The tensor `[B, units]` that every path passes through, and the output."""
        weights = Weights(self.seed, xs[0].dtype)
        flat = []
        for x, names in zip(xs, self.branches):
            for name in names:
                x = LAYERS[name](x, weights)
            flat.append(flatten(x, weights) if x.shape.rank > 2 else x)
        x = merged = dense(flat[0] if len(flat) == 1 else MERGES[self.merge](flat, weights), weights)
        for name in self.layers:
            x = LAYERS[name](x, weights)
        return merged, HEADS[self.head](dense(x, weights, 3))


class Weights:
    """The same weights in the same order for every call of a network."""

    def __init__(self, seed, dtype):
        self.random, self.dtype = np.random.RandomState(seed), dtype

    def __call__(self, *shape, scale=None):
        scale = np.sqrt(1.5 / np.prod(shape[:-1])) if scale is None else scale
        return tf.constant(self.random.normal(size=shape) * scale, self.dtype)


# Layers: function of a tensor and the weights ---------------------------------------------------------


def dense(x, weights, units=5):
    return tf.matmul(x, weights(x.shape[-1], units)) + weights(units, scale=0.2)


def flatten(x, weights):
    return tf.reshape(x, [-1, np.prod(x.shape[1:])])


def mixed(x, weights):
    """Affine in the last axis, any rank, same shape."""
    return tf.tensordot(x, weights(x.shape[-1], x.shape[-1]), 1) + weights(x.shape[-1], scale=0.2)


def layer_norm(x, weights):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 0.1)


def batch_norm(x, weights):
    scale, offset, mean, variance = tf.unstack(weights(4, x.shape[-1], scale=0.3))
    return tf.nn.batch_normalization(x, mean, tf.abs(variance) + 0.5, offset, scale + 1, 1e-3)


def attention(x, weights):
    q, k, v = (tf.tensordot(x, weights(x.shape[-1], x.shape[-1]), 1) for _ in range(3))
    return x + tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)


def conv(x, weights, padding="SAME", stride=1):
    return tf.nn.conv2d(x, weights(3, 3, x.shape[-1], 3), stride, padding) + weights(3, scale=0.2)


def depthwise(x, weights):
    return tf.nn.depthwise_conv2d(x, weights(2, 2, x.shape[-1], 2, scale=0.5), [1, 1, 1, 1], "SAME")


SMOOTH = {
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "softplus": tf.nn.softplus,
    "silu": tf.nn.silu,
    "gelu": tf.nn.gelu,
    "erf": tf.math.erf,
    "sine": tf.sin,
    "square": lambda x: tf.square(x) / 2,
    "gaussian": lambda x: tf.exp(-tf.square(x)),
    "inverse": lambda x: 1 / (1 + tf.square(x)),
    "softmax": tf.nn.softmax,
}
BENT = {
    "relu": tf.nn.relu,
    "relu6": lambda x: tf.nn.relu6(x * 4),
    "leaky_relu": tf.nn.leaky_relu,
    "elu": tf.nn.elu,
    "selu": tf.nn.selu,
    "abs": tf.abs,
    "softsign": tf.nn.softsign,
    "hard_sigmoid": lambda x: tf.clip_by_value(x * 0.4 + 0.5, 0, 1),
}
ACTIVATIONS = {**SMOOTH, **BENT}

ANY_RANK = {
    **{name: lambda x, weights, f=f: f(x) for name, f in ACTIVATIONS.items()},
    "affine": mixed,
    "layer_norm": layer_norm,
    "batch_norm": batch_norm,
    "residual": lambda x, weights: x + tf.nn.relu(mixed(x, weights)),
    "smooth_residual": lambda x, weights: x + tf.tanh(mixed(x, weights)),
    "concat": lambda x, weights: tf.concat([x, tf.nn.relu(mixed(x, weights))], -1),
    "smooth_concat": lambda x, weights: tf.concat([tf.sigmoid(mixed(x, weights)), x], -1),
    "gate": lambda x, weights: x * tf.sigmoid(mixed(x, weights)),
    "quotient": lambda x, weights: x / (1 + tf.nn.softplus(mixed(x, weights))),
    "maxout": lambda x, weights: tf.maximum(mixed(x, weights), mixed(x, weights)),
    "minimum": lambda x, weights: tf.minimum(x, mixed(x, weights)),
    "select": lambda x, weights: tf.where(x > 0.1, x, 0.5 * x + 0.05),
}
FLAT = {**ANY_RANK, "dense": dense}
SEQUENCE = {
    **ANY_RANK,
    "attention": attention,
    "conv1d": lambda x, weights: tf.nn.conv1d(x, weights(2, x.shape[-1], 4), 1, "SAME"),
    "max_over_time": lambda x, weights: tf.reduce_max(x, 1),
    "mean_over_time": lambda x, weights: tf.reduce_mean(x, 1),
    "transpose": lambda x, weights: tf.transpose(x, [0, 2, 1]),
    "time_major": lambda x, weights: tf.transpose(tf.cumsum(tf.transpose(x, [1, 0, 2])), [1, 0, 2]),
}
IMAGE = {
    **ANY_RANK,
    "conv": conv,
    "conv_valid": lambda x, weights: conv(x, weights, "VALID") if min(x.shape[1:3]) > 2 else x,
    "conv_stride": lambda x, weights: conv(x, weights, stride=2),
    "depthwise": depthwise,
    "max_pool": lambda x, weights: tf.nn.max_pool2d(x, 2, 2, "SAME"),
    "max_pool_overlap": lambda x, weights: tf.nn.max_pool2d(x, 3, 2, "SAME"),
    "avg_pool": lambda x, weights: tf.nn.avg_pool2d(x, 2, 1, "SAME"),
    "pad": lambda x, weights: tf.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]]),
    "max_over_places": lambda x, weights: tf.reduce_max(x, [1, 2]),
    "mean_over_places": lambda x, weights: tf.reduce_mean(x, [1, 2]),
}
LAYERS = {**FLAT, **SEQUENCE, **IMAGE}
NEEDS_RANK = {"max_over_time", "mean_over_time", "max_over_places", "mean_over_places"}
KINKED = {
    *BENT,
    "residual",
    "concat",
    "maxout",
    "minimum",
    "select",
    "max_over_time",
    "max_pool",
    "max_pool_overlap",
    "max_over_places",
}

MERGES = {
    "concat": lambda parts, weights: tf.concat(parts, 1),
    "sum": lambda parts, weights: tf.add_n([dense(part, weights) for part in parts]),
    "product": lambda parts, weights: dense(parts[0], weights) * dense(parts[1], weights),
    "maximum": lambda parts, weights: tf.maximum(dense(parts[0], weights), dense(parts[1], weights)),
}
HEADS = {"linear": tf.identity, "softmax": tf.nn.softmax, "log_softmax": tf.nn.log_softmax}

SHAPES = {(4,): FLAT, (3, 4): SEQUENCE, (4, 4, 2): IMAGE}


@st.composite
def networks(draw, smooth=False, shapes=tuple(SHAPES), most_inputs=2, most_layers=4, layers=None):
    """Strategy: a network of 1 to `most_inputs` inputs."""

    def names(table, most):
        known = [n for n in table if (layers is None or n in layers) and not (smooth and n in KINKED)]
        return tuple(draw(st.lists(st.sampled_from(known), max_size=most)))

    count = draw(st.integers(1, most_inputs))
    chosen = tuple(draw(st.sampled_from(shapes)) for _ in range(count))
    branches = []
    for shape in chosen:
        branch = names(SHAPES[shape], most_layers)
        # What follows the end of an image or a sequence has to take a flat tensor.
        ends = [i for i, name in enumerate(branch) if name in NEEDS_RANK]
        if ends:
            branch = branch[: ends[0] + 1] + tuple(n for n in branch[ends[0] + 1 :] if n in ANY_RANK)
        branches.append(branch)
    merges = [m for m in MERGES if not (smooth and m == "maximum")]
    merge, last = draw(st.sampled_from(merges)) if count > 1 else "concat", names(FLAT, 2)
    assume(last or any(branches))  # the first one that hypothesis draws has no layers
    return Network(
        chosen,
        tuple(branches),
        merge,
        last,
        draw(st.sampled_from(list(HEADS))),
        draw(st.integers(0, 2**16)),
    )


def ends(network, seed, rows=3, kind="normal", dtype=np.float64):
    """Inputs and baselines of a network: two lists of arrays `[rows, ...]`."""
    random = np.random.RandomState(seed)
    pairs = [PAIRS[kind](random, (rows, *shape)) for shape in network.shapes]
    return [x.astype(dtype) for x, _ in pairs], [b.astype(dtype) for _, b in pairs]


def _partly_equal(random, shape):
    x = random.normal(size=shape)
    return x, np.where(random.rand(*shape) < 0.5, x, random.normal(size=shape))


PAIRS = {
    "normal": lambda random, shape: (random.normal(size=shape), random.normal(size=shape)),
    "zeros": lambda random, shape: (random.normal(size=shape), np.zeros(shape)),
    "partly equal": _partly_equal,
    # Ties, and pre-activations of exactly 0.
    "integers": lambda random, shape: (random.randint(-2, 3, shape), random.randint(-2, 3, shape)),
    "large": lambda random, shape: (10 * random.normal(size=shape), random.normal(size=shape)),
    "near": lambda random, shape: (x := random.normal(size=shape), x + 1e-7 * random.normal(size=shape)),
}
KINDS = st.sampled_from(list(PAIRS))


def path(xs, bs, seed, broken):
    """A way from `bs` to `xs` on which every feature has its own speed and detour, smooth or `broken`."""
    random = np.random.RandomState(seed)
    speeds = [random.randint(1, 4, size=x.shape[1:]) for x in xs]
    detours = [random.normal(size=x.shape[1:]) for x in xs]

    def at(times):
        aside = [tf.abs(tf.abs(t - 0.4) - 0.3) - 0.1 if broken else t for t in times]
        aside = [a * t * (1 - t) * detour for a, t, detour in zip(aside, times, detours)]
        return [b + t**v * (x - b) + a for x, b, t, v, a in zip(xs, bs, times, speeds, aside)]

    return at
