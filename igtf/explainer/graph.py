"""The graph that explains a batch: traced once for arguments of one kind, then fed."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from igtf.arithmetic import sum_features
from igtf.explainer.arrays import cast, describe, listed, named_leaves, slice_rows
from igtf.explainer.layers import (
    all_layers,
    calls_of,
    check_apart,
    hidden,
    last_with_places,
    read_by,
    recorded,
    recording,
    the_call,
)
from igtf.explainer.method import Method
from igtf.explainer.network import (
    AsSeen,
    ModelError,
    Network,
    autographed,
    casts_of,
    inlined,
)
from igtf.explainer.operators import with_weights
from igtf.explainer.targets import (
    SCORES,
    are_classes,
    arrays_of,
    by_output,
    logits_of,
    weigh,
    weighed_after,
)
from igtf.replacement import graph_replace
from igtf.traversal import first_met, ops_between
from integrated_gradients_tf import wide_dtype

__all__ = ["Call", "Setup"]


@dataclasses.dataclass
class Setup:
    """What an Explainer was told: a network, a method, and what of the network is explained.

    `traces` counts how often the network was traced for it.
    """

    network: Network
    method: Method
    output_layer: Any
    layer: Any
    operator: Callable | None
    logits: bool
    batch_size: int
    traces: int = 0


class Call:
    """A traced function from a batch (inputs, targets, baselines) to attributions, and how to feed it.

    Attributes:
      function: flat tensors of inputs, targets and baselines to flat attributions and sums to compare.
      structure: that of what is explained: of the inputs, or of the layers.
      classes: number of outputs that class numbers choose from, by name of the output.
      every: whether there is an axis of outputs in the attributions.
      covers: whether all that the output depends on is explained, so that attributions sum to its change.
      advice: text about targets that are probably meant otherwise, or None.
    """

    def __init__(self, setup, specs, targets, baselines, padded, with_error=False):
        self._network, self._method = setup.network, setup.method
        self._operator, self._logits = setup.operator, setup.logits
        self._output_layer, self._layer = setup.output_layer, setup.layer
        self._size, self._with_error = setup.batch_size if padded else None, with_error
        self.classes, self.covers, self.advice = {}, True, None
        self.every = any(isinstance(t, str) and t == "all" for t in tf.nest.flatten(targets))
        # Only integrated gradients have a Jacobian; the others explain one output after the other.
        self._jacobian = self.every and self._method.name == "integrated_gradients"
        self._in_turn = self.every and not self._jacobian
        if self._in_turn:
            self._turn = tf.nest.map_structure(lambda t: None, targets)
            targets = tf.nest.map_structure(lambda t: tf.TensorSpec([None], tf.int32), targets)
        self._targets = targets
        self._specs, self._starts = specs, baselines
        fed = [t for t in tf.nest.flatten(targets) if isinstance(t, tf.TensorSpec)]
        flat = [*tf.nest.flatten(specs), *fed, *(baselines or [])]
        self._dtypes = [spec.dtype for spec in flat]
        if padded:
            rows = len(flat) - len(baselines or [])
            flat = [
                tf.TensorSpec([self._size, *s.shape[1:]], s.dtype) if i < rows else s
                for i, s in enumerate(flat)
            ]

        def build(*tensors):
            setup.traces += 1
            return self._build(list(tensors))

        traced = tf.function(build, input_signature=flat, autograph=False)
        self.function = traced.get_concrete_function()
        if self._in_turn and None in self.classes.values():
            raise ValueError(
                "Explainer: targets is 'all' and the model has an unknown number of outputs, expected [B, C] "
                "with a static C. Set it with set_shape where the model returns it."
            )

    # In the graph

    def _build(self, tensors):
        take = functools.partial(next, iter(tensors))
        inputs = tf.nest.map_structure(lambda spec: take(), self._specs)
        targets = tf.nest.map_structure(
            lambda t: take() if isinstance(t, tf.TensorSpec) else t, self._targets
        )
        starts = None if self._starts is None else [take() for _ in self._starts]
        places = [self._output_layer, *tf.nest.flatten(self._layer)]
        layers = [place.layer for place in places if place is not None]
        if self._method.maps and self._layer is None:
            layers += all_layers(self._network.model)
        with recording(layers) as seen:
            forward = functools.partial(self._forward, seen)
            if self._operator is None:
                ys, weights = self._choose(forward(inputs), targets)
            else:
                ys, weights = self._operate(AsSeen(self._network, forward), inputs, targets)
            if self._method.maps:
                return self._map(ys, weights, inputs, seen), None
            wanted = inputs if self._layer is None else hidden(self._network, self._layer, inputs, seen)
        self.structure = tf.nest.map_structure(lambda t: None, wanted)
        ways = self._ways(ys, inputs, wanted)
        self._held = [not tensors for _, tensors in ways]
        attributions, sums = self._attribute(ys, weights, inputs, ways, starts)
        if self._method.per_group:
            self.structure, self._held = None, [False]
            return attributions, sums
        parts = iter(attributions)
        shares = [(leaf, [next(parts) for _ in tensors]) for leaf, tensors in ways]
        return [self._gathered(leaf, share) for leaf, share in shares if share], sums

    def _map(self, ys, weights, inputs, seen):
        """The map of a layer that is named, or of the last one with spatial axes, alone in a list."""
        self.structure, self._held = None, [False]
        layer = self._layer
        if layer is None:
            layer = last_with_places(self._method.name, self._network.model, ys, inputs, seen)
        else:
            layer = tf.nest.flatten(hidden(self._network, layer, inputs, seen))
            if len(layer) > 1:
                raise ValueError(
                    f"Explainer: layer asks for {len(layer)} tensors, expected one for {self._method.name}. "
                    "Explain them one at a time."
                )
            (layer,) = layer
        image = next((x for x in read_by(layer, inputs) if x.shape.rank == layer.shape.rank), None)
        if image is None:
            raise ValueError(
                f"Explainer: layer has shape {layer.shape} and the inputs {describe(inputs)}, expected as "
                f"many axes of both for {self._method.name}, which shows where in the input a layer is "
                "active. Name a layer before pooling or flattening."
            )
        return [self._method(ys, image, None, weights, layer)]

    def _gathered(self, leaf, parts):
        """One attribution for a leaf: an input that is cast at several places counts once."""
        if len(parts) == 1 and (leaf.dtype.is_floating or self._method.black_box):
            return parts[0]
        kept = 1 + self._jacobian
        return sum(tf.reshape(a, tf.concat([tf.shape(a)[:kept], tf.shape(leaf)[1:]], 0)) for a in parts)

    def _forward(self, seen, inputs, **options):
        """The model on tensors, up to `output_layer` or the logits."""
        outputs = ends = self._network(inputs, **options)
        if self._output_layer is not None:
            calls = calls_of(self._network.model, self._output_layer.layer, seen, inputs)
            outputs = the_call("output_layer", self._output_layer, calls)
        if (
            self._logits
            or self._output_layer
            or not all(x.dtype.is_floating for x in tf.nest.flatten(inputs))
        ):
            outputs, ends = inlined([outputs, ends], [*tf.nest.flatten(inputs), *recorded(seen)])
        self._further = {
            y.ref(): weighed_after(y, tf.nest.flatten(ends))
            for y in tf.nest.flatten(outputs)
            if self._output_layer is not None and not self._logits
        }
        if self._logits:
            self._plain = {}
            outputs = tf.nest.map_structure(self._before_scores, outputs)
            self._check_logits(tf.nest.flatten(outputs))
        return outputs

    def _before_scores(self, y):
        logits, origin = logits_of(y)
        if logits is None:
            self._plain[y.ref()] = origin
        return y if logits is None else logits

    def _check_logits(self, ys):
        if self._logits and all(y.ref() in self._plain for y in ys):
            origin = self._plain[ys[0].ref()]
            raise ValueError(
                f"Explainer: logits is True and the output comes from op {origin.name!r} ({origin.type}), "
                f"expected one of {listed(SCORES)}, with nothing but reshaping after it. If the model "
                "returns logits already, leave logits out; otherwise name the layer that makes them: "
                "output_layer=..."
            )

    def _operate(self, network, inputs, targets):
        try:
            ys = autographed(self._operator, [network, inputs, targets], {})
        except ModelError:
            raise
        except Exception as error:
            if targets is not None or "None" not in str(error):
                raise
            raise ValueError(
                "Explainer: the operator failed without targets: targets is None (or the data set has "
                f"none), expected what the operator takes. Pass targets. It said: {error}"
            ) from error
        return with_weights(ys)

    def _choose(self, outputs, targets):
        """The outputs to explain and their weights, both lists or (for one output) alone."""
        outputs = self._network.named(outputs, self._output_layer is not None)
        chosen = by_output(outputs, targets)
        ys, weights = [], []
        for name, (y, target) in chosen.items():
            label = f"targets[{name!r}]" if len(outputs) > 1 else "targets"
            self._check_choice(label, y, target)
            y, weight = weigh(label, y, target)
            self.classes[str(name)] = 1 if y.shape.rank == 1 else y.shape.as_list()[-1]
            ys.append(y)
            weights.append(weight)
        self._check_logits([y for y, _ in chosen.values()])
        if self.every and len(ys) > 1:
            raise ValueError(
                f"Explainer: targets is 'all' for one of {len(ys)} outputs, expected it alone: the "
                "outputs have different numbers of entries. Explain one output at a time."
            )
        if len(ys) == 1:
            return ys[0], weights[0]
        # What has no weights counts as it is.
        return ys, [tf.ones_like(y) if w is None else w for y, w in zip(ys, weights)]

    def _check_choice(self, label, y, target):
        """Class numbers mean the scores of the model, and hardly the units of a layer before them."""
        further = self._further.get(y.ref())
        chosen = target is None or isinstance(target, str) or are_classes(target)
        if further is not None and chosen and y.shape.rank == 2 and y.shape[1] != 1:
            self.advice = (
                f"Explainer: {label} choose among the {y.shape[1]} units of output_layer "
                f"{self._output_layer.layer.name!r}, from which the model computes its scores with further "
                f"weights (op {further.name!r}), expected a layer that makes scores: its unit 3 is not class "
                "3. For the logits of a model, pass logits=True instead of output_layer; for units of a "
                "layer, weights [N, units]."
            )

    def _ways(self, ys, inputs, wanted):
        """Pairs of a leaf that is wanted and the tensors to explain: itself, its casts, none (held fixed)."""
        leaves = named_leaves("inputs", wanted)
        given = {x.ref() for x in tf.nest.flatten(inputs)}
        fixed = [
            x.ref() in given and not x.dtype.is_floating and not self._method.black_box for _, x in leaves
        ]
        ways = [[] if hold else [x] for (_, x), hold in zip(leaves, fixed)]
        # Bytes are images; other integers are explained where there is nothing else.
        for bytes_only in (True, False):
            if bytes_only or not any(ways):
                ways = [
                    way or (casts_of(ys, x) if hold and (x.dtype == tf.uint8) == bytes_only else [])
                    for way, (_, x), hold in zip(ways, leaves, fixed)
                ]
        for name, x in leaves:
            if (x.dtype.is_complex and not self._method.black_box) or not any(ways):
                raise TypeError(self._no_gradient(name, x))
        return [(x, way) for (_, x), way in zip(leaves, ways)]

    def _no_gradient(self, name, x):
        embedding = f"name their embedding: layer={self._network.embedding!r}."
        if x.dtype.is_complex:
            hint = "Pass the real and the imaginary part as two inputs, for tf.complex."
        elif x.dtype == tf.string:
            hint = f"For texts, {embedding}"
        else:
            hint = (
                "Numbers and images: let the model cast them first of all, with tf.cast, or convert them "
                f"with astype('float32') for a model that takes floats. For ids, {embedding}"
            )
        return (
            f"Explainer: {name} has dtype {x.dtype.name}, expected a floating dtype: there is no gradient "
            f"for {self._method.name}. {hint}"
        )

    def _attribute(self, ys, weights, inputs, ways, starts):
        """Flat attributions; and sums to compare, `[B, 3]` or `[B, C, 3]` (4 with the error), or None."""
        method = self._method
        found = [x for _, tensors in ways for x in tensors]
        if self._layer is not None:
            check_apart(method, inputs, found)
        if method.on_input_path:
            ways = self._ways(ys, inputs, inputs)
        xs = [x for _, tensors in ways for x in tensors]
        before = self._before(ways, tf.nest.flatten(inputs), starts)
        further = dict(return_error=True) if self._with_error else {}
        if method.on_input_path:
            layers, found = found, method(ys, xs, before, weights, layer=found, **further)
            flat = tf.nest.flatten(ys)
            met = first_met(flat, {x.ref(): x for x in [*layers, *xs]}, ops_between(flat, xs))
            self.covers = {x.ref() for x in met} == {x.ref() for x in layers}
        else:
            # Options may have a value for each input.
            alike = all(len(tensors) == 1 for _, tensors in ways)
            shaped = functools.partial(tf.nest.pack_sequence_as, self.structure) if alike else list
            starts = None if before is None else shaped(before)
            explain = method.jacobian if self._jacobian else method
            found = explain(ys, shaped(xs), starts, weights, **further)
        attributions = tf.nest.flatten(found[0] if self._with_error else found)
        sums = self._compare(ys, weights, attributions, xs, before) if method.complete else None
        if self._with_error:
            sums = tf.stack(3 * [tf.zeros_like(found[1])], -1) if sums is None else sums
            sums = tf.concat([sums, tf.cast(found[1], sums.dtype)[..., None]], -1)
        return attributions, sums

    def _before(self, ways, inputs, starts):
        """Where a path starts, flat: baselines of inputs (None for zeros), and what layers are there."""
        number = {x.ref(): i for i, x in enumerate(inputs)}
        hidden = [x for leaf, tensors in ways for x in tensors if leaf.ref() not in number]
        if not self._method.takes_baselines or (starts is None and not hidden):
            return None
        if starts is None:
            starts = [None] * len(inputs)
        if hidden:
            full = starts if self._method.draws else _full(inputs, starts)
            at = iter(graph_replace(hidden, inputs, full))
        return [
            _start(x, starts[number[leaf.ref()]]) if leaf.ref() in number else next(at)
            for leaf, tensors in ways
            for x in tensors
        ]

    def _compare(self, ys, weights, attributions, xs, before):
        """Per row (and output): sum of attributions minus change of the output, the change, and rounding."""
        ys = tf.nest.flatten(ys)
        weights = tf.nest.flatten(weights) if weights is not None else [None] * len(ys)
        total = sum(self._sums(a) for a in attributions)
        rounding = 1e-3 * sum(self._sums(tf.abs(a)) for a in attributions)
        change = 0.0
        for y, y0, weight in zip(ys, graph_replace(ys, xs, _full(xs, before)), weights):
            epsilon = np.finfo(y.dtype.as_numpy_dtype).eps if y.dtype != tf.bfloat16 else 2.0**-7
            y, y0 = tf.cast(y, tf.float64), tf.cast(y0, tf.float64)
            weight = 1.0 if weight is None else tf.cast(weight, tf.float64)
            change += self._sums((y - y0) * weight)
            rounding += 8 * epsilon * self._sums(abs(y * weight) + abs(y0 * weight))
        sums = tf.stack([total - change, change, rounding], -1)
        return tf.cast(sums, wide_dtype(attributions[0].dtype))

    def _sums(self, values):
        """`[B]`, or `[B, C]` where there is an axis of outputs."""
        values = tf.cast(values, tf.float64)
        if self._jacobian:
            return tf.reduce_sum(values, list(range(2, values.shape.rank)))
        return sum_features(values)

    # On a batch

    def __call__(self, batch, start):
        """The flat list of attributions of a batch of arrays, and the sums to compare or None."""
        if not self._in_turn:
            return self._run(batch, batch.targets, start)
        (count,) = self.classes.values()
        parts, compared = [], []
        for c in range(count):
            chosen = tf.nest.pack_sequence_as(self._turn, [np.full(batch.rows, c, np.int32)])
            flat, sums = self._run(batch, chosen, start)
            parts.append(flat)
            compared.append(sums)
        flat = [np.stack(columns, 1) for columns in zip(*parts)]
        return flat, None if compared[0] is None else np.stack(compared, 1)

    def _run(self, batch, targets, start):
        rows = [*tf.nest.flatten(batch.inputs), *arrays_of(targets, batch.rows)]
        size = self._size or batch.rows
        parts = []
        for begin in range(0, batch.rows, size):
            end = min(begin + size, batch.rows)
            fed = [slice_rows(a, begin, end, size) for a in rows]
            if start is not None:
                each = [len(a) == batch.rows > 1 and not self._method.draws for a in start]
                fed += [slice_rows(a, begin, end, size) if per_row else a for a, per_row in zip(start, each)]
            fed = [tf.convert_to_tensor(cast(a, dtype)) for a, dtype in zip(fed, self._dtypes)]
            flat, sums = self.function(*fed)
            flat = [a.numpy()[: end - begin] for a in flat]
            parts.append((flat, None if sums is None else sums.numpy()[: end - begin]))
        flat = [np.concatenate(columns) for columns in zip(*(flat for flat, _ in parts))]
        return flat, None if sums is None else np.concatenate([some for _, some in parts])

    def pack(self, parts):
        """Attributions in their structure, None in the place of what is held fixed."""
        parts = iter(parts)
        flat = [None if held else next(parts) for held in self._held]
        return tf.nest.pack_sequence_as(self.structure, flat)

    def runs(self, batch):
        """Whether the model alone runs on a batch."""
        size = self._size or batch.rows
        flat = [slice_rows(a, 0, min(size, batch.rows), size) for a in tf.nest.flatten(batch.inputs)]
        flat = [tf.convert_to_tensor(cast(a, dtype)) for a, dtype in zip(flat, self._dtypes)]
        model = tf.function(self._network, autograph=False)
        try:
            tf.nest.map_structure(tf.identity, model(tf.nest.pack_sequence_as(self._specs, flat)))
        except Exception:
            return False
        return True


def _start(x, start):
    """A baseline in the dtype of what is explained."""
    if start is None or start.dtype == x.dtype:
        return start
    if start.dtype.is_floating and not x.dtype.is_floating:
        raise ValueError(
            f"Explainer: baselines are fractions for an input of dtype {x.dtype.name}, expected whole "
            "numbers: ids have no mean and no half. Pass one that exists, such as 0."
        )
    return tf.cast(start, x.dtype)


def _full(xs, starts):
    """Baselines in the shape of the flat `xs`."""
    if starts is None:
        starts = [None] * len(xs)
    return [
        tf.zeros_like(x) if start is None else tf.broadcast_to(_start(x, start), tf.shape(x))
        for x, start in zip(xs, starts)
    ]
