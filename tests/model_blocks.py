"""The blocks of random models, in a table for each kind of tensor; how they end, merge and head."""

import numpy as np
import tensorflow as tf
from model_makers import (
    activation,
    beside,
    chain,
    constant,
    dense,
    flat,
    function,
    glu,
    highway,
    identity,
    jump,
    keras,
    merged,
    mish,
    op,
    relu_dense,
    rms_norm,
    same,
    sigmoid_dense,
    squeeze_excite,
)

PAD = -2.0  # what `Masking` leaves out
SMOOTH_ACTIVATIONS = "tanh sigmoid softplus swish gelu exponential softmax".split()
BENT_ACTIVATIONS = "relu elu selu hard_sigmoid softsign relu".split()

ANY = {
    "dense": dense,
    "dense relu": lambda net, shape: dense(net, shape, activation="relu"),
    "dense tanh": lambda net, shape: dense(net, shape, activation="tanh"),
    **{name: activation(name) for name in SMOOTH_ACTIVATIONS + BENT_ACTIVATIONS},
    "BatchNormalization": keras("BatchNormalization"),
    "Dense+BatchNormalization+ReLU": chain(dense, keras("BatchNormalization"), keras("ReLU")),
    "LayerNormalization": flat(keras("LayerNormalization", epsilon=[1e-3, 1e-6])),
    "UnitNormalization": flat(keras("UnitNormalization")),
    "l2_normalize": flat(op(lambda x: tf.math.l2_normalize(x, -1))),
    "rms_norm": flat(op(rms_norm)),
    "cosine": flat(
        constant(lambda x, w: tf.tensordot(tf.nn.l2_normalize(x, -1), tf.nn.l2_normalize(w, 0), 1), 4)
    ),
    "PReLU": keras("PReLU"),
    "LeakyReLU": keras("LeakyReLU"),
    "ELU": keras("ELU"),
    "ReLU6": keras("ReLU", max_value=6.0),
    "ReLU(negative, threshold)": keras("ReLU", negative_slope=0.1, threshold=0.0, max_value=[None, 1.0]),
    "ThresholdedReLU": jump(op(lambda x: tf.where(x > 0.2, x, tf.zeros_like(x)))),
    "Softmax": keras("Softmax"),
    "mish": op(mish),
    "hard_swish": op(lambda x: x * tf.nn.relu6(x + 3) / 6),
    "crelu": op(tf.nn.crelu),
    "clip": op(lambda x: tf.clip_by_value(x, -0.5, 0.8)),
    "abs": op(tf.abs),
    "square": op(lambda x: tf.square(x) / 2),
    "power": op(lambda x: tf.pow(tf.abs(x) + 0.1, 1.5)),
    "sqrt": op(lambda x: tf.sqrt(tf.abs(x) + 0.01)),
    "signed_sqrt": op(lambda x: tf.sign(x) * (tf.sqrt(tf.abs(x) + 0.1) - 0.1**0.5)),
    "log1p": op(lambda x: tf.sign(x) * tf.math.log1p(tf.abs(x))),
    "sin": op(tf.sin),
    "glu": op(glu),
    "gate": beside(merged("Multiply"), identity, sigmoid_dense),
    "highway": beside(function(highway), identity, relu_dense, sigmoid_dense),
    "residual": beside(merged("Add"), identity, relu_dense),
    "pre-norm residual": flat(
        beside(merged("Add"), identity, chain(keras("LayerNormalization", epsilon=1e-3), relu_dense, same))
    ),
    "post-norm residual": flat(
        chain(beside(merged("Add"), identity, relu_dense), keras("LayerNormalization", epsilon=1e-3))
    ),
    "concat": beside(merged("Concatenate"), identity, relu_dense),
    "multiply": beside(merged("Multiply"), same, relu_dense),
    "subtract": beside(merged("Subtract"), same, relu_dense),
    "maximum": beside(merged("Maximum"), same, same),
    "minimum": beside(merged("Minimum"), same, same),
    "average": beside(merged("Average"), same, relu_dense),
    "softmax gate": beside(merged("Multiply"), same, chain(same, keras("Softmax"))),
    "quotient": beside(function(lambda p: p[0] / (1 + tf.abs(p[1]))), same, same),
    "pow of two": beside(function(lambda p: tf.pow(tf.abs(p[0]) + 0.2, tf.tanh(p[1]))), same, same),
    "atan2": beside(function(lambda p: tf.atan2(p[0], tf.nn.softplus(p[1]) + 0.1)), same, same),
    "squared_difference": beside(
        function(lambda p: tf.math.squared_difference(p[0], p[1])), same, relu_dense
    ),
    "einsum": constant(lambda x, w: tf.einsum("...i,ij->...j", x, w), 4, scale=0.6),
    "tensordot": constant(lambda x, w: tf.tensordot(x, w, 1), 5, scale=0.6),
    "Rescaling": keras("Rescaling", scale=1.7, offset=-0.2),
    "Dropout": keras("Dropout", rate=0.3),
    "GaussianNoise": keras("GaussianNoise", stddev=0.3),
    "sort": op(lambda x: tf.sort(x, -1)),
    "top_k": op(lambda x: tf.math.top_k(x, min(3, x.shape[-1])).values),
    "cumsum": op(lambda x: tf.cumsum(x, -1)),
    "cumprod": op(lambda x: tf.math.cumprod(1 + 0.3 * x, -1)),
    "rbf": constant(lambda x, w: tf.exp(-tf.reduce_sum(tf.square(x[..., None] - w), -2)), 4),
    "standardize": flat(
        op(
            lambda x: (
                (x - tf.reduce_mean(x, -1, keepdims=True)) / (tf.math.reduce_std(x, -1, keepdims=True) + 1e-3)
            )
        )
    ),
    "logsumexp beside": op(lambda x: tf.concat([x, tf.reduce_logsumexp(x, -1, keepdims=True)], -1)),
    "gather": op(lambda x: tf.gather(x, [0, 2, 1, 0], axis=-1)),
    "stop_gradient scale": op(lambda x: x * 0.5 + tf.stop_gradient(tf.ones_like(x))),
}
VECTOR = {
    **ANY,
    "RepeatVector+LSTM": chain(keras("RepeatVector", n=3), keras("LSTM", units=4)),
    "GroupNormalization": flat(keras("GroupNormalization", groups=1)),
    "factorization machine": constant(
        lambda x, w: tf.square(x @ w) - tf.square(x) @ tf.square(w), 4, scale=0.5
    ),
    "outer": op(lambda x: tf.reshape(tf.einsum("bi,bj->bij", x[:, :3], x[:, :3]), [-1, 9])),
    "Conv1D of a vector": chain(
        op(lambda x: x[..., None]), keras("Conv1D", filters=3, kernel_size=2), keras("Flatten")
    ),
}


def attention(**call):
    def make(net, shape):
        layer = net.layer("MultiHeadAttention", num_heads=2, key_dim=3)
        return lambda x: layer(x, x, **call)

    return make


def transformer(net, shape):
    attend = attention()(net, shape)
    norms = [net.layer("LayerNormalization", epsilon=net.draw(1e-6, 1e-3)) for _ in range(2)]
    adds = [net.layer("Add") for _ in range(2)]
    up, down = net.layer("Dense", 6, activation=net.draw("relu", "gelu")), net.layer("Dense", shape[-1])
    net.flat = True

    def call(x):
        x = norms[0](adds[0]([x, attend(x)]))
        return norms[1](adds[1]([x, down(up(x))]))

    return call


def scaled_dot(x):
    return tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True) / 2.0), x)


def keras_attention(net, shape):
    query, layer = same(net, shape), net.layer("Attention")
    return lambda x: layer([query(x), x])


def dot_attention(net, shape):
    query = same(net, shape)
    dots = net.layer("Dot", axes=(2, 2)), net.layer("Softmax"), net.layer("Dot", axes=(2, 1))
    return lambda x: dots[2]([dots[1](dots[0]([query(x), x])), x])


def norm_over_all(net, shape):
    axes = net.draw([1, 2])
    # Over two axes TensorFlow's graph optimizer breaks that of Keras 2, where the batch is open.
    return net.layer("LayerNormalization", axis=axes if net.keras.__version__ >= "3" else -1)


def bidirectional(kind, sequences):
    def make(net, shape):
        inner = getattr(net.keras.layers, kind)(3, return_sequences=sequences)
        return net.layer("Bidirectional", inner)

    return make


def time_distributed(kind, *args, **options):
    def make(net, shape):
        return net.layer("TimeDistributed", getattr(net.keras.layers, kind)(*args, **options))

    return make


CONV1D = {"filters": [3, 4], "kernel_size": [2, 3], "padding": ["same", "same", "valid"]}
POOL1D = {"pool_size": [2, 3], "strides": [1, 2], "padding": ["same", "valid"]}

SEQUENCE = {
    **ANY,
    "Conv1D": keras("Conv1D", **CONV1D, activation=["relu", "tanh", None]),
    "Conv1D strided": keras("Conv1D", **CONV1D, strides=2),
    "Conv1D dilated": keras("Conv1D", filters=4, kernel_size=2, dilation_rate=2, padding=["same", "causal"]),
    "Conv1D causal": keras("Conv1D", filters=4, kernel_size=3, padding="causal", activation="relu"),
    "SeparableConv1D": keras("SeparableConv1D", **CONV1D),
    "DepthwiseConv1D": keras("DepthwiseConv1D", kernel_size=2, padding="same"),
    "Conv1DTranspose": keras("Conv1DTranspose", filters=3, kernel_size=3, strides=[1, 2], padding="same"),
    "MaxPooling1D": keras("MaxPooling1D", **POOL1D),
    "AveragePooling1D": keras("AveragePooling1D", **POOL1D),
    "UpSampling1D": keras("UpSampling1D"),
    "ZeroPadding1D": keras("ZeroPadding1D"),
    "Cropping1D": keras("Cropping1D", cropping=(1, 0)),
    "Permute": keras("Permute", dims=(2, 1)),
    "LSTM": keras("LSTM", units=4, return_sequences=True),
    "GRU": keras("GRU", units=4, return_sequences=True),
    "SimpleRNN": keras("SimpleRNN", units=4, return_sequences=True, activation=["tanh", "relu"]),
    "LSTM backwards": keras("LSTM", units=3, return_sequences=True, go_backwards=True, unroll=[True, False]),
    "Bidirectional": bidirectional("LSTM", True),
    "TimeDistributed": time_distributed("Dense", 4, activation="relu"),
    "MultiHeadAttention": beside(merged("Add"), identity, attention()),
    "causal MultiHeadAttention": attention(use_causal_mask=True),
    "transformer": transformer,
    "transformer again": transformer,
    "scaled_dot": op(scaled_dot),
    "Attention": keras_attention,
    "dot attention": dot_attention,
    "squeeze and excite": squeeze_excite,
    "GroupNormalization": flat(keras("GroupNormalization", groups=1)),
    "norm over all": flat(norm_over_all),
    "cumsum in time": op(lambda x: tf.cumsum(x, 1)),
    "differences": op(lambda x: x[:, 1:] - x[:, :-1]),
    "reverse": op(lambda x: tf.reverse(x, [1])),
    "roll": op(lambda x: tf.roll(x, 1, 1)),
    "time major": op(lambda x: tf.transpose(tf.nn.relu(tf.transpose(x, [1, 0, 2])), [1, 0, 2])),
    "sort in time": op(lambda x: tf.transpose(tf.sort(tf.transpose(x, [0, 2, 1])), [0, 2, 1])),
    "split heads": op(lambda x: tf.reshape(tf.nn.relu(tf.reshape(x, [-1, x.shape[-1]])), [-1, *x.shape[1:]])),
    "pairwise": op(lambda x: tf.nn.relu(x[:, :, None] - x[:, None, :])[:, 0]),
    "SpatialDropout1D": keras("SpatialDropout1D", rate=0.2),
    "map_fn": op(lambda x: tf.map_fn(lambda row: tf.tanh(row) * 2, x)),
    "scan": op(
        lambda x: tf.transpose(
            tf.scan(lambda s, v: tf.tanh(s * 0.5 + v), tf.transpose(x, [1, 0, 2])), [1, 0, 2]
        )
    ),
}


def masked_rnn(kind):
    def make(net, shape):
        mask, rnn = net.layer("Masking", mask_value=PAD), net.layer(kind, 4, return_sequences=True)
        ends = net.op(lambda x: x * 1)  # which carries no mask on
        return lambda x: ends(rnn(mask(x)))

    return make


def masked_mean(net, shape):
    def call(x):
        mask = tf.cast(tf.reduce_any(tf.not_equal(x, PAD), -1, keepdims=True), x.dtype)
        return tf.reduce_sum(x * mask, 1) / tf.reduce_sum(mask, 1)

    return net.op(call)


MASKED = {
    "Masking+LSTM": masked_rnn("LSTM"),
    "Masking+GRU": masked_rnn("GRU"),
    "Masking+Bidirectional": chain(
        keras("Masking", mask_value=PAD), bidirectional("GRU", True), op(lambda x: x * 1)
    ),
    "masked mean": masked_mean,
}


def reads_ids(maker):
    """A block that is called with the ids, too; on nothing but zeros while it is built."""

    def make(net, shape):
        made = maker(net, shape)

        def call(x, ids=None):
            return made(x, tf.ones(x.shape[:2], tf.int32) if ids is None else ids)

        call.reads_ids = True
        return call

    return make


@reads_ids
def masked_attention(net, shape):
    layer = net.layer("MultiHeadAttention", num_heads=1, key_dim=3)
    mask = net.op(lambda ids: tf.not_equal(ids, 0)[:, None, :])
    return lambda x, ids: layer(x, x, attention_mask=mask(ids))


@reads_ids
def masked_lstm(net, shape):
    layer, mask = net.layer("LSTM", 4, return_sequences=True), net.op(lambda ids: tf.not_equal(ids, 0))
    return lambda x, ids: layer(x, mask=mask(ids))


@reads_ids
def masked_average(net, shape):
    layer, mask = net.layer("GlobalAveragePooling1D"), net.op(lambda ids: tf.not_equal(ids, 0))
    return lambda x, ids: layer(x, mask=mask(ids))


@reads_ids
def gathered_last(net, shape):
    def last(parts):
        x, ids = parts
        return tf.gather(x, tf.reduce_sum(tf.cast(ids != 0, tf.int32), 1) - 1, batch_dims=1)

    made = net.op(last)
    return lambda x, ids: made([x, ids])


@reads_ids
def positions(net, shape):
    value = net.values(*shape)
    made = net.op(lambda x: x * np.sqrt(2.0) + tf.constant(value))
    return lambda x, ids: made(x)


TOKENS = {
    "masked attention": masked_attention,
    "masked LSTM": masked_lstm,
    "masked average": masked_average,
    "gathered last": gathered_last,
    "positions": positions,
}

CONV2D = {"filters": [3, 4], "kernel_size": [2, 3], "padding": ["same", "valid"]}
POOL2D = {"pool_size": [2, 3], "strides": [1, 2], "padding": ["same", "valid"]}


def unless_small(maker, least=3):
    """Images that have shrunk are left as they are."""
    return lambda net, shape: maker(net, shape) if min(shape[:-1]) >= least else identity(net, shape)


def conv_block(net, shape):
    parts = [
        net.layer("Conv2D", 4, 3, padding="same", use_bias=False),
        net.layer("BatchNormalization"),
        net.layer("ReLU"),
        net.layer("MaxPooling2D", 2, padding="same"),
    ]

    def call(x):
        for part in parts:
            x = part(x)
        return x

    return call


IMAGE = {
    **ANY,
    **{
        name: unless_small(maker)
        for name, maker in {
            "Conv2D": keras("Conv2D", **CONV2D, activation=["relu", "tanh", None]),
            "Conv2D strided": keras("Conv2D", **CONV2D, strides=2),
            "Conv2D dilated": keras("Conv2D", filters=3, kernel_size=2, dilation_rate=2, padding="same"),
            "SeparableConv2D": keras("SeparableConv2D", **CONV2D, activation=["relu", None]),
            "DepthwiseConv2D": keras("DepthwiseConv2D", kernel_size=2, depth_multiplier=[1, 2]),
            "Conv2DTranspose": keras(
                "Conv2DTranspose", filters=3, kernel_size=3, strides=[1, 2], padding="same"
            ),
            "MaxPooling2D": keras("MaxPooling2D", **POOL2D),
            "MaxPooling2D again": keras("MaxPooling2D", **POOL2D),
            "AveragePooling2D": keras("AveragePooling2D", **POOL2D),
            "Cropping2D": keras("Cropping2D"),
            "patches": op(
                lambda x: tf.image.extract_patches(x, [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1], "VALID")
            ),
            "reflect": op(lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")),
            "resize": op(lambda x: tf.image.resize(x, [4, 4])),
            "total variation": op(lambda x: tf.abs(x[:, 1:] - x[:, :-1])),
        }.items()
    },
    "Conv+BN+ReLU+MaxPooling": conv_block,
    "ZeroPadding2D": keras("ZeroPadding2D", padding=((1, 0), (0, 1))),
    "UpSampling2D": keras("UpSampling2D", interpolation=["nearest", "bilinear"]),
    "squeeze and excite": squeeze_excite,
    "GroupNormalization": flat(keras("GroupNormalization", groups=1)),
    "instance norm": flat(
        op(lambda x: tf.nn.batch_normalization(x, *tf.nn.moments(x, [1, 2], keepdims=True), None, None, 1e-3))
    ),
    "spatial softmax": op(
        lambda x: (
            x
            * tf.reshape(
                tf.nn.softmax(tf.reshape(x, [-1, x.shape[1] * x.shape[2], x.shape[3]]), 1), [-1, *x.shape[1:]]
            )
        )
    ),
    "permute": keras("Permute", dims=(3, 1, 2)),
    "rows as time": chain(time_distributed("GRU", 3, return_sequences=True), keras("ReLU")),
}


def average_pooling3d(net, shape):
    """In single precision always: TensorFlow has no other kernel."""
    pool = net.layer("AveragePooling3D", pool_size=2, dtype="float32")
    return pool if net.dtype == "float32" else lambda x: tf.cast(pool(tf.cast(x, "float32")), x.dtype)


def max_pooling3d(net, shape):
    """In double precision, maxima of neighbours: outside of graphs TensorFlow's gradient goes to all ties."""
    net.tied = True

    def neighbours(x):
        x = tf.maximum(x[:, 1:], x[:, :-1])
        x = tf.maximum(x[:, :, 1:], x[:, :, :-1])
        return tf.maximum(x[:, :, :, 1:], x[:, :, :, :-1])

    pool = net.layer("MaxPooling3D", pool_size=2, strides=1)
    return pool if net.dtype == "float32" else neighbours


VIDEO = {
    "ConvLSTM2D": keras(
        "ConvLSTM2D", filters=2, kernel_size=2, padding="same", return_sequences=[True, False]
    ),
    "Conv3D": unless_small(keras("Conv3D", filters=2, kernel_size=2, activation="relu"), 2),
    "MaxPooling3D": unless_small(max_pooling3d, 2),
    "AveragePooling3D": unless_small(average_pooling3d, 2),
    "TimeDistributed Conv2D": time_distributed("Conv2D", 2, 2, activation="relu", padding="same"),
    "relu": keras("ReLU"),
    "BatchNormalization": keras("BatchNormalization"),
    "UpSampling3D": keras("UpSampling3D", size=(1, 2, 2)),
    "Conv3DTranspose": keras("Conv3DTranspose", filters=2, kernel_size=2),
    "dense": dense,
}

ENDS = {
    3: {
        "Flatten": keras("Flatten"),
        "GlobalMaxPooling1D": keras("GlobalMaxPooling1D"),
        "GlobalAveragePooling1D": keras("GlobalAveragePooling1D"),
        "last LSTM": keras("LSTM", units=4),
        "last GRU": keras("GRU", units=4, reset_after=[True, False]),
        "last SimpleRNN": keras("SimpleRNN", units=4),
        "last Bidirectional": bidirectional("GRU", False),
        "last step": op(lambda x: x[:, -1]),
        "k-max pooling": op(
            lambda x: tf.reshape(tf.math.top_k(tf.transpose(x, [0, 2, 1]), 2).values, [-1, 2 * x.shape[-1]])
        ),
        "logsumexp": op(lambda x: tf.reduce_logsumexp(x, 1)),
        "attention pooling": op(
            lambda x: tf.reduce_sum(x * tf.nn.softmax(tf.reduce_sum(x, -1, keepdims=True), 1), 1)
        ),
        "statistics": op(
            lambda x: tf.concat(
                [tf.reduce_mean(x, 1), tf.math.reduce_variance(x, 1), tf.reduce_min(x, 1)], -1
            )
        ),
        "norm": op(lambda x: tf.sqrt(tf.reduce_sum(tf.square(x), 1) + 1e-2)),
        "product": op(lambda x: tf.reduce_prod(1 + 0.2 * x, 1)),
    },
    4: {
        "Flatten": keras("Flatten"),
        "GlobalMaxPooling2D": keras("GlobalMaxPooling2D"),
        "GlobalAveragePooling2D": keras("GlobalAveragePooling2D"),
        "mean and max": op(lambda x: tf.concat([tf.reduce_mean(x, [1, 2]), tf.reduce_max(x, [1, 2])], -1)),
        "to sequence": op(lambda x: tf.reshape(x, [-1, x.shape[1] * x.shape[2], x.shape[3]])),
        "logsumexp": op(lambda x: tf.reduce_logsumexp(x, [1, 2])),
    },
    5: {
        "Flatten": keras("Flatten"),
        "GlobalMaxPooling3D": keras("GlobalMaxPooling3D"),
        "GlobalAveragePooling3D": keras("GlobalAveragePooling3D"),
        "last ConvLSTM2D": keras("ConvLSTM2D", filters=2, kernel_size=2),
    },
}


def merging(combine, units=4):
    """What `combine` makes of a dense layer of each part."""

    def make(net, widths):
        made = [net.layer("Dense", units) for _ in widths]
        combined = combine(net, None)
        return lambda parts: combined([f(x) for f, x in zip(made, parts)])

    return make


MERGES = {
    "Concatenate": merging(merged("Concatenate")),
    "Add": merging(merged("Add")),
    "Multiply": merging(merged("Multiply")),
    "Maximum": merging(merged("Maximum")),
    "Dot": merging(merged("Dot", axes=1, normalize=False)),
    "cosine": flat(merging(merged("Dot", axes=1, normalize=True))),
    "distance": merging(function(lambda p: tf.abs(p[0] - p[1]))),
    "gated": merging(function(lambda p: p[0] * tf.sigmoid(p[1]))),
    "bilinear": merging(function(lambda p: tf.reshape(tf.einsum("bi,bj->bij", p[0], p[1]), [-1, 16]))),
}
HEADS = {
    "linear": identity,
    "linear again": identity,
    "softmax": keras("Softmax"),
    "sigmoid": activation("sigmoid"),
    "log_softmax": op(tf.nn.log_softmax),
    "softmax op": op(tf.nn.softmax),
    "minus logsumexp": op(lambda x: x - tf.reduce_logsumexp(x, -1, keepdims=True)),
}
