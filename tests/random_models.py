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
from later_blocks import LATER, LATER_SEEDS
from model_blocks import ENDS, HEADS, IMAGE, MASKED, MERGES, PAD, SEQUENCE, TOKENS, VECTOR, VIDEO
from model_makers import dense

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
        self.biased, self.masked = bool(random.rand() < 0.6), []
        self.jumps, self.flat, self.tied = False, False, False
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
                elif self.seed >= LATER_SEEDS and not branch:
                    table = LATER.get(rank, table)
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
