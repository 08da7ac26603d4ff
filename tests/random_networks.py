"""Random small networks and inputs, drawn by hypothesis.

A network is data: the shapes of its inputs, a branch of layers for each, how the branches merge, and the
layers that follow. Its weights come from its seed, so that the network that a failing test prints is the
network that failed.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st


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


# What else people write, not always as kind to the axioms' tolerances: steep at a baseline, or turning the
# axes around. random_models.py draws these too.


def rms_norm(x, weights):
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6) * weights(x.shape[-1], scale=1)


def steep_layer_norm(x, weights):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, weights(x.shape[-1]), 1 + weights(x.shape[-1]), 1e-5)


def instance_norm(x, weights):
    mean, variance = tf.nn.moments(x, list(range(1, x.shape.rank - 1)), keepdims=True)
    return (x - mean) / tf.sqrt(variance + 1e-5) * (1 + weights(x.shape[-1], scale=0.3))


def group_norm(x, weights):
    """Of two groups of channels, as it is written by hand."""
    shape, groups = [-1, *x.shape[1:]], 2 - x.shape[-1] % 2
    h = tf.reshape(x, [-1, *x.shape[1:-1], groups, x.shape[-1] // groups])
    mean, variance = tf.nn.moments(h, [*range(1, h.shape.rank - 2), h.shape.rank - 1], keepdims=True)
    return tf.reshape((h - mean) * tf.math.rsqrt(variance + 1e-3), shape)


def fused_batch_norm(x, weights):
    scale, offset, mean, variance = tf.unstack(weights(4, x.shape[-1], scale=0.3))
    variance = tf.abs(variance) + 0.5
    if x.dtype == tf.float64:  # TensorFlow has no kernel for that
        return tf.nn.batch_normalization(x, mean, variance, offset, 1 + scale, 1e-3)
    return tf.compat.v1.nn.fused_batch_norm(x, 1 + scale, offset, mean, variance, is_training=False)[0]


def heads_of_attention(x, weights, mask=None):
    """Two heads, by einsum and reshapes, with a mask of -1e9 if any."""
    t, f = x.shape[1:]
    q, k, v = (tf.reshape(tf.matmul(x, weights(f, 4)), [-1, t, 2, 2]) for _ in range(3))
    scores = tf.einsum("bthd,bshd->bhts", q, k) / 2**0.5
    if mask is not None:
        scores += (1 - tf.cast(mask, x.dtype)) * tf.constant(-1e9, x.dtype)
    h = tf.einsum("bhts,bshd->bthd", tf.nn.softmax(scores), v)
    return x + tf.matmul(tf.reshape(h, [-1, t, 4]), weights(4, f))


def causal_attention(x, weights):
    return heads_of_attention(x, weights, np.tril(np.ones([x.shape[1]] * 2)))


def scored_by_time(x, weights):
    """Attention pooling, softmax over time."""
    scores = tf.nn.softmax(tf.tensordot(tf.tanh(mixed(x, weights)), weights(x.shape[-1], 1), 1), axis=1)
    return tf.reduce_sum(scores * x, 1, keepdims=True)


def loop_over_time(x, weights):
    """A recurrent network in a tf.while_loop."""
    kernel, inner = weights(x.shape[-1], 4), weights(4, 4)
    rows, steps = tf.shape(x)[0], x.shape[1]

    def body(i, state, out):
        state = tf.tanh(tf.matmul(x[:, i], kernel) + tf.matmul(state, inner))
        return i + 1, state, out.write(i, state)

    start = (0, tf.zeros([rows, 4], x.dtype), tf.TensorArray(x.dtype, steps, element_shape=[None, 4]))
    out = tf.while_loop(lambda i, *_: i < steps, body, start)[2].stack()
    return tf.reshape(tf.transpose(out, [1, 0, 2]), [-1, steps, 4])


def unrolled(x, weights, activation=tf.nn.relu):
    """A recurrent network, step by step."""
    kernel, inner = weights(x.shape[-1], 4), weights(4, 4)
    states = [tf.zeros_like(tf.matmul(x[:, 0], kernel))]
    for now in tf.unstack(x, axis=1):
        states.append(activation(tf.matmul(now, kernel) + tf.matmul(states[-1], inner)))
    return tf.stack(states[1:], axis=1)


def spectrum(x, weights):
    """Magnitudes over time, as a loudness."""
    h = tf.transpose(x, [0, 2, 1])
    if h.dtype not in (tf.float32, tf.float64):
        return x
    return tf.transpose(tf.math.log1p(tf.abs(tf.signal.rfft(h))), [0, 2, 1])


def dilated_conv(x, weights):
    return tf.nn.atrous_conv2d(x, weights(2, 2, x.shape[-1], 3), 2, "SAME")


def transposed_conv(x, weights):
    h, w, c = x.shape[1:]
    if h * w > 40:
        return x
    return tf.nn.conv2d_transpose(x, weights(3, 3, 3, c, scale=0.3), [tf.shape(x)[0], 2 * h, 2 * w, 3], 2)


def pixels_to_channels(x, weights):
    return tf.nn.space_to_depth(x, 2) if x.shape[1] % 2 == x.shape[2] % 2 == 0 else x


def resized(x, weights):
    return tf.image.resize(x, [5, 5], antialias=False) if x.dtype == tf.float32 else x


def gathered(x, weights):
    order = np.random.RandomState(weights.random.randint(100)).permutation(x.shape[-1])
    return tf.gather(x, order, axis=-1)


def glu(x, weights):
    value, gate = tf.split(tf.concat([mixed(x, weights), mixed(x, weights)], -1), 2, -1)
    return value * tf.sigmoid(gate)


MORE = {
    "rms_norm": rms_norm,
    "steep_layer_norm": steep_layer_norm,
    "l2_normalize": lambda x, weights: tf.nn.l2_normalize(x, -1),
    "unit_norm": lambda x, weights: x / (tf.norm(x, axis=-1, keepdims=True) + 1e-3),
    "squash": lambda x, weights: x * tf.sqrt(tf.reduce_sum(x**2, -1, keepdims=True) + 1e-7) / (
        1 + tf.reduce_sum(x**2, -1, keepdims=True)
    ),
    "glu": glu,
    "swiglu": lambda x, weights: mixed(tf.nn.silu(mixed(x, weights)) * mixed(x, weights), weights),
    "prelu": lambda x, weights: tf.maximum(x, 0) + tf.abs(weights(x.shape[-1], scale=0.3)) * tf.minimum(x, 0),
    "crelu": lambda x, weights: tf.nn.crelu(x),
    "mish": lambda x, weights: x * tf.tanh(tf.nn.softplus(x)),
    "hard_swish": lambda x, weights: x * tf.nn.relu6(x + 3) / 6,
    "gelu_tanh": lambda x, weights: tf.nn.gelu(x, approximate=True),
    "log1p": lambda x, weights: tf.sign(x) * tf.math.log1p(tf.abs(x)),
    "root": lambda x, weights: tf.sqrt(tf.square(x) + 1e-2),
    "power": lambda x, weights: tf.pow(tf.abs(x) + 0.1, 1.5),
    "power of two": lambda x, weights: tf.pow(tf.nn.softplus(x), tf.sigmoid(mixed(x, weights))),
    "divide_no_nan": lambda x, weights: tf.math.divide_no_nan(x, 1 + tf.abs(mixed(x, weights))),
    "shares": lambda x, weights: tf.exp(x) / tf.reduce_sum(tf.exp(x), -1, keepdims=True),
    "log_softmax": lambda x, weights: tf.nn.log_softmax(x),
    "logsumexp": lambda x, weights: x - tf.reduce_logsumexp(x, -1, keepdims=True),
    "clipped": lambda x, weights: tf.clip_by_value(x, -0.5, 0.7),
    "soft_shrink": lambda x, weights: tf.sign(x) * tf.nn.relu(tf.abs(x) - 0.2),
    "stack": lambda x, weights: tf.reduce_max(tf.stack([mixed(x, weights), mixed(x, weights), x], -1), -1),
    "slices": lambda x, weights: tf.concat([x[..., 1:], x[..., :1]], -1),
    "reverse": lambda x, weights: x + x[..., ::-1],
    "gather": gathered,
    "einsum": lambda x, weights: tf.einsum("b...x,xy->b...y", x, weights(x.shape[-1], 4)),
    "sorted": lambda x, weights: tf.sort(x, -1),
    "top_2": lambda x, weights: tf.math.top_k(x, 2).values if x.shape[-1] > 1 else x,
    "products": lambda x, weights: tf.math.cumprod(tf.sigmoid(x), -1),
    "factorization": lambda x, weights: tf.square(tf.tensordot(x, weights(x.shape[-1], 3), 1))
    - tf.tensordot(tf.square(x), tf.square(weights(x.shape[-1], 3)), 1),
    "angle": lambda x, weights: tf.atan2(x, 1 + tf.square(mixed(x, weights))),
}
MORE_SEQUENCE = {
    "heads_of_attention": heads_of_attention,
    "causal_attention": causal_attention,
    "scored_by_time": scored_by_time,
    "loop_over_time": loop_over_time,
    "unrolled": unrolled,
    "unrolled_tanh": lambda x, weights: unrolled(x, weights, tf.tanh),
    "spectrum": spectrum,
    "instance_norm": instance_norm,
    "group_norm": group_norm,
    "differences": lambda x, weights: x[:, 1:] - x[:, :-1] if x.shape[1] > 1 else x,
    "similarities": lambda x, weights: tf.matmul(x, x, transpose_b=True),
    "cosines": lambda x, weights: tf.matmul(
        tf.nn.l2_normalize(x, -1), tf.nn.l2_normalize(mixed(x, weights), -1), transpose_b=True
    ),
    "each time": lambda x, weights: tf.reshape(
        dense(tf.reshape(x, [-1, x.shape[-1]]), weights, 4), [-1, x.shape[1], 4]
    ),
    "dilated_conv1d": lambda x, weights: tf.nn.conv1d(x, weights(2, x.shape[-1], 4), 1, "SAME", dilations=2),
    "windows": lambda x, weights: tf.signal.frame(x, 2, 1, axis=1)[:, :, 0] if x.shape[1] > 1 else x,
    "map_fn": lambda x, weights: tf.map_fn(lambda row: tf.nn.relu(row - tf.reduce_mean(row)), x),
    "scaled_positions": lambda x, weights: x * 2 + weights(*x.shape[1:], scale=0.5),
}
MORE_IMAGE = {
    "fused_batch_norm": fused_batch_norm,
    "instance_norm": instance_norm,
    "group_norm": group_norm,
    "dilated_conv": dilated_conv,
    "transposed_conv": transposed_conv,
    "pixels_to_channels": pixels_to_channels,
    "resized": resized,
    "local_response": lambda x, weights: tf.nn.local_response_normalization(x) if x.dtype == tf.float32 else x,
    "max_pool_every": lambda x, weights: tf.nn.max_pool2d(x, 3, 1, "SAME"),
    "mirror_pad": lambda x, weights: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")
    if 1 < min(x.shape[1:3]) and max(x.shape[1:3]) < 8
    else x,
    "fire": lambda x, weights: tf.concat([tf.nn.relu(conv(x, weights)), tf.nn.relu(mixed(x, weights))], -1),
    "shuffle": lambda x, weights: tf.reshape(
        tf.transpose(tf.reshape(x, [-1, *x.shape[1:3], 2, x.shape[3] // 2]), [0, 1, 2, 4, 3]), [-1, *x.shape[1:]]
    )
    if x.shape[3] % 2 == 0
    else x,
    "squeeze": lambda x, weights: x * tf.sigmoid(mixed(tf.reduce_mean(x, [1, 2], keepdims=True), weights)),
    "unpool": lambda x, weights: tf.repeat(tf.repeat(x, 2, 1), 2, 2) if max(x.shape[1:3]) < 5 else x,
}
LAYERS = {**FLAT, **SEQUENCE, **IMAGE, **MORE, **MORE_SEQUENCE, **MORE_IMAGE, "flatten": flatten}
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
    return Network(
        chosen,
        tuple(branches),
        draw(st.sampled_from(merges)) if count > 1 else "concat",
        names(FLAT, 2),
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
