"""Random models out of the layers that people use, by number: model 17 is the same one everywhere.

    python tests/random_models.py 17          prints model 17
    python tests/test_random_models.py 17     holds everything public to its reference

A model is drawn while it is built, one block after the other, each from random numbers of its own, so that
blocks can be left out (`Model(17, without=[2])`) to find the one that matters. The same model is built
as often as it is needed: in the way of the number (Keras 3, Keras 2, plain TensorFlow in a tf.function
or in a graph of TensorFlow 1) as what is tested, and once more in float64 as what it is compared with.
"""

import contextlib
import itertools
import sys

import numpy as np
import random_networks
import tensorflow as tf

try:
    import tf_keras
except ImportError:  # the oldest TensorFlow, whose own Keras is Keras 2
    tf_keras = None

v1 = tf.compat.v1
ROWS = 16
WAYS = {
    "keras": 0.4,  # tf.keras inside a tf.function
    "keras 2": 0.2,  # tf_keras inside a tf.function
    "function": 0.2,  # plain TensorFlow inside a tf.function
    "session": 0.1,  # plain TensorFlow in a graph of TensorFlow 1
    "keras 2 session": 0.1,
}
BASELINES = {"zeros": 0.45, "one row": 0.2, "rows": 0.2, "number": 0.15}
SHAPES = {(6,): 0.2, (5, 4): 0.4, (6, 6, 2): 0.3, (2, 4, 4, 2): 0.1}
INPUTS = {"normal": 0.5, "images": 0.2, "large": 0.1, "padded": 0.1, "embedded": 0.1}
HEADS = {"logits": 0.4, "softmax": 0.3, "sigmoid": 0.15, "scalar": 0.15}


def choose(random, table):
    """A key of `{key: share}`, or an entry of a sequence."""
    if not isinstance(table, dict):
        return table[random.randint(len(table))]
    share = np.array(list(table.values()), float)
    return list(table)[random.choice(len(share), p=share / share.sum())]


class Model:
    """What a number stands for: everything that is drawn apart from the layers.

    Attributes:
      way, dtype, static: how the model is built, and whether with a batch size of `ROWS`.
      shapes: of the inputs, without the batch.
      baseline: which kind of baseline.
      head: what the model ends with.
      blocks: how many blocks there are on the branch of each input, and after them.
    """

    def __init__(self, number, without=(), way=None, dtype=None, static=None, baseline=None):
        self.number, self.without = number, tuple(without)
        random = np.random.RandomState(number)
        drawn = choose(random, WAYS)
        if tf_keras is None:
            drawn = {"keras 2": "keras", "keras 2 session": "session"}.get(drawn, drawn)
        self.way = way or drawn
        drawn = choose(random, ["float32", "float32", "float64"])
        self.dtype = dtype or drawn
        drawn = bool(random.rand() < 0.3)
        self.static = drawn if static is None else static
        count = 2 if random.rand() < 0.2 else 1
        self.shapes = [choose(random, SHAPES) for _ in range(count)]
        drawn = choose(random, BASELINES)
        self.baseline = baseline or drawn
        self.head = choose(random, HEADS)
        self.biases = bool(random.rand() < 0.8)
        self.inputs = choose(random, INPUTS)
        self.blocks = [random.randint(1, 4) for _ in self.shapes], random.randint(0, 3)
        self.log = []

    def __repr__(self):
        kind = f"{self.way}, {self.dtype}, {'static' if self.static else 'open'} batch"
        more = f", without blocks {list(self.without)}" if self.without else ""
        lines = [f"model {self.number}: {kind}, baseline: {self.baseline}, inputs: {self.inputs}{more}"]
        return "\n".join(lines + ["  " + line for line in self.log])

    # Data

    def ends(self):
        """Inputs `[ROWS, ...]`, and baselines as they are passed, in float64: two lists, or None."""
        random = np.random.RandomState([self.number, 1])
        xs, bs, self.ids = [], [], []
        for shape in self.shapes:
            x = random.normal(size=(ROWS, *shape))
            other = random.normal(size=x.shape)
            if self.inputs == "images":
                x, other = random.rand(*x.shape), random.rand(*x.shape)
            elif self.inputs == "large":
                x *= 5
            elif self.inputs == "padded" and len(shape) == 2:
                # From step 2, 3, 4 or 5 on as at the baseline.
                past = np.arange(shape[0])[None] >= random.randint(2, 6, (ROWS, 1))
                x[past] = 0
                other = np.where(past[..., None], 0, other)
            elif self.inputs == "embedded":
                # Words of a table of 20, looked up in the graph.
                self.ids.append((x.reshape(-1, shape[-1])[:20], random.randint(20, size=(ROWS, *shape[:-1]))))
                self.ids[-1] = (self.ids[-1][0].astype(np.float32), self.ids[-1][1] % len(self.ids[-1][0]))
                x = self.ids[-1][0][self.ids[-1][1]]
            xs.append(x.astype(np.float32).astype(np.float64))
            b = {"zeros": None, "one row": other[:1], "rows": other, "number": 0.5}[self.baseline]
            bs.append(b if b is None else np.asarray(b, np.float32).astype(np.float64))
        return xs, (None if self.baseline == "zeros" else bs)

    # Building

    def build(self, library=None, dtype=None, batch=None):
        """A function of input tensors that returns a hidden tensor and the output.

        Args:
          library: `tf.keras`, `tf_keras` or None for plain TensorFlow.
          dtype: of the weights.
          batch: the number of rows, None if open.
        """
        self.log = []
        build = Build(self, library, dtype)
        if library is None:
            return lambda *xs: self._compose(Build(self, None, dtype), list(xs))
        before = library.mixed_precision.global_policy()
        library.mixed_precision.set_global_policy(dtype)
        try:
            inputs = [library.Input(shape, batch_size=batch, dtype=dtype) for shape in self.shapes]
            hidden, output = self._compose(build, inputs)
            model = library.Model(inputs, [hidden, output])
        finally:
            library.mixed_precision.set_global_policy(before)
        values = self.weights(model)
        call = lambda *xs: model(list(xs) if len(xs) > 1 else xs[0], training=False)  # noqa: E731
        if tf.executing_eagerly():
            model.set_weights(values)
        else:
            call.assign = [v.assign(value) for v, value in zip(model.weights, values)]
        call.model = model
        call.plain = library.Model(inputs, output)
        return call

    def weights(self, model):
        """Values that no layer is indifferent to, the same in every build."""
        values = []
        for i, variable in enumerate(model.weights):
            random = np.random.RandomState([self.number, 2, i])
            name = getattr(variable, "path", variable.name)
            shape = tuple(variable.shape)
            value = random.normal(size=shape)
            if "variance" in name:
                value = 0.5 + np.abs(value)
            elif "gamma" in name or "scale" in name.split("/")[-1]:
                value = 1 + 0.3 * value
            elif len(shape) < 2 or "bias" in name or "mean" in name or "beta" in name:
                value = 0.3 * value * (self.biases or "bias" not in name)
            elif "alpha" in name:
                value = 0.25 + 0.1 * value
            elif "depthwise" in name:
                value *= np.sqrt(1.5 / np.prod(shape[:-2]))
            else:
                value *= np.sqrt(1.5 / np.prod(shape[:-1]))
            values.append(value if tf.as_dtype(variable.dtype).is_floating else np.zeros(shape))
        return values

    def _compose(self, build, xs):
        flat, number = [], 0
        for i, x in enumerate(xs):
            build.say(f"input {i}: {self.shapes[i]}")
            for _ in range(self.blocks[0][i]):
                x = build.block(number, x)
                number += 1
            flat.append(build.flat(x, number, i))
        x = flat[0]
        if len(flat) > 1:
            x = build.merge(flat)
        hidden = x
        for _ in range(self.blocks[1]):
            x = build.block(number, x)
            number += 1
        x = build.flat(x, number, len(xs))
        units = 1 if self.head == "scalar" else 3
        activation = {"softmax": "softmax", "sigmoid": "sigmoid"}.get(self.head)
        return hidden, build.dense(x, units, activation, name="head")


class Build:
    """One construction of a model: layers of a library, or plain TensorFlow."""

    def __init__(self, model, library, dtype):
        self.model, self.library, self.dtype = model, library, dtype
        self.layers = library and library.layers
        self.random = np.random.RandomState(model.number)
        self.lines = set(model.log)
        self.count = 0

    def say(self, line):
        if not self.lines:
            self.model.log.append(line)

    def draw(self, *options):
        return options[self.random.randint(len(options))]

    def activation(self):
        """None, or a name that the library knows."""
        known = [a for a in ACTIVATIONS if hasattr(self.library.activations, a)]
        return self.draw(None, "relu", "relu", *known)

    def has(self, name):
        return self.library is not None and hasattr(self.layers, name)

    def layer(self, name, *xs, call=None, wrap=None, **options):
        """Applies the Keras layer of that name."""
        made = getattr(self.layers, name)(**options)
        if name == "MaxPooling3D" and self.dtype == "float64":  # TensorFlow has no kernel for that
            made = self.layers.Lambda(lambda x: max_pool_3d(x, **options))
        text = f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})"
        for wrapper, more in wrap or []:
            made = getattr(self.layers, wrapper)(made, **more)
            text = f"{wrapper}({text}{''.join(f', {k}={v!r}' for k, v in more.items())})"
        result = made(*xs, **(call or {}))
        self.say(f"  {text}{f' called with {call}' if call else ''} -> {tuple(result.shape)}")
        return result

    def op(self, name, x):
        """Applies a layer in plain TensorFlow, of random_networks.LAYERS."""
        seed = self.random.randint(2**31)
        function = random_networks.LAYERS[name]

        def apply(x):
            return function(x, random_networks.Weights(seed, x.dtype))

        result = self.layers.Lambda(apply)(x) if self.library else apply(x)
        self.say(f"  random_networks.LAYERS[{name!r}], seed {seed} -> {tuple(result.shape)}")
        return result

    def block(self, number, x):
        """Block `number` of the model."""
        if number in self.model.without:
            return x
        self.random = np.random.RandomState([self.model.number, 3, number])
        self.say(f"block {number}")
        rank = len(x.shape)
        plain = PLAIN.get(rank, [])
        keras = [f for f in BLOCKS if rank in f.ranks] if self.library else []
        for _ in range(20):
            if not keras or (plain and self.random.rand() < 0.25):
                return self.op(self.draw(*plain), x)
            made = self.draw(*keras)(self, x)
            if made is not None:
                return made
        return x

    def flat(self, x, number, branch):
        """`[B, F]` of what has any rank."""
        self.random = np.random.RandomState([self.model.number, 4, number, branch])
        rank = len(x.shape)
        if rank == 2:
            return x
        if self.library:
            n = f"{rank - 2}D"
            name = self.draw("Flatten", f"GlobalAveragePooling{n}", f"GlobalMaxPooling{n}", "Flatten")
            return self.layer(name, x)
        return self.op(self.draw(*FLATTEN[rank]), x)

    def merge(self, parts):
        self.random = np.random.RandomState([self.model.number, 5])
        if not self.library:
            name = self.draw(*random_networks.MERGES)
            weights = random_networks.Weights(self.random.randint(2**31), parts[0].dtype)
            self.say(f"random_networks.MERGES[{name!r}]")
            return random_networks.MERGES[name](parts, weights)
        name = self.draw("Concatenate", "Add", "Multiply", "Maximum", "Average", "Dot", "Minimum", "Subtract")
        if name == "Concatenate":
            return self.layer(name, parts)
        parts = [self.layer("Dense", part, units=5, activation=self.activation()) for part in parts]
        if name == "Dot":
            return self.layer("Dot", parts, axes=1, normalize=True)
        return self.layer(name, parts)

    def dense(self, x, units, activation, name):
        self.random = np.random.RandomState([self.model.number, 6])
        if self.library:
            x = self.layer("Dense", x, units=units)
            return self.layer("Activation", x, activation=activation) if activation else x
        weights = random_networks.Weights(self.random.randint(2**31), x.dtype)
        x = random_networks.dense(x, weights, units)
        self.say(f"dense({units}), {activation}")
        return {None: tf.identity, "softmax": tf.nn.softmax, "sigmoid": tf.sigmoid}[activation](x)


# Blocks: function of a build and a tensor; None where it does not fit ----------------------------------

ACTIVATIONS = (
    "relu relu6 tanh sigmoid softplus softsign selu elu gelu swish silu mish hard_sigmoid hard_silu leaky_relu "
    "exponential softmax log_softmax celu squareplus hard_tanh"
).split()
BLOCKS = []


def block(*ranks):
    """Registers a block for tensors of these ranks, batch included."""

    def register(function):
        function.ranks = ranks
        BLOCKS.append(function)
        return function

    return register


def max_pool_3d(x, pool_size, strides, padding):
    """Max pooling as the largest of what every place of the window sees."""
    sizes = x.shape[1:4]
    if padding == "same":
        lack = [max((-(-n // strides) - 1) * strides + pool_size - n, 0) for n in sizes]
        around = [[0, 0], *([n // 2, n - n // 2] for n in lack), [0, 0]]
        x = tf.pad(x, around, constant_values=x.dtype.min)
        sizes = x.shape[1:4]
    spans = [(n - pool_size) // strides * strides + 1 for n in sizes]
    seen = []
    for start in itertools.product(range(pool_size), repeat=3):
        i, j, k = (slice(a, a + n, strides) for a, n in zip(start, spans))
        seen.append(x[:, i, j, k])
    return tf.reduce_max(tf.stack(seen), 0)


def _small(x):
    return np.prod(x.shape[1:]) <= 160


def _axes(x):
    """The layers' suffix, and the kernel that fits into every axis of places."""
    return f"{len(x.shape) - 2}D", min(x.shape[1:-1])


@block(2, 3, 4, 5)
def dense(b, x):
    return b.layer("Dense", x, units=b.draw(3, 5, 8), activation=b.activation(), use_bias=b.draw(True, True, False))


@block(2, 3, 4, 5)
def activation(b, x):
    return b.layer("Activation", x, activation=b.activation() or "relu")


@block(2, 3, 4, 5)
def rectifier(b, x):
    name = b.draw("PReLU", "LeakyReLU", "ELU", "ReLU", "Softmax")
    if name == "PReLU" and len(x.shape) > 2 and b.draw(True, False):
        return b.layer(name, x, shared_axes=list(range(1, len(x.shape) - 1)))
    options = {}
    if name == "ReLU":
        options = b.draw({"max_value": 6.0}, {"threshold": 0.3}, {"negative_slope": 0.1, "max_value": 1.0}, {})
    if name == "ELU":
        options = b.draw({}, {"alpha": 0.5})
    return b.layer(name, x, **options)


@block(2, 3, 4, 5)
def normalization(b, x):
    names = ["LayerNormalization", "BatchNormalization", "GroupNormalization", "UnitNormalization"]
    name = b.draw(*[n for n in [*names, "RMSNormalization", "LayerNormalization"] if b.has(n)])
    if name == "GroupNormalization":
        return b.layer(name, x, groups=b.draw(1, -1) if x.shape[-1] % 2 else b.draw(1, 2, -1))
    if name == "LayerNormalization":
        options = {"epsilon": b.draw(1e-3, 1e-5, 1e-6)}
        if len(x.shape) > 2 and b.draw(True, False, False):
            options["axis"] = list(range(1, len(x.shape)))
        return b.layer(name, x, **options)
    return b.layer(name, x)


@block(2, 3, 4, 5)
def normalized_dense(b, x):
    """The order of transformers and of residual networks: normalize, then a layer."""
    x = normalization(b, x)
    return b.layer("Dense", x, units=6, activation=b.draw("relu", "gelu", "relu", "tanh"))


@block(2, 3, 4, 5)
def residual(b, x):
    h = b.layer("Dense", x, units=8, activation=b.activation() or "relu")
    h = b.layer("Dense", h, units=x.shape[-1])
    h = b.layer("Add", [x, h])
    return normalization(b, h) if b.draw(True, False) else h


@block(2, 3, 4, 5)
def branches(b, x):
    parts = [b.layer("Dense", x, units=4, activation=b.activation()) for _ in range(b.draw(2, 3))]
    name = b.draw("Concatenate", "Add", "Multiply", "Maximum", "Minimum", "Average", "Subtract")
    return b.layer(name, parts[:2] if name == "Subtract" else parts)


@block(2, 3, 4, 5)
def gate(b, x):
    value = b.layer("Dense", x, units=x.shape[-1])
    open_ = b.layer("Dense", x, units=x.shape[-1], activation=b.draw("sigmoid", "hard_sigmoid", "swish", "softmax"))
    return b.layer("Multiply", [value, open_])


@block(2, 3, 4, 5)
def inert(b, x):
    """Layers that do nothing but in training, before one that does."""
    x = b.layer(b.draw("Dropout", "GaussianDropout", "AlphaDropout"), x, rate=0.5)
    return b.layer("Dense", x, units=5, activation=b.activation())


@block(2, 3, 4, 5)
def einsum_dense(b, x):
    if not b.has("EinsumDense"):
        return None
    return b.layer("EinsumDense", x, equation="...x,xy->...y", output_shape=(*x.shape[1:-1], 5), activation=b.activation())


@block(2)
def to_sequence(b, x):
    if x.shape[1] % 2 == 0 and b.draw(True, False):
        return b.layer("Reshape", x, target_shape=(2, x.shape[1] // 2))
    return b.layer("RepeatVector", x, n=3)


@block(3)
def reshape(b, x):
    return b.draw(
        lambda: b.layer("Permute", x, dims=(2, 1)),
        lambda: b.layer("Flatten", x),
        lambda: b.layer("Reshape", x, target_shape=(*x.shape[1:], 1)),
        lambda: b.layer("Reshape", x, target_shape=(-1, 1)),
    )()


@block(4)
def places_in_a_row(b, x):
    name, shape = b.draw(("Reshape", (-1, x.shape[3])), ("Reshape", (x.shape[1], -1)), ("Permute", (2, 3, 1)))
    return b.layer(name, x, **({"dims": shape} if name == "Permute" else {"target_shape": shape}))


@block(3, 4, 5)
def convolution(b, x):
    n, least = _axes(x)
    size = b.draw(*range(1, min(3, least) + 1))
    stride = b.draw(1, 1, 2)
    options = {"kernel_size": size, "padding": b.draw("same", "valid"), "activation": b.activation()}
    dilated = stride == 1 and size == 2 and least > 2 and b.draw(True, False)
    if dilated:
        options["dilation_rate"] = 2
    elif stride > 1:
        options["strides"] = stride
    if n == "1D" and b.draw(True, False):
        options["padding"] = "causal"
    return b.layer(f"Conv{n}", x, filters=4, **options)


@block(3, 4)
def cheap_convolution(b, x):
    n, least = _axes(x)
    size = min(2, least)
    name = b.draw(f"SeparableConv{n}", f"DepthwiseConv{n}")
    if not b.has(name):
        return None
    options = {"filters": 4} if name.startswith("S") else {"depth_multiplier": b.draw(1, 2)}
    return b.layer(
        name, x, kernel_size=size, padding=b.draw("same", "valid"), strides=b.draw(1, 2), activation=b.activation(), **options
    )


@block(3, 4, 5)
def transposed_convolution(b, x):
    if np.prod(x.shape[1:]) > 100:
        return None
    n, _ = _axes(x)
    options = {"strides": b.draw(1, 2), "padding": b.draw("same", "valid"), "activation": b.activation()}
    return b.layer(f"Conv{n}Transpose", x, filters=3, kernel_size=b.draw(2, 3), **options)


@block(3, 4, 5)
def convolution_normalized(b, x):
    n, _ = _axes(x)
    x = b.layer(f"Conv{n}", x, filters=4, kernel_size=2, padding="same", use_bias=False)
    x = normalization(b, x) if b.draw(True, False) else b.layer("BatchNormalization", x)
    return b.layer("Activation", x, activation=b.draw("relu", "swish", "relu", "elu"))


@block(3, 4, 5)
def residual_convolution(b, x):
    n, _ = _axes(x)
    h = b.layer(f"Conv{n}", x, filters=x.shape[-1], kernel_size=3, padding="same", activation=b.activation())
    return b.layer("Activation", b.layer("Add", [x, h]), activation="relu")


@block(3, 4, 5)
def pooling(b, x):
    n, least = _axes(x)
    if least < 2:
        return None
    size = b.draw(*range(2, min(3, least) + 1))
    name = b.draw("MaxPooling", "MaxPooling", "AveragePooling")
    return b.layer(name + n, x, pool_size=size, strides=b.draw(1, 2, size), padding=b.draw("same", "valid"))


@block(3, 4, 5)
def global_pooling(b, x):
    n, _ = _axes(x)
    options = {"keepdims": True} if b.draw(True, False, False) else {}
    return b.layer(f"Global{b.draw('Average', 'Max')}Pooling{n}", x, **options)


@block(3, 4, 5)
def borders(b, x):
    n, least = _axes(x)
    name = b.draw("ZeroPadding", "Cropping", "UpSampling")
    if name == "Cropping":
        return b.layer(name + n, x, cropping=1) if least > 3 else None
    if name == "ZeroPadding":
        return b.layer(name + n, x, padding=1) if _small(x) else None
    options = {"interpolation": b.draw("nearest", "bilinear")} if n == "2D" else {}
    return b.layer(name + n, x, size=2, **options) if np.prod(x.shape[1:]) <= 80 else None


@block(4)
def squeeze_and_excite(b, x):
    h = b.layer("GlobalAveragePooling2D", x, keepdims=True)
    h = b.layer("Dense", h, units=2, activation="relu")
    h = b.layer("Dense", h, units=x.shape[-1], activation=b.draw("sigmoid", "hard_sigmoid"))
    return b.layer("Multiply", [x, h])


@block(4)
def inverted_residual(b, x):
    h = b.layer("Conv2D", x, filters=8, kernel_size=1, use_bias=False)
    h = b.layer("ReLU", b.layer("BatchNormalization", h), max_value=6.0)
    h = b.layer("DepthwiseConv2D", h, kernel_size=3, padding="same", use_bias=False)
    h = b.layer("ReLU", b.layer("BatchNormalization", h), max_value=6.0)
    h = b.layer("Conv2D", h, filters=x.shape[-1], kernel_size=1, use_bias=False)
    return b.layer("Add", [x, b.layer("BatchNormalization", h)])


@block(3)
def recurrent(b, x):
    options = {"units": 4, "return_sequences": b.draw(True, False)}
    if b.draw(True, False, False):
        options["go_backwards"] = True
    if b.draw(True, False, False):
        options["unroll"] = True
    name = b.draw("LSTM", "GRU", "SimpleRNN")
    if name == "SimpleRNN" and b.draw(True, False):
        options["activation"] = "relu"
    return b.layer(name, x, **options)


@block(3)
def both_ways(b, x):
    wrap = [("Bidirectional", {"merge_mode": b.draw("concat", "sum", "mul", "ave")})]
    return b.layer(b.draw("LSTM", "GRU"), x, units=3, return_sequences=b.draw(True, False), wrap=wrap)


@block(3)
def masked_recurrent(b, x):
    """A mask from the input's own padding, which no other value equals."""
    if b.model.inputs != "padded" or b.model.baseline not in ("one row", "rows"):
        return None
    x = b.layer("Masking", x, mask_value=0.0)
    return b.layer(b.draw("LSTM", "GRU"), x, units=4, return_sequences=b.draw(True, False))


@block(3, 4, 5)
def over_time(b, x):
    wrap = [("TimeDistributed", {})]
    if len(x.shape) == 3:
        return b.layer("Dense", x, units=4, activation=b.activation(), wrap=wrap)
    n = f"{len(x.shape) - 3}D"
    if b.draw(True, False):
        return b.layer(f"Conv{n}", x, filters=3, kernel_size=2, padding="same", activation=b.activation(), wrap=wrap)
    return b.layer(b.draw(f"GlobalMaxPooling{n}", f"GlobalAveragePooling{n}", "Flatten"), x, wrap=wrap)


@block(4)
def recurrent_over_rows(b, x):
    return b.layer(b.draw("LSTM", "GRU"), x, units=3, wrap=[("TimeDistributed", {})])


@block(5)
def convolutional_recurrent(b, x):
    return b.layer("ConvLSTM2D", x, filters=2, kernel_size=2, padding="same", return_sequences=b.draw(True, False))


@block(3)
def multi_head_attention(b, x):
    call = b.draw({}, {"use_causal_mask": True})
    h = b.layer("MultiHeadAttention", x, x, num_heads=2, key_dim=3, call=call)
    return b.layer("LayerNormalization", b.layer("Add", [x, h]), epsilon=b.draw(1e-3, 1e-6))


@block(3)
def attention(b, x):
    options = {"use_scale": True} if b.draw(True, False) else {}
    call = b.draw({}, {"use_causal_mask": True})
    return b.layer(b.draw("Attention", "AdditiveAttention"), [x, x], call=call, **options)


@block(3)
def transformer(b, x):
    h = b.layer("MultiHeadAttention", x, x, num_heads=2, key_dim=2)
    x = b.layer("LayerNormalization", b.layer("Add", [x, h]), epsilon=1e-6)
    h = b.layer("Dense", x, units=8, activation=b.draw("relu", "gelu"))
    h = b.layer("Dense", h, units=x.shape[-1])
    return b.layer("LayerNormalization", b.layer("Add", [x, h]), epsilon=1e-6)


@block(3)
def pooled_by_attention(b, x):
    scores = b.layer("Softmax", b.layer("Dense", x, units=1, activation="tanh"), axis=1)
    return b.layer("Flatten", b.layer("Dot", [scores, x], axes=1))


@block(3)
def stacked_cells(b, x):
    cells = [b.layers.GRUCell(3), b.layers.LSTMCell(2, use_bias=b.draw(True, False))]
    return b.layer("RNN", x, cell=cells, return_sequences=b.draw(True, False))


@block(3)
def masked_attention(b, x):
    """Padded words are seen by no other, and are left out of the mean."""
    if b.model.inputs != "padded" or b.model.baseline not in ("one row", "rows"):
        return None
    x = b.layer("Masking", x, mask_value=0.0)
    h = b.layer("MultiHeadAttention", x, x, num_heads=2, key_dim=2)
    return b.layer("GlobalAveragePooling1D", b.layer("Add", [x, h]))


@block(4)
def convolutional_recurrent_of_one_axis(b, x):
    if not b.has("ConvLSTM1D"):
        return None
    return b.layer("ConvLSTM1D", x, filters=2, kernel_size=2, padding="same", return_sequences=b.draw(True, False))


@block(3)
def grouped_attention(b, x):
    if not b.has("GroupQueryAttention"):
        return None
    return b.layer("GroupQueryAttention", x, x, head_dim=2, num_query_heads=4, num_key_value_heads=2)


@block(4)
def sizes(b, x):
    name = b.draw("Resizing", "CenterCrop", "AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D")
    if not b.has(name) or min(x.shape[1:3]) < 4:
        return None
    if name in ("Resizing", "CenterCrop"):
        if b.dtype == "float64":  # they compute in float32
            return None
        return b.layer(name, x, height=4, width=3)
    return b.layer(name, x, output_size=2)


@block(2, 3, 4, 5)
def nested(b, x):
    """A model in a model, called twice."""
    inner = b.library.Sequential(
        [b.layers.Dense(6, activation=b.activation()), b.layers.Dense(x.shape[-1], activation="tanh")]
    )
    b.say(f"  Sequential([Dense(6), Dense({x.shape[-1]}, 'tanh')]) called twice and added")
    return b.layer("Add", [inner(x), inner(b.layer("Rescaling", x, scale=0.5))])


@block(2, 3, 4, 5)
def keras_operations(b, x):
    """What people write with keras.ops between layers."""
    k = getattr(b.library, "ops", None)
    if k is None:
        return None
    kernel = b.random.normal(size=(x.shape[-1], 4)).astype("float32")
    name, result = b.draw(
        ("logsumexp", lambda: x - k.logsumexp(x, axis=-1, keepdims=True)),
        ("norm", lambda: x / (k.norm(x, axis=-1, keepdims=True) + 1e-6)),
        ("normalize", lambda: k.normalize(x, axis=-1)),
        ("tensordot", lambda: k.relu(k.tensordot(x, k.cast(kernel, x.dtype), 1))),
        ("einsum", lambda: k.gelu(k.einsum("...x,xy->...y", x, k.cast(kernel, x.dtype)))),
        ("matmul", lambda: k.maximum(k.matmul(x, k.cast(kernel, x.dtype)), 0.1)),
        ("where", lambda: k.where(x > 0.2, x, 0.2 + 0.3 * (x - 0.2))),
        ("abs", lambda: k.sqrt(k.abs(x) + 0.01)),
        ("flip", lambda: x + k.flip(x, -1)),
        ("cumsum", lambda: k.tanh(k.cumsum(x, axis=-1))),
        ("split", lambda: k.concatenate([k.silu(x[..., :1]), x[..., 1:] * k.sigmoid(x[..., :1])], axis=-1)),
        ("moments", lambda: (x - k.mean(x, -1, keepdims=True)) / (k.std(x, -1, keepdims=True) + 1e-3)),
        ("softmax", lambda: k.softmax(x, axis=1) * x),
        ("glu", lambda: k.glu(k.concatenate([x, k.flip(x, -1)], -1))),
        ("clip", lambda: k.clip(x, -0.7, 0.4)),
        ("roll", lambda: x * k.roll(x, 1, -1)),
    )
    result = result()
    b.say(f"  keras.ops: {name} -> {tuple(result.shape)}")
    return result


@block(2, 3, 4, 5)
def preprocessing(b, x):
    name = b.draw("Rescaling", "Normalization", "Identity")
    if name == "Rescaling":
        return b.layer(name, x, scale=1.5, offset=-0.2)
    if name == "Normalization":
        return b.layer(name, x, mean=0.1, variance=0.7)
    return b.layer(name, x) if b.has(name) else None


# Layers of plain TensorFlow, by rank.
PLAIN = {
    2: [*random_networks.FLAT, *random_networks.MORE],
    3: [*random_networks.SEQUENCE, *random_networks.MORE, *random_networks.MORE_SEQUENCE],
    4: [*random_networks.IMAGE, *random_networks.MORE, *random_networks.MORE_IMAGE],
    5: [*random_networks.ANY_RANK, *random_networks.MORE],
}
FLATTEN = {
    3: ["flatten", "max_over_time", "mean_over_time"],
    4: ["flatten", "max_over_places", "mean_over_places"],
    5: ["flatten"],
}


# What is tested, and the same in float64 ---------------------------------------------------------------


def library_of(way):
    return {"keras": tf.keras, "keras 2": tf_keras, "keras 2 session": tf_keras}.get(way)


class Tested:
    """A model as people have it: `run(make)` puts what `make` builds into its graph.

    `make(hidden, ys, xs, baselines)` gets tensors and returns a structure of tensors; baselines are None or
    a list, as `xs` is.
    """

    def __init__(self, model, dtype=None):
        self.model, self.dtype = model, dtype or model.dtype
        self.xs, self.baselines = model.ends()
        self.arrays = [a.astype(self.dtype) for a in self.xs]
        self.tables = [table.astype(self.dtype) for table, _ in model.ids]
        self.starts = self.baselines and [np.asarray(a, self.dtype) for a in self.baselines]
        self.batch = ROWS if model.static else None
        self.session = model.way.endswith("session")
        self.network = None
        if not self.session:
            self.network = model.build(library_of(model.way), self.dtype, self.batch)

    def run(self, make, *extra, network=None):
        """`extra`: further arrays with an entry per row, handed to `make` as tensors.

        `network`: dict whose `"call"` becomes the function that builds the model in that graph.
        """
        self.seen = {} if network is None else network
        inputs = [ids for _, ids in self.model.ids] or self.arrays
        rows = [*inputs, *map(np.asarray, extra)]
        if self.session:
            with tf.Graph().as_default(), v1.Session() as session:
                fed = [v1.placeholder(a.dtype, [self.batch, *a.shape[1:]]) for a in rows]
                library = library_of(self.model.way)
                if library:
                    network = self.model.build(library, self.dtype, self.batch)
                    session.run(network.assign)
                else:
                    network = self.model.build(None, self.dtype)
                made = self._make(make, network, fed)
                return session.run(made, dict(zip(fed, rows)))
        signature = [tf.TensorSpec([self.batch, *a.shape[1:]], a.dtype) for a in rows]
        traced = tf.function(
            lambda *fed: self._make(make, self.network, list(fed)), input_signature=signature, autograph=False
        )
        return tf.nest.map_structure(lambda t: t.numpy(), traced(*map(tf.constant, rows)))

    def _make(self, make, network, fed):
        count = len(self.arrays)
        self.seen["call"] = network
        xs = fed[:count]
        if self.tables:
            xs = [tf.gather(tf.constant(table), ids) for table, ids in zip(self.tables, xs)]
        hidden, ys = network(*xs)
        return make(hidden, ys, xs, self.starts, *fed[count:])


class Reference:
    """Outputs and gradients of the model in float64, on rows of their own. Uses nothing of ours."""

    def __init__(self, model, dtype=np.float64):
        model = Model(model.number, model.without, model.way, baseline=model.baseline)
        self.dtype = np.dtype(dtype)
        self.network = model.build(library_of(model.way), self.dtype.name)
        xs, bs = model.ends()
        self.xs = xs
        self.starts = [np.broadcast_to(0.0 if bs is None else b, x.shape) for x, b in zip(xs, bs or xs)]
        specs = [tf.TensorSpec([None, *x.shape[1:]], self.dtype) for x in xs]

        @tf.function(input_signature=specs, autograph=False)
        def gradients(*xs):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(xs)
                _, y = self.network(*xs)
                columns = tf.unstack(y, axis=1)
            grads = [tape.gradient(c, xs, unconnected_gradients="zero") for c in columns]
            return y, [tf.stack(parts, 1) for parts in zip(*grads)]

        @tf.function(input_signature=specs, autograph=False)
        def outputs(*xs):
            return self.network(*xs)

        @tf.function(input_signature=[*specs, tf.TensorSpec([None, None], tf.float64)], autograph=False)
        def adjoints(*xs):
            *xs, weights = xs
            with tf.GradientTape() as tape:
                tape.watch(xs)
                hidden, y = self.network(*xs)
                total = tf.reduce_sum(y * tf.cast(weights, y.dtype))
            return tape.gradient(total, hidden, unconnected_gradients="zero")

        # Traced now: Keras 2 lets no model be called again after one was made in a graph of TensorFlow 1.
        self._gradients, self._outputs, self._adjoints = (
            f.get_concrete_function() for f in (gradients, outputs, adjoints)
        )

    def points(self, rows, alphas):
        result = []
        for x, start in zip(self.xs, self.starts):
            a = np.reshape(alphas, [-1] + [1] * (x.ndim - 1))
            result.append(((1 - a) * start[rows] + a * x[rows]).astype(self.dtype))
        return result

    def gradients(self, rows, alphas, most=4096):
        """Of every output at `x[rows]` moved to `alphas`: list of `[n, C, ...]`."""
        parts = []
        for i in range(0, len(rows), most):
            chunk = self.points(rows[i : i + most], alphas[i : i + most])
            parts.append([g.numpy() for g in self._gradients(*map(tf.constant, chunk))[1]])
        return [np.concatenate(columns) for columns in zip(*parts)]

    def outputs(self, rows, alphas):
        """The hidden tensor and the output there."""
        return [t.numpy() for t in self._outputs(*map(tf.constant, self.points(rows, alphas)))]

    def conductance(self, weights):
        """Of the hidden tensor, on the panels of `integral`: sum of dF/dh times the change of h."""
        rows, low, high = (np.concatenate(parts) for parts in zip(*self.panels))
        nodes, quadrature = np.polynomial.legendre.leggauss(2)
        total = 0
        for node, share in zip((nodes + 1) / 2, quadrature / 2):
            middle, near = low + node * (high - low), 1e-4 * (high - low)
            part = []
            for i in range(0, len(rows), 4096):
                j = slice(i, i + 4096)
                adjoint = self._adjoints(*map(tf.constant, self.points(rows[j], middle[j])), weights[rows[j]])
                after, before = (self.outputs(rows[j], (middle + n)[j])[0] for n in (near, -near))
                part.append(adjoint.numpy() * (after - before) / 2e-4 * share)
            total = total + np.concatenate(part)
        result = np.zeros((ROWS, *total.shape[1:]))
        np.add.at(result, rows, total)
        return result

    def change(self):
        """F(x) - F(baseline), `[B, C]`."""
        rows = np.arange(ROWS)
        return self.outputs(rows, np.ones(ROWS))[1] - self.outputs(rows, np.zeros(ROWS))[1]

    def sum_over(self, points, weights):
        """What a rule with these points and weights makes of the integral: list of `[B, C, ...]`."""
        rows = np.tile(np.arange(ROWS), len(points))
        grads = self.gradients(rows, np.repeat(points, ROWS))
        result = []
        for g, x, start in zip(grads, self.xs, self.starts):
            total = np.tensordot(weights, g.astype(np.float64).reshape(len(points), ROWS, *g.shape[1:]), 1)
            result.append(total * (x - start)[:, None])
        return result

    def integral(self, tolerance=1e-6, most=200_000):
        """The integral by bisection wherever halves differ from the whole, and how far off it may be.

        Begins with panels that are narrow towards both ends, where a normalization may move in logarithm.
        Returns a list of `[B, C, ...]`, and the largest remaining difference relative to the attributions.
        """
        # Gauss-Lobatto, with both ends: a jump of the gradient right behind an end would not be seen else.
        nodes = (np.array([-1, -((3 / 7) ** 0.5), 0, (3 / 7) ** 0.5, 1]) + 1) / 2
        weights = np.array([1 / 20, 49 / 180, 16 / 45, 49 / 180, 1 / 20])
        small = 0.25 ** np.arange(3, 22)
        edges = np.sort(np.concatenate([[0, 1], small, 1 - small[:12], np.arange(1, 16) / 16]))
        edges = np.unique(edges)
        rows = np.repeat(np.arange(ROWS), len(edges) - 1)
        low, high = np.tile(edges[:-1], ROWS), np.tile(edges[1:], ROWS)
        sizes = [int(np.prod(x.shape[1:])) for x in self.xs]
        changes = np.concatenate([(x - s).reshape(ROWS, -1) for x, s in zip(self.xs, self.starts)], 1)

        def panels(rows, low, high):
            width = high - low
            alphas = (low[:, None] + width[:, None] * nodes).ravel()
            grads = self.gradients(np.repeat(rows, len(nodes)), alphas)
            flat = np.concatenate([g.reshape(*g.shape[:2], -1) for g in grads], 2)
            flat = flat.reshape(len(rows), len(nodes), *flat.shape[1:])
            return np.einsum("pncf,n->pcf", flat, weights) * width[:, None, None] * changes[rows][:, None]

        whole = panels(rows, low, high)
        total = np.zeros((ROWS, *whole.shape[1:]))
        np.add.at(total, rows, whole)
        done, left, spent = np.zeros_like(total), np.zeros(total.shape[:2]), 0
        self.panels = []
        while len(rows):
            middle = (low + high) / 2
            halves = panels(np.tile(rows, 2), np.concatenate([low, middle]), np.concatenate([middle, high]))
            first, second = np.split(halves, 2)
            spent += 2 * len(nodes) * len(rows)
            scale = np.abs(total).sum(2)[rows] + 1e-3 * np.abs(total).sum(2).mean(0) + 1e-30
            error = np.abs(first + second - whole).sum(2)
            bad = (error > tolerance * scale).any(1) & (high - low > 1e-13)
            if spent > most:
                bad[:] = False
            np.add.at(total, rows, first + second - whole)
            np.add.at(done, rows[~bad], (first + second)[~bad])
            np.add.at(left, rows[~bad], error[~bad])
            self.panels.append((rows[~bad], low[~bad], high[~bad]))
            whole = np.concatenate([first[bad], second[bad]])
            rows = np.tile(rows[bad], 2)
            low, high = np.concatenate([low[bad], middle[bad]]), np.concatenate([middle[bad], high[bad]])
        self.spent = spent
        relative = left / (np.abs(done).sum(2) + 1e-30)
        split = np.split(done, np.cumsum(sizes)[:-1], 2)
        return [
            part.reshape(*part.shape[:2], *x.shape[1:]) for part, x in zip(split, self.xs)
        ], relative.max()


def main():
    for number in map(int, sys.argv[1:]):
        model = Model(number)
        with contextlib.suppress(BrokenPipeError):
            model.build(library_of(model.way), model.dtype)(*map(tf.constant, Tested(model).arrays))
            print(model)


if __name__ == "__main__":
    main()
