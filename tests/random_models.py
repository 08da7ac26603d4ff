"""Random small networks of the layers that people use, each a function of one integer.

`Network(seed)` draws kinds of inputs (vectors, sequences, images, videos, token embeddings), a branch of
blocks for each, how the branches merge, and a head of three classes; Keras layers of the Keras that the
seed draws, and plain TensorFlow in between. `Network(seed, "float64")` is the same network in double
precision: what it computes eagerly is the reference.
"""

import contextlib
import importlib.util

import numpy as np
import tensorflow as tf

ROWS = 4
CLASSES = 3
BASELINES = ["zeros", "zeros", "random", "partly equal", "one row", "scalar"]
SHAPES = {
    "vector": lambda r: [r.randint(3, 9)],
    "sequence": lambda r: [r.randint(4, 7), r.randint(3, 6)],
    "tokens": lambda r: [r.randint(4, 7), r.randint(3, 6)],
    "image": lambda r: [6, 6, r.randint(1, 4)],
    "video": lambda r: [3, 4, 4, r.randint(1, 3)],
}
VOCABULARY = 12
PAD = -2.0  # what `Masking` leaves out


class Network:
    """Attributes:
    names: of the blocks, to print.
    raw: arrays that the graph is fed: `xs`, or ids in the place of embeddings.
    baselines: likewise a list of arrays, or `None`, or a scalar.
    """

    def __init__(self, seed, dtype="float32"):
        self.seed, self.dtype, self.layers, self.names = seed, dtype, [], []
        self.random = random = np.random.RandomState(seed)
        keras2 = random.choice(["keras", "tf_keras"]) == "tf_keras" and importlib.util.find_spec("tf_keras")
        self.keras = importlib.import_module("tf_keras") if keras2 else tf.keras
        self.functional = bool(random.rand() < 0.5)
        self.static, self.session = bool(random.rand() < 0.4), bool(random.rand() < 0.3)
        self.biased, self.jumps, self.flat, self.masked = bool(random.rand() < 0.6), False, False, []
        count = 1 if random.rand() < 0.7 else 2
        kinds = [random.choice(list(SHAPES), p=[0.25, 0.3, 0.15, 0.22, 0.08]) for _ in range(count)]
        self.kinds, shapes = kinds, [SHAPES[kind](random) for kind in kinds]
        self.weights = np.round(random.normal(size=CLASSES), 2)
        with self.precision():
            self._build(shapes)
            self._draw_weights()
        self._draw_inputs(shapes)
        self._models = {}

    def __repr__(self):
        keras = self.keras.__name__.split(".")[0]
        how = "functional" if self.functional else "function"
        where = "session" if self.session else "tf.function"
        rows = "static" if self.static else "open"
        return (
            f"Network({self.seed}): {keras} {how}, {where}, {rows}, {self.baseline_kind}, "
            f"biases {self.biased}, {' '.join(self.kinds)}: {', '.join(self.names)}"
        )

    @contextlib.contextmanager
    def precision(self):
        backend, policies = self.keras.backend, self.keras.mixed_precision
        floatx, policy = backend.floatx(), policies.global_policy()
        backend.set_floatx(self.dtype)
        policies.set_global_policy(self.dtype)
        try:
            yield
        finally:
            backend.set_floatx(floatx)
            policies.set_global_policy(policy)

    # Building

    def layer(self, kind, *args, **options):
        layer = getattr(self.keras.layers, kind)(*args, **options)
        self.layers.append(layer)
        return layer

    def op(self, function):
        """A plain function of tensors, as a layer where a functional model is built."""
        return self.keras.layers.Lambda(function) if self.functional else function

    def draw(self, *options):
        return options[self.random.randint(len(options))]

    def values(self, *shape, scale=1.0):
        """A constant, the same in both precisions."""
        return (self.random.normal(size=shape) * scale).astype("float32").astype(self.dtype)

    def block(self, table, x):
        """One of the blocks of `table` on a tensor: (what it makes, the block)."""
        names = list(table)
        name = names[self.random.randint(len(names))]
        self.names.append(name)
        made = table[name](self, x.shape.as_list()[1:])
        return made(x), made

    def _build(self, shapes):
        self.embeddings, self.branches = [], []
        xs = []
        for kind, shape in zip(self.kinds, shapes):
            tokens = kind == "tokens"
            self.embeddings.append(self.layer("Embedding", VOCABULARY, shape[-1]) if tokens else None)
            x = tf.zeros([ROWS, *shape], self.dtype)
            if tokens:
                self.embeddings[-1](tf.zeros([ROWS, shape[0]], tf.int32))
            branch = []
            self.masked.append(False)
            if kind == "sequence" and self.random.rand() < 0.15:
                self.masked[-1] = True
                self.names.append("masking")
                branch.append(MASKED[self.draw(*MASKED)](self, shape))
                x = branch[-1](x)
            for _ in range(self.random.randint(1, 4)):
                rank = x.shape.rank
                table = {2: VECTOR, 3: SEQUENCE, 4: IMAGE, 5: VIDEO}[rank]
                if tokens and not branch and self.random.rand() < 0.5:
                    table = TOKENS
                x, made = self.block(table, x)
                branch.append(made)
            while x.shape.rank > 2:
                x, made = self.block(ENDS[x.shape.rank], x)
                branch.append(made)
            xs.append(x)
            self.branches.append(branch)
        self.merge = None
        if len(xs) > 1:
            name = self.draw(*MERGES)
            self.names.append(name)
            self.merge = MERGES[name](self, [x.shape[-1] for x in xs])
            x = self.merge(xs)
        self.after = []
        self.inner = dense(self, x.shape.as_list()[1:], 5)
        x = self.inner(x)
        for _ in range(self.random.randint(0, 3)):
            x, made = self.block(VECTOR, x)
            self.after.append(made)
        last = self.layer("Dense", CLASSES)
        name = self.draw(*HEADS)
        self.names.append(name)
        self.after += [last, HEADS[name](self, None)]
        self.after[-1](last(x))

    def _draw_weights(self):
        for layer in self.layers:
            for weight in layer.weights:
                name, shape = getattr(weight, "path", weight.name), weight.shape
                if not tf.as_dtype(weight.dtype).is_floating:
                    continue
                drawn = self.random.normal(size=shape)
                if "embeddings" in name:
                    value = drawn
                elif "variance" in name:
                    value = 0.5 + np.abs(drawn)
                elif any(n in name for n in ("gamma", "scale")):
                    value = 1 + 0.3 * drawn
                elif any(n in name for n in ("bias", "beta", "mean", "alpha")):
                    value = 0.3 * drawn * self.biased
                    value = np.abs(value) if "alpha" in name else value
                else:
                    value = drawn * np.sqrt(1.5 / max(1, np.prod(shape[:-1])))
                weight.assign(value.astype("float32"))

    def _draw_inputs(self, shapes):
        random = self.random
        self.raw, starts = [], []
        self.baseline_kind = str(random.choice(BASELINES))
        if any(self.masked) or "tokens" in self.kinds and self.baseline_kind == "one row":
            self.baseline_kind = "random"
        for kind, shape, masked in zip(self.kinds, shapes, self.masked):
            x = random.normal(size=[ROWS, *shape])
            if kind in ("image", "video"):
                x = random.rand(ROWS, *shape)
            if kind == "tokens":
                ids = random.randint(1, VOCABULARY, [ROWS, shape[0]])
                ids[0, -2:] = ids[1, -1:] = 0
                self.raw.append(ids.astype("int32"))
            else:
                self.raw.append(x.astype("float32"))
            b = random.normal(size=x.shape) * 0.7
            if self.baseline_kind == "zeros":
                b = np.zeros_like(x)
            elif self.baseline_kind == "scalar":
                b = np.full_like(x, 0.3)
            elif self.baseline_kind == "one row":
                b = b[:1]
            elif self.baseline_kind == "partly equal" and kind != "tokens":
                b = np.where(random.rand(*x.shape) < 0.5, x, b)
            b = b.astype("float32")
            if masked:
                self.raw[-1][0, -2:] = b[0, -2:] = PAD
                self.raw[-1][1, -1:] = b[1, -1:] = PAD
            starts.append(b)
        self.starts = starts  # arrays, whatever the kind
        self.baselines = {"zeros": None, "scalar": 0.3}.get(self.baseline_kind, starts)

    # Calling

    def embed(self, raw):
        """What attributions are for: the inputs, or the embeddings of ids."""
        return [r if e is None else e(r) for r, e in zip(raw, self.embeddings)]

    def parts(self, xs, raw):
        """The tensor `[B, 5]` that every path passes through, and the output `[B, 3]`."""
        merged = []
        for x, ids, branch in zip(xs, raw, self.branches):
            for made in branch:
                x = made(x, ids) if getattr(made, "reads_ids", False) else made(x)
            merged.append(x)
        x = inner = self.inner(merged[0] if self.merge is None else self.merge(merged))
        for made in self.after:
            x = made(x)
        return inner, x

    def model(self, outputs="all"):
        """The functional model: of the raw inputs."""
        if outputs not in self._models:
            inputs = [
                self.keras.Input(r.shape[1:], ROWS if self.static else None, dtype=r.dtype.name)
                for r in self.raw
            ]
            xs = self.embed(inputs)
            inner, ys = self.parts(xs, inputs)
            made = ys if outputs == "ys" else [*[x for x, e in zip(xs, self.embeddings) if e], inner, ys]
            self._models[outputs] = self.keras.Model(inputs if len(inputs) > 1 else inputs[0], made)
        return self._models[outputs]

    def graph(self, *raw):
        """In a graph: `(xs, inner, ys)`, as the kind of network builds it."""
        raw = list(raw)
        if not self.functional:
            xs = self.embed(raw)
            return xs, *self.parts(xs, raw)
        *embedded, inner, ys = self.model()(raw if len(raw) > 1 else raw[0], training=False)
        xs = [r if e is None else embedded.pop(0) for r, e in zip(raw, self.embeddings)]
        return xs, inner, ys


# Blocks: function of a network and a shape that makes a function of a tensor -------------------------------


def dense(net, shape, units=None, activation=None):
    return net.layer("Dense", units or net.draw(4, 5, shape[-1]), activation=activation)


def same(net, shape):
    """Affine in the last axis, same shape."""
    return net.layer("Dense", shape[-1])


def keras(kind, **choices):
    """A Keras layer; a list is drawn from, a function gets the shape."""

    def make(net, shape):
        options = {}
        for name, value in choices.items():
            value = value(shape) if callable(value) else value
            options[name] = net.draw(*value) if isinstance(value, list) else value
        return net.layer(kind, **options)

    return make


def op(function):
    return lambda net, shape: net.op(function)


def jump(maker):
    """Where the network is not continuous the sum of gradients is not what F changes by."""

    def make(net, shape):
        net.jumps = True
        return maker(net, shape)

    return make


def flat(maker):
    """Normalization without a gradient to speak of where its input is constant."""

    def make(net, shape):
        net.flat = True
        return maker(net, shape)

    return make


def chain(*makers):
    def make(net, shape):
        x, made = tf.zeros([1, *shape], net.dtype), []
        for maker in makers:
            made.append(maker(net, x.shape.as_list()[1:]))
            x = made[-1](x)

        def call(x):
            for f in made:
                x = f(x)
            return x

        return call

    return make


def beside(combine, *makers):
    """`combine` of what several blocks make of the same tensor."""

    def make(net, shape):
        made = [maker(net, shape) for maker in makers]
        combined = combine(net, shape)
        return lambda x: combined([f(x) for f in made])

    return make


def identity(net, shape):
    return lambda x: x


def activation(name):
    return lambda net, shape: net.layer("Activation", name)


def relu_dense(net, shape):
    return net.layer("Dense", shape[-1], activation="relu")


def sigmoid_dense(net, shape):
    return net.layer("Dense", shape[-1], activation="sigmoid")


def merged(kind, **options):
    return lambda net, shape: net.layer(kind, **options)


def function(f):
    """A function of a list of tensors."""
    return lambda net, shape: net.op(f)


def constant(f, *extra, scale=1.0):
    """A function of a tensor and a constant `[last axis, *extra]`."""

    def make(net, shape):
        value = net.values(shape[-1], *extra, scale=scale)
        return net.op(lambda x: f(x, tf.constant(value)))

    return make


def squeeze_excite(net, shape):
    small, back = (
        net.layer("Dense", 2, activation="relu"),
        net.layer("Dense", shape[-1], activation="sigmoid"),
    )
    axes = list(range(1, len(shape)))
    pool = net.op(lambda x: tf.reduce_mean(x, axes, keepdims=True))
    multiply = net.layer("Multiply")
    return lambda x: multiply([x, back(small(pool(x)))])


def rms_norm(x):
    return x * tf.math.rsqrt(tf.reduce_mean(tf.square(x), -1, keepdims=True) + 1e-6)


def mish(x):
    return x * tf.tanh(tf.nn.softplus(x))


def highway(parts):
    x, h, gate = parts
    return h * gate + x * (1 - gate)


def glu(x):
    a, b = tf.split(tf.concat([x, tf.reverse(x, [-1])], -1), 2, -1)
    return a * tf.sigmoid(b * 1.5)


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
    "top_k": op(lambda x: tf.math.top_k(x, 3).values),
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
    "norm over all": flat(keras("LayerNormalization", axis=[[1, 2]])),
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


def pooling3d(kind, **options):
    """In single precision always: TensorFlow has no other kernel."""

    def make(net, shape):
        pool = net.layer(kind, **options, dtype="float32")
        return pool if net.dtype == "float32" else lambda x: tf.cast(pool(tf.cast(x, "float32")), x.dtype)

    return make


VIDEO = {
    "ConvLSTM2D": keras(
        "ConvLSTM2D", filters=2, kernel_size=2, padding="same", return_sequences=[True, False]
    ),
    "Conv3D": keras("Conv3D", filters=2, kernel_size=2, activation="relu"),
    "MaxPooling3D": unless_small(pooling3d("MaxPooling3D", pool_size=2, strides=1), 2),
    "AveragePooling3D": unless_small(pooling3d("AveragePooling3D", pool_size=2), 2),
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
